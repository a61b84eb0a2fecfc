"""Redis servers for tests: as many as one wants, each on a port of its own.

The tests get them from the fixture `redis_server` in tests/conftest.py.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

from processes import LOOPBACK, Daemon, free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SLOTS = 16_384
PATIENCE = 20.0  # seconds until a cluster has come to an agreement


class RedisServer:
    """A `Daemon` with a port, and a client of redis-py's to look into it."""

    def __init__(self, daemon: Daemon, port: int, bus: int) -> None:
        self.daemon = daemon
        self.port = port
        self.bus = bus

    def url(self, more: str = "") -> str:
        return f"redis://{LOOPBACK}:{self.port}{more}"

    def run(self, *command: Any, **options: Any) -> Any:
        """What the server replies to one command."""
        import redis

        with redis.Redis(port=self.port, protocol=2, **options) as client:
            return client.execute_command(*command)

    def own(self) -> None:
        """Take all slots of a cluster, and wait until it is one."""
        self.run("CLUSTER ADDSLOTSRANGE", 0, SLOTS - 1)
        self.wait(lambda: self.run("CLUSTER INFO")["cluster_state"] == "ok")

    @staticmethod
    def wait(until: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not until():
            assert time.monotonic() < deadline
            time.sleep(0.02)


class Park:
    """The servers of one scope."""

    def __init__(self, program: str, root: Path) -> None:
        self.program = program
        self.root = root
        self.daemons: list[Daemon] = []
        self._taken: set[int] = set()

    def __call__(self, *arguments: object, tls: bool = False) -> RedisServer:
        """A server that runs, with these arguments besides."""
        port, bus = free_port(self._taken), free_port(self._taken)
        directory = self.root / str(port)
        directory.mkdir()
        ports = ["--port", 0, "--tls-port", port] if tls else ["--port", port]
        command = [self.program, "--bind", LOOPBACK, *ports, "--save", ""]
        command += ["--cluster-port", bus, "--dir", directory, *arguments]
        words = [str(part) for part in command]
        daemon = Daemon("redis", words, directory, lambda: probe(port, tls=tls))
        self.daemons.append(daemon)
        daemon.start()
        return RedisServer(daemon, port, bus)

    def end(self) -> None:
        for daemon in self.daemons:
            daemon.end()


def probe(port: int, *, tls: bool) -> None:
    """Raise until it answers; what it says may be that it wants a password."""
    with socket.create_connection((LOOPBACK, port), timeout=0.5) as sock:
        if not tls:
            sock.sendall(b"PING\r\n")
            assert sock.recv(1)
