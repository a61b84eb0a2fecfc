"""The cache: fresh, stale and failed answers, and the one flight per question.

Rules, with their sources (DESIGN names the timers, `policy` their values):

- A fresh entry answers. In its last 10 % it is refreshed behind the answer.
- Otherwise the caller joins the one flight for that key, or starts it. While it flies,
  stale data is served at the client response timer (RFC 8767 section 5), or at once
  when there is reason to believe that fresh data will not come.
- NOERROR and confirmed denials replace an entry; a failure leaves it alone (section 4).
  A denial that contradicts a positive entry is confirmed by another operator first.
- A failed key is not asked for again for a while (RFC 9520 section 3.2).
- Positive entries, denials and failures have separate byte bounds, so that a flood of
  random names cannot push out the last known good.

Positive entries live in a dict with second chances (an entry that was read since it was
last passed over stays): a hit sets one flag. Denials and failures live in LRUs.
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import TYPE_CHECKING

from cachetools import LRUCache

from resolverkit import policy, wire
from resolverkit.deadlines import Deadlines, Timeouts
from resolverkit.errors import NetworkError, QueryTimeout, UpstreamError
from resolverkit.model import Kind, Source
from resolverkit.upstream import listen, start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resolverkit.answer import Answer
    from resolverkit.model import Attempt, Question, Reply
    from resolverkit.policy import StalePolicy
    from resolverkit.upstream import Upstream

MAX_BYTES = 64 * 1024 * 1024
"""Bytes for positive entries, by default."""
DENIAL_SHARE, FAILURE_SHARE = 8, 32
"""Denials get an eighth of that again, failures a thirty-second."""

_ENTRY_COST = (
    400  # bytes beside the wire: the entry, reply, question, attempt, dict slots
)
_FAILURE_COST = 600
_KEPT_ATTEMPTS = 8  # of those that failed since an entry was learnt
_ADDRESSES = (1, 28)
_CNAME = 5
_ANY_TYPE = b"\0\0"


class Entry:
    """A reply and when it was learnt (on the cache's clock)."""

    __slots__ = (
        "answer", "expires", "failed_at", "learnt", "question",
        "refresh_at", "reply", "since", "size", "text", "used",
    )  # fmt: skip

    def __init__(self, question: Question, reply: Reply, now: float) -> None:
        self.question = question
        self.text: tuple[dict[str, Entry], str] | None = None
        self.used = False
        self.size = 0
        self.renew(reply, now)

    def renew(self, reply: Reply, now: float) -> None:
        """Take a newer reply in place of the old one."""
        ttl = reply.ttl
        if reply.denial and not reply.soa:
            ttl = reply.ttl = int(policy.LAME_TTL)
        self.reply = reply
        self.learnt = now
        self.expires = now + ttl
        self.refresh_at = now + ttl * (1 - policy.REFRESH_AHEAD)
        self.answer: Answer | None = None
        self.since: tuple[Attempt, ...] = ()
        self.failed_at: float | None = None

    def failed(self, now: float | None, attempts: tuple[Attempt, ...]) -> None:
        """A refresh failed; `now` is None where that was this machine's fault."""
        self.failed_at = self.failed_at if now is None else now
        self.since = (*self.since, *attempts)[-_KEPT_ATTEMPTS:]

    def usable(self, now: float, stale: StalePolicy) -> bool:
        """Whether it may be served, stale or fresh."""
        if self.reply.denial and not self.reply.soa:
            return now < self.expires
        return now < self.expires + stale.max_stale


class Failure:
    """A key for which every vantage that was asked failed."""

    __slots__ = ("attempts", "since", "stale", "text", "ttl", "until")

    def __init__(
        self, error: UpstreamError, now: float, ttl: float, *, stale: bool
    ) -> None:
        self.text = str(error)  # and not the error: its traceback holds frames
        self.attempts = error.attempts
        self.stale = stale  # there was something to serve in place of an answer
        self.since = now
        self.ttl = ttl
        self.until = now + ttl


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

    __slots__ = ("action", "due", "entry")

    entry: Entry | None  # what can be served, if anything
    due: float
    action: Callable[[], None] | None


class _Flight:
    """The one running resolution of a question."""

    __slots__ = (
        "asked", "denial", "key", "question",
        "started", "upstream", "waiters",
    )  # fmt: skip

    def __init__(
        self, key: bytes, question: Question, upstream: Upstream, started: float
    ) -> None:
        self.key = key
        self.question = question
        self.upstream = upstream
        self.started = started
        self.waiters: list[_Waiter] = []
        self.asked: asyncio.Future[Reply] | None = None
        self.denial: Reply | None = None  # waits to be confirmed


class Cache:
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
        self.clock = clock
        self.stale = stale
        self.hits = self.misses = self.stale_hits = self.evictions = 0
        self._positive: dict[bytes, Entry] = {}
        self._bytes = 0
        self._other_types: dict[bytes, set[int]] = {}
        self._siblings: LRUCache[bytes, dict[bytes, float]] = LRUCache(1024)
        self._flights: dict[bytes, _Flight] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self.resize(max_bytes)

    # --- memory ----------------------------------------------------------------------

    def resize(self, max_bytes: int) -> None:
        """Set the bounds; what does not fit any more is evicted."""
        self.max_bytes = max_bytes
        old = [*getattr(self, "_denials", {}).values()]
        self._denials: LRUCache[bytes, Entry] = LRUCache(
            max_bytes // DENIAL_SHARE, getsizeof=_size
        )
        self._failures: LRUCache[bytes, Failure] = LRUCache(
            max(max_bytes // FAILURE_SHARE, 64 * _FAILURE_COST),
            getsizeof=lambda _: _FAILURE_COST,
        )
        for entry in old:
            self._keep(entry)
        self._shrink()

    @property
    def size(self) -> int:
        """What the positive entries are charged with."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._positive) + len(self._denials)

    def entries(self) -> Iterator[Entry]:
        """Every entry, fresh or not."""
        yield from list(self._positive.values())
        yield from list(self._denials.values())

    def find(self, question: Question) -> Entry | None:
        """The entry for a question, fresh or not."""
        entry = self._positive.get(question.key)
        if entry is not None:
            entry.used = True
            return entry
        denials = self._denials
        if not denials.currsize:
            return None
        nodata = denials.get(question.key)
        nxdomain = denials.get(_nxdomain_key(question))
        if nodata is None or nxdomain is None:
            return nodata or nxdomain
        return nodata if nodata.learnt > nxdomain.learnt else nxdomain

    def drop(self, entry: Entry) -> None:
        """Forget an entry."""
        key = entry.question.key
        if self._positive.get(key) is entry:
            self._remove(key, entry)
        for denied in (key, _nxdomain_key(entry.question)):
            if self._denials.get(denied) is entry:
                del self._denials[denied]

    def clear(self) -> None:
        """Forget every entry and every failure; flights go on."""
        for entry in self.entries():
            self.drop(entry)
        self.forget_failures()

    def forget_failures(self) -> None:
        """The network or the upstreams changed: failures say nothing now."""
        self._failures.clear()
        self._siblings.clear()

    def recovered(self) -> None:
        """An upstream is back: names that nothing could be served for are tried again.

        Those with stale data keep to the failure recheck timer. An upstream that is
        silent about a dead zone goes up and down with every other name that it is
        asked for, and each time all names of that zone would be asked for again.
        """
        failures = self._failures
        for key in [key for key in failures if not failures[key].stale]:
            del failures[key]
        self._siblings.clear()

    def charge(self, question: Question, reply: Reply, cost: int) -> None:
        """An entry's message was parsed: count the bytes that this takes."""
        entry = self._positive.get(question.key)
        if entry is not None and entry.reply is reply:
            entry.size += cost
            self._bytes += cost
            self._shrink()
            return
        entry = self._denials.get(question.key)
        if entry is not None and entry.reply is reply:
            del self._denials[question.key]
            entry.size += cost
            self._keep_denial(question.key, entry)

    def _keep(self, entry: Entry) -> None:
        reply, question = entry.reply, entry.question
        entry.size = (
            _ENTRY_COST
            + len(reply.wire)
            + len(question.wire)
            + 100 * len(reply.attempts)
        )
        if reply.kind is Kind.DATA:
            key = question.key
            if self._denials.currsize:
                self._denials.pop(key, None)
                self._denials.pop(_nxdomain_key(question), None)
            old = self._positive.get(key)
            if old is not entry:
                if old is not None:
                    self._remove(key, old)
                self._positive[key] = entry
                if question.rdtype not in _ADDRESSES:
                    name = _name_key(question)
                    self._other_types.setdefault(name, set()).add(question.rdtype)
            self._bytes += entry.size
            self._shrink()
            return
        key, other = question.key, _nxdomain_key(question)
        if reply.kind is Kind.NXDOMAIN and reply.final == question.wire_name:
            key, other = other, key
        self._denials.pop(other, None)  # the newer word on the name
        self._keep_denial(key, entry)

    def _keep_denial(self, key: bytes, entry: Entry) -> None:
        if entry.size <= self._denials.maxsize:
            self._denials[key] = entry

    def _shrink(self) -> None:
        positive = self._positive
        while self._bytes > self.max_bytes and positive:
            key = next(iter(positive))
            entry = positive[key]
            if entry.used:  # a second chance, at the back of the queue
                entry.used = False
                del positive[key]
                positive[key] = entry
            else:
                self._remove(key, entry)
                self.evictions += 1

    def _remove(self, key: bytes, entry: Entry) -> None:
        del self._positive[key]
        self._bytes -= entry.size
        if entry.text is not None:
            table, text = entry.text
            table.pop(text, None)
            entry.text = None
        question = entry.question
        if question.rdtype not in _ADDRESSES:
            name = _name_key(question)
            types = self._other_types.get(name, set())
            types.discard(question.rdtype)
            if not types:
                self._other_types.pop(name, None)

    def _evict_at(self, name: bytes, question: Question, *, direct: bool) -> None:
        """Drop positive entries at `name`: all of them, or those with direct data."""
        for key in self._keys_at(name, question):
            entry = self._positive.get(key)
            if entry is None or (direct and entry.reply.final != name):
                continue
            if direct and entry.question.rdtype == _CNAME:  # the CNAME itself
                continue
            self._remove(key, entry)

    def _keys_at(self, name: bytes, question: Question) -> list[bytes]:
        """The keys that positive entries at `name` may have, in that view."""
        rest = _rest_key(question)
        others = self._other_types.get(name + rest, ())
        return [
            name + rdtype.to_bytes(2, "big") + rest for rdtype in (*_ADDRESSES, *others)
        ]

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
                raise _again(failure, now)
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
        waiter.entry = entry
        waiter.due = until
        waiter.action = lambda: self._give_in(waiter, flight)
        (self._lifetimes if entry is None else self._patience).push(waiter)
        flight.waiters.append(waiter)
        return waiter

    def _give_in(self, waiter: _Waiter, flight: _Flight) -> None:
        """A caller's time is over; the flight goes on without it."""
        if waiter.done():
            return
        if waiter.entry is not None:
            waiter.set_result(self._serve_stale(waiter.entry))
            return
        attempts = getattr(flight.asked, "attempts", ())
        waiter.set_exception(LifetimeOver("the lifetime is over", attempts))

    # --- flights ---------------------------------------------------------------------

    def _launch(
        self,
        key: bytes,
        question: Question,
        upstream: Upstream,
        loop: asyncio.AbstractEventLoop,
    ) -> _Flight:
        now = loop.time()
        flight = _Flight(key, question, upstream, now)
        self._flights[key] = flight
        self._horizons.add(flight, now)
        self._watch(flight, Context().run(start, upstream, question))
        return flight

    def _watch(self, flight: _Flight, asked: asyncio.Future[Reply]) -> None:
        flight.asked = asked
        listen(asked, lambda asked: self._landed(flight, asked))

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
        question, now = flight.question, self.clock()
        entry = self.find(question) if question.cacheable else None
        if entry is not None and not entry.usable(now, self.stale):
            entry = None
        if flight.denial is not None:  # this is another operator's word on it
            self._compare(flight, flight.denial, reply)
        elif entry is not None and reply.disputed and entry.reply.ad:
            # Another vantage found the zone bogus, and ours was validated once.
            self._keep_serving(flight, reply)
        elif not reply.denial or _is_block(reply):
            self._store(flight, reply)
        elif not reply.soa:
            if entry is None:
                self._store(flight, reply)
            else:
                self._keep_serving(flight, reply)
        elif not self._contradicts(question, reply, now):
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

    def _contradicts(self, question: Question, denial: Reply, now: float) -> bool:
        """Whether a positive entry says otherwise: NXDOMAIN speaks of every type."""
        if not question.cacheable:
            return False
        keys = [question.key]
        if denial.kind is Kind.NXDOMAIN:
            keys += self._keys_at(denial.final, question)
        entries = (self._positive.get(key) for key in keys)
        return any(entry and entry.usable(now, self.stale) for entry in entries)

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
        key = question.key
        if not question.cacheable or self.max_bytes == 0:
            self._deliver(flight, Entry(question, reply, now))
            return
        if self._failures.currsize:
            self._failures.pop(key, None)
            self._failures.pop(flight.key, None)
            self._siblings.pop(wire.parent(question.wire_name), None)
        entry = self._positive.get(key)
        if entry is not None and reply.kind is Kind.DATA and reply.ttl:
            self._bytes -= entry.size
            entry.renew(reply, now)
            self._keep(entry)
        elif entry is not None and reply.kind is Kind.DATA:
            # A vantage that counts its TTL down says 0 for a second: the answer is for
            # this question only, and the last known good is still the one before it.
            entry.since, entry.failed_at = (), None
            entry = Entry(question, reply, now)
        else:
            if entry is not None:
                self._remove(key, entry)
            entry = Entry(question, reply, now)
            if reply.ttl or reply.denial:  # TTL 0 is for this question only
                self._keep(entry)
        if reply.soa or not reply.denial or _is_block(reply):
            name = question.wire_name
            alias = question.rdtype == _CNAME and reply.kind is Kind.DATA
            if alias or reply.final != name:  # RFC 8767 section 7
                self._evict_at(name, question, direct=True)
            if reply.kind is Kind.NXDOMAIN:
                self._evict_at(reply.final, question, direct=False)
        self._deliver(flight, entry)

    def _fail(self, flight: _Flight, error: UpstreamError) -> None:
        """Every vantage failed: remember that, and serve stale to those who can."""
        question, now = flight.question, self.clock()
        entry = self.find(question) if question.cacheable else None
        local = getattr(error, "local", False)
        if entry is not None:
            entry.failed(None if local else now, error.attempts)
        if question.cacheable and not local:
            last = self._failures.get(flight.key)
            previous = last.ttl if last and now < last.until + last.ttl else 0.0
            stale = entry is not None and entry.usable(now, self.stale)
            ttl = policy.failure_ttl(previous, stale=stale)
            self._failures[flight.key] = Failure(error, now, ttl, stale=stale)
            self._note_sibling(question, now)
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

    # --- siblings --------------------------------------------------------------------

    def _note_sibling(self, question: Question, now: float) -> None:
        name = question.wire_name
        parent = wire.parent(name)
        if len(parent) > 1 and len(wire.parent(parent)) > 1:  # at least two labels
            failed = self._siblings.setdefault(parent, {})
            failed.pop(name, None)  # the latest come last
            failed[name] = now
            if len(failed) > 4:  # two are enough
                del failed[next(iter(failed))]

    def _siblings_fail(self, question: Question, now: float) -> bool:
        name = question.wire_name
        failed = self._siblings.get(wire.parent(name), {})
        recent = [
            other
            for other, when in failed.items()
            if other != name and now - when < policy.SIBLING_WINDOW
        ]
        return len(recent) >= 2

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


def _size(entry: Entry) -> int:
    return entry.size


def _rest_key(question: Question) -> bytes:
    """Class, flags and view: the key without name and type."""
    return question.key[len(question.wire_name) + 2 :]


def _name_key(question: Question) -> bytes:
    return question.wire_name + _rest_key(question)


def _nxdomain_key(question: Question) -> bytes:
    """RFC 2308 section 5: NXDOMAIN goes by name and class, whatever the type."""
    return question.wire_name + _ANY_TYPE + _rest_key(question)


def _is_block(reply: Reply) -> bool:
    """A block that was chosen: groups let no other through."""
    return reply.winner is not None and policy.is_block(reply, reply.winner.endpoint)


def _again(failure: Failure, now: float) -> UpstreamError:
    """The error of a failure that is cached, for one more caller."""
    left = failure.until - now
    text = f"{failure.text} (not asked again for {left:.1f} s)"
    return UpstreamError(text, failure.attempts)
