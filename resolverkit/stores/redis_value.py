"""What a Redis server keeps of a record, and the scripts that decide there.

A value begins with two dates in microseconds of the server's clock, 16 digits each, so
that scripts can read them: when it was learnt, and since when it is denied (zeros: not
at all). Then follows a body: see `resolverkit.stores.packed`.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from resolverkit.record import Record, aged
from resolverkit.stores.packed import MAX_BODY, pack, unpack

DATES = 32
"""Bytes before the body."""
MAX_VALUE = DATES + MAX_BODY
"""Bytes that a value may have."""


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
  local date = sent - tonumber(string.sub(given, 17, 32))
  local function later(other) return other and other > date and other <= now end
  local learnt, denied = read(key)
  if not later(learnt) and not later(denied) then
    local mark = tonumber(string.sub(given, 33, 48))
    if mark > 0 then mark = math.max(sent - mark + 1, 1) end
    local dates = string.format('%016.0f%016.0f', math.max(date, 0), mark)
    local lifetime = tonumber(string.sub(given, 1, 16))
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


def learning(record: Record, lifetime: int) -> bytes | None:
    """What `LEARN` takes for a record; None for a message that is too long to be one.

    Args:
        record: what is to be kept.
        lifetime: milliseconds for which it is.
    """
    packed = pack(record)
    return None if packed is None else b"%016d%016d%016d%b" % (lifetime, *packed)


def record_of(key: bytes, value: bytes, now: int) -> Record | None:
    """The record in a value; None for what `LEARN` did not write.

    Args:
        key: of its question.
        value: as the server has it.
        now: microseconds of the server's clock.
    """
    dates = value[:DATES]
    if len(dates) < DATES or not dates.isdigit():
        return None
    learnt, denied = int(dates[:16]), int(dates[16:])
    since = max(now - denied, 0) / 1_000_000 if denied else None
    record = unpack(key, value[DATES:], 0.0, since)
    if record is None:
        return None
    age = aged(learnt, record.ttl * 1_000_000, now) / 1_000_000
    return record._replace(age=age)
