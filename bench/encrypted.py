"""DoH and DoT: one connection of ours, and dnspython with one or with one per query."""

from __future__ import annotations

import asyncio
import ssl
import sys
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dns.asyncbackend
import dns.asyncquery
import dns.asyncresolver
import dns.message
import dns.nameserver
from measure import Series, concurrently, fresh_names
from peers import Peer, nothing

import resolverkit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

HTTP_2 = dns.asyncquery.HTTPVersion.H2
OURS, EACH, SHARED = "resolverkit", "dnspython", "dnspython, shared"
SHARES = {OURS: 1, EACH: 40, SHARED: 8}
"""What a peer is asked less often by."""


@asynccontextmanager
async def _server(*how: str) -> AsyncIterator[tuple[int, str]]:
    """The port of a responder over TLS, and whom to trust."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, Path(__file__).with_name("tls_responder.py"), *how,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port, _, ca = (await process.stdout.readline()).decode().partition(" ")
        yield int(port), ca.strip()
    finally:
        process.stdin.close()
        await process.wait()


def _can_doh() -> bool:
    """Not installed as a rule: with it, `import dns` would load an HTTP client."""
    if find_spec("httpx2") is None:
        print("  without dnspython: pip install 'dnspython[doh]' for its DoH")
        return False
    return True


def _peer(ask: Callable[[str], Any], aclose: Callable[[], Any] = nothing) -> Peer:
    return Peer(ask, ask, aclose)


def _ours(scheme: str, port: int, ca: str) -> Peer:
    path = "/dns-query" if scheme == "https" else ""
    url = f"{scheme}://127.0.0.1:{port}{path}?ca={ca}"
    resolver = resolverkit.Resolver([url], configure=False)
    return _peer(resolver.resolve, resolver.aclose)


def _dnspython(scheme: str, port: int, ca: str) -> Peer:
    """Its resolver, which opens a connection for each query."""
    server: dns.nameserver.Nameserver
    if scheme == "https":
        url = f"https://127.0.0.1:{port}/dns-query"
        server = dns.nameserver.DoHNameserver(url, verify=ca)
    else:
        server = dns.nameserver.DoTNameserver("127.0.0.1", port, verify=ca)
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = [server]
    resolver.lifetime = 30
    return _peer(resolver.resolve)


async def _shared_doh(port: int, ca: str) -> Peer:
    """Its queries on one HTTP client, with HTTP/2."""
    import httpx2

    context = ssl.create_default_context(cafile=ca)
    client = httpx2.AsyncClient(http2=True, verify=context)
    url = f"https://127.0.0.1:{port}/dns-query"

    async def ask(name: str) -> object:
        query = dns.message.make_query(name, "A")
        return await dns.asyncquery.https(
            query, url, client=client, http_version=HTTP_2
        )

    await ask("warm.example.com")  # those that come at once would open more
    return _peer(ask, client.aclose)


async def _shared_dot(port: int, ca: str) -> Peer:
    """Its queries on one socket, in turns, since it does not pipeline."""
    backend = dns.asyncbackend.get_default_backend()
    sock = await backend.make_socket(
        2, 1, 0, None, ("127.0.0.1", port), 10,
        ssl.create_default_context(cafile=ca), "127.0.0.1",
    )  # fmt: skip
    turn = asyncio.Lock()

    async def ask(name: str) -> object:
        query = dns.message.make_query(name, "A")
        async with turn:
            return await dns.asyncquery.tcp(query, "127.0.0.1", sock=sock)

    async def aclose() -> None:
        await sock.close()

    return _peer(ask, aclose)


def misses(
    scheme: str, *how: str, concurrency: int = 50, asks: int = 2000
) -> Callable[..., Any]:
    """µs of the client's CPU per miss over ``"https"`` or ``"tls"``.

    `how` is for the responder.
    """

    async def measure(rounds: int, _: int) -> Series:
        series = Series()
        async with _server(*how) as (port, ca):
            asking = {OURS: _ours(scheme, port, ca)}
            if scheme != "https" or _can_doh():
                shared = _shared_doh if scheme == "https" else _shared_dot
                asking[EACH] = _dnspython(scheme, port, ca)
                asking[SHARED] = await shared(port, ca)
            for turn in range(-1, rounds):  # the first is not counted
                for name, peer in asking.items():
                    names = fresh_names(asks // SHARES[name])
                    took = await concurrently(peer.ask, names, concurrency)
                    if turn >= 0:
                        series.add(name, took / len(names) * 1e6)
            for peer in asking.values():
                await peer.aclose()
        return series

    return measure
