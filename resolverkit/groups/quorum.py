"""Asks several operators until k of them agree.

The algorithm, for one question:

1. Order the upstreams as `Hedge` does: those that are up by SRTT, then those that are
   down. Ask the best of each of k operators at once: two addresses of one operator are
   one vantage, and have one voice.
2. `policy.verdict` says which replies count, and `comparison` which of them agree. When
   k operators share data, that is the answer.
3. When those who are yet to reply can no longer bring that about, because one failed,
   disagreed, or is late by its hedge delay, ask the next operator at once; where there
   is none left, another address of one that has not replied. When all have been asked,
   those that are late and can (UDP) send their question once more, doubling the delay.
4. Where k agree by their aliases only, one more is asked and waited for until its hedge
   delay: a liar may have copied the alias, but does not share data with two.
5. When nobody is left, the largest class is the answer, marked as disputed, or with
   ``strict`` the error. An upstream that is down is asked where there are not k that
   are up, but is waited for no longer than its hedge delay once there is something to
   give (with ``strict`` until it fails).

The class of a reply is itself and those that agree with it. Of classes of one size that
comes first in which more share data, then data before denials, then the class with the
upstream that was configured first.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

from resolverkit import health
from resolverkit.comparison import Said
from resolverkit.errors import ConfigurationError, UpstreamError
from resolverkit.groups.group import Group
from resolverkit.groups.racing import Race

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Sequence

    from resolverkit.deadlines import Deadline
    from resolverkit.groups.racing import Child
    from resolverkit.model import Attempt, Question, Reply
    from resolverkit.upstream import Upstream


OPERATORS = 2
"""How many have to agree, if nothing else is said."""


class Quorum(Group):
    """Asks until `k` operators agree; see the module for how.

    Args:
        upstreams: who to ask, in the order of preference while nothing is known.
        k: operators that have to agree; at least 2.
        strict: raise an `UpstreamError` where they do not, in place of giving the
            answer of most as disputed.
        delay: seconds until a late reply is made up for, ``"auto"`` for each upstream's
            own 95th percentile, 0 to ask all operators at once, None to wait for a
            failure.
        on_block: ``"accept"`` the word of a filtering upstream, or ask the ``"next"``.
        on_change: called with an upstream's name and whether it is up, when it goes
            down or answers again.

    Raises:
        ConfigurationError: fewer operators than `k`, or an option that is none.
    """

    def __init__(
        self,
        upstreams: Iterable[Upstream],
        k: int = OPERATORS,
        *,
        strict: bool = False,
        delay: float | Literal["auto"] | None = "auto",
        on_block: Literal["accept", "next"] = "accept",
        on_change: Callable[[str, bool], None] | None = None,
    ) -> None:
        super().__init__(upstreams, delay=delay, on_block=on_block, on_change=on_change)
        check_operators(k, (child.operator for child in self._children))
        self.k = k
        self.strict = strict

    def query(self, question: Question) -> asyncio.Future[Reply]:
        """Ask; see `Upstream.query`."""
        loop = self._bind()
        now = loop.time()
        self.budget.ask(now)
        if not self._ranking.holds(now):
            self._rank(now)
        poll = Poll(self, question, self._order, loop)
        poll.begin(now)
        self._probe_due(poll, self._down, question, now)
        return poll

    def confirm(self, question: Question, denied_by: Attempt | None) -> None:
        """Nobody: what a quorum denies has been confirmed by others already."""


def check_operators(k: int, operators: Iterable[str]) -> None:
    """Raise ConfigurationError where there can never be `k` that agree."""
    if not isinstance(k, int) or k < 2:
        raise ConfigurationError(f"k={k!r}: allowed are whole numbers from 2")
    names = list(dict.fromkeys(operators))
    if len(names) < k:
        raise ConfigurationError(
            f"a quorum of {k} needs {k} operators, and there are {len(names)}: "
            f"{', '.join(names)} (two addresses of one operator are one vantage)"
        )


class _Vote:
    """A conclusive reply, and what it says."""

    __slots__ = ("child", "reply", "said", "started")

    def __init__(
        self, child: Child, started: float, question: Question, reply: Reply
    ) -> None:
        self.child = child
        self.started = started
        self.reply = reply
        self.said = Said(question, reply)


class _Class:
    """A reply with all that agree with it."""

    __slots__ = ("agreed", "centre", "members", "rank", "shared")

    def __init__(self, centre: _Vote, votes: list[_Vote], order: list[Child]) -> None:
        self.centre = centre
        self.members = [vote for vote in votes if centre.said.agrees(vote.said)]
        sharing = [vote for vote in votes if centre.said.shares(vote.said)]
        self.agreed = len({vote.child.operator for vote in self.members})
        self.shared = len({vote.child.operator for vote in sharing})
        first = min(order.index(vote.child) for vote in self.members)
        own = order.index(centre.child)
        self.rank = (-self.agreed, -self.shared, centre.reply.kind, first, own)


class Poll(Race):
    """One question put to a quorum: a race that goes on until k operators agree."""

    __slots__ = ("_hedges", "_k", "_late_ones", "_strict", "_timers", "_votes")

    def __init__(
        self,
        group: Quorum,
        question: Question,
        ordered: Sequence[Child],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(group, question, ordered, loop)
        self._k = group.k
        self._strict = group.strict
        self._votes: list[_Vote] = []
        self._late_ones: set[Child] = set()
        self._hedges: set[Child] = set()  # asked because another was late
        self._timers: list[Deadline] = []

    # --- asking ----------------------------------------------------------------------

    def begin(self, now: float) -> None:
        """Ask k operators, or all where there is no delay."""
        if self._group.delay == 0:
            while self._next() is not None:
                self._ask_next(now)
        self._go_on(now)

    def _go_on(self, now: float) -> None:
        """Ask whoever has to be asked now, or end it."""
        if self.done():
            return
        best = min(
            (_Class(vote, self._votes, self._group._children) for vote in self._votes),
            key=lambda found: found.rank,
            default=None,
        )
        wanted = self._wanted(best)
        while wanted > len(self._coming()) and self._next() is not None:
            self._ask_next(now)
        if self._is_over(best, wanted):
            self._conclude(best, now)

    def _wanted(self, best: _Class | None) -> int:
        """How many more voices it takes."""
        if best is None:
            return self._k
        if best.agreed < self._k:
            return self._k - best.agreed
        return int(best.shared < self._k and len(self._voted()) <= self._k)

    def _is_over(self, best: _Class | None, wanted: int) -> bool:
        """Whether nothing is gained by waiting."""
        if wanted == 0:
            return True
        voted = self._voted()
        waiting = [c for c, _ in self._pending.values() if c.operator not in voted]
        if not waiting:
            return True
        if best is None or any(child not in self._late_ones for child in waiting):
            return False
        if best.agreed >= self._k:
            return True
        return not self._strict and all(child.health.down for child in waiting)

    def _voted(self) -> set[str]:
        return {vote.child.operator for vote in self._votes}

    def _coming(self) -> set[str]:
        """Operators that may yet have their say, and are not late."""
        on_time = {
            child.operator
            for child, _ in self._pending.values()
            if child not in self._late_ones
        }
        return on_time - self._voted()

    def _next(self) -> Child | None:
        """Who is asked next: one of an operator that was not asked yet if possible."""
        taken = self._voted() | self._coming()
        usable = [child for child in self._remaining if child.operator not in taken]
        asked = {child.operator for child in self.asked}
        for child in usable:
            if child.operator not in asked and not child.health.down:
                return child
        return usable[0] if usable else None

    def _pick(self) -> Child:
        child = self._next()
        assert child is not None  # nobody asks without having looked
        self._remaining.remove(child)
        return child

    def _wait(self, child: Child, now: float, stretch: float = 1.0) -> None:
        """Arm the timer that makes up for a late reply of `child`."""
        delay = self._group.fixed_delay or child.health.delay * child.health.backoff
        if self._group.budget.spent:
            delay = health.MAX_DELAY
        overdue = partial(self._overdue, child, stretch)
        table = self._group.deadlines
        self._timers.append(table.add(now + delay * stretch, overdue))

    def _overdue(self, child: Child, stretch: float) -> None:
        asked = next((a for a, (c, _) in self._pending.items() if c is child), None)
        if asked is None:
            return
        now = self.get_loop().time()
        before = len(self.asked)
        if self._group.delay is not None:
            self._late_ones.add(child)
            self._go_on(now)
            self._hedges.update(self.asked[before:])
        if self.done():
            return
        resend = getattr(child.upstream, "resend", None)
        alone = len(self.asked) == before and self._next() is None
        if resend is not None and (alone or self._group.delay is None):
            resend(asked)
        self._wait(child, now, stretch * 2)

    # --- outcomes --------------------------------------------------------------------

    def _win(self, child: Child, started: float, now: float, reply: Reply) -> None:
        """A conclusive reply is a vote here."""
        self._votes.append(_Vote(child, started, self._question, reply))
        self._go_on(now)

    def _conclude(self, best: _Class | None, now: float) -> None:
        agreed = best.agreed if best else 0
        if agreed < self._k and self._strict and (best or self._weak):
            self._fail(agreed, now)
        elif best is None:
            if self._weak is not None:
                self._mark(self._weak, agreed)
            self._end(now)
        else:
            self._mark(best.centre.reply, agreed)
            self._tell_dissent(best)
            if self._hedges and not any(x.child in self._hedges for x in best.members):
                self._group.budget.waste()
            last = max(vote.started for vote in best.members)
            super()._win(best.centre.child, last, now, best.centre.reply)

    def _mark(self, reply: Reply, agreed: int) -> None:
        reply.quorum = (self._operators_asked(), agreed)
        if agreed < self._k:
            reply.disputed = True

    def _operators_asked(self) -> int:
        return len({child.operator for child in self.asked})

    def _tell_dissent(self, best: _Class) -> None:
        for vote in self._votes:
            winner = vote.reply.winner
            if winner is not None and vote not in best.members:
                winner.detail = f"disagrees: {winner.outcome}"

    def _fail(self, agreed: int, now: float) -> None:
        """Fewer than k agree, and that was asked for."""
        self._give_up(now)
        asked = self._operators_asked()
        error = UpstreamError(f"{agreed} of {asked} operators agree, not {self._k}")
        error.attempts = self._told()
        self.set_exception(error)

    def _give_up(self, now: float) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers = []
        super()._give_up(now)
