"""Who is measured: each peer asks one name at a time, and reads its address or not."""

from __future__ import annotations

import asyncio
import itertools
import socket
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import dns.asyncresolver
import dns.resolver

import resolverkit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from measure import Ask

ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
"""Where the responder listens, on one port: as many upstreams."""
BARE_SOCKETS = 16


@dataclass
class Peer:
    """One of those who take part."""

    ask: Ask
    read: Ask
    aclose: Callable[[], Awaitable[object]]


def is_there(package: str) -> bool:
    """Whether a peer is installed; says so where it is not."""
    if find_spec(package) is None:
        print(f"  without {package}: it is not installed, or has no wheel for this")
        return False
    return True


async def nothing() -> None:
    """What has nothing to close."""


def ours(port: int, store: str | None = None) -> Peer:
    """A Resolver with three upstreams, hedged, and a store if one is named."""
    upstreams = [f"{address}:{port}" for address in ADDRESSES]
    resolver = resolverkit.Resolver(upstreams, configure=False, store=store)

    async def read(name: str) -> object:
        return (await resolver.resolve(name))[0].address

    return Peer(resolver.resolve, read, resolver.aclose)


def dnspython(
    port: int, *, cached: bool = True, servers: tuple[str, ...] = ADDRESSES[:1]
) -> Peer:
    """Its asynchronous resolver, one server, with its LRU cache if `cached`."""
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = list(servers)
    resolver.port = port
    if cached:
        resolver.cache = dns.resolver.LRUCache(100_000)

    async def read(name: str) -> object:
        return (await resolver.resolve(name))[0].address

    return Peer(resolver.resolve, read, nothing)


def aiodns(port: int, *, servers: tuple[str, ...] = ADDRESSES[:1]) -> Peer:
    """c-ares, one server, with its own cache."""
    import aiodns

    resolver = aiodns.DNSResolver(
        nameservers=list(servers), udp_port=port, tcp_port=port
    )

    async def ask(name: str) -> object:
        return await resolver.query_dns(name, "A")

    async def read(name: str) -> object:
        return (await resolver.query_dns(name, "A")).answer[0].data.addr

    return Peer(ask, read, resolver.close)


def blastdns(port: int, *, servers: tuple[str, ...] = ADDRESSES[:1]) -> Peer:
    """A resolver in Rust with threads of its own; its cache is off."""
    from blastdns import Client, ClientConfig

    config = ClientConfig(
        max_inflight_per_resolver=500, adaptive=False, cache_capacity=0
    )
    client = Client([f"{address}:{port}" for address in servers], config)

    async def ask(name: str) -> object:
        found = await client.resolve(name)
        assert found
        return found

    return Peer(ask, ask, nothing)


def bare(port: int) -> Peer:
    """What a question costs at least: sockets that are drained, a Future, no check.

    Ids are counted and replies believed: a floor, not a resolver.
    """
    loop = asyncio.get_running_loop()
    waiting: dict[tuple[int, bytes], asyncio.Future[bytes]] = {}

    def drain(sock: socket.socket) -> None:
        while True:
            try:
                data = sock.recv(4096)
            except BlockingIOError:
                return
            waiting.pop((sock.fileno(), data[:2])).set_result(data)

    sockets = []
    for _ in range(BARE_SOCKETS):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.connect((ADDRESSES[0], port))
        loop.add_reader(sock, drain, sock)
        sockets.append(sock)
    turns, idents = itertools.cycle(sockets), itertools.cycle(range(65_536))

    async def ask(name: str) -> bytes:
        sock, ident = next(turns), next(idents).to_bytes(2, "big")
        labels = [bytes((len(x),)) + x for x in name.encode().split(b".")]
        waiting[sock.fileno(), ident] = future = loop.create_future()
        head = b"\1\0\0\1\0\0\0\0\0\0"
        sock.send(ident + head + b"".join(labels) + b"\0\0\1\0\1")
        return await future

    async def read(name: str) -> str:
        return socket.inet_ntoa((await ask(name))[-4:])

    async def aclose() -> None:
        for sock in sockets:
            loop.remove_reader(sock)
            sock.close()

    return Peer(ask, read, aclose)
