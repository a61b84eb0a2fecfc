"""The last known good in a file: the standard library's SQLite behind one thread.

The loop never waits for a disk: each job goes to the worker, one after the other. What
can wait (reading which keys there are, saving what a damaged file still has) is done in
slices, and goes to the end of the queue after each.

Limitations: not for files on network file systems, where SQLite's WAL does not work.
What another process wrote is noticed within a second or so.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from resolverkit.errors import ConfigurationError, StoreError
from resolverkit.stores.sqlite_errors import Busy
from resolverkit.stores.sqlite_file import File

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from resolverkit.record import Change, Record

MAX_SIZE = 256 * 2**20
"""Bytes of the file: about a million records."""
MIN_SIZE = 2**20
"""Bytes that a file must be allowed."""
PATIENCE = 5.0
"""Seconds of other processes' locks before a job fails."""
PAUSE = 0.01
"""Seconds before another try at a locked file, besides those that SQLite waits."""
LOOK = 1.0
"""Seconds between two looks at what other processes wrote."""

P = ParamSpec("P")
T = TypeVar("T")

_now = time.monotonic


class SQLiteStore:
    """Keeps records in a SQLite file, which processes may share.

    The file is made for its owner only (mode 0600), in a directory that exists. When it
    is full, what was learnt the longest ago is deleted. A file that is damaged is kept
    under another name, what can be read of it is copied, and a warning says so. One
    that another program or a newer version made is left alone.

    It needs no closing at the end of the program, and may be used after a fork.

    Args:
        path: of the file; ``~`` is the home directory.
        max_size: bytes that the file may have, without its write-ahead log; 1 MiB or
            more.
        wall: gives the time of day in seconds; it may jump.

    Raises:
        ConfigurationError: the path is none of a file, or `max_size` is too small.
    """

    budget: float = 2.0

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_size: int = MAX_SIZE,
        wall: Callable[[], float] = time.time,
    ) -> None:
        given = os.fspath(path)
        if given in {"", ":memory:"} or "\0" in given:
            raise ConfigurationError(
                f"{given!r} is no path of a file; without a store there is memory"
            )
        if max_size < MIN_SIZE:
            raise ConfigurationError(
                f"max_size is {max_size}; at least {MIN_SIZE} bytes are needed"
            )
        try:
            full = Path(given).expanduser().absolute()
            self._file = File(full.resolve(), max_size)
        except (RuntimeError, OSError) as error:  # no such user, links in a circle
            raise ConfigurationError(f"{given!r} is no path: {error}") from None
        self._name = f"sqlite://{full}"
        self._wall = wall
        self._worker: ThreadPoolExecutor | None = None
        self._process = 0  # whose worker it is
        self._look_at = 0.0

    @property
    def name(self) -> str:
        """Its URL."""
        return self._name

    async def open(self) -> None:
        """Open the file, or begin one. Idempotent.

        Raises:
            StoreError: it cannot be opened; the message names it and says why.
        """
        if self._worker is None:
            self._start()
        await self._run(self._file.open)

    def may_have(self, key: bytes) -> bool:
        """False only if the file has nothing under `key`, but for the last second."""
        if _now() >= self._look_at:
            self._look()
        known = self._file.known
        if known is None:
            return True
        return key in known

    async def fetch(self, keys: Sequence[bytes]) -> Mapping[bytes, Record]:
        """The records that there are for some keys.

        Raises:
            StoreError: the file cannot be read.
        """
        return await self._run(self._file.fetch, keys, self._wall())

    async def write(self, changes: Sequence[Change]) -> None:
        """Take in what was learnt, in this order, all or nothing: see `Store`.

        Raises:
            StoreError: the file cannot be written; it holds what it held.
        """
        await self._run(self._file.write, changes, self._wall())

    async def records(self) -> AsyncIterator[Record]:
        """Every record that can be read, in no order.

        Raises:
            StoreError: the file cannot be read.
        """
        after: bytes | None = b""
        while after is not None:
            records, after = await self._run(self._file.next, after, self._wall())
            for record in records:
                yield record

    async def remove(self, keys: Sequence[bytes]) -> int:
        """Delete the records under some keys; gives how many there were.

        Raises:
            StoreError: the file cannot be written.
        """
        return await self._run(self._file.remove, keys)

    async def aclose(self) -> None:
        """Finish what was begun, and close the file. Idempotent."""
        worker, self._worker = self._worker, None
        if worker is None or self._process != os.getpid():
            return
        try:
            await asyncio.wrap_future(worker.submit(self._file.close))
        finally:
            worker.shutdown(wait=False)

    async def _run(
        self, job: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Have the worker do `job`; again for a while if another process is in the way.

        Other jobs have their turn between the tries: who writes keeps nobody from
        reading.
        """
        until = _now() + PATIENCE
        while True:
            done = self._here().submit(job, *args, **kwargs)
            if _now() >= self._look_at:
                self._look()
            try:
                return await asyncio.wrap_future(done)
            except Busy as error:
                if _now() >= until:
                    raise StoreError(
                        f"{error} for {PATIENCE:g} s; memory goes on without it"
                    ) from None
            await asyncio.sleep(PAUSE)

    def _here(self) -> ThreadPoolExecutor:
        """This process's worker: a parent's thread did not come along."""
        if self._worker is None:
            raise StoreError(f"{self._name} is not open")
        if self._process != os.getpid():
            self._start()
        return self._worker

    def _start(self) -> None:
        self._process = os.getpid()
        self._worker = ThreadPoolExecutor(1, "resolverkit-sqlite")
        self._look_at = 0.0

    def _look(self) -> None:
        """Have the worker look at what there is, behind its other jobs."""
        self._look_at = _now() + LOOK
        if self._worker is not None:
            _look(self._file, self._wall, self._here())


def _look(file: File, wall: Callable[[], float], worker: ThreadPoolExecutor) -> None:
    with contextlib.suppress(RuntimeError):  # it was shut down, or the program ends
        worker.submit(_chore, file, wall, worker)


def _chore(file: File, wall: Callable[[], float], worker: ThreadPoolExecutor) -> None:
    if file.chore(wall()):
        _look(file, wall, worker)
