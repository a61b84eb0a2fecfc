"""The client's end of an HTTP/2 connection: bytes in, ended streams out (RFC 9113).

A server that breaks the protocol for one stream has it reset (section 5.4.2); for all,
`receive` raises `Http2Error` (5.4.1).

Theory of operation: nearly all that a server of DNS sends is a header that it has sent
before, in one frame, and a body in one more. `receive` takes in those two itself and
hands every other frame to the method for its type. A server may send the rest of a
stream that we gave up; it is read for the table and the window that all streams share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from resolverkit.transports import h2_frames as h2
from resolverkit.transports.h2_fields import Responses
from resolverkit.transports.h2_frames import (
    LEAST_FRAME,
    Http2Error,
    frame,
    read_head,
)
from resolverkit.transports.h2_send import (
    CONNECTION_WINDOW,
    MAX_STREAMS,
    STREAM_WINDOW,
    Sender,
    Stream,
)
from resolverkit.transports.response import MAX_BODY

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_FRAGMENTS = 8
"""Frames that a header may be cut into: CONTINUATION is not to go on for ever."""
MAX_CHANGES = 1_000
"""Changes of the first window of streams: each is work for all that are open."""

_WHOLE_HEADER = h2.HEADERS << 8 | h2.END_HEADERS  # type and flags
_LAST_DATA = h2.DATA << 8 | h2.END_STREAM


class Session(Sender):
    """The state of one connection.

    Attributes:
        leaving: the error code of a GOAWAY; the server takes no more streams.
    """

    def __init__(self, authority: str, target: str) -> None:
        super().__init__(authority, target)
        self.leaving: int | None = None
        self._responses = Responses()
        self._must_be: int | None = h2.SETTINGS  # the type of the next frame
        self._header: tuple[int, int, list[bytes]] = (0, 0, [])  # one that is not whole
        self._unacknowledged = 0  # octets received
        self._last = h2.MAX_NUMBER  # stream that the server may process
        self._changes = 0  # of the window that streams have at first

    def receive(self, data: bytes) -> int:
        """Take in all whole frames at the beginning of `data`.

        Returns:
            The octets of them.

        Raises:
            Http2Error: the connection is of no more use.
        """
        streams, known = self.streams, self._responses.known
        pos, end = 0, len(data)
        while end - pos >= 9:
            high, low, what, number = read_head(data, pos)
            size = high << 8 | low
            if size > LEAST_FRAME:  # said before all of it has come (section 4.2)
                raise Http2Error(h2.FRAME_SIZE_ERROR, f"a frame of {size} octets")
            stop = pos + 9 + size
            if stop > end:
                break
            payload = data[pos + 9 : stop]
            pos = stop
            stream = streams.get(number)
            if stream is not None and self._must_be is None:
                head = stream.head
                if what == _WHOLE_HEADER and head is None:
                    head = known.get(payload)
                    if head is not None and head.welcome:
                        stream.head = head
                        continue
                elif (
                    what == _LAST_DATA
                    and head is not None
                    and head.length in (None, size)
                    and not stream.received
                    and not stream.unsent
                ):
                    self._unacknowledged += size
                    stream.body = payload
                    del streams[number]
                    self.ended.append(stream)
                    continue
            self._read(what >> 8, what & 255, number & h2.MAX_NUMBER, payload)
        if self._opened:  # not at each of many updates
            self._send_rest()
        if self._unacknowledged > CONNECTION_WINDOW // 2:
            more = h2.pack_number(self._unacknowledged)
            self.out.append(frame(h2.WINDOW_UPDATE, 0, 0, more))
            self._unacknowledged = 0
        return pos

    def _read(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if kind != self._must_be and self._must_be is not None:
            raise Http2Error(h2.PROTOCOL_ERROR, f"a frame of type {kind} out of place")
        handler = self._handlers.get(kind)
        if handler is not None:  # others are to be ignored (section 5.5)
            handler(self, flags, number, payload)

    def _find(self, number: int) -> Stream | None:
        """A stream; None if it is over. There must have been one (section 5.1)."""
        if not number & 1 or number >= self._number:
            raise Http2Error(h2.PROTOCOL_ERROR, f"a frame on stream {number}")
        return self.streams.get(number)

    def _end(self, stream: Stream, fault: str = "") -> None:
        stream.fault = fault
        del self.streams[stream.number]
        self.ended.append(stream)
        if stream.unsent:  # answered before it was asked in full
            self._send_reset(stream.number, h2.CANCEL)

    def _reset(self, stream: Stream, code: int, fault: str) -> None:
        """The server has broken the protocol for one stream, or says too much."""
        stream.unsent = b""
        self._send_reset(stream.number, code)
        self._end(stream, fault)

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        # No less than what came back to the server is taken, so it cannot exceed the
        # connection's window for longer than an update is on its way.
        size = len(payload)
        self._unacknowledged += size
        stream = self._find(number)
        if flags & h2.PADDED:
            payload = h2.unpadded(payload)
        if stream is None:
            return
        if stream.head is None:
            self._reset(stream, h2.PROTOCOL_ERROR, "a body without a header")
            return
        stream.received += size
        stream.body += payload
        if stream.received > STREAM_WINDOW:
            self._reset(stream, h2.FLOW_CONTROL_ERROR, "more than the window allows")
        elif len(stream.body) > MAX_BODY:  # who reads it will say so
            self._reset(stream, h2.CANCEL, "")
        elif flags & h2.END_STREAM:
            self._end_response(stream)

    def _end_response(self, stream: Stream) -> None:
        """All of a response has come (section 8.1.1)."""
        head, size = stream.head, len(stream.body)
        if head is None or head.refusal or head.length in (None, size):
            self._end(stream)
        else:
            self._end(stream, f"body of {size} octets in place of {head.length}")

    def _headers(self, flags: int, number: int, payload: bytes) -> None:
        self._find(number)
        if flags & h2.PADDED:
            payload = h2.unpadded(payload)
        if flags & h2.PRIORITIZED:
            if len(payload) < 5:
                raise Http2Error(h2.FRAME_SIZE_ERROR, "a HEADERS frame that is short")
            payload = payload[5:]
        self._header = number, flags & h2.END_STREAM, []
        self._take_fragment(flags, payload)

    def _continuation(self, flags: int, number: int, payload: bytes) -> None:
        if self._must_be is None or number != self._header[0]:
            raise Http2Error(h2.PROTOCOL_ERROR, "a CONTINUATION out of place")
        self._take_fragment(flags, payload)

    def _take_fragment(self, flags: int, fragment: bytes) -> None:
        number, last, fragments = self._header
        fragments.append(fragment)
        if flags & h2.END_HEADERS:
            self._must_be = None
            self._take_header(self._find(number), b"".join(fragments), bool(last))
        elif len(fragments) == MAX_FRAGMENTS:
            raise Http2Error(h2.ENHANCE_YOUR_CALM, "a header without an end")
        else:
            self._must_be = h2.CONTINUATION

    def _take_header(self, stream: Stream | None, block: bytes, last: bool) -> None:
        head = self._responses.read(block)  # also where nobody wants it: for the table
        if stream is None:
            return
        fault = head.fault
        trailers = stream.head is not None
        if trailers and (head.status or not last):
            fault = fault or "a header after the header"
        elif not trailers and (head.status < 100 or (head.status < 200 and last)):
            fault = fault or "a header without a status"
        if fault:
            self._reset(stream, h2.PROTOCOL_ERROR, fault)
        elif trailers:
            self._end_response(stream)
        elif head.status >= 200:
            stream.head = head
            if last:
                self._end_response(stream)
            elif head.refusal:  # its body is not wanted
                self._reset(stream, h2.CANCEL, "")

    def _priority(self, flags: int, number: int, payload: bytes) -> None:
        if not number:
            raise Http2Error(h2.PROTOCOL_ERROR, "a frame on stream 0")

    def _rst_stream(self, flags: int, number: int, payload: bytes) -> None:
        _check_size(payload, 4)
        stream = self._find(number)
        if stream is not None:
            code = int.from_bytes(payload, "big")
            stream.unsent = b""
            stream.refused = code == h2.REFUSED_STREAM
            self._end(stream, f"stream reset, error {code}")

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        _check_connection(number)
        if flags & h2.ACK:
            if self._must_be is not None:
                raise Http2Error(
                    h2.PROTOCOL_ERROR, "an acknowledgement before all else"
                )
            _check_size(payload, 0)
            return
        if len(payload) % 6:
            raise Http2Error(h2.FRAME_SIZE_ERROR, "half a setting")
        allowed = self.room if self._must_be is None else MAX_STREAMS
        self._must_be = None
        settings = dict(h2.read_settings(payload))  # the last of each is what holds
        if settings.get(h2.ENABLE_PUSH, 0):
            raise Http2Error(h2.PROTOCOL_ERROR, "a server that would be pushed to")
        largest = settings.get(h2.MAX_FRAME_SIZE, self._largest)
        if not h2.LEAST_FRAME <= largest <= h2.MOST_FRAME:
            raise Http2Error(h2.PROTOCOL_ERROR, f"frames of {largest} octets")
        self._largest = largest
        if h2.HEADER_TABLE_SIZE in settings:
            self._requests.resize(settings[h2.HEADER_TABLE_SIZE])
        allowed = settings.get(h2.MAX_CONCURRENT_STREAMS, allowed)
        self.room: int = min(allowed, MAX_STREAMS)
        self.out.append(frame(h2.SETTINGS, h2.ACK, 0))
        self._set_windows(settings.get(h2.INITIAL_WINDOW_SIZE, self._stream_window))

    def _set_windows(self, octets: int) -> None:
        """New streams have another window, and so have those that are open."""
        if octets > h2.MAX_NUMBER:
            raise Http2Error(h2.FLOW_CONTROL_ERROR, f"a window of {octets} octets")
        more, self._stream_window = octets - self._stream_window, octets
        if not more:
            return
        self._changes += 1
        if self._changes > MAX_CHANGES:
            raise Http2Error(h2.ENHANCE_YOUR_CALM, "windows that change for ever")
        for stream in self.streams.values():
            stream.window += more
            if stream.window > h2.MAX_NUMBER:
                raise Http2Error(h2.FLOW_CONTROL_ERROR, "a window that is too large")
        self._opened = True

    def _push_promise(self, flags: int, number: int, payload: bytes) -> None:
        raise Http2Error(h2.PROTOCOL_ERROR, "a push, which was switched off")

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        _check_connection(number)
        _check_size(payload, 8)
        if not flags & h2.ACK:
            self.out.append(frame(h2.PING, h2.ACK, 0, payload))

    def _goaway(self, flags: int, number: int, payload: bytes) -> None:
        _check_connection(number)
        if len(payload) < 8:
            raise Http2Error(h2.FRAME_SIZE_ERROR, "a GOAWAY frame that is short")
        last = h2.number_in(payload)
        self.leaving = int.from_bytes(payload[4:8], "big")
        if last >= self._last:
            return
        self._last = last
        for stream in [x for x in self.streams.values() if x.number > last]:
            stream.unsent = b""
            stream.refused = True
            self._end(stream, f"GOAWAY, error {self.leaving}")

    def _window_update(self, flags: int, number: int, payload: bytes) -> None:
        _check_size(payload, 4)
        more = h2.number_in(payload)
        if not number:
            self._window += more
            if not more:
                raise Http2Error(h2.PROTOCOL_ERROR, "a window no octet wider")
            if self._window > h2.MAX_NUMBER:
                raise Http2Error(h2.FLOW_CONTROL_ERROR, f"a window {more} octets wider")
        elif (stream := self._find(number)) is not None:
            stream.window += more
            if not more:
                self._reset(stream, h2.PROTOCOL_ERROR, "a window no octet wider")
            elif stream.window > h2.MAX_NUMBER:
                self._reset(stream, h2.FLOW_CONTROL_ERROR, "a window that is too large")
        self._opened = True

    _handlers: ClassVar[dict[int, Callable[[Session, int, int, bytes], None]]] = {
        h2.DATA: _data,
        h2.HEADERS: _headers,
        h2.PRIORITY: _priority,
        h2.RST_STREAM: _rst_stream,
        h2.SETTINGS: _settings,
        h2.PUSH_PROMISE: _push_promise,
        h2.PING: _ping,
        h2.GOAWAY: _goaway,
        h2.WINDOW_UPDATE: _window_update,
        h2.CONTINUATION: _continuation,
    }


def _check_connection(number: int) -> None:
    if number:
        raise Http2Error(h2.PROTOCOL_ERROR, "a frame for the connection on a stream")


def _check_size(payload: bytes, size: int) -> None:
    if len(payload) != size:
        raise Http2Error(h2.FRAME_SIZE_ERROR, f"{len(payload)} octets, not {size}")
