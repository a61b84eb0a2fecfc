"""How a benchmark is run: peers interleaved in one process, medians of rounds."""

import asyncio
import gc
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

Ask = Callable[[str], Awaitable[object]]
"""Asks for one name and reads the address."""


def pin(core: int) -> None:
    """Keep this process on one core, where the system has several."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[core % len(cores)]})


@asynccontextmanager
async def responder() -> AsyncIterator[int]:
    """A responder in a process of its own; gives its port.

    It shares the client's core: to wake a process on another core of a virtual machine
    can cost more than all of a query, and would hide what is measured.
    """
    path = Path(__file__).with_name("responder.py")
    process = subprocess.Popen(
        [sys.executable, path],
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


async def one_after_another(ask: Ask, names: list[str]) -> float:
    """Seconds for all names, asked in turn."""
    gc.collect()
    started = time.perf_counter()
    for name in names:
        await ask(name)
    return time.perf_counter() - started


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


def median(rounds: list[float]) -> float:
    """The median of a series."""
    return statistics.median(rounds)
