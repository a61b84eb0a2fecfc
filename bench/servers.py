"""The servers that the stub is measured beside, each on one core and a loopback port.

`commands.py` says how they are configured.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from commands import COMMANDS, WORKERS

if TYPE_CHECKING:
    from collections.abc import Iterator

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
"""The first is for servers, the last for the load and the responder."""
PATIENCE = 20.0
"""Seconds for a server to come up."""

_ROOT = Path(__file__).parent.parent
_PROBE = b"\0\1\1\0\0\1\0\0\0\0\0\0\5probe\4load\7example\0\0\1\0\1"


class Server:
    """One server that runs.

    Attributes:
        name: what it is called in tables.
        port: where it answers.
        status: with which it ended.
    """

    def __init__(self, name: str, upstreams: list[int], root: Path) -> None:
        self.name = name
        self.port = free_port()
        directory = root / name.replace(" ", "")
        directory.mkdir()
        command = COMMANDS[name](self.port, upstreams, directory)
        program = shutil.which(command[0], path=f"{os.environ['PATH']}:/usr/sbin")
        with (directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [program or command[0], *command[1:]],
                cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=os.environ | {"PYTHONPATH": str(_ROOT)},
                start_new_session=True,  # Linux shares the CPU among these
            )  # fmt: skip
        os.sched_setaffinity(self._process.pid, CORES if name == WORKERS else CORES[:1])
        self._log = directory / "log"
        self.status: int | None = None

    def wait(self) -> None:
        """Until it answers."""
        deadline = time.monotonic() + PATIENCE
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.2)
            while time.monotonic() < deadline and self._process.poll() is None:
                try:
                    sock.sendto(_PROBE, ("127.0.0.1", self.port))
                    if sock.recv(4096)[7]:
                        return
                except OSError:
                    time.sleep(0.05)
        raise SystemExit(f"{self.name} did not come up:\n{self._log.read_text()}")

    def cpu(self) -> float:
        """Seconds of CPU that all its threads and children have had."""
        return sum(map(_cpu, self._pids()))

    @contextmanager
    def ahead(self) -> Iterator[None]:
        """Let it and the load run ahead of whatever else this machine does."""
        try:
            self._schedule(os.SCHED_FIFO, 1)
            yield
        finally:
            self._schedule(os.SCHED_OTHER, 0)

    def _schedule(self, policy: int, priority: int) -> None:
        with suppress(PermissionError):
            for pid in self._pids():
                for task in Path(f"/proc/{pid}/task").iterdir():
                    os.sched_setscheduler(
                        int(task.name), policy, os.sched_param(priority)
                    )

    def dropped(self) -> int:
        """Datagrams for which its sockets had no room."""
        lines = Path("/proc/net/udp").read_text("ascii").splitlines()[1:]
        ours = [line.split() for line in lines if f":{self.port:04X} " in line]
        return sum(int(fields[-1]) for fields in ours)

    def rss(self) -> int:
        """Octets of memory of all its processes."""
        page = os.sysconf("SC_PAGESIZE")
        return sum(
            int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * page
            for pid in self._pids()
        )

    def _pids(self) -> list[int]:
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii")
        return [pid, *map(int, children.split())]

    def end(self) -> str:
        """End it; what it has written to its log."""
        self._process.terminate()
        try:
            self.status = self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self.status = self._process.wait()
        return self._log.read_text("utf-8", "replace")


@contextmanager
def running(names: list[str], upstreams: list[int]) -> Iterator[dict[str, Server]]:
    """Servers by name, ended afterwards; those that are not installed are told."""
    there = [name for name in names if installed(name)]
    if missing := sorted(set(names) - set(there)):
        names_missing = ", ".join(missing)
        print(f"  not installed: {names_missing} (scripts/install-servers --peers)")
    servers: dict[str, Server] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as root:
        try:
            for name in there:
                servers[name] = Server(name, upstreams, Path(root))
            for server in servers.values():
                server.wait()
            yield servers
        finally:
            for server in servers.values():
                server.end()


def installed(name: str) -> bool:
    """Whether its program is on this machine."""
    program = COMMANDS[name](0, [0], None)[0]
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") is not None


def free_port() -> int:
    """A port that nobody has, below those that the system deals out."""
    for port in range(20_000 + os.getpid() % 5000, 32_000):
        if port in _dealt:
            continue
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
        ):
            try:
                udp.bind(("127.0.0.1", port))
                tcp.bind(("127.0.0.1", port))
            except OSError:
                continue
        _dealt.add(port)
        return port
    raise SystemExit("no free port")


_dealt: set[int] = set()


def _cpu(pid: int) -> float:
    files = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(file.read_text("ascii").split()[0]) for file in files) / 1e9
