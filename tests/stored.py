"""A store that lives in the test, on virtual time, and fails as it is told."""

from __future__ import annotations

import asyncio

from virtual import WWW, question

from resolverkit.errors import StoreError
from resolverkit.record import Denied, aged
from resolverkit.testing import VirtualLoop


class FakeStore:
    """Keeps records by key, dated on a clock of its own that a test may set."""

    def __init__(self, *, budget=0.05, after=0.0):
        self.budget = budget
        self.after = after  # seconds that each call takes
        self.problem = ""  # what open, fetch and write raise
        self.write_problem = ""
        self.kept = {}  # key: (record, learnt, denied)
        self.opened = self.closed = 0
        self.fetched = []  # (ms, keys) of each batch
        self.written = []
        self.jump = 0.0  # of its clock

    name = "fake://store"

    def now(self):
        return VirtualLoop.running().time() + 1e9 + self.jump

    async def _work(self, problem=""):
        await asyncio.sleep(self.after)
        if self.problem or problem:
            raise StoreError(f"{self.name}: {self.problem or problem}")

    async def open(self):
        self.opened += 1
        await self._work()

    def may_have(self, key):
        return True

    async def fetch(self, keys):
        self.fetched.append(list(keys))
        await self._work()
        return {key: self.record(key) for key in keys if key in self.kept}

    def record(self, key):
        record, learnt, denied = self.kept[key]
        now = self.now()
        return record._replace(
            age=aged(learnt, record.ttl, now),
            denied=None if denied is None else max(0.0, now - denied),
        )

    async def write(self, changes):
        await self._work(self.write_problem)
        self.written.append(len(changes))
        now = self.now()
        for change in changes:
            if isinstance(change, Denied):
                if change.key in self.kept:
                    record, learnt, denied = self.kept[change.key]
                    since = now - change.age if denied is None else denied
                    if learnt <= since:
                        self.kept[change.key] = record, learnt, since
                continue
            since = None if change.denied is None else now - change.denied
            _, *dates = self.kept.get(change.key, (None, None, None))
            date = now - change.age
            if not any(other is not None and date < other <= now for other in dates):
                self.kept[change.key] = change, date, since

    async def records(self):
        await self._work()
        for key in list(self.kept):
            yield self.record(key)

    async def remove(self, keys):
        return sum(self.kept.pop(key, None) is not None for key in keys)

    async def aclose(self):
        self.closed += 1

    def has(self, name=WWW, rdtype=1):
        return question(name, rdtype).key in self.kept
