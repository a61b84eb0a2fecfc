"""The cache: fresh, stale and failed answers, and the one flight per question.

Rules, with their sources (`policy` has the values of the timers):

- A fresh entry answers. In its last 10 % it is refreshed behind the answer.
- Otherwise the caller joins the one flight for that key, or starts it. While it flies,
  stale data is served at the client response timer (RFC 8767 section 5), or at once
  when there is reason to believe that fresh data will not come.
- NOERROR and confirmed denials replace an entry; a failure leaves it alone (section 4).
  A denial that contradicts a positive entry is confirmed by another operator first.
- A failed key is not asked for again for a while (RFC 9520 section 3.2).
- Where a store stands behind, it is looked into before the upstreams are asked, and
  beside them once it has had its head start.
- Who holds on to last known good data gets it although upstreams deny the name, and
  they are asked again every 30 s.

Nobody waits in a task: a flight is what the upstream tells of the outcome, and each
caller has a Future of its own, so that one who is cancelled harms nobody.
"""

from __future__ import annotations

import logging
from asyncio import Future
from contextvars import Context
from typing import TYPE_CHECKING, Any, overload

from resolverkit import policy
from resolverkit.deadlines import Deadlines, Rounds, Timeouts
from resolverkit.entry import Entry
from resolverkit.errors import BadReply, NetworkError, QueryTimeout, UpstreamError
from resolverkit.flight import (
    AnyWaiter,
    Call,
    Caller,
    Flight,
    LifetimeOver,
    Observer,
    Served,
    Waiter,
    serve,
)
from resolverkit.listener import Direct, Watched, asker
from resolverkit.memory import MAX_BYTES, Memory, is_chosen_block
from resolverkit.model import Kind, PlainReply, Reply, Source
from resolverkit.record import reply_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from resolverkit.behind import Behind
    from resolverkit.deadlines import Due
    from resolverkit.model import Question
    from resolverkit.policy import StalePolicy
    from resolverkit.record import Record
    from resolverkit.upstream import Upstream

_log = logging.getLogger("resolverkit.cache")
_log_answers = logging.getLogger("resolverkit.resolver").isEnabledFor
_DATA = Kind.DATA  # attributes of an enum are slow to look up on Python 3.11
_ROUND = 0.25  # seconds between two looks at who has waited for long
_CACHE, _UPSTREAM = Source.CACHE, Source.UPSTREAM


class Cache(Memory):
    """Memory for replies, and the flights that fill it.

    Args:
        clock: seconds, counting suspend where the system can.
        stale: how long an entry counts as last known good.
        max_bytes: bound for positive entries; 0 keeps nothing.
        behind: a store that outlives the process, if there is one.

    Attributes:
        observer: is told of every flight.
        hits: calls that were answered from fresh entries.
        misses: calls that were not.
        stale_hits: calls that were answered with stale data.
        held_hits: calls that were answered with data that is denied by now.
        refreshes: flights that began behind an answer.
        failures: flights that failed.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        stale: StalePolicy,
        max_bytes: int = MAX_BYTES,
        behind: Behind | None = None,
    ) -> None:
        super().__init__(clock, stale, max_bytes)
        self.behind = behind
        self.observer: Observer | None = None
        self.reset_counts()
        self._flights: dict[bytes, Flight] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._horizon: asyncio.TimerHandle | None = None

    # --- asking ----------------------------------------------------------------------

    @overload
    def ask(
        self,
        question: Question,
        upstream: Upstream,
        call: Call,
        started: float,
        now: float,
    ) -> Served | Caller: ...

    @overload
    def ask(
        self,
        question: Question,
        upstream: Upstream,
        call: Call,
        started: float,
        now: float,
        waiter: AnyWaiter,
    ) -> Served | AnyWaiter: ...

    def ask(
        self,
        question: Question,
        upstream: Upstream,
        call: Call,
        started: float,
        now: float,
        waiter: Any = None,
    ) -> Any:
        """Answer a question from memory, or have it resolved.

        Args:
            question: what is asked.
            upstream: who to ask on a miss.
            call: what the caller wants.
            started: loop time at which its whole call began.
            now: loop time.
            waiter: who is told what is not there yet; None for a new `Caller`.

        Returns:
            What is there already, or the waiter; a caller's Future raises an
            `UpstreamError`, a `QueryTimeout` once the lifetime is over.

        Raises:
            UpstreamError: the key failed lately and there is nothing to serve.
        """
        key, entry = question.key, None
        if (self._denies or key in self._positive) and question.cacheable:
            known = self._recall(question, upstream, call)
            if isinstance(known, Served):
                return known
            entry = known
        self.misses += 1
        if call.variant:
            key += call.variant
        flight = self._flights.get(key)
        began = flight is None
        if flight is None:
            if self._has_failed and key in self._failures:
                failure, moment = self._failures[key], self.clock()
                if moment < failure.until:
                    if entry is not None:
                        return self._serve_stale(entry, "not asked again yet")
                    raise failure.again(moment)
            flight = Flight()
            flight.begin(self, key, question, upstream, now)
        due = started + call.lifetime
        if entry is not None:
            patience = self._stale_due(entry, flight, call, due, self.clock())
            if patience <= now:
                if began:
                    self._launch(flight, look=True)
                return self._serve_stale(entry)
        if waiter is None:
            waiter = Caller()
            waiter.future = Future()
        waiter.flight = flight
        waiter.call = call
        waiter.due = due
        waiter.entry = entry
        flight.waiters.append(waiter)
        if began:
            self._launch(flight, look=True)  # it may end at once
        if entry is not None:
            self._patience.add(patience, waiter.expire)
        elif due <= self._rounds.next:
            self._lifetimes.push(waiter)
        return waiter

    def _recall(
        self, question: Question, upstream: Upstream, call: Call
    ) -> Served | Entry | None:
        """What memory has: to be served at once, or if no better comes, or nothing."""
        now, stale = self.clock(), call.stale
        entry, held = self.find(question), None
        if stale.on_denial == "hold":
            held = self.held(question, now, stale)
        if entry is not None and not call.refresh and now < entry.expires:
            if held is None:
                self.hits += 1
                if now >= entry.refresh_at:
                    self._refresh(entry, upstream, now)
                return serve(entry, _CACHE)
            if now < entry.learnt + policy.FAILURE_RECHECK:
                return self._serve_stale(held)
        if held is not None:
            return held
        return entry if entry is not None and entry.usable(now, stale) else None

    def _stale_due(
        self, entry: Entry, flight: Flight, call: Call, until: float, now: float
    ) -> float:
        """Loop time from which on stale is better than waiting."""
        failed = entry.failed_at
        if failed is not None and now < failed + policy.RECENT_FAILURE:
            return flight.started
        if getattr(flight.upstream, "down", False):
            return flight.started
        wait = call.stale.wait
        if wait > policy.SIBLING_WAIT and (
            self._siblings_fail(entry.question, now)
            # A process that starts amid an outage knows of no siblings yet.
            or getattr(flight.upstream, "unheard", False)
        ):
            wait = policy.SIBLING_WAIT
        return min(
            min(flight.started, until - call.lifetime) + wait,
            until - policy.LIFETIME_MARGIN,
        )

    def _serve_stale(self, entry: Entry, detail: str = "") -> Served:
        now = self.clock()
        if entry.denied_at is not None:
            self.held_hits += 1
            denied = f"denied by upstreams for {now - entry.denied_at:.0f} s"
            return serve(entry, Source.HELD, denied)
        if now < entry.expires:  # a refresh was asked for, and failed
            return serve(entry, Source.CACHE, detail)
        self.stale_hits += 1
        return serve(entry, Source.STALE, detail)

    def _refresh(self, entry: Entry, upstream: Upstream, now: float) -> None:
        """Refresh ahead, behind the answer, unless that is under way or just failed."""
        question = entry.question
        failure = self._failures.get(question.key)
        if failure is not None and now < failure.until:
            return
        if question.key not in self._flights:
            assert self._loop is not None
            self.refreshes += 1
            key, moment = question.key, self._loop.time()
            flight = Flight()
            flight.begin(self, key, question, upstream, moment)
            self._launch(flight, look=False)

    def fresh(self, question: Question) -> Served | None:
        """What is fresh in memory, for those who want nobody to be asked."""
        entry = self.find(question)
        if entry is None or self.clock() >= entry.expires:
            return None
        self.hits += 1
        return serve(entry, Source.CACHE)

    def release(self, waiter: Waiter) -> None:
        """The time of a waiter is over; its flight goes on without it."""
        if waiter.done():
            return
        served = self._last_resort(waiter)
        if served is not None:
            waiter.set_result(served)
            return
        if waiter.entry is not None:  # the flight has the rest of its lifetime
            waiter.entry = None
            self._lifetimes.push(waiter)
            return
        attempts = getattr(waiter.flight.asked, "attempts", ())
        waiter.set_exception(LifetimeOver("the lifetime is over", attempts))

    def _last_resort(self, waiter: Waiter) -> Served | None:
        """What it can be served in place of an answer, if that still holds.

        While it waits the name may be denied, as by the answer for another type, or max
        stale may pass.
        """
        entry, now = waiter.entry, self.clock()
        if entry is None:
            return None
        if self._may_serve(entry, waiter.call, now):
            return self._serve_stale(entry)
        newer = self.find(entry.question)
        if newer is None or now >= newer.expires:
            return None
        return serve(newer, Source.CACHE)

    def leave(self, waiter: Waiter) -> None:
        """Cancel a waiter, and the flight too if nobody else waits for it."""
        flight = waiter.flight
        waiter.cancel()
        if self._flights.get(flight.key) is flight and all(
            other.done() for other in flight.waiters
        ):
            asked = flight.asked
            self._finish(flight)
            if asked is not None:
                asked.drop()

    # --- flights ---------------------------------------------------------------------

    def _launch(self, flight: Flight, *, look: bool) -> None:
        """See to it that it ends; look into the store, or ask the upstreams."""
        question, upstream, now = flight.question, flight.upstream, flight.started
        if self._rounds.next <= now:
            self._rounds.begin(now)
        observer = self.observer
        if observer is not None and observer.hooked:
            observer.started(question)
        behind = self.behind
        if (
            behind is not None
            and look
            and question.cacheable
            and self.max_bytes  # else nothing is kept, here or there
            and behind.may_have(question.key)
        ):
            flight.looking = True
            starts = self._head_starts if behind.is_open else self._openings
            starts.add(flight, now)
            behind.look_up(question.key, flight.looked_up)
        elif isinstance(upstream, Direct):  # as `_go_out`, without the call
            flight.asked = upstream.ask(question, flight, now)
        else:
            self._go_out(flight)

    def _go_out(self, flight: Flight) -> None:
        """Ask the upstreams."""
        assert self._loop is not None
        ask = asker(flight.upstream)
        flight.asked = ask(flight.question, flight, self._loop.time())

    def _find_late(self, until: float) -> tuple[list[Due], bool]:
        """Callers whose time ends by then, and whether there are flights.

        And the timer that ends flights is armed, where that is near.
        """
        found: list[Due] = []
        for flight in self._flights.values():
            found += [
                waiter
                for waiter in flight.waiters
                if waiter.due <= until and waiter.entry is None and waiter.waits
            ]
        first = next(iter(self._flights.values()), None)
        if first is not None and self._horizon is None:
            self._see_to(first)
        return found, first is not None

    def _see_to(self, flight: Flight) -> None:
        """Arm the timer that ends flights: they stand in the order of their starts."""
        assert self._loop is not None
        due = flight.started + policy.RESOLUTION_DEADLINE
        self._horizon = self._loop.call_at(due, self._end_overdue, context=Context())

    def _end_overdue(self) -> None:
        """End each flight that has had its time; the next one has the timer."""
        assert self._loop is not None
        self._horizon = None
        now = self._loop.time()
        for flight in list(self._flights.values()):
            if flight.started + policy.RESOLUTION_DEADLINE > now:
                if self._horizon is None:
                    self._see_to(flight)
                return
            self._overdue(flight)

    def _overdue(self, flight: Flight) -> None:
        if flight.looking:  # then the store has had its time, too
            flight.looking = False
            self._stop_looking(flight)
        attempts = getattr(flight.asked, "attempts", ())
        asked, flight.asked = flight.asked, None
        if asked is not None:
            asked.drop()
        limit = policy.RESOLUTION_DEADLINE
        error = QueryTimeout(f"nothing conclusive within {limit:g} s", attempts)
        self._end_denied(flight, error)

    # --- what the store says ---------------------------------------------------------

    def _looked_up(self, flight: Flight, record: Record | None) -> None:
        if self._flights.get(flight.key) is not flight:
            return  # the upstreams were faster
        flight.looking = False
        self._head_starts.discard(flight)
        self._openings.discard(flight)
        entry = None if record is None else self._check(record, flight.question)
        if entry is not None:
            self._offer(flight, entry)
        if self._flights.get(flight.key) is not flight:
            return
        if flight.failure is not None:
            self._fail(flight, flight.failure)
        elif flight.asked is None:
            self._go_out(flight)

    def _check(self, record: Record, question: Question) -> Entry | None:
        """The entry for what a store gave, which is believed no more than a server."""
        record = record._replace(key=question.key)
        try:
            reply = reply_of(record)
        except (BadReply, ValueError) as error:
            assert self.behind is not None
            name = self.behind.store.name
            _log.info("%s: what it has for %s is void: %s", name, question, error)
            return None
        return self.adopt(record, reply, self.clock())

    def _offer(self, flight: Flight, entry: Entry) -> None:
        """Have waiters know of an entry: at once if it is fresh, else in due time."""
        now, loop = self.clock(), self._loop
        assert loop is not None
        fresh = entry.denied_at is None and now < entry.expires
        waiting = []
        for waiter in flight.waiters:
            if fresh and not waiter.call.refresh:
                if not waiter.done():
                    self.hits += 1
                    waiter.set_result(serve(entry, Source.CACHE))
                continue
            waiting.append(waiter)
            if waiter.entry is entry or not self._may_serve(entry, waiter.call, now):
                continue
            waiter.entry = entry
            due = self._stale_due(entry, flight, waiter.call, waiter.due, now)
            if due <= loop.time():
                waiter.expire()
            else:
                self._patience.add(due, waiter.expire)
        flight.waiters = waiting
        if fresh and not waiting and flight.asked is None:
            self._finish(flight)

    def _may_serve(self, entry: Entry, call: Call, now: float) -> bool:
        if entry.denied_at is not None:
            return entry.held(now, call.stale)
        return entry.usable(now, call.stale)

    # --- what the upstreams say ------------------------------------------------------

    def _end_denied(self, flight: Flight, error: BaseException) -> None:
        """A flight failed, or the confirmation of a denial did."""
        if not isinstance(error, UpstreamError):
            error = NetworkError(f"{type(error).__name__}: {error}")
        denial = flight.denial
        if denial is None:
            self._fail(flight, error)
        else:  # nobody contradicts it
            denial.attempts += error.attempts
            self._store(flight, denial)

    def _weigh(self, flight: Flight, reply: Reply) -> None:
        """Is this reply to replace what we have?"""
        if reply.kind is _DATA and not reply.disputed and flight.denial is None:
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
        elif entry is not None and reply.denial and reply.disputed:
            self._keep_serving(flight, reply)  # a quorum that came to no majority
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
                flight.asked = Watched(second, flight)

    def _compare(self, flight: Flight, denial: Reply, second: Reply) -> None:
        """Two operators have spoken: the one that denies less is believed."""
        attempts = (*denial.attempts, *second.attempts)
        better = denial
        if second.kind < denial.kind and (second.soa or not second.denial):
            better = second
            better.disputed = True
        better.attempts = attempts
        self._store(flight, better)

    def _keep_serving(self, flight: Flight, reply: Reply) -> None:
        """The reply is less credible than what we have: as good as a failure.

        Those who want nothing stale get it all the same.
        """
        refused = serve(Entry(flight.question, reply, self.clock()), Source.UPSTREAM)
        for waiter in flight.waiters:
            if waiter.entry is None:
                waiter.set_result(refused)
        why = "not validated, others say bogus"
        if reply.denial:
            why = "a disputed denial" if reply.soa else "a denial without SOA"
        self._fail(flight, UpstreamError(why, reply.attempts))

    def _answered(self, flight: Flight, reply: Reply | PlainReply) -> None:
        """An upstream has answered: keep it, and give it to those who wait.

        What nearly every reply is takes fewer steps than `_store` and `_deliver`.
        """
        if type(reply) is not PlainReply or flight.denial is not None:
            self._weigh(flight, reply if isinstance(reply, Reply) else reply.reply())
            return
        question, now = flight.question, self.clock()
        if self._has_failed:
            self._failures.pop(flight.key, None)
        if question.cacheable and self.max_bytes:
            entry = self.learn_plain(question, reply, now)
            if self.behind is not None:
                self._write_behind(self.behind, entry, question)
        else:
            entry = Entry(question, reply, now)
        served = serve(entry, _UPSTREAM)
        observer = self.observer
        if observer is not None and (observer.hooked or _log_answers(logging.DEBUG)):
            observer.landed(question, served)
        if flight.looking:
            self._stop_looking(flight)
        self._flights.pop(flight.key, None)
        waiters, flight.asked, flight.waiters = flight.waiters, None, []
        for waiter in waiters:  # who was told already takes no notice
            waiter.set_result(served)

    def _store(self, flight: Flight, reply: Reply) -> None:
        question, now = flight.question, self.clock()
        if self._has_failed:
            self._failures.pop(flight.key, None)
        if not question.cacheable or self.max_bytes == 0:
            self._deliver(flight, Entry(question, reply, now), at_once=True)
            return
        was = None if reply.kind is _DATA else self._positive.get(question.key)
        entry = self.learn(question, reply, now)
        if self.behind is not None:
            self._write_behind(self.behind, entry, question)
        if was is not None and was.denied_at == now and was.held(now, self.stale):
            _log.warning(
                "%s: upstreams say %s; its last known good data is held",
                question, reply.kind.name,
            )  # fmt: skip
        self._deliver(flight, entry, at_once=reply.kind is _DATA)

    def _write_behind(self, behind: Behind, entry: Entry, question: Question) -> None:
        if entry.kind is _DATA:
            if entry.ttl:  # memory may have been too small for it
                behind.learnt(entry)
            return
        reply = entry.reply
        if reply.denial and (reply.soa or is_chosen_block(reply)):
            for key in self.denied_keys(question, reply):
                behind.denied(key)

    def _fail(self, flight: Flight, error: UpstreamError) -> None:
        """Every vantage failed: remember that, and serve stale to those who can."""
        if flight.looking:  # the store may still have something
            flight.failure = error
            return
        self.failures += 1
        question, now = flight.question, self.clock()
        entry = self.find(question) if question.cacheable else None
        if entry is None and question.cacheable:
            entry = self.held(question, now, self.stale)
        if self.observer is not None:
            self.observer.failed(question, error, entry)
        local = getattr(error, "local", False)
        if entry is not None:
            own = flight.key == question.key  # not by TCP, or from a source address
            self.failed(entry, now if own and not local else None, error.attempts)
        if not local:
            stale = entry is not None and entry.usable(now, self.stale)
            self.note_failure(flight.key, question, error, now, stale=stale)
        for waiter in self._finish(flight):
            served = self._last_resort(waiter)
            if served is not None:
                waiter.set_result(served)
            else:
                waiter.set_exception(error)

    def _deliver(self, flight: Flight, entry: Entry, *, at_once: bool) -> None:
        """Give waiters what has come; `at_once` where nobody holds on to better."""
        served, question = serve(entry, _UPSTREAM), flight.question
        observer = self.observer
        if observer is not None and (observer.hooked or _log_answers(logging.DEBUG)):
            observer.landed(question, served)
        now = self.clock()
        for waiter in self._finish(flight):
            held = None if at_once else self.held(question, now, waiter.call.stale)
            waiter.set_result(served if held is None else self._serve_stale(held))

    def _finish(self, flight: Flight) -> list[Waiter]:
        """Take the flight off the table; gives the waiters that still wait."""
        if flight.looking:
            self._stop_looking(flight)
        self._flights.pop(flight.key, None)
        flight.asked = None
        waiters, flight.waiters = flight.waiters, []
        return [waiter for waiter in waiters if not waiter.done()]

    def _stop_looking(self, flight: Flight) -> None:
        self._head_starts.discard(flight)
        self._openings.discard(flight)

    # --- lifetime --------------------------------------------------------------------

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have flights and timers on `loop` from now on; entries stay."""
        if loop is self._loop:
            return
        self._loop = loop
        self._flights = {}
        self._lifetimes = Deadlines(loop)
        self._rounds = Rounds(loop, _ROUND, self._lifetimes, self._find_late)
        self._patience = Deadlines(loop)
        self._horizon = None
        self._head_starts = Timeouts(loop, policy.HEAD_START, self._go_out)
        self._openings = Timeouts(loop, policy.OPENING, self._go_out)
        if self.behind is not None:
            self.behind.bind(loop)

    def redirect(self, find: Callable[[Question], Upstream | None]) -> None:
        """Others are asked now: flights that are under way go to them.

        Args:
            find: who takes the place of those who were asked; None for nobody.
        """
        for key, flight in list(self._flights.items()):
            question, asked = flight.question, flight.asked
            if key != question.key or not question.cacheable:
                continue
            upstream = find(question)
            if upstream is None:
                continue
            flight.upstream = upstream
            if asked is not None:  # else the store is looked into before them
                flight.asked = flight.denial = flight.failure = None
                asked.drop()
                self._go_out(flight)

    def abandon(self) -> None:
        """End every flight; callers that wait are told. Entries stay."""
        error = NetworkError("the resolver was closed", local=True)
        for flight in list(self._flights.values()):
            asked = flight.asked
            for waiter in self._finish(flight):
                waiter.set_exception(error)
            if asked is not None:
                asked.drop()
        if self._loop is not None:
            for table in (self._rounds, self._lifetimes, self._patience):
                table.clear()
            for times in (self._head_starts, self._openings):
                times.clear()
            if self._horizon is not None:
                self._horizon.cancel()
                self._horizon = None

    def reset_counts(self) -> None:
        """Set what is counted to zero."""
        self.hits: int = 0
        self.misses: int = 0
        self.stale_hits: int = 0
        self.held_hits: int = 0
        self.refreshes: int = 0
        self.failures: int = 0
