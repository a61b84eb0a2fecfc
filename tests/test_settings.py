"""What the environment and a file say, and what comes before what."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import threading

import pytest
from loopback_lab import lab_in_thread

import resolverkit
from resolverkit import ConfigurationError, StalePolicy, blocking
from resolverkit import default as defaults
from resolverkit.server import settings as serving
from resolverkit.settings import FILE, FOR_SERVE, UPSTREAMS, Settings

WWW = "www.example.com"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    monkeypatch.delenv(FILE, raising=False)
    monkeypatch.delenv(UPSTREAMS, raising=False)
    monkeypatch.setattr(blocking, "_default", None)
    monkeypatch.setattr(defaults, "_threads", threading.local())


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A function that writes the file of the environment."""
    path = tmp_path / "resolverkit.toml"

    def write(text):
        path.write_text(text)
        monkeypatch.setenv(FILE, str(path))
        return path

    return write


# --- precedence ----------------------------------------------------------------------


def test_where_nothing_is_said_the_systems_servers_are_asked():
    assert Settings.load() == Settings(upstreams=None)
    assert Settings.load().make(lambda upstreams, **_: upstreams) is None


@pytest.mark.parametrize(
    "text",
    ["192.0.2.1,tls://quad9", " 192.0.2.1\n\ttls://quad9 ", "192.0.2.1 , tls://quad9,"],
)
def test_upstreams_have_commas_or_spaces_between_them(monkeypatch, text):
    monkeypatch.setenv(UPSTREAMS, text)
    assert Settings.load().upstreams == ["192.0.2.1", "tls://quad9"]


@pytest.mark.parametrize("text", ["", " ", ",", "\n"])
def test_what_is_empty_is_not_set(monkeypatch, text):
    monkeypatch.setenv(UPSTREAMS, text)
    monkeypatch.setenv(FILE, "")
    assert Settings.load() == Settings()


def test_what_comes_first_counts(file, monkeypatch, tmp_path):
    file('upstreams = ["192.0.2.3"]\nstrategy = "race"\nstore = "sqlite:///a"\n')
    explicit = tmp_path / "explicit.toml"
    explicit.write_text('strategy = "failover"\n')
    found = [Settings.load().upstreams]
    monkeypatch.setenv(UPSTREAMS, "192.0.2.2")
    found.append(Settings.load().upstreams)
    found.append(Settings.load(explicit).upstreams)
    explicit.write_text('upstreams = ["192.0.2.1"]\nstrategy = "failover"\n')
    found.append(Settings.load(explicit).upstreams)
    found.append(Settings.load(explicit, {"upstreams": ["192.0.2.0"]}).upstreams)
    assert found == [["192.0.2.3"], *(["192.0.2.2"],) * 2, ["192.0.2.1"], ["192.0.2.0"]]
    # Each name by itself; of two files only one counts.
    both, one = Settings.load(None, {"store": None}), Settings.load(explicit)
    assert (both.strategy, both.store) == ("race", "sqlite:///a")
    assert (one.strategy, one.store) == ("failover", None)


def test_a_file_has_all_names_of_a_resolver(file):
    file("""
        upstreams = ["tls://192.0.2.1", "192.0.2.2"]
        ca = "/ca.pem"
        strategy = "quorum"
        cache_size = 1000
        store = "sqlite:///dns.db"
        on_block = "next"
        listen = ["127.0.0.1:53"]
        workers = 4
        [stale]
        max_stale = 3600
        on_denial = "hold"
        [routes]
        "corp.example." = ["10.0.0.53"]
    """)

    def face(*args, **options):
        return args, options

    assert Settings.load().make(face) == (
        (["tls://192.0.2.1?ca=/ca.pem", "192.0.2.2"],),
        {
            "strategy": "quorum", "cache_size": 1000, "store": "sqlite:///dns.db",
            "on_block": "next", "routes": {"corp.example.": ["10.0.0.53"]},
            "stale": StalePolicy(max_stale=3600, on_denial="hold"),
        },
    )  # fmt: skip


def test_names_for_serve_alone_are_those():
    of_all = {field.name for field in dataclasses.fields(serving.Settings)}
    of_any = {field.name for field in dataclasses.fields(Settings)}
    assert of_all - of_any == FOR_SERVE


# --- mistakes ------------------------------------------------------------------------


@pytest.mark.parametrize("face", [resolverkit, blocking], ids=["asyncio", "blocking"])
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nonsense", "'nonsense': allowed are"),
        ("udp://192.0.2.1 ftp://x", "'ftp://x': allowed are"),
        ("https://dns.example/", "no other upstream can resolve dns.example"),
        ("192.0.2.1?pin=x", "allowed"),
    ],
)
def test_a_mistake_in_the_upstreams_is_told(monkeypatch, face, text, says):
    monkeypatch.setenv(UPSTREAMS, text)
    with pytest.raises(ConfigurationError, match=f"^{UPSTREAMS}: ") as caught:
        face.get_default_resolver()
    assert says in str(caught.value)


@pytest.mark.parametrize("face", [resolverkit, blocking], ids=["asyncio", "blocking"])
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("upstream = []", "upstream: allowed are upstreams, ca, strategy"),
        ("strategy = 'hedgehog'", "allowed are 'hedge'"),
        ("strategy = 1", "strategy=1: allowed is a string"),
        ("upstreams = 'quad9'", "allowed is a list of strings"),
        ("upstreams = ['nonsense']", "'nonsense': allowed are"),
        ("[stale]\nmax = 1", "max=1: allowed in stale are max_stale"),
        ("[stale]\nmax_stale = -1", "max_stale"),
        ("cache_size = -1", "allowed are bytes >= 0"),
        ("store = 'mysql://'", "allowed are sqlite:///path"),
        ("not TOML", "line 1"),
    ],
)
def test_a_mistake_in_the_file_is_told(file, face, text, says):
    path = file(text)
    with pytest.raises(ConfigurationError) as caught:
        face.get_default_resolver()
    assert str(caught.value).startswith(f"{FILE}={path}: ")
    assert says in str(caught.value)


def test_a_file_that_is_not_there_is_told(monkeypatch):
    monkeypatch.setenv(FILE, "/nonexistent/resolverkit.toml")
    with pytest.raises(ConfigurationError, match=r"^RESOLVERKIT_CONFIG=.*No such file"):
        Settings.load()


def test_who_made_a_mistake_is_told_and_nobody_else(file, monkeypatch, tmp_path):
    def complaint(*load):
        with pytest.raises(ConfigurationError) as caught:
            serving.Settings.load(*load)
        return str(caught.value)

    path = file("strategy = 'fast'")
    monkeypatch.setenv(UPSTREAMS, "192.0.2.1")
    assert complaint().startswith(f"{FILE}={path}: {path}, line 1: strategy='fast'")
    assert complaint(path).startswith(f"{path}, line 1: strategy='fast'")
    assert complaint(None, {"strategy": "hop"}).startswith("strategy='hop'")
    file("strategy = 'race'\nroutes = {'corp.example' = ['192.0.2.2']}")
    options = {"upstreams": ["nonsense"]}
    assert complaint(None, options).startswith("upstream 'nonsense'")
    assert complaint(path, options).startswith("upstream 'nonsense'")
    for text in ("nonsense", "quad9?pins=x", "https://dns.example/"):
        monkeypatch.setenv(UPSTREAMS, text)
        assert complaint().startswith(f"{UPSTREAMS}: upstream '")
        assert complaint(path).startswith(f"{UPSTREAMS}: upstream '")


# --- who uses it ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def lab():
    with lab_in_thread({f"{WWW}.": "300 A 192.0.2.1"}) as lab:
        yield lab


PROGRAMS = {
    "resolve": """
        import asyncio, resolverkit
        answer = asyncio.run(resolverkit.resolve("www.example.com"))
        print(answer[0].address)
    """,
    "blocking": """
        from resolverkit import blocking
        print(blocking.resolve("www.example.com")[0].address)
    """,
    "install": """
        import socket, resolverkit
        resolverkit.install()
        print(socket.gethostbyname("www.example.com"))
    """,
    "aiohttp": """
        import asyncio
        from resolverkit.integrations.aiohttp import Resolver
        async def main():
            found = await Resolver().resolve("www.example.com", 80)
            print(found[0]["host"])
        asyncio.run(main())
    """,
    "query": """
        from resolverkit.cli import main
        import sys
        sys.argv = ["resolverkit", "query", "www.example.com", "--short"]
        main()
    """,
    "survey": """
        from resolverkit.cli import main
        import sys
        sys.argv = ["resolverkit", "survey", "www.example.com", "--json"]
        main()
    """,
}


@pytest.mark.parametrize("by", [UPSTREAMS, FILE])
@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_ask_whom_the_environment_names(
    lab, program, by, monkeypatch, tmp_path
):
    path = tmp_path / "resolverkit.toml"
    path.write_text(f"upstreams = {json.dumps(lab.urls)}")
    monkeypatch.setenv(by, " ".join(lab.urls) if by == UPSTREAMS else str(path))
    lines = [line[8:] for line in PROGRAMS[program].splitlines()]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(lines)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "192.0.2.1" in done.stdout


FORK = """
import asyncio, os, sys, warnings
import resolverkit

async def ask(source, refresh=False):
    found = await resolverkit.resolve("www.example.com.", refresh=refresh)
    assert found.path.source == source, found.path

async def main():
    await ask("upstream")
    pid = os.fork()
    if not pid:
        asyncio.run(ask("upstream"))
        os._exit(0)
    while not os.waitpid(pid, os.WNOHANG)[0]:
        await ask("upstream", refresh=True)
        await asyncio.sleep(0.01)
    await ask("cache")

asyncio.run(main())
asyncio.run(ask("cache"))
pid = os.fork()
if not pid:  # no loop runs: what was in memory is the child's, too
    asyncio.run(ask("cache"))
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_of_a_program_whose_loop_runs_has_a_resolver_of_its_own(
    lab, monkeypatch
):
    monkeypatch.setenv(UPSTREAMS, lab.urls[0])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORK],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_what_the_command_line_says_comes_first(lab, monkeypatch):
    monkeypatch.setenv(UPSTREAMS, "127.0.0.1:1")
    command = [sys.executable, "-m", "resolverkit", "query", WWW, "--short"]
    done = subprocess.run(
        [*command, "-u", lab.urls[0]],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "192.0.2.1\n")
    monkeypatch.setenv(UPSTREAMS, "nonsense")
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"resolverkit: {UPSTREAMS}: upstream 'nonsense'")


def test_serve_asks_whom_the_environment_names(monkeypatch, tmp_path):
    monkeypatch.setenv(UPSTREAMS, "192.0.2.1")
    assert serving.Settings.load(None, {}).upstreams == ["192.0.2.1"]
    path = tmp_path / "resolverkit.toml"
    path.write_text("upstreams = ['192.0.2.2']\nworkers = 2\n")
    monkeypatch.setenv(FILE, str(path))
    found = serving.Settings.load(None, {})
    assert (found.upstreams, found.workers) == (["192.0.2.1"], 2)
    assert serving.Settings.load(path, {}).upstreams == ["192.0.2.2"]


def test_a_resolver_made_in_code_is_as_the_code_says(monkeypatch, tmp_path):
    conf = tmp_path / "resolv.conf"
    conf.write_text("nameserver 192.0.2.9\n")
    monkeypatch.setenv(UPSTREAMS, "192.0.2.1")
    assert resolverkit.Resolver(filename=conf).nameservers == ["192.0.2.9"]
