"""`resolverkit survey`, run as anybody runs it: real vantages, and fakes that lie."""

from __future__ import annotations

import asyncio
import json
import socket
import sys

import pytest

from resolverkit.testing import Authority, Fault, Lab, LabUpstream

SURVEY = [sys.executable, "-m", "resolverkit", "survey"]
AGREED, DENIED, USAGE, UNREACHABLE, DISAGREED = 0, 1, 2, 3, 4
LIMIT = 30.0  # seconds for one run; half a second is usual
SITE = "www.example.com"
real = pytest.mark.servers


async def survey(*arguments, upstreams=()):
    """Run the command; gives its status, its output and what it complained of."""
    urls = [argument for url in upstreams for argument in ("--upstream", url)]
    process = await asyncio.create_subprocess_exec(
        *SURVEY, *arguments, *urls,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(LIMIT):
        out, errors = await process.communicate()
    assert b"Traceback" not in errors
    return process.returncode, out.decode(), errors.decode()


def among(*answers, arguments=(), faults=()):
    """A survey among fake vantages A, B, C …: an address of each, or None."""

    async def main():
        labs = []
        try:
            for operator, address in zip("ABCDE", answers, strict=False):
                records = [f"{SITE}. 60 A {address}"] if address else []
                upstream = LabUpstream("udp", operator=operator)
                labs.append(await Lab(Authority(records), [upstream]).__aenter__())
            for lab, fault in zip(labs, faults, strict=False):
                lab.upstreams[0].fault = fault
            urls = [lab.urls[0] for lab in labs]
            return await survey(SITE, *arguments, upstreams=urls)
        finally:
            for lab in labs:
                await lab.aclose()

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("answers", "status", "sentence"),
    [
        (["192.0.2.1"] * 3, AGREED, "all 3 agree"),
        (["192.0.2.1", "192.0.9.1"], AGREED, "all 2 differ as CDNs do"),
        ([None, None], DENIED, "all 2 deny it: no such name"),
        (["192.0.2.1"], AGREED, "there is nothing to compare: only A answered"),
        ([None], DENIED, "there is nothing to compare: only A answered"),
        (["192.0.2.1", None], DISAGREED, "1 of 2 denies it, others do not: "),
        (["192.0.2.1", "192.0.2.1", "0.0.0.0"], DISAGREED, "1 of 3 filters it: "),
        (["192.0.2.1", "192.0.2.1", "198.51.100.6"], DISAGREED, "1 of 3 lies alone, "),
        (["192.0.2.1", "198.51.100.6"], DISAGREED, "they have different data, "),
    ],
)
def test_the_verdict_is_the_last_line_and_the_status(answers, status, sentence):
    code, out, errors = among(*answers)
    assert (code, errors) == (status, "")
    last = out.splitlines()[-1]
    assert last.startswith(f"{SITE}. A: {sentence}")


def test_the_table_has_a_row_for_each_vantage():
    _, out, _ = among("192.0.2.1", "192.0.2.1", "198.51.100.6")
    head, *rows, _ = out.splitlines()
    assert head.split() == ["upstream", "over", "operator", "took", "TTL", "says"]
    assert [row.split()[2] for row in rows] == ["A", "B", "C"]
    assert [row.split()[5:] for row in rows] == [
        ["60", "192.0.2.1", "agree"],
        ["60", "192.0.2.1", "agree"],
        ["60", "198.51.100.6", "lies", "alone"],
    ]


def test_a_vantage_that_fails_is_told():
    faults = [Fault(), Fault(), Fault(rcode=2, ede=(22, "gone"))]
    status, out, _ = among(*["192.0.2.1"] * 3, faults=faults)
    assert status == AGREED
    assert "SERVFAIL" in out
    assert "EDE 22 (No Reachable Authority): gone" in out
    assert out.endswith("all 2 agree; 1 of 3 did not answer\n")


def test_json_is_for_machines():
    status, out, _ = among("192.0.2.1", None, arguments=["--json"])
    told = json.loads(out)
    assert (status, told["verdict"]) == (DISAGREED, "denies")
    assert (told["name"], told["type"]) == (f"{SITE}.", "A")
    assert [v["operator"] for v in told["vantages"]] == ["A", "B"]
    assert [v["records"] for v in told["vantages"]] == [["192.0.2.1"], []]


def test_nothing_reached_is_status_3():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        url = f"udp://127.0.0.1:{silent.getsockname()[1]}"
        arguments = (SITE, "--timeout", "0.3")
        status, out, errors = asyncio.run(survey(*arguments, upstreams=[url]))
    assert (status, errors) == (UNREACHABLE, "")
    assert "no reply within half of the lifetime" in out
    assert out.endswith("none of 1 vantages answered\n")


def test_a_name_that_never_leaves_is_told():
    status, out, _ = asyncio.run(survey("localhost", upstreams=["9.9.9.9"]))
    assert status == UNREACHABLE
    assert out == "localhost. A: this name never leaves the machine\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([SITE, "NOSUCHTYPE"], "NOSUCHTYPE"),
        ([SITE, "TYPE65536"], "unknown record type in TYPE65536"),
        ([SITE, "ANY"], "name a record type"),
        ([SITE, "-u", "ftp://9.9.9.9"], "ftp://9.9.9.9"),
        ([SITE, "-u", "tls://9.9.9.9", "--ca", "/no/such/file"], "/no/such/file"),
        ([SITE, "-u", "9.9.9.9", "--timeout", "0"], "--timeout 0"),
        (["a..b", "-u", "9.9.9.9"], "a..b"),
        ([], "NAME"),
    ],
)
def test_a_mistake_is_status_2_and_told_in_a_line(arguments, told):
    status, out, errors = asyncio.run(survey(*arguments))
    assert (status, out) == (USAGE, "")
    assert told in errors


@real
def test_real_vantages_over_each_transport(vantages):
    unbound = vantages["unbound"]
    urls = [
        f"tls://127.0.0.1:{unbound.ports['tls']}?operator=unbound",
        vantages["bind"].https_url,
        vantages["recursor"].udp_url,
    ]
    name, ca = "www.facebook.com", str(unbound.ca)
    status, out, errors = asyncio.run(survey(name, "--ca", ca, upstreams=urls))
    assert (status, errors) == (AGREED, "")
    assert out.count("157.240.20.35") == 3
    assert out.count("by star-mini.c10r.facebook.com.") == 3
    assert out.endswith("www.facebook.com. A: all 3 agree\n")
    status, out, _ = asyncio.run(
        survey(name, "aaaa", "--json", "--ca", ca, upstreams=urls)
    )
    told = json.loads(out)
    assert (status, told["type"], told["verdict"]) == (AGREED, "AAAA", "agree")
    assert [v["transport"] for v in told["vantages"]] == ["dot", "doh", "udp"]
