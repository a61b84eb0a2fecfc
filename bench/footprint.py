"""What a cached answer takes of memory, in a fresh process for each figure.

Run as ``python footprint.py WHO PORT NAMES ASKED BYTES`` it is such a process: it has
WHO learn that many names, asks for all of them again ASKED times and reads the address
(0: they are stored and no more), with a cache of at most BYTES. It prints by how many
bytes resident memory has grown, how many answers are kept, and what they are charged.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.resolver
import peers
from measure import Table, concurrently, fresh_names
from responder import reply_to

import resolverkit

if TYPE_CHECKING:
    from collections.abc import Callable

OURS = "resolverkit"


def resident() -> int:
    """Bytes of this process in memory; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * 4096


async def grown(who: str, port: int, names: int, asked: int, limit: int) -> list[float]:
    """Bytes that memory grows by, answers that are kept, bytes that are charged."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, who, *map(str, (port, names, asked, limit)),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    told, _ = await process.communicate()
    return [float(figure) for figure in told.split()]


def bytes_each(names: int) -> Callable[..., Any]:
    """Bytes per cached answer; of dnspython fewer, for it takes long to fill.

    What our cache may take is what so many need once all were asked for again.
    """

    async def measure(rounds: int, port: int) -> Table:
        table = Table()
        for _ in range(rounds):
            for who, count in ((OURS, names), ("dnspython", names // 4)):
                figures = {}
                for asked, what in enumerate(("stored", "read")):
                    found = await grown(who, port, count, asked, 755 * names)
                    figures[f"bytes {what}"] = found[0] / found[1]
                table.add(who, figures)
        return table

    return measure


def bound(names: int, limit: int) -> Callable[..., Any]:
    """Bytes that a full cache takes, of those that it may."""

    async def measure(rounds: int, port: int) -> Table:
        table = Table()
        for _ in range(rounds):
            figures = {}
            for asked, what in enumerate(("stored", "read")):
                found = await grown(OURS, port, names, asked, limit)
                figures[f"of the bound {what}"] = found[0] / limit
            table.add(OURS, figures)
        return table

    return measure


async def _ours(port: int, names: int, asked: int, limit: int) -> None:
    """Fill a Resolver's memory by real misses."""
    upstreams = [f"{address}:{port}" for address in peers.ADDRESSES]
    resolver = resolverkit.Resolver(upstreams, configure=False, cache_size=limit)

    async def read(name: str) -> object:
        return (await resolver.resolve(name))[0].address

    warm = fresh_names(1000)
    for _ in range(2):
        await concurrently(read, warm, 50)
    kept_before, charged_before = len(resolver._store), resolver._store.size
    gc.collect()
    before, step = resident(), 10_000
    for start in range(0, names, step):  # no list of all names, which would count
        some = fresh_names(min(step, names - start))
        await concurrently(resolver.resolve, some, 50)
    for _ in range(asked):
        for i in range(names):
            await read(f"n{i + 1000}.example.com")
    del some
    await asyncio.sleep(0.1)
    gc.collect()
    now = resident()
    kept = len(resolver._store) - kept_before
    print(now - before, kept, resolver._store.size - charged_before)
    await resolver.aclose()


def _dnspython(names: int, asked: int) -> None:
    """Fill an LRUCache with answers made as dnspython's resolver makes them."""
    cache = dns.resolver.LRUCache(10 * names)
    rdtype, rdclass = dns.rdatatype.A, dns.rdataclass.IN

    def learn(text: str) -> None:
        name = dns.name.from_text(text)
        query = dns.message.make_query(name, rdtype, rdclass, use_edns=0)
        message = dns.message.from_wire(reply_to(query.to_wire()))
        answer = dns.resolver.Answer(name, rdtype, rdclass, message)
        cache.put((name, rdtype, rdclass), answer)

    for text in fresh_names(1000):
        learn(text)
    gc.collect()
    before = resident()
    for _ in range(names):
        learn(fresh_names(1)[0])
    for _ in range(asked):
        for i in range(names):
            name = dns.name.from_text(f"n{i + 1000}.example.com")
            found = cache.get((name, rdtype, rdclass))
            assert found is not None
            assert found[0].address
    gc.collect()
    print(resident() - before, names, 0)


def main() -> None:
    """One process, for one figure."""
    who = sys.argv[1]
    port, names, asked, limit = map(int, sys.argv[2:])
    if who == OURS:
        asyncio.run(_ours(port, names, asked, limit))
    else:
        _dnspython(names, asked)


if __name__ == "__main__":
    main()
