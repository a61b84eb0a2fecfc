"""A record as stores keep it: ages, of which they make dates, and a body of bytes.

The body has a version, flags, the TTL, how long the answer took, who gave it, and the
message.

What comes back may have been written by anybody: it is a whole body of this version,
or nothing.
"""

from __future__ import annotations

import functools
import json
import struct

from resolverkit.record import Record, Said
from resolverkit.record_text import who_from

VERSION = 2
"""Of the body."""
MAX_BODY = 70_000
"""Bytes that it may have: the longest message, and who gave it."""
_MAX_WHO = 4096
"""Bytes of who gave an answer; what is longer is left out."""
_MAX_WIRE = 65_535
_MAX_TTL = 2**31 - 1
"""Seconds (RFC 2181 section 8)."""
_LONGEST_AGE = 10**15
"""Microseconds, thirty years: what is older counts as that old."""
_LONGEST = 2.0**53
"""Seconds: what a float tells apart."""
_HEAD = struct.Struct(">BBIdH")  # version, flags, TTL, seconds, bytes of who gave it
_DISPUTED = 1


def pack(record: Record) -> tuple[int, int, bytes] | None:
    """A record as a store takes it; None if its message is too long to be one.

    Returns:
        Microseconds since it was learnt; one more than microseconds since it is denied,
        or 0 where it is not; and the body.
    """
    _, wire, ttl, age, denied, said, disputed = record
    if len(wire) > _MAX_WIRE:
        return None
    who = _who(said[:5])
    head = _HEAD.pack(
        VERSION,
        _DISPUTED if disputed else 0,
        ttl if 0 <= ttl <= _MAX_TTL else _MAX_TTL if ttl > 0 else 0,
        said[5],
        len(who),
    )
    since = 0 if denied is None else micros(denied) + 1
    return micros(age), since, head + who + wire


def micros(seconds: float) -> int:
    """An age in whole microseconds."""
    return int(seconds * 1e6) if seconds < 1e9 else _LONGEST_AGE


@functools.lru_cache(maxsize=64)
def _who(who: tuple[str | int, ...]) -> bytes:
    """Who gave an answer, as JSON; as good as nobody if it is too long."""
    if not any(who):
        return b""
    text = json.dumps(who, ensure_ascii=False, separators=(",", ":"))
    # A lone surrogate, of a path or argument, would fail the batch that it is in.
    encoded = text.encode(errors="replace")
    return encoded if len(encoded) <= _MAX_WHO else b""


def unpack(key: bytes, body: bytes, age: float, denied: float | None) -> Record | None:
    """The record in a body; None for what `pack` did not make.

    Args:
        key: of its question.
        body: what follows the ages.
        age: seconds since it was learnt.
        denied: seconds since it is denied, None where it is not.
    """
    if not _HEAD.size <= len(body) <= MAX_BODY:
        return None
    version, flags, ttl, elapsed, size = _HEAD.unpack_from(body)
    wire = body[_HEAD.size + size :]
    if (
        version != VERSION
        or flags & ~_DISPUTED
        or ttl > _MAX_TTL
        or not 0 <= elapsed < _LONGEST  # nan, too
        or size > _MAX_WHO
        or not 0 < len(wire) <= _MAX_WIRE
    ):
        return None
    said = Said(elapsed=elapsed)
    if size:
        try:
            said = Said(*_who_from(body[_HEAD.size : _HEAD.size + size]), elapsed)
        except ValueError:
            return None
    return Record(key, wire, ttl, age, denied, said, bool(flags))


@functools.lru_cache(maxsize=64)
def _who_from(encoded: bytes) -> tuple[str, str, str, str, int]:
    try:
        return who_from(json.loads(encoded))
    except RecursionError:
        raise ValueError("nested too deep") from None
