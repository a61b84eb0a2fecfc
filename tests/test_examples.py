"""Each example runs as it stands, offline, and says what it promises."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

# What each prints, in this order, line by line, as regular expressions.
PRINTED = {
    "quickstart": [
        r"address: 192\.0\.2\.10",
        r"  path: upstream: \S+ \((Alpha|Beta)\) over (udp|doh) in [\d.]+ ms",
        r"again, from memory: cache, 0 s old: .+",
        r"both families: 192\.0\.2\.10, 2001:db8::10",
        r"no such name: upstream: .+",
    ],
    "serve_stale": [
        r"healthy +10 ms  192\.0\.2\.10  upstream, 0 s old",
        r"30 s later +0 ms  192\.0\.2\.10  cache, 30 s old",
        r"the servers are gone +1800 ms  192\.0\.2\.10  stale, 92 s old, 32 s past .+",
        r"and at once again +0 ms  192\.0\.2\.10  stale, .+",
        r"an hour later +0 ms  192\.0\.2\.10  stale, .+",
        r"  \(1000 calls just now put 2 questions to the upstreams\)",
        r"they are back, first call +0 ms  192\.0\.2\.10  stale, .+",
        r"and the next one +0 ms  192\.0\.2\.20  cache, 1 s old",
        r"gone beyond max_stale +20 ms  no answer \(SERVFAIL\)",
    ],
    "compare_vantages": [
        r"db\.example\.com\. A: 1 of 3 denies it, others do not: .+; 1 of 4 did not .+",
        r"  udp://192\.0\.2\.3 \(Gamma\): no such name, in [\d.]+ ms: denies",
        r"  udp://192\.0\.2\.1 \(Alpha\): 198\.51\.100\.7, in [\d.]+ ms: agree",
        r"  udp://192\.0\.2\.2 \(Beta\): 198\.51\.100\.7, in [\d.]+ ms: agree",
        r"  udp://192\.0\.2\.4 \(Delta\): SERVFAIL, EDE 22 .+ ms: unknown",
        r"asked together: 198\.51\.100\.7",
        r"  upstream: udp://192\.0\.2\.1 \(Alpha\) .+; 2 of 3 agree; also tried .+",
    ],
    "replay_outage": [
        r"Zoom: the registry took the domain out of its zone \(2025-04-16, .+\)",
        r"at the stub: NXDOMAIN from \.us .+",
        r"before +dnspython +100% of .+: upstream",
        r"before +resolverkit +100% of .+: cache.*",
        r"before +resolverkit, hold +100% of .+: cache.*",
        r"during +dnspython +\d?\d% of .+",
        r"during +resolverkit +\d?\d% of .+",
        r"during +resolverkit, hold +100% of .+: .*held.*",
        r"after +dnspython .+",
        r"after +resolverkit .+",
        r"after +resolverkit, hold +100% of .+",
        r"limits: RFC 8767 takes a denial as a refresh, .+",
    ],
    "stub_resolver": [
        r"ready at 127\.0\.0\.1:\d+",
        r"www\.example\.com\. 60 IN A 192\.0\.2\.10 \(.+upstream: udp://.+ ms.*\)",
        r"www\.example\.com\. (60|59) IN A 192\.0\.2\.10 \(.+cache, \d s old: .+\)",
        r"2 queries over UDP",
    ],
    "custom_upstream": [
        r"printer\.example\.com: 192\.0\.2\.99",
        r"  upstream: table \(this program\) in 0\.0 ms",
        r"www\.example\.com: 198\.51\.100\.7",
        r"  upstream: (alpha|beta) \((Alpha|Beta)\) over udp in .+",
        r"20 names at once, 4 questions at a time",
    ],
}


def test_every_example_is_known():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(PRINTED)


@pytest.mark.parametrize("name", sorted(PRINTED))
def test_example(name):
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / f"{name}.py"],
        cwd=EXAMPLES.parent,
        env={"PYTHONPATH": str(EXAMPLES.parent), "PYTHONUNBUFFERED": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == len(PRINTED[name]), done.stdout
    for line, pattern in zip(lines, PRINTED[name], strict=True):
        assert re.fullmatch(pattern, line)
    assert time.monotonic() - began < 30  # 6 s, on a machine with something else to do
