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

`race` is the same with no delay; `failover` with none but failure, and in the order
given rather than by SRTT. Nobody waits in a task: groups hang callbacks on Futures.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Literal

from resolverkit import health
from resolverkit.deadlines import Deadlines
from resolverkit.errors import (
    ConfigurationError,
    ServerFailure,
)
from resolverkit.groups.racing import Child, Race
from resolverkit.model import Attempt, Endpoint, Reply
from resolverkit.upstream import start

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
        self.fixed_delay = delay if isinstance(delay, (int, float)) else 0.0
        self.on_block = on_block
        self._on_recovery = {on_recovery} if on_recovery else set()
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

    def on_recovery(self, call: Callable[[], None]) -> None:
        """Have `call` called, too, when a member that was down answers again."""
        self._on_recovery.add(call)

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
        self, question: Question, children: Sequence[Child]
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
        if self.delay is None:  # failover: the order is the user's
            ordered = sorted(children, key=_is_down)
        else:
            ordered = [children[i] for i in health.order(records, now)]
        race = Race(self, question, ordered, self._deadlines, loop)
        race.begin(now)
        for child in down:
            if child not in race.asked and child.health.probe_due(now):
                probe = self._probe(child, question, loop)
                race.probes = {**race.probes, child: (now, probe)}
        return race

    def _bind(self) -> asyncio.AbstractEventLoop:
        self._loop = loop = asyncio.get_running_loop()
        self._deadlines = Deadlines(loop)
        return loop

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
            error = probe.exception()
            if error is None or isinstance(error, ServerFailure):
                now = loop.time()
                was_down = child.health.succeeded(now, now - started, sample=False)
                self._recovered(child, was_down)

        probe.add_done_callback(ended)
        return probe

    def _recovered(self, child: Child, was_down: bool) -> None:
        if was_down:
            _log.info("%s answers again", child.upstream.name)
            for call in list(self._on_recovery):
                call()

    def _went_down(self, child: Child, is_down: bool, now: float) -> None:
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


def _is_down(child: Child) -> bool:
    return child.health.retry_at is not None


def race(upstreams: Iterable[Upstream]) -> Hedge:
    """A group that asks all its upstreams at once; the first conclusive reply wins."""
    return Hedge(upstreams, delay=0)


def failover(upstreams: Iterable[Upstream]) -> Hedge:
    """A group that asks the next upstream only when the one before it has failed.

    They are asked in the order given; those that are down come last.
    """
    return Hedge(upstreams, delay=None)
