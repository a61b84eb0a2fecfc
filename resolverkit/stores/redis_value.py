"""What a Redis server keeps of a record, and the scripts that decide there.

A value begins with two dates in microseconds of the server's clock, 16 digits each, so
that scripts can read them: when it was learnt, and since when it is denied (zeros: not
at all). Then follow a version, flags, the TTL, who gave it and the message. Another
version may change what follows the dates, not the dates.

What comes back may have been written by anybody: it is a whole value of this version,
or nothing.
"""

from __future__ import annotations

import hashlib
import struct
from typing import NamedTuple

from resolverkit.record import (
    Record,
    Said,
    aged,
    said_from_text,
    said_to_text,
)

VERSION = 1
"""Of all that follows the dates."""
MAX_VALUE = 70_000
"""Bytes that a value may have: the longest message, and who gave it."""
_MAX_SAID = 4096
"""Bytes of who gave an answer; what is longer is left out."""
_MAX_WIRE = 65_535
_MAX_TTL = 2**31 - 1
"""Seconds (RFC 2181 section 8)."""
_LONGEST_AGE = 1e9
"""Seconds, thirty years: what is older counts as that old."""
_DATES = 32
_HEAD = struct.Struct(">BBIH")  # version, flags, TTL, bytes of who gave it
_DISPUTED = 1


class Script(NamedTuple):
    """A script, and the name by which a server knows it once it was sent."""

    text: str
    sha: str


def _script(text: str) -> Script:
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


FETCH = _script("""\
-- KEYS, ARGV: most bytes -> seconds, microseconds, then a value or nil for each key
local found = redis.call('TIME')
for i, key in ipairs(KEYS) do
  local size = redis.pcall('STRLEN', key)
  local good = type(size) == 'number' and size > 0 and size <= tonumber(ARGV[1])
  found[i + 2] = good and redis.call('GET', key)
end
return found
""")
"""Reads values with the time; nil for what is of another type, or too long."""

# A change that lay in the buffers of a server that was stopped is dated when it was
# sent: an age says nothing without the time at which it was true.
_DATE = """\
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local sent = math.min(now, tonumber(ARGV[1]))
local function read(key)
  local old = redis.pcall('GETRANGE', key, 0, 31)
  local dated = #old == 32 and not string.find(old, '%D')  -- an error has no length
  if not dated then return end
  return tonumber(string.sub(old, 1, 16)), tonumber(string.sub(old, 17))
end
"""

LEARN = _script(
    "-- KEYS, ARGV: sent, then for each key what `learning` gives\n"
    + _DATE
    + """\
for i, key in ipairs(KEYS) do
  local given = ARGV[i + 1]
  local date = sent - tonumber(string.sub(given, 1, 16))
  local function later(other) return other and other > date and other <= now end
  local learnt, denied = read(key)
  if not later(learnt) and not later(denied) then
    local mark = tonumber(string.sub(given, 17, 32))
    if mark > 0 then mark = math.max(sent - mark + 1, 1) end
    local dates = string.format('%016.0f%016.0f', math.max(date, 0), mark)
    local lifetime = tonumber(string.sub(given, 33, 48))
    redis.call('SET', key, dates .. string.sub(given, 49), 'PX', lifetime)
  end
end
return 1
"""
)
"""Stores records, unless what is there was learnt or denied later."""

DENY = _script(
    "-- KEYS: one, ARGV: sent, age\n"
    + _DATE
    + """\
local date = sent - ARGV[2]
local learnt, denied = read(KEYS[1])
if not learnt or (learnt > date and learnt <= now) then return 0 end
if denied > 0 and denied <= now then return 0 end
redis.call('SETRANGE', KEYS[1], 16, string.format('%016.0f', math.max(date, 1)))
return 1
"""
)
"""Marks what was learnt before as denied, if it is not marked yet."""


def micros(seconds: float) -> int:
    """An age in whole microseconds."""
    return int(min(seconds, _LONGEST_AGE) * 1_000_000)


def learning(record: Record, lifetime: int) -> bytes | None:
    """What `LEARN` takes for a record; None for a message that is too long to be one.

    Args:
        record: what is to be kept.
        lifetime: milliseconds for which it is.
    """
    value = pack(record)
    if value is None:
        return None
    denied = 0 if record.denied is None else micros(record.denied) + 1
    return b"%016d%016d%016d" % (micros(record.age), denied, lifetime) + value


def pack(record: Record) -> bytes | None:
    """What follows the dates; None for a message that is too long to be one."""
    if len(record.wire) > _MAX_WIRE:
        return None
    who = b""
    if record.said != Said():
        who = said_to_text(record.said).encode("utf-8", "replace")
    if len(who) > _MAX_SAID:
        who = b""
    ttl = min(max(record.ttl, 0), _MAX_TTL)
    flags = _DISPUTED if record.disputed else 0
    return _HEAD.pack(VERSION, flags, ttl, len(who)) + who + record.wire


def unpack(key: bytes, value: bytes, now: int) -> Record | None:
    """The record in a value; None for what `LEARN` did not write.

    Args:
        key: of its question.
        value: as the server has it.
        now: microseconds of the server's clock.
    """
    dates, body = value[:_DATES], _DATES + _HEAD.size
    if not body <= len(value) <= MAX_VALUE or not dates.isdigit():
        return None
    version, flags, ttl, size = _HEAD.unpack_from(value, _DATES)
    wire = value[body + size :]
    if (
        version != VERSION
        or flags & ~_DISPUTED
        or ttl > _MAX_TTL
        or size > _MAX_SAID
        or not 0 < len(wire) <= _MAX_WIRE
    ):
        return None
    try:
        who = value[body : body + size].decode()
        said = said_from_text(who) if who else Said()
    except (ValueError, OverflowError, RecursionError):
        return None
    learnt, denied = int(dates[:16]), int(dates[16:])
    return Record(
        key,
        wire,
        ttl,
        aged(learnt, ttl * 1_000_000, now) / 1_000_000,
        max(now - denied, 0) / 1_000_000 if denied else None,
        said,
        bool(flags & _DISPUTED),
    )
