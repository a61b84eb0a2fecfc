"""Header fields on one HTTP/2 connection (RFC 7541).

All requests have the same header and most responses do, so that on a warm connection
their blocks are the same octets, and are coded once. A block means the same for as long
as the table that it refers to does (section 2.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpack import Encoder, NeverIndexedHeaderTuple

from resolverkit.transports.h2_blocks import TABLE, Decoder
from resolverkit.transports.response import MEDIA_TYPE, Head

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hpack.table import HeaderTable

_MEMO = 64  # blocks kept
_CONNECTION = frozenset(  # fields that HTTP/2 has not (RFC 9113 section 8.2.2)
    (
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"transfer-encoding",
        b"upgrade",
    )
)
_MEDIA_TYPE = MEDIA_TYPE.encode()


class Requests:
    """The headers of requests to one server: no more than what is needed."""

    def __init__(self, authority: str, target: str) -> None:
        self._encoder = Encoder()
        self._table: HeaderTable = self._encoder.header_table
        self._common = [
            (b":scheme", b"https"),
            (b":authority", authority.encode()),
            (b"accept", _MEDIA_TYPE),
        ]
        self._post = [(b":method", b"POST"), (b":path", target.encode()), *self._common]
        self._posts: dict[int, bytes] = {}

    def post(self, length: int) -> bytes:
        """For a body of that length; nearly all queries are padded to the same."""
        block = self._posts.get(length)
        if block is None:
            resized = self._table.resized
            before = _state(self._table)
            block = self._encoder.encode(
                [
                    *self._post,
                    (b"content-type", _MEDIA_TYPE),
                    NeverIndexedHeaderTuple(b"content-length", b"%d" % length),
                ]
            )
            if resized or _state(self._table) != before or len(self._posts) >= _MEMO:
                self._posts.clear()
            else:
                self._posts[length] = block
        return block

    def get(self, target: str) -> bytes:
        """For a GET; its name would push all else out of the table, so it stays out."""
        path = NeverIndexedHeaderTuple(b":path", target.encode())
        self._posts.clear()
        return self._encoder.encode([(b":method", b"GET"), path, *self._common])

    def resize(self, octets: int) -> None:
        """The server says how large our table may be.

        hpack keeps every change for the next block, and loses one that is said twice;
        the smallest and the last are to be there (RFC 7541 section 4.2).
        """
        size, encoder = min(octets, TABLE), self._encoder
        if size != self._table.maxsize:
            encoder.header_table_size = size
            changes = encoder.table_size_changes
            changes[:] = sorted({min(changes), size})
            self._posts.clear()


class Responses:
    """The headers of responses.

    Attributes:
        known: what blocks mean, as long as the table stays as it is.
    """

    def __init__(self) -> None:
        self.known: dict[bytes, Head] = {}
        self._decoder = Decoder()

    def read(self, block: bytes) -> Head:
        """The header, or trailers, that a block stands for.

        Raises:
            Http2Error: the table is not what the server takes it for any longer.
        """
        head = self.known.get(block)
        if head is None:
            decoder = self._decoder
            before = decoder.changes
            head = _head_of(decoder.decode(block))
            if decoder.changes != before or len(self.known) >= _MEMO:
                self.known.clear()
            else:
                self.known[block] = head
        return head


def _state(table: HeaderTable) -> tuple[object, ...]:
    """Equal for as long as a block means, and does, the same."""
    return table.maxsize, *table.dynamic_entries


def _head_of(fields: Iterable[tuple[bytes, bytes]]) -> Head:
    """Four fields are of use; what must not be there is a fault (RFC 9113 8.2, 8.3)."""
    status, content_type, age, fault = 0, "", "", ""
    length: int | None = None
    regular = False
    for name, value in fields:
        if name == b":status":
            if status or regular or len(value) != 3 or not value.isdigit():
                fault = "a status out of place"
            else:
                status = int(value)
        elif name[:1] == b":":
            fault = "a pseudo-field that responses do not have"
        elif name in _CONNECTION or name != name.lower() or not name:
            fault = "a field that HTTP/2 does not have"
        else:
            regular = True
            if name == b"content-type":
                content_type = value.decode("latin-1")
            elif name == b"age":
                age = value.decode("latin-1")
            elif name == b"content-length":
                if not value.isdigit() or length not in (None, int(value[:10])):
                    fault = "a content length that is none"
                else:
                    length = int(value[:10])
    return Head(status, content_type, age, length, fault)
