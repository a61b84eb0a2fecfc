"""Real Redis servers: two that are shared, and as many of a test's own as it wants."""

from __future__ import annotations

import itertools
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from processes import Daemon

SERVERS = Path(__file__).parent.parent / "servers"
SLOTS = 16_384
PATIENCE = 20.0  # seconds until a cluster has come to an agreement
_NUMBERS = itertools.count()


class RedisServer:
    """A `Daemon` with a port, and a client of redis-py's to look into it."""

    def __init__(self, daemon: Daemon, port: int, bus: int) -> None:
        self.daemon = daemon
        self.port = port
        self.bus = bus

    def url(self, more: str = "") -> str:
        return f"redis://127.0.0.1:{self.port}{more}"

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
        from processes import Daemon, free_port

        port, bus = free_port(self._taken), free_port(self._taken)
        directory = self.root / str(port)
        directory.mkdir()
        ports = ["--port", 0, "--tls-port", port] if tls else ["--port", port]
        command = [self.program, "--bind", "127.0.0.1", *ports, "--save", ""]
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
    with socket.create_connection(("127.0.0.1", port), timeout=0.5) as sock:
        if not tls:
            sock.sendall(b"PING\r\n")
            assert sock.recv(1)


@pytest.fixture(scope="session")
def program(require: Callable[[Iterable[str]], None]) -> str:
    """Where redis-server is; skip (in CI: fail) where it is missing."""
    if str(SERVERS) not in sys.path:
        sys.path.insert(0, str(SERVERS))
    from processes import find_program

    found = find_program("redis-server")
    require([] if found else ["redis-server"])
    assert found is not None
    return found


@pytest.fixture
def redis_server(program: str, tmp_path: Path) -> Iterator[Park]:
    """A function that starts a server of the test's own."""
    park = Park(program, tmp_path)
    yield park
    park.end()


@pytest.fixture(scope="session")
def shared(
    program: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, RedisServer]]:
    """A server, and a cluster of one node, for tests that do them no harm."""
    park = Park(program, tmp_path_factory.mktemp("redis"))
    alone, node = park(), park("--cluster-enabled", "yes")
    node.own()
    yield {"server": alone, "cluster": node}
    park.end()


@pytest.fixture(params=["server", "cluster"])
def anywhere(request: pytest.FixtureRequest, shared: dict[str, RedisServer]) -> Any:
    """A shared server, and the URL of a place in it that nobody has used."""
    server = shared[request.param]
    prefix = f"?prefix=[{next(_NUMBERS)}]*:"
    server.place = server.url(prefix + "&cluster=1" * (request.param == "cluster"))
    return server
