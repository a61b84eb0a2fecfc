"""Header blocks of HTTP/2, decoded (RFC 7541).

hpack has the static table and Huffman's code. Its own decoder takes 10 µs and more for
a field, and servers that say how old or how long a reply is send few blocks twice.
"""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from typing import TYPE_CHECKING

from hpack import HPACKError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from resolverkit.transports.h2_frames import COMPRESSION_ERROR, Http2Error

if TYPE_CHECKING:
    from typing import TypeAlias

Field: TypeAlias = "tuple[bytes, bytes]"
"""Name and value."""

TABLE = 4096
"""Octets of the dynamic table: what everybody begins with (section 4.2)."""
MAX_LIST = 16_384
"""Octets of a header, as the table counts them."""
OVERHEAD = 32
"""Octets that a field counts for, beside its own (section 4.1)."""

_STATIC: tuple[Field, ...] = tuple(HeaderTable.STATIC_TABLE)
_LARGEST_SHIFT = 28  # integers of more octets than this are none that anybody needs
_SHORT = 64  # octets of text whose decoding is remembered
_short_text = lru_cache(maxsize=512)(decode_huffman)


class Decoder:
    """The decoder of one connection.

    Attributes:
        changes: how often the table has changed; until then a block means the same.
    """

    def __init__(self) -> None:
        self.changes: int = 0
        self._table: deque[Field] = deque()  # the newest first
        self._size = 0
        self._most = TABLE

    def decode(self, block: bytes) -> list[Field]:
        """The fields that a block stands for.

        Raises:
            Http2Error: it stands for nothing, or for too much.
        """
        try:
            return self._decode(block)
        except (HPACKError, IndexError) as error:  # it breaks off, or points nowhere
            raise _bad(str(error)) from None

    def _decode(self, block: bytes) -> list[Field]:
        fields: list[Field] = []
        pos, size = 0, 0
        while pos < len(block):
            first = block[pos]
            if first & 0x80:  # section 6.1
                index, pos = _integer(block, pos, 0x7F)
                field = self._find(index)
            elif first & 0x40:  # section 6.2.1
                field, pos = self._literal(block, pos, 0x3F)
                self._add(field)
            elif first & 0x20:  # section 6.3
                most, pos = _integer(block, pos, 0x1F)
                if fields or most > TABLE:
                    raise _bad(f"a table of {most} octets")
                self._most = most
                self._evict(most)
                continue
            else:  # sections 6.2.2 and 6.2.3
                field, pos = self._literal(block, pos, 0x0F)
            fields.append(field)
            size += len(field[0]) + len(field[1]) + OVERHEAD
            if size > MAX_LIST:
                raise _bad(f"more than {MAX_LIST} octets")
        return fields

    def _literal(self, block: bytes, pos: int, mask: int) -> tuple[Field, int]:
        index, pos = _integer(block, pos, mask)
        if index:
            name = self._find(index)[0]
        else:
            name, pos = _text(block, pos)
        value, pos = _text(block, pos)
        return (name, value), pos

    def _find(self, index: int) -> Field:
        if not index:
            raise _bad("index 0")
        if index <= len(_STATIC):
            return _STATIC[index - 1]
        return self._table[index - len(_STATIC) - 1]

    def _add(self, field: Field) -> None:
        """Section 4.4: one that is too large empties the table, and is no error."""
        size = len(field[0]) + len(field[1]) + OVERHEAD
        self._evict(self._most - size)
        if size <= self._most:
            self._table.appendleft(field)
            self._size += size

    def _evict(self, most: int) -> None:
        self.changes += 1
        while self._table and self._size > most:
            name, value = self._table.pop()
            self._size -= len(name) + len(value) + OVERHEAD


def _integer(block: bytes, pos: int, mask: int) -> tuple[int, int]:
    """Section 5.1; gives the position after it, too."""
    value = block[pos] & mask
    pos += 1
    if value < mask:
        return value, pos
    shift = 0
    while True:
        octet = block[pos]
        pos += 1
        value += (octet & 0x7F) << shift
        if octet < 0x80:
            return value, pos
        shift += 7
        if shift > _LARGEST_SHIFT:
            raise _bad("an integer without an end")


def _text(block: bytes, pos: int) -> tuple[bytes, int]:
    """Section 5.2; gives the position after it, too."""
    coded = block[pos] & 0x80
    size, pos = _integer(block, pos, 0x7F)
    text = block[pos : pos + size]
    if len(text) != size:
        raise _bad("it breaks off")
    if coded:
        text = _short_text(text) if size <= _SHORT else decode_huffman(text)
    return text, pos + size


def _bad(why: str) -> Http2Error:
    return Http2Error(COMPRESSION_ERROR, f"header: {why}")
