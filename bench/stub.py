"""The stub beside Debian's resolvers: cached answers, misses, two workers.

Servers run on the first core and the load on the last, a quarter of a second at a time
and in turns. Where the system allows, both go ahead of whatever else the machine does
meanwhile.
"""

from __future__ import annotations

import itertools
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands import OURS, PLAIN, WORKERS
from load import NAMES, dnsperf, load, on_the_last_core
from servers import CORES, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from servers import Server

BURST = 0.25
"""Seconds of one measurement, and of the pause after it for whatever else runs here."""
STEADY = 20_000
"""Queries a second at which latencies are measured: each server can do more."""
SOCKETS = 16
"""Of the load on two workers, among whom the kernel deals sockets out."""
PEER = "Unbound"
RATIOS = ("queries/s", "CPU µs", "p50 µs", "p99 µs")
"""What is set beside the same of a peer."""

CACHES = [
    PEER, "dnsmasq", "BIND", "Knot Resolver", "smartdns", "dnsdist",
    "PowerDNS Recursor",
]  # fmt: skip

_fresh = itertools.count(1_000_000, 1_000_000)

Row = dict[str, float | None]
"""What one round has found of one server."""


@dataclass(frozen=True)
class StubScenario:
    """What is measured of which servers.

    Attributes:
        peer: to whom the ratios are.
    """

    name: str
    servers: list[str]
    measure: Callable[[Server, Upstream], Row]
    peer: str = PEER

    def run(self, rounds: int) -> dict[str, Any]:
        """Measure, print a table, and give it as JSON-ready values."""
        print(self.name)
        if len(CORES) < 2:
            print("  left out: servers and the load need a core each")
            return {}
        rows: dict[str, list[Row]] = {}
        with upstream() as behind, running(self.servers, [behind.port]) as servers:
            for server in servers.values():
                warm(server)
            for turn in range(-1, rounds):  # the first is not counted
                for name, server in servers.items():
                    row = self.measure(server, behind)
                    if turn >= 0:
                        rows.setdefault(name, []).append(row)
        return table(rows, self.peer)


def warm(server: Server) -> None:
    """Have it learn all names, slowly, and give none up."""
    for _ in range(5):
        found = load(server, NAMES / 2000, rate=2000, ahead=False)
        if not found.lost:
            return
    raise SystemExit(f"{server.name} did not answer {found.lost} of {NAMES} queries")


def hits(server: Server, _: Upstream) -> Row:
    """As many cached answers as it gives, and how long some of them take."""
    most = load(server, BURST)
    time.sleep(BURST)
    steady = load(server, BURST, rate=STEADY)
    time.sleep(BURST)
    by_dnsperf = dnsperf(server, 1)
    time.sleep(1)
    return {
        "queries/s": most.rate,
        "CPU µs": most.cost,
        "p50 µs": steady.p50,
        "p99 µs": steady.p99,
        "dnsperf/s": by_dnsperf,
        "lost": most.lost + steady.lost,
        "wrong": most.wrong + most.failed + steady.wrong + steady.failed,
    }


def hits_of_many(server: Server, _: Upstream) -> Row:
    """Cached answers for several clients; one worker shares the core of the load."""
    most = load(server, BURST, sockets=SOCKETS, ahead=False)
    time.sleep(BURST)
    return {
        "queries/s": most.rate,
        "CPU µs": most.cost,
        "lost": most.lost,
        "wrong": most.wrong + most.failed,
    }


def misses(server: Server, behind: Upstream) -> Row:
    """Names that nobody has asked for; the load is the upstream as well."""
    first = next(_fresh)
    with behind.replaced() as descriptor:
        found = load(
            server, 2 * BURST, window=50, first=first, names=1_000_000,
            upstream=descriptor,
        )  # fmt: skip
    time.sleep(2 * BURST)
    return {
        "queries/s": found.rate,
        "CPU µs": found.cost,
        "p50 µs": found.p50,
        "p99 µs": found.p99,
        "lost": found.lost,
        "wrong": found.wrong + found.failed,
    }


SCENARIOS = (
    StubScenario("stub, hits", [OURS, PLAIN, *CACHES], hits),
    StubScenario("stub, hits, 2 workers", [OURS, WORKERS], hits_of_many, OURS),
    StubScenario("stub, misses", [OURS, "dnsmasq", PEER], misses, "dnsmasq"),
)


def table(rows: dict[str, list[Row]], peer: str) -> dict[str, Any]:
    """Print medians, and the median of each round's ratio to the peer."""
    found: dict[str, Any] = {}
    columns = list(next(iter(rows.values()))[0])
    print(f"  {'':<26}" + "".join(f"{column:>11}" for column in columns))
    for name, rounds in rows.items():
        told = {column: middle(row[column] for row in rounds) for column in columns}
        ratios = {
            column: middle(
                row[column] / other[column] if other[column] else None
                for row, other in zip(rounds, rows.get(peer, []), strict=False)
            )
            for column in RATIOS
            if column in columns
        }
        found[name] = told | {"ratios": ratios}
        for text, values in ((name, told), (f"  to {peer}'s", ratios)):
            digits = 0 if text == name else 2
            line = (number(values.get(column), digits) for column in columns)
            print(f"  {text:<26}" + "".join(f"{each:>11}" for each in line), flush=True)
    return found


def middle(values: Iterable[float | None]) -> float | None:
    """The median of those that are there."""
    there = [value for value in values if value is not None]
    return statistics.median(there) if there else None


def number(value: float | None, digits: int) -> str:
    """A figure of a table."""
    if value is None:
        return "-"
    return f"{value:,.{digits if value >= 20 or digits else 1}f}"


@dataclass(frozen=True)
class Upstream:
    """The responder, on the core of the load.

    Attributes:
        sock: where it is asked.
        pid: of its process.
    """

    sock: socket.socket
    pid: int

    @property
    def port(self) -> int:
        """Its port."""
        port: int = self.sock.getsockname()[1]
        return port

    @contextmanager
    def replaced(self) -> Iterator[int]:
        """Stop it, for one who answers in its place; gives the descriptor.

        Where it shares a core with a load that never sleeps, it is what is measured.
        """
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield self.sock.fileno()
        finally:
            os.kill(self.pid, signal.SIGCONT)


@contextmanager
def upstream(ttl: int = 3600) -> Iterator[Upstream]:
    """The responder, while it runs."""
    path = Path(__file__).with_name("responder.py")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.bind(("127.0.0.1", 0))
        process = subprocess.Popen(
            [sys.executable, path, str(sock.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"TTL": str(ttl)},
            pass_fds=[sock.fileno()],
            preexec_fn=on_the_last_core,  # noqa: PLW1509 - no threads here
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdout.readline()
            yield Upstream(sock, process.pid)
        finally:
            process.stdin.close()
            process.wait(10)
            process.stdout.close()
