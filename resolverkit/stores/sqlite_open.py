"""How a SQLite store's file is made, opened, recognised and set aside.

- Who opens or sets aside holds a lock on the directory meanwhile: else one process
  could open a new file while another still moves the old one's WAL.
- Only SQLite opens the file: closing any other descriptor of it would drop the locks of
  all connections that this process has to it (POSIX). Where it refuses, there are none.
- What is not ours is left alone. What is ours and damaged gets another name, and is
  deleted by nobody.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import sqlite3
import stat
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from resolverkit.errors import StoreError
from resolverkit.stores.sqlite_errors import Busy, code, damage
from resolverkit.stores.sqlite_rows import (
    APPLICATION,
    FROM_NEWEST,
    FROM_OLDEST,
    SCHEMA,
    TABLE,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from resolverkit.stores.sqlite_rows import Row

if sys.platform != "win32":
    import fcntl

BUSY = 0.1
"""Seconds that SQLite waits for a lock before other jobs have a turn."""
CACHE = 2048
"""KiB of pages that SQLite keeps, at most: what a batch changes, and hardly more, since
what is asked for often is in memory already."""
WAL_LIMIT = 4 * 2**20
"""Bytes that the WAL may keep on disk once its content is in the file."""
MAGIC = b"SQLite format 3\0"
"""What a database begins with: SQLite's file format, section 1.3."""
MIN_ROW = 40
"""Bytes that no row is shorter than."""

_SPOILT = (sqlite3.Error, UnicodeDecodeError)  # its messages have parts of the file
_log = logging.getLogger("resolverkit.sqlite")


@contextlib.contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Have nobody else open or set aside a store in `directory` meanwhile.

    Raises:
        Busy: somebody does just now.
        StoreError: there is no such directory.
    """
    _check_directory(directory)
    if sys.platform == "win32":  # where a file that is open cannot be moved at all
        yield
        return
    lock = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        time.sleep(BUSY / 10)
        raise Busy(f"{directory} is locked by another process") from None
    finally:
        os.close(lock)


def identify(path: Path) -> tuple[int, int] | None:
    """Which file is at `path`: device and inode; None if there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def create(path: Path) -> None:
    """See to a file for its owner only; SQLite gives the WAL the same mode.

    Raises:
        StoreError: there is something else than a file.
        OSError: it cannot be made.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        path.chmod(0o600)  # a umask can only have taken from it
    else:
        _check_kind(path, found)


def is_writable(path: Path) -> bool:
    """Whether the file can be written, and its WAL be made beside it."""
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


def connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """Open the file at `path`; an empty one becomes ours unless it is `read_only`.

    Raises:
        StoreError: it is another program's, a newer version's, or no database.
        sqlite3.Error: SQLite cannot open it.
    """
    try:
        return _connected(path, read_only=read_only)
    except sqlite3.DatabaseError as error:
        if code(error) == sqlite3.SQLITE_NOTADB and not _may_be_ours(path):
            raise StoreError(f"{path} is no database, and is left alone") from None
        raise


def _connected(path: Path, *, read_only: bool) -> sqlite3.Connection:
    if not read_only:
        return _checked(path, "mode=rw")
    try:
        return _checked(path, "mode=ro")
    except sqlite3.OperationalError as error:
        if code(error) != sqlite3.SQLITE_CANTOPEN or _wal(path).exists():
            raise
        # It wants to make a WAL. As there is none, the file is whole as it stands.
        return _checked(path, "mode=ro&immutable=1")


def _may_be_ours(path: Path) -> bool:
    """Whether what SQLite takes for no database is ours and damaged, by its header."""
    with path.open("rb") as file:
        header = file.read(100)
    identity = header[68:72]  # the application id: section 1.3.17
    return (
        header.startswith(MAGIC)
        or identity == APPLICATION.to_bytes(4)
        or not header.strip(b"\0")  # as a page that was never written
    )


def look_at(path: Path) -> None:
    """See whether a store could be opened at `path`, and make nothing there.

    Raises:
        StoreError: there is no such directory, or what is there is not ours.
        OSError: it cannot be looked at, or no file be made.
        sqlite3.Error: SQLite cannot read it.
    """
    _check_directory(path.parent)
    try:
        found = path.stat()
    except FileNotFoundError:
        if not os.access(path.parent, os.W_OK):
            raise StoreError(f"{path.parent} cannot be written") from None
        return
    _check_kind(path, found)
    if found.st_size:  # else it becomes ours
        close(connect(path, read_only=True))


def set_aside(path: Path, error: sqlite3.DatabaseError) -> Path:
    """Give the damaged file at `path` another name, which is told; hold `alone`.

    Raises:
        OSError: it cannot be renamed.
    """
    aside = next(
        name
        for number in itertools.count(1)
        if not os.path.lexists(name := path.with_name(f"{path.name}.corrupt-{number}"))
    )
    for end in ("-journal", "-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + end).rename(aside.with_name(aside.name + end))
    _log.warning(
        "%s is damaged (%s); it is kept as %s, and a new file begins",
        path, error, aside,
    )  # fmt: skip
    return aside


def saved(aside: Path, size: int) -> Generator[list[Row], None, None]:
    """What can be read of a damaged file, up to `size` rows at a time.

    From the newest row to the damage, then from the oldest.
    """
    # SQLite need not make a -shm if there is no WAL to be read.
    mode = "mode=ro" if _wal(aside).exists() else "mode=ro&immutable=1"
    with (
        contextlib.suppress(*_SPOILT),  # it is not the new file that is damaged
        contextlib.closing(_connection(aside, mode)) as connection,
    ):
        most = aside.stat().st_size // MIN_ROW  # a damaged tree may go in circles
        for statement in (FROM_NEWEST, FROM_OLDEST):
            rows: list[Row] = []
            try:
                for row in itertools.islice(connection.execute(statement), most):
                    rows.append(row)
                    if len(rows) == size:
                        yield rows
                        rows = []
            except _SPOILT:
                yield rows
            else:
                yield rows
                return


def close(connection: sqlite3.Connection) -> None:
    """Close a connection, in whatever state it is."""
    with contextlib.suppress(sqlite3.Error):
        connection.close()


def ask(connection: sqlite3.Connection, statement: str, *values: Any) -> Any:
    """The one value that `statement` gives, None without a row."""
    row = connection.execute(statement, values).fetchone()
    return None if row is None else row[0]


def _check_directory(directory: Path) -> None:
    if not directory.is_dir():
        raise StoreError(f"{directory} is no directory, and is not made for a store")


def _check_kind(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise StoreError(f"{path} is not a file, and is left alone")


def _wal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _connection(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"file:{quote(str(path))}?{mode}"
    return sqlite3.connect(
        # Closed by whichever thread is the last to know of it.
        uri, uri=True, timeout=BUSY, isolation_level=None, check_same_thread=False
    )  # fmt: skip


def _checked(path: Path, mode: str) -> sqlite3.Connection:
    connection = _connection(path, mode)
    try:
        connection.execute(f"PRAGMA cache_size = -{CACHE}")
        if mode == "mode=rw" and _is_blank(connection):
            _begin(connection)
        _check(connection, path)
        if mode == "mode=rw":
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT}")
    except BaseException:
        close(connection)
        raise
    return connection


def _is_blank(connection: sqlite3.Connection) -> bool:
    tables = ask(connection, "SELECT count(*) FROM sqlite_master")
    return tables == 0 and _identity(connection) == (0, 0)


def _identity(connection: sqlite3.Connection) -> tuple[int, int]:
    application = ask(connection, "PRAGMA application_id")
    return application, ask(connection, "PRAGMA user_version")


def _begin(connection: sqlite3.Connection) -> None:
    """Make an empty file ours; a kill leaves it empty or whole."""
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("BEGIN IMMEDIATE")
    if _is_blank(connection):  # nobody was faster, where directories have no locks
        connection.execute(TABLE)
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {SCHEMA}")
    connection.execute("COMMIT")


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Raise unless this is a whole file of ours."""
    application, version = _identity(connection)
    if application != APPLICATION:
        raise StoreError(f"{path} is another program's database, and is left alone")
    if version != SCHEMA:
        raise StoreError(
            f"{path} has schema {version}, of another version of resolverkit "
            f"(here it is {SCHEMA}), and is left alone"
        )
    table = "SELECT CAST(sql AS BLOB) FROM sqlite_master WHERE name = 'records'"
    if ask(connection, table) != TABLE.encode():
        raise damage("the table is not as it was made")
