"""Ten minutes at full load while upstreams come and go.

Memory has to stay as it is once the cache is full, every query has its reply but for
what the kernel dropped, and the server ends with nothing left open. Run by its name
only: ``python bench --only soak``.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from commands import SOAKED
from load import Load, load
from servers import Server, running
from stub import number, upstream, warm

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "soak"
MINUTES = 10
SEGMENT = 10.0
"""Seconds of one load; memory is looked at after each."""
TTL = 7
"""Seconds: what is asked for all the time expires in an outage, and is served stale."""
FLAPS = ((True, True), (True, False), (False, True), (False, False))
"""Who of two upstreams answers, in turn, for a segment and a half each."""
FULL = 0.3
"""Share of the time after which the cache is full; memory counts from there."""
MISSES = 50
"""Fresh names under way."""
PATIENCE = 8.0
"""Seconds after which a query is lost; a SERVFAIL takes 4.5."""

_fresh = itertools.count(1_000_000, 100_000)
_COMPLAINTS = re.compile(
    r"Traceback|Warning|destroyed|unclosed|never (awaited|retrieved)"
)


def run(minutes: float = MINUTES) -> dict[str, Any]:
    """Do it, print what came of it, and give it as JSON-ready values."""
    print(f"{NAME}, {minutes:g} minutes")
    with ExitStack() as stack:
        upstreams = [stack.enter_context(upstream(TTL)) for _ in range(2)]
        ports = [each.port for each in upstreams]
        servers = stack.enter_context(running([SOAKED], ports))
        server = servers[SOAKED]
        warm(server)
        stack.enter_context(flapping([each.pid for each in upstreams]))
        found = soak(server, minutes)
        log = server.end()
    found["complaints"] = len(_COMPLAINTS.findall(log))
    found["exit status"] = server.status
    print("  " + ", ".join(f"{key} {number(value, 1)}" for key, value in found.items()))
    if found["complaints"]:
        print(log[-2000:])
    return found


def soak(server: Server, minutes: float) -> dict[str, Any]:
    """Hits and misses at once, segment by segment."""
    hits: list[Load] = []
    misses: list[Load] = []
    memory: list[float] = []
    until = time.monotonic() + minutes * 60
    dropped = server.dropped()
    while time.monotonic() < until:
        other = threading.Thread(target=lambda: misses.append(ask_misses(server)))
        other.start()
        hits.append(load(server, SEGMENT, patience=PATIENCE, ahead=False))
        other.join()
        memory.append(server.rss() / (1 << 20))
        print(f"  {hits[-1]} {misses[-1]} {memory[-1]:.1f} MiB", flush=True)
    full = memory[int(len(memory) * FULL)]
    return {
        "hits": sum(each.answered for each in hits),
        "hits/s": sum(each.rate for each in hits) / len(hits),
        "misses": sum(each.answered for each in misses),
        "SERVFAIL for misses": sum(each.failed for each in misses),
        "SERVFAIL for hits": sum(each.failed for each in hits),
        "wrong": sum(each.wrong for each in (*hits, *misses)),
        "lost": sum(each.lost for each in (*hits, *misses)),
        "dropped by the kernel": server.dropped() - dropped,
        "MiB when full": full,
        "MiB at the end": memory[-1],
        "growth %": (memory[-1] / full - 1) * 100,
    }


def ask_misses(server: Server) -> Load:
    """Names that nobody has asked for, few at a time."""
    first = next(_fresh)
    return load(
        server, SEGMENT, window=MISSES, first=first, names=100_000,
        patience=PATIENCE, ahead=False,
    )  # fmt: skip


@contextmanager
def flapping(pids: list[int]) -> Iterator[None]:
    """Stop and continue processes in turn, until the end."""
    ended = threading.Event()

    def flap() -> None:
        for states in itertools.cycle(FLAPS):
            for pid, answers in zip(pids, states, strict=True):
                os.kill(pid, signal.SIGCONT if answers else signal.SIGSTOP)
            if ended.wait(SEGMENT * 1.5):
                break
        for pid in pids:
            os.kill(pid, signal.SIGCONT)

    thread = threading.Thread(target=flap)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
