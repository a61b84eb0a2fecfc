"""The load on a server: `load.c`, compiled when it is needed, and dnsperf."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from servers import CORES

if TYPE_CHECKING:
    from servers import Server

NAMES = 1000
WINDOW = 128
"""Queries under way; what a socket's default buffer has room for."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What came of a load.

    Attributes:
        sent: queries.
        answered: replies that were right.
        failed: replies that were SERVFAIL.
        wrong: replies that were anything else, or to nothing that was asked.
        lost: queries without a reply.
        seconds: by the clock.
        idle: share of them in which the load waited for the server.
        p50: µs from query to reply, the median.
        p99: the same, exceeded by one of 100.
        cpu: seconds of CPU of the server.
    """

    sent: int
    answered: int
    failed: int
    wrong: int
    lost: int
    seconds: float
    idle: float
    p50: float
    p99: float
    cpu: float

    @property
    def rate(self) -> float:
        """Queries a second that were answered."""
        return self.answered / self.seconds

    @property
    def cost(self) -> float:
        """µs of CPU for each query that was answered."""
        return self.cpu / max(self.answered, 1) * 1e6


@cache
def program() -> str:
    """The path of the load, compiled by the system's C compiler."""
    directory = mkdtemp(prefix="bench-load-")
    path = str(Path(directory) / "load")
    source = Path(__file__).with_name("load.c")
    compiler = shutil.which("cc")
    if compiler is None:
        raise SystemExit("no C compiler (cc), which the load needs")
    subprocess.run([compiler, "-O2", "-Wall", "-o", path, source], check=True)
    return path


def load(
    server: Server,
    seconds: float,
    *,
    rate: float = 0,
    window: int = WINDOW,
    sockets: int = 1,
    first: int = 0,
    names: int = NAMES,
    patience: float = 0.5,
    ahead: bool = True,
    upstream: int = -1,
) -> Load:
    """Ask a server; `load.c` says what the parameters mean.

    With `ahead`, load and server run before whatever else this machine has to do, where
    the system allows; who else is needed on the load's core would never have its turn.
    """
    numbers = (
        server.port, seconds, rate, window, sockets, first, names, patience, upstream,
    )  # fmt: skip
    with server.ahead() if ahead else nullcontext():
        before = server.cpu()
        done = subprocess.run(
            [program(), *map(str, numbers)],
            check=True, stdout=subprocess.PIPE, timeout=seconds + patience + 10,
            preexec_fn=ahead_on_the_last_core if ahead else on_the_last_core,
            pass_fds=[upstream] if upstream >= 0 else [],
        )  # fmt: skip
        cpu = server.cpu() - before
    return Load(cpu=cpu, **json.loads(done.stdout))


def dnsperf(server: Server, seconds: int) -> float | None:
    """Queries a second by dnsperf with the same names; None if it is not installed.

    Its threads wait for each other, so that it cannot go ahead of all else on one core;
    it has precedence.
    """
    path = shutil.which("dnsperf")
    if path is None:
        return None
    queries = Path(program()).with_name("queries")
    queries.write_text("".join(f"n{i:07}.load.example A\n" for i in range(NAMES)))
    where = ["-s", "127.0.0.1", "-p", str(server.port), "-d", str(queries)]
    with server.ahead():
        done = subprocess.run(
            [path, *where, "-l", str(seconds), "-q", str(WINDOW)],
            check=True, capture_output=True, text=True, timeout=seconds + 10,
            preexec_fn=preferred_on_the_last_core,
        )  # fmt: skip
    found = re.search(r"Queries per second:\s+([\d.]+)", done.stdout)
    return float(found[1]) if found else None


def on_the_last_core() -> None:
    """Keep this process away from the servers, with a share of its own in that core."""
    os.setsid()  # Linux shares the CPU among sessions: see sched(7), autogroup
    os.sched_setaffinity(0, CORES[-1:])


def ahead_on_the_last_core() -> None:
    on_the_last_core()
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def preferred_on_the_last_core() -> None:
    on_the_last_core()
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text("-19")
        os.setpriority(os.PRIO_PROCESS, 0, -19)
