"""Replies that were given before, ready to be given again.

A query is looked up as it came, without its id: flags, question and OPT together say
which reply it gets. What is found is the whole reply but for its id, as the slow path
made it for the same entry in the same second; it holds until a TTL counts down, the
entry is to be refreshed, or is not the cache's word any more. Everything else takes the
slow path, which prepares the next one.

To look at all that costs more than to find the reply, since it is spread over memory.
So what was looked at, and holds for a moment to come, is at hand by its bytes alone
until that moment is over or the cache has changed something.
"""

from __future__ import annotations

import struct
from itertools import islice
from typing import TYPE_CHECKING

from resolverkit.model import Kind
from resolverkit.server import reply as replies

if TYPE_CHECKING:
    from collections.abc import Callable

    from resolverkit.entry import Entry
    from resolverkit.resolver import Resolver
    from resolverkit.server.counts import ServerStats
    from resolverkit.server.query import Over, Query

_set_ttl = struct.Struct("!I").pack_into

MAX_PREPARED = 16_384
"""Replies that are kept ready, some 600 bytes each; the oldest give way."""
MOMENT = 0.125
"""Seconds for which replies are looked at: most do not count down meanwhile."""


class _Prepared:
    """One reply to one form of a question."""

    __slots__ = (
        "denial", "entry", "over", "query", "rest", "ttls", "until",
    )  # fmt: skip

    def __init__(self, query: Query, over: Over, entry: Entry) -> None:
        self.query = query
        self.over = over
        self.entry = entry
        self.denial = entry.kind is not Kind.DATA
        self.rest = bytearray()  # all but the id
        self.ttls: list[tuple[int, int]] = []  # where they stand, and what they were
        self.until = 0.0  # on the cache's clock: when a TTL counts down


class FastPath:
    """Prepared replies, by the bytes of their queries.

    Args:
        resolver: whose entries they are made from.
        stats: where it counts.

    Attributes:
        at_hand: gives what `rest` gives for a message without its id, if that was
            looked at in this moment.
    """

    def __init__(self, resolver: Resolver, stats: ServerStats) -> None:
        self._resolver = resolver
        self._memory = resolver._store
        self._stats = stats
        self._made_for = resolver._hot
        self._table: dict[bytes, _Prepared] = {}
        self._at_hand: dict[bytes, bytearray] = {}
        self._until = 0.0  # when the moment is over for which that holds
        self._changes = 0  # of the cache, when it began
        self.at_hand: Callable[[bytes], bytearray | None] = self._at_hand.get

    def __len__(self) -> int:
        return len(self._table)

    def check(self, now: float) -> None:
        """Forget what may not hold any more; to be called whenever time has passed.

        Args:
            now: the time on the cache's clock, seconds.
        """
        if self._made_for is not self._resolver._hot:  # its options have changed
            self._made_for = self._resolver._hot
            self._table.clear()
            self._until = now
        if now >= self._until or self._changes != self._memory.changes:
            self._at_hand.clear()
            self._until = now + MOMENT
            self._changes = self._memory.changes

    def reply(self, data: bytes, now: float) -> bytes | None:
        """The reply to a message, if it is prepared.

        Args:
            data: the message as it came.
            now: the time that was checked.
        """
        asked = data[2:]
        rest = self.at_hand(asked) or self.rest(asked, now)
        if rest is None:
            return None
        self.served(1)
        return data[:2] + rest

    def rest(self, asked: bytes, now: float) -> bytearray | None:
        """The same without the ids, uncounted, and not looked for at hand.

        Args:
            asked: the message from its third octet on.
            now: the time that was checked.

        Returns:
            What is to be sent or copied before time passes: TTLs count down in it.
        """
        prepared = self._table.get(asked)
        if prepared is None:
            return None if asked == asked.lower() else self._as_spelled(asked, now)
        entry = prepared.entry
        if entry.refresh_at <= now:
            return None
        if prepared.denial and self._memory.find(entry.question) is not entry:
            return None
        if prepared.until <= now:
            self._count_down(prepared, now)
        entry.used = True
        lasts = prepared.until >= self._until <= entry.refresh_at
        if lasts and not prepared.denial:
            self._at_hand[asked] = prepared.rest
        return prepared.rest

    def served(self, count: int) -> None:
        """Count replies that were at hand."""
        self._memory.hits += count
        self._stats.fast += count

    def _as_spelled(self, asked: bytes, now: float) -> bytearray | None:
        """The same for a name that is not in lower case, which is given back as is."""
        end = 10
        size = len(asked)
        while end < size and asked[end]:
            end += 1 + asked[end]
        lowered = asked[10:end].lower()
        if lowered == asked[10:end]:
            return None
        rest = self.rest(asked[:10] + lowered + asked[end:], now)
        if rest is None:
            return None
        return rest[:10] + asked[10:end] + rest[end:]

    def prepare(self, query: Query, over: Over, entry: Entry) -> bytes:
        """Make the reply from a fresh entry, and keep it for those who ask the same.

        Args:
            query: without options of its own.
            over: how it came.
            entry: what the cache has just answered it with.
        """
        data = query.data
        lowered = data[12 : query.end - 4].lower()
        plain = data[:12] + lowered + data[query.end - 4 :]
        prepared = _Prepared(query._replace(data=plain), over, entry)
        now = self._memory.clock()
        self._make(prepared, now)
        if now < entry.refresh_at:
            self._keep(plain[2:], prepared)
        rest = prepared.rest
        end = query.end - 4
        return data[:2] + rest[:10] + data[12:end] + rest[end - 2 :]

    def _keep(self, key: bytes, prepared: _Prepared) -> None:
        if len(self._table) >= MAX_PREPARED and key not in self._table:
            # A tenth at once: to find the first key of a dict whose front was deleted
            # costs as much as all that was deleted.
            for old in list(islice(self._table, MAX_PREPARED // 10)):
                del self._table[old]
        self._table[key] = prepared

    def _make(self, prepared: _Prepared, now: float) -> None:
        entry, reply = prepared.entry, prepared.entry.reply
        age = now - entry.learnt
        ede = replies.passed_on(reply.winner)
        made = replies.fresh(prepared.query, prepared.over, reply, age, ede)
        prepared.rest = bytearray(made[2:])
        prepared.until = entry.learnt + int(age) + 1
        records = replies.records_of(reply.wire, prepared.query.end)
        kept = replies.count(made) - prepared.query.edns  # some may not have fitted
        start = prepared.query.end - 2
        ttls = replies.full_ttls(records, reply)
        places = [start + at for at in records.ttls]
        prepared.ttls = list(zip(places, ttls, strict=True))[:kept]

    def _count_down(self, prepared: _Prepared, now: float) -> None:
        """A second has passed."""
        learnt, rest = prepared.entry.learnt, prepared.rest
        age = int(now - learnt)
        for place, ttl in prepared.ttls:
            _set_ttl(rest, place, ttl - age if ttl > age else 0)
        prepared.until = learnt + age + 1
