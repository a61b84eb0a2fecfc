"""How each real server of the lab is configured.

All of them listen on loopback only, run as whoever runs the tests, take no
instructions over a control channel and send every query of theirs to the lab's
authority: no root hints, no priming, no trust anchors, no security polls. None of them
serves stale data, and none raises a TTL, so that what the tests see is the library's.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import dns.message
import dns.query
import dns.rcode
from processes import LOOPBACK, Authority, Vantage, find_program

if TYPE_CHECKING:
    from lab import Lab

# Programs the lab needs, and the Debian package that `make servers` installs for each.
PACKAGES = {
    "nsd": "nsd",
    "unbound": "unbound",
    "kresd": "knot-resolver",
    "named": "bind9",
    "pdns_recursor": "pdns-recursor",
    "dnsdist": "dnsdist",
}

PROBE_NAME = "probe.names.example."
NAMES = tuple(f"n{i}.names.example." for i in range(50))  # 192.0.2.0 to 192.0.2.49
ZONES = {
    # The records of 2021-10-04 with TTLs cut from a minute to seconds.
    "facebook.com": """\
$ORIGIN facebook.com.
$TTL 5
@    IN SOA a.ns dns 1 14400 1800 604800 3
@       NS  a.ns
a.ns    A   127.0.0.1
@    3  A   157.240.20.35
@    3  AAAA 2a03:2880:f100:83:face:b00c:0:25de
www  5  CNAME star-mini.c10r
star-mini.c10r 2 A    157.240.20.35
star-mini.c10r 2 AAAA 2a03:2880:f100:83:face:b00c:0:25de
""",
    # Where the servers are that programs connect to.
    "services.example": """\
$ORIGIN services.example.
$TTL 2
@    IN SOA ns admin 1 14400 1800 604800 1
@       NS  ns
ns      A   127.0.0.1
web     A   127.0.0.1
db      A   127.0.0.1
cache   A   127.0.0.1
""",
    "names.example": """\
$ORIGIN names.example.
$TTL 3
@    IN SOA ns admin 1 14400 1800 604800 3
@       NS  ns
ns      A   127.0.0.1
probe 0 A   192.0.2.255
slow 300 A  192.0.2.254
only4   A   192.0.2.253
big     TXT {big}
""".format(big="\nbig     TXT ".join(f'"{i:02d}{"x" * 198}"' for i in range(16)))
    + "".join(
        f"n{i} {2 + i % 4} A 192.0.2.{i}\nn{i} {2 + i % 4} AAAA 2001:db8::{i:x}\n"
        for i in range(50)
    ),
    # What a program learns: MANY, which is stale soon, FEW, which is not, and whatever
    # is below COLD, which nobody has asked for before.
    "learnt.example": """\
$ORIGIN learnt.example.
$TTL 3
@    IN SOA ns admin 1 14400 1800 604800 3
@       NS  ns
ns      A   127.0.0.1
*.cold 2 A  192.0.2.252
"""
    + "".join(f"m{i} 2 A 10.0.{i >> 8}.{i & 255}\n" for i in range(1000))
    + "".join(f"f{i} 600 A 10.1.0.{i}\n" for i in range(20)),
}
MANY = {f"m{i}.learnt.example.": f"10.0.{i >> 8}.{i & 255}" for i in range(1000)}
MANY_TTL = 2  # seconds
FEW = {f"f{i}.learnt.example.": f"10.1.0.{i}" for i in range(20)}
COLD, COLD_ADDRESS = "cold.learnt.example.", "192.0.2.252"


def missing_programs() -> list[str]:
    return [p for p in PACKAGES if find_program(p) is None]


def _path(program: str) -> str:
    found = find_program(program)
    assert found is not None, f"{program} is not installed"
    return found


def ask(name: str, port: int) -> dns.message.Message:
    """One question over UDP, with a short patience; what a readiness probe needs."""
    query = dns.message.make_query(name, "A")
    return dns.query.udp(query, LOOPBACK, timeout=0.5, port=port)


def probe(port: int) -> None:
    """Raise unless the server at this port answers with the probe's address."""
    reply = ask(PROBE_NAME, port)
    assert reply.rcode() == dns.rcode.NOERROR, dns.rcode.to_text(reply.rcode())
    assert reply.answer


def nsd(lab: Lab) -> Authority:
    """NSD, which holds the zones."""
    directory, port = lab.directory("nsd"), lab.port()
    zones = ""
    for name, text in ZONES.items():
        (directory / f"{name}.zone").write_text(text)
        zones += f'zone:\n  name: "{name}"\n  zonefile: "{name}.zone"\n'
    config = directory / "nsd.conf"
    config.write_text(f"""\
server:
  ip-address: {LOOPBACK}@{port}
  server-count: 1
  username: ""
  chroot: ""
  zonesdir: "{directory}"
  zonelistfile: "{directory}/zone.list"
  database: ""
  xfrdfile: "{directory}/xfrd.state"
  xfrdir: "{directory}"
  pidfile: ""
  hide-version: yes
  rrl-ratelimit: 0
remote-control:
  control-enable: no
{zones}""")
    command = [_path("nsd"), "-d", "-c", str(config)]
    return Authority(command, directory, partial(probe, port), port=port)


def unbound(lab: Lab) -> Vantage:
    """Unbound: Do53, DoT, DoH over h2 only."""
    directory = lab.directory("unbound")
    ports = lab.ports("udp", "tls", "https")
    config = directory / "unbound.conf"
    stubs = "".join(
        f'stub-zone:\n  name: "{zone}"\n'
        f"  stub-addr: {LOOPBACK}@{lab.authority.port}\n  stub-prime: no\n"
        for zone in (*ZONES, ".")
    )
    config.write_text(f"""\
server:
  directory: "{directory}"
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  num-threads: 1
  interface: {LOOPBACK}@{ports["udp"]}
  interface: {LOOPBACK}@{ports["tls"]}
  interface: {LOOPBACK}@{ports["https"]}
  tls-port: {ports["tls"]}
  https-port: {ports["https"]}
  tls-service-pem: "{lab.certificate}"
  tls-service-key: "{lab.key}"
  do-ip6: no
  access-control: 127.0.0.0/8 allow
  do-not-query-localhost: no
  outgoing-port-avoid: 0-32767
  module-config: "iterator"
  serve-expired: no
  prefetch: no
remote-control:
  control-enable: no
{stubs}""")
    command = [_path("unbound"), "-d", "-c", str(config)]
    return lab.vantage("unbound", command, directory, ports)


def knot(lab: Lab) -> Vantage:
    """Knot Resolver: Do53, DoT, DoH over h2 only.

    FORWARD and not STUB, which keeps nothing in the cache.
    """
    directory = lab.directory("knot")
    ports = lab.ports("udp", "tls", "https")
    config = directory / "kresd.conf"
    config.write_text(f"""\
modules.unload('ta_update')
modules.unload('ta_signal_query')
modules.unload('priming')
modules.unload('detect_time_skew')
trust_anchors.remove('.')
net.ipv6 = false
net.listen('{LOOPBACK}', {ports["udp"]}, {{ kind = 'dns' }})
net.listen('{LOOPBACK}', {ports["tls"]}, {{ kind = 'tls' }})
net.listen('{LOOPBACK}', {ports["https"]}, {{ kind = 'doh2' }})
net.tls('{lab.certificate}', '{lab.key}')
cache.size = 20 * MB
cache.min_ttl(0)
policy.add(policy.all(policy.FORWARD('{LOOPBACK}@{lab.authority.port}')))
""")
    command = [_path("kresd"), "-n", "-c", str(config), str(directory)]
    return lab.vantage("knot", command, directory, ports)


def bind(lab: Lab) -> Vantage:
    """BIND: Do53, DoT, DoH over h2 only."""
    directory = lab.directory("bind")
    ports = lab.ports("udp", "tls", "https")
    config = directory / "named.conf"
    forwarders = f"{{ {LOOPBACK} port {lab.authority.port}; }}"
    zones = "".join(
        f'zone "{zone}" {{ type forward; forward only; forwarders {forwarders}; }};\n'
        for zone in ZONES
    )
    config.write_text(f"""\
tls lab {{ cert-file "{lab.certificate}"; key-file "{lab.key}"; }};
http lab {{ endpoints {{ "/dns-query"; }}; }};
controls {{ }};
options {{
  directory "{directory}";
  pid-file none;
  session-keyfile none;
  lock-file none;
  listen-on port {ports["udp"]} {{ {LOOPBACK}; }};
  listen-on port {ports["tls"]} tls lab {{ {LOOPBACK}; }};
  listen-on port {ports["https"]} tls lab http lab {{ {LOOPBACK}; }};
  listen-on-v6 {{ none; }};
  allow-query {{ 127.0.0.0/8; }};
  recursion yes;
  forward only;
  forwarders {forwarders};
  dnssec-validation no;
  max-cache-size 32M;
  empty-zones-enable no;
  stale-answer-enable no;
  stale-cache-enable no;
}};
{zones}""")
    command = [_path("named"), "-g", "-n", "1", "-c", str(config)]
    return lab.vantage("bind", command, directory, ports)


def recursor(lab: Lab) -> Vantage:
    """PowerDNS Recursor: Do53."""
    directory, ports = lab.directory("recursor"), lab.ports("udp")
    forwards = ",".join(f"{z}={LOOPBACK}:{lab.authority.port}" for z in (*ZONES, "."))
    (directory / "recursor.conf").write_text(f"""\
daemon=no
disable-syslog=yes
write-pid=no
socket-dir={directory}
local-address={LOOPBACK}
local-port={ports["udp"]}
udp-source-port-min=32768
allow-from=127.0.0.0/8
dont-query=
forward-zones={forwards}
hint-file=no
dnssec=off
security-poll-suffix=
threads=1
quiet=yes
""")
    command = [_path("pdns_recursor"), f"--config-dir={directory}"]
    return lab.vantage("recursor", command, directory, ports)


def dnsdist(lab: Lab) -> Vantage:
    """dnsdist in front of the Recursor: Do53, DoT, DoH over h2 and HTTP/1.1."""
    directory = lab.directory("dnsdist")
    ports = lab.ports("udp", "tls", "https")
    backend = lab.vantages["recursor"].ports["udp"]
    config = directory / "dnsdist.conf"
    pair = f"'{lab.certificate}', '{lab.key}'"
    config.write_text(f"""\
setSecurityPollSuffix('')
setACL({{'127.0.0.0/8'}})
setLocal('{LOOPBACK}:{ports["udp"]}')
addTLSLocal('{LOOPBACK}:{ports["tls"]}', {pair})
addDOHLocal('{LOOPBACK}:{ports["https"]}', {pair}, '/dns-query')
newServer({{address='{LOOPBACK}:{backend}'}}):setUp()
""")
    command = [_path("dnsdist"), "--supervised", "--disable-syslog", "-C", str(config)]
    return lab.vantage("dnsdist", command, directory, ports)


def http1(lab: Lab) -> Vantage:
    """A proxy of the lab's own in front of Unbound: DoH over HTTP/1.1 only."""
    directory, ports = lab.directory("http1"), lab.ports("https")
    backend = lab.vantages["unbound"].ports["udp"]
    script = Path(__file__).with_name("http1.py")
    command = [sys.executable, str(script), str(ports["https"])]
    command += [str(lab.certificate), str(lab.key), str(backend)]
    return lab.vantage("http1", command, directory, ports)


# In the order in which they are made: the last two stand in front of earlier ones.
VANTAGES = (unbound, knot, bind, recursor, dnsdist, http1)
