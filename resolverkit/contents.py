"""What a Resolver keeps, in the hands of its user: to look at, flush, export, load."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import dns.name
import dns.rdatatype

from resolverkit import wire
from resolverkit.errors import BadReply, ConfigurationError
from resolverkit.model import Kind, Outcome
from resolverkit.record import record_of, reply_of
from resolverkit.record_text import from_json, to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TextIO

    from resolverkit.cache import Cache
    from resolverkit.entry import Entry
    from resolverkit.upstream import Store


@dataclass(frozen=True, slots=True)
class Kept:
    """One entry in memory, as of the moment when it was looked at.

    Attributes:
        name: of its question, with the final dot.
        rdtype: of its question, as text.
        says: ``"data"``, ``"no data"``, ``"no such name"``.
        state: ``"fresh"``, ``"stale"`` or ``"denied"`` (upstreams deny it by now).
        age: seconds since it was learnt.
        ttl: seconds for which it was fresh, from then on.
        upstream: who gave it, as a URL; None where nobody knows.
        operator: who runs that.
        size: bytes that it is charged with.
    """

    name: str
    rdtype: str
    says: str
    state: str
    age: float
    ttl: float
    upstream: str | None
    operator: str | None
    size: int


class Contents:
    """What a Resolver keeps in memory and in its store; see `Resolver.store`.

    Iteration and `len` are of memory. What is flushed here is still in the memory of
    other processes that share the store.
    """

    def __init__(self, cache: Cache, bind: Callable[[None], object]) -> None:
        self._cache = cache
        self._bind = bind

    def __len__(self) -> int:
        return len(self._cache)

    def __iter__(self) -> Iterator[Kept]:
        now = self._cache.clock()
        return (_kept(entry, now) for entry in self._cache.entries())

    def get(
        self, name: dns.name.Name | str, rdtype: dns.rdatatype.RdataType | str = "A"
    ) -> Kept | None:
        """What is in memory for a name and a type, fresh or not."""
        wanted = (
            _name(name),
            dns.rdatatype.to_text(dns.rdatatype.RdataType.make(rdtype)),
        )
        return next((kept for kept in self if (kept.name, kept.rdtype) == wanted), None)

    async def flush(
        self, name: dns.name.Name | str | None = None, *, subtree: bool = False
    ) -> int:
        """Forget answers, in memory and in the store; failures are forgotten as well.

        Args:
            name: of which name; None for all.
            subtree: of the names below it, too.

        Returns:
            How many entries and records there were.

        Raises:
            StoreError: the store cannot be used; memory was flushed.
        """
        zone = b"\0" if name is None else wire.text_to_wire(_name(name))
        below = subtree or name is None
        is_meant = partial(_is_at, zone=zone, below=below)
        cache, behind = self._cache, self._cache.behind
        gone = [entry for entry in cache.entries() if is_meant(entry.key)]
        for entry in gone:
            cache.drop(entry)
        cache.forget_failures()
        keys = {entry.key for entry in gone}
        if behind is not None:
            self._bind(None)
            keys |= behind.forget(is_meant)  # also if the store is away
            store = await behind.opened()
            async with behind.writing:  # else what is under way would come back
                keys |= await keys_at(store, zone, below=below)
                await store.remove(list(keys))
        return len(keys)

    async def export(self, file: TextIO) -> int:
        """Write every positive answer as a line of JSON.

        Args:
            file: where to; `load` and ``resolverkit store load`` read it.

        Returns:
            How many lines.

        Raises:
            StoreError: the store cannot be used; what is in memory was written.
        """
        cache, now, date = self._cache, self._cache.clock(), time.time()
        seen = set()
        for entry in cache.entries():
            if entry.kind is Kind.DATA:
                seen.add(entry.key)
                file.write(json.dumps(to_json(record_of(entry, now), date)) + "\n")
        count = len(seen)
        if cache.behind is not None:
            self._bind(None)
            store = await cache.behind.opened()
            async for record in store.records():
                if record.key not in seen:
                    file.write(json.dumps(to_json(record, date)) + "\n")
                    count += 1
        return count

    def load(self, lines: Iterable[str]) -> int:
        """Take in what `export` wrote, as old as it is by now; newer answers stay.

        Args:
            lines: of JSON; an open file.

        Returns:
            How many answers were taken in.

        Raises:
            ConfigurationError: a line is no record; those before it were taken in.
        """
        cache = self._cache
        now, date = cache.clock(), time.time()
        count = 0
        for number, line in enumerate(lines, 1):
            try:
                record = from_json(json.loads(line), date)
                reply = reply_of(record)
            except (BadReply, ValueError, RecursionError) as error:
                raise ConfigurationError(f"line {number}: {error}") from None
            there = cache.find(wire.question_of(record.key))
            entry = cache.adopt(record, reply, now)
            if entry is not None and entry is not there:
                count += 1
                if cache.behind is not None:
                    cache.behind.learnt(entry)
        return count


async def keys_at(store: Store, zone: bytes, *, below: bool) -> set[bytes]:
    """The keys of a store's records for a name, or for it and all names below it."""
    return {
        record.key
        async for record in store.records()
        if _is_at(record.key, zone, below=below)
    }


def _is_at(key: bytes, zone: bytes, *, below: bool) -> bool:
    name = wire.question_of(key).wire_name
    return wire.is_below(name, zone) if below else name == zone


def _name(name: dns.name.Name | str) -> str:
    if isinstance(name, str):
        name = dns.name.from_text(name)
    return str(name).lower()


_SAYS = {
    Kind.DATA: Outcome.DATA,
    Kind.NODATA: Outcome.NODATA,
    Kind.NXDOMAIN: Outcome.NXDOMAIN,
}


def _kept(entry: Entry, now: float) -> Kept:
    question, reply = entry.question, entry.reply
    state = "fresh" if now < entry.expires else "stale"
    winner = reply.winner
    return Kept(
        str(question.name),
        dns.rdatatype.to_text(dns.rdatatype.RdataType.make(question.rdtype)),
        str(_SAYS.get(reply.kind, reply.kind.name)),
        "denied" if entry.denied_at is not None else state,
        max(0.0, now - entry.learnt),
        reply.ttl,
        None if winner is None else winner.upstream,
        None if winner is None else winner.operator,
        entry.size,
    )
