"""Tails under loss: three upstreams that are 10 ms away, and answer most queries.

They are a process of their own, `lossy.py`. Questions come at a moderate and even rate,
so that what is measured is waiting and not work.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import peers
from measure import Table, fresh_names, go_along, go_first

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from measure import Ask

RTT = 0.010
"""Seconds from a question to its reply, as the relay has it."""
RATE = 250.0
"""Questions a second."""
OURS = "resolverkit"


@asynccontextmanager
async def network(loss: float, dead: int) -> AsyncIterator[tuple[int, Any]]:
    """Servers behind a network; gives their port and what tells of queries."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, Path(__file__).with_name("lossy.py"),
        str(RTT), str(loss), str(dead),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None

    async def queries() -> int:
        """Queries that have arrived there since the last time."""
        process.stdin.write(b"\n")  # type: ignore[union-attr]
        return int(await process.stdout.readline())  # type: ignore[union-attr]

    try:
        yield int(await process.stdout.readline()), queries
    finally:
        process.stdin.close()
        await process.wait()


class Round:
    """What came of one peer's questions."""

    def __init__(self) -> None:
        self.waits: list[float] = []  # ms
        self.failed = 0
        self.queries = 0

    def told(self) -> dict[str, float]:
        """Percentiles in ms, queries per answer, and failures."""
        waits = sorted(self.waits)
        found = {
            f"ms p{part:g}": waits[min(len(waits) - 1, int(len(waits) * part / 100))]
            for part in (50, 99, 99.9)
        }
        found["queries each"] = self.queries / max(1, len(waits))
        found["failed"] = self.failed
        return found


async def _evenly(ask: Ask, count: int) -> Round:
    """Ask so many questions, one each 1 / RATE seconds, whatever becomes of them."""
    found = Round()
    loop = asyncio.get_running_loop()
    started = loop.time()

    async def one(name: str, due: float) -> None:
        try:
            await ask(name)
        except Exception:  # noqa: BLE001 - any error of any peer is a failure
            found.failed += 1
        else:
            found.waits.append((loop.time() - due) * 1000)

    tasks = []
    for i, name in enumerate(fresh_names(count)):
        due = started + i / RATE
        await asyncio.sleep(due - loop.time())
        tasks.append(asyncio.create_task(one(name, loop.time())))
    await asyncio.gather(*tasks)
    return found


def tails(
    loss: float,
    *,
    dead: int = 0,
    asks: int = 2500,
    others: tuple[str, ...] = ("aiodns", "dnspython", "blastdns"),
) -> Callable[..., Any]:
    """Percentiles of the wait with such a share of queries or replies lost.

    The first `dead` servers answer nothing. Questions of the first second are not
    counted.
    """

    async def measure(rounds: int, _: int) -> Table:
        table = Table()
        asking = [OURS, *(w for w in others if w == "dnspython" or peers.is_there(w))]
        go_first()
        try:
            for _ in range(rounds):
                for who in asking:
                    table.add(who, (await _one(who, loss, dead, asks)).told())
        finally:
            go_along()
        return table

    return measure


async def _one(who: str, loss: float, dead: int, asks: int) -> Round:
    """One round of one peer."""
    async with network(loss, dead) as (port, queries):
        make = getattr(peers, "ours" if who == OURS else who)
        peer = make(port, **_options(who))
        await _evenly(peer.ask, int(RATE))
        await queries()
        found = await _evenly(peer.ask, asks)
        await asyncio.sleep(4 * RTT)  # for what is still on its way
        found.queries = await queries()
        await peer.aclose()
        return found


def _options(who: str) -> dict[str, Any]:
    """All three servers, and nothing from a cache: names are fresh."""
    if who == OURS:
        return {}
    options: dict[str, Any] = {"servers": peers.ADDRESSES}
    if who == "dnspython":
        options["cached"] = False
    return options


async def _main() -> None:
    """One scenario by itself: ``losses.py LOSS DEAD ROUNDS [PEER…]``."""
    loss, dead, rounds = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    series = await tails(loss, dead=dead, others=tuple(sys.argv[4:]))(rounds, 0)
    series.report()


if __name__ == "__main__":
    asyncio.run(_main())
