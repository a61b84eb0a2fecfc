"""What the tests of the server's sockets share: a Server on loopback, and clients."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import dns.message
from asking import query

from resolverkit import Resolver
from resolverkit.server import Server
from resolverkit.testing import ScriptedUpstream, Step, answer

ADDRESS = "192.0.2.1"
LIMIT = 20.0  # seconds for anything that takes some milliseconds
QUICK = answer(ADDRESS, ttl=3600, after=0)


class Gated(ScriptedUpstream):
    """An upstream that answers when it is told to."""

    def __init__(self):
        super().__init__("gated", Step(QUICK.make, 3600), operator="Gated")

    def open(self):
        """Answer whatever waits."""
        for future, asked in list(self._pending.items()):
            self._play(future, asked)


@contextlib.asynccontextmanager
async def serving(*upstreams, listen=("127.0.0.1:0",), **options):
    """A Server over these upstreams; over a quick one if there are none."""
    members = list(upstreams) or [ScriptedUpstream("quick", QUICK)]
    async with (
        Resolver(members, configure=False) as resolver,
        Server(resolver, list(listen), **options) as server,
    ):
        yield server


def client(server, index=0):
    """A UDP socket that is connected to a server's address."""
    address = server.addresses[index]
    sock = socket.socket(address.family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.connect((address.host, address.port))
    return sock


async def received(sock):
    """The next datagram."""
    async with asyncio.timeout(LIMIT):
        return await asyncio.get_running_loop().sock_recv(sock, 65_535)


async def exchange(sock, message):
    """Ask over UDP until there is an answer to just this, parsed."""
    sock.send(message.to_wire())
    while True:
        reply = dns.message.from_wire(await received(sock))
        if reply.id == message.id:
            assert message.is_response(reply)
            return reply


async def warm(sock, *names):
    """Have names in memory, with a reply at hand."""
    for name in names:
        for _ in range(3):
            await exchange(sock, query(name))


async def until(condition):
    """Wait until something is so."""
    async with asyncio.timeout(LIMIT):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


class Stream:
    """A client over TCP or TLS."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, address, **options):
        return cls(
            *await asyncio.open_connection(address.host, address.port, **options)
        )

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    def send(self, *messages):
        data = b""
        for message in messages:
            wire = message.to_wire()
            data += len(wire).to_bytes(2, "big") + wire
        self.writer.write(data)

    async def receive(self):
        return dns.message.from_wire(await self.receive_wire())

    async def receive_wire(self):
        async with asyncio.timeout(LIMIT):
            size = int.from_bytes(await self.reader.readexactly(2), "big")
            return await self.reader.readexactly(size)

    async def ended(self):
        """Whether the server has closed it."""
        async with asyncio.timeout(LIMIT):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True
