"""Real servers as child processes: started, stopped in mid-air, killed, swept up.

A `Daemon` runs in the foreground as a child of the test run, with its own
configuration in its own directory, and in a process group of its own: some of them
fork (nsd does), and a signal has to reach all of it. Its output goes to `log`, which is
shown when it does not come up. Ports are taken from below the range that the system
gives to outgoing sockets, so that no recursor's query can sit on one.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

if TYPE_CHECKING:
    from collections.abc import Callable

LOOPBACK = "127.0.0.1"
PORTS = range(10_000, 32_000)
START_TIMEOUT = 20.0  # seconds; half a second is usual
TERM_TIMEOUT = 5.0  # seconds between SIGTERM and SIGKILL
LOG_TAIL = 4000  # characters of the log that an error shows

# PR_SET_PDEATHSIG goes by the thread that forked: one that lasts as long as the run, so
# that a test may restart a server from a worker thread of its event loop.
NURSERY = ThreadPoolExecutor(1, "nursery")


class StartError(Exception):
    """A server did not come up; says why and shows its log."""


def find_program(name: str) -> str | None:
    """Where a program is, in the directories of root's programs too."""
    path = os.environ.get("PATH", os.defpath)
    return shutil.which(name, path=f"{path}:/usr/sbin:/sbin:/usr/local/sbin")


def free_port(taken: set[int]) -> int:
    """A port that nobody has for UDP or TCP; it is added to `taken`."""
    for _ in range(1000):
        port = random.choice(PORTS)
        if port not in taken and _can_bind(port):
            taken.add(port)
            return port
    msg = f"no free port in {PORTS}"
    raise StartError(msg)


def _can_bind(port: int) -> bool:
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as sock:
            try:
                sock.bind((LOOPBACK, port))
            except OSError:
                return False
    return True


class Daemon:
    """One server of the lab.

    Args:
        name: what it is called in messages and in the lab.
        command: the program and its arguments.
        directory: its own; it is the working directory and holds the log.
        probe: asks it something real; raises until there is an answer.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        directory: Path,
        probe: Callable[[], object],
    ) -> None:
        self.name = name
        self.command = command
        self.directory = directory
        self.log = directory / "log"
        self.disturbed = False  # stopped, killed or restarted since `settle()`
        self._probe = probe
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        state = f"pid {self.pid}" if self.running else "not running"
        return f"<{type(self).__name__} {self.name}, {state}>"

    @property
    def pid(self) -> int:
        """Of the process that was started last; also its process group."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it lives; one that is stopped by `stop()` does."""
        return self._process is not None and self._process.poll() is None

    def spawn(self) -> None:
        """Start the process and do not wait until it answers."""
        assert not self.running, f"{self.name} runs already"
        with self.log.open("ab") as log:
            command = [*_die_with_parent(), *self.command]
            start = NURSERY.submit(
                lambda: subprocess.Popen(
                    command,
                    cwd=self.directory,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    process_group=0,
                )
            )
            self._process = start.result()

    def wait_until_ready(self) -> None:
        """Ask until it answers; raise `StartError` when it ends or takes too long."""
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            if not self.running:
                raise StartError(self._story("ended at once"))
            try:
                self._probe()
            except Exception as error:
                if time.monotonic() > deadline:
                    raise StartError(
                        self._story(f"does not answer: {error!r}")
                    ) from error
                time.sleep(0.05)
            else:
                return

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.spawn()
        self.wait_until_ready()

    def stop(self) -> None:
        """SIGSTOP: it keeps its sockets and says nothing any more."""
        self.disturbed = True
        self._signal(signal.SIGSTOP)
        self._wait_for("T")

    def cont(self) -> None:
        """SIGCONT: it goes on, with all that has piled up in its sockets."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL: its ports are closed from now on."""
        self.disturbed = True
        self._kill_group()
        self._reap()

    def restart(self) -> None:
        """End it, if it runs, and start it afresh on the same ports."""
        self.disturbed = True
        self.end()
        self.start()

    def end(self) -> None:
        """SIGTERM, and SIGKILL when that is not heard; idempotent."""
        if self.running:
            self._signal(signal.SIGCONT)
            os.kill(self.pid, signal.SIGTERM)  # it ends its own children
            with suppress(subprocess.TimeoutExpired):
                self._wait(TERM_TIMEOUT)
        self._kill_group()
        self._reap()

    def _kill_group(self) -> None:
        """SIGKILL for whatever the process has left behind in its group."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._wait_for("")

    def _signal(self, number: signal.Signals) -> None:
        assert self.running, f"{self.name} does not run"
        os.killpg(self.pid, number)

    def _wait_for(self, state: str) -> None:
        """Wait until all threads of the group are in this state (proc_pid_stat(5)).

        A signal is one thread's to take; the others go on until that one gets a CPU.
        """
        deadline = time.monotonic() + TERM_TIMEOUT
        while states := threads_of(self.pid) - set(state):
            assert time.monotonic() < deadline, self._story(f"is still {states}")
            time.sleep(0.001)

    def _wait(self, timeout: float) -> None:
        assert self._process is not None
        self._process.wait(timeout)

    def _reap(self) -> None:
        if self._process is not None:
            self._wait(TERM_TIMEOUT)

    def _story(self, what: str) -> str:
        log = self.log.read_text(errors="replace")[-LOG_TAIL:]
        return f"{self.name} {what}\ncommand: {self.command}\nlog:\n{log}"


def threads_of(group: int) -> set[str]:
    """The states of all threads of a process group, but for those that have ended."""
    threads: list[Path] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            if int(_fields(stat)[2]) == group:
                threads += stat.parent.glob("task/*/stat")
    states = set()
    for stat in threads:
        with suppress(OSError):
            states.add(_fields(stat)[0])
    return states - set("ZX")


def _fields(stat: Path) -> list[str]:
    """What follows the name: the state, the parent, the process group."""
    return stat.read_text(errors="replace").rpartition(")")[2].split()


def _die_with_parent() -> list[str]:
    """A prefix by which a killed test run takes its servers with it."""
    setpriv = find_program("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []


class Vantage(Daemon):
    """A server that answers questions over one or more transports.

    `ports` maps "udp" (which is TCP as well), "tls" and "https" to port numbers; the
    URLs are in resolverkit's grammar.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        directory: Path,
        probe: Callable[[], object],
        *,
        ports: dict[str, int],
        ca: Path,
    ) -> None:
        super().__init__(name, command, directory, probe)
        self.ports = ports
        self.ca = ca

    def url(self, transport: str, **parameters: object) -> str:
        """The URL over udp, tcp, tls or https, with these parameters besides its own.

        Each vantage is an operator of its own, though all are at one address.
        """
        port = self._port(transport)
        given: dict[str, object] = {"operator": self.name}
        if transport in {"tls", "https"}:
            given["ca"] = self.ca
        where = f"{transport}://{LOOPBACK}:{port}"
        if transport == "https":
            where = f"https://localhost:{port}/dns-query"
            given["address"] = LOOPBACK
        return f"{where}?{urlencode(given | parameters, safe='/')}"

    @property
    def udp_url(self) -> str:
        return self.url("udp")

    @property
    def tcp_url(self) -> str:
        return self.url("tcp")

    @property
    def tls_url(self) -> str:
        return self.url("tls")

    @property
    def https_url(self) -> str:
        return self.url("https")

    @property
    def urls(self) -> dict[str, str]:
        """All that it speaks: udp, tcp, tls, https to URL."""
        spoken = ["tcp", *self.ports] if "udp" in self.ports else self.ports
        return {transport: self.url(transport) for transport in spoken}

    def _port(self, transport: str) -> int:
        kind = "udp" if transport == "tcp" else transport
        if kind not in self.ports:
            msg = f"{self.name} speaks {', '.join(self.ports)} and not {transport}"
            raise LookupError(msg)
        return self.ports[kind]


class Authority(Daemon):
    """The name server that holds the zones of the lab."""

    def __init__(
        self,
        command: list[str],
        directory: Path,
        probe: Callable[[], object],
        *,
        port: int,
    ) -> None:
        super().__init__("nsd", command, directory, probe)
        self.port = port

    @property
    def udp_url(self) -> str:
        return f"udp://{LOOPBACK}:{self.port}"
