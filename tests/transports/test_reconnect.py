"""Connections that cannot be made: who is told what, and when the next try is."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl

import pytest
from loopback import PATIENCE, Server, answer_all, ask, run, skip

from resolverkit.errors import NetworkError, QueryTimeout, UpstreamError
from resolverkit.model import Endpoint
from resolverkit.transports import reconnect
from resolverkit.transports.reconnect import network_error
from resolverkit.transports.stream import Tcp


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def tcp(port: int, timeout: float = PATIENCE, **options) -> Tcp:
    url = f"tcp://127.0.0.1:{port}"
    endpoint = Endpoint(url, "tcp", address="127.0.0.1", port=port)
    return Tcp(endpoint, timeout=timeout, **options)


async def error_of(upstream: Tcp) -> NetworkError:
    with pytest.raises(NetworkError) as caught:
        await upstream.query(ask())
    return caught.value


@pytest.fixture
def long_pauses(monkeypatch):
    monkeypatch.setattr(reconnect, "FIRST_PAUSE", 1e9)
    monkeypatch.setattr("random.uniform", lambda *bounds: bounds[1])


@pytest.fixture
def short_pauses(monkeypatch):
    monkeypatch.setattr(reconnect, "LONGEST_PAUSE", 0.02)


@pytest.mark.usefixtures("long_pauses")
def test_the_first_failure_fails_all_that_wait_and_later_ones_at_once():
    async def main():
        upstream = tcp(free_port())
        waiting = [upstream.query(ask(f"{i}.example")) for i in range(3)]
        errors = await asyncio.gather(*waiting, return_exceptions=True)
        assert [str(e) for e in errors] == ["connection refused"] * 3
        assert len({id(e) for e in errors}) == 3
        assert all(e.attempts[0].sends == 0 and not e.local for e in errors)
        late = upstream.query(ask())
        assert late.done()
        with pytest.raises(NetworkError, match=r"refused; next try in \d+\.\d s"):
            await late
        await upstream.aclose()

    run(main)


@pytest.mark.usefixtures("short_pauses")
def test_it_reconnects_for_as_long_as_somebody_asks():
    async def main():
        port = free_port()
        upstream = tcp(port)
        assert str(await error_of(upstream)) == "connection refused"
        async with Server(answer_all, port=port) as server:
            while True:
                try:
                    reply = await upstream.query(ask())
                except NetworkError:
                    await asyncio.sleep(0.005)
                else:
                    break
            assert reply.ttl == 300
            assert server.connections == 1
            await upstream.query(ask())
            assert server.connections == 1
        await upstream.aclose()

    run(main)


@pytest.mark.usefixtures("short_pauses")
def test_it_stops_trying_when_nobody_asks():
    async def main():
        tries = []

        async def locate() -> str:
            tries.append(1)
            return "127.0.0.1"

        endpoint = Endpoint("tcp://dns.example", "tcp", port=free_port())
        upstream = Tcp(endpoint, timeout=PATIENCE, locate=locate)
        await error_of(upstream)
        task = upstream._connector._task
        await asyncio.wait((task,))
        assert len(tries) == 1
        assert str(await error_of(upstream)) == "connection refused"  # a fresh try
        assert len(tries) == 2
        await upstream.aclose()

    run(main)


def test_a_connect_that_hangs_is_bounded_twice():
    async def main():
        started = asyncio.Event()

        async def locate() -> str:
            started.set()
            await asyncio.Event().wait()
            return ""

        endpoint = Endpoint("tcp://dns.example", "tcp", port=1)
        upstream = Tcp(endpoint, timeout=5, locate=locate, connect_timeout=15)
        asked = upstream.query(ask())
        await started.wait()
        skip(5)
        with pytest.raises(QueryTimeout):
            await asked
        upstream.timeout = PATIENCE
        asked = upstream.query(ask())
        skip(10)
        with pytest.raises(NetworkError, match="connect timed out"):
            await asked
        await upstream.aclose()
        await upstream.aclose()

    run(main)


def test_aclose_ends_a_connect():
    async def main():
        started = asyncio.Event()

        async def locate() -> str:
            started.set()
            await asyncio.Event().wait()
            return ""

        upstream = Tcp(Endpoint("tcp://dns.example", "tcp", port=1), locate=locate)
        asked = upstream.query(ask())
        await started.wait()
        await upstream.aclose()
        with pytest.raises(NetworkError, match="closed"):
            await asked

    run(main)


@pytest.mark.parametrize(
    ("error", "text", "local"),
    [
        (NetworkError("no route", local=True), "bootstrap: no route", True),
        (UpstreamError("nobody knows"), "bootstrap: nobody knows", False),
        (LookupError("a bug"), "LookupError: a bug", False),
    ],
)
def test_locate_may_fail(error, text, local):
    async def main():
        async def locate() -> str:
            raise error

        upstream = Tcp(Endpoint("tcp://dns.example", "tcp", port=1), locate=locate)
        told = await error_of(upstream)
        assert (str(told), told.local) == (text, local)
        await upstream.aclose()

    run(main)


@pytest.mark.parametrize(
    ("error", "text", "local"),
    [
        (None, "connection closed by the server", False),
        (ConnectionResetError(), "connection reset by peer", False),
        (OSError(errno.ECONNREFUSED, "x"), "connection refused", False),
        (OSError(errno.ETIMEDOUT, "x"), "connection timed out", False),
        (TimeoutError(), "connect timed out", False),
        (OSError(errno.ENETUNREACH, "x"), "network is unreachable", True),
        (OSError(errno.EHOSTUNREACH, "x"), "no route to host", False),
        (OSError(errno.EADDRNOTAVAIL, "x"), "cannot assign requested address", True),
        (OSError(errno.EMFILE, "x"), "too many open files", True),
        (OSError(errno.EPERM, "x"), "operation not permitted", True),
        (OSError("no matching local address"), "no matching local address", True),
        (socket.gaierror(-2, "Name unknown"), "name unknown", True),
        (ssl.SSLEOFError(8, "EOF occurred"), "TLS: ", False),
    ],
)
def test_whose_fault_it_is(error, text, local):
    told = network_error(error)
    assert str(told).startswith(text)
    assert told.local is local


def test_no_address_to_send_from_is_local():
    async def main():
        async with Server(answer_all) as server:
            upstream = tcp(server.port, source="192.0.2.77")
            error = await error_of(upstream)
            assert error.local
            await upstream.aclose()

    run(main)


@pytest.mark.usefixtures("long_pauses")
def test_a_replayed_question_fails_when_no_connection_can_be_made():
    async def main():
        reading = asyncio.Event()

        async def hold(reader, writer, n):
            await reader.read(1)
            reading.set()
            await asyncio.Event().wait()

        async with Server(hold) as server:
            upstream = tcp(server.port)
            asked = upstream.query(ask())
            await reading.wait()
        with pytest.raises(NetworkError, match="connection refused"):
            await asked
        await upstream.aclose()

    run(main)
