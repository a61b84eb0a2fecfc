"""Sockets to one server: connected, on random ports, given up after some uses.

Connected, so that the kernel drops datagrams from elsewhere and ICMP errors surface.
Ports and ids come from the system's CSPRNG (RFC 5452 section 9.2). Where the loop can
watch sockets they are read until they are empty on each wake-up, which costs a third of
what a transport and protocol of asyncio's cost; elsewhere (Windows' proactor) those do.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
import struct
from contextvars import Context
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

from resolverkit.transports.reconnect import MAX_OUTSTANDING
from resolverkit.transports.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resolverkit.model import Question

MAX_PORTS = 64
"""Sockets open to one server: RFC 5452 section 9.2 wants many, descriptors are few."""
PORT_USES = 100
"""Questions sent from one port before it is given up."""
BUSY = (BlockingIOError, InterruptedError)
"""What a socket says that cannot take, or has not got, a datagram right now."""

_RECEIVE_SIZE = 4096  # more than the payload that is asked for, RFC 6891 section 6.2.3
_BIND_TRIES = 8

_shorts = struct.Struct("256H").unpack_from

_Asked = TypeVar("_Asked", bound="Outstanding")


class Outstanding(Protocol):
    """A question that has an id on a port."""

    port: Any
    ident: bytes


class Port(Generic[_Asked]):
    """A connected socket and the questions outstanding on it."""

    __slots__ = ("asked", "datagrams", "late", "send", "sock", "uses")

    def __init__(self, sock: socket.socket) -> None:
        self.sock: socket.socket = sock
        self.send: Callable[[bytes], object] = sock.send
        self.asked: dict[bytes, _Asked] = {}  # by id, two octets
        self.late: dict[bytes, Question] = {}  # over, but another reply may come
        self.uses: int = 0
        self.datagrams: _Datagrams[_Asked] | None = None


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
        self._limit = 1 if source[1] else MAX_PORTS
        self._take = take
        self._lose = lose
        self._open: list[Port[_Asked]] = []
        self._retired: set[Port[_Asked]] = set()
        self.most_uses = math.inf if source[1] else PORT_USES
        self._draws: list[tuple[int, bytes]] = []
        self._watch: Watch[Port[_Asked]] | None = None

    def __iter__(self) -> Iterator[Port[_Asked]]:
        yield from self._open
        yield from self._retired

    # --- questions -------------------------------------------------------------------

    def place(self, asked: _Asked) -> Port[_Asked]:
        """Give a question an unpredictable port and an id that is free there.

        A port is opened where the one that was drawn is in use, or worn out.

        Raises:
            OSError: there is no socket to be had, or hardly an id on the only one.
        """
        ports, draws = self._open, self._draws
        number, ident = draws.pop() if draws else self._draw()
        count = len(ports)
        port = ports[number % count] if count else self._add()
        if port.uses >= self.most_uses:
            port = self._replace(port)
        elif port.asked and count < self._limit:
            port = self._add()
        waiting = port.asked
        while ident in waiting:
            if len(waiting) >= MAX_OUTSTANDING:
                raise OSError(f"{len(waiting)} questions are outstanding on one port")
            _, ident = draws.pop() if draws else self._draw()
        waiting[ident] = asked
        asked.port, asked.ident = port, ident
        port.uses += 1
        return port

    def release(self, port: Port[_Asked], ident: bytes) -> bool:
        """Let go of the id of a question that is over; whether it was still held."""
        if port.asked.pop(ident, None) is None:
            return False
        if port.uses >= self.most_uses:
            self.tidy(port)
        return True

    def tidy(self, port: Port[_Asked]) -> None:
        """A question on a port that is worn out is over: close it after the last."""
        if not port.asked and port in self._retired:
            self._retired.discard(port)
            self._close(port)

    def _draw(self) -> tuple[int, bytes]:
        """Unpredictable bits, for a port and for an id; more are kept for the next."""
        drawn = os.urandom(1024)
        idents = [drawn[i : i + 2] for i in range(0, 512, 2)]
        self._draws.extend(zip(_shorts(drawn, 512), idents, strict=True))
        return self._draws.pop()

    # --- sockets ---------------------------------------------------------------------

    def _add(self) -> Port[_Asked]:
        port = self._make()
        self._open.append(port)
        return port

    def _replace(self, port: Port[_Asked]) -> Port[_Asked]:
        """A new port for one that is worn out, which is closed once nobody waits."""
        fresh = self._make()
        self._open[self._open.index(port)] = fresh
        if port.asked:
            self._retired.add(port)
        else:
            self._close(port)
        return fresh

    def close(self) -> None:
        """Close them all."""
        for port in self:
            self._close(port)
        self._open.clear()
        self._retired.clear()
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def _make(self) -> Port[_Asked]:
        family = socket.AF_INET6 if ":" in self._server[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            self._bind(sock)
            sock.connect(_sockaddr(*self._server))
            port: Port[_Asked] = Port(sock)
            try:
                if self._watch is None:
                    self._watch = Watch(self._loop, self._read)
                self._watch.add(sock.fileno(), port)
            except NotImplementedError:
                port.datagrams = _Datagrams(self._loop, port, self._take, self._lose)
                port.send = port.datagrams.send
        except BaseException:
            sock.close()
            raise
        return port

    def _bind(self, sock: socket.socket) -> None:
        address, number = self._source
        if number:  # which the sockets to other servers have, too
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(_sockaddr(address, number))
            return
        for _ in range(_BIND_TRIES):
            with contextlib.suppress(OSError):
                number = int.from_bytes(os.urandom(4))
                sock.bind(_sockaddr(address, 1024 + number % (65536 - 1024)))
                return
        sock.bind(_sockaddr(address, 0))

    def _close(self, port: Port[_Asked]) -> None:
        if port.datagrams is not None:
            port.datagrams.close()
            return
        if self._watch is not None:
            self._watch.remove(port.sock.fileno())
        port.sock.close()

    def _read(self, port: Port[_Asked]) -> None:
        """Take in all that has arrived.

        Finding a socket empty costs a system call, so reading stops once nothing is
        outstanding on it.
        """
        receive, take, waiting = port.sock.recv, self._take, port.asked
        while True:
            try:
                data = receive(_RECEIVE_SIZE)
            except BUSY:
                return
            except OSError as error:
                self._lose(port, error)
                return
            take(port, data)
            if not waiting:
                return


def _sockaddr(address: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    """What a socket takes: the zone of a link-local address goes by itself (RFC 4007).

    Raises:
        OSError: there is no such interface.
    """
    host, _, zone = address.partition("%")
    if not zone:
        return address, port
    scope = int(zone) if zone.isdecimal() else socket.if_nametoindex(zone)
    return host, port, 0, scope


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
