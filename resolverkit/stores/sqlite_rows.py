"""The table of a SQLite store: its statements, and rows from records and back.

Pure. Rows are not trusted: a disk, or who else has the file, may have changed them.
"""

from __future__ import annotations

import functools
import itertools
import zlib
from math import isfinite
from typing import TYPE_CHECKING, Any, TypeAlias

from resolverkit.record import Record, aged, said_from_text, said_to_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

APPLICATION = 0x726B6974
"""What SQLite's header says of whose file it is: "rkit"."""
SCHEMA = 1
"""The version of the table below, in SQLite's header too."""

TABLE = """CREATE TABLE records (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key BLOB NOT NULL UNIQUE,
    ttl INTEGER NOT NULL,
    learnt REAL NOT NULL,
    denied REAL,
    disputed INTEGER NOT NULL,
    said TEXT NOT NULL,
    crc INTEGER NOT NULL,
    wire BLOB NOT NULL,
    again INTEGER NOT NULL DEFAULT 0
)"""
# Text that is no UTF-8 would fail a whole SELECT, hence the cast.
_SELECT = """
    SELECT key, ttl, learnt, denied, disputed, CAST(said AS BLOB), crc, wire
    FROM records """
GET = _SELECT + "WHERE key = ?"
NEXT = _SELECT + "WHERE key > ? ORDER BY key LIMIT ?"
FROM_NEWEST = _SELECT + "ORDER BY id DESC"
FROM_OLDEST = _SELECT + "ORDER BY id"
COLUMNS = 8
"""In a row."""
AT_ONCE = (64, 8, 1)
"""Rows that one statement takes in: as many as there are, in few statements."""
KEYS = "SELECT id, key FROM records WHERE id > ? ORDER BY id LIMIT ?"
# ?3 is now. A mark whose date has not come yet would hold the record until then.
MARK = """
    UPDATE records SET denied = ?2 WHERE key = ?1
    AND (denied IS NULL OR denied > ?3) AND (learnt <= ?2 OR learnt > ?3)"""
REMOVE = "DELETE FROM records WHERE key = ?"
# Those that have been there the longest go, but for what was learnt again since it came
# or was last spared: that goes to the end. By dates a clock that jumps would delete.
OLDEST = "SELECT max(id) FROM (SELECT id FROM records ORDER BY id LIMIT ?)"
SPARE = """
    INSERT OR REPLACE INTO records
        (key, ttl, learnt, denied, disputed, said, crc, wire)
    SELECT key, ttl, learnt, denied, disputed, said, crc, wire
    FROM records WHERE id <= ? AND again ORDER BY id"""
TRIM = "DELETE FROM records WHERE id <= ?"

Row: TypeAlias = tuple[Any, ...]
"""What a SELECT gives and `put` takes; of any types in a damaged file."""


@functools.cache
def put(count: int) -> str:
    """The statement that takes in so many rows, and now at the end.

    What was learnt or denied later stays, unless its date has not come yet. Several
    rows at once, since between two statements threads change places: that costs more
    than the rows do.
    """
    values = ", ".join(["(?, ?, ?, ?, ?, CAST(? AS TEXT), ?, ?)"] * count)
    now = f"?{COLUMNS * count + 1}"
    return f"""
        INSERT INTO records (key, ttl, learnt, denied, disputed, said, crc, wire)
        VALUES {values}
        ON CONFLICT (key) DO UPDATE SET
            ttl = excluded.ttl, learnt = excluded.learnt, denied = excluded.denied,
            disputed = excluded.disputed, said = excluded.said, crc = excluded.crc,
            wire = excluded.wire, again = 1
        WHERE NOT (learnt > excluded.learnt AND learnt <= {now}
                   OR coalesce(denied > excluded.learnt AND denied <= {now}, 0))"""  # noqa: S608 - made of numbers


def puts(rows: Sequence[Row], now: float) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Statements that take in all of `rows`, with their values."""
    start = 0
    while start < len(rows):
        count = next(size for size in AT_ONCE if size <= len(rows) - start)
        some = rows[start : start + count]
        yield put(count), (*itertools.chain.from_iterable(some), now)
        start += count


def row_of(record: Record, now: float) -> Row:
    """The row that keeps `record`, with dates on the wall clock that says `now`."""
    key, wire, ttl, age, denied, said, disputed = record
    return (
        key,
        ttl,
        now - age,
        None if denied is None else now - denied,
        disputed,
        # A lone surrogate, of a path or argument, would fail the batch that it is in.
        said_to_text(said).encode(errors="replace"),
        checksum(key, ttl, wire),
        wire,
    )


def record_of(row: Row, now: float) -> Record | None:
    """The record in `row`, None if it is damaged."""
    key, ttl, learnt, denied, disputed, said, crc, wire = row
    try:
        if checksum(key, ttl, wire) != crc or not isfinite(learnt):
            return None
        if denied is not None:
            denied = max(now - denied, 0.0)
            if not isfinite(denied):
                return None
        who = said_from_text(said.decode())
    except (TypeError, ValueError, AttributeError, RecursionError):
        return None
    return Record(key, wire, ttl, aged(learnt, ttl, now), denied, who, bool(disputed))


def records_of(rows: Iterable[Row], now: float) -> list[Record]:
    """The records in `rows`, but for damaged ones."""
    return [record for row in rows if (record := record_of(row, now)) is not None]


def checksum(key: bytes, ttl: int, wire: bytes) -> int:
    """What tells a flipped bit: SQLite has no checksums, and any bits are an address.

    Raises:
        TypeError: they are of other types.
    """
    return zlib.crc32(wire, zlib.crc32(key, ttl))  # starting from the TTL checks it too
