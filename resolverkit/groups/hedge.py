"""The one racing loop: ask the best upstream, and the next when it fails or is late.

The algorithm, for one question:

1. Order the upstreams: those that are up by SRTT, then those that are down. An
   upstream that has been down for a while is asked as well, as a probe, at the same
   time.
2. Ask the first. When it fails, ask the next at once. When its hedge delay passes, ask
   the next too and go on waiting for both. The next is one of another operator, if
   there is one left.
3. When all have been asked, a delay that passes makes those that can (UDP) send their
   question once more, doubling the delay: a single upstream has no other hedge.
4. The first conclusive reply wins. Losers are cancelled and recorded as overtaken,
   which is not a failure. A denial without SOA, or a block that nobody asked for, is
   set aside and the next upstream asked; so it counts only when nothing better comes.
5. When all have failed, the most useful error is raised, with every attempt.

A budget limits waste: a hedge is wasted when the first upstream answers after all.
Once more than 5 % of the questions were (and more than 10 in 10 s), delays are
stretched to 1 s until that has passed. A hedge that rescues a lost question costs
nothing of it.

`race` is the same with no delay, `failover` with none but failure. Nobody waits in a
task: groups hang callbacks on Futures.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Literal

from resolverkit import health, policy
from resolverkit.deadlines import Deadline, Deadlines
from resolverkit.errors import (
    ConfigurationError,
    NetworkError,
    QueryTimeout,
    ServerFailure,
    UpstreamError,
)
from resolverkit.model import Attempt, Endpoint, Outcome, Reply
from resolverkit.upstream import Pending, drop, listen, start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from resolverkit.model import Question
    from resolverkit.upstream import Upstream

WASTE_SHARE = 0.05
"""Hedges that may be wasted, as a share of the questions."""
WASTE_FLOOR = 10
"""Wasted hedges that are always allowed in a window."""
WASTE_WINDOW = 10.0
"""Seconds over which waste is counted."""

_log = logging.getLogger("resolverkit.hedge")


class _Child:
    """An upstream in this group, and its record here."""

    __slots__ = ("down_since", "endpoint", "health", "operator", "upstream")

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        found = getattr(upstream, "endpoint", None)
        self.endpoint: Endpoint = found or Endpoint(upstream.name)
        self.operator = self.endpoint.operator or upstream.name
        self.health = health.Health()
        self.down_since = 0.0

    def heard_since(self, then: float) -> bool | None:
        """Whether a byte came from there since `then`; None where nobody knows."""
        heard: float | None = getattr(self.upstream, "heard", None)
        return None if heard is None else heard >= then


class _Budget:
    """How many hedges were wasted lately."""

    __slots__ = ("_asked", "_since", "_wasted")

    def __init__(self) -> None:
        self._since = float("-inf")
        self._asked = self._wasted = 0

    def ask(self, now: float) -> None:
        if now - self._since >= WASTE_WINDOW:
            self._since, self._asked, self._wasted = now, 0, 0
        self._asked += 1

    def waste(self) -> None:
        self._wasted += 1

    @property
    def spent(self) -> bool:
        wasted = self._wasted
        return wasted >= WASTE_FLOOR and wasted >= self._asked * WASTE_SHARE


class Hedge:
    """Asks several upstreams for one reply; see the module for how.

    Args:
        upstreams: who to ask, in the order of preference while nothing is known.
        delay: seconds until the next is asked, ``"auto"`` for each upstream's own
            95th percentile, 0 to ask all at once, None to wait for a failure.
        on_block: ``"accept"`` the word of a filtering upstream, or ask the ``"next"``.
        on_recovery: called when an upstream that was down answers again.

    Raises:
        ConfigurationError: no upstream, or a delay that is none.
    """

    def __init__(
        self,
        upstreams: Iterable[Upstream],
        *,
        delay: float | Literal["auto"] | None = "auto",
        on_block: Literal["accept", "next"] = "accept",
        on_recovery: Callable[[], None] | None = None,
    ) -> None:
        self._children = [_Child(upstream) for upstream in upstreams]
        if not self._children:
            raise ConfigurationError("a group needs at least one upstream")
        if isinstance(delay, str):
            if delay != "auto":
                raise ConfigurationError(
                    f"delay={delay!r}: allowed are 'auto', seconds, and None"
                )
        elif delay is not None and not 0 <= delay <= health.MAX_DELAY:
            raise ConfigurationError(
                f"delay={delay!r}: allowed are 0 to {health.MAX_DELAY:g} seconds"
            )
        self.delay = delay
        self.on_block = on_block
        self.on_recovery = on_recovery
        self._records = [child.health for child in self._children]
        self._budget = _Budget()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._deadlines: Deadlines
        self._probes: set[asyncio.Future[Reply]] = set()

    @property
    def name(self) -> str:
        """The group and its members."""
        return f"hedge({', '.join(child.upstream.name for child in self._children)})"

    @property
    def upstreams(self) -> list[Upstream]:
        """The members, in the order in which they were given."""
        return [child.upstream for child in self._children]

    @property
    def down(self) -> bool:
        """Whether every member is down, as far as is known."""
        return all(record.down for record in self._records)

    def query(self, question: Question) -> asyncio.Future[Reply]:
        """Ask; see `Upstream.query`."""
        return self._start(question, self._children)

    def confirm(
        self, question: Question, denied_by: Attempt | None
    ) -> asyncio.Future[Reply] | None:
        """Ask again, but other operators than the one that denied the name.

        Returns:
            As `query` does, or None where there is no other operator.
        """
        said = denied_by.endpoint if denied_by else Endpoint("")
        who = said.operator or said.name
        others = [child for child in self._children if child.operator != who]
        return self._start(question, others) if others else None

    def _start(
        self, question: Question, children: Sequence[_Child]
    ) -> asyncio.Future[Reply]:
        loop = self._loop
        if loop is None or loop.is_closed():
            loop = self._bind()
        now = loop.time()
        self._budget.ask(now)
        down = [child for child in children if child.health.retry_at is not None]
        for child in down:  # a late reply, too, shows that a server is up
            if child.heard_since(child.down_since):
                self._recovered(child, child.health.heard())
        records = self._records
        if children is not self._children:
            records = [child.health for child in children]
        ordered = [children[i] for i in health.order(records, now)]
        race = _Race(self, question, ordered, self._deadlines, loop)
        race.begin(now)
        for child in down:
            if child not in race.asked and child.health.probe_due(now):
                race.probes[child] = (now, self._probe(child, question, loop))
        return race

    def _bind(self) -> asyncio.AbstractEventLoop:
        self._loop = loop = asyncio.get_running_loop()
        self._deadlines = Deadlines(loop)
        return loop

    def _probe(
        self, child: _Child, question: Question, loop: asyncio.AbstractEventLoop
    ) -> asyncio.Future[Reply]:
        """Ask a child that is down, without anybody waiting for it."""
        started = loop.time()
        child.health.probing(started)
        probe = start(child.upstream, question)
        self._probes.add(probe)

        def ended(probe: asyncio.Future[Reply]) -> None:
            self._probes.discard(probe)
            if probe.cancelled():
                return
            error = probe.exception()
            if error is None or isinstance(error, ServerFailure):
                now = loop.time()
                was_down = child.health.succeeded(now, now - started, sample=False)
                self._recovered(child, was_down)

        probe.add_done_callback(ended)
        return probe

    def _recovered(self, child: _Child, was_down: bool) -> None:
        if was_down:
            _log.info("%s answers again", child.upstream.name)
            if self.on_recovery is not None:
                self.on_recovery()

    def _went_down(self, child: _Child, is_down: bool, now: float) -> None:
        if is_down:
            child.down_since = now
            _log.warning("%s is down", child.upstream.name)

    async def aclose(self) -> None:
        """Close every member. Idempotent."""
        probes = list(self._probes)
        for probe in probes:
            probe.cancel()
        if probes:
            await asyncio.wait(probes)
        if self._loop is not None:
            self._deadlines.clear()
        # At once: a TLS server that does not say goodbye is waited for, 0.25 s each.
        await asyncio.gather(*(child.upstream.aclose() for child in self._children))

    def __repr__(self) -> str:
        return f"<Hedge {self.name}>"


def race(upstreams: Iterable[Upstream]) -> Hedge:
    """A group that asks all its upstreams at once; the first conclusive reply wins."""
    return Hedge(upstreams, delay=0)


def failover(upstreams: Iterable[Upstream]) -> Hedge:
    """A group that asks the next upstream only when the one before it has failed."""
    return Hedge(upstreams, delay=None)


class _Race(Pending):
    """One question put to a group, and its outcome."""

    __slots__ = (
        "_attempts", "_deadline", "_deadlines", "_errors", "_failed", "_group",
        "_hedged", "_pending", "_question", "_remaining", "_stretch", "_weak", "asked",
        "probes",
    )  # fmt: skip

    def __init__(
        self,
        group: Hedge,
        question: Question,
        ordered: list[_Child],
        deadlines: Deadlines,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(loop=loop)
        self._group = group
        self._question = question
        self._remaining = ordered
        self._deadlines = deadlines
        self._deadline: Deadline | None = None
        self._pending: dict[asyncio.Future[Reply], tuple[_Child, float]] = {}
        self._attempts: list[tuple[int, Attempt]] = []  # with the place in `asked`
        self._errors: list[UpstreamError] = []
        self._failed: list[tuple[_Child, float]] = []  # said SERVFAIL or the like
        self._weak: Reply | None = None
        self._hedged = False
        self._stretch = 1.0
        self.asked: list[_Child] = []
        self.probes: dict[_Child, tuple[float, asyncio.Future[Reply] | None]] = {}

    # --- asking ----------------------------------------------------------------------

    def begin(self, now: float) -> None:
        self._ask_next(now)
        if self._group.delay == 0:
            while self._remaining:
                self._ask_next(now)

    def _ask_next(self, now: float) -> None:
        child = self._pick()
        self.asked.append(child)
        started, asked = self.probes.pop(child, (now, None))
        if asked is None:  # else asked already, and never twice
            if child.health.down:
                child.health.probing(now)
            asked = start(child.upstream, self._question)
        self._pending[asked] = (child, started)
        listen(asked, self._ended)
        self._wait(child, now)

    def _pick(self) -> _Child:
        """The best that is left, of an operator that was not asked yet if possible."""
        remaining = self._remaining
        if self.asked:
            operators = {child.operator for child in self.asked}
            for i, child in enumerate(remaining):
                if child.operator not in operators and not child.health.down:
                    return remaining.pop(i)
        return remaining.pop(0)

    def _wait(self, child: _Child, now: float) -> None:
        """Arm the timer that makes up for a late reply of `child`."""
        delay = child.health.delay * child.health.backoff
        if isinstance(self._group.delay, (int, float)) and self._group.delay > 0:
            delay = self._group.delay
        if self._group._budget.spent:
            delay = health.MAX_DELAY
        if self._deadline is not None:
            self._deadline.action = None
        self._deadline = self._deadlines.add(now + delay * self._stretch, self._late)

    def _late(self) -> None:
        self._deadline = None
        if self.done() or not self._pending:
            return
        now = self.get_loop().time()
        if self._remaining and self._group.delay is not None:
            self._hedged = True
            self._ask_next(now)
            return
        self._stretch *= 2
        for asked, (child, _) in self._pending.items():
            resend = getattr(child.upstream, "resend", None)
            if resend is not None and resend(asked):
                self._pending[asked] = self._pending.pop(asked)  # its turn is over
                self._wait(child, now)
                return

    # --- outcomes --------------------------------------------------------------------

    def _ended(self, asked: asyncio.Future[Reply]) -> None:
        known = self._pending.pop(asked, None)
        if known is None:  # lost, and cancelled by us
            if not asked.cancelled():
                asked.exception()
            return
        child, started = known
        now = self.get_loop().time()
        if asked.cancelled():
            self._lose(child, started, now, NetworkError("cancelled from outside"))
        elif (error := asked.exception()) is not None:
            self._lose(child, started, now, _as_upstream_error(error, child))
        else:
            self._judge(child, started, now, asked.result())

    def _judge(self, child: _Child, started: float, now: float, reply: Reply) -> None:
        attempts = reply.attempts
        sample = not attempts or attempts[-1].sends == 1
        was_down = child.health.succeeded(now, now - started, sample=sample)
        self._group._recovered(child, was_down)
        self._note(child, attempts)
        endpoint = reply.winner.endpoint if reply.winner else child.endpoint
        match policy.verdict(reply, endpoint, on_block=self._group.on_block):
            case policy.Verdict.CONCLUSIVE:
                self._win(child, started, now, reply)
                return
            case policy.Verdict.BLOCKED:
                if reply.winner:
                    reply.winner.outcome = Outcome.BLOCKED
                self._errors.append(
                    ServerFailure(reply.rcode, reply.ede, (), "blocked")
                )
            case policy.Verdict.WEAK:
                if reply.winner:
                    reply.winner.detail = f"{reply.winner.outcome} without SOA"
                if self._weak is None:
                    self._weak = reply
        self._go_on(now)

    def _lose(
        self, child: _Child, started: float, now: float, error: UpstreamError
    ) -> None:
        self._errors.append(error)
        self._note(child, error.attempts or (_attempt(error, child, started, now),))
        if isinstance(error, ServerFailure) or (
            # Silent about this question while it answered others.
            isinstance(error, QueryTimeout) and child.heard_since(started)
        ):
            self._failed.append((child, started))
        elif not getattr(error, "local", False):
            is_down = child.health.failed(now, now - started)
            self._group._went_down(child, is_down, now)
        self._go_on(now)

    def _go_on(self, now: float) -> None:
        if self.done():
            return
        if self._remaining:
            self._ask_next(now)
        elif not self._pending:
            self._end(now)

    def _win(self, child: _Child, started: float, now: float, reply: Reply) -> None:
        if self._hedged and child is self.asked[0]:
            self._group._budget.waste()
        for loser, asked_at in self._pending.values():
            if asked_at < started:  # by one that was asked later
                silent = loser.heard_since(asked_at) is False
                is_down = loser.health.overtaken(now, now - asked_at, silent=silent)
                self._group._went_down(loser, is_down, now)
        for failing, asked_at in self._failed:  # it failed, another did not: its fault
            is_down = failing.health.failed(now, now - asked_at)
            self._group._went_down(failing, is_down, now)
        self._give_up(now)
        reply.attempts = self._told()
        if not reply.ad and policy.is_bogus(reply.attempts):
            reply.disputed = True
        if not self.done():
            self.set_result(reply)

    def _end(self, now: float) -> None:
        """Nothing conclusive came from anybody."""
        for child, _ in self._failed:  # all fail alike: it is the name, not the server
            child.health.heard()
        self._give_up(now)
        if self._weak is not None:
            self._weak.attempts = self._told()
            self.set_result(self._weak)
            return
        error = policy.most_useful(self._errors)
        error.attempts = self._told()
        self.set_exception(error)

    def _give_up(self, now: float) -> None:
        """Stop the timer and cancel what is still pending; tell it in the attempts."""
        if self._deadline is not None:
            self._deadline.action = None
            self._deadline = None
        pending, self._pending = self._pending, {}
        for asked, (child, started) in pending.items():
            overtaken = Attempt(
                child.endpoint, started, now - started, Outcome.OVERTAKEN
            )
            self._note(child, (overtaken,))
            drop(asked)
        self._remaining = []
        self.probes = {}

    def _note(self, child: _Child, attempts: Sequence[Attempt]) -> None:
        place = self.asked.index(child)
        self._attempts += [(place, attempt) for attempt in attempts]

    def _told(self) -> tuple[Attempt, ...]:
        """All attempts in the order of asking."""
        if len(self._attempts) > 1:
            self._attempts.sort(key=_place)
        return tuple([attempt for _, attempt in self._attempts])

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """What has been tried so far, for a caller whose time is over."""
        now = self.get_loop().time()
        waiting = [
            Attempt(
                child.endpoint, started, now - started, Outcome.TIMEOUT,
                detail="no reply yet",
            )
            for child, started in self._pending.values()
        ]  # fmt: skip
        return (*self._told(), *waiting)

    def cancel(self, msg: object = None) -> bool:
        """Cancel all that is pending, too."""
        if self.done():
            return False
        self._give_up(self.get_loop().time())
        return super().cancel(msg)


def _place(noted: tuple[int, Attempt]) -> int:
    return noted[0]


def _attempt(
    error: UpstreamError, child: _Child, started: float, now: float
) -> Attempt:
    """What an upstream that does not tell its attempts has tried."""
    late = isinstance(error, QueryTimeout)
    outcome = Outcome.TIMEOUT if late else Outcome.NETWORK
    return Attempt(child.endpoint, started, now - started, outcome, detail=str(error))


def _as_upstream_error(error: BaseException, child: _Child) -> UpstreamError:
    """The error itself, or a foreign one (of a user's own upstream) wrapped."""
    if isinstance(error, UpstreamError):
        return error
    if isinstance(error, TimeoutError):
        return QueryTimeout(str(error) or "timed out")
    _log.error("%s raised %r", child.upstream.name, error, exc_info=error)
    wrapped = NetworkError(f"{type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped
