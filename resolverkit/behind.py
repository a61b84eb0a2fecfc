"""What stands between the cache and a store: batches, a budget, and its state.

Look-ups and changes are gathered while one is under way, and go to the store together.
Nobody waits for a store that does not answer: a look-up that takes longer than the
store's budget finds nothing, and from then on the store counts as away. It is opened
again with growing pauses and jitter, so that a fleet does not do so as one.

Changes are written behind the answers, within a second. While the store takes
none, the latest of each key are kept, up to a bound, and count when it is read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from resolverkit.budget import Budget
from resolverkit.entry import Entry
from resolverkit.errors import StoreError
from resolverkit.record import Denied, Record, record_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from resolverkit.record import Change
    from resolverkit.upstream import Store

WRITE_DELAY = 0.5
"""Seconds for which changes are gathered; a process that is killed loses these."""
BATCH = 2000
"""Changes that are written at once."""
MAX_WAITING = 20_000
"""Changes that are kept while the store takes none; then the oldest are dropped."""
MIN_PAUSE, MAX_PAUSE = 0.5, 30.0
"""Seconds between two tries to open a store, or to write to it, that failed."""
CLOSING = 2.0
"""Seconds for the last changes when the resolver is closed."""

T = TypeVar("T")

_log = logging.getLogger("resolverkit.store")

Found: TypeAlias = "Callable[[Record | None], None]"
"""What is called, once, with the outcome of a look-up."""


class Behind:
    """A store, as the cache sees it: nothing here raises, and nothing waits.

    Args:
        store: where answers are kept.
        clock: the cache's clock, for ages.

    Attributes:
        store: the same.
        found: look-ups that gave a record.
        missed: look-ups that gave none.
        written: changes that the store took.
        dropped: changes that it did not take in time.
        writing: held while the store is being written to.
    """

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self.store = store
        self.found: int = 0
        self.missed: int = 0
        self.written: int = 0
        self.dropped: int = 0
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open = False
        self._unread = self._unwritten = ""  # why not
        self._wanted: dict[bytes, list[Found]] = {}
        self._changes: dict[bytes, Entry | float] = {}
        self._batch: dict[bytes, Entry | float] = {}  # what is being written
        self._pause = MIN_PAUSE
        self._timer: asyncio.TimerHandle | None = None
        self._reader: asyncio.Task[None] | None = None
        self._writer: asyncio.Task[None] | None = None
        self._opener: asyncio.Task[None] | None = None

    @property
    def problem(self) -> str:
        """Why the store cannot be used now; empty while it can."""
        return self._unread or self._unwritten

    @property
    def waiting(self) -> int:
        """Changes that are still to be written."""
        return len(self._changes)

    # --- look-ups --------------------------------------------------------------------

    def may_have(self, key: bytes) -> bool:
        """Whether it is worth a look."""
        return not self._unread and self.store.may_have(key)

    @property
    def is_open(self) -> bool:
        """Whether the store was opened, so that it may answer at once."""
        return self._open

    def look_up(self, key: bytes, found: Found) -> None:
        """Have `found` called with what there is for `key`, within the budget."""
        self._wanted.setdefault(key, []).append(found)
        if self._reader is None:
            self._reader = self._task(self._read())

    async def _read(self) -> None:
        wanted: dict[bytes, list[Found]] = {}
        try:
            while self._wanted:
                wanted, self._wanted = self._wanted, {}
                self._tell(wanted, await self._records(list(wanted)))
        except asyncio.CancelledError:  # as by a program that ends all tasks it finds
            late, self._wanted = self._wanted, {}
            self._tell(wanted, {})
            self._tell(late, {})
            raise
        finally:
            self._reader = None

    async def _records(self, keys: Sequence[bytes]) -> Mapping[bytes, Record]:
        """What there is; nothing where the store cannot be used."""
        try:
            if not self._unread:  # else the one before has waited for all
                return await self._fetch(keys)
        except TimeoutError:
            self._away(f"no answer within {self.store.budget * 1000:g} ms")
        except Exception as error:  # noqa: BLE001 - a store may be a user's own
            self._away(_told(error))
        return {}

    def _tell(
        self, wanted: Mapping[bytes, list[Found]], records: Mapping[bytes, Record]
    ) -> None:
        for key, calls in wanted.items():
            record = self._as_changed(key, records.get(key))
            self.found += record is not None
            self.missed += record is None
            for call in calls:
                call(record)

    def _as_changed(self, key: bytes, record: Record | None) -> Record | None:
        """What the store will have once it has taken in what waits."""
        what = self._changes.get(key, self._batch.get(key))
        if record is None or what is None:
            return record
        now = self._clock()
        if isinstance(what, Entry):
            waiting = record_of(what, now)
            return waiting if waiting.age < record.age else record
        since = max(0.0, now - what)
        if record.denied is None and since < record.age:
            return record._replace(denied=since)
        return record

    async def _fetch(self, keys: Sequence[bytes]) -> Mapping[bytes, Record]:
        """What is read within the budget.

        Raises:
            TimeoutError: the budget is spent.
            TypeError: of a user's own store, which gives something else.
        """
        with Budget(self.store.budget):
            if not self._open:
                await self._ready()
            found = await self.store.fetch(keys)
        if not isinstance(found, Mapping) or not all(
            isinstance(record, Record) for record in found.values()
        ):
            raise TypeError("fetch() gave no mapping of Records")
        return found

    def _away(self, problem: str) -> None:
        self._note(unread=problem)
        if self._opener is None:
            self._opener = self._task(self._reopen())

    async def _ready(self) -> None:
        async with self._opening:
            if not self._open:
                await self.store.open()
                self._open = True

    async def _reopen(self) -> None:
        """Open the store again, however long that takes."""
        from tenacity import AsyncRetrying, wait_random_exponential  # noqa: PLC0415

        self._open = False
        pauses = wait_random_exponential(multiplier=MIN_PAUSE, max=MAX_PAUSE)
        retrying = AsyncRetrying(wait=pauses)
        try:
            await asyncio.sleep(MIN_PAUSE)
            async for attempt in retrying:
                with attempt:
                    await self._ready()
        except asyncio.CancelledError:  # whoever looks next sees how it is by then
            self._unread = ""
            raise
        finally:
            self._opener = None
        self._note(unread="")
        if self._changes:
            self._write_soon(WRITE_DELAY)

    # --- changes ---------------------------------------------------------------------

    def learnt(self, entry: Entry) -> None:
        """An answer is to be kept."""
        self._change(entry.key, entry)

    def denied(self, key: bytes) -> None:
        """Upstreams deny what may be stored under `key`."""
        now = self._clock()
        for changes in (self._changes, self._batch):
            entry = changes.get(key)
            # Memory has marked it, unless it was evicted or is blocked.
            if isinstance(entry, Entry) and entry.denied_at is None:
                entry.deny(now)
        # An entry that still waits to be written says by itself that it is denied.
        if key not in self._changes and self.store.may_have(key):
            self._change(key, now)

    def forget(self, is_meant: Callable[[bytes], bool]) -> set[bytes]:
        """Do not write the answers that were to be written under some keys.

        Returns:
            Their keys. Denials stay: to mark what is not there changes nothing.
        """
        gone = set()
        for changes in (self._changes, self._batch):  # nor try that again
            for key in list(filter(is_meant, changes)):
                if isinstance(changes[key], Entry):
                    del changes[key]
                    gone.add(key)
        return gone

    def _change(self, key: bytes, what: Entry | float) -> None:
        changes = self._changes
        changes.pop(key, None)  # the latest go last
        changes[key] = what
        if len(changes) > MAX_WAITING:
            del changes[next(iter(changes))]
            self.dropped += 1
        if self._timer is None and self._writer is None:
            self._write_soon(WRITE_DELAY)

    def _write_soon(self, delay: float) -> None:
        if self._timer is None and self._writer is None and self._loop is not None:
            self._timer = self._loop.call_later(delay, self._start_writing)

    def _start_writing(self) -> None:
        self._timer = None
        if self._opener is None:  # else it writes once the store is back
            self._writer = self._task(self._write())

    async def _write(self) -> None:
        pause = WRITE_DELAY
        try:
            await self._write_all()
            self._note(unwritten="")
            self._pause = MIN_PAUSE
        except Exception as error:  # noqa: BLE001 - a store may be a user's own
            self._note(unwritten=_told(error))
            pause = self._pause
            self._pause = min(2 * pause, MAX_PAUSE)
        finally:
            self._writer = None
        if self._changes:
            self._write_soon(pause)

    async def _write_all(self) -> None:
        await self._ready()
        while self._changes:
            keys = list(self._changes)[:BATCH]
            self._batch = batch = {key: self._changes.pop(key) for key in keys}
            try:
                async with self.writing:
                    await self.store.write(self._as_changes(batch))
            except BaseException:
                self._try_again(batch)
                raise
            finally:
                self._batch = {}
            self.written += len(keys)

    def _try_again(self, batch: Mapping[bytes, Entry | float]) -> None:
        """Have a batch wait, but for what is newer by now.

        A mark is not: the entry that it is for has it, too, and is not stored yet.
        """
        newer = {
            key: what
            for key, what in self._changes.items()
            if isinstance(what, Entry) or key not in batch
        }
        self._changes = {**batch, **newer}

    def _as_changes(self, batch: Mapping[bytes, Entry | float]) -> Sequence[Change]:
        now = self._clock()
        changes: list[Change] = []
        for key, what in batch.items():
            denied_at: float | None
            if isinstance(what, Entry):
                changes.append(record_of(what, now))
                denied_at = what.denied_at
            else:
                denied_at = what
            # Of an entry, too: the store may have a later one, of another process.
            if denied_at is not None:
                changes.append(Denied(key, max(0.0, now - denied_at)))
        return changes

    # --- lifetime --------------------------------------------------------------------

    def _note(self, *, unread: str | None = None, unwritten: str | None = None) -> None:
        """Take in what works and what does not: one warning for each change."""
        before = self.problem
        self._unread = self._unread if unread is None else unread
        self._unwritten = self._unwritten if unwritten is None else unwritten
        if self.problem and not before:
            went_on = "answers go on from memory"
            _log.warning("%s; %s: %s", self.store.name, went_on, self.problem)
        elif before and not self.problem:
            _log.warning("%s is in use again", self.store.name)

    async def opened(self) -> Store:
        """The store, for those who want to look into it.

        Raises:
            StoreError: it cannot be used.
        """
        await self._ready()
        return self.store

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Work on `loop` from now on; changes that still wait stay."""
        if loop is self._loop:
            return
        self._loop = loop
        self._open = False
        self._unread = self._unwritten = ""  # whoever looks next sees how it is
        self._timer = self._reader = self._writer = self._opener = None
        self._opening = asyncio.Lock()
        self.writing: asyncio.Lock = asyncio.Lock()
        self._wanted = {}
        self._try_again(self._batch)  # nobody may go on with it there
        self._batch = {}
        if self._changes:
            self._write_soon(WRITE_DELAY)

    def _task(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        assert self._loop is not None  # a stack is bound to it
        return self._loop.create_task(work, context=Context())

    async def aclose(self) -> None:
        """Write what waits, if the store takes it, and close it. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        was_away = self._opener is not None
        for task in (self._opener, self._reader, self._writer):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        self._opener = self._reader = self._writer = None
        if self._changes and not was_away:
            try:
                async with asyncio.timeout(CLOSING):
                    await self._write_all()
            except Exception as error:  # noqa: BLE001 - a store may be a user's own
                lost, why = len(self._changes), _told(error)
                _log.warning("%s: %d answers not kept: %s", self.store.name, lost, why)
        self._open = False
        await self.store.aclose()


def _told(error: Exception) -> str:
    if isinstance(error, StoreError):
        return str(error)
    return f"{type(error).__name__}: {error}".rstrip(": ")
