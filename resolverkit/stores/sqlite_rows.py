"""The table of a SQLite store: its statements, and rows from records and back.

Pure. Rows are not trusted: a disk, or who else has the file, may have changed them.
"""

from __future__ import annotations

import zlib
from math import isfinite
from typing import TYPE_CHECKING, Any, TypeAlias

from resolverkit.record import Record, aged
from resolverkit.stores.packed import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

APPLICATION = 0x726B6974
"""What SQLite's header says of whose file it is: "rkit"."""
SCHEMA = 2
"""The version of the table below, in SQLite's header too."""

TABLE = """CREATE TABLE records (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key BLOB NOT NULL UNIQUE,
    learnt REAL NOT NULL,
    denied REAL,
    body BLOB NOT NULL,
    crc INTEGER NOT NULL,
    again INTEGER NOT NULL DEFAULT 0
)"""
# Text that is no UTF-8 would fail a whole SELECT, hence the cast.
_SELECT = "SELECT key, learnt, denied, CAST(body AS BLOB), crc FROM records "
GET = _SELECT + "WHERE key = ?"
NEXT = _SELECT + "WHERE key > ? ORDER BY key LIMIT ?"
FROM_NEWEST = _SELECT + "ORDER BY id DESC"
FROM_OLDEST = _SELECT + "ORDER BY id"
KEYS = "SELECT id, key FROM records WHERE id > ? ORDER BY id LIMIT ?"
# One value with many records, which SQLite takes apart: to hand over each column of
# each record costs twice what it costs to store them, and threads would change places
# between the statements. An item of it: 6 digits with its size, 4 with that of the key,
# 10 with the checksum, twice 16 with ages as `pack` has them, then key and body. ?2 is
# now. What was learnt or denied later stays, unless its date has not come yet.
PUT = """
    WITH RECURSIVE item(at, size, named) AS (
        SELECT 1, CAST(substr(?1, 1, 6) AS INTEGER), CAST(substr(?1, 7, 4) AS INTEGER)
        UNION ALL
        SELECT at + size,
            CAST(substr(?1, at + size, 6) AS INTEGER),
            CAST(substr(?1, at + size + 6, 4) AS INTEGER)
        FROM item WHERE at + size < length(?1)
    )
    INSERT INTO records (key, learnt, denied, body, crc)
    SELECT
        substr(?1, at + 52, named),
        ?2 - CAST(substr(?1, at + 20, 16) AS INTEGER) / 1e6,
        ?2 - (nullif(CAST(substr(?1, at + 36, 16) AS INTEGER), 0) - 1) / 1e6,
        substr(?1, at + 52 + named, size - 52 - named),
        CAST(substr(?1, at + 10, 10) AS INTEGER)
    FROM item WHERE true
    ON CONFLICT (key) DO UPDATE SET
        learnt = excluded.learnt, denied = excluded.denied,
        body = excluded.body, crc = excluded.crc, again = 1
    WHERE NOT (learnt > excluded.learnt AND learnt <= ?2
               OR coalesce(denied > excluded.learnt AND denied <= ?2, 0))"""
MOST = 2**20
"""Bytes of one value, or some more."""
# ?3 is now. A mark whose date has not come yet would hold the record until then.
MARK = """
    UPDATE records SET denied = ?2 WHERE key = ?1
    AND (denied IS NULL OR denied > ?3) AND (learnt <= ?2 OR learnt > ?3)"""
REMOVE = "DELETE FROM records WHERE key = ?"
# Those that have been there the longest go, but for what was learnt again since it came
# or was last spared: that goes to the end. By dates a clock that jumps would delete.
OLDEST = "SELECT max(id) FROM (SELECT id FROM records ORDER BY id LIMIT ?)"
SPARE = """
    INSERT OR REPLACE INTO records (key, learnt, denied, body, crc)
    SELECT key, learnt, denied, body, crc FROM records WHERE id <= ? AND again
    ORDER BY id"""
TRIM = "DELETE FROM records WHERE id <= ?"

Row: TypeAlias = tuple[Any, ...]
"""What a SELECT gives; of any types in a damaged file."""


def values_of(records: Iterable[Record]) -> Iterator[bytes]:
    """The values of which `PUT` takes one, with all of `records` but those too long."""
    items: list[bytes] = []
    size = 0
    for record in records:
        packed = pack(record)
        if packed is None:
            continue
        age, denied, body = packed
        key = record.key
        length = 52 + len(key) + len(body)
        items.append(
            b"%06d%04d%010d%016d%016d%b%b"
            % (length, len(key), checksum(key, body), age, denied, key, body)
        )
        size += length
        if size >= MOST:
            yield b"".join(items)
            items, size = [], 0
    if items:
        yield b"".join(items)


def record_of(row: Row, now: float) -> Record | None:
    """The record in `row`, None if it is damaged."""
    key, learnt, denied, body, crc = row
    try:
        if checksum(key, body) != crc or not isfinite(learnt):
            return None
        if denied is not None:
            denied = max(now - denied, 0.0)
            if not isfinite(denied):
                return None
    except TypeError:
        return None
    record = unpack(key, body, 0.0, denied)
    if record is None:
        return None
    return record._replace(age=aged(learnt, record.ttl, now))


def records_of(rows: Iterable[Row], now: float) -> list[Record]:
    """The records in `rows`, but for damaged ones."""
    return [record for row in rows if (record := record_of(row, now)) is not None]


def checksum(key: bytes, body: bytes) -> int:
    """What tells a flipped bit: SQLite has no checksums, and any bits are an address.

    Raises:
        TypeError: they are of other types.
    """
    return zlib.crc32(body, zlib.crc32(key))
