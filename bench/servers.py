"""The servers that the stub is measured beside, each on one core and a loopback port.

They come from Debian's packages (``scripts/install-servers --peers``), answer from a
cache that holds everything, and forward the rest to the benchmark's own responder.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
"""The first is for servers, the last for the load and the responder."""
PATIENCE = 20.0
"""Seconds for a server to come up."""

OURS = "resolverkit"
PLAIN = "resolverkit, plain calls"
WORKERS = "resolverkit, 2 workers"
SOAKED = "resolverkit, small cache"

_ROOT = Path(__file__).parent.parent
_SERVE = "import runpy; runpy.run_module('resolverkit', run_name='__main__')"
_ONE_BY_ONE = f"from resolverkit.server import batch; batch.AVAILABLE = False; {_SERVE}"
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


# --- commands and configurations -----------------------------------------------------


def _write(directory: Path | None, text: str) -> str:
    """The text in a file; its path."""
    if directory is None:
        return ""
    path = directory / "conf"
    path.write_text(text)
    return str(path)


def _ours(code: str, *options: str, more: str = "") -> Callable[..., list[str]]:
    def command(port: int, upstreams: list[int], directory: Path | None) -> list[str]:
        where = ["--listen", f"127.0.0.1:{port}"]
        for upstream in upstreams:
            where += ["-u", f"127.0.0.1:{upstream}"]
        where += ["--config", _write(directory, more)] if more else []
        return [sys.executable, "-W", "always", "-c", code, "serve", *where, *options]

    return command


def _unbound(port: int, upstreams: list[int], directory: Path | None) -> list[str]:
    conf = f"""
server:
  interface: 127.0.0.1@{port}
  num-threads: 1
  username: ""
  chroot: ""
  directory: "{directory}"
  pidfile: ""
  use-syslog: no
  do-not-query-localhost: no
  module-config: "iterator"
remote-control:
  control-enable: no
forward-zone:
  name: "."
  forward-addr: 127.0.0.1@{upstreams[0]}
"""
    return ["unbound", "-d", "-p", "-c", _write(directory, conf)]


def _dnsmasq(port: int, upstreams: list[int], directory: Path | None) -> list[str]:
    conf = f"""
port={port}
listen-address=127.0.0.1
bind-interfaces
no-resolv
no-hosts
user=root
pid-file=
server=127.0.0.1#{upstreams[0]}
cache-size=10000
dns-forward-max=1000
"""
    return ["dnsmasq", "-k", "-C", _write(directory, conf)]


def _bind(port: int, upstreams: list[int], directory: Path | None) -> list[str]:
    conf = f"""
options {{
  directory "{directory}";
  pid-file none;
  listen-on port {port} {{ 127.0.0.1; }};
  listen-on-v6 {{ none; }};
  forward only;
  forwarders {{ 127.0.0.1 port {upstreams[0]}; }};
  dnssec-validation no;
  empty-zones-enable no;
}};
controls {{ }};
"""
    return ["named", "-f", "-n", "1", "-c", _write(directory, conf)]


def _knot(port: int, upstreams: list[int], directory: Path | None) -> list[str]:
    conf = f"""
net.listen('127.0.0.1', {port}, {{ kind = 'dns' }})
trust_anchors.remove('.')
cache.size = 100 * MB
policy.add(policy.all(policy.FORWARD('127.0.0.1@{upstreams[0]}')))
"""
    return ["kresd", "-n", "-c", _write(directory, conf), str(directory)]


def _smartdns(port: int, upstreams: list[int], directory: Path | None) -> list[str]:
    conf = f"""
bind 127.0.0.1:{port}
server 127.0.0.1:{upstreams[0]}
cache-size 16384
speed-check-mode none
dualstack-ip-selection no
log-level error
log-file {directory}/smartdns.log
audit-enable no
"""
    command = ["smartdns", "-f", "-c", _write(directory, conf)]
    return [*command, "-p", str(directory and directory / "pid")]


def _dnsdist(port: int, upstreams: list[int], directory: Path | None) -> list[str]:
    conf = f"""
setLocal('127.0.0.1:{port}')
newServer({{address='127.0.0.1:{upstreams[0]}', healthCheckMode='up'}})
getPool(''):setCache(newPacketCache(100000))
setSecurityPollSuffix('')
"""
    return ["dnsdist", "--supervised", "-C", _write(directory, conf)]


def _recursor(port: int, upstreams: list[int], directory: Path | None) -> list[str]:
    options = {
        "local-address": "127.0.0.1",
        "local-port": port,
        "forward-zones-recurse": f".=127.0.0.1:{upstreams[0]}",
        "dnssec": "off",
        "threads": 1,
        "socket-dir": directory,
        "config-dir": directory,
        "daemon": "no",
        "quiet": "yes",
        "disable-syslog": "yes",
        "security-poll-suffix": "",
        "hint-file": "no",
    }
    return ["pdns_recursor", *(f"--{key}={value}" for key, value in options.items())]


COMMANDS: dict[str, Callable[..., list[str]]] = {
    OURS: _ours(_SERVE),
    PLAIN: _ours(_ONE_BY_ONE),
    WORKERS: _ours(_SERVE, "--workers", "2"),
    SOAKED: _ours(_SERVE, "--log-level", "error", more="cache_size = 4_000_000"),
    "Unbound": _unbound,
    "dnsmasq": _dnsmasq,
    "BIND": _bind,
    "Knot Resolver": _knot,
    "smartdns": _smartdns,
    "dnsdist": _dnsdist,
    "PowerDNS Recursor": _recursor,
}
"""Each takes its port, those of its upstreams and a directory."""
