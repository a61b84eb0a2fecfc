"""Hits and misses with a million entries in memory, and 10,000 flights at once.

Run as ``python scale.py PORT ENTRIES ROUNDS`` it is a process of its own, since others
would suffer from what it keeps; prints the µs of each round as JSON.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from typing import TYPE_CHECKING, Any

import losses
import peers
from measure import (
    Series,
    Table,
    concurrently,
    fresh_names,
    go_along,
    go_first,
    one_after_another,
    pin,
)
from responder import reply_to

import resolverkit
from resolverkit import wire
from resolverkit.model import Attempt, Endpoint, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

FEW = 1_000
HITS = 200_000
MISSES = 4_000
PLENTY = 4 << 30


def scale(entries: int) -> Callable[..., Any]:
    """µs of CPU: hits beside those of a dict, and misses, full and not."""

    async def measure(rounds: int, port: int) -> Series:
        process = await asyncio.create_subprocess_exec(
            sys.executable, __file__, *map(str, (port, entries, rounds)),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        told, _ = await process.communicate()
        series = Series()
        series.rounds = json.loads(told)
        return series

    return measure


def flights(count: int) -> Callable[..., Any]:
    """So many questions at once: those that fail, and µs of CPU for each."""

    async def measure(rounds: int, _: int) -> Table:
        table = Table()
        go_first()
        try:
            async with losses.network(0, 0) as (port, queries):
                peer = peers.ours(port)
                for _ in range(rounds):
                    started = time.process_time()
                    asking = map(peer.ask, fresh_names(count))
                    found = await asyncio.gather(*asking, return_exceptions=True)
                    took = time.process_time() - started
                    figures = {
                        "µs each": took / count * 1e6,
                        "queries each": await queries() / count,
                        "failed": sum(isinstance(x, Exception) for x in found),
                    }
                    table.add("resolverkit", figures)
                await peer.aclose()
        finally:
            go_along()
        return table

    return measure


def _resolver(port: int) -> resolverkit.Resolver:
    upstreams = [f"{address}:{port}" for address in peers.ADDRESSES]
    return resolverkit.Resolver(upstreams, configure=False, cache_size=PLENTY)


def _fill(resolver: resolverkit.Resolver, names: list[str]) -> None:
    """As misses do, without a packet for each."""
    endpoint = Endpoint("udp://127.0.0.1", "udp", "", "127.0.0.1", 53)
    memory, now = resolver._store, resolver._clock()
    for name in names:
        question = wire.make_question(wire.text_to_wire(name), 1)
        reply = wire.read_reply(question, reply_to(question.wire))
        reply.winner = Attempt(endpoint, now, time.monotonic(), Outcome.DATA, 0)
        memory.learn(question, reply, now)


class _Known:
    """What a dict has for a name."""

    __slots__ = ("answer", "until")

    def __init__(self, answer: object, until: float) -> None:
        self.answer = answer
        self.until = until


async def _process(port: int, entries: int, rounds: int) -> dict[str, list[float]]:
    names = fresh_names(entries)
    full, small = _resolver(port), _resolver(port)
    _fill(full, names)
    _fill(small, names[:FEW])
    known = {name: _Known(object(), time.monotonic() + 1e9) for name in names}
    few = dict(list(known.items())[:FEW])
    clock = time.monotonic

    def by(table: dict[str, _Known]) -> Callable[..., Any]:
        async def ask(name: str) -> object:
            found = table.get(name)
            return found.answer if found and clock() < found.until else None

        return ask

    work = random.Random(1).choices(names, k=HITS)
    small_work = random.Random(1).choices(names[:FEW], k=HITS)
    await one_after_another(full.resolve, names)  # where hits find them
    await one_after_another(small.resolve, names[:FEW])
    hits = {
        "hit": (full.resolve, work),
        "dict": (by(known), work),
        "hit, 1,000": (small.resolve, small_work),
        "dict, 1,000": (by(few), small_work),
    }
    series = Series()
    for turn in range(-1, rounds):  # the first is not counted
        for what, (ask, some) in hits.items():
            took = await one_after_another(ask, some, time.process_time)
            if turn >= 0:
                series.add(what, took / HITS * 1e6)
        for what, resolver in (("miss", full), ("miss, 1,000", small)):
            took = await concurrently(resolver.resolve, fresh_names(MISSES), 50)
            if turn >= 0:
                series.add(what, took / MISSES * 1e6)
    await full.aclose()
    await small.aclose()
    return series.rounds


if __name__ == "__main__":
    pin(0)
    print(json.dumps(asyncio.run(_process(*map(int, sys.argv[1:])))))
