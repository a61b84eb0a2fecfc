"""HTTP/2 for DNS over HTTPS: many questions on one connection (RFC 9113, RFC 8484).

A question is a stream. More than the server allows at a time wait in a queue. What is
opened and acknowledged in one turn of the loop leaves in one write.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, cast

from resolverkit import wire
from resolverkit.errors import NetworkError
from resolverkit.transports.h2_frames import ENHANCE_YOUR_CALM, Http2Error
from resolverkit.transports.reconnect import MAX_OUTSTANDING, too_many
from resolverkit.transports.stream import Link

if TYPE_CHECKING:
    import asyncio

    from resolverkit.transports.asked import Asked
    from resolverkit.transports.doh import Doh
    from resolverkit.transports.h2_send import Stream
    from resolverkit.transports.h2_state import Session

MAX_BACKLOG = 65_536
"""Octets of acknowledgements that may wait for a server that does not read."""


class Http2(Link):
    """A connection that speaks HTTP/2, where ALPN has chosen it."""

    _session: Session

    def __init__(self, owner: Doh) -> None:
        super().__init__(owner)
        self.alpn: str | None = None
        self._doh = owner
        self._queue: dict[Asked, None] = {}
        self._leaving = ""  # why there are to be no new streams

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS stands; begin HTTP/2 if that is what was agreed on."""
        tls = transport.get_extra_info("ssl_object")
        self.alpn = tls.selected_alpn_protocol()
        if self.alpn != "h2":
            self._transport = cast("asyncio.Transport", transport)
            self.owner.retire(self, closing=True)
            return
        from resolverkit.transports import h2_state

        self._session = h2_state.Session(self._doh.authority, self._doh.target)
        super().connection_made(transport)
        self.schedule()

    def send(self, asked: Asked) -> None:
        """Queue the question; it leaves at the end of this turn of the loop."""
        if len(self._queue) >= MAX_OUTSTANDING:
            asked.fail(too_many())
            return
        asked.tag = None
        asked.channel = self
        asked.sends += 1
        asked.seen = self.reads
        self._queue[asked] = None
        if not self._scheduled:
            self.schedule()

    def flush(self, transport: asyncio.Transport) -> None:
        """Open streams while the server allows it, and write all there is."""
        session, queue = self._session, self._queue
        if session.exhausted():
            self._leaving = "its streams are used up"
            self._leave()
        elif queue:
            room = session.room - len(session.streams)
            if len(queue) <= room:
                self._queue = {}
            else:
                queue = dict.fromkeys(islice(queue, max(room, 0)))
                for asked in queue:
                    del self._queue[asked]
            for asked in queue:
                self._open(asked)
        if session.out:
            data = b"".join(session.out)
            session.out.clear()
            transport.write(data)

    def _open(self, asked: Asked) -> None:
        doh = self._doh
        if asked.by_get or doh.by_get:
            asked.by_get = True
            self._session.get(asked, doh.get_target(asked.question))
        else:
            self._session.post(asked, wire.padded(asked.question))

    def receive(self, data: bytes) -> int:
        """Take in what has been read: bytes of whole frames."""
        if self.alpn != "h2":
            return len(data)
        session = self._session
        used = len(data)
        error: Http2Error | None = None
        try:
            used = session.receive(data)
        except Http2Error as caught:
            error = caught
        if session.leaving is not None:
            self._leaving = f"GOAWAY, error {session.leaving}"
        if error is not None or self._leaving:
            self._doh.retire(self)  # before what was refused is asked once more
        if session.ended:
            ended, session.ended = session.ended, []
            now = self._loop.time()
            for stream in ended:
                if stream.asked.waits:
                    self._conclude(stream, now)
        if self._paused and sum(map(len, session.out)) > MAX_BACKLOG:
            error = Http2Error(ENHANCE_YOUR_CALM, "it asks much and reads nothing")
        if error is not None:
            self._break(error)
            return used
        if self._leaving:
            self._leave()
        if session.out or self._queue:
            self.schedule()
        return used

    def _conclude(self, stream: Stream, now: float) -> None:
        """End the question of a stream that has ended, or ask it once more."""
        asked, head, doh = stream.asked, stream.head, self._doh
        if stream.refused:
            doh.replay([asked], NetworkError(f"HTTP/2 {stream.fault}"))
        elif stream.fault or head is None:
            asked.fail(NetworkError(f"HTTP/2 {stream.fault}"))
        elif head.refusal and doh.retry_by_get(asked, head.status):
            asked.tag = None
            asked.sends += 1
            self._queue[asked] = None
        else:
            doh.finish(asked, head, stream.body, now)

    def forget(self, asked: Asked) -> None:
        """The question is over: leave the queue, or give up its stream."""
        if asked.tag is None:
            self._queue.pop(asked, None)
        else:
            self._session.cancel(asked.tag)
            if self._leaving and not self._session.streams:
                self.abort()  # the server may say nothing more
            elif self._session.out:
                self.schedule()

    def outstanding(self) -> list[Asked]:
        """All that it has been given and that is not over."""
        if self.alpn != "h2":
            return []
        streams = self._session.streams.values()
        return [*(stream.asked for stream in streams), *self._queue]

    def take(self) -> list[Asked]:
        """The same; they are forgotten here."""
        taken = self.outstanding()
        if taken:
            self._session.streams.clear()
            self._queue.clear()
        return taken

    def _leave(self) -> None:
        """The connection takes no new streams (RFC 9113 section 6.8)."""
        self._doh.retire(self)
        queue, self._queue = self._queue, {}
        self._doh.replay(list(queue), NetworkError(f"HTTP/2 {self._leaving}"))
        if not self._session.streams:
            self.close()

    def _break(self, error: Http2Error) -> None:
        """What was received is no HTTP/2: say so, and go elsewhere."""
        self._doh.retire(self)
        taken = self.take()
        transport = self._transport
        if transport is not None and not transport.is_closing():
            self._session.goaway(error.code)
            transport.write(b"".join(self._session.out))
            transport.abort()
        self._doh.replay(taken, NetworkError(f"HTTP/2: {error}"))
