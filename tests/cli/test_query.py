"""`resolverkit query`, run as anybody runs it, against real servers."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from resolverkit.testing import Authority, Lab

WWW = "www.facebook.com"
TARGET = "star-mini.c10r.facebook.com."
FACEBOOK = "157.240.20.35"
DATA, DENIED, USAGE, UNREACHABLE = 0, 1, 2, 3
QUERY = [sys.executable, "-m", "resolverkit", "query"]
LIMIT = 30.0  # seconds for one run; half a second is usual
real = pytest.mark.servers


def query(*arguments, upstreams=(), limit=LIMIT, **environ):
    """Run the command; gives its status, its lines and what it complained of."""
    command = [*QUERY, *arguments]
    for url in upstreams:
        command += ["--upstream", url]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=limit, check=False,
        env=os.environ | environ,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout.splitlines(), done.stderr


def closed_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.fixture
def silent():
    """A socket that takes questions and never answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(LIMIT)
        yield sock


def url_of(sock):
    return f"udp://127.0.0.1:{sock.getsockname()[1]}"


# --- data -----------------------------------------------------------------------------


@real
@pytest.mark.parametrize(
    ("name", "over", "told"),
    [
        ("unbound", "udp", "udp"),
        ("recursor", "tcp", "tcp"),
        ("knot", "tls", "dot"),
        ("bind", "https", "doh"),
        ("http1", "https", "doh"),
    ],
)
def test_records_come_first_and_then_the_path(vantages, name, over, told):
    status, lines, errors = query(WWW, upstreams=[vantages[name].url(over)])
    assert (status, errors) == (DATA, "")
    alias, address, path = lines
    owner, ttl, rdtype, data = alias.split()
    assert (owner, rdtype, data) == (f"{WWW}.", "CNAME", TARGET)
    assert 0 <= int(ttl) <= 5
    owner, ttl, rdtype, data = address.split()
    assert (owner, rdtype, data) == (TARGET, "A", FACEBOOK)
    where = vantages[name].url(over).partition("?")[0]
    assert path.startswith(f"; upstream: {where} ({name}) over {told} in ")


@real
def test_short_prints_nothing_but_the_data(vantages):
    url = vantages["unbound"].udp_url
    assert query(WWW, "--short", upstreams=[url]) == (DATA, [FACEBOOK], "")
    status, lines, _ = query("facebook.com", "A", "AAAA", "--short", upstreams=[url])
    assert status == DATA
    assert lines == [FACEBOOK, "2a03:2880:f100:83:face:b00c:0:25de"]


def test_short_says_why_there_is_no_data(silent):
    found = query(WWW, "--short", "--timeout", "0.2", upstreams=[url_of(silent)])
    status, lines, errors = found
    assert (status, lines) == (UNREACHABLE, [])
    assert "no upstream answered" in errors
    assert url_of(silent) in errors


@real
def test_json_is_for_machines(vantages):
    urls = [vantages["unbound"].tls_url, vantages["bind"].https_url]
    arguments = (WWW, "A", "aaaa", "mx", "--json", "--strategy", "race")
    status, lines, errors = query(*arguments, upstreams=urls)
    assert (status, errors) == (DATA, "")
    a, aaaa, mx = json.loads("\n".join(lines))
    assert [o["type"] for o in (a, aaaa, mx)] == ["A", "AAAA", "MX"]
    assert [o["status"] for o in (a, aaaa, mx)] == ["NOERROR", "NOERROR", "NODATA"]
    assert a["name"] == WWW
    assert a["error"] is None
    assert [r["type"] for r in a["records"]] == ["CNAME", "A"]
    assert a["records"][1] == {
        "name": TARGET, "ttl": a["records"][1]["ttl"], "type": "A", "data": FACEBOOK,
    }  # fmt: skip
    assert mx["error"]
    for outcome in (a, aaaa, mx):
        path = outcome["path"]
        assert path["source"] == "upstream"
        assert path["operator"] in {"unbound", "bind"}
        assert path["transport"] in {"dot", "doh"}
        assert path["address"] == "127.0.0.1"
        assert path["rtt_ms"] > 0
        assert len(path["attempts"]) == 2
        assert path["upstream"] in {a["upstream"] for a in path["attempts"]}


@real
def test_trace_lists_every_attempt(vantages):
    dead = f"udp://127.0.0.1:{closed_port()}?operator=dead"
    urls = [dead, vantages["knot"].udp_url]
    arguments = ("big.names.example", "TXT", "--trace", "--strategy", "failover")
    status, lines, _ = query(*arguments, upstreams=urls)
    assert status == DATA
    assert sum(" TXT " in line for line in lines) == 16
    head, refused, truncated, won = (line.split() for line in lines[-4:])
    assert head == ["at", "upstream", "over", "operator", "took", "outcome"]
    assert refused[2:5] == [dead.partition("?")[0], "udp", "dead"]
    assert refused[-2:] == ["connection", "refused"]
    assert truncated[3:5] == ["udp", "knot"]
    assert truncated[-1] == "truncated"
    assert won[3:5] == ["tcp", "knot"]
    assert won[-2:] == ["data", "←"]


@real
def test_ca_is_for_every_url_without_one_of_its_own(vantages):
    vantage = vantages["unbound"]
    bare = f"tls://127.0.0.1:{vantage.ports['tls']}"
    status, lines, _ = query(WWW, "--short", "--ca", str(vantage.ca), upstreams=[bare])
    assert (status, lines) == (DATA, [FACEBOOK])
    status, lines, _ = query(WWW, upstreams=[bare])
    assert status == UNREACHABLE
    assert "certificate verify failed" in "\n".join(lines)


# --- where it is shown ----------------------------------------------------------------

LONG = "https://a-name-of-some-length.example.net:1/where-its-questions-are-answered"


def test_a_pipe_has_no_edge_at_which_the_table_is_cut():
    _, lines, _ = query(WWW, "--trace", upstreams=[f"{LONG}?address=127.0.0.1"])
    assert LONG in lines[-1].split()


def test_a_narrow_terminal_folds_what_it_has_no_room_for():
    _, lines, _ = query(
        WWW, "--trace", upstreams=[f"{LONG}?address=127.0.0.1"],
        FORCE_COLOR="1", COLUMNS="60",
    )  # fmt: skip
    title, *table = (re.sub(r"\x1b\[\d*m", "", line) for line in lines[2:])
    start, end = title.index("upstream"), title.index("over")
    assert "".join(line[start:end].strip() for line in table) == LONG
    assert all(len(line) <= 60 for line in table)


def test_a_locale_without_arrows_has_the_table_without_them():
    async def main():
        authority = Authority([f"{WWW}. 60 IN A {FACEBOOK}"])
        async with Lab(authority) as lab:
            return await asyncio.to_thread(
                query, WWW, "--trace", upstreams=lab.urls, PYTHONIOENCODING="ascii"
            )

    status, lines, errors = asyncio.run(main())
    assert (status, errors) == (DATA, "")
    assert lines[-1].split()[-2:] == ["data", "?"]


# --- denials --------------------------------------------------------------------------


@real
@pytest.mark.parametrize(
    ("name", "rdtype", "told"),
    [
        ("missing.names.example", "A", "NXDOMAIN"),
        ("only4.names.example", "AAAA", "NODATA"),
    ],
)
def test_a_denial_is_status_1(vantages, name, rdtype, told):
    urls = [vantages["bind"].udp_url]
    status, lines, _ = query(name, rdtype, upstreams=urls)
    assert status == DENIED
    assert lines[0].startswith(f"{told}: ")
    assert name in lines[0]
    status, lines, _ = query(name, rdtype, "--json", upstreams=urls)
    assert status == DENIED
    (outcome,) = json.loads("\n".join(lines))
    assert (outcome["status"], outcome["records"]) == (told, [])
    assert outcome["path"]["operator"] == "bind"


# --- mistakes -------------------------------------------------------------------------


MISTAKES = [
    ([], "NAME"),
    ([WWW, "NOSUCHTYPE"], "NOSUCHTYPE"),
    ([WWW, "TYPE65536"], "unknown record type in TYPE65536"),
    ([WWW, "-u", "ftp://9.9.9.9"], "ftp://9.9.9.9"),
    ([WWW, "-u", "tls://9.9.9.9", "--ca", "/no/such/file"], "/no/such/file"),
    ([WWW, "-u", "9.9.9.9", "--strategy", "luck"], "luck"),
    ([WWW, "-u", "9.9.9.9", "--timeout", "nan"], "--timeout nan"),
    (["a..example", "-u", "9.9.9.9"], "a..example"),
]


def test_a_mistake_is_status_2_and_is_told():
    with ThreadPoolExecutor(4) as pool:
        done = pool.map(lambda mistake: query(*mistake[0]), MISTAKES)
    for (arguments, words), (status, lines, errors) in zip(MISTAKES, done, strict=True):
        assert (status, lines) == (USAGE, []), arguments
        assert words in errors, arguments


# --- nothing to be reached ------------------------------------------------------------


def test_a_closed_port_is_status_3():
    url = f"udp://127.0.0.1:{closed_port()}"
    status, lines, _ = query(WWW, upstreams=[url])
    assert status == UNREACHABLE
    assert lines[0].startswith("FAILED: ")
    assert f"{url} connection refused" in lines[1]
    status, lines, _ = query(WWW, "--json", upstreams=[url])
    assert status == UNREACHABLE
    (outcome,) = json.loads("\n".join(lines))
    assert outcome["status"] == "FAILED"
    assert outcome["path"]["attempts"][0]["detail"] == "connection refused"


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_a_store_that_cannot_be_used_is_told_in_a_line(kind, tmp_path):
    store = f"sqlite://{tmp_path}/nowhere/dns.db"
    if kind == "redis":
        with socket.create_server(("127.0.0.1", 0)) as sock:
            store = f"redis://127.0.0.1:{sock.getsockname()[1]}"
    url = f"udp://127.0.0.1:{closed_port()}"
    status, lines, errors = query(WWW, "--store", store, upstreams=[url])
    assert (status, len(lines)) == (UNREACHABLE, 2)  # as without it
    (line,) = errors.splitlines()
    assert line.startswith(f"resolverkit: {store}")
    assert "answers go on from memory: " in line


def test_silence_is_status_3_when_the_time_is_over(silent):
    began = time.monotonic()
    status, lines, _ = query(WWW, "--timeout", "0.5", upstreams=[url_of(silent)])
    assert time.monotonic() - began < 10
    assert status == UNREACHABLE
    assert lines[0].startswith("TIMEOUT: ")
    assert "0.5 s" in lines[0]
    assert url_of(silent) in lines[1]


@real
def test_one_type_that_can_be_had_is_enough_for_status_0(vantages):
    urls = [vantages["unbound"].udp_url]
    status, lines, _ = query("only4.names.example", "A", "AAAA", upstreams=urls)
    assert status == DATA
    assert any(line.startswith("NODATA") for line in lines)


@pytest.mark.parametrize("form", [(), ("--json",), ("--short",)])
def test_ctrl_c_ends_it_at_once_and_without_a_traceback(silent, form):
    command = [*QUERY, WWW, "--timeout", "60", "-u", url_of(silent), *form]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        silent.recv(512)  # it waits for an answer now
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=10)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130  # 128 + SIGINT, as shells have it
    assert output == ""
    assert "Traceback" not in errors


def test_so_does_ctrl_c_while_modules_load():
    code = """
import sys
class Finder:
    def find_spec(name, path, target=None):
        if name == "resolverkit.cli.app":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Finder)
from resolverkit.cli import main
main()
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
