"""Misses of the resolvers written in Rust, where there are wheels of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import peers
from measure import Series, concurrently, fresh_names

if TYPE_CHECKING:
    from collections.abc import Callable

OURS = "resolverkit"


def misses(concurrency: int, *, asks: int = 8000) -> Callable[..., Any]:
    """µs of the process's CPU per miss over UDP, that of their threads included."""

    async def measure(rounds: int, port: int) -> Series:
        asking = {OURS: peers.ours(port)}
        if peers.is_there("blastdns"):
            asking["blastdns"] = peers.blastdns(port)
        batch = _presolv(port) if peers.is_there("presolv") else None
        series = Series()
        for turn in range(-1, rounds):  # the first is not counted
            for name, peer in asking.items():
                took = await concurrently(peer.ask, fresh_names(asks), concurrency)
                if turn >= 0:
                    series.add(name, took / asks * 1e6)
            if batch is not None:
                names = fresh_names(asks)
                started = time.process_time()
                batch(names)
                took = time.process_time() - started
                if turn >= 0:
                    series.add("presolv", took / asks * 1e6)
        for peer in asking.values():
            await peer.aclose()
        return series

    return measure


def _presolv(port: int) -> Callable[[list[str]], None]:
    """It blocks, and takes a batch; so many of it at once as it likes."""
    import presolv

    resolver = presolv.Resolver([(peers.ADDRESSES[0], port)], concurrency=50)

    def ask(names: list[str]) -> None:
        queries = [presolv.Query(qname=name) for name in names]
        for result in resolver.resolve(queries):
            assert result.error is None, result.error

    return ask
