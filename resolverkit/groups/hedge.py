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
given rather than by SRTT. Nobody waits in a task: groups are told of outcomes.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from resolverkit.groups.group import Group
from resolverkit.groups.lead import Lead
from resolverkit.groups.racing import Race
from resolverkit.listener import Direct, Watched
from resolverkit.model import Attempt, Endpoint, Reply

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from resolverkit.groups.racing import Child
    from resolverkit.listener import Listener, UnderWay
    from resolverkit.model import Question
    from resolverkit.upstream import Upstream


class Hedge(Direct, Group):
    """Asks several upstreams for one reply; see the module for how.

    Args:
        upstreams: who to ask, in the order of preference while nothing is known.
        delay: seconds until the next is asked, ``"auto"`` for each upstream's own
            95th percentile, 0 to ask all at once, None to wait for a failure.
        on_block: ``"accept"`` the word of a filtering upstream, or ask the ``"next"``.
        on_change: called with an upstream's name and whether it is up, when it goes
            down or answers again.

    Raises:
        ConfigurationError: no upstream, or a delay that is none.
    """

    def ask(self, question: Question, listener: Listener, now: float) -> UnderWay:
        """Ask; see `Direct.ask`."""
        loop = self.loop
        if loop is None or loop is not asyncio._get_running_loop():
            loop = self._bind()
        ranking = self._ranking
        srtt = ranking.first.srtt
        if now >= ranking.until or (srtt is not None and srtt > ranking.second):
            self._rank(now)
        if self._down or self.delay == 0:
            race = self._race(question, self._order, self._down, loop, now)
            return Watched(race, listener)
        budget = self.budget  # as `Budget.ask`, without the call
        budget.asked += 1
        if budget.spent or now >= budget.until:
            budget.look(now)
        lead = Lead()
        lead.begin(self, question, listener, self._order, now)
        return lead

    def confirm(
        self, question: Question, denied_by: Attempt | None
    ) -> asyncio.Future[Reply] | None:
        """Ask again, but other operators than the one that denied the name.

        Returns:
            As `query` does, or None where there is no other operator.
        """
        said = denied_by.endpoint if denied_by else Endpoint("")
        who = said.operator or said.name
        others = [child for child in self._children if who not in _operators(child)]
        if not others:  # but there may be some in a group that has it as well
            within = (
                x.upstream for x in self._children if isinstance(x.upstream, Group)
            )
            found = (group.confirm(question, denied_by) for group in within)
            return next(filter(None, found), None)
        loop = self._bind()
        now = loop.time()
        self._rank(now)
        ordered = [child for child in self._order if child in others]
        down = [child for child in self._down if child in others]
        return self._race(question, ordered, down, loop, now)

    def _race(
        self,
        question: Question,
        ordered: Sequence[Child],
        down: Sequence[Child],
        loop: asyncio.AbstractEventLoop,
        now: float,
    ) -> asyncio.Future[Reply]:
        self.budget.ask(now)
        race = Race(self, question, ordered, loop)
        race.begin(now)
        if down:
            self._probe_due(race, down, question, now)
        return race


def _operators(child: Child) -> set[str]:
    """Who may have given a member's answer: of a group in the group, its members."""
    if isinstance(child.upstream, Group):
        return set().union(*map(_operators, child.upstream.children))
    return {child.operator}


def race(upstreams: Iterable[Upstream]) -> Hedge:
    """A group that asks all its upstreams at once; the first conclusive reply wins."""
    return Hedge(upstreams, delay=0)


def failover(upstreams: Iterable[Upstream]) -> Hedge:
    """A group that asks the next upstream only when the one before it has failed.

    They are asked in the order given; those that are down come last.
    """
    return Hedge(upstreams, delay=None)
