"""The demo, run as a newcomer does."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from resolverkit.testing.outage import Phase
from resolverkit.testing.outages import OUTAGES
from resolverkit.testing.replay import Replay

COMMAND = [sys.executable, "-W", "error", "-m", "resolverkit", "demo", "--fast"]


def run_demo(*options):
    return subprocess.run(
        [*COMMAND, *options], capture_output=True, text=True, timeout=60, check=False
    )


def test_json_tells_of_every_second_and_loses_nothing():
    done = run_demo("--json")
    assert done.stderr == ""
    assert done.returncode == 0
    told = json.loads(done.stdout)
    assert told["failures"] == []
    rows = told["rows"]
    assert [row["phase"] for row in rows][:1] == ["healthy"]
    assert {row["phase"] for row in rows} == {"healthy", "gone", "back"}
    for row in rows:
        ours = row["resolverkit"]
        assert ours["answered"] == ours["asked"] > 0
    gone = [row for row in rows if row["phase"] == "gone"]
    assert sum(row["resolverkit"]["sources"].get("stale", 0) for row in gone) > 0
    assert sum(row["dnspython"]["answered"] for row in gone) < sum(
        row["dnspython"]["asked"] for row in gone
    )
    sent = {
        peer: sum(row[peer]["queries"] for row in gone)
        for peer in ("resolverkit", "dnspython")
    }
    assert sent["resolverkit"] < sent["dnspython"]


def test_the_table_is_readable_without_a_terminal():
    done = run_demo()
    assert done.returncode == 0
    assert done.stderr == ""
    assert "the authority is gone" in done.stdout
    assert "resolverkit  answered" in done.stdout
    assert "What no resolver can do: hosts that are down stay down." in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_lost_answer_is_a_failure():
    """Names that were never learnt cannot be served: the demo must say so."""
    unknown = Phase(name="healthy", seconds=0.5, fast=0.5, records=())
    replay = Replay(replace(OUTAGES["facebook-2021"], phases=(unknown,)))
    asyncio.run(replay.run())
    assert replay.failures
    assert "resolverkit: www.facebook.com at 0 s" in replay.failures[0]
    assert replay.phases()["healthy"]["dnspython"].share == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
def test_ctrl_c_ends_it_at_once_and_leaves_nothing(tmp_path):
    process = subprocess.Popen(
        COMMAND,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert process.stdout is not None
    process.stdout.readline()
    deadline = time.monotonic() + 20
    while not any(tmp_path.iterdir()):  # the lab is being built
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert not any(tmp_path.iterdir())
