"""One question put to the upstream that comes first, as nearly every one is.

Nearly always that one answers in time, with data, and there is nothing more to it. Only
where it fails, is late, denies or is blocked does a `Race` take over, which asks others
and has the last word: so that a question costs no tables of who was asked.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from resolverkit.groups.racing import Race
from resolverkit.health import MAX_DELAY
from resolverkit.model import Attempt, Kind, Outcome, Reply
from resolverkit.upstream import Pending, drop, listen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolverkit.groups.group import Group
    from resolverkit.groups.racing import Child
    from resolverkit.model import Question

_DATA = Kind.DATA  # attributes of an enum are slow to look up on Python 3.11


class Lead(Pending):
    """A question at the best of a group's upstreams; its own entry among deadlines.

    Attributes:
        due: loop time at which the reply is late.
        waits: no race has taken over yet, nor is it over.
    """

    __slots__ = (
        "_asked", "_group", "_ordered", "_question", "_started", "due", "waits",
    )  # fmt: skip

    _asked: asyncio.Future[Reply]
    _group: Group
    _ordered: Sequence[Child]
    _question: Question
    _started: float
    due: float
    waits: bool

    _race: Race | None = None  # of the instance only once it is set

    def begin(
        self, group: Group, question: Question, ordered: Sequence[Child], now: float
    ) -> None:
        """Ask the first of `ordered`, which is up."""
        self._group = group
        self._question = question
        self._ordered = ordered
        self._started = now
        self.waits = True
        child = ordered[0]
        record = child.health
        asked = child.upstream.query(question)
        if isinstance(asked, Pending) and not asked.done():
            self._asked = asked
            asked.then = self._ended
        else:
            self._asked = asyncio.ensure_future(asked)
            self._asked.add_done_callback(self._ended)
        delay = group.fixed_delay or record.delay * record.backoff
        if group.budget.spent:
            delay = MAX_DELAY
        self.due = now + delay
        group.deadlines.push(self)

    def _ended(self, asked: asyncio.Future[Reply]) -> None:
        if not self.waits:  # a race has taken over, or nobody wants to know
            if not asked.cancelled():
                asked.exception()
            return
        if not asked.cancelled() and asked.exception() is None:
            reply, record = asked.result(), self._ordered[0].health
            winner = reply.winner
            if (
                reply.kind is _DATA
                and not reply.ede
                and winner is not None
                and record.retry_at is None
            ):
                self.waits = False
                now = self.get_loop().time()
                record.succeeded(now, now - self._started, sample=winner.sends == 1)
                self.set_result(reply)
                return
        self._hand_over().ended(asked)

    def expire(self) -> None:
        """The reply is late."""
        race = self._hand_over()
        listen(self._asked, race.ended)
        race.expire()

    def _hand_over(self) -> Race:
        """Let a race go on from here."""
        self.waits = False
        self._race = race = Race(
            self._group, self._question, self._ordered, self.get_loop()
        )
        race.adopt(self._asked, self._started)
        race.then = self._raced
        return race

    def _raced(self, race: asyncio.Future[Reply]) -> None:
        if self.done():
            return
        error = race.exception()
        if error is None:
            self.set_result(race.result())
        else:
            self.set_exception(error)

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """What has been tried so far, for a caller whose time is over."""
        if self._race is not None:
            return self._race.attempts
        elapsed = self.get_loop().time() - self._started
        where = self._ordered[0].endpoint
        return (
            Attempt(
                where, self._started, elapsed, Outcome.TIMEOUT, detail="no reply yet"
            ),
        )  # fmt: skip

    def cancel(self, msg: object = None) -> bool:
        """Cancel all that is pending, too."""
        if self.done():
            return False
        if self._race is not None:
            drop(self._race)
        elif self.waits:
            self.waits = False
            drop(self._asked)
        return super().cancel(msg)
