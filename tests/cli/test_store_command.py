"""`resolverkit store`, run as anybody runs it: a SQLite file, and a Redis server."""

from __future__ import annotations

import asyncio
import json
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from resolverkit import Resolver
from resolverkit.config import store_of
from resolverkit.record_text import to_json
from resolverkit.testing import Authority, Lab

DONE, USAGE, UNREACHABLE = 0, 2, 3
LIMIT = 30.0  # seconds for one run; half a second is usual
CLOSED = "udp://127.0.0.1:9"
real = pytest.mark.servers
SITES = {
    "www.example.com.": "192.0.2.1",
    "api.example.com.": "192.0.2.2",
    "www.example.net.": "192.0.2.3",
}


def run(*arguments, lines=None):
    """Run the command; gives its status, its lines and what it complained of."""
    done = subprocess.run(
        [sys.executable, "-m", "resolverkit", *arguments],
        capture_output=True, text=True, timeout=LIMIT, check=False,
        encoding="utf-8", errors="surrogateescape",
        input=None if lines is None else "\n".join(lines),
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout.splitlines(), done.stderr


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=real)])
def url(request, tmp_path):
    """Of a store in which a program has left SITES."""
    url = f"sqlite://{tmp_path / 'dns.db'}"
    if request.param == "redis":
        url = request.getfixturevalue("redis_server")().url()
    asyncio.run(fill(url))
    return url


@pytest.fixture
def file(tmp_path):
    """Of a SQLite store with SITES."""
    path = tmp_path / "dns.db"
    asyncio.run(fill(f"sqlite://{path}"))
    return path


async def fill(url):
    records = [f"{name} 300 A {address}" for name, address in SITES.items()]
    async with (
        Lab(Authority(records), ["udp"]) as lab,
        Resolver(lab.urls, configure=False, store=url) as resolver,
    ):
        await asyncio.gather(*map(resolver.resolve, SITES))


def names(lines):
    return sorted(line.split()[0] for line in lines)


# --- what it does ---------------------------------------------------------------------


def test_show_has_a_line_for_each_answer_and_a_sum(url):
    status, lines, told = run("store", "show", url)
    assert (status, names(lines)) == (DONE, sorted(SITES))
    assert told == "; 3 answers, 0 past their TTL, 0 denied by now\n"
    for line in lines:
        _, rdtype, state, _, *_, said = line.split()
        assert (rdtype, state) == ("A", "fresh")
        assert said.startswith("udp://127.0.0.1:")
    status, lines, told = run("store", "show", url, "--under", "example.com")
    assert (status, names(lines)) == (DONE, ["api.example.com.", "www.example.com."])
    assert told.startswith("; 2 answers, ")


def test_flush_deletes_a_name_a_subtree_or_all(url):
    def flush(*arguments):
        status, lines, errors = run("store", "flush", url, *arguments)
        assert (status, errors) == (DONE, "")
        return *lines, kept(url)

    assert flush("example.com") == ("0 answers deleted", SITES.keys())
    assert flush("www.example.net") == (
        "1 answers deleted", {"api.example.com.", "www.example.com."},
    )  # fmt: skip
    assert flush("example.com", "--subtree") == ("2 answers deleted", set())
    asyncio.run(fill(url))
    assert flush() == ("3 answers deleted", set())


def kept(url):
    """The names in a store."""

    async def main():
        store = store_of(url)
        await store.open()
        try:
            return {to_json(each, 0.0)["name"] async for each in store.records()}
        finally:
            await store.aclose()

    return asyncio.run(main())


def test_what_export_prints_load_reads(url, tmp_path):
    """Into another store, from stdin or a file, with the same content and dates."""
    status, lines, told = run("store", "export", url)
    assert (status, told) == (DONE, "")
    assert {json.loads(line)["name"] for line in lines} == SITES.keys()
    other = f"sqlite:{tmp_path / 'other.db'}"
    assert run("store", "load", other, "-", lines=lines) == (
        DONE, ["3 answers read"], "",
    )  # fmt: skip
    again = run("store", "export", other)[1]
    assert [undated(line) for line in sorted(again)] == [
        undated(line) for line in sorted(lines)
    ]
    # What is there already is as new.
    given = tmp_path / "answers.jsonl"
    given.write_text("\n".join(lines[:1]))
    assert run("store", "load", url, str(given))[0] == DONE
    assert kept(url) == SITES.keys()


def undated(line):
    """A line of `export` without its date, and that date in whole hours."""
    told = json.loads(line)
    return round(told.pop("learnt") / 3600), told


def test_a_second_query_is_answered_from_the_store(tmp_path):
    """Another process, and nobody to ask."""
    url = f"sqlite://{tmp_path / 'dns.db'}"

    async def main():
        async with Lab(Authority(["www.example.com. 300 A 192.0.2.1"]), ["udp"]) as lab:
            for upstream in (lab.urls[0], CLOSED):
                yield await asyncio.to_thread(
                    run, "query", "www.example.com", "--json",
                    "--store", url, "-u", upstream,
                )  # fmt: skip

    async def both():
        return [each async for each in main()]

    for (status, lines, told), source in zip(
        asyncio.run(both()), ("upstream", "cache"), strict=True
    ):
        assert (status, told) == (DONE, "")
        (answer,) = json.loads("\n".join(lines))
        assert [record["data"] for record in answer["records"]] == ["192.0.2.1"]
        assert answer["path"]["source"] == source


# --- what it refuses ------------------------------------------------------------------

JOBS = ("show", "flush", "export")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["show", "mysql://host"], "allowed are sqlite:///path"),
        (["flush", "redis://host:99999"], "allowed are 1 to 65535"),
        (["load", "sqlite://host/path", "-"], "allowed are sqlite:///absolute/path"),
        (["load", "sqlite:///path", "/missing"], "No such file"),
    ],
)
def test_what_cannot_be_meant_is_a_mistake(arguments, told):
    status, lines, errors = run("store", *arguments)
    assert (status, lines) == (USAGE, [])
    assert told in errors


@pytest.mark.parametrize("job", JOBS)
def test_a_file_that_does_not_exist_is_not_made(job, tmp_path):
    path = tmp_path / "dns.db"
    status, lines, errors = run("store", job, f"sqlite://{path}")
    assert (status, lines) == (UNREACHABLE, [])
    assert errors == f"resolverkit store: {path} does not exist\n"
    assert list(tmp_path.iterdir()) == []


def test_load_makes_a_file_but_no_directory(file, tmp_path):
    lines = run("store", "export", f"sqlite://{file}")[1]
    new = tmp_path / "new.db"
    assert run("store", "load", f"sqlite://{new}", "-", lines=lines)[0] == DONE
    assert new.stat().st_mode & 0o777 == 0o600
    missing = tmp_path / "missing"
    status, _, errors = run("store", "load", f"sqlite://{missing}/dns.db", "-")
    assert status == UNREACHABLE
    assert f"{missing} is no directory" in errors


def test_a_file_that_is_no_store_is_left_alone(tmp_path):
    path = tmp_path / "hosts"
    path.write_bytes(b"127.0.0.1 localhost\n")
    for command in ("show", "flush", "export"):
        status, lines, errors = run("store", command, f"sqlite://{path}")
        assert (status, lines) == (UNREACHABLE, [])
        assert (
            errors == f"resolverkit store: {path} is no database, and is left alone\n"
        )
    assert [p.name for p in tmp_path.iterdir()] == ["hosts"]


def test_a_corrupt_file_is_told_and_set_aside(tmp_path):
    path = tmp_path / "dns.db"
    content = b"SQLite format 3\0" + b"\xff" * 4000
    path.write_bytes(content)
    status, lines, errors = run("store", "show", f"sqlite://{path}")
    assert (status, lines) == (DONE, [])
    assert f"{path} is damaged" in errors
    assert f"{path}.corrupt-1" in errors
    assert (tmp_path / "dns.db.corrupt-1").read_bytes() == content


def test_another_programs_file_is_left_alone(tmp_path):
    path = tmp_path / "dns.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    before = path.read_bytes()
    for job in ("show", "flush"):
        status, lines, errors = run("store", job, f"sqlite://{path}")
        assert (status, lines) == (UNREACHABLE, [])
        assert errors == (
            f"resolverkit store: {path} is another program's database, "
            "and is left alone\n"
        )
    assert path.read_bytes() == before


def test_a_redis_server_that_is_down_is_told():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{sock.getsockname()[1]}"
    status, lines, errors = run("store", "show", url)
    assert (status, lines) == (UNREACHABLE, [])
    assert errors == f"resolverkit store: {url}: connection refused\n"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("rubbish", "line 2: "),
        ('{"key": "AAAAAAAA"}', "line 2: 'wire' is missing"),
        ("\udcff\udcfe", "line 2: "),
        ("[" * 100_000, "line 2: "),
    ],
)
def test_a_line_that_is_no_record_is_a_mistake_in_the_file(file, line, told):
    lines = run("store", "export", f"sqlite://{file}")[1]
    given = [lines[0], line]
    status, said, errors = run("store", "load", f"sqlite://{file}", "-", lines=given)
    assert (status, said) == (USAGE, [])
    assert told in errors


def test_a_path_that_cannot_be_looked_at_is_told(file):
    for path in (f"{file}/below", f"{file}{'x' * 300}"):
        status, lines, errors = run("store", "show", f"sqlite://{path}")
        assert (status, lines) == (UNREACHABLE, [])
        assert errors.startswith(f"resolverkit store: {path}: ")


def test_a_name_that_is_none_is_a_mistake(file):
    for job in (["flush", f"sqlite://{file}", "a..b"],
                ["show", f"sqlite://{file}", "--under", "a..b"]):  # fmt: skip
        status, lines, errors = run("store", *job)
        assert (status, lines) == (USAGE, [])
        assert errors.startswith("resolverkit store: 'a..b' is not a name: ")
    assert len(run("store", "export", f"sqlite://{file}")[1]) == len(SITES)
