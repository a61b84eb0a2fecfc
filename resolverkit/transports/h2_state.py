"""The h2 library as a DNS client needs it. Imported with the first HTTP/2 connection.

All requests have the same header and most responses do, so that on a warm connection
their HPACK blocks are the same octets: coding them once halves the price of a question.
A block means the same for as long as the table that it refers to does (RFC 7541 2.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from h2 import events
from h2.config import H2Configuration
from h2.connection import ConnectionState, H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import FrameTooLargeError, H2Error
from h2.settings import SettingCodes, Settings
from hpack import Decoder, Encoder, NeverIndexedHeaderTuple
from hpack.table import HeaderTable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from h2.events import Event
    from hyperframe.frame import Frame

__all__ = ["H2Error", "Headers", "Session", "events"]

_SWEEP = 64  # streams opened between two searches for closed ones
_MEMO = 64  # response blocks kept


class Session(H2Connection):
    """The state of one connection, for a client that counts its streams itself.

    Args:
        stream: octets that the server may send on a stream.
        window: octets by which the connection's window is widened at once.
    """

    def __init__(self, stream: int, window: int) -> None:
        super().__init__(
            H2Configuration(
                client_side=True,
                header_encoding=None,
                validate_outbound_headers=False,  # they are ours
                normalize_outbound_headers=False,
                validate_inbound_headers=False,  # three of them are read, with care
                normalize_inbound_headers=False,
            )
        )
        settings = {
            SettingCodes.ENABLE_PUSH: 0,  # RFC 8484 section 5.3
            SettingCodes.INITIAL_WINDOW_SIZE: stream,
            SettingCodes.MAX_HEADER_LIST_SIZE: 16_384,
        }
        self.local_settings: Settings = Settings(client=True, initial_values=settings)
        self.encoder: _MemoEncoder = _MemoEncoder()
        self.decoder: _MemoDecoder = _MemoDecoder()
        self._opened = 0
        self.initiate_connection()
        self.increment_flow_control_window(window)

    def receive_data(self, data: Any) -> list[Event]:
        """As h2 does, but a frame that is too long is refused by its length.

        h2 would first wait for all of it, up to 16 MiB, as for any text that is no
        HTTP/2: RFC 9113 section 4.2.
        """
        events = super().receive_data(data)
        rest = self.incoming_buffer._data
        length = int.from_bytes(rest[:3], "big") if len(rest) > 2 else 0
        if length > self.max_inbound_frame_size:
            self._terminate_connection(ErrorCodes.FRAME_SIZE_ERROR)
            raise FrameTooLargeError(f"a frame of {length} octets")
        return events

    @property
    def backlog(self) -> int:
        """Octets that wait to be written."""
        return len(self._data_to_send)

    @property
    def open_outbound_streams(self) -> int:
        """Now and then the truth, which takes a walk through all streams."""
        self._opened += 1
        return 0 if self._opened % _SWEEP else super().open_outbound_streams

    def _receive_frame(self, frame: Frame) -> list[Event]:
        """As h2 does, less the text of each frame for a log that nobody keeps."""
        stream = self.streams.get(frame.stream_id)
        if stream is None or not stream.open:
            return super()._receive_frame(frame)  # it forgives some errors
        handle = self._frame_dispatch_table[frame.__class__]
        frames, events = handle(frame)
        self._prepare_for_sending(frames)
        return list(events)

    def _receive_goaway_frame(self, frame: Any) -> tuple[list[Frame], list[Event]]:
        """As h2 does, but streams that were begun may end (RFC 9113 section 6.8)."""
        result = super()._receive_goaway_frame(frame)
        self.state_machine.state = ConnectionState.CLIENT_OPEN
        return result


class Headers:
    """The headers of requests to one server: no more than what is needed."""

    def __init__(self, authority: str, target: str) -> None:
        self._common = [
            (b":scheme", b"https"),
            (b":authority", authority.encode()),
            (b"accept", b"application/dns-message"),
        ]
        self._target = target.encode()
        self._posts: dict[int, list[tuple[bytes, bytes]]] = {}

    def post(self, length: int) -> list[tuple[bytes, bytes]]:
        """For a body of that length; nearly all queries are padded to the same."""
        headers = self._posts.get(length)
        if headers is None:
            headers = self._posts[length] = [
                (b":method", b"POST"),
                (b":path", self._target),
                *self._common,
                (b"content-type", b"application/dns-message"),
                (b"content-length", b"%d" % length),
            ]
        return headers

    def get(self, target: str) -> list[tuple[bytes, bytes]]:
        """For a GET; its name would push all else out of the table, so it stays out."""
        path = NeverIndexedHeaderTuple(b":path", target.encode())
        return [(b":method", b"GET"), path, *self._common]

    @staticmethod
    def read(headers: list[tuple[bytes, bytes]]) -> tuple[int, str, str]:
        """Status, content type and age of a response."""
        status, content_type, age = 0, "", ""
        for name, value in headers:
            if name == b":status":
                status = int(value) if value.isdigit() else 0
            elif name == b"content-type":
                content_type = value.decode("latin-1")
            elif name == b"age":
                age = value.decode("latin-1")
        return status, content_type, age


class _Table(HeaderTable):
    """A table that knows whether it is still the same."""

    added: int = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.added += 1
        super().add(name, value)

    def state(self) -> tuple[int, int, int, bool]:
        """Equal for as long as a block means the same."""
        return self.added, self.maxsize, len(self.dynamic_entries), self.resized


class _MemoEncoder(Encoder):
    """Remembers the last header list that it coded without adding to its table."""

    header_table: _Table

    def __init__(self) -> None:
        super().__init__()
        self.header_table = _Table()
        self._last: tuple[Any, Any, bytes] = (None, None, b"")

    def encode(self, headers: Any, huffman: bool = True) -> bytes:
        state = self.header_table.state()
        last_state, last_headers, block = self._last
        if state == last_state and headers == last_headers:
            return block
        block = super().encode(headers, huffman)
        if state == self.header_table.state():
            self._last = (state, headers, block)
        return block


class _MemoDecoder(Decoder):
    """Remembers what blocks mean that do not add to its table."""

    header_table: _Table

    def __init__(self) -> None:
        super().__init__()
        self.header_table = _Table()
        self._state: Any = None
        self._memo: dict[bytes, list[Any]] = {}

    def decode(self, data: bytes, raw: bool = False) -> Iterable[Any]:
        state = self.header_table.state()
        if state != self._state or len(self._memo) > _MEMO:
            self._state = state
            self._memo.clear()
        elif (known := self._memo.get(data)) is not None:
            return known
        headers = list(super().decode(data, raw))
        if state == self.header_table.state():
            self._memo[data] = headers
        return headers
