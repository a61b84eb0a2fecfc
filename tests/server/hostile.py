"""Clients that mean harm to a stub in another process, at any size.

Each attack runs in a process of its own until it has done what it was to do, while hits
are asked for. Also run at the size of the benchmarks, by bench/hostile.py.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import random
import re
import resource
import socket
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dns.message

if TYPE_CHECKING:
    from collections.abc import Callable

WWW = "www.example.com"
PATIENCE = 1.0  # seconds for a hit
HOLD = 3.0  # seconds for which connections are held once all are there
AFTER = 20  # hits at least
SPARE = 100  # descriptors for anything else

_spawn = multiprocessing.get_context("spawn")


@dataclass
class Suffered:
    """What came of an attack.

    Attributes:
        count: of what the attack consists of.
        took: seconds of each hit that was answered meanwhile.
        lost: hits that were not.
        before: resident memory of the stub before, MiB.
        peak: the most that was seen meanwhile.
        after: once the attack was over.
    """

    count: int
    took: list[float] = field(default_factory=list)
    lost: int = 0
    before: float = 0.0
    peak: float = 0.0
    after: float = 0.0


def suffer(pid: int, port: int, attack: Callable[..., None], *told: Any) -> Suffered:
    """Ask for hits while an attack goes on.

    Args:
        pid: of the stub.
        port: of the stub, for hits.
        attack: one of those below.
        told: what it is told, its count first.
    """
    suffered = Suffered(told[0], before=memory(pid))
    child = _spawn.Process(target=attack, args=told)
    child.start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(("127.0.0.1", port))
        while child.is_alive() or len(suffered.took) < AFTER:
            _hit(sock, suffered)
            suffered.peak = max(suffered.peak, memory(pid))
            time.sleep(0.005)
    child.join()
    assert child.exitcode == 0
    suffered.after = memory(pid)
    return suffered


def _hit(sock: socket.socket, suffered: Suffered) -> None:
    message = dns.message.make_query(WWW, "A")
    wire = message.to_wire()
    began = time.perf_counter()
    sock.send(wire)
    while True:
        try:
            data = sock.recv(4096)
        except TimeoutError:
            suffered.lost += 1
            return
        if data[:2] == wire[:2]:  # and not the late reply to a hit before
            break
    suffered.took.append(time.perf_counter() - began)
    assert message.is_response(dns.message.from_wire(data))
    assert data[7] >= 1  # it has an answer


def memory(pid: int) -> float:
    """Resident memory of a process, MiB."""
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024


# --- attacks -------------------------------------------------------------------------


def noise(count: int, port: int) -> None:
    """Random datagrams; a third of them are queries, but for what is asked."""
    rng = random.Random(5)
    head = dns.message.make_query(WWW, "A").to_wire()[:12]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        for i in range(count):
            data = rng.randbytes(rng.randrange(100))
            sock.send(head + data if i % 3 == 0 else data)


def idlers(count: int, port: int, first: bytes = b"") -> None:
    """Connections that say this much, and then nothing."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, count + SPARE), hard))
    with contextlib.ExitStack() as held:
        for _ in range(count):
            sock = held.enter_context(socket.create_connection(("127.0.0.1", port)))
            with contextlib.suppress(ConnectionError):
                sock.send(first)
        time.sleep(HOLD)


def dribblers(count: int, port: int) -> None:
    """Connections whose query comes octet by octet, and never ends."""
    with contextlib.ExitStack() as held:
        address = ("127.0.0.1", port)
        socks = [
            held.enter_context(socket.create_connection(address)) for _ in range(count)
        ]
        for octet in struct.pack("!H", 60) + bytes(30):
            for sock in socks:
                with contextlib.suppress(ConnectionError):
                    sock.send(bytes([octet]))
            time.sleep(HOLD / 30)


def deaf(count: int, port: int) -> None:
    """Connections that ask and ask, and never read a reply."""
    wire = dns.message.make_query(WWW, "A").to_wire()
    many = (len(wire).to_bytes(2, "big") + wire) * 1000
    with contextlib.ExitStack() as held:
        address = ("127.0.0.1", port)
        socks = [
            held.enter_context(socket.create_connection(address)) for _ in range(count)
        ]
        for sock in socks:
            sock.setblocking(False)
        until = time.monotonic() + HOLD
        while time.monotonic() < until:
            for sock in socks:
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    sock.send(many)
            time.sleep(0.01)


def forgers(count: int, port: int) -> None:
    """Queries and replies whose origin is the stub itself, or port 53 of another."""
    query = dns.message.make_query(WWW, "A").to_wire()
    reply = query[:2] + b"\x81\x80" + query[4:]
    origins = [("127.0.0.1", port), ("127.0.0.1", 53), ("127.0.0.2", 53)]
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        for i in range(count):
            host, from_port = origins[i % 3]
            payload = (query, reply)[i % 2]
            datagram = forged(host, from_port, "127.0.0.1", port, payload)
            sock.sendto(datagram, ("127.0.0.1", 0))


def forged(host: str, port: int, to: str, to_port: int, payload: bytes) -> bytes:
    """An IPv4 datagram from any origin; the system fills in the header's checksum."""
    size = 8 + len(payload)
    udp = struct.pack("!HHHH", port, to_port, size, 0)  # 0: without a checksum
    ip = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + size, 0, 0, 64, socket.IPPROTO_UDP, 0,
        socket.inet_aton(host), socket.inet_aton(to),
    )  # fmt: skip
    return ip + udp + payload
