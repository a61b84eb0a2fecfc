"""From a client's message to the reply, by way of the Resolver.

A query costs no task and no Future: what memory has is answered in the same call stack,
and who has to wait stands on the flight itself and is told when it lands. How many may
wait is bounded: when there are more, the oldest give way, for their clients are the
first to give up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from resolverkit import errors, wire
from resolverkit.errors import UpstreamError
from resolverkit.flight import Served
from resolverkit.model import AnswerPath, Kind, Outcome, Source
from resolverkit.server import reply as replies
from resolverkit.server.asker import Asker
from resolverkit.server.fastpath import FastPath
from resolverkit.server.forms import Form, find, learn
from resolverkit.server.query import ANY, Query, not_recursive, read_query
from resolverkit.server.stalepath import StalePath

if TYPE_CHECKING:
    from collections.abc import Callable

    from resolverkit.model import Ede, Reply
    from resolverkit.resolver import ClientCall, Resolver
    from resolverkit.server.counts import ServerStats
    from resolverkit.server.query import Over

MAX_IN_FLIGHT = 4096
"""Queries that may wait for upstreams at a time."""
LIFETIME = 4.5
"""Seconds until a client is told SERVFAIL; dig and glibc give up after 5."""

_STALE, _STALE_NXDOMAIN, _UNREACHABLE, _NETWORK, _OTHER = 3, 19, 22, 23, 0
_OLD = frozenset({Source.STALE, Source.HELD})
_UPSTREAM = Source.UPSTREAM  # attributes of an enum are slow to look up on Python 3.11

Done: TypeAlias = "Callable[[bytes | None], None]"
"""What is called with a reply, once: at once or later; None for silence."""


class _Message(Asker):
    """A query whose reply is asked for with a callback."""

    __slots__ = ("_done", "over")

    def __init__(
        self, responder: Responder, data: bytes, over: Over, done: Done
    ) -> None:
        super().__init__(responder, data)
        self.over = over
        self._done = done

    def tell(self, reply: bytes | None) -> None:
        self._done(reply)


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
        self._waiting: dict[Asker, None] = {}  # the oldest first
        self._forms: dict[bytes, Form] = {}
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
        call = self.resolver._client_call(LIFETIME)
        self.take(_Message(self, data, over, done), call)

    def take(self, asker: Asker, call: ClientCall) -> None:
        """Tell an asker its reply, now or later."""
        data = asker.data
        known = self._stale[asker.over.datagram].reply(data)
        if known is not None:
            self.stats.stale += 1
            asker.tell(known)
            return
        found = find(self._forms, data)
        if found is None:
            self._read(asker, call)
            return
        asker.form, asker.end = form, end = found
        self._resolve(asker, call, data[12 : end - 4].lower(), form.mould, False)

    def _read(self, asker: Asker, call: ClientCall) -> None:
        """The same for a query that is like none before."""
        query = read_query(asker.data)
        if isinstance(query, Query):
            asker.read(query)
            if query.rdtype == ANY:
                self.stats.local += 1
                asker.tell(replies.hinfo(query, asker.over))
                return
            learn(self._forms, query)
            mould = wire.mould(query.rdtype, query.rdclass, query.do, query.cd)
            self._resolve(asker, call, query.name, mould, not query.rd)
            return
        if query is None:
            self.stats.ignored += 1
        else:
            self.stats.refused += 1
        asker.tell(query)

    def _resolve(
        self,
        asker: Asker,
        call: ClientCall,
        name: bytes,
        mould: wire.Mould,
        cached_only: bool,
    ) -> None:
        try:
            served = self.resolver._serve(call, name, mould, asker, cached_only)
        except UpstreamError as error:
            asker.tell(self.failed(asker, error))
            return
        if served is asker:
            if not asker.ended:
                waiting = self._waiting
                if len(waiting) >= self._max_in_flight:
                    self.stats.dropped += 1
                    self.resolver._store.leave(next(iter(waiting)))
                waiting[asker] = None
                self.stats.in_flight = len(waiting)
        elif isinstance(served, Served):
            asker.tell(self.told(asker, served))
        else:
            self.stats.refused += 1
            asker.tell(not_recursive(asker.query))

    # --- those who wait --------------------------------------------------------------

    def forget(self, asker: Asker) -> None:
        """It waits no longer."""
        self._waiting.pop(asker, None)
        self.stats.in_flight = len(self._waiting)

    def give_up(self) -> None:
        """End every query that waits, as when the server closes."""
        for asker in list(self._waiting):
            asker.cancel()

    # --- what they are told ----------------------------------------------------------

    def told(self, asker: Asker, served: Served) -> bytes:
        """The reply for one who is served this."""
        entry, source = served.entry, served.source
        form = asker.form
        if form is not None and source is _UPSTREAM and not self.explain:
            message = entry.plain
            if message is not None:
                told = form.reply(asker.data, asker.end, message, entry.ttl)
                if told is not None:
                    self.stats.upstream += 1
                    return told
        return self._composed(asker.query, asker.over, served)

    def _composed(self, query: Query, over: Over, served: Served) -> bytes:
        """The same for any query, and whatever it is served."""
        entry, source = served.entry, served.source
        reply = entry.reply
        resolver = self.resolver
        self._count(source)
        ede = self._notes(reply, served)
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

    def _notes(self, reply: Reply, served: Served) -> list[Ede]:
        """The extended errors of an answer; with `explain` its path as well."""
        path = str(self.resolver._path(served)) if self.explain else ""
        if served.source in _OLD:
            denied = reply.kind is Kind.NXDOMAIN
            text = path or ("held on to" if served.source is Source.HELD else "")
            return [(_STALE_NXDOMAIN if denied else _STALE, text)]
        notes = replies.passed_on(reply.winner)
        if path:
            notes.append((_OTHER, path))
        return notes

    def busy(self, asker: Asker) -> bytes | None:
        """The reply for one that has to give way: over UDP silence."""
        if asker.over.datagram:
            return None
        told = (_OTHER, "too many questions wait")
        return replies.compose(asker.query, asker.over, replies.SERVFAIL, ede=[told])

    def failed(self, asker: Asker, error: UpstreamError) -> bytes:
        """The reply for one for whom there is nothing."""
        self.stats.failed += 1
        attempts = error.attempts
        network = bool(attempts) and all(
            attempt.outcome is Outcome.NETWORK for attempt in attempts
        )
        if not attempts:
            network = isinstance(error, errors.NetworkError)
        text = "" if attempts else str(error)
        if self.explain:
            path = AnswerPath(Source.UPSTREAM, None, attempts, detail=str(error))
            text = str(path)
        ede = [(_NETWORK if network else _UNREACHABLE, text)]
        for attempt in attempts:
            ede += [told for told in replies.passed_on(attempt) if told not in ede]
        return replies.compose(asker.query, asker.over, replies.SERVFAIL, ede=ede[:4])
