"""``python bench``: resolverkit beside dnspython and aiodns on one core, as ratios.

Each scenario asks the same kind of names through every peer in turn, round after round,
in one process; figures are medians. Nothing leaves the machine.
"""

import argparse
import json
import platform
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import dns.name
import encrypted
import footprint
import imports
import losses
import peers
import rust
import scale
import soak
import stores
import stub
from measure import (
    Series,
    Table,
    concurrently,
    fresh_names,
    one_after_another,
    pin,
    responder,
    run,
)

OURS = "resolverkit"
SHARES = {"dnspython": 8, "aiodns": 2}
"""What a peer is asked less often by, so that the rounds of all take alike."""


@dataclass(frozen=True)
class Scenario:
    """What is measured, and the ratio to dnspython below which that is a regression.

    A floor of 0 is for what has no part for dnspython, or would take long: `--check`
    leaves it out.
    """

    name: str
    measure: Callable[[int, int], Coroutine[Any, Any, Series | Table]]
    floor: float
    loop: str = "asyncio"


def hits(
    names: int,
    *,
    read: bool = True,
    written: Callable[[str], Any] = str,
    others: tuple[str, ...] = ("dnspython", "aiodns"),
) -> Callable[..., Any]:
    """µs by the clock per cached answer, to names as they are `written`."""

    async def measure(rounds: int, port: int) -> Series:
        asking = {OURS: peers.ours(port)}
        if "dnspython" in others:
            asking["dnspython"] = peers.dnspython(port)
        if "aiodns" in others:
            asking["aiodns"] = peers.aiodns(port)
        series = Series()
        known = fresh_names(names)
        asks = max(20_000, names)
        work = [written(name) for name in (known * (asks // names + 1))[:asks]]
        for peer in asking.values():  # learn, and reach the state of what runs
            learn = peer.read if read else peer.ask
            await concurrently(learn, known, 50)
            await one_after_another(learn, work[:names])
        for _ in range(rounds):
            for name, peer in asking.items():
                ask = peer.read if read else peer.ask
                some = work[: len(work) // SHARES.get(name, 1)]
                took = await one_after_another(ask, some)
                series.add(name, took / len(some) * 1e6)
        for peer in asking.values():
            await peer.aclose()
        return series

    return measure


def misses(
    concurrency: int, *, asks: int = 8000, read: bool = False
) -> Callable[..., Any]:
    """µs of the client's CPU per miss over UDP; of the clock where one is asked."""

    async def measure(rounds: int, port: int) -> Series:
        asking = {
            OURS: peers.ours(port),
            "aiodns": peers.aiodns(port),
            "dnspython": peers.dnspython(port, cached=False),
            "bare": peers.bare(port),
        }
        series = Series()
        for turn in range(-1, rounds):  # the first is not counted
            for name, peer in asking.items():
                count = max(asks // SHARES.get(name, 1), 2 * concurrency)
                ask, names = peer.read if read else peer.ask, fresh_names(count)
                if concurrency == 1:
                    took = await one_after_another(ask, names)
                else:
                    took = await concurrently(ask, names, concurrency)
                if turn >= 0:
                    series.add(name, took / count * 1e6)
        for peer in asking.values():
            await peer.aclose()
        return series

    return measure


SCENARIOS = (
    Scenario("import", imports.imports, 1 / 1.3),
    Scenario("import and first answer", imports.first_answer, 1 / 1.3),
    Scenario("hit, 1 name, not read", hits(1, read=False), 15),
    Scenario("hit, 1,000 names, not read", hits(1000, read=False), 15),
    Scenario(  # alone: others would take minutes to learn them
        "hit, 100,000 names, not read",
        hits(100_000, read=False, others=()),
        0,
    ),
    Scenario(
        "hit, 1,000 names, mixed case, not read",
        hits(1000, read=False, written=str.title, others=("dnspython",)),
        10,
    ),
    Scenario(
        "hit, 1,000 Name objects, not read",
        hits(1000, read=False, written=dns.name.from_text, others=("dnspython",)),
        8,
    ),
    Scenario("hit, 1 name", hits(1), 8),
    Scenario("hit, 1,000 names", hits(1000), 8),
    Scenario("hit, 1,000 names, stores", stores.hits(1000), 0),
    Scenario("miss, 50 at once, stores", stores.misses(50), 0),
    Scenario("a store of 100,000 names", stores.restart(100_000), 0),
    Scenario("miss, one by one", misses(1, asks=2000), 2),
    Scenario("miss, 50 at once", misses(50), 4),
    Scenario("miss, 500 at once", misses(500), 3),
    Scenario("miss, 50 at once, address read", misses(50, read=True), 2.5),
    Scenario("miss, 50 at once, uvloop", misses(50), 3, "uvloop"),
    Scenario("miss, 500 at once, uvloop", misses(500), 2.5, "uvloop"),
    Scenario("miss, beside Rust", rust.misses(50), 0),
    Scenario("miss, DoH", encrypted.misses("https"), 40),
    Scenario("miss, DoH, changing", encrypted.misses("https", "changing"), 0),
    Scenario("miss, DoT", encrypted.misses("tls"), 30),
    Scenario("tails, 2 % lost", losses.tails(0.02), 0),
    Scenario("tails, 10 % lost", losses.tails(0.1), 0),
    Scenario("tails, one of three dead", losses.tails(0, dead=1), 0),
    Scenario("bytes per answer", footprint.bytes_each(100_000), 0),
    Scenario("byte bound", footprint.bound(200_000, 64 << 20), 0),
    Scenario("a million entries", scale.scale(1_000_000), 0),
    Scenario("10,000 flights", scale.flights(10_000), 0),
)


def report(scenario: Scenario, series: Series) -> dict[str, Any]:
    """Print what came of a scenario; gives it as JSON-ready values."""
    found: dict[str, Any] = {"unit": "µs", "loop": scenario.loop}
    print(scenario.name)
    for peer in series.rounds:
        took = series.median(peer)
        told = {"µs": took, "queries/s": 1e6 / took}
        line = f"  {peer:<12} {took:>8,.2f} µs {1e6 / took:>12,.0f}/s"
        if peer != OURS and OURS in series.rounds:
            told["ratio"] = series.ratio(peer, OURS)
            line += f"   ours is {told['ratio']:.2f} times as fast"
        found[peer] = told
        print(line, flush=True)
    return found


async def measured(scenario: Scenario, rounds: int) -> Series | Table:
    """One scenario, with a responder of its own."""
    async with responder(peers.ADDRESSES) as port:
        return await scenario.measure(rounds, port)


def main() -> int:
    """Read the command line and run; 1 if a ratio fell below its floor."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument("--only", default="", help="scenarios with this in their name")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument(
        "--check", action="store_true", help="only what has a floor; fail below it"
    )
    options = parser.parse_args()
    names = [scenario.name for scenario in (*SCENARIOS, *stub.SCENARIOS)]
    if not any(options.only in name for name in (*names, soak.NAME)):
        told = "; ".join((*names, soak.NAME))
        parser.error(f"--only {options.only}: no scenario has this in its name: {told}")
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: allowed are 1 and more")
    pin(0)
    about = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        **{name: version(name) for name in (OURS, "dnspython", "aiodns", "uvloop")},
    }
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    results, slow = {}, []
    for scenario in SCENARIOS:
        if options.only not in scenario.name or (options.check and not scenario.floor):
            continue
        series = run(measured(scenario, options.rounds), scenario.loop)
        if isinstance(series, Table):
            print(scenario.name)
            results[scenario.name] = series.report()
            continue
        results[scenario.name] = report(scenario, series)
        if not {OURS, "dnspython"} <= series.rounds.keys():
            continue
        if scenario.floor and series.ratio("dnspython", OURS) < scenario.floor:
            slow.append(f"{scenario.name}: less than {scenario.floor:g} times")
    for beside in stub.SCENARIOS:
        if options.only in beside.name and not options.check:
            results[beside.name] = beside.run(options.rounds)
    if options.only == soak.NAME:
        results[soak.NAME] = soak.run()
    if options.json:
        options.json.write_text(json.dumps({**about, "results": results}, indent=2))
    if options.check and slow:
        print("slower than it was:", "; ".join(slow))
        return 1
    return 0


sys.exit(main())
