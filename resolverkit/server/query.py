"""What a client asks: bytes in, a checked `Query`, a ready refusal, or nothing out.

Pure. Any bytes give one of the three and never an exception. Silence is for what must
not be answered: responses (or two servers would talk for ever) and what is too short to
have a header. All else gets an answer, for silence would look like loss (RFC 8906).
"""

from __future__ import annotations

import enum
import struct
from typing import TYPE_CHECKING, NamedTuple

from resolverkit.server import signature

if TYPE_CHECKING:
    from resolverkit.model import Ede

UDP_PAYLOAD = 1232
"""Octets of the largest datagram that is sent (RFC 9715 appendix A, Flag Day 2020)."""
NO_EDNS_PAYLOAD = 512
"""Octets for clients without EDNS (RFC 1035 section 4.2.1)."""
IDLE = 30.0
"""Seconds after which an idle connection is closed, as told by RFC 7828's option."""

FORMERR, NOTIMP, REFUSED, BADVERS = 1, 4, 5, 16
_IN, _ANY_CLASS = 1, 255
ANY = 255
_OPT = 41
_META = range(128, 256)
"""Types that ask for no data (RFC 6895 section 3.1): zone transfers, TKEY, TSIG."""
_KEEPALIVE, _PADDING, _EDE = 11, 12, 15
_NOT_AUTHORITATIVE = 20

_counts = struct.Struct("!HHHH").unpack_from
_pair = struct.Struct("!HH").unpack_from
_record = struct.Struct("!HHIH").unpack_from
_opt = struct.Struct("!HHBBHH")


class Over(enum.Enum):
    """How a query came, and its reply goes.

    Attributes:
        datagram: replies have to fit, and nobody knows who asks.
        encrypted: padding makes sense (RFC 8467 section 4.1).
    """

    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"
    HTTPS = "https"

    def __init__(self, text: str) -> None:
        self.datagram: bool = text == "udp"
        self.encrypted: bool = text in {"tls", "https"}
        self.keeps_alive: bool = text in {"tcp", "tls"}  # RFC 7828 section 3.2: not UDP


class Query(NamedTuple):
    """One question of one client.

    Attributes:
        data: the message as it came.
        end: where its question section ends.
        name: the lower-cased wire name.
        rdtype: the type.
        rdclass: the class.
        edns: it has an OPT record, and so has its reply (RFC 6891 section 6.1.1).
        size: octets that the client takes in one datagram.
        do: DNSSEC records are wanted (RFC 3225).
        plain: there is no EDNS option in it, so that others will ask the same.
        padding: the reply may be padded (RFC 7830 section 4).
        keepalive: the client asks how long it may be idle (RFC 7828).
    """

    data: bytes
    end: int
    name: bytes
    rdtype: int
    rdclass: int = _IN
    edns: bool = False
    size: int = NO_EDNS_PAYLOAD
    do: bool = False
    plain: bool = True
    padding: bool = False
    keepalive: bool = False

    @property
    def rd(self) -> bool:
        """Recursion desired."""
        return bool(self.data[2] & 1)

    @property
    def cd(self) -> bool:
        """Checking disabled (RFC 4035 section 3.2.2)."""
        return bool(self.data[3] & 0x10)

    @property
    def wants_ad(self) -> bool:
        """AD is for those who ask with DO or AD (RFC 6840 sections 5.7 and 5.8)."""
        return self.do or bool(self.data[3] & 0x20)

    def limit(self, over: Over) -> int:
        """Octets that the reply may have."""
        return min(self.size, UDP_PAYLOAD) if over.datagram else 65_535


def read_query(data: bytes) -> Query | bytes | None:
    """Check a client's message.

    Returns:
        The query; or the reply that refuses it; or None where nothing is to be said.
    """
    if len(data) < 12 or data[2] & 0x80:
        return None
    if data[2] & 0x78:  # RFC 8906 section 3.1.4
        return _refusal(data, NOTIMP)
    try:
        query = _read(data)
    except (IndexError, ValueError, struct.error):
        return _refusal(data, FORMERR)
    if isinstance(query, Query):
        return _refuse(query) or query
    return query


def _read(data: bytes) -> Query | bytes:
    questions, answers, authorities, additional = _counts(data, 4)
    if questions != 1 or answers or authorities:  # RFC 9619 section 4
        raise ValueError
    end = _skip_name(data, 12)
    rdtype, rdclass = _pair(data, end)
    query = Query(data, end + 4, data[12:end].lower(), rdtype, rdclass)
    pos = query.end
    for left in range(additional, 0, -1):
        owner, pos = _owner(data, pos, query.end)
        kind, size, _, version, flags, length = _opt.unpack_from(data, pos)
        pos += 10 + length
        if pos > len(data):
            raise ValueError
        if kind == signature.TYPE:
            if left > 1 or pos != len(data):  # the last (RFC 8945 section 5.1)
                raise ValueError
            _, rdclass, ttl, _ = _record(data, pos - length - 10)
            told = signature.unknown_key(owner, rdclass, ttl, data[pos - length : pos])
            return _refusal(
                data, signature.NOTAUTH, data[12 : query.end], edns=query.edns,
                do=query.do, tsig=told,
            )  # fmt: skip
        if kind != _OPT:
            continue
        if owner != b"\0" or query.edns:  # RFC 6891 section 6.1.1: one, at the root
            raise ValueError
        if version:
            return _refusal(data, BADVERS, data[12 : query.end], edns=True)
        options = _options(data, pos - length, pos)
        query = query._replace(
            edns=True,
            size=max(size, NO_EDNS_PAYLOAD),  # RFC 6891 section 6.2.3
            do=bool(flags & 0x8000),
            plain=not options,
            padding=_PADDING in options,
            keepalive=_KEEPALIVE in options,
        )
    if pos != len(data):
        raise ValueError
    return query._replace(plain=False) if additional > query.edns else query


def _skip_name(data: bytes, pos: int) -> int:
    """The end of the question's name, which has nothing before it to point to.

    Raises:
        IndexError: the message ends before.
        ValueError: that is no name.
    """
    start = pos
    while length := data[pos]:
        if length > 63:
            raise ValueError
        pos += 1 + length
    if pos - start >= 255:
        raise ValueError
    return pos + 1


def _owner(data: bytes, pos: int, end: int) -> tuple[bytes, int]:
    """The owner of a record, and where it ends; it may point into the question.

    Args:
        data: the message.
        pos: where the owner begins.
        end: where the question section ends.
    """
    start = pos
    while 0 < (length := data[pos]) < 64:
        pos += 1 + length
    if not length:
        name = data[start : pos + 1]
        if len(name) > 255:
            raise ValueError
        return name, pos + 1
    target = (length << 8 | data[pos + 1]) - 0xC000
    label = 12
    while label < target and label < end:
        label += 1 + data[label]
    if label != target or label > end - 5:
        raise ValueError
    return data[start:pos] + data[target : end - 4], pos + 2


def _options(data: bytes, pos: int, end: int) -> frozenset[int]:
    """The codes of a query's EDNS options; what they are not known for is ignored."""
    codes = set()
    while pos < end:
        code, length = _pair(data, pos)
        codes.add(code)
        pos += 4 + length
    if pos != end:
        raise ValueError
    return frozenset(codes)


def _refuse(query: Query) -> bytes | None:
    """The reply to what is not answered here, whoever asks."""
    if query.rdtype == _OPT:
        return _refusal(
            query.data, FORMERR, query.data[12 : query.end], edns=query.edns
        )
    transfers = query.rdtype in _META and query.rdtype != ANY
    if transfers or query.rdclass != _IN:  # CHAOS version.bind is nobody's business
        return refused(query)
    return None


def refused(query: Query, ede: Ede | None = None) -> bytes:
    """REFUSED, with an extended error where the client can take one."""
    asked = query.data[12 : query.end]
    return _refusal(query.data, REFUSED, asked, edns=query.edns, do=query.do, ede=ede)


def not_recursive(query: Query) -> bytes:
    """What is said where recursion is not desired, and nothing is known.

    RFC 8914 section 4.21 names the error for a resolver that gets RD=0.
    """
    return refused(query, (_NOT_AUTHORITATIVE, "recursion is not desired"))


def _refusal(
    data: bytes,
    rcode: int,
    asked: bytes = b"",
    *,
    edns: bool = False,
    do: bool = False,
    ede: Ede | None = None,
    tsig: bytes = b"",
) -> bytes:
    """A reply without records. Opcode, RD and CD are the query's (RFC 1035, 4035)."""
    flags = bytes((0x80 | data[2] & 0x79, 0x80 | data[3] & 0x10 | rcode & 15))
    counts = struct.pack("!HHHH", bool(asked), 0, 0, edns + bool(tsig))
    tail = opt(rcode, do=do, options=ede_option(ede) if ede else b"") if edns else b""
    return data[:2] + flags + counts + asked + tail + tsig


def opt(rcode: int, *, do: bool, options: bytes) -> bytes:
    """Our OPT record (RFC 6891 section 6.1.2); DO is copied (RFC 3225 section 3)."""
    return (
        b"\0"
        + _opt.pack(_OPT, UDP_PAYLOAD, rcode >> 4, 0, do << 15, len(options))
        + options
    )


def ede_option(ede: Ede) -> bytes:
    """An extended DNS error as an EDNS option (RFC 8914 section 2)."""
    code, text = ede
    extra = text.encode("utf-8", "replace")
    return struct.pack("!HHH", _EDE, 2 + len(extra), code) + extra
