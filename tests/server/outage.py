"""An outage that a stub is asked through, on real servers, at a steady rate.

The authority stops, and resolvers and stub go on. bench/outage.py runs it for longer.
"""

from __future__ import annotations

import asyncio
import math
import os
import re
import socket
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import dns.message
from served import LIMIT, Served

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab import Lab

NAMES = [f"n{i}.names.example" for i in range(50)]  # their TTL is 5 s
STALE = 3  # extended error (RFC 8914 section 4.4)
RECHECK = 30.0  # the failure recheck timer (RFC 8767 section 5), seconds
BURST = 50  # queries at once
PATIENCE = 5.0  # seconds that dig and the C library wait

_FAILED = re.compile(r'message="(\S+)\. A: .*stale data at hand')


@dataclass
class Reply:
    """One query, and what came of it.

    Attributes:
        name: that was asked for.
        sent: seconds, on the clock of `time.monotonic`.
        took: seconds until the reply.
        good: it has data.
        stale: and says that it is stale.
    """

    name: str
    sent: float
    took: float
    good: bool
    stale: bool


@dataclass
class Load:
    """Queries at a steady rate over UDP from one socket, and what became of them.

    Attributes:
        sent: how many queries.
        replies: in the order in which they came.
        pending: what has had none.
        drops: datagrams that the system has dropped for want of room, at both ends.
    """

    port: int
    names: Sequence[str]
    sent: int = 0
    replies: list[Reply] = field(default_factory=list)
    pending: dict[int, tuple[str, float]] = field(default_factory=dict)
    drops: int = 0

    async def run(self, rate: float, seconds: float) -> None:
        """Ask for each name in turn, and wait for the last reply."""
        loop = asyncio.get_running_loop()
        wires = [
            dns.message.make_query(n, "A", use_edns=0).to_wire() for n in self.names
        ]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            sock.connect(("127.0.0.1", self.port))
            self.drops -= _drops(self.port)
            loop.add_reader(sock, self._read, sock)
            began = time.monotonic()
            while self.sent < rate * seconds:
                now = time.monotonic()
                # Who has waited for a CPU asks what it owes bit by bit: the system
                # has not room for all at once.
                due = min((now - began) * rate, self.sent + BURST, rate * seconds)
                while self.sent < due:
                    ident, which = self.sent & 0xFFFF, self.sent % len(wires)
                    self.pending[ident] = self.names[which], time.monotonic()
                    sock.send(ident.to_bytes(2, "big") + wires[which][2:])
                    self.sent += 1
                await asyncio.sleep(0.002)
            until = time.monotonic() + PATIENCE
            while self.pending and time.monotonic() < until:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            loop.remove_reader(sock)
            self.drops += _drops(self.port, sock.getsockname()[1])

    def _read(self, sock: socket.socket) -> None:
        now = time.monotonic()
        while True:
            try:
                reply = dns.message.from_wire(sock.recv(4096))
            except BlockingIOError:
                return
            name, sent = self.pending.pop(reply.id)
            good = not reply.rcode() and bool(reply.answer)
            stale = STALE in {int(told.code) for told in reply.extended_errors()}
            self.replies.append(Reply(name, sent, now - sent, good, stale))

    @property
    def failed(self) -> int:
        """Queries without data for an answer."""
        return len(self.pending) + sum(not reply.good for reply in self.replies)


@dataclass
class Outage:
    """What came of an outage.

    Attributes:
        load: the queries meanwhile.
        flights: by name, when its flights have failed, on the clock of the replies.
        cpu: seconds of CPU time that the stub has taken meanwhile.
        seconds: how long it was.
    """

    load: Load
    flights: dict[str, list[float]]
    cpu: float
    seconds: float

    def most_flights(self) -> int:
        """The most of one name within any 30 s."""
        return max(
            sum(0 <= later - one < RECHECK - 1 for later in times)
            for times in self.flights.values()
            for one in times
        )

    def settled(self) -> list[Reply]:
        """Those that were asked once a first refresh of their name had failed."""
        failed = {name: min(times) for name, times in self.flights.items()}
        return [r for r in self.load.replies if r.sent > failed.get(r.name, math.inf)]


def suffer(lab: Lab, rate: float, seconds: float) -> Outage:
    """Warm a stub, stop the authority, ask for so long, and start it again."""
    options = ["--listen", "127.0.0.1:0", "--log-level", "info"]
    for name in ("unbound", "bind"):
        options += ["-u", lab.vantages[name].udp_url]
    with Served(*options, limit=LIMIT + seconds) as served:
        warm = Load(served.port, NAMES)
        asyncio.run(warm.run(rate, 1))
        assert not warm.failed
        before, since = len(served.lines), cpu(served)
        lab.authority.stop()
        try:
            load = Load(served.port, NAMES)
            asyncio.run(load.run(rate, seconds))
            flights = defaultdict(list)
            for line in served.lines[before:]:
                if found := _FAILED.search(line):
                    flights[found[1]].append(_time(line))
        finally:
            lab.settle()
        return Outage(load, flights, cpu(served) - since, seconds)


def _drops(*ports: int) -> int:
    """Datagrams that were dropped at sockets with these ports (proc_net(5))."""
    drops = 0
    for line in Path("/proc/net/udp").read_text("ascii").splitlines()[1:]:
        fields = line.split()
        if int(fields[1].rpartition(":")[2], 16) in ports:
            drops += int(fields[-1])
    return drops


def cpu(served: Served) -> float:
    stat = Path(f"/proc/{served.process.pid}/stat").read_text("ascii")
    user, system = stat.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _time(line: str) -> float:
    """When a line was logged, on the clock of `time.monotonic`."""
    text = line.removeprefix("time=").partition(" level=")[0]
    logged = datetime.strptime(text, "%Y-%m-%d %H:%M:%S,%f").astimezone()
    return logged.timestamp() - time.time() + time.monotonic()


def share(values: Sequence[float], part: float) -> float:
    """The value that this part of the values does not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]
