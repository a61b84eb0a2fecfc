"""What a client is told: the stored message, made its own.

Pure. The records of an upstream's message are sent as they came, for names in them may
point back to others: header, question and OPT are new, and TTLs are set in place. What
is written here stands before the records and behind them, so no pointer is disturbed.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from resolverkit.server.query import IDLE, ede_option, opt
from resolverkit.wire import MAX_TTL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolverkit.model import Attempt, Ede, Reply
    from resolverkit.server.query import Over, Query

SERVFAIL = 2
HINFO_TTL = 3600
"""Seconds for the answer to ANY (RFC 8482 section 4.2 leaves the value to us)."""
PADDING_BLOCK = 468
"""Replies on encrypted transports are padded to this (RFC 8467 section 4.1)."""
MAX_TEXT = 200
"""Octets of an EXTRA-TEXT; the whole of a reply has to fit into a datagram."""

_OPT, _HINFO, _IN = 41, 13, 1
_KEEPALIVE, _PADDING = 11, 12

_counts = struct.Struct("!HHH").unpack_from
_record = struct.Struct("!HHIH").unpack_from
_header = struct.Struct("!HBBHHHH").pack
_ttl = struct.Struct("!I")


class Records(NamedTuple):
    """The records of a message, and what has to be known to change or cut them.

    Attributes:
        data: the three sections, without OPT.
        ttls: where their TTLs stand.
        counts: how many each section has.
        ends: where the answer section and the authority section end.
    """

    data: bytes
    ttls: tuple[int, ...]
    counts: tuple[int, int, int]
    ends: tuple[int, int]


NO_RECORDS = Records(b"", (), (0, 0, 0), (0, 0))


def records_of(wire: bytes, start: int) -> Records:
    """The records of a message that passed the checks.

    What follows an OPT record is left out with it, for its names may point anywhere.

    Args:
        wire: the message.
        start: where its question section ends.
    """
    answers, authorities, additional = _counts(wire, 6)
    pos, kept = start, 0
    ttls, ends = [], [start, start]
    for i in range(answers + authorities + additional):
        first = pos
        while (length := wire[pos]) and length < 192:
            pos += 1 + length
        pos += 2 if length else 1
        rdtype, _, _, size = _record(wire, pos)
        if rdtype == _OPT:
            pos = first
            break
        ttls.append(pos + 4 - start)
        pos += 10 + size
        kept += 1
        if i < answers:
            ends = [pos, pos]
        elif i < answers + authorities:
            ends[1] = pos
    counts = (answers, authorities, kept - answers - authorities)
    return Records(
        wire[start:pos], tuple(ttls), counts, (ends[0] - start, ends[1] - start)
    )


def full_ttls(records: Records, reply: Reply) -> list[int]:
    """The TTLs that the records have had when they came.

    Data that was old then, by HTTP's word (RFC 8484 section 5.1), has had as much less;
    the SOA of a denial may not outlive it (RFC 2308 section 5).
    """
    data = records.data
    ttls = [min(_ttl.unpack_from(data, at)[0], MAX_TTL) for at in records.ttls]
    if reply.denial:
        return [min(ttl, reply.ttl) for ttl in ttls]
    answers = ttls[: records.counts[0]]
    older = min(answers, default=0) - reply.ttl
    return [ttl - older for ttl in ttls] if older > 0 else ttls


def count_down(
    message: bytes, at: Sequence[int], ttls: Sequence[int], age: int
) -> bytes:
    """The same bytes with TTLs that are `age` seconds further down.

    Args:
        message: a message, or a part of one.
        at: where TTLs stand in it.
        ttls: what they were at first.
        age: seconds since then.
    """
    data = bytearray(message)
    for where, ttl in zip(at, ttls, strict=True):
        _ttl.pack_into(data, where, ttl - age if ttl > age else 0)
    return bytes(data)


def stale(records: Records, ttl: int) -> Records:
    """The same with one TTL for all (RFC 8767 section 4: 30 s)."""
    data = bytearray(records.data)
    for at in records.ttls:
        _ttl.pack_into(data, at, ttl)
    return records._replace(data=bytes(data))


def compose(
    query: Query,
    over: Over,
    rcode: int,
    records: Records = NO_RECORDS,
    *,
    ad: bool = False,
    ede: Sequence[Ede] = (),
) -> bytes:
    """A reply that is right for this client, and fits.

    Over UDP what is too long loses first the errors' texts, then the additional
    section (RFC 2181 section 9), then everything, with TC.

    Args:
        query: what was asked.
        over: how the reply goes.
        rcode: the response code.
        records: what it says.
        ad: the upstream validated it.
        ede: extended DNS errors, for those who have EDNS.
    """
    limit = query.limit(over)
    options = b"".join([ede_option((code, _cut(text))) for code, text in ede])
    room = limit - query.end - (11 if query.edns else 0)
    if query.edns and len(records.data) + len(options) > room:
        options = b"".join([ede_option((code, "")) for code, _ in ede])
    room -= len(options) if query.edns else 0
    truncated = False
    if len(records.data) > room:
        answers, authorities, _ = records.counts
        needed = records.data[: records.ends[1]]
        records = records._replace(data=needed, counts=(answers, authorities, 0))
    if len(records.data) > room:
        records, truncated = NO_RECORDS, True
    head = _header(
        int.from_bytes(query.data[:2], "big"),
        0x80 | truncated << 1 | query.data[2] & 1,
        0x80 | (ad and query.wants_ad) << 5 | query.data[3] & 0x10 | rcode & 15,
        1,
        *records.counts[:2],
        records.counts[2] + query.edns,
    )
    body = head + query.data[12 : query.end] + records.data
    if not query.edns:
        return body
    return body + _our_opt(query, over, rcode, options, len(body))


def _our_opt(
    query: Query, over: Over, rcode: int, options: bytes, before: int
) -> bytes:
    if query.keepalive and over.keeps_alive:  # in units of 100 ms
        options += struct.pack("!HHH", _KEEPALIVE, 2, int(IDLE * 10))
    if query.padding and over.encrypted:
        pad = -(before + 11 + len(options) + 4) % PADDING_BLOCK
        if before + 11 + len(options) + 4 + pad <= query.limit(over):
            options += struct.pack("!HH", _PADDING, pad) + bytes(pad)
    return opt(rcode, do=query.do, options=options)


def _cut(text: str) -> str:
    """A text of at most `MAX_TEXT` octets, without half a character at its end."""
    return text.encode("utf-8", "replace")[:MAX_TEXT].decode("utf-8", "ignore")


def fresh(
    query: Query, over: Over, reply: Reply, age: float, ede: Sequence[Ede] = ()
) -> bytes:
    """The reply from data that is `age` seconds old and fresh."""
    records = records_of(reply.wire, query.end)
    data = count_down(records.data, records.ttls, full_ttls(records, reply), int(age))
    records = records._replace(data=data)
    return compose(query, over, reply.rcode, records, ad=reply.ad, ede=ede)


def outdated(
    query: Query, over: Over, reply: Reply, ttl: int, ede: Sequence[Ede]
) -> bytes:
    """The reply from stale data; without AD, for signatures may have run out."""
    records = stale(records_of(reply.wire, query.end), ttl)
    return compose(query, over, reply.rcode, records, ede=ede)


def hinfo(query: Query, over: Over) -> bytes:
    """The answer to ANY (RFC 8482 section 4.2)."""
    rdata = b"\x07RFC8482\0"
    fixed = struct.pack("!HHHIH", 0xC00C, _HINFO, _IN, HINFO_TTL, len(rdata))
    data = fixed + rdata
    size = len(data)
    return compose(query, over, 0, Records(data, (6,), (1, 0, 0), (size, size)))


def count(message: bytes) -> int:
    """How many records a message has, OPT included."""
    return sum(_counts(message, 6))


def least_ttl(message: bytes) -> int:
    """Seconds for which a reply of ours may be kept (RFC 8484 section 5.1).

    Returns:
        The least TTL of its records; 0 where it has none, or is no answer.
    """
    if message[3] & 15 not in {0, 3}:  # FORMERR may be a header alone
        return 0
    pos = 12
    while message[pos]:
        pos += 1 + message[pos]
    records = records_of(message, pos + 5)
    return min(
        (_ttl.unpack_from(records.data, at)[0] for at in records.ttls), default=0
    )


def passed_on(attempt: Attempt | None) -> list[Ede]:
    """An upstream's extended errors, with its name (RFC 8914 section 3)."""
    if attempt is None or not attempt.ede:
        return []
    who = attempt.upstream
    return [(code, f"{who}: {text}" if text else who) for code, text in attempt.ede[:2]]
