"""``resolverkit demo``: the outage of 2021-10-04 on loopback, lived through twice.

An authority and fake public resolvers run inside this process. The same names are asked
for all the time through resolverkit and through plain dnspython, each over upstreams of
its own, so that their queries can be counted apart. Then the authority is withdrawn.

The records carry the TTLs that they had (60 s for the address, 3600 s for the alias),
and the clocks of the caches run fast, so that an hour's outage fits into a minute.
Timers are not sped up: a wait of 1.8 s takes 1.8 s.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dns.asyncresolver
import dns.exception
import dns.nameserver

from resolverkit.model import Source
from resolverkit.resolver import Resolver
from resolverkit.testing import Authority, Lab, LabUpstream

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

RECORDS = (
    "www.facebook.com. 3600 IN CNAME star-mini.c10r.facebook.com.",
    "star-mini.c10r.facebook.com. 60 IN A 157.240.1.35",
    "whatsapp.com. 60 IN A 157.240.1.60",
    "instagram.com. 60 IN A 157.240.1.174",
)
NAMES = ("www.facebook.com", "whatsapp.com", "instagram.com")
EVERY = 0.2
"""Seconds between two questions for one name."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long each phase lasts, in seconds, and how fast the caches' clocks run."""

    before: float
    outage: float
    after: float
    speed: float

    @property
    def total(self) -> float:
        """Seconds in all."""
        return self.before + self.outage + self.after

    def phase(self, second: float) -> str:
        """What the authority does at that time."""
        if second < self.before:
            return "healthy"
        return "gone" if second < self.before + self.outage else "back"


FULL = Plan(before=4, outage=14, after=5, speed=20)
FAST = Plan(before=1, outage=6, after=4, speed=60)


@dataclass(slots=True)
class Tally:
    """What became of one library's questions in one second."""

    asked: int = 0
    answered: int = 0
    sources: dict[str, int] = field(default_factory=dict)
    took: list[float] = field(default_factory=list)
    queries: int = 0

    @property
    def pending(self) -> int:
        """Questions that neither have an answer nor have failed."""
        return self.asked - len(self.took)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values; times in milliseconds."""
        took = [seconds * 1000 for seconds in self.took]
        return {
            "asked": self.asked,
            "answered": self.answered,
            "sources": self.sources,
            "median_ms": round(statistics.median(took), 2) if took else None,
            "max_ms": round(max(took), 2) if took else None,
            "queries": self.queries,
        }


@dataclass(slots=True)
class Row:
    """One second of the demo."""

    second: int
    phase: str
    ours: Tally = field(default_factory=Tally)
    plain: Tally = field(default_factory=Tally)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "second": self.second,
            "phase": self.phase,
            "resolverkit": self.ours.to_dict(),
            "dnspython": self.plain.to_dict(),
        }


class Demo:
    """The show: run it, and read `rows` meanwhile or afterwards.

    Args:
        plan: how long it lasts.
        on_second: called with every row that begins.
    """

    def __init__(
        self, plan: Plan, on_second: Callable[[Row], None] = lambda _: None
    ) -> None:
        self.plan = plan
        self.rows: list[Row] = []
        self.failures: list[str] = []
        self._on_second = on_second
        self._authority = Authority(RECORDS)
        self._started = 0.0
        self._began = time.monotonic()

    def clock(self) -> float:
        """The clock of the caches: runs fast."""
        return self._began + (time.monotonic() - self._began) * self.plan.speed

    def upstreams(self) -> list[LabUpstream]:
        """What public resolvers did that day: silence, or SERVFAIL within 4 ms."""
        return [
            LabUpstream("udp", operator="Alpha", outage="silent", clock=self.clock),
            LabUpstream("dot", operator="Beta", ede=22, clock=self.clock),
            LabUpstream("doh", operator="Gamma", clock=self.clock),
        ]

    async def run(self) -> None:
        """Live through it all, and end every question that is under way."""
        async with (
            Lab(self._authority, self.upstreams()) as ours,
            Lab(self._authority, self.upstreams()[:2]) as theirs,
            Resolver(ours.urls, configure=False, clock=self.clock) as resolver,
            asyncio.TaskGroup() as questions,
        ):
            plain = _plain_resolver(theirs)
            labs = (ours, theirs)

            async def ask_ours(name: str) -> str:
                return str((await resolver.resolve(name)).path.source)

            async def ask_plain(name: str) -> str:
                await plain.resolve(name)
                return str(Source.UPSTREAM)

            self._started = time.monotonic()
            while (elapsed := time.monotonic() - self._started) < self.plan.total:
                row = self._row(elapsed, labs)
                for name in NAMES:
                    asked = self._ask(ask_ours(name), row.ours, name, ours=True)
                    questions.create_task(asked)
                    asked = self._ask(ask_plain(name), row.plain, name, ours=False)
                    questions.create_task(asked)
                self._direct(elapsed)
                await asyncio.sleep(EVERY)
        self._count(labs)

    def _direct(self, elapsed: float) -> None:
        gone = self.plan.phase(elapsed + EVERY) == "gone"
        if gone and self._authority.present:
            self._authority.vanish()
        elif not gone and not self._authority.present:
            self._authority.restore()

    def _row(self, elapsed: float, labs: tuple[Lab, Lab]) -> Row:
        second = int(elapsed)
        if not self.rows or self.rows[-1].second != second:
            self._count(labs)
            row = Row(second, self.plan.phase(elapsed))
            self.rows.append(row)
            self._on_second(row)
        return self.rows[-1]

    def _count(self, labs: tuple[Lab, Lab]) -> None:
        """Charge the queries that have arrived by now to the second that ends."""
        if self.rows:
            totals = [sum(u.queries for u in lab.upstreams) for lab in labs]
            row = self.rows[-1]
            row.ours.queries = totals[0] - sum(r.ours.queries for r in self.rows[:-1])
            row.plain.queries = totals[1] - sum(r.plain.queries for r in self.rows[:-1])

    async def _ask(
        self, asked: Coroutine[Any, Any, str], tally: Tally, name: str, *, ours: bool
    ) -> None:
        tally.asked += 1
        started = time.monotonic()
        try:
            source = await asked
        except dns.exception.DNSException as error:
            if ours:
                second = started - self._started
                self.failures.append(f"{name} at {second:.1f} s: {error}")
        else:
            tally.answered += 1
            tally.sources[source] = tally.sources.get(source, 0) + 1
        tally.took.append(time.monotonic() - started)

    def to_dict(self) -> dict[str, Any]:
        """The whole as JSON-ready values."""
        return {
            "names": list(NAMES),
            "speed": self.plan.speed,
            "rows": [row.to_dict() for row in self.rows],
            "failures": self.failures,
        }


def _plain_resolver(lab: Lab) -> dns.asyncresolver.Resolver:
    """Plain dnspython over the transports that it has without extras."""
    plain = dns.asyncresolver.Resolver(configure=False)
    udp, dot = lab.upstreams
    plain.nameservers = [
        dns.nameserver.Do53Nameserver("127.0.0.1", udp.port),
        dns.nameserver.DoTNameserver("127.0.0.1", dot.port, verify=str(lab.ca)),
    ]
    return plain
