"""Calls of getaddrinfo, answered by glibc and by resolverkit: run in namespaces.

    unshare -mn python glibc_lab.py

Run in a mount and a network namespace of its own, as root, it takes /etc/resolv.conf,
/etc/hosts and /etc/gai.conf for its own, serves DNS on 127.0.0.1:53, and prints as
JSON what both made of each call of the table in `calls`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import resolverkit
from resolverkit.testing import Authority, Fault, Lab

RECORDS = {
    "both.example.com.": ["300 A 192.0.2.10", "300 AAAA 2001:db8:1::10"],
    "v4.example.com.": "300 A 192.0.2.11",
    "v6.example.com.": "300 AAAA 2001:db8:1::11",
    "alias.example.com.": "300 CNAME both.example.com.",
    "alias4.example.com.": "300 CNAME v4.example.com.",
    "alias.to.none.example.com.": "300 CNAME nowhere.example.com.",
    "text.example.com.": '300 TXT "no address"',
    "far.example.com.": ["300 A 203.0.113.1", "300 AAAA 2a00::1", "300 AAAA fd12::1"],
    "scopes.example.com.": [
        "300 AAAA fe80::99", "300 AAAA 2002:c000:201::1", "300 AAAA 2001:0:1::1",
        "300 AAAA 2001:db8:1::12", "300 AAAA 2001:db8:2::12", "300 A 198.51.100.1",
    ],
    # From a source address that is deprecated, as its network's prefix is to go.
    "old.example.com.": [
        "300 AAAA 2001:db8:5::99", "300 AAAA 2001:db8:1::13", "300 A 192.0.2.13",
    ],
    "local.example.com.": ["300 A 127.0.0.9", "300 A 192.0.2.12"],
    "www.lan.example.": "300 A 192.0.2.20",
    "host.lan.example.": ["300 A 192.0.2.21", "300 AAAA 2001:db8:1::21"],
    "deep.sub.second.example.": "300 A 192.0.2.22",
    "single.": "300 A 192.0.2.23",
    "empty.lan.example.": '300 TXT "no address"',
    "empty.second.example.": "300 A 192.0.2.24",
    "xn--bcher-kva.example.com.": "300 A 192.0.2.25",
    "under_score.example.com.": "300 A 192.0.2.26",
    "inhosts4.example.com.": "300 AAAA 2001:db8:1::27",
    "broken.example.com.": "300 A 192.0.2.28",
}  # fmt: skip
HOSTS = """
127.0.0.1 localhost
::1 localhost ip6-localhost
192.0.2.30 printer.lan.example printer  # with a comment
2001:db8:1::30 printer.lan.example printer
192.0.2.31 inhosts4.example.com
192.0.2.32 twice.example.com
192.0.2.33 twice.example.com second-name
::1 only6.example.com
not-an-address nothing.example.com
"""
RESOLV_CONF = (
    "nameserver 127.0.0.1\nsearch lan.example second.example\noptions timeout:2\n"
)
GAI_CONF = "".join(  # the policy table of RFC 6724 section 2.1
    f"label {prefix} {label}\nprecedence {prefix} {precedence}\n"
    for prefix, precedence, label in (
        ("::1/128", 50, 0), ("::/0", 40, 1), ("::ffff:0:0/96", 35, 4),
        ("2002::/16", 30, 2), ("2001::/32", 5, 5), ("fc00::/7", 3, 13),
        ("::/96", 1, 3), ("fec0::/10", 1, 11), ("3ffe::/16", 1, 12),
    )
)  # fmt: skip

ANY, INET, INET6 = 0, int(socket.AF_INET), int(socket.AF_INET6)
STREAM, DGRAM, RAW = 1, 2, 3
PASSIVE, CANON, NUMHOST, NUMSERV = (
    socket.AI_PASSIVE, socket.AI_CANONNAME, socket.AI_NUMERICHOST,
    socket.AI_NUMERICSERV,
)  # fmt: skip
MAPPED, ALL, CONFIGURED = socket.AI_V4MAPPED, socket.AI_ALL, socket.AI_ADDRCONFIG

NAMES = [
    "both.example.com", "v4.example.com", "v6.example.com", "alias.example.com",
    "alias4.example.com", "alias.to.none.example.com", "text.example.com",
    "nosuch.example.com", "printer", "localhost", "inhosts4.example.com", "www",
    "host", "broken.example.com",
]  # fmt: skip
NUMBERS = [
    "127.0.0.1", "0x7f.1", "0177.0.0.1", "127.1", "2130706433", "127.0.0.256", "1.2.3",
    "08.1", "127.0.0.1 ", "0x", "4294967296", "::1", "::", "fe80::1", "fe80::1%lo",
    "fe80::1%1", "fe80::1%nosuch", "2001:db8::1%7", "::ffff:192.0.2.1", "1::2::3",
    "[::1]", "ff02::1%lo", "", "*",
]  # fmt: skip


def calls():
    """Every call: host, port, family, type, proto, flags."""
    for name, family in itertools.product(NAMES, (ANY, INET, INET6)):
        yield name, 80, family, STREAM, 0, 0
    for name in NAMES:
        yield name, "http", ANY, STREAM, 0, CANON
        yield name, None, INET, DGRAM, 0, CANON
        yield name, 80, INET6, STREAM, 0, MAPPED
    for number, family in itertools.product(NUMBERS, (ANY, INET)):
        yield number, 80, family, STREAM, 0, 0
    for number in ("127.0.0.1", "::1", "both.example.com", "printer", "fe80::1%nosuch"):
        yield number, 80, ANY, STREAM, 0, NUMHOST
        yield number, 80, INET6, STREAM, 0, MAPPED
        yield number, 80, ANY, STREAM, 0, CANON
    for name in ("both.example.com", "v4.example.com", "printer"):
        yield name, 80, INET6, STREAM, 0, MAPPED | ALL
        yield name, 80, ANY, STREAM, 0, CONFIGURED
        yield name, 80, ANY, STREAM, 0, MAPPED | CONFIGURED
        yield name, 80, ANY, STREAM, 0, PASSIVE
    for flags in (0, PASSIVE, CANON, CONFIGURED, 1 << 20):
        for family in (ANY, INET, INET6):
            yield None, 80, family, STREAM, 0, flags
    yield None, None, ANY, 0, 0, 0
    for port in (
        None, 0, 80, 65535, 65536, -1, "80", "http", "domain", "nosuch", "", "*",
        "080", "+80", "80x", b"http",
    ):  # fmt: skip
        yield "both.example.com", port, INET, 0, 0, 0
    for port in ("80", "http"):
        yield "both.example.com", port, INET, STREAM, 0, NUMSERV
        yield "127.0.0.1", port, INET, STREAM, 0, NUMSERV
    for kind, proto in (
        (0, 0), (STREAM, 0), (DGRAM, 0), (RAW, 0), (5, 0), (9, 0), (0, 6), (0, 17),
        (STREAM, 17), (RAW, 1), (0, 255),
    ):  # fmt: skip
        yield "v4.example.com", None, ANY, kind, proto, 0
        yield "v4.example.com", 53, ANY, kind, proto, 0
        yield "v4.example.com", "domain", ANY, kind, proto, 0
    for family in (1, 99):
        yield "v4.example.com", 80, family, STREAM, 0, 0
    for name in (
        "far.example.com", "scopes.example.com", "old.example.com", "local.example.com",
        "empty", "deep.sub", "single", "single.", "printer.", "twice.example.com",
        "second-name", "only6.example.com", "nothing.example.com", "PRINTER",
        "BOTH.example.com", "both.example.com.", "b\xfccher.example.com",
        "under_score.example.com", b"v4.example.com", "a" * 64, "a." * 130, "a..b", ".",
        "nosuch", "host.lan.example",
    ):  # fmt: skip
        yield name, 80, ANY, STREAM, 0, CANON
    yield "only6.example.com", 80, INET, STREAM, 0, 0
    yield "both.example.com", 1.5, ANY, STREAM, 0, 0
    yield 5, 80, ANY, STREAM, 0, 0
    yield "both.example.com", 2**70, ANY, STREAM, 0, 0


def outcome(entries):
    """The result in JSON-ready values."""
    return [[int(f), int(t), p, name, list(at)] for f, t, p, name, at in entries]


def told(error):
    """An error in JSON-ready values."""
    kind = type(error).__name__
    return [kind, error.errno, error.strerror] if kind == "gaierror" else [kind]


def by_glibc(arguments):
    try:
        return outcome(socket.getaddrinfo(*arguments))
    except Exception as error:  # noqa: BLE001
        return told(error)


async def by_us(resolver, arguments):
    host, port, family, kind, proto, flags = arguments
    try:
        return outcome(
            await resolver.getaddrinfo(
                host, port, family=family, type=kind, proto=proto, flags=flags
            )
        )
    except Exception as error:  # noqa: BLE001
        return told(error)


def prepare():
    """Make this namespace a host with its own files, addresses and routes."""
    for command in (
        "link set lo up", "addr add 192.0.2.2/24 dev lo",
        "addr add 2001:db8:1::2/64 dev lo nodad", "route add default dev lo",
        "-6 route add default dev lo",
        "addr add 2001:db8:5::2/64 dev lo nodad noprefixroute preferred_lft 0",
        "-6 route add 2001:db8:5::/64 dev lo src 2001:db8:5::2",
    ):  # fmt: skip
        subprocess.run(["ip", *command.split()], check=True)
    directory = Path(tempfile.mkdtemp())
    files = {"resolv.conf": RESOLV_CONF, "hosts": HOSTS, "gai.conf": GAI_CONF}
    for name, text in files.items():
        (directory / name).write_text(text)
        mount = ["mount", "--bind", str(directory / name), f"/etc/{name}"]
        subprocess.run(mount, check=True)


async def serve(started, ended):
    async with Lab(Authority(RECORDS)) as lab:
        (upstream,) = lab.upstreams
        await upstream.stop()
        upstream.port = 53
        await upstream.start()
        upstream.fault = Fault(rcode=2, names={"broken.example.com"})
        started.set()
        await asyncio.to_thread(ended.wait)


async def compare():
    rows = []
    async with resolverkit.Resolver() as resolver:
        for arguments in calls():
            theirs = await asyncio.to_thread(by_glibc, arguments)
            ours = await by_us(resolver, arguments)
            rows.append([repr(arguments), theirs, ours])
    return rows


def main():
    prepare()
    started, ended = threading.Event(), threading.Event()
    server = threading.Thread(target=asyncio.run, args=(serve(started, ended),))
    server.start()
    started.wait(10)
    try:
        json.dump(asyncio.run(compare()), sys.stdout)
    finally:
        ended.set()
        server.join()


if __name__ == "__main__":
    main()
