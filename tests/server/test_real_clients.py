"""Clients that people have, and Unbound's replies beside ours."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys

import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest
from asking import query
from served import LIMIT, Served

pytestmark = pytest.mark.servers
WWW, TARGET = "www.facebook.com", "star-mini.c10r.facebook.com."
FACEBOOK, FACEBOOK6 = "157.240.20.35", "2a03:2880:f100:83:face:b00c:0:25de"


def run(*command):
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def served(lab):
    with Served(
        "--listen", "127.0.0.1:0", "-u", lab.vantages["unbound"].udp_url,
        "--listen-tls", "127.0.0.1:0", "--tls-cert", lab.certificate,
        "--tls-key", lab.key, "--explain",
    ) as served:  # fmt: skip
        yield served


@pytest.fixture
def dig(served):
    def dig(*arguments):
        return run("dig", "@127.0.0.1", "-p", served.port, "+tries=1", *arguments)

    return dig


# --- dig -----------------------------------------------------------------------------


def test_dig(dig):
    told = dig(WWW)
    assert "status: NOERROR" in told
    assert re.search(r"flags: qr rd ra; QUERY: 1, ANSWER: 2,", told)
    assert re.search(rf"{re.escape(TARGET)}\s+\d+\s+IN\s+A\s+{FACEBOOK}", told)
    assert "EDE: 0 (Other)" in told
    assert "WARNING" not in told


def test_dig_over_tcp_several_at_once(dig):
    told = dig("+tcp", "+keepopen", WWW, "A", WWW, "AAAA", "n1.names.example", "A")
    assert told.count("status: NOERROR") == 3
    assert FACEBOOK6 in told


def test_dig_goes_to_tcp_for_what_is_long(dig):
    told = dig("big.names.example", "TXT")
    assert "Truncated, retrying in TCP mode" in told
    assert "ANSWER: 16" in told


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nosuch.names.example"], "status: NXDOMAIN"),
        (["only4.names.example", "AAAA"], "ANSWER: 0, AUTHORITY: 1"),
        (["+noedns", WWW], "ADDITIONAL: 0"),
        (["+edns=1", "+noednsneg", WWW], "status: BADVERS"),
        (["+ednsopt=100:01", WWW], "status: NOERROR"),
        (["+ednsflags=0x40", WWW], "status: NOERROR"),
        (["+opcode=15", "+noedns", WWW], "status: NOTIMP"),
        (["+header-only"], "status: FORMERR"),
        (["+cookie", WWW], "status: NOERROR"),
        (["+nsid", WWW], "status: NOERROR"),
        (["+subnet=192.0.2.0/24", WWW], "status: NOERROR"),
        (["+dnssec", WWW], "flags: do;"),
        (["+cdflag", WWW], "flags: qr rd ra cd;"),
        (["+zflag", WWW], "status: NOERROR"),
        ([WWW, "TYPE1000"], "status: NOERROR"),
        ([WWW, "ANY", "+notcp"], "RFC8482"),
        ([WWW, "AXFR"], "Transfer failed"),
        (["version.bind", "CH", "TXT"], "status: REFUSED"),
        (["nobody.asked.names.example", "+norecurse"], "EDE: 20 (Not Authoritative)"),
        (["localhost"], "127.0.0.1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_dig_is_told_what_the_standards_say(dig, arguments, expected):
    """The probes of RFC 8906 section 8 among them."""
    told = dig(*arguments)
    assert expected in told
    assert "timed out" not in told


# --- others --------------------------------------------------------------------------


@pytest.mark.parametrize("way", [[], ["+tcp"], ["+tcp", "+keepopen"]])
def test_kdig(served, way):
    told = run("kdig", "@127.0.0.1", "-p", served.port, *way, WWW)
    assert "status: NOERROR" in told
    assert FACEBOOK in told


def test_kdig_over_tls(served, lab):
    told = run(
        "kdig", "@127.0.0.1", "-p", served.ports[1], "+tls", "+padding",
        f"+tls-ca={lab.ca}", "+tls-hostname=localhost", WWW,
    )  # fmt: skip
    assert FACEBOOK in told
    assert "TLS session" in told
    assert "Received 468 B" in told  # RFC 8467 section 4.1


def test_drill(served):
    assert FACEBOOK in run("drill", "-p", served.port, WWW, "@127.0.0.1")
    assert FACEBOOK in run("drill", "-t", "-p", served.port, WWW, "@127.0.0.1")


def test_delv(served):
    told = run("delv", "@127.0.0.1", "-p", served.port, "-i", WWW)
    assert FACEBOOK in told


_LOOK_UP = """\
import json, socket, sys
print(json.dumps(sorted({x[4][0] for x in socket.getaddrinfo(sys.argv[1], 80)})))
"""


def test_the_c_librarys_getaddrinfo(lab, tmp_path):
    """By a resolv.conf in a mount name space."""
    if os.geteuid() != 0 or "unshare" not in run("unshare", "--version"):
        pytest.skip("needs root and unshare(1), for port 53 and a resolv.conf")
    if run("unshare", "--mount", "true"):
        pytest.skip("no mount name space can be made here")
    resolv_conf = tmp_path / "resolv.conf"
    resolv_conf.write_text("nameserver 127.0.0.77\noptions edns0 trust-ad\n")
    script = f'mount --bind {resolv_conf} /etc/resolv.conf && exec "$@"'
    upstream = lab.vantages["unbound"].udp_url
    with Served("--listen", "127.0.0.77:53", "-u", upstream):
        for name, expected in [
            (WWW, [FACEBOOK, FACEBOOK6]),
            ("only4.names.example", ["192.0.2.253"]),
        ]:
            told = run(
                "unshare", "--mount", "sh", "-c", script, "sh",
                sys.executable, "-c", _LOOK_UP, name,
            )  # fmt: skip
            assert json.loads(told) == expected


# --- beside Unbound ------------------------------------------------------------------

ASKED = [
    (WWW, "A"), (WWW, "AAAA"), (WWW, "MX"), ("facebook.com", "A"),
    ("facebook.com", "SOA"), ("facebook.com", "NS"),
    ("nosuch.facebook.com", "A"), ("n7.names.example", "AAAA"),
    ("only4.names.example", "AAAA"), ("big.names.example", "TXT"),
    ("wWw.FaceBook.com", "A"), ("a.b.c.names.example", "TYPE1000"),
]  # fmt: skip


def said(reply):
    """What matters in a reply, but for TTLs, which depend on when it was learnt."""
    sections = [
        sorted(f"{rrset.name} {rdata}" for rrset in part for rdata in rrset)
        for part in (reply.answer, reply.authority if reply.rcode() else [])
    ]
    return (
        dns.rcode.to_text(reply.rcode()),
        dns.flags.to_text(reply.flags & ~dns.flags.TC),
        reply.question[0].to_text(),
        sections,
    )


@pytest.mark.parametrize(
    "options", [{}, {"edns": False}, {"want_dnssec": True}], ids=str
)
def test_replies_are_those_of_unbound(served, lab, options):
    unbound = lab.vantages["unbound"].ports["udp"]
    for _ in range(2):
        for name, rdtype in ASKED:
            message = query(name, rdtype, **options)
            theirs, ours = (
                dns.query.udp_with_fallback(message, "127.0.0.1", LIMIT, port=port)[0]
                for port in (unbound, served.port)
            )
            assert said(ours) == said(theirs)
            least = min((r.ttl for r in ours.answer), default=0)
            assert least <= max((r.ttl for r in theirs.answer), default=0) + 1


def test_it_is_reachable_by_ipv6(lab):
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    with Served("--listen", "[::1]:0", "-u", lab.vantages["unbound"].udp_url) as served:
        told = run("dig", "@::1", "-p", served.port, "+tries=1", WWW)
        assert FACEBOOK in told
