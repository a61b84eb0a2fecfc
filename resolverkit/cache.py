"""The cache: fresh, stale and failed answers, and the one flight per question.

Rules, with their sources (`policy` has the values of the timers):

- A fresh entry answers. In its last 10 % it is refreshed behind the answer.
- Otherwise the caller joins the one flight for that key, or starts it. While it flies,
  stale data is served at the client response timer (RFC 8767 section 5), or at once
  when there is reason to believe that fresh data will not come.
- NOERROR and confirmed denials replace an entry; a failure leaves it alone (section 4).
  A denial that contradicts a positive entry is confirmed by another operator first.
- A failed key is not asked for again for a while (RFC 9520 section 3.2).

Nobody waits in a task: a flight is a Future of the upstream's with a listener, and each
caller has a Future of its own, so that one who is cancelled harms nobody.
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import TYPE_CHECKING

from resolverkit import policy
from resolverkit.deadlines import Deadlines, Timeouts
from resolverkit.errors import NetworkError, QueryTimeout, UpstreamError
from resolverkit.memory import MAX_BYTES, Entry, Memory, is_chosen_block
from resolverkit.model import Kind, Source
from resolverkit.upstream import listen, start

if TYPE_CHECKING:
    from collections.abc import Callable

    from resolverkit.model import Question, Reply
    from resolverkit.policy import StalePolicy
    from resolverkit.upstream import Upstream


class Served:
    """What a caller gets: an entry, where it came from, and what to tell of it."""

    __slots__ = ("detail", "entry", "source")

    def __init__(self, entry: Entry, source: Source, detail: str = "") -> None:
        self.entry = entry
        self.source = source
        self.detail = detail


class LifetimeOver(QueryTimeout):
    """The caller's lifetime ended before the flight did."""


class _Waiter(asyncio.Future[Served]):
    """One caller on a flight."""

    __slots__ = ("action", "due", "entry", "flight")

    flight: _Flight
    entry: Entry | None  # what can be served, if anything
    due: float
    action: Callable[[], None] | None

    def give_in(self) -> None:
        """The caller's time is over; the flight goes on without it."""
        flight = self.flight
        if self.done():
            return
        if self.entry is not None:
            self.set_result(flight.cache._serve_stale(self.entry))
            return
        attempts = getattr(flight.asked, "attempts", ())
        self.set_exception(LifetimeOver("the lifetime is over", attempts))


class _Flight:
    """The one running resolution of a question."""

    __slots__ = (
        "asked", "cache", "denial", "key", "question",
        "started", "upstream", "waiters",
    )  # fmt: skip

    def __init__(
        self,
        cache: Cache,
        key: bytes,
        question: Question,
        upstream: Upstream,
        started: float,
    ) -> None:
        self.cache = cache
        self.key = key
        self.question = question
        self.upstream = upstream
        self.started = started
        self.waiters: list[_Waiter] = []
        self.asked: asyncio.Future[Reply] | None = None
        self.denial: Reply | None = None  # waits to be confirmed

    def landed(self, asked: asyncio.Future[Reply]) -> None:
        """The upstream is done."""
        self.cache._landed(self, asked)


class Cache(Memory):
    """Memory for replies, and the flights that fill it.

    Args:
        clock: seconds, counting suspend where the system can.
        stale: how long an entry counts as last known good.
        max_bytes: bound for positive entries; 0 keeps nothing.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        stale: StalePolicy,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        super().__init__(clock, stale, max_bytes)
        self.hits = self.misses = self.stale_hits = 0
        self._flights: dict[bytes, _Flight] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    # --- asking ----------------------------------------------------------------------

    def ask(
        self,
        question: Question,
        upstream: Upstream,
        stale: StalePolicy,
        *,
        started: float,
        until: float,
        refresh: bool = False,
        variant: bytes = b"",
    ) -> Served | asyncio.Future[Served]:
        """Answer a question from memory, or have it resolved.

        Args:
            question: what is asked.
            upstream: who to ask on a miss.
            stale: the caller's policy.
            started: loop time at which the caller's whole call began.
            until: loop time at which its lifetime ends.
            refresh: go out even if a fresh entry is there.
            variant: tells flights apart that go other ways (TCP, a source address).

        Returns:
            What is there already, or a Future of it; it raises an `UpstreamError`, a
            `QueryTimeout` once the lifetime is over.

        Raises:
            UpstreamError: the key failed lately and there is nothing to serve.
        """
        loop = self._loop
        assert loop is not None  # a stack is bound to it
        now = self.clock()
        entry = self.find(question) if question.cacheable else None
        if entry is not None and not refresh and now < entry.expires:
            self.hits += 1
            if now >= entry.refresh_at:
                self._refresh(entry, upstream, now)
            return Served(entry, Source.CACHE)
        self.misses += 1
        key = question.key + variant
        flight = self._flights.get(key)
        if entry is not None and not entry.usable(now, stale):
            entry = None
        if flight is None:
            failure = self._failures.get(key)
            if failure is not None and now < failure.until:
                if entry is not None:
                    return self._serve_stale(entry, "not asked again yet")
                raise failure.again(now)
            flight = self._launch(key, question, upstream, loop)
        wait_until = until
        if entry is not None:
            wait_until = self._stale_due(entry, flight, stale, started, until, now)
            if wait_until <= loop.time():
                return self._serve_stale(entry)
        return self._join(flight, entry, wait_until, loop)

    def _stale_due(
        self,
        entry: Entry,
        flight: _Flight,
        stale: StalePolicy,
        started: float,
        until: float,
        now: float,
    ) -> float:
        """Loop time from which on stale is better than waiting."""
        failed = entry.failed_at
        if failed is not None and now < failed + policy.RECENT_FAILURE:
            return flight.started
        if getattr(flight.upstream, "down", False):
            return flight.started
        wait = stale.wait
        if wait > policy.SIBLING_WAIT and self._siblings_fail(entry.question, now):
            wait = policy.SIBLING_WAIT
        return min(min(flight.started, started) + wait, until - policy.LIFETIME_MARGIN)

    def _serve_stale(self, entry: Entry, detail: str = "") -> Served:
        if self.clock() < entry.expires:  # a refresh was asked for, and failed
            return Served(entry, Source.CACHE, detail)
        self.stale_hits += 1
        return Served(entry, Source.STALE, detail)

    def _refresh(self, entry: Entry, upstream: Upstream, now: float) -> None:
        """Refresh ahead, behind the answer, unless that is under way or just failed."""
        question = entry.question
        failure = self._failures.get(question.key)
        if failure is not None and now < failure.until:
            return
        if question.key not in self._flights:
            assert self._loop is not None
            self._launch(question.key, question, upstream, self._loop)

    def _join(
        self,
        flight: _Flight,
        entry: Entry | None,
        until: float,
        loop: asyncio.AbstractEventLoop,
    ) -> _Waiter:
        waiter = _Waiter(loop=loop)
        waiter.flight = flight
        waiter.entry = entry
        waiter.due = until
        waiter.action = waiter.give_in
        (self._lifetimes if entry is None else self._patience).push(waiter)
        flight.waiters.append(waiter)
        return waiter

    # --- flights ---------------------------------------------------------------------

    def _launch(
        self,
        key: bytes,
        question: Question,
        upstream: Upstream,
        loop: asyncio.AbstractEventLoop,
    ) -> _Flight:
        now = loop.time()
        flight = _Flight(self, key, question, upstream, now)
        self._flights[key] = flight
        self._horizons.add(flight, now)
        self._watch(flight, Context().run(start, upstream, question))
        return flight

    def _watch(self, flight: _Flight, asked: asyncio.Future[Reply]) -> None:
        flight.asked = asked
        listen(asked, flight.landed)

    def _overdue(self, flight: _Flight) -> None:
        if flight.asked is None:
            return
        attempts = getattr(flight.asked, "attempts", ())
        asked, flight.asked = flight.asked, None
        asked.cancel()
        limit = policy.RESOLUTION_DEADLINE
        error = QueryTimeout(f"nothing conclusive within {limit:g} s", attempts)
        self._end_denied(flight, error)

    def _landed(self, flight: _Flight, asked: asyncio.Future[Reply]) -> None:
        if flight.asked is not asked:  # given up
            if not asked.cancelled():
                asked.exception()
            return
        if asked.cancelled():
            self._end_denied(
                flight, NetworkError("the resolver was closed", local=True)
            )
        elif (error := asked.exception()) is not None:
            self._end_denied(flight, error)
        else:
            self._weigh(flight, asked.result())

    def _end_denied(self, flight: _Flight, error: BaseException) -> None:
        """A flight failed, or the confirmation of a denial did."""
        if not isinstance(error, UpstreamError):
            error = NetworkError(f"{type(error).__name__}: {error}")
        denial = flight.denial
        if denial is None:
            self._fail(flight, error)
        else:  # nobody contradicts it
            denial.attempts += error.attempts
            self._store(flight, denial)

    def _weigh(self, flight: _Flight, reply: Reply) -> None:
        """Is this reply to replace what we have?"""
        if reply.kind is Kind.DATA and not reply.disputed and flight.denial is None:
            self._store(flight, reply)
            return
        question, now = flight.question, self.clock()
        entry = self.find(question) if question.cacheable else None
        if entry is not None and not entry.usable(now, self.stale):
            entry = None
        if flight.denial is not None:  # this is another operator's word on it
            self._compare(flight, flight.denial, reply)
        elif entry is not None and reply.disputed and entry.reply.ad:
            # Another vantage found the zone bogus, and ours was validated once.
            self._keep_serving(flight, reply)
        elif not reply.denial or is_chosen_block(reply):
            self._store(flight, reply)
        elif not reply.soa:
            if entry is None:
                self._store(flight, reply)
            else:
                self._keep_serving(flight, reply)
        elif not self.contradicts(question, reply, now):
            self._store(flight, reply)
        else:
            confirm = getattr(flight.upstream, "confirm", None)
            second = confirm(question, reply.winner) if confirm else None
            if second is None:
                self._store(flight, reply)
            else:
                flight.denial = reply
                self._watch(flight, second)

    def _compare(self, flight: _Flight, denial: Reply, second: Reply) -> None:
        """Two operators have spoken: the one that denies less is believed."""
        attempts = (*denial.attempts, *second.attempts)
        better = denial
        if second.kind < denial.kind and (second.soa or not second.denial):
            better = second
            better.disputed = True
        better.attempts = attempts
        self._store(flight, better)

    def _keep_serving(self, flight: _Flight, reply: Reply) -> None:
        """The reply is less credible than what we have: as good as a failure.

        Those who want nothing stale get it all the same.
        """
        refused = Served(Entry(flight.question, reply, self.clock()), Source.UPSTREAM)
        for waiter in flight.waiters:
            if waiter.entry is None and not waiter.done():
                waiter.set_result(refused)
        why = (
            "a denial without SOA"
            if reply.denial
            else "not validated, others say bogus"
        )
        self._fail(flight, UpstreamError(why, reply.attempts))

    def _store(self, flight: _Flight, reply: Reply) -> None:
        question, now = flight.question, self.clock()
        if not question.cacheable or self.max_bytes == 0:
            self._deliver(flight, Entry(question, reply, now))
            return
        if self._failures.currsize:
            self._failures.pop(flight.key, None)
        self._deliver(flight, self.learn(question, reply, now))

    def _fail(self, flight: _Flight, error: UpstreamError) -> None:
        """Every vantage failed: remember that, and serve stale to those who can."""
        question, now = flight.question, self.clock()
        entry = self.find(question) if question.cacheable else None
        local = getattr(error, "local", False)
        if entry is not None:
            own = flight.key == question.key  # not by TCP, or from a source address
            entry.failed(now if own and not local else None, error.attempts)
        if question.cacheable and not local:
            stale = entry is not None and entry.usable(now, self.stale)
            self.note_failure(flight.key, question, error, now, stale=stale)
        for waiter in self._finish(flight):
            if waiter.entry is not None:
                waiter.set_result(self._serve_stale(waiter.entry))
            else:
                waiter.set_exception(error)

    def _deliver(self, flight: _Flight, entry: Entry) -> None:
        served = Served(entry, Source.UPSTREAM)
        for waiter in self._finish(flight):
            waiter.set_result(served)

    def _finish(self, flight: _Flight) -> list[_Waiter]:
        """Take the flight off the table; gives the waiters that still wait."""
        self._flights.pop(flight.key, None)
        self._horizons.discard(flight)
        flight.asked = None
        waiters, flight.waiters = flight.waiters, []
        for waiter in waiters:
            waiter.action = None
        return [waiter for waiter in waiters if not waiter.done()]

    # --- lifetime --------------------------------------------------------------------

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have flights and timers on `loop` from now on; entries stay."""
        if loop is self._loop:
            return
        self._loop = loop
        self._flights = {}
        self._lifetimes = Deadlines(loop)
        self._patience = Deadlines(loop)
        self._horizons = Timeouts(loop, policy.RESOLUTION_DEADLINE, self._overdue)

    def abandon(self) -> None:
        """End every flight; callers that wait are told. Entries stay."""
        error = NetworkError("the resolver was closed", local=True)
        for flight in list(self._flights.values()):
            asked = flight.asked
            for waiter in self._finish(flight):
                waiter.set_exception(error)
            if asked is not None:
                asked.cancel()
        if self._loop is not None:
            for table in (self._lifetimes, self._patience, self._horizons):
                table.clear()
