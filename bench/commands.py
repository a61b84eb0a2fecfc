"""How each server is started: its command, with a configuration in its directory.

They come from Debian's packages (``scripts/install-servers --peers``), answer from a
cache that holds everything, and forward the rest to the benchmark's own responder.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OURS = "resolverkit"
PLAIN = "resolverkit, plain calls"
WORKERS = "resolverkit, 2 workers"
SOAKED = "resolverkit, small cache"

_SERVE = "import runpy; runpy.run_module('resolverkit', run_name='__main__')"
_ONE_BY_ONE = f"from resolverkit.server import batch; batch.AVAILABLE = False; {_SERVE}"


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
cache-size=1500
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
