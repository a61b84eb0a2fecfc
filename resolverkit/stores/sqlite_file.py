"""One SQLite file of records: how it is read, written and kept to its size.

Blocking: `resolverkit.stores.sqlite` runs it on a worker. All that goes wrong is told
as a `StoreError`.

- A row's id grows each time that its key is learnt. So the lowest ids were learnt the
  longest ago, whatever the clocks did, and go first when the file is full; and what any
  process has added since has a higher id than all that was seen.
- The path may lead to another file than the one that is open, if a process has set that
  aside: each job looks first.
- No connection crosses a fork: SQLite's locks do not.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import operator
import os
import sqlite3
import threading
import weakref
from typing import TYPE_CHECKING, TypeVar

from resolverkit.errors import StoreError
from resolverkit.record import Denied, Record
from resolverkit.stores import sqlite_rows as rows
from resolverkit.stores.keys import Keys
from resolverkit.stores.sqlite_errors import damage, is_damage, is_lasting, told
from resolverkit.stores.sqlite_open import (
    alone,
    ask,
    close,
    connect,
    create,
    identify,
    is_writable,
    saved,
    set_aside,
)
from resolverkit.stores.sqlite_size import shorten, trim

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from pathlib import Path

    from resolverkit.record import Change
    from resolverkit.stores.sqlite_rows import Row

SLICE = 500
"""Rows that are read or saved before other jobs have a turn: about 1 ms."""
ROW_BYTES = 400
"""What a record takes in the file: a first guess, on the high side."""

T = TypeVar("T")

_log = logging.getLogger("resolverkit.sqlite")
_key = operator.attrgetter("key")


class File:
    """The file at a path. Its methods are jobs for one thread.

    Attributes:
        known: the keys that it may have; None while that is not known.
    """

    def __init__(self, path: Path, max_size: int) -> None:
        self.known: Keys | None = None
        self._path = path
        self._max_size = max_size
        self._lock = threading.Lock()  # held by a job, and by a fork
        self._open = False
        self._connection: sqlite3.Connection | None = None
        self._close: Callable[[], object] = lambda: None
        self._inode: tuple[int, int] | None = None  # of what is, or was, connected
        self._read_only = False
        self._suspect = False  # damage was seen, maybe the connection's only
        self._keys = Keys(0)  # what `known` is, or will be once all are read
        self._seen = 0  # the highest id whose key is in there
        self._version: int | None = None  # SQLite's data_version when all were read
        self._saving: Generator[list[Row], None, None] | None = None
        with _forking:
            _files.add(self)

    def open(self) -> None:
        """Open the file, or begin a new one. One that was read-only is tried again."""
        with self._lock:
            self._open = True
            if self._read_only:
                self._disconnect()
        self._do(lambda _: None)

    def fetch(self, keys: Sequence[bytes], now: float) -> dict[bytes, Record]:
        """The records under some keys."""

        def job(connection: sqlite3.Connection) -> list[Row]:
            execute = connection.execute
            found = [execute(rows.GET, (key,)).fetchone() for key in keys]
            return [row for row in found if row is not None]

        return {record.key: record for record in rows.records_of(self._do(job), now)}

    def next(self, key: bytes, now: float) -> tuple[list[Record], bytes | None]:
        """Some records in the order of keys after `key`, and the key to go on from."""

        def job(connection: sqlite3.Connection) -> list[Row]:
            found = connection.execute(rows.NEXT, (key, SLICE)).fetchall()
            if found and not (isinstance(found[-1][0], bytes) and found[-1][0] > key):
                raise damage("keys out of order")  # it would never end
            return found

        found = self._do(job)
        return rows.records_of(found, now), found[-1][0] if found else None

    def write(self, changes: Sequence[Change], now: float) -> None:
        """Take in all of `changes` or none, and keep to the size."""

        def job(connection: sqlite3.Connection) -> None:
            with self._writing(connection):
                for _, alike in itertools.groupby(changes, type):
                    self._take(connection, list(alike), now)
                trim(connection, self._max_size, len(changes))
            shorten(connection, self._max_size)

        self._do(job)

    def remove(self, keys: Sequence[bytes]) -> int:
        """Delete what is under some keys; gives how many there were."""

        def job(connection: sqlite3.Connection) -> int:
            with self._writing(connection):
                execute = connection.execute
                return sum(execute(rows.REMOVE, (key,)).rowcount for key in keys)

        return self._do(job)

    def chore(self, now: float) -> bool:
        """A slice of what can wait: rows to save, keys to read. True if more is left.

        Raises nothing: who needs the file will be told what is wrong with it.
        """
        try:
            return self._do(lambda connection: self._slice(connection, now))
        except StoreError as error:
            _log.debug("%s", error)
            self.known = None  # there may be keys that were not seen
            return False

    def close(self) -> None:
        """Bring the WAL into the file, as far as other processes let us, and close."""
        with self._lock:
            self._open = False
            if self._connection is not None and not self._read_only:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._disconnect()

    def _do(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """What `job` gives, of a file that was mended if need be."""
        with self._lock:
            if not self._open:
                raise StoreError(f"{self._path} is not open")
            try:
                for _ in range(2):
                    try:
                        return job(self._ready())
                    except UnicodeDecodeError:  # SQLite's message has parts of the file
                        self._mend(damage("the schema is no text"))
                    except sqlite3.DatabaseError as error:
                        if not is_damage(error):
                            raise
                        self._mend(error)
                return job(self._ready())
            except sqlite3.Error as error:
                if not is_lasting(error):  # a new connection may do better
                    self._disconnect()
                raise told(self._path, error) from error
            except OSError as error:
                raise StoreError(
                    f"{self._path}: {error.strerror}; memory goes on without it"
                ) from error

    def _mend(self, error: sqlite3.DatabaseError) -> None:
        """Connect again. Damage that a new connection sees too is the file's."""
        if self._read_only:
            raise error
        self._disconnect()
        self._suspect = not self._suspect
        if not self._suspect:
            self._set_aside(error)

    def _ready(self) -> sqlite3.Connection:
        """A connection to what is at the path now."""
        if self._connection is not None and self._inode != identify(self._path):
            self._disconnect()
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        with alone(self._path.parent):
            create(self._path)
            self._inode = identify(self._path)
            self._read_only = not is_writable(self._path)
            size = self._path.stat().st_size
            connection = connect(self._path, read_only=self._read_only)
        # Called when this dies, too, and at exit: nobody need close a store.
        self._close = weakref.finalize(self, close, connection)
        self._begin(size // ROW_BYTES)
        return connection

    def _disconnect(self) -> None:
        self._close()
        self._connection = None
        self.known = None
        if self._saving is not None:
            self._saving.close()
            self._saving = None

    def _set_aside(self, error: sqlite3.DatabaseError) -> None:
        """Give a damaged file another name, and have its rows saved."""
        with alone(self._path.parent):
            if identify(self._path) == self._inode:  # else another process was faster
                self._saving = saved(set_aside(self._path, error), SLICE)

    @contextlib.contextmanager
    def _writing(self, connection: sqlite3.Connection) -> Iterator[None]:
        """A transaction."""
        if self._read_only:
            raise StoreError(
                f"{self._path} is read-only; what is learnt stays in memory"
            )
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # SQLite ends it by itself on some errors
                connection.execute("ROLLBACK")
            raise

    def _take(
        self, connection: sqlite3.Connection, alike: list[Change], now: float
    ) -> None:
        """Write changes of one kind."""
        records = [change for change in alike if isinstance(change, Record)]
        self._put(connection, records, now)
        marks = [
            (change.key, now - change.age, now)
            for change in alike
            if isinstance(change, Denied)
        ]
        connection.executemany(rows.MARK, marks)

    def _put(
        self, connection: sqlite3.Connection, records: Sequence[Record], now: float
    ) -> None:
        keys = [record.key for record in records]
        self._keys.update(keys)
        if self.known is not None and self.known is not self._keys:
            self.known.update(keys)  # it serves while a new one is filled
        # In the order of the index, whose pages are looked up once. Two of one key stay
        # as they are: sorting is stable.
        for value in rows.values_of(sorted(records, key=_key)):
            connection.execute(rows.PUT, (value, now))

    def _slice(self, connection: sqlite3.Connection, now: float) -> bool:
        if self._saving is not None:
            self._save(connection, self._saving, now)
            return True
        version = ask(connection, "PRAGMA data_version")  # another when others wrote
        if version != self._version or self.known is not self._keys:
            if self._read_on(connection):
                return True
            self._version = version
        if self._keys.crowded:  # maybe with keys that are gone by now
            self._begin(self._keys.rows)
            return True
        return False

    def _begin(self, room: int) -> None:
        """Read the keys from the start; an old table serves until all are read."""
        self._keys = Keys(room)
        self._seen = 0

    def _read_on(self, connection: sqlite3.Connection) -> bool:
        """Take in a slice of keys that were not seen yet. True if there may be more."""
        found = connection.execute(rows.KEYS, (self._seen, SLICE)).fetchall()
        if found and found[-1][0] <= self._seen:
            raise damage("ids out of order")  # it would never end
        for self._seen, key in found:
            self._keys.update((key,))
        if len(found) == SLICE:
            if self._keys.crowded and self.known is not self._keys:
                self._begin(2 * self._keys.rows)
            return True
        if self.known is not self._keys:
            self._keys.settle()
            self.known = self._keys
            self._suspect = False  # the whole table was read
        return False

    def _save(
        self,
        connection: sqlite3.Connection,
        saving: Generator[list[Row], None, None],
        now: float,
    ) -> None:
        """Copy a slice of what can be read of a file that was set aside."""
        found = next(saving, None)
        if found is None:
            self._saving = None
            return
        with self._writing(connection):
            self._put(connection, rows.records_of(found, now), now)
            trim(connection, self._max_size, len(found))


_files: weakref.WeakSet[File] = weakref.WeakSet()
_forking = threading.Lock()
_held: list[File] = []


def _before_fork() -> None:
    _forking.acquire()
    _held.extend(_files)
    for file in _held:
        file._lock.acquire()
        file._disconnect()


def _after_fork() -> None:
    for file in _held:
        file._lock.release()
    _held.clear()
    _forking.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork
    )
