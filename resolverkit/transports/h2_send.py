"""What a client sends on an HTTP/2 connection: requests, as the windows allow.

Rules of this module, and of `h2_state`: no I/O and no clock. What is to be sent is
appended to `out`; a stream that is over, however that came, is in `ended` and nowhere
else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolverkit.transports import h2_frames as h2
from resolverkit.transports.h2_blocks import MAX_LIST
from resolverkit.transports.h2_fields import Requests
from resolverkit.transports.h2_frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    LEAST_FRAME,
    frame,
    pack_head,
)

if TYPE_CHECKING:
    from resolverkit.transports.asked import Asked
    from resolverkit.transports.response import Head

STREAM_WINDOW = 131_072
"""Octets that one stream may carry: a message and padding, so it is never widened."""
CONNECTION_WINDOW = 1 << 20
"""Octets by which the window of the connection is widened at first."""
FIRST_STREAMS = 100
"""Streams opened before the server has said how many it allows (RFC 9113 5.1.2)."""
MAX_STREAMS = 1_000
"""Streams opened at most, whatever it allows."""

_LAST_NUMBER = h2.MAX_NUMBER - 2 * MAX_STREAMS
_SETTINGS = {
    h2.ENABLE_PUSH: 0,  # RFC 8484 section 5.3
    h2.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
    h2.MAX_HEADER_LIST_SIZE: MAX_LIST,
}


class Stream:
    """A request and what has come of its response.

    Attributes:
        asked: the question.
        number: the stream's.
        unsent: what is left of the request's body.
        window: octets of it that the server takes.
        head: the response's header, once it has come; informational ones are skipped.
        body: what has come of the response's body.
        received: octets of DATA, padding included.
        fault: why the response is of no use; empty while nothing is wrong.
        refused: the server has not processed the request (RFC 9113 section 8.7).
    """

    __slots__ = (
        "asked", "body", "fault", "head", "number", "received", "refused",
        "unsent", "window",
    )  # fmt: skip

    def __init__(self, asked: Asked, number: int, unsent: bytes, window: int) -> None:
        self.asked: Asked = asked
        self.number: int = number
        self.unsent: bytes = unsent
        self.window: int = window
        self.head: Head | None = None
        self.body: bytes = b""
        self.received: int = 0
        self.fault: str = ""
        self.refused: bool = False


class Sender:
    """The half of a connection that sends.

    Args:
        authority: host and port, as requests say them.
        target: path and query of a POST.

    Attributes:
        out: what is to be written.
        streams: those that are open, by their number.
        ended: those that ended, for the caller to take away.
        room: streams that may be open at a time.
    """

    def __init__(self, authority: str, target: str) -> None:
        settings = [h2.pack_setting(*item) for item in _SETTINGS.items()]
        self.out: list[bytes] = [
            h2.PREFACE,
            frame(h2.SETTINGS, 0, 0, b"".join(settings)),
            frame(h2.WINDOW_UPDATE, 0, 0, h2.pack_number(CONNECTION_WINDOW)),
        ]
        self.streams: dict[int, Stream] = {}
        self.ended: list[Stream] = []
        self.room: int = FIRST_STREAMS
        self._requests = Requests(authority, target)
        self._number = 1  # of the next stream
        self._window = h2.WINDOW  # octets that we may send, and
        self._stream_window = h2.WINDOW  # of a new stream
        self._largest = h2.LEAST_FRAME  # octets of a frame that the server takes
        self._blocked = False  # some body waits for a window, and
        self._opened = False  # one may have been opened

    def post(self, asked: Asked, body: bytes) -> None:
        """Open a stream with a POST."""
        number, size = self._number, len(body)
        self._number = number + 2
        block = self._requests.post(size)
        window = self._stream_window
        asked.tag = number
        if size > window or size > self._window or size > LEAST_FRAME:
            self._send_header(number, block, 0)
            stream = self.streams[number] = Stream(asked, number, body, window)
            self._send_body(stream)
            return
        self.streams[number] = Stream(asked, number, b"", window - size)
        self._window -= size
        header = pack_head(len(block) << 8 | HEADERS, END_HEADERS, number)
        data = pack_head(size << 8 | DATA, END_STREAM, number)
        self.out += header, block, data, body

    def get(self, asked: Asked, target: str) -> None:
        """Open a stream with a GET."""
        number = self._number
        self._number = number + 2
        self._send_header(number, self._requests.get(target), h2.END_STREAM)
        asked.tag = number
        self.streams[number] = Stream(asked, number, b"", self._stream_window)

    def exhausted(self) -> bool:
        """Whether the numbers of streams are nearly used up (RFC 9113 5.1.1)."""
        return self._number > _LAST_NUMBER

    def cancel(self, number: int) -> None:
        """Give up a stream, if it is open."""
        if self.streams.pop(number, None) is not None:
            self._send_reset(number, h2.CANCEL)

    def goaway(self, code: int) -> None:
        """Say why the connection ends."""
        payload = h2.pack_number(0) + h2.pack_number(code)
        self.out.append(frame(h2.GOAWAY, 0, 0, payload))

    def _send_header(self, number: int, block: bytes, flags: int) -> None:
        kind, size = h2.HEADERS, self._largest
        while len(block) > size:
            self.out.append(frame(kind, flags, number, block[:size]))
            kind, flags, block = h2.CONTINUATION, 0, block[size:]
        self.out.append(frame(kind, flags | h2.END_HEADERS, number, block))

    def _send_body(self, stream: Stream) -> None:
        while body := stream.unsent:
            size = min(self._window, stream.window, self._largest, len(body))
            if size <= 0:
                self._blocked = True
                return
            self._window -= size
            stream.window -= size
            stream.unsent = body[size:]
            last = 0 if stream.unsent else h2.END_STREAM
            self.out.append(frame(h2.DATA, last, stream.number, body[:size]))

    def _send_rest(self) -> None:
        """Windows were opened: go on with the bodies that wait."""
        self._opened = False
        if self._blocked:
            self._blocked = False
            for stream in self.streams.values():
                if stream.unsent:
                    self._send_body(stream)

    def _send_reset(self, number: int, code: int) -> None:
        self.out.append(frame(h2.RST_STREAM, 0, number, h2.pack_number(code)))
