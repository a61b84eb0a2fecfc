"""One client's connection: queries in any portions, replies in any order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from resolverkit.server.query import IDLE, Over

if TYPE_CHECKING:
    from resolverkit.server.tcp import TcpListener

MAX_QUERIES = 100
"""Queries of one connection that may wait; then it is not read any more."""
TURN = 8
"""Queries of one connection that are answered before others have their turn."""
PATIENCE = 10.0
"""Seconds for the rest of a query, for replies to be read, and for TLS to begin."""

_WRITE_BUFFER = 64 * 1024  # octets that wait for a slow reader; then it is not read


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, listener: TcpListener) -> None:
        self._listener = listener
        self._over = listener.over
        self._loop = listener._loop
        self._buffer = bytearray()
        self._waiting = 0
        self._blocked = False  # the client does not read
        self._queued = False  # there is more to answer, once it is its turn
        self._ending = False  # it has said all, or we have heard enough
        self._since = self._loop.time()  # of the last octet that came, or went

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there, TLS included."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_WRITE_BUFFER)
        self._listener.connections[self] = None
        self._listener.responder.stats.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        if self._listener.connections.pop(self, self) is None:
            self._listener.responder.stats.connections -= 1

    @property
    def busy(self) -> bool:
        """Whether replies are still to come, or to be read."""
        unread = self._transport.get_write_buffer_size()
        return bool(self._waiting or self._queued or unread)

    def overdue(self, now: float) -> bool:
        """Whether it has used up the time that it has."""
        if self._waiting and not self._blocked:
            return False
        slow = self._blocked or self._buffer or self._ending
        return now > self._since + (PATIENCE if slow else IDLE)

    # --- reading ---------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Octets, in any portions."""
        if self._ending:
            return
        connections = self._listener.connections
        connections.pop(self, None)  # the latest heard go last
        connections[self] = None
        if not self._buffer:
            self._since = self._loop.time()  # of the first octet of a query
        self._buffer += data
        self._read()

    def eof_received(self) -> bool:
        """The client has said all: what it asked is answered (RFC 7766 section 6.2.4).

        TLS cannot be half closed here.
        """
        self._ending = True
        self._close_if_done()
        return self._over is Over.TCP and not self._transport.is_closing()

    def _read(self) -> None:
        buffer = self._buffer
        left, more = TURN, False
        while len(buffer) >= 2 and not self._blocked and self._waiting < MAX_QUERIES:
            size = buffer[0] << 8 | buffer[1]
            if size < 12:  # no reply could be told to belong to it
                self.drop()
                return
            if len(buffer) < 2 + size:
                break
            if not left:
                more = True
                break
            left -= 1
            message = bytes(buffer[2 : 2 + size])
            del buffer[: 2 + size]
            self._since = self._loop.time()
            self._ask(message)
        self._queued = more
        if more:
            self._listener.put_off(self)
        self._steer()

    def take_turn(self) -> None:
        """Answer what has come already, as much as is answered in one turn."""
        if not self._transport.is_closing():
            self._read()
            self._close_if_done()

    def _ask(self, message: bytes) -> None:
        responder = self._listener.responder
        stats = responder.stats
        if self._over is Over.TCP:
            stats.tcp += 1
        else:
            stats.tls += 1
        fast = responder.fast(self._over)
        now = responder.resolver._clock()
        fast.check(now)
        reply = fast.reply(message, now)
        self._waiting += 1
        if reply is not None:
            self._reply(reply)
        else:
            responder.ask(message, self._over, self._reply)

    # --- writing ---------------------------------------------------------------------

    def _reply(self, reply: bytes | None) -> None:
        self._waiting -= 1
        if self._transport.is_closing():
            return
        if reply is not None:  # in one segment with its length (RFC 7766 section 8)
            self._since = self._loop.time()
            self._transport.write(len(reply).to_bytes(2, "big") + reply)
        if self._waiting == MAX_QUERIES - 1:
            self._loop.call_soon(self._go_on)
        self._close_if_done()

    def _go_on(self) -> None:
        if not self._queued and not self._transport.is_closing():
            self._read()

    def pause_writing(self) -> None:
        """The client does not read: nor is it read, until it does."""
        self._blocked = True
        self._since = self._loop.time()
        self._steer()

    def resume_writing(self) -> None:
        """It reads again."""
        self._blocked = False
        self._since = self._loop.time()
        self._go_on()

    def _steer(self) -> None:
        """Read no more than can be answered."""
        if self._transport.is_closing() or self._ending:
            return
        if self._blocked or self._queued or self._waiting >= MAX_QUERIES:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    # --- the end ---------------------------------------------------------------------

    def finish(self) -> None:
        """Hear no more; close once everything has been answered."""
        self._ending = True
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._ending and not self._waiting and not self._queued:
            self._transport.close()

    def drop(self) -> None:
        """Break it off, and count that."""
        self._listener.responder.stats.closed += 1
        self.abort()

    def abort(self) -> None:
        """Break it off."""
        self._transport.abort()
        self.connection_lost(None)  # which comes later, and makes no difference then
