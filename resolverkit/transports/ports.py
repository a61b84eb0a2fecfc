"""Sockets to one server: connected, on random ports, given up after some uses.

Connected, so that the kernel drops datagrams from elsewhere and ICMP errors surface.
Ports and ids come from the system's CSPRNG (RFC 5452 section 9.2). Where the loop can
watch sockets they are read until they are empty on each wake-up, which costs a third of
what a transport and protocol of asyncio's cost; elsewhere (Windows' proactor) those do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from contextvars import Context
from typing import TYPE_CHECKING, Generic, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resolverkit.model import Question

MAX_PORTS = 64
"""Sockets open to one server: RFC 5452 section 9.2 wants many, descriptors are few."""
PORT_USES = 100
"""Questions sent from one port before it is given up."""

_RECEIVE_SIZE = 4096  # more than the payload that is asked for, RFC 6891 section 6.2.3
_BIND_TRIES = 8
_BUSY = (BlockingIOError, InterruptedError)

_Asked = TypeVar("_Asked")


class Port(Generic[_Asked]):
    """A connected socket and the questions outstanding on it."""

    __slots__ = ("asked", "datagrams", "late", "sock", "uses")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.asked: dict[int, _Asked] = {}
        self.late: dict[int, Question] = {}  # over, but another reply may come
        self.uses = 0
        self.datagrams: _Datagrams[_Asked] | None = None

    def send(self, data: bytes) -> None:
        """Send one datagram.

        Raises:
            OSError: an ICMP error for an earlier one (try again), or the network's.
        """
        if self.datagrams is not None:
            self.datagrams.send(data)
            return
        try:
            self.sock.send(data)
        except _BUSY:  # as good as lost: sent again, or timed out
            return


class Ports(Generic[_Asked]):
    """The pool.

    Args:
        loop: where they are read.
        server: address and port to connect to.
        source: address and port to send from; an empty address for any, and 0 for an
            unpredictable port.
        take: called with a port and a datagram that came to it.
        lose: called with a port and the ICMP error that came to it.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        server: tuple[str, int],
        source: tuple[str, int],
        take: Callable[[Port[_Asked], bytes], None],
        lose: Callable[[Port[_Asked], OSError], None],
    ) -> None:
        self._loop = loop
        self._server = server
        self._source = source
        self._take = take
        self._lose = lose
        self._open: list[Port[_Asked]] = []
        self._retired: set[Port[_Asked]] = set()
        self._draws: Iterator[int] = iter(())

    def __iter__(self) -> Iterator[Port[_Asked]]:
        yield from self._open
        yield from self._retired

    def draw(self) -> int:
        """32 unpredictable bits."""
        for value in self._draws:
            return value
        self._draws = iter(struct.unpack("256I", os.urandom(1024)))
        return next(self._draws)

    def choose(self, outstanding: int) -> Port[_Asked]:
        """A port to send from: a new one while questions outnumber the ports.

        Raises:
            OSError: there is no socket to be had.
        """
        ports = self._open
        limit = 1 if self._source[1] else MAX_PORTS
        if len(ports) < limit and outstanding >= len(ports):
            port = self._make()
            ports.append(port)
            return port
        index = (self.draw() >> 16) % len(ports)
        port = ports[index]
        if port.uses < PORT_USES or self._source[1]:
            return port
        ports[index] = fresh = self._make()
        if port.asked:
            self._retired.add(port)
        else:
            self._close(port)
        return fresh

    def release(self, port: Port[_Asked]) -> None:
        """Nothing is outstanding on `port` any more."""
        if port in self._retired:
            self._retired.discard(port)
            self._close(port)

    def close(self) -> None:
        """Close them all."""
        for port in self:
            self._close(port)
        self._open.clear()
        self._retired.clear()

    def _make(self) -> Port[_Asked]:
        family = socket.AF_INET6 if ":" in self._server[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            self._bind(sock)
            sock.connect(self._server)
            port: Port[_Asked] = Port(sock)
            try:
                Context().run(self._loop.add_reader, sock.fileno(), self._read, port)
            except NotImplementedError:
                port.datagrams = _Datagrams(self._loop, port, self._take, self._lose)
        except BaseException:
            sock.close()
            raise
        return port

    def _bind(self, sock: socket.socket) -> None:
        address, number = self._source
        if number:  # which the sockets to other servers have, too
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address, number))
            return
        for _ in range(_BIND_TRIES):
            with contextlib.suppress(OSError):
                sock.bind((address, 1024 + (self.draw() >> 8) % (65536 - 1024)))
                return
        sock.bind((address, 0))

    def _close(self, port: Port[_Asked]) -> None:
        if port.datagrams is not None:
            port.datagrams.close()
            return
        if not self._loop.is_closed():
            self._loop.remove_reader(port.sock.fileno())
        port.sock.close()

    def _read(self, port: Port[_Asked]) -> None:
        """Take in all that has arrived.

        Finding a socket empty costs a system call, so reading stops once nothing is
        outstanding on it.
        """
        receive = port.sock.recv
        while True:
            try:
                data = receive(_RECEIVE_SIZE)
            except _BUSY:
                return
            except OSError as error:
                self._lose(port, error)
                return
            self._take(port, data)
            if not port.asked:
                return


class _Datagrams(asyncio.DatagramProtocol, Generic[_Asked]):
    """A port on a loop that cannot watch sockets."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        port: Port[_Asked],
        take: Callable[[Port[_Asked], bytes], None],
        lose: Callable[[Port[_Asked], OSError], None],
    ) -> None:
        self._port = port
        self._take = take
        self._lose = lose
        self._waiting: list[bytes] = []  # until the transport is there
        self._transport: asyncio.DatagramTransport | None = None
        self._closed = False
        self._opening = loop.create_task(self._open(loop), context=Context())

    async def _open(self, loop: asyncio.AbstractEventLoop) -> None:
        sock = self._port.sock
        await loop.create_datagram_endpoint(lambda: self, sock=sock)

    def send(self, data: bytes) -> None:
        """Send one datagram, or have it sent in a moment."""
        if self._transport is None:
            self._waiting.append(data)
        else:
            self._transport.sendto(data)

    def close(self) -> None:
        """Close the socket, as soon as the transport that owns it is there."""
        self._closed = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not every loop's own class is a subclass of asyncio's.
        self._transport = cast("asyncio.DatagramTransport", transport)
        if self._closed:
            self._transport.abort()
            return
        waiting, self._waiting = self._waiting, []
        for data in waiting:
            self._transport.sendto(data)

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._take(self._port, data)

    def error_received(self, exc: Exception) -> None:
        if isinstance(exc, OSError):
            self._lose(self._port, exc)
