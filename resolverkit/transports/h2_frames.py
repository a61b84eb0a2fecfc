"""Frames of HTTP/2, and the errors that end a connection (RFC 9113)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Section 6.
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0, 1, 2, 3, 4
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 5, 6, 7, 8, 9
END_STREAM = ACK = 1
END_HEADERS, PADDED, PRIORITIZED = 4, 8, 32

# Section 6.5.2.
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS = 1, 2, 3
INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 4, 5, 6

# Section 7.
PROTOCOL_ERROR, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR = 1, 3, 6
REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 7, 8, 9, 11

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends first (section 3.4)."""
LEAST_FRAME = 16_384
"""Octets of payload that everybody takes; we take no more (section 4.2)."""
MOST_FRAME = (1 << 24) - 1
MAX_NUMBER = (1 << 31) - 1
"""Of streams, and octets of a window (sections 5.1.1 and 6.9.1)."""
WINDOW = 65_535
"""Octets of every window at first (section 6.9.2)."""

pack_head: Callable[[int, int, int], bytes] = struct.Struct(
    "!IBI"
).pack  # length and type share four octets
read_head: Callable[..., tuple[int, ...]] = struct.Struct("!HBHI").unpack_from
"""Length in two parts; type and flags; stream."""
pack_number: Callable[[int], bytes] = struct.Struct("!I").pack
pack_setting: Callable[[int, int], bytes] = struct.Struct("!HI").pack
read_settings: Callable[[bytes], Iterator[Any]] = struct.Struct("!HI").iter_unpack


class Http2Error(Exception):
    """What the server sent ends the connection (section 5.4.1)."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code: int = code


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return pack_head(len(payload) << 8 | kind, flags, stream) + payload


def number_in(payload: bytes) -> int:
    """What a payload of 31 bits says; they come after one that is reserved."""
    return int.from_bytes(payload[:4], "big") & MAX_NUMBER


def unpadded(payload: bytes) -> bytes:
    """The payload of a frame with the flag PADDED (section 6.1)."""
    if not payload or payload[0] >= len(payload):
        raise Http2Error(PROTOCOL_ERROR, "more padding than there is in a frame")
    return payload[1 : len(payload) - payload[0]]
