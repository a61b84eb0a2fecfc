"""Outages replayed on loopback: several clients live through one, side by side.

Each client has a mini-internet of its own inside this process, so that its queries can
be counted apart. All ask for the same names all the time.

Records carry the TTLs of the day where they are known, and the clocks of the caches run
fast, so that minutes fit into seconds. Timers are not sped up: a wait of 1.8 s takes
1.8 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import dns.exception
import dns.resolver

from resolverkit.model import Source
from resolverkit.testing.side import Side
from resolverkit.testing.tally import Row, Tally

if TYPE_CHECKING:
    from collections.abc import Callable

    from resolverkit.testing.outage import Outage, Phase

EVERY = 0.2
"""Seconds between two questions of a client for one name."""
LATE = 2 * EVERY
"""The most that a phase goes on meanwhile: where this process does not get to run for
seconds, no phase goes by without questions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast a replay goes.

    Attributes:
        speed: how many times as fast as real ones the clocks of the caches run.
        lifetime: seconds that the clients give an answer.
        fast: phases take their shorter times.
    """

    speed: float
    lifetime: float
    fast: bool = False

    def seconds(self, phase: Phase) -> float:
        """How long a phase takes."""
        return phase.fast if self.fast else phase.seconds


FULL = Pace(speed=20, lifetime=5.0)
"""Half a minute at most, with the lifetime that is the default of both libraries."""
FAST = Pace(speed=60, lifetime=2.5, fast=True)
"""Ten seconds at most."""


class Replay:
    """Runs an outage; read `rows` and `phases` meanwhile or afterwards.

    ::

        replay = Replay(OUTAGES["zoom-2025"], FAST)
        await replay.run()
        during = replay.phases()["during"]
        assert during["resolverkit, hold"].share == 1

    Args:
        outage: what happens.
        pace: how fast.
        on_second: called with every row that begins.

    Attributes:
        rows: what happened, second by second.
        failures: what clients lost that are to keep everything.
    """

    def __init__(
        self,
        outage: Outage,
        pace: Pace = FULL,
        on_second: Callable[[Row], None] = lambda _: None,
    ) -> None:
        self.outage = outage
        self.pace = pace
        self.on_second = on_second
        self.rows: list[Row] = []
        self.failures: list[str] = []
        self._ends = list(accumulate(map(pace.seconds, outage.phases)))
        self._truth = outage.truth()
        self._sides = [
            Side(client, outage, self.clock, pace.lifetime) for client in outage.clients
        ]
        self._began = time.monotonic()

    def clock(self) -> float:
        """The clock of the caches: runs fast."""
        return self._began + (time.monotonic() - self._began) * self.pace.speed

    async def run(self) -> None:
        """Live through it all, and end every question that is under way."""
        async with contextlib.AsyncExitStack() as stack:
            for side in self._sides:
                await side.start(stack)
            await self._warm_up()
            async with asyncio.TaskGroup() as questions:
                elapsed, before = 0.0, time.monotonic()
                while elapsed < self._ends[-1]:
                    row = self._row(elapsed)
                    for name in self.outage.names:
                        for side in self._sides:
                            questions.create_task(self._ask(side, name, row))
                    await asyncio.sleep(EVERY)
                    now = time.monotonic()
                    elapsed, before = elapsed + min(now - before, LATE), now
            self._count()

    async def _warm_up(self) -> None:
        """Ask for everything once: to load modules and connect is no part of it."""
        for side in self._sides:
            side.set_up(self.outage.phases[0])
            for name in self.outage.names:
                with contextlib.suppress(dns.exception.DNSException):
                    await side.ask(name)
            side.new_queries()

    def phases(self) -> dict[str, dict[str, Tally]]:
        """The tallies of each phase, by the labels of the clients."""
        labels = [client.label for client in self.outage.clients]
        totals = {
            phase.name: {label: Tally() for label in labels}
            for phase in self.outage.phases
        }
        for row in self.rows:
            for label, tally in row.tallies.items():
                totals[row.phase][label].add(tally)
        return totals

    def to_dict(self) -> dict[str, Any]:
        """The whole as JSON-ready values."""
        return {
            "outage": self.outage.name,
            "names": list(self.outage.names),
            "speed": self.pace.speed,
            "phases": {
                name: {label: tally.to_dict() for label, tally in tallies.items()}
                for name, tallies in self.phases().items()
            },
            "rows": [row.to_dict() for row in self.rows],
            "failures": self.failures,
        }

    def _phase(self, elapsed: float) -> Phase:
        for phase, end in zip(self.outage.phases, self._ends, strict=True):
            if elapsed < end:
                return phase
        return self.outage.phases[-1]

    def _row(self, elapsed: float) -> Row:
        """The row of that time; where a phase begins with it, the scenery changes."""
        second, phase = int(elapsed), self._phase(elapsed)
        last = self.rows[-1] if self.rows else None
        if last is None or last.phase != phase.name:
            for side in self._sides:
                side.set_up(phase)
        if last is None or (last.second, last.phase) != (second, phase.name):
            self._count()
            tallies = {client.label: Tally() for client in self.outage.clients}
            self.rows.append(Row(second, phase.name, tallies))
            self.on_second(self.rows[-1])
        return self.rows[-1]

    def _count(self) -> None:
        """Charge the queries that have arrived by now to the row that ends."""
        if self.rows:
            for side in self._sides:
                self.rows[-1].tallies[side.client.label].queries = side.new_queries()

    async def _ask(self, side: Side, name: str, row: Row) -> None:
        tally = row.tallies[side.client.label]
        tally.asked += 1
        started = time.monotonic()
        problem = ""
        try:
            found = await side.ask(name)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer) as error:
            tally.wrong += 1
            problem = str(error)
        except dns.exception.DNSException as error:
            tally.failed += 1
            problem = str(error)
        else:
            if found.addresses == self._truth[name]:
                tally.answered += 1
                tally.validated += found.validated
                tally.disputed += found.disputed
            else:
                tally.wrong += 1
                problem = f"its addresses are not {sorted(found.addresses)}"
            tally.sources[str(found.source)] += 1
            if found.source is Source.UPSTREAM:
                tally.via[found.via] += 1
        tally.took.append(time.monotonic() - started)
        if problem and side.client.keeps:
            self.failures.append(
                f"{side.client.label}: {name} at {row.second} s: {problem}"
            )
