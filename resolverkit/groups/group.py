"""What every group is: its members with their records here, probes, and recoveries."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from contextvars import Context
from typing import TYPE_CHECKING, Literal

from resolverkit import health
from resolverkit.deadlines import Deadlines
from resolverkit.errors import ConfigurationError, ServerFailure
from resolverkit.groups.racing import Child
from resolverkit.listener import error_of, start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from resolverkit.groups.racing import Race
    from resolverkit.model import Attempt, Question, Reply
    from resolverkit.upstream import Upstream

WASTE_SHARE = 0.05
"""Hedges that may be wasted, as a share of the questions."""
WASTE_FLOOR = 10
"""Wasted hedges that are always allowed in a window."""
WASTE_WINDOW = 10.0
"""Seconds over which waste is counted."""

_log = logging.getLogger("resolverkit.hedge")


class Budget:
    """How many hedges were wasted lately.

    Attributes:
        asked: questions since then; who asks counts them here.
        until: loop time at which a new window begins.
        spent: hedges have to wait for a while.
    """

    __slots__ = ("_wasted", "asked", "spent", "until")

    def __init__(self) -> None:
        self.until: float = float("-inf")
        self.asked: int = 0
        self._wasted = 0
        self.spent: bool = False

    def ask(self, now: float) -> None:
        """Count a question."""
        self.asked += 1
        if self.spent or now >= self.until:
            self.look(now)

    def look(self, now: float) -> None:
        """Begin a new window when it is time, and see whether hedges may be sent."""
        if now >= self.until:
            self.until, self.asked, self._wasted = now + WASTE_WINDOW, 1, 0
        self._sum_up()

    def waste(self) -> None:
        """Count a hedge that was not needed."""
        self._wasted += 1
        self._sum_up()

    def _sum_up(self) -> None:
        wasted = self._wasted
        self.spent = wasted >= WASTE_FLOOR and wasted >= self.asked * WASTE_SHARE


class Group(ABC):
    """An upstream made of upstreams.

    Args:
        upstreams: who to ask, in the order of preference while nothing is known.
        delay: seconds until a late reply is made up for, ``"auto"`` for each upstream's
            own 95th percentile, 0 to ask all at once, None to wait for a failure.
        on_block: ``"accept"`` the word of a filtering upstream, or ask the ``"next"``.
        on_change: called with an upstream's name and whether it is up, when it goes
            down or answers again.

    Raises:
        ConfigurationError: no upstream, or a delay that is none.
    """

    def __init__(
        self,
        upstreams: Iterable[Upstream],
        *,
        delay: float | Literal["auto"] | None = "auto",
        on_block: Literal["accept", "next"] = "accept",
        on_change: Callable[[str, bool], None] | None = None,
    ) -> None:
        self._children = [Child(upstream) for upstream in upstreams]
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
        self.fixed_delay: float = delay if isinstance(delay, (int, float)) else 0.0
        self.on_block = on_block
        self._on_change = {on_change} if on_change else set()
        self._records = [child.health for child in self._children]
        self._ranking = health.Ranking(self._records, keep=delay is None)
        self._order: list[Child] = []  # of all members, as the ranking has it
        self._down: list[Child] = []
        self.budget: Budget = Budget()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.deadlines: Deadlines
        self._probes: set[asyncio.Future[Reply]] = set()

    @property
    def name(self) -> str:
        """The group and its members."""
        members = ", ".join(child.upstream.name for child in self._children)
        return f"{type(self).__name__.lower()}({members})"

    @property
    def upstreams(self) -> list[Upstream]:
        """The members, in the order in which they were given."""
        return [child.upstream for child in self._children]

    @property
    def down(self) -> bool:
        """Whether every member is down, as far as is known."""
        return all(record.down for record in self._records)

    @property
    def unheard(self) -> bool:
        """Whether no member has answered anything yet."""
        return not any(record.answers for record in self._records)

    @property
    def children(self) -> list[Child]:
        """The members with their records here."""
        return self._children

    def on_change(self, call: Callable[[str, bool], None]) -> None:
        """Have `call` called, too, when a member goes down or answers again."""
        self._on_change.add(call)

    @abstractmethod
    def query(self, question: Question) -> asyncio.Future[Reply]:
        """Ask; see `Upstream.query`."""

    @abstractmethod
    def confirm(
        self, question: Question, denied_by: Attempt | None
    ) -> asyncio.Future[Reply] | None:
        """Ask again, but other operators than the one that denied the name.

        Returns:
            As `query` does, or None where nobody is left to be asked.
        """

    def _bind(self) -> asyncio.AbstractEventLoop:
        """The loop of the first question, until that is closed."""
        loop = self.loop
        if loop is None or loop.is_closed():
            self.loop = loop = asyncio.get_running_loop()
            self.deadlines = Deadlines(loop)
            self._ranking.until = 0.0  # by another clock
        return loop

    def _rank(self, now: float) -> None:
        """Look at the order of all members again."""
        self._note_late([child for child in self._children if child.health.down])
        self._ranking.renew(now)
        self._down = [self._children[i] for i in self._ranking.down]
        self._order = [self._children[i] for i in self._ranking.indices]

    def _note_late(self, down: Sequence[Child]) -> None:
        """A late reply, too, shows that a server is up."""
        for child in down:
            if child.heard_since(child.down_since):
                self._recovered(child, child.health.heard())

    def _probe_due(
        self, race: Race, down: Sequence[Child], question: Question, now: float
    ) -> None:
        """Ask those that are down and whose time has come, beside the race."""
        for child in down:
            if child not in race.asked and child.health.probe_due(now):
                probe = self._probe(child, question, race.get_loop())
                race.probes = {**race.probes, child: (now, probe)}

    def _probe(
        self, child: Child, question: Question, loop: asyncio.AbstractEventLoop
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
            error = error_of(probe)
            if error is None or isinstance(error, ServerFailure):
                now = loop.time()
                was_down = child.health.succeeded(now, now - started, sample=False)
                self._recovered(child, was_down)

        probe.add_done_callback(ended, context=Context())
        return probe

    def _recovered(self, child: Child, was_down: bool) -> None:
        if was_down:
            _log.info("%s answers again", child.upstream.name)
            self._tell(child, up=True)

    def _went_down(self, child: Child, is_down: bool, now: float) -> None:
        if is_down:
            child.down_since = now
            _log.warning("%s is down", child.upstream.name)
            self._tell(child, up=False)

    def _tell(self, child: Child, *, up: bool) -> None:
        for call in list(self._on_change):
            call(child.upstream.name, up)

    async def aclose(self) -> None:
        """Close every member. Idempotent."""
        probes = list(self._probes)
        for probe in probes:
            probe.cancel()
        if probes:
            await asyncio.wait(probes)
        # At once: a TLS server that does not say goodbye is waited for, 0.25 s each.
        await asyncio.gather(*(child.upstream.aclose() for child in self._children))
        if self.loop is not None:  # what was outstanding may have gone on meanwhile
            self.deadlines.clear()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"
