"""Stale replies that were given before, ready to be given again.

While a question has failed lately nobody is asked for it (the failure recheck timer of
RFC 8767 section 5), so that all who ask the same get the same reply: in an outage that
is most of what is asked. It holds until then, or until the cache knows better.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from resolverkit.model import Source

if TYPE_CHECKING:
    from resolverkit.flight import Served
    from resolverkit.memory import Failure
    from resolverkit.resolver import Resolver
    from resolverkit.server.query import Query

MAX_STALE = 16_384
"""Replies that are kept, some 600 bytes each; one more, and all are forgotten."""


class _Stale(NamedTuple):
    """One reply to one form of a question."""

    tail: bytes  # all but the id
    served: Served
    failure: Failure
    until: float  # on the cache's clock


class StalePath:
    """Stale replies, by the bytes of their queries.

    Args:
        resolver: whose entries they are made from.
    """

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._memory = resolver._store
        self._made_for = resolver._hot
        self._table: dict[bytes, _Stale] = {}

    def __len__(self) -> int:
        return len(self._table)

    def reply(self, data: bytes) -> bytes | None:
        """The reply to a message, if it is at hand and still right."""
        if not self._table or (kept := self._table.get(data[2:])) is None:
            return None
        memory, question = self._memory, kept.served.entry.question
        if (
            memory.clock() >= kept.until
            or memory.failure(question) is not kept.failure
            or memory.find(question) is not kept.served.entry
            or self._resolver._hot is not self._made_for  # options have changed
        ):
            del self._table[data[2:]]
            return None
        memory.misses += 1
        memory.stale_hits += 1
        self._resolver._reporter.served(question, kept.served)
        return data[:2] + kept.tail

    def keep(self, query: Query, served: Served, reply: bytes) -> None:
        """Have a reply at hand, if the next one would be the same."""
        entry = served.entry
        if served.source is not Source.STALE or entry.reply.denial or not query.plain:
            return  # a denial may be that of another type
        failure = self._memory.failure(entry.question)
        if failure is None:
            return
        if len(self._table) >= MAX_STALE or self._resolver._hot is not self._made_for:
            self._made_for = self._resolver._hot
            self._table.clear()
        usable = entry.expires + self._resolver._stale.max_stale
        until = min(failure.until, usable)
        self._table[query.data[2:]] = _Stale(reply[2:], served, failure, until)
