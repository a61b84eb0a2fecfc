"""One question put to a group: who is asked when, and what comes of it.

`resolverkit.groups.hedge` has the algorithm in words.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeAlias

from resolverkit import health, policy
from resolverkit.errors import (
    NetworkError,
    QueryTimeout,
    ServerFailure,
    UpstreamError,
)
from resolverkit.listener import Pending, asker, drop, error_of, listen, start
from resolverkit.model import Attempt, Endpoint, Outcome, Reply

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping, Sequence

    from resolverkit.deadlines import Deadline
    from resolverkit.groups.group import Group
    from resolverkit.listener import Ask
    from resolverkit.model import Question
    from resolverkit.upstream import Upstream

_log = logging.getLogger("resolverkit.hedge")


class Child:
    """An upstream in this group, and its record here."""

    __slots__ = ("ask", "down_since", "endpoint", "health", "operator", "upstream")

    def __init__(self, upstream: Upstream) -> None:
        self.upstream: Upstream = upstream
        self.ask: Ask = asker(upstream)
        found = getattr(upstream, "endpoint", None)
        self.endpoint: Endpoint = found or Endpoint(upstream.name)
        self.operator: str = self.endpoint.operator or upstream.name
        self.health: health.Health = health.Health()
        self.down_since: float = 0.0

    def heard_since(self, then: float) -> bool | None:
        """Whether a byte came from there since `then`; None where nobody knows."""
        heard: float | None = getattr(self.upstream, "heard", None)
        return None if heard is None else heard >= then


Probes: TypeAlias = "Mapping[Child, tuple[float, asyncio.Future[Reply] | None]]"
"""Who was asked as a probe, when, and the Future of it until a race adopts it."""
_NO_PROBES: Probes = {}
_CONCLUSIVE = policy.Verdict.CONCLUSIVE


class Race(Pending):
    """One question put to a group, and its outcome."""

    __slots__ = ("_group", "_pending", "_question", "_remaining", "asked")

    # What most races do without: of the instance only once it is set.
    _attempts: tuple[tuple[int, Attempt], ...] = ()  # and place in `asked`
    _errors: tuple[UpstreamError, ...] = ()
    _failed: tuple[tuple[Child, float], ...] = ()  # said SERVFAIL or the like
    _weak: Reply | None = None
    _hedged = False
    _stretch = 1.0
    _timer: Deadline | None = None
    probes: Probes = _NO_PROBES

    def __init__(
        self,
        group: Group,
        question: Question,
        ordered: Sequence[Child],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(loop=loop)
        self._group = group
        self._question = question
        self._remaining = list(ordered)
        self._pending: dict[asyncio.Future[Reply], tuple[Child, float]] = {}
        self.asked: list[Child] = []

    # --- asking ----------------------------------------------------------------------

    def begin(self, now: float) -> None:
        """Ask the first, or all where there is no delay."""
        self._ask(self._remaining.pop(0), now)
        if self._group.delay == 0:
            while self._remaining:
                self._ask_next(now)

    def adopt(self, asked: asyncio.Future[Reply], started: float) -> None:
        """Go on from what the first was asked at `started`, and may have answered."""
        first = self._remaining.pop(0)
        self.asked.append(first)
        self._pending[asked] = (first, started)

    def _ask_next(self, now: float) -> None:
        self._ask(self._pick(), now)

    def _ask(self, child: Child, now: float) -> None:
        self.asked.append(child)
        # One that is or was down is not asked twice: a probe may have done so.
        started, asked = self.probes.get(child, (now, None))
        if asked is None:
            if child.health.down:
                child.health.probing(now)
            asked = start(child.upstream, self._question)
        listen(asked, self.ended)
        self._pending[asked] = (child, started)
        self._wait(child, now)

    def _pick(self) -> Child:
        """The best that is left, of an operator that was not asked yet if possible."""
        remaining = self._remaining
        operators = {child.operator for child in self.asked}
        for i, child in enumerate(remaining):
            if child.operator not in operators and not child.health.down:
                return remaining.pop(i)
        return remaining.pop(0)

    def _wait(self, child: Child, now: float) -> None:
        """Arm the timer that makes up for a late reply of `child`."""
        group, record = self._group, child.health
        delay = group.fixed_delay or record.delay * record.backoff
        if group.budget.spent:
            delay = health.MAX_DELAY
        if self._timer is not None:
            self._timer.cancel()
        self._timer = group.deadlines.add(now + delay * self._stretch, self.expire)

    def expire(self) -> None:
        """The reply of whoever was asked last is late."""
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
                if asked in self._pending:  # else that has failed
                    self._pending[asked] = self._pending.pop(asked)  # its turn is over
                if self._pending:
                    self._wait(child, now)
                return

    # --- outcomes --------------------------------------------------------------------

    def ended(self, asked: asyncio.Future[Reply]) -> None:
        """One that was asked is done."""
        known = self._pending.pop(asked, None)
        if known is None:  # lost, and cancelled by us
            if not asked.cancelled():
                asked.exception()
            return
        child, started = known
        now = self.get_loop().time()
        if asked.cancelled():
            self._lose(child, started, now, NetworkError("cancelled from outside"))
        elif (error := error_of(asked)) is not None:
            self._lose(child, started, now, _as_upstream_error(error, child))
        else:
            self._judge(child, started, now, asked.result())

    def _judge(self, child: Child, started: float, now: float, reply: Reply) -> None:
        if reply.winner is None:  # an upstream of the user's own, that tells nothing
            outcome, before = Outcome[reply.kind.name], reply.attempts
            reply.winner = Attempt(child.endpoint, started, now - started, outcome)
            reply.attempts = (*before, reply.winner)
        group, winner = self._group, reply.winner
        sample = winner.sends == 1
        if child.health.succeeded(now, now - started, sample=sample):
            group._recovered(child, True)
        verdict = policy.verdict(reply, winner.endpoint, on_block=group.on_block)
        if verdict is _CONCLUSIVE:
            if len(self.asked) > 1:
                self._note(child, reply.attempts)
            self._win(child, started, now, reply)
            return
        self._note(child, reply.attempts)
        if verdict is policy.Verdict.BLOCKED:
            winner.outcome = Outcome.BLOCKED
            self._errors += (ServerFailure(reply.rcode, reply.ede, (), "blocked"),)
        else:
            winner.detail = f"{winner.outcome} without SOA"
            if self._weak is None:
                self._weak = reply
        self._go_on(now)

    def _lose(
        self, child: Child, started: float, now: float, error: UpstreamError
    ) -> None:
        self._errors += (error,)
        child.health.errors += 1
        self._note(child, error.attempts or (_attempt(error, child, started, now),))
        if policy.is_bogus(error.attempts):
            # It is there and did its work; another that answers does not validate.
            self._group._recovered(child, child.health.heard())
        elif isinstance(error, ServerFailure) or (
            # Silent about this question while it answered others.
            isinstance(error, QueryTimeout) and child.heard_since(started)
        ):
            self._failed += ((child, started),)
        else:
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

    def _win(self, child: Child, started: float, now: float, reply: Reply) -> None:
        contested = len(self.asked) > 1
        if contested:
            self._blame(child, started, now)
        self._give_up(now)
        if contested:
            reply.attempts = self._told()
        if (
            (contested or reply.ede)
            and not reply.ad
            and policy.is_bogus(reply.attempts)
        ):
            reply.disputed = True
        if not self.done():
            self.set_result(reply)

    def _blame(self, child: Child, started: float, now: float) -> None:
        """What it says of the others that `child` won."""
        if self._hedged and child is self.asked[0]:
            self._group.budget.waste()
        for loser, asked_at in self._pending.values():
            if asked_at < started:  # by one that was asked later
                silent = loser.heard_since(asked_at) is False
                is_down = loser.health.overtaken(now, now - asked_at, silent=silent)
                self._group._went_down(loser, is_down, now)
        for failing, asked_at in self._failed:  # it failed, another did not: its fault
            is_down = failing.health.failed(now, now - asked_at)
            self._group._went_down(failing, is_down, now)

    def _end(self, now: float) -> None:
        """Nothing conclusive came from anybody."""
        for child, _ in self._failed:  # all fail alike: it is the name, not the server
            self._group._recovered(child, child.health.heard())
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
        if self._timer is not None:
            self._timer.cancel()
        if self._pending:
            pending, self._pending = self._pending, {}
            for asked, (child, started) in pending.items():
                overtaken = Attempt(
                    child.endpoint, started, now - started, Outcome.OVERTAKEN
                )
                self._note(child, (overtaken,))
                drop(asked)
        self._remaining = []
        if self.probes:
            self.probes = _NO_PROBES

    def _note(self, child: Child, attempts: Sequence[Attempt]) -> None:
        place = 0 if child is self.asked[0] else self.asked.index(child)
        self._attempts += tuple([(place, attempt) for attempt in attempts])

    def _told(self) -> tuple[Attempt, ...]:
        """All attempts in the order of asking."""
        return tuple([attempt for _, attempt in sorted(self._attempts, key=_place)])

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


def _attempt(error: UpstreamError, child: Child, started: float, now: float) -> Attempt:
    """What an upstream that does not tell its attempts has tried."""
    late = isinstance(error, QueryTimeout)
    outcome = Outcome.TIMEOUT if late else Outcome.NETWORK
    return Attempt(child.endpoint, started, now - started, outcome, detail=str(error))


def _as_upstream_error(error: BaseException, child: Child) -> UpstreamError:
    """The error itself, or a foreign one (of a user's own upstream) wrapped."""
    if isinstance(error, UpstreamError):
        return error
    if isinstance(error, TimeoutError):
        return QueryTimeout(str(error) or "timed out")
    _log.error("%s raised %r", child.upstream.name, error, exc_info=error)
    wrapped = NetworkError(f"{type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped
