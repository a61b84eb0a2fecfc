"""How a SQLite store's file keeps to its size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolverkit.stores import sqlite_rows as rows
from resolverkit.stores.sqlite_open import ask

if TYPE_CHECKING:
    import sqlite3

TRIM = 200
"""Records that are deleted at once when the file is full."""
VACUUM = 1000
"""Pages by which one write may shorten a file that is too long."""


def trim(connection: sqlite3.Connection, max_size: int, written: int) -> None:
    """Delete what was learnt the longest ago, when there is too much.

    No more than some twice of what was `written`: a bound that was lowered is reached
    by and by, and no write takes long.
    """
    page = ask(connection, "PRAGMA page_size")
    for _ in range(2 + 2 * written // TRIM):
        used = ask(connection, "PRAGMA page_count")
        used -= ask(connection, "PRAGMA freelist_count")
        if used * page <= max_size:
            return
        oldest = (ask(connection, rows.OLDEST, TRIM),)
        connection.execute(rows.SPARE, oldest)
        connection.execute(rows.TRIM, oldest)


def shorten(connection: sqlite3.Connection, max_size: int) -> None:
    """Cut free pages off a file that is too long."""
    most = max_size // ask(connection, "PRAGMA page_size")
    over = ask(connection, "PRAGMA page_count") - most
    if over > 0:
        # Each page is a step, of which `execute` takes only the first.
        connection.executescript(f"PRAGMA incremental_vacuum({min(over, VACUUM)})")
