"""HTTP/2 for DNS over HTTPS: many questions on one connection (RFC 9113, RFC 8484).

A question is a stream. More than the server allows at a time wait in a queue, and
bodies for which the flow-control window is too small wait for it to open. What is
opened and acknowledged in one turn of the loop leaves in one write.
"""

from __future__ import annotations

import contextlib
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from resolverkit import wire
from resolverkit.errors import NetworkError
from resolverkit.transports.reconnect import MAX_OUTSTANDING, too_many
from resolverkit.transports.stream import Link

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from resolverkit.transports.asked import Asked
    from resolverkit.transports.doh import Doh
    from resolverkit.transports.h2_state import Headers, Session

MAX_BODY = 65_535
"""Octets of a DNS message (RFC 8484 section 6)."""
STREAM_WINDOW = 131_072
"""Octets that one stream may carry: a message and padding, so it is never widened."""
CONNECTION_WINDOW = 1 << 20
"""Octets by which the window of the connection is widened at first."""
FIRST_STREAMS = 100
"""Streams opened before the server has said how many it allows (RFC 9113 5.1.2)."""
MAX_STREAMS = 1_000
"""Streams opened at most; h2 walks through all of them for each new one."""
MAX_BACKLOG = 65_536
"""Octets of acknowledgements that may wait for a server that does not read."""

_REFUSED_STREAM, _CANCEL = 7, 8  # RFC 9113 section 7


class _Exchange:
    """A stream: the question and what has come of its response."""

    __slots__ = ("age", "asked", "body", "stream", "unsent")

    def __init__(self, asked: Asked, stream: int, unsent: bytes) -> None:
        self.asked = asked
        self.stream = stream
        self.unsent = unsent  # of the request
        self.body = b""
        self.age: str | None = None  # until the response's header has come


class Http2(Link):
    """A connection that speaks HTTP/2, where ALPN has chosen it."""

    _h2: Session
    _headers: Headers
    _error: type[Exception]
    _handlers: dict[type, Callable[[Http2, Any], None]]

    def __init__(self, owner: Doh) -> None:
        super().__init__(owner)
        self.alpn: str | None = None
        self._doh = owner
        self._queue: dict[Asked, None] = {}
        self._streams: dict[int, _Exchange] = {}
        self._limit = FIRST_STREAMS
        self._unacknowledged = 0
        self._blocked = False  # some body waits for a window
        self._draining = False
        self._now = 0.0  # when this was read

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS stands; begin HTTP/2 if that is what was agreed on."""
        tls = transport.get_extra_info("ssl_object")
        self.alpn = tls.selected_alpn_protocol()
        if self.alpn != "h2":
            self._transport = cast("asyncio.Transport", transport)
            self.owner.retire(self, closing=True)
            return
        self._begin()
        super().connection_made(transport)
        self.schedule()

    def _begin(self) -> None:
        from resolverkit.transports import h2_state

        self._h2 = h2_state.Session(STREAM_WINDOW, CONNECTION_WINDOW)
        self._error = h2_state.H2Error
        self._headers = h2_state.Headers(self._doh.authority, self._doh.target)
        on = h2_state.events
        self._handlers = {
            on.ResponseReceived: Http2.on_headers,
            on.DataReceived: Http2.on_data,
            on.StreamEnded: Http2.on_end,
            on.StreamReset: Http2.on_reset,
            on.WindowUpdated: Http2.on_window,
            on.RemoteSettingsChanged: Http2.on_settings,
            on.ConnectionTerminated: Http2.on_goaway,
        }

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
        self.schedule()

    def flush(self, transport: asyncio.Transport) -> None:
        """Open streams while the server allows it, and write all there is."""
        queue = self._queue
        room = self._limit - len(self._streams)
        if queue and room > 0:
            for asked in list(islice(queue, room)):
                del queue[asked]
                if not self._open(asked):
                    return
        if data := self._h2.data_to_send():
            transport.write(data)

    def _open(self, asked: Asked) -> bool:
        h2, doh = self._h2, self._doh
        try:
            stream = h2.get_next_available_stream_id()
            if asked.by_get or doh.by_get:
                asked.by_get = True
                body = b""
                headers = self._headers.get(doh.get_target(asked.question))
                h2.send_headers(stream, headers, end_stream=True)
            else:
                body = wire.padded(asked.question)
                h2.send_headers(stream, self._headers.post(len(body)))
        except self._error as error:  # after a thousand million questions
            self._break(error, asked)
            return False
        exchange = _Exchange(asked, stream, body)
        asked.tag = exchange
        self._streams[stream] = exchange
        if body:
            self._send_body(exchange)
        return True

    def _send_body(self, exchange: _Exchange) -> None:
        h2, stream, body = self._h2, exchange.stream, exchange.unsent
        while body:
            room = min(h2.local_flow_control_window(stream), h2.max_outbound_frame_size)
            if room <= 0:
                self._blocked = True
                break
            part, body = body[:room], body[room:]
            h2.send_data(stream, part, end_stream=not body)
        exchange.unsent = body

    def buffer_updated(self, nbytes: int) -> None:
        """Take in what has been read."""
        if self._transport is None or self.alpn != "h2":
            return
        self.reads += 1
        self._now = self._loop.time()
        try:
            events = self._h2.receive_data(self._view[:nbytes])
            handlers = self._handlers
            for event in events:
                handler = handlers.get(type(event))
                if handler is not None:
                    handler(self, event)
        except self._error as error:
            self._break(error)
            return
        if self._paused and self._h2.backlog > MAX_BACKLOG:
            self._break(ConnectionError("it asks much and reads nothing"))
            return
        if self._draining and not self._streams:
            self.close()
        self.schedule()

    def on_headers(self, event: Any) -> None:
        """The header of a response."""
        exchange = self._streams.get(event.stream_id)
        if exchange is None:
            return
        status, content_type, age = self._headers.read(event.headers)
        asked, doh = exchange.asked, self._doh
        if doh.retry_by_get(asked, status):
            self._drop(exchange)
            asked.tag = None
            asked.sends += 1
            self._queue[asked] = None
        elif why := doh.judge(asked, status, content_type):
            self._drop(exchange)
            asked.fail(NetworkError(why))
        else:
            exchange.age = age

    def on_data(self, event: Any) -> None:
        """A part of the body of a response."""
        self._unacknowledged += event.flow_controlled_length
        if self._unacknowledged > CONNECTION_WINDOW // 2:
            self._h2.increment_flow_control_window(self._unacknowledged)
            self._unacknowledged = 0
        exchange = self._streams.get(event.stream_id)
        if exchange is None:
            return
        exchange.body += event.data
        if len(exchange.body) > MAX_BODY:
            self._drop(exchange)
            self._doh.conclude(exchange.asked, exchange.body, self._now, "")

    def on_end(self, event: Any) -> None:
        """The end of a response."""
        exchange = self._streams.get(event.stream_id)
        if exchange is None:
            return
        if exchange.unsent:
            self._drop(exchange)  # answered before it was asked in full
        else:
            del self._streams[event.stream_id]
        if exchange.age is None:
            exchange.asked.fail(NetworkError("HTTP/2 stream without a response"))
        else:
            self._doh.conclude(exchange.asked, exchange.body, self._now, exchange.age)

    def on_reset(self, event: Any) -> None:
        """The server gives up a stream."""
        exchange = self._streams.pop(event.stream_id, None)
        if exchange is None:
            return
        code = int(event.error_code)
        error = NetworkError(f"HTTP/2 stream reset, error {code}")
        if code == _REFUSED_STREAM:  # not processed (RFC 9113 section 8.7)
            self._doh.replay([exchange.asked], error)
        else:
            exchange.asked.fail(error)

    def on_window(self, event: Any) -> None:
        """A window was opened: go on with the bodies that wait."""
        if self._blocked:
            self._blocked = False
            for exchange in tuple(self._streams.values()):
                if exchange.unsent:
                    self._send_body(exchange)

    def on_settings(self, event: Any) -> None:
        """The server says what it allows."""
        allowed = self._h2.remote_settings.max_concurrent_streams
        self._limit = min(allowed, MAX_STREAMS)
        self.on_window(event)

    def on_goaway(self, event: Any) -> None:
        """The server takes no new streams (RFC 9113 section 6.8)."""
        self._doh.retire(self)
        self._draining = True
        last = event.last_stream_id or 0
        unprocessed = [x for x in self._streams.values() if x.stream > last]
        for exchange in unprocessed:
            del self._streams[exchange.stream]
        again = [x.asked for x in unprocessed] + list(self._queue)
        self._queue.clear()
        code = int(event.error_code or 0)
        self._doh.replay(again, NetworkError(f"HTTP/2 GOAWAY, error {code}"))

    def _drop(self, exchange: _Exchange) -> None:
        """Forget a stream and tell the server so."""
        self._streams.pop(exchange.stream, None)
        with contextlib.suppress(self._error):  # it may have ended
            self._h2.reset_stream(exchange.stream, _CANCEL)
        self.schedule()

    def forget(self, asked: Asked) -> None:
        """The question is over: leave the queue, or give up its stream."""
        exchange, asked.tag = asked.tag, None  # each knows the other
        if exchange is None:
            self._queue.pop(asked, None)
        elif exchange.stream in self._streams:
            self._drop(exchange)

    def take(self) -> list[Asked]:
        """All that is outstanding; they are forgotten here."""
        taken = [x.asked for x in self._streams.values()] + list(self._queue)
        self._streams.clear()
        self._queue.clear()
        return taken

    def _break(self, error: Exception, *more: Asked) -> None:
        """What was received is no HTTP/2: say so, and go elsewhere."""
        self._doh.retire(self)
        taken = [*self.take(), *more]
        transport = self._transport
        if transport is not None and not transport.is_closing():
            transport.write(self._h2.data_to_send())  # GOAWAY
            transport.abort()
        self._doh.replay(taken, NetworkError(f"HTTP/2: {error}"))
