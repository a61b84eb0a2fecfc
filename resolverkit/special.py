"""Names that never leave this machine, and names that only private upstreams may see.

Pure. A resolver that asks several operators must settle this before it asks anybody, or
internal names leak to all of them (RFC 6761, RFC 7686, RFC 8375, RFC 6303, RFC 9476).
"""

from __future__ import annotations

import enum
import struct

from resolverkit.model import Kind, Question, Reply
from resolverkit.wire import is_below, text_to_wire


class Realm(enum.Enum):
    """Who may be asked for a name."""

    PUBLIC = enum.auto()
    PRIVATE = enum.auto()  # private upstreams only
    HERE = enum.auto()  # answered here


def _zones(*names: str) -> tuple[bytes, ...]:
    return tuple(text_to_wire(name) for name in names)


_LOCALHOST = text_to_wire("localhost")
_LOOPBACK = (
    text_to_wire("1.0.0.127.in-addr.arpa"),
    text_to_wire(f"1.{'0.' * 31}ip6.arpa"),
)
_HERE = _zones("localhost", "invalid", "onion", "local", "alt", "resolver.arpa")
_PRIVATE = _zones(
    "internal", "home.arpa",  # ICANN 2024, RFC 8375
    "10.in-addr.arpa", "168.192.in-addr.arpa", "254.169.in-addr.arpa",  # RFC 6303
    *(f"{n}.172.in-addr.arpa" for n in range(16, 32)),
    *(f"{n}.100.in-addr.arpa" for n in range(64, 128)),  # RFC 7793
    "0.in-addr.arpa", "127.in-addr.arpa", "255.255.255.255.in-addr.arpa",
    "2.0.192.in-addr.arpa", "100.51.198.in-addr.arpa", "113.0.203.in-addr.arpa",
    f"{'0.' * 32}ip6.arpa", f"1.{'0.' * 31}ip6.arpa",
    "d.f.ip6.arpa", *(f"{x}.e.f.ip6.arpa" for x in "89ab"),
    "8.b.d.0.1.0.0.2.ip6.arpa",
)  # fmt: skip
LAST_LABELS = tuple({zone[-6:] for zone in _HERE + _PRIVATE})
"""How wire names end that are not public, and some that are: `realm` decides."""

_A, _SOA, _PTR, _AAAA = 1, 6, 12, 28
_IN = 1


def realm(name: bytes, *, relative: bool = False) -> Realm:
    """Who may be asked.

    Args:
        name: lower-cased, absolute wire name.
        relative: the caller wrote it without the final dot, so that a single label is a
            host of the local network and not a top-level domain.
    """
    if relative and len(name) > 1 and name[1 + name[0]] == 0:
        return Realm.HERE if name in _HERE else Realm.PRIVATE
    if name.endswith(LAST_LABELS):  # all of them, at little cost
        if name in _LOOPBACK or any(is_below(name, zone) for zone in _HERE):
            return Realm.HERE
        if any(is_below(name, zone) for zone in _PRIVATE):
            return Realm.PRIVATE
    return Realm.PUBLIC


def local_reply(question: Question) -> Reply:
    """The reply to a name that is answered here.

    localhost and below have the loopback addresses (RFC 6761 section 6.3), the loopback
    addresses have the name localhost, and nothing else exists.
    """
    name, rdtype = question.wire_name, question.rdtype
    if question.rdclass == _IN:
        if is_below(name, _LOCALHOST):
            addresses = {_A: b"\x7f\0\0\1", _AAAA: bytes(15) + b"\1"}
            if rdtype in addresses:
                return _reply(question, Kind.DATA, addresses[rdtype])
            return _reply(question, Kind.NODATA)
        if name in _LOOPBACK:
            if rdtype == _PTR:
                return _reply(question, Kind.DATA, _LOCALHOST)
            return _reply(question, Kind.NODATA)
    return _reply(question, Kind.NXDOMAIN)


TTL = 86_400
"""Seconds, for what is answered here: it does not change."""


def _reply(question: Question, kind: Kind, rdata: bytes = b"") -> Reply:
    data = kind is Kind.DATA
    rcode = 3 if kind is Kind.NXDOMAIN else 0
    header = struct.pack("!HHHHHH", 0, 0x8180 | rcode, 1, data, not data, 0)
    asked = question.wire[12 : question.end]
    if data:
        rdtype = question.rdtype
        record = (
            b"\xc0\x0c" + struct.pack("!HHIH", rdtype, _IN, TTL, len(rdata)) + rdata
        )
    else:  # an SOA, so that the denial is one (RFC 2308 section 2)
        soa = b"\0\0" + struct.pack("!IIIII", 1, 1800, 900, 604_800, TTL)
        record = (
            b"\0" + struct.pack("!HHIH", _SOA, question.rdclass, TTL, len(soa)) + soa
        )
    return Reply(
        header + asked + record, kind, rcode, TTL, question.wire_name, soa=True
    )
