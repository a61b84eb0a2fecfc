"""``python bench``: resolverkit beside dnspython on one core, as ratios.

Each scenario asks the same names through every peer in turn, round after round, in one
process; figures are medians. Nothing leaves the machine.
"""

import argparse
import asyncio
import itertools
import json
import platform
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import dns.asyncresolver
import dns.resolver
from measure import Ask, concurrently, median, one_after_another, pin, responder

import resolverkit

_counter = itertools.count()


def fresh_names(count: int) -> list[str]:
    """Names that nobody has asked for yet."""
    return [f"n{next(_counter)}.example.com" for _ in range(count)]


def peers(
    port: int, *, cached: bool, read: bool = True
) -> tuple[dict[str, Ask], resolverkit.Resolver]:
    """Everybody who takes part, asked for one name, and its address if `read`."""
    ours = resolverkit.Resolver([f"127.0.0.1:{port}"], configure=False)
    theirs = dns.asyncresolver.Resolver(configure=False)
    theirs.nameservers = ["127.0.0.1"]
    theirs.port = port
    if cached:
        theirs.cache = dns.resolver.LRUCache(100_000)

    async def read_ours(name: str) -> object:
        return (await ours.resolve(name))[0].address

    async def read_theirs(name: str) -> object:
        return (await theirs.resolve(name))[0].address

    if read:
        return {"resolverkit": read_ours, "dnspython": read_theirs}, ours
    return {"resolverkit": ours.resolve, "dnspython": theirs.resolve}, ours


async def hits(port: int, rounds: int, names: int, asks: int) -> dict[str, float]:
    """µs per cached answer, the address read."""
    asking, ours = peers(port, cached=True)
    known = fresh_names(names)
    work = (known * (asks // names + 1))[:asks]
    took: dict[str, list[float]] = {peer: [] for peer in asking}
    async with ours:
        for _ in range(2):  # learn, and reach the state of a program that runs
            for ask in asking.values():
                await one_after_another(ask, known)
        for _ in range(rounds):
            for peer, ask in asking.items():
                took[peer].append(await one_after_another(ask, work) / asks * 1e6)
    return {peer: median(series) for peer, series in took.items()}


async def misses(port: int, rounds: int, asks: int, *, read: bool) -> dict[str, float]:
    """µs of CPU per miss over UDP, 50 at a time."""
    asking, ours = peers(port, cached=True, read=read)
    took: dict[str, list[float]] = {peer: [] for peer in asking}
    async with ours:
        for ask in asking.values():
            await concurrently(ask, fresh_names(200), 50)
        for _ in range(rounds):
            for peer, ask in asking.items():
                # The slow peer gets fewer, so that rounds take alike.
                count = asks if peer == "resolverkit" else asks // 5
                seconds = await concurrently(ask, fresh_names(count), 50)
                took[peer].append(seconds / count * 1e6)
    return {peer: median(series) for peer, series in took.items()}


Scenario = Callable[[int], Awaitable[dict[str, float]]]


def scenarios(rounds: int) -> dict[str, Scenario]:
    """What is measured, in µs, by name."""
    return {
        "hit, 1 name": lambda port: hits(port, rounds, 1, 20_000),
        "hit, 1,000 names": lambda port: hits(port, rounds, 1000, 20_000),
        "miss, UDP": lambda port: misses(port, rounds, 10_000, read=False),
        "miss, UDP, address read": lambda port: misses(port, rounds, 10_000, read=True),
    }


async def run(rounds: int) -> dict[str, dict[str, Any]]:
    """Run every scenario."""
    results: dict[str, dict[str, Any]] = {}
    async with responder() as port:
        for name, scenario in scenarios(rounds).items():
            figures = await scenario(port)
            ours, theirs = figures["resolverkit"], figures["dnspython"]
            results[name] = {"unit": "µs", "ratio": theirs / ours, **figures}
            print(
                f"{name:<24} resolverkit {ours:>7,.1f} µs   "
                f"dnspython {theirs:>7,.1f} µs   {theirs / ours:.1f} times",
                flush=True,
            )
    return results


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    pin(0)
    about = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "resolverkit": version("resolverkit"),
        "dnspython": version("dnspython"),
    }
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    results = asyncio.run(run(options.rounds))
    if options.json:
        options.json.write_text(json.dumps({**about, "results": results}, indent=2))


main()
