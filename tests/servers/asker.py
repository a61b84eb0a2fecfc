"""A program with a Resolver and a store, which asks for what it is told.

    python asker.py STORE UPSTREAM…

Each line on stdin is a job, a JSON object; for each a line of JSON comes out:

    names     name to the address that is right
    at_once   how many of them to ask for at once (all)
    seconds   ask for all of them again until so much time has passed (0: once)
    kept      wait until all that was learnt is in the store (false)
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections import Counter
from dataclasses import asdict
from typing import Any

from resolverkit import Resolver

IMPORTED = time.perf_counter()
LIFETIME = 15.0  # seconds; a busy machine takes time


class Lines(logging.Handler):
    """Keeps what is logged of the store as a warning or worse."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name in {"resolverkit.store", "resolverkit.sqlite"}:
            self.lines.append(record.getMessage())


class Report:
    """What came of one job."""

    def __init__(self) -> None:
        self.sources: Counter[str] = Counter()
        self.failed: list[str] = []
        self.first = 0.0  # seconds after the imports

    async def ask(self, resolver: Resolver, name: str, address: str) -> None:
        try:
            answer = await resolver.resolve(name, lifetime=LIFETIME)
        except Exception as error:  # noqa: BLE001 - each is told
            self.failed.append(f"{name}: {error!r}")
            return
        self.first = self.first or time.perf_counter() - IMPORTED
        found = [rdata.address for rdata in answer]
        if found != [address]:
            self.failed.append(f"{name}: {found}")
        self.sources[str(answer.path.source)] += 1


async def work(resolver: Resolver, job: dict[str, Any]) -> Report:
    report = Report()
    names = list(job["names"].items())
    step = job.get("at_once", len(names))
    until = time.perf_counter() + job.get("seconds", 0)
    while True:
        for i in range(0, len(names), step):
            some = names[i : i + step]
            await asyncio.gather(*(report.ask(resolver, *each) for each in some))
        if time.perf_counter() >= until:
            break
    if job.get("kept"):
        await kept(resolver._store.behind)
    return report


async def kept(behind: Any) -> None:
    """Return once nothing waits for the store, nor is on its way to it."""
    try:
        async with asyncio.timeout(LIFETIME):
            while behind.waiting or behind._writer:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    except TimeoutError as error:
        error.add_note(f"{vars(behind)}")
        raise


async def main() -> None:
    log = Lines()
    logging.getLogger("resolverkit").addHandler(log)
    loop = asyncio.get_running_loop()
    store, *upstreams = sys.argv[1:]
    async with Resolver(upstreams, configure=False, store=store) as resolver:
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            report = await work(resolver, json.loads(line))
            told = vars(report) | {
                "all": time.perf_counter() - IMPORTED,
                "store": asdict(resolver.stats().store),
                "log": log.lines,
            }
            print(json.dumps(told), flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main())
