"""DNS over a stream: framing, pipelining, matching (RFC 7766, RFC 9210).

One connection to the server is kept and questions are pipelined on it (RFC 7766 section
6.2.1.1); replies come in any order and are matched by id and question (section 7). What
is written in one turn of the loop leaves in one write, each length in the same write as
its message (section 8).
"""

from __future__ import annotations

import asyncio
import secrets
import struct
from contextvars import Context
from typing import TYPE_CHECKING, cast

from resolverkit.transports.connected import Connected
from resolverkit.transports.reconnect import MAX_OUTSTANDING, network_error, too_many

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

    from resolverkit.model import Question
    from resolverkit.transports.asked import Asked

READ_BUFFER = 2 + 65_535 + 65_536
"""Octets: one frame that is not whole yet, and 64 KiB to read into."""
IDLE_TIMEOUT = 60.0
"""Seconds without a question after which we close a connection: who asks is to (RFC
7766 section 6.2.3), and 60 s is what Unbound takes. It may be twice that."""
CLOSE_TIMEOUT = 0.25
"""Seconds that the server has to answer a TLS close_notify."""

_IDS = 256  # drawn from the CSPRNG at a time
_size = struct.Struct("!H").pack


class Link(asyncio.BufferedProtocol):
    """A connection: its buffers, its end, and one write per turn of the loop.

    It runs in an empty `contextvars.Context`, since it belongs to no one caller.
    """

    def __init__(self, owner: Connected) -> None:
        self.owner = owner
        self.reads: int = 0
        self._loop = owner.loop
        self._buffer = bytearray(READ_BUFFER)
        self._view = memoryview(self._buffer)
        self._fill = 0
        self._transport: asyncio.Transport | None = None
        self._closed = owner.loop.create_future()
        self._context = Context()
        self._scheduled = False
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands, TLS included."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none
        self.owner.connected(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over, whoever ended it."""
        self._transport = None
        if not self._closed.done():
            self._closed.set_result(None)
        self.owner.lost(self, network_error(exc))

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to read to."""
        return self._view[self._fill :]

    def buffer_updated(self, nbytes: int) -> None:
        """Take in what has been read; what is not whole yet is kept."""
        self.reads += 1
        end = self._fill + nbytes
        data = self._view[:end].tobytes()
        used = self.receive(data)
        self._fill = end - used
        if used < end:
            self._buffer[: end - used] = data[used:]

    def receive(self, data: bytes) -> int:
        """Take in what is whole of `data`, and say how many octets that was."""
        raise NotImplementedError

    def pause_writing(self) -> None:
        """The server does not read: keep what is not sent where it is."""
        self._paused = True

    def resume_writing(self) -> None:
        """The server reads again."""
        self._paused = False
        self.schedule()

    def schedule(self) -> None:
        """Have `flush` called once in this turn of the loop."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn, context=self._context)

    def _turn(self) -> None:
        self._scheduled = False
        transport = self._transport
        if transport is None or self._paused or transport.is_closing():
            return  # what is outstanding waits, or is asked elsewhere
        self.flush(transport)

    def flush(self, transport: asyncio.Transport) -> None:
        """Write what is to be written."""
        raise NotImplementedError

    def outstanding(self) -> Iterable[Asked]:
        """All that it has been given and that is not over."""
        raise NotImplementedError

    def take(self) -> list[Asked]:
        """The same; they are forgotten here."""
        raise NotImplementedError

    def forget(self, asked: Asked) -> None:
        """The question is over; free what it holds."""
        raise NotImplementedError

    def send(self, asked: Asked) -> None:
        """Put the question on its way."""
        raise NotImplementedError

    def close(self) -> None:
        """Begin to close: over TLS with a close_notify."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()

    async def wait_closed(self) -> None:
        """Return when it is closed; a server that delays it is not waited for."""
        await asyncio.wait((self._closed,), timeout=CLOSE_TIMEOUT)
        if not self._closed.done():
            self.abort()
            # uvloop was seen not to call connection_lost() after close() and abort().
            await asyncio.wait((self._closed,), timeout=CLOSE_TIMEOUT)


class Frames(Link):
    """A connection that carries messages with a two-octet length before each."""

    def __init__(self, owner: Stream) -> None:
        super().__init__(owner)
        self._encode = owner.encode
        self._encrypted = owner._context is not None
        self._pending: dict[bytes, Asked] = {}
        self._unsent: dict[bytes, Asked] = {}
        self._ids: list[bytes] = []
        self._idle: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands, TLS included."""
        self._watch()
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over, whoever ended it."""
        if self._idle is not None:
            self._idle.cancel()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Look in a while whether it is of use; a timer per question would cost."""
        self._idle = self._loop.call_later(
            IDLE_TIMEOUT, self._close_if_idle, self.reads, context=self._context
        )

    def _close_if_idle(self, reads: int) -> None:
        if self._pending or self.reads != reads:
            self._watch()
        else:
            self.owner.retire(self, closing=True)

    def send(self, asked: Asked) -> None:
        """Put the question on its way, under an unused random id."""
        pending, ids = self._pending, self._ids
        if len(pending) >= MAX_OUTSTANDING:
            asked.fail(too_many())
            return
        while True:
            if not ids:
                drawn = secrets.token_bytes(2 * _IDS)
                ids.extend([drawn[i : i + 2] for i in range(0, 2 * _IDS, 2)])
            ident = ids.pop()
            if ident not in pending:
                break
        pending[ident] = asked
        self._unsent[ident] = asked
        asked.tag = ident
        asked.channel = self
        asked.sends += 1
        asked.seen = self.reads
        if not self._scheduled:
            self.schedule()

    def flush(self, transport: asyncio.Transport) -> None:
        """Write all questions of this turn at once."""
        encode, messages = self._encode, []
        for ident, asked in self._unsent.items():
            message = encode(asked.question)
            messages.append(_size(len(message)) + ident + message[2:])
        self._unsent.clear()
        if self._encrypted and len(messages) > 1:
            # A record of its own for the last: of what one record holds, dnsdist 1.7
            # reads the first message, and the others while more is there to be read.
            last = messages.pop()
            transport.writelines((b"".join(messages), last))
        elif messages:
            transport.write(b"".join(messages))

    def receive(self, data: bytes) -> int:
        """Split it into messages, and give each to its question."""
        pending, now = self._pending, self._loop.time()
        pos, end = 0, len(data)
        while end - pos >= 4:
            stop = pos + 2 + (data[pos] << 8 | data[pos + 1])
            if stop > end:
                break
            message = data[pos + 2 : stop]
            pos = stop
            asked = pending.pop(message[:2], None)
            # None is late: its question was dropped, or timed out.
            if asked is not None and not asked.conclude(message, now):
                asked.dropped += 1
                pending[asked.tag] = asked
        return pos

    def forget(self, asked: Asked) -> None:
        """Free the id of a question that is over."""
        self._pending.pop(asked.tag, None)
        self._unsent.pop(asked.tag, None)

    def outstanding(self) -> Iterable[Asked]:
        """All that it has been given and that is not over."""
        return self._pending.values()

    def take(self) -> list[Asked]:
        """The same; they are forgotten here."""
        taken = list(self._pending.values())
        self._pending.clear()
        self._unsent.clear()
        return taken


class Stream(Connected):
    """One server asked over a stream of framed messages."""

    _context: ssl.SSLContext | None = None
    _hostname: str | None = None

    @staticmethod
    def encode(question: Question) -> bytes:
        """The message to send, its first two octets to be replaced by the id."""
        return question.wire

    async def _connect(self) -> None:
        await self._open(lambda: Frames(self), self._context, self._hostname)


class Tcp(Stream):
    """One server asked over TCP, in clear text."""
