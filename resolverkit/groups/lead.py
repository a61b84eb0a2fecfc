"""One question put to the upstream that comes first, as nearly every one is.

Nearly always that one answers in time, and there is nothing more to it. Only where it
fails, is late, or says what is not conclusive does a `Race` take over, which asks
others and has the last word: so that a question costs no tables of who was asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolverkit import policy
from resolverkit.groups.racing import Race
from resolverkit.health import MAX_DELAY
from resolverkit.listener import Pending, UnderWay, drop, listen
from resolverkit.model import Attempt, Outcome, PlainReply, Reply

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from resolverkit.groups.group import Group
    from resolverkit.groups.racing import Child
    from resolverkit.listener import Listener
    from resolverkit.model import Question

_CONCLUSIVE = policy.Verdict.CONCLUSIVE


class Lead(UnderWay):
    """A question at the best of a group's upstreams; its own entry among deadlines.

    Attributes:
        due: loop time at which the reply is late.
        waits: no race has taken over yet, nor is it over.
    """

    __slots__ = (
        "_asked", "_group", "_ordered", "_question", "_race", "_started",
        "due", "waits",
    )  # fmt: skip

    # An __init__ would take as long again to be found and called.
    _asked: UnderWay | None
    _group: Group
    _ordered: Sequence[Child]
    _question: Question
    _race: Race | None
    _started: float
    due: float
    waits: bool

    def begin(
        self,
        group: Group,
        question: Question,
        listener: Listener,
        ordered: Sequence[Child],
        now: float,
    ) -> None:
        """Ask the first of `ordered`, which is up."""
        child = ordered[0]
        record = child.health
        self._group = group
        self._question = question
        self._ordered = ordered
        self._started = now
        self._race = self._asked = None
        self.listener = listener
        self.waits = True
        delay = group.fixed_delay or record.delay * record.backoff
        self.due = now + (MAX_DELAY if group.budget.spent else delay)
        asked = child.ask(question, self, now)
        if self.waits:  # else it has failed at once
            self._asked = asked
            group.deadlines.push(self)

    # --- what the first one says -----------------------------------------------------

    def answered(self, reply: Reply | PlainReply) -> None:
        """The first has answered."""
        record = self._ordered[0].health
        if type(reply) is PlainReply and record.retry_at is None:  # as nearly all
            elapsed = reply.elapsed
            record.succeeded(self._started + elapsed, elapsed)
        elif isinstance(reply, Reply) and self._is_conclusive(reply):
            now = self._now()
            sample = reply.winner is not None and reply.winner.sends == 1
            record.succeeded(now, now - self._started, sample=sample)
        else:
            self._give_over().answered(reply)
            return
        self.waits = False
        listener, self.listener = self.listener, None
        if listener is not None:
            listener.answered(reply)

    def _is_conclusive(self, reply: Reply) -> bool:
        """Whether no race is needed to see that this is the answer."""
        winner = reply.winner
        if winner is None or reply.ede or self._ordered[0].health.retry_at is not None:
            return False
        on_block = self._group.on_block
        return policy.verdict(reply, winner.endpoint, on_block=on_block) is _CONCLUSIVE

    def failed(self, error: BaseException) -> None:
        """The first has failed."""
        self._give_over().failed(error)

    def called_off(self) -> None:
        """The first was closed."""
        self._give_over().called_off()

    def expire(self) -> None:
        """The reply is late."""
        asked = self._asked
        assert asked is not None
        race = self._hand_over(asked.future(self._group.loop))
        race.expire()

    # --- a race ----------------------------------------------------------------------

    def _give_over(self) -> Pending:
        """Let a race go on from the Future that it gives."""
        first = Pending(loop=self._group.loop)
        self._hand_over(first)
        return first

    def _hand_over(self, first: asyncio.Future[Reply]) -> Race:
        """Let a race go on from here."""
        self.waits = False
        loop = self._group.loop
        assert loop is not None  # it was bound to ask
        self._race = race = Race(self._group, self._question, self._ordered, loop)
        race.adopt(first, self._started)
        race.then = self._raced
        listen(first, race.ended)
        return race

    def _raced(self, race: asyncio.Future[Reply]) -> None:
        listener, self.listener = self.listener, None
        if race.cancelled() or listener is None:
            return
        error = race.exception()
        if error is None:
            listener.answered(race.result())
        else:
            listener.failed(error)

    # --- as those who asked see it ---------------------------------------------------

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """What has been tried so far, for a caller whose time is over."""
        if self._race is not None:
            return self._race.attempts
        where, elapsed = self._ordered[0].endpoint, self._now() - self._started
        late = "no reply yet"
        return (Attempt(where, self._started, elapsed, Outcome.TIMEOUT, detail=late),)

    def drop(self) -> None:
        """Nobody wants to know: cancel all that is pending."""
        self.listener = None
        if self._race is not None:
            drop(self._race)
        elif self.waits:
            self.waits = False
            if self._asked is not None:
                self._asked.drop()

    def _now(self) -> float:
        assert self._group.loop is not None
        return self._group.loop.time()
