"""Which keys a file may have, in two bytes a key: what spares most misses a read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

BITS = 16
"""Bits a key, at least: one key in 70 that is not there is looked for, at most."""
SHIFT = 29
"""Where in its hash a key's second bit begins."""
SMALLEST = 4096
"""Keys that there is room for at once."""


class Keys:
    """A table of bits, two of which are set by a key's hash: a Bloom filter.

    Nothing is ever taken out; who deletes fills a new one when this is crowded. One
    thread may add while another looks.

    Attributes:
        rows: keys that there is room for.
        mask: what of a hash says which bit is a key's.
        table: the bits.
    """

    __slots__ = ("_limit", "_set", "mask", "rows", "table")

    def __init__(self, rows: int) -> None:
        bits = max(rows, SMALLEST) * BITS
        size = 1 << (bits - 1).bit_length()
        self.rows: int = size // BITS
        self.mask: int = size - 1
        self.table: bytearray = bytearray(size // 8)
        self._set = 0
        self._limit = self.rows

    def __contains__(self, key: bytes) -> bool:
        found = hash(key)
        at = found & self.mask
        if not self.table[at >> 3] >> (at & 7) & 1:
            return False
        at = found >> SHIFT & self.mask
        return self.table[at >> 3] >> (at & 7) & 1 == 1

    def update(self, keys: Iterable[bytes]) -> None:
        """Take in some keys; one that is in already takes no room."""
        table, mask = self.table, self.mask
        for key in keys:
            found = hash(key)
            one, other = found & mask, found >> SHIFT & mask
            if not (
                table[one >> 3] >> (one & 7) & table[other >> 3] >> (other & 7) & 1
            ):
                table[one >> 3] |= 1 << (one & 7)
                table[other >> 3] |= 1 << (other & 7)
                self._set += 1

    @property
    def crowded(self) -> bool:
        """More keys are in than there is room for."""
        return self._set > self._limit

    def settle(self) -> None:
        """All are in: allow for a quarter more before this counts as crowded."""
        self._limit = max(self.rows, self._set * 5 // 4)
