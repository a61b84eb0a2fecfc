"""How a benchmark is run: peers interleaved in one process, medians of rounds."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Sequence

Ask = Callable[[str], Awaitable[object]]
"""Asks for one name, and may read the address."""

_counter = itertools.count()


def fresh_names(count: int) -> list[str]:
    """Names that nobody has asked for yet."""
    return [f"n{next(_counter)}.example.com" for _ in range(count)]


def pin(core: int) -> None:
    """Keep this process on one core, where the system has several."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[core % len(cores)]})


def go_first() -> None:
    """Wait for nobody on a busy machine, where that is allowed: for waits of ms."""
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def go_along() -> None:
    """Be a process like others again."""
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@asynccontextmanager
async def responder(addresses: Sequence[str]) -> AsyncIterator[int]:
    """A responder in a process of its own; gives its port.

    It shares the client's core: to wake a process on another core of a virtual machine
    can cost more than all of a query, and would hide what is measured.
    """
    path = Path(__file__).with_name("responder.py")
    process = subprocess.Popen(
        [sys.executable, path, *addresses],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: pin(0),  # noqa: PLW1509 - no threads here yet
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def run(main: Coroutine[Any, Any, Any], loop: str) -> Any:
    """Run on asyncio's own loop, or on uvloop."""
    if loop == "uvloop":
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(main)
    return asyncio.run(main)


async def one_after_another(
    ask: Ask, names: list[str], clock: Callable[[], float] = time.perf_counter
) -> float:
    """Seconds of a clock for all names, asked in turn."""
    gc.collect()
    started = clock()
    for name in names:
        await ask(name)
    return clock() - started


async def concurrently(ask: Ask, names: list[str], concurrency: int) -> float:
    """Seconds of this process's CPU for all names, so many at a time.

    Not of the clock: the responder has its share of the same core.
    """
    todo = iter(names)

    async def work() -> None:
        for name in todo:
            await ask(name)

    gc.collect()
    started = time.process_time()
    await asyncio.gather(*(work() for _ in range(concurrency)))
    return time.process_time() - started


class Series:
    """The µs of every peer, round by round."""

    def __init__(self) -> None:
        self.rounds: dict[str, list[float]] = {}

    def add(self, peer: str, microseconds: float) -> None:
        """Note one round of a peer."""
        self.rounds.setdefault(peer, []).append(microseconds)

    def median(self, peer: str) -> float:
        """The median of a peer's rounds."""
        return statistics.median(self.rounds[peer])

    def ratio(self, peer: str, ours: str) -> float:
        """How many times ours it takes: the median of the ratios of each round.

        A machine that is shared changes its speed from round to round, for all alike.
        """
        both = zip(self.rounds[peer], self.rounds[ours], strict=True)
        return statistics.median(theirs / mine for theirs, mine in both)


class Table:
    """Figures of each peer that are no times per question, round by round."""

    def __init__(self) -> None:
        self.rounds: dict[str, list[dict[str, float]]] = {}

    def add(self, peer: str, figures: dict[str, float]) -> None:
        """Note one round of a peer: figures by name, with their unit."""
        self.rounds.setdefault(peer, []).append(figures)

    def medians(self, peer: str) -> dict[str, float]:
        """The median of each figure; failures are added up."""
        rounds = self.rounds[peer]
        found = {key: statistics.median(x[key] for x in rounds) for key in rounds[0]}
        if "failed" in found:
            found["failed"] = sum(x["failed"] for x in rounds)
        return found

    def report(self) -> dict[str, dict[str, float]]:
        """Print the medians; gives them as JSON-ready values."""
        for peer in self.rounds:
            told = [f"{value:,.4g} {key}" for key, value in self.medians(peer).items()]
            print(f"  {peer:<20} {', '.join(told)}", flush=True)
        return {peer: self.medians(peer) for peer in self.rounds}
