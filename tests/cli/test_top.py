"""``resolverkit top`` against a running stub: once, as JSON, and on a terminal."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "server"))

import dns.message
import dns.name
from facing import DATA, Faced

from resolverkit.cli.top_view import view
from resolverkit.testing import ScriptedUpstream, servfail

LIMIT = 20.0
HOSTILE = "udp://192.0.2.1\x1b[31m"


def top(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "resolverkit", "top", *arguments],
        capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip


async def outage(faced, alpha):
    """One name on stale data, and one that fails."""
    await faced.ask()
    alpha.play(servfail(ede=(22, "")))
    faced.clock.ahead += 120
    await faced.ask()
    await faced.ask(dns.message.make_query("new.example.com", "A"))


def test_once_tells_upstreams_answers_and_names():
    async def main():
        alpha = ScriptedUpstream("udp://192.0.2.1", DATA, operator="Alpha")
        async with Faced(alpha) as faced:
            await outage(faced, alpha)
            done = await asyncio.to_thread(top, faced.url, "--once")
            assert done.returncode == 0, done.stderr
            assert "udp://192.0.2.1 (Alpha)" in done.stdout
            assert "EDE 22 (No Reachable Authority)" in done.stdout
            assert "upstream 1  cache 0  stale 1  held 0  failed 1" in done.stdout
            assert re.search(r"www\.example\.com\. +A +stale +\d+ s", done.stdout)
            assert "\x1b" not in done.stdout

            done = await asyncio.to_thread(top, str(faced.face.address), "--json")
            status = json.loads(done.stdout)
            assert status["old"]["names"][0]["name"] == "www.example.com."
            assert status["answers"]["failed"] == 1

    asyncio.run(main())


def test_a_terminal_is_followed_until_q_and_left_as_it_was():
    async def main():
        alpha = ScriptedUpstream("udp://192.0.2.1", DATA, operator="Alpha")
        async with Faced(alpha) as faced:
            await faced.ask()
            with Terminal("top", faced.url) as terminal:
                await asyncio.to_thread(terminal.until, "● up|up", "No name is on old")
                await outage(faced, alpha)
                await asyncio.to_thread(terminal.until, "stale", r"www\.example\.com\.")
                terminal.press("xq")
                assert await asyncio.to_thread(terminal.end) == 0
                assert "\x1b[?1049l" in terminal.seen  # the screen before is back
                assert "\x1b[?25h" in terminal.seen  # and so is the cursor

    asyncio.run(main())


@pytest.mark.parametrize("how", ["key", "signal"])
def test_ctrl_c_ends_it_cleanly(how):
    async def main():
        async with Faced() as faced:
            with Terminal("top", faced.url) as terminal:
                await asyncio.to_thread(terminal.until, "No upstream has been asked")
                if how == "key":
                    terminal.press("\x03")
                else:
                    terminal.process.send_signal(signal.SIGINT)
                assert await asyncio.to_thread(terminal.end) == 0
                assert "Traceback" not in terminal.seen

    asyncio.run(main())


def test_without_a_terminal_it_is_shown_once():
    async def main():
        async with Faced() as faced:
            done = await asyncio.to_thread(top, faced.url)
            assert (done.returncode, done.stderr) == (0, "")
            assert "No upstream has been asked" in done.stdout

    asyncio.run(main())


def test_it_goes_on_when_the_stub_is_gone():
    async def main():
        async with Faced() as faced:
            terminal = Terminal("top", faced.url)
            await asyncio.to_thread(terminal.until, "No upstream has been asked")
        with terminal:
            await asyncio.to_thread(
                terminal.until, "does not answer; this is its state"
            )
            terminal.press("q")
            assert await asyncio.to_thread(terminal.end) == 0

    asyncio.run(main())


def test_what_cannot_be_reached_is_told():
    done = top("http://127.0.0.1:9", "--once")
    assert done.returncode == 3
    assert "http://127.0.0.1:9/api/status" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH-2.0"),
        (b"\x1b[31mFTP\r\n", "'\\x1b[31mFTP'"),
        (b"HTTP/1.0 404 \x1b[31m\r\n\r\n", "'\\x1b[31m'"),
        (b"HTTP/1.0 200 OK\r\n\r\n[]", "this is no resolverkit"),
        (b"HTTP/1.0 200 OK\r\n\r\n<html>", "Expecting value"),
        (b"HTTP/1.0 200 OK\r\n\r\n" + b"[" * 100_000, "/api/status: "),
    ],
)
def test_what_is_no_stub_is_told(said, told):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        done = top(f"127.0.0.1:{server.getsockname()[1]}", "--once")
        thread.join()
    assert done.returncode == 3
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "url", ["ftp://127.0.0.1", "http://", "http://[::1", "http://x:y", "http://x y"]
)
def test_what_is_no_url_is_told(url):
    done = top(url, "--once")
    assert done.returncode == 2
    assert "http://127.0.0.1:8053" in done.stderr


def status(**changes):
    told = {
        "version": "1", "uptime": 9000, "summary": "x", "flights": 0, "store": None,
        "cache": {"entries": 1}, "upstreams": [], "old": {"total": 0, "names": []},
        "history": {"slot": 10, "fields": ["upstream", "failed"], "counts": [[0, 0]]},
    }  # fmt: skip
    return told | changes


def rendered(told, width=100, height=None):
    from rich.console import Console

    console = Console(width=width, force_terminal=False)
    with console.capture() as captured:
        console.print(view(told, width, height))
    return captured.get()


def test_what_servers_say_cannot_steer_the_terminal():
    upstream = {
        "name": HOSTILE, "operator": "\x9b2J", "state": "down", "down_for": 7000,
        "rtt_ms": 1.5, "success": 0.25, "error": "\x1b]0;owned\x07", "error_age": 150,
    }  # fmt: skip
    text = rendered(status(upstreams=[upstream]))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)
    assert "down for 1 h 56 min" in text
    assert "25.0 %" in text


def test_the_chart_has_the_hour_in_its_width():
    counts = [[i, 0] for i in range(300)] + [[0, 300]] * 60
    history = {"slot": 10, "fields": ["upstream", "failed"], "counts": counts}
    for width in (20, 80, 400):
        text = rendered(status(history=history), width)
        bars = [line for line in text.splitlines() if "█" in line]
        assert len(bars) == 6
        assert max(map(len, bars)) <= width


def test_on_80_columns_long_urls_leave_room_for_how_upstreams_do():
    upstream = {
        "name": "https://dns.quad9.net/dns-query", "operator": "Quad9",
        "state": "down", "down_for": 31, "rtt_ms": 477.9, "success": 0.625,
        "error": "no reply within 2 s", "error_age": 8,
    }  # fmt: skip
    lines = rendered(status(upstreams=[upstream]), 80).splitlines()
    line = next(line for line in lines if line.startswith("https://dns.quad9"))
    assert re.search(r"… +down for 31 s +477\.9 ms +62\.5 % +no reply within", line)
    assert max(map(len, lines)) <= 80


def test_names_that_have_no_room_are_counted():
    name = {
        "name": "a.example.", "type": "A", "source": "held", "since": 1, "age": 2,
        "served": 3,
    }  # fmt: skip
    text = rendered(status(old={"total": 50, "names": [name] * 40}), height=24)
    assert text.count("a.example.") == 6
    assert "and 44 more" in text


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, *arguments):
        self.master, slave = pty.openpty()
        self.seen = ""
        environ = os.environ | {"COLUMNS": "120", "LINES": "40", "TERM": "xterm"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "resolverkit", *arguments],
            stdin=slave, stdout=slave, stderr=slave, env=environ,
            start_new_session=True,
            preexec_fn=_control,  # noqa: PLW1509 - one system call, and no lock
        )  # fmt: skip
        os.close(slave)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.master)

    def press(self, keys):
        os.write(self.master, keys.encode())

    def until(self, *patterns):
        """Read until all are there; what was seen before does not count."""
        since, until = len(self.seen), time.monotonic() + LIMIT
        while not all(re.search(p, self.seen[since:]) for p in patterns):
            assert time.monotonic() < until, self.seen[since:]
            self._read()

    def end(self):
        """The exit status, once it has ended."""
        until = time.monotonic() + LIMIT
        while self.process.poll() is None:
            assert time.monotonic() < until, self.seen
            self._read()
        self._read()
        return self.process.returncode

    def _read(self):
        while select.select([self.master], [], [], 0.05)[0]:
            try:
                self.seen += os.read(self.master, 65_536).decode(errors="replace")
            except OSError:  # nobody has it open any more
                return


def _control():
    """Have Ctrl-C on that terminal reach the command."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
