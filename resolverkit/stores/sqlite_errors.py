"""What SQLite's errors mean for a store, and what is told of them."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from resolverkit.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_SAID = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "it is read-only",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
    sqlite3.SQLITE_CORRUPT: "it is damaged",
    sqlite3.SQLITE_NOTADB: "it is damaged",
}


class Busy(StoreError):
    """Another process holds a lock; it is worth another try soon."""


def code(error: sqlite3.Error) -> int:
    """SQLite's primary error code; 0 for errors of the module itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def damage(what: str) -> sqlite3.DatabaseError:
    """The error of a file that is damaged in a way that SQLite does not see."""
    error = sqlite3.DatabaseError(what)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def is_damage(error: sqlite3.Error) -> bool:
    """Whether it says that the file is damaged, or the connection's view of it."""
    return code(error) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def is_lasting(error: sqlite3.Error) -> bool:
    """Whether any other connection would meet it too."""
    return code(error) in {*_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY}


def told(path: Path, error: sqlite3.Error) -> StoreError:
    """The same for who uses a store: what is wrong with which file."""
    number = code(error)
    if number in _BUSY:
        return Busy(f"{path} is locked by another process")
    what = _SAID.get(number, "it cannot be used")
    return StoreError(f"{path}: {what} ({error}); memory goes on without it")
