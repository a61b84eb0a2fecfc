"""What a store costs: hits and misses with one behind, and the start of a process.

The figures are ratios to memory alone, whose peer has the name ``resolverkit``. Run as
``python stores.py PORT NAME [URL]`` it is such a process: it asks for one name, and
prints how long that took (µs) and what memory grew by (KiB).
"""

from __future__ import annotations

import asyncio
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import peers
from measure import Series, concurrently, fresh_names, one_after_another

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

OURS = "resolverkit"


@asynccontextmanager
async def _redis(folder: str) -> AsyncIterator[str]:
    """A server of our own that keeps nothing on disk; gives its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    server = subprocess.Popen(
        [
            str(shutil.which("redis-server")),
            "--port",
            port,
            "--save",
            "",
            "--dir",
            folder,
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        await asyncio.sleep(0.5)
        yield f"redis://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)


@asynccontextmanager
async def _with_stores(port: int) -> AsyncIterator[dict[str, peers.Peer]]:
    """Memory alone, SQLite, and Redis where there is a server."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        asking = {OURS: peers.ours(port)}
        asking["sqlite"] = peers.ours(port, f"sqlite:///{folder}/bench.db")
        if shutil.which("redis-server"):
            url = await stack.enter_async_context(_redis(folder))
            asking["redis"] = peers.ours(port, url)
        try:
            yield asking
        finally:
            for peer in asking.values():
                await peer.aclose()


def hits(names: int) -> Callable[..., Any]:
    """µs by the clock per cached answer."""

    async def measure(rounds: int, port: int) -> Series:
        series, known = Series(), fresh_names(names)
        work = known * 20
        async with _with_stores(port) as asking:
            for peer in asking.values():
                await concurrently(peer.read, known, 50)
                await one_after_another(peer.read, known)
            for _ in range(rounds):
                for name, peer in asking.items():
                    took = await one_after_another(peer.ask, work)
                    series.add(name, took / len(work) * 1e6)
        return series

    return measure


def _scattered_names(count: int) -> list[str]:
    """Names in no order, as users have them: each has another place in an index."""
    return [f"{random.getrandbits(48):x}.example.com" for _ in range(count)]


def misses(concurrency: int, *, asks: int = 4000) -> Callable[..., Any]:
    """µs of the process's CPU per miss, what is written behind included."""

    async def measure(rounds: int, port: int) -> Series:
        series = Series()
        async with _with_stores(port) as asking:
            for turn in range(-1, rounds):  # the first is not counted
                for name, peer in asking.items():
                    names = _scattered_names(asks)
                    took = await concurrently(peer.ask, names, concurrency)
                    before = time.process_time()
                    await asyncio.sleep(1.0)  # for what is still to be written
                    took += time.process_time() - before
                    if turn >= 0:
                        series.add(name, took / asks * 1e6)
        return series

    return measure


def restart(names: int) -> Callable[..., Any]:
    """µs by the clock from making a Resolver to its first answer, with a full file."""

    async def measure(rounds: int, port: int) -> Series:
        series = Series()
        with tempfile.TemporaryDirectory() as folder:
            url = f"sqlite:///{folder}/bench.db"
            known = fresh_names(names)
            filler = peers.ours(port, url)
            for start in range(0, names, 2000):  # no faster than it is written
                await concurrently(filler.ask, known[start : start + 2000], 50)
                await asyncio.sleep(0.1)
            await filler.aclose()
            for turn in range(rounds):
                for name, store in ((OURS, ()), ("sqlite", (url,))):
                    process = await asyncio.create_subprocess_exec(
                        sys.executable, __file__, str(port), known[turn], *store,
                        stdout=subprocess.PIPE,
                    )  # fmt: skip
                    told, _ = await process.communicate()
                    took, grown = map(float, told.split())
                    series.add(name, took)
                    print(f"  {name}: {grown:.0f} KiB more resident memory")
        return series

    return measure


async def _begin(port: int, name: str, store: str | None = None) -> None:
    """One process with a store that others have filled."""
    before, started = _resident(), time.perf_counter()
    peer = peers.ours(port, store)
    await peer.read(name)
    took = time.perf_counter() - started
    print(took * 1e6, (_resident() - before) / 1024)
    await peer.aclose()


def _resident() -> int:
    """Bytes of this process in memory, where /proc says so."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * 4096


if __name__ == "__main__":
    asyncio.run(_begin(int(sys.argv[1]), *sys.argv[2:]))
