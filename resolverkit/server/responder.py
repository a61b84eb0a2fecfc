"""From a client's message to the reply, by way of the Resolver.

A query costs no task: what memory has is answered in the same call stack, and who has
to wait hangs a callback on the Resolver's Future. How many may wait is bounded: when
there are more, the oldest give way, for their clients are the first to give up.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, cast

from resolverkit import errors
from resolverkit.cache import Served
from resolverkit.errors import UpstreamError
from resolverkit.model import AnswerPath, Kind, Outcome, Source
from resolverkit.server import reply as replies
from resolverkit.server.fastpath import FastPath
from resolverkit.server.query import Query, not_recursive, read_query
from resolverkit.server.stalepath import StalePath

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from resolverkit.cache import Waiter
    from resolverkit.model import Ede
    from resolverkit.resolver import Resolver
    from resolverkit.server.counts import ServerStats
    from resolverkit.server.query import Over

MAX_IN_FLIGHT = 4096
"""Queries that may wait for upstreams at a time."""
LIFETIME = 4.5
"""Seconds until a client is told SERVFAIL; dig and glibc give up after 5."""

_STALE, _STALE_NXDOMAIN, _UNREACHABLE, _NETWORK, _OTHER = 3, 19, 22, 23, 0
_ANY = 255
_OLD = frozenset({Source.STALE, Source.HELD})

Done: TypeAlias = "Callable[[bytes | None], None]"
"""What is called with a reply, once: at once or later; None for silence."""


class Responder:
    """Answers queries, whatever they come over.

    Args:
        resolver: who is asked.
        stats: where it counts.
        explain: tell in each reply by which path it came (RFC 8914's EXTRA-TEXT).
        max_in_flight: queries that may wait at a time.
    """

    def __init__(
        self,
        resolver: Resolver,
        stats: ServerStats,
        *,
        explain: bool = False,
        max_in_flight: int = MAX_IN_FLIGHT,
    ) -> None:
        self.stats = stats
        self._max_in_flight = max_in_flight
        self._waiting: OrderedDict[asyncio.Future[Served], Done] = OrderedDict()
        self.use(resolver, explain=explain)

    def use(self, resolver: Resolver, *, explain: bool) -> None:
        """Answer with this Resolver from now on."""
        self.resolver = resolver
        self.explain = explain
        self._fast = {
            datagram: FastPath(resolver, self.stats) for datagram in (True, False)
        }
        self._stale = {datagram: StalePath(resolver) for datagram in (True, False)}

    def fast(self, over: Over) -> FastPath:
        """The prepared replies for one way."""
        return self._fast[over.datagram]

    @property
    def in_flight(self) -> int:
        """Queries that wait for upstreams now."""
        return len(self._waiting)

    def ask(self, data: bytes, over: Over, done: Done) -> None:
        """Have `done` called with the reply to a message."""
        known = self._stale[over.datagram].reply(data)
        if known is not None:
            self.stats.stale += 1
            done(known)
            return
        query = read_query(data)
        if isinstance(query, Query):
            self._answer(query, over, done)
            return
        if query is None:
            self.stats.ignored += 1
        else:
            self.stats.refused += 1
        done(query)

    def _answer(self, query: Query, over: Over, done: Done) -> None:
        if query.rdtype == _ANY:
            self.stats.local += 1
            done(replies.hinfo(query, over))
            return
        resolver = self.resolver
        try:
            served = resolver._serve(
                query.name,
                query.rdtype,
                dnssec_ok=query.do,
                checking_disabled=query.cd,
                lifetime=min(LIFETIME, resolver.lifetime),
                cached_only=not query.rd,
            )
        except UpstreamError as error:
            done(self._failed(query, over, error))
            return
        if isinstance(served, Served):
            done(self._told(query, over, served))
        elif served is None:
            self.stats.refused += 1
            done(not_recursive(query))
        else:
            self._wait(query, over, served, done)

    # --- those who wait --------------------------------------------------------------

    def _wait(
        self, query: Query, over: Over, future: asyncio.Future[Served], done: Done
    ) -> None:
        if len(self._waiting) >= self._max_in_flight:
            oldest, _ = self._waiting.popitem(last=False)
            self.stats.dropped += 1
            self.resolver._store.leave(cast("Waiter", oldest))
        self._waiting[future] = done
        self.stats.in_flight = len(self._waiting)
        future.add_done_callback(partial(self._landed, query, over, done))

    def _landed(
        self, query: Query, over: Over, done: Done, future: asyncio.Future[Served]
    ) -> None:
        self._waiting.pop(future, None)
        self.stats.in_flight = len(self._waiting)
        if future.cancelled():
            busy = (_OTHER, "too many questions wait")
            done(
                None
                if over.datagram
                else replies.compose(query, over, replies.SERVFAIL, ede=[busy])
            )
            return
        error = future.exception()
        if error is None:
            done(self._told(query, over, future.result()))
        else:
            done(self._failed(query, over, error))

    def give_up(self) -> None:
        """End every query that waits, as when the server closes."""
        while self._waiting:
            future, _ = self._waiting.popitem()
            future.cancel()

    # --- what they are told ----------------------------------------------------------

    def _told(self, query: Query, over: Over, served: Served) -> bytes:
        entry, source = served.entry, served.source
        reply = entry.reply
        resolver = self.resolver
        self._count(source)
        ede = self._notes(served)
        if source in _OLD:
            resolver._reporter.served(entry.question, served)
            ttl = resolver._stale.ttl
            told = replies.outdated(query, over, reply, ttl, ede)
            if not self.explain:
                self._stale[over.datagram].keep(query, served, told)
            return told
        if source is Source.CACHE and query.plain and not self.explain:
            return self._fast[over.datagram].prepare(query, over, entry)
        age = resolver._clock() - entry.learnt
        return replies.fresh(query, over, reply, age, ede)

    def _count(self, source: Source) -> None:
        name = str(source)
        setattr(self.stats, name, getattr(self.stats, name) + 1)

    def _notes(self, served: Served) -> list[Ede]:
        """The extended errors of an answer; with `explain` its path as well."""
        reply = served.entry.reply
        path = str(self.resolver._path(served)) if self.explain else ""
        if served.source in _OLD:
            denied = reply.kind is Kind.NXDOMAIN
            text = path or ("held on to" if served.source is Source.HELD else "")
            return [(_STALE_NXDOMAIN if denied else _STALE, text)]
        notes = replies.passed_on(reply.winner)
        if path:
            notes.append((_OTHER, path))
        return notes

    def _failed(self, query: Query, over: Over, error: BaseException) -> bytes:
        self.stats.failed += 1
        attempts = getattr(error, "attempts", ())
        network = bool(attempts) and all(
            attempt.outcome is Outcome.NETWORK for attempt in attempts
        )
        if not attempts:
            network = isinstance(error, errors.NetworkError)
        text = "" if attempts or not isinstance(error, UpstreamError) else str(error)
        if self.explain:
            path = AnswerPath(Source.UPSTREAM, None, attempts, detail=str(error))
            text = str(path)
        ede = [(_NETWORK if network else _UNREACHABLE, text)]
        for attempt in attempts:
            ede += [told for told in replies.passed_on(attempt) if told not in ede]
        return replies.compose(query, over, replies.SERVFAIL, ede=ede[:4])
