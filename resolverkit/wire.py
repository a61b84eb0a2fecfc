"""Messages: build a query, check and scan a reply. Bytes in, values out.

Rules of this module: no I/O, no clock, no randomness. Every byte string given to
`read_reply` yields a `Reply` or raises `BadReply`, never another exception, and
whatever it lets pass dnspython can parse, so that reading an Answer never raises.

Theory of operation: a reply is scanned by hand in one pass. The types that nearly every
reply is made of (A, AAAA, CNAME, NS, PTR, SOA, OPT) are checked here, a few µs in all;
a message with anything else in it is parsed by dnspython at once (some 100 µs), and the
parse is kept for the Answer. Before that, the most common reply of all, nothing but
addresses at the name asked for, is recognised by its size and a comparison per record.
The CNAME chain is followed as a graph, in whatever order
the records came (on 2026-01-08 a large resolver put them last).
"""

from __future__ import annotations

import string
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype

from resolverkit.errors import BadReply
from resolverkit.model import Ede, Kind, Question, Reply, plain_reply

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_TTL = 604_800
"""Seconds; RFC 8767 section 4 suggests a cap of 7 days, top bit set or not."""
MAX_NEGATIVE_TTL = 300
"""Seconds a denial may be believed (RFC 2308 section 5 leaves the cap to us)."""
MAX_CHAIN = 11
"""CNAME links followed, as Unbound's restart limit."""
UDP_PAYLOAD = 1232
"""Octets asked for over UDP (RFC 9715 appendix A, DNS Flag Day 2020)."""
MAX_UDP_PAYLOAD = 1400
"""Octets that a user's own EDNS options may ask for (RFC 9715 section 3.2)."""
PADDING_BLOCK = 128
"""Queries on encrypted transports are padded to this (RFC 8467 section 4.1)."""

_OPT_SIZE = 11
_MAX_POINTERS = 16  # per name, as dnspython allows
_A, _NS, _CNAME, _SOA, _PTR, _AAAA, _OPT = 1, 2, 5, 6, 12, 28, 41
_PADDING, _EDE = 12, 15
_NXDOMAIN, _YXDOMAIN = 3, 6

_counts = struct.Struct("!HHHH").unpack_from
_record = struct.Struct("!HHIH").unpack_from
_short = struct.Struct("!H").unpack_from
_pair = struct.Struct("!HH").unpack_from
_pack_pair = struct.Struct("!HH").pack
_minimum = struct.Struct("!I").unpack_from


_PLAIN_FLAGS = [  # NOERROR, without TC
    bytes((0x80 | aa | rd, ra | ad | cd))
    for aa in (0, 4)
    for rd in (0, 1)
    for ra in (0, 0x80)
    for ad in (0, 0x20)
    for cd in (0, 0x10)
]
_ONE, _ONE_AND_OPT = b"\0\1\0\1\0\0\0\0", b"\0\1\0\1\0\0\0\1"


def _plain(rdtype: bytes, size: int) -> tuple[Any, ...]:
    """How to recognise a reply of addresses alone, and perhaps an OPT.

    Returns:
        What precedes a TTL; octets of an address; by flags and counts, for one address
        alone or with an OPT, all that follows the question: octets, a reader, whether
        there is an OPT; a reader of several addresses.
    """
    head = b"\xc0\x0c" + rdtype + b"\0\1"
    record = f"!6sIH{size}x"  # owner, type, class; TTL; length
    alone = struct.Struct(record)
    and_opt = struct.Struct(record + "3s2xB3xH")  # upper rcode; length
    shapes: dict[bytes, tuple[Any, ...]] = {}
    for flags in _PLAIN_FLAGS:
        shapes[flags + _ONE] = alone.size, alone.unpack_from, False
        shapes[flags + _ONE_AND_OPT] = and_opt.size, and_opt.unpack_from, True
    return head, size, shapes, alone.iter_unpack


_PLAIN = {b"\0\1\0\1": _plain(b"\0\1", 4), b"\0\x1c\0\1": _plain(b"\0\x1c", 16)}

_PLAIN_TEXT = (string.ascii_letters + string.digits + "_-.").encode()

_new_tuple = tuple.__new__
_DATA = Kind.DATA  # attributes of an enum are slow to look up on Python 3.11
_LENGTHS = (None, *[bytes((n,)) for n in range(1, 64)])  # only the root's is empty

# --- names ---------------------------------------------------------------------------


def text_to_wire(text: str) -> bytes:
    """A name in text as a lower-cased wire name.

    Args:
        text: the name, absolute or taken as such.

    Returns:
        The wire name, root label included.

    Raises:
        dns.exception.DNSException: dnspython's, for an empty or long label, a name
            over 255 octets, or bad IDNA.
    """
    data = text.encode("ascii", "replace")
    if not data.translate(None, _PLAIN_TEXT) and len(data) <= 253:
        parts: list[Any] = []
        try:
            for label in data.lower().removesuffix(b".").split(b"."):
                parts.append(_LENGTHS[len(label)])
                parts.append(label)
            parts.append(b"\0")
            return b"".join(parts)
        except (IndexError, TypeError):
            pass  # a label that is too long, or empty: dnspython says so
    return name_to_wire(dns.name.from_text(text))


def name_to_wire(name: dns.name.Name) -> bytes:
    """An absolute name of dnspython's as a lower-cased wire name."""
    return b"".join([bytes((len(x),)) + x for x in name.labels]).lower()


def parent(name: bytes) -> bytes:
    """The wire name without its first label; the root is its own parent."""
    return name[1 + name[0] :] or b"\0"


def is_below(name: bytes, zone: bytes) -> bool:
    """Whether wire name `name` is `zone` or below it; both lower-cased."""
    while len(name) > len(zone):
        name = name[1 + name[0] :]
    return name == zone


# --- queries -------------------------------------------------------------------------


def make_question(
    name: bytes,
    rdtype: int,
    rdclass: int = 1,
    *,
    dnssec_ok: bool = False,
    checking_disabled: bool = False,
    view: bytes = b"",
) -> Question:
    """The question for a wire name.

    Args:
        name: lower-cased, absolute wire name.
        rdtype: type.
        rdclass: class.
        dnssec_ok: set DO (RFC 3225).
        checking_disabled: set CD (RFC 4035 section 3.2.2).
        view: what else tells cached answers apart, such as a route.
    """
    return mould(rdtype, rdclass, dnssec_ok, checking_disabled).question(name, view)


class Mould:
    """All questions of one type, class and flags, but for their names."""

    __slots__ = ("_flags", "_header", "_opt", "_pair", "rdclass", "rdtype")

    def __init__(
        self, rdtype: int, rdclass: int, dnssec_ok: bool, checking_disabled: bool
    ) -> None:
        self.rdtype: int = rdtype
        self.rdclass: int = rdclass
        self._header = _HEADERS[checking_disabled]
        self._pair = _pack_pair(rdtype, rdclass)
        self._opt = _OPTS[dnssec_ok]
        self._flags = _FLAGS[dnssec_ok | checking_disabled << 1]

    def question(self, name: bytes, view: bytes) -> Question:
        """The question for a lower-cased, absolute wire name."""
        tail = name + self._pair
        return _new_tuple(  # past its __new__, which is a call in Python
            Question,
            (
                tail + self._flags + view if view else tail + self._flags,
                self._header + tail + self._opt,
                12 + len(tail),
                self.rdtype,
                self.rdclass,
                True,
                None,
            ),
        )


mould: Callable[[int, int, bool, bool], Mould] = lru_cache(maxsize=256)(Mould)


def question_of(key: bytes) -> Question:
    """The question that `make_question` gave this key."""
    end = 0
    while key[end]:
        end += 1 + key[end]
    rdtype, rdclass = _pair(key, end + 1)
    flags = key[end + 5]
    return make_question(
        key[: end + 1],
        rdtype,
        rdclass,
        dnssec_ok=bool(flags & 1),
        checking_disabled=bool(flags & 2),
        view=key[end + 6 :],
    )


def view_of(key: bytes) -> bytes:
    """The view that `make_question` was given for this key."""
    end = 0
    while key[end]:
        end += 1 + key[end]
    return key[end + 6 :]


def custom_question(query: dns.message.QueryMessage, view: bytes = b"") -> Question:
    """The question for a query of dnspython's, which bypasses the cache.

    For RD=0, TSIG and a caller's own EDNS options.
    """
    query.id = 0
    wire = bytearray(query.to_wire() or b"")
    asked = query.question[0]
    name = name_to_wire(asked.name)
    end = 12 + len(name) + 4
    signed = None
    if query.keyring:
        signed = (query.keyring, query.mac or b"")
    else:
        wire[12 : end - 4] = name
    # All that is in it tells flights apart: flags, EDNS options, signature.
    key = name + bytes(wire[end - 4 : end]) + b"\xff" + wire[:4] + wire[end:] + view
    return Question(
        key, bytes(wire), end, asked.rdtype, asked.rdclass, cacheable=False, tsig=signed
    )


def _opt(flags: int) -> bytes:
    return struct.pack("!BHHIH", 0, _OPT, UDP_PAYLOAD, flags, 0)


# RD and AD: who sets AD is told what was validated (RFC 6840 section 5.7).
_HEADERS = tuple(
    struct.pack("!HHHHHH", 0, flags, 1, 0, 0, 1) for flags in (0x0120, 0x0130)
)
_OPTS = (_opt(0), _opt(0x8000))
_FLAGS = tuple(bytes((i,)) for i in range(4))


def may_drop_edns(question: Question) -> bool:
    """Whether the query can do without its OPT: ours, without DO or options."""
    return question.wire[question.end :] == _OPTS[0]


def without_edns(question: Question) -> bytes:
    """The query without OPT, for a server that answers FORMERR to it (RFC 6891)."""
    return question.wire[:10] + b"\0\0" + question.wire[12 : question.end]


@lru_cache(maxsize=PADDING_BLOCK)
def _padded_opt(opt: bytes, pad: int) -> bytes:
    return opt[:-2] + struct.pack("!HHH", pad + 4, _PADDING, pad) + bytes(pad)


def padded(question: Question) -> bytes:
    """The query padded to a multiple of 128 octets (RFC 7830, RFC 8467)."""
    wire = question.wire
    if wire[question.end :] not in _OPTS:  # a caller's own options: left as they are
        return wire
    pad = -(len(wire) + 4) % PADDING_BLOCK
    return wire[:-_OPT_SIZE] + _padded_opt(wire[-_OPT_SIZE:], pad)


# --- replies -------------------------------------------------------------------------


def mismatch(question: Question, data: bytes) -> str:
    """Why `data` is no reply to `question`, its id apart; empty when it is one.

    RFC 5452 section 9.1 (question), RFC 9619 section 4 (QDCOUNT).
    """
    end = question.end
    if len(data) < end:
        return f"{len(data)} octets are too short for a reply"
    flags = data[2]
    if not flags & 0x80:
        return "not a response"
    if flags & 0x78:
        return f"opcode {flags >> 3 & 15}"
    if data[4] or data[5] != 1:
        return "not exactly one question"
    asked = question.wire
    if data[12:end] != asked[12:end] and (
        data[end - 4 : end] != asked[end - 4 : end]
        or data[12 : end - 4].lower() != asked[12 : end - 4].lower()
    ):
        return "another question"
    return ""


def has_opt(data: bytes, question: Question) -> bool:
    """Whether a short error reply carries an OPT after its question."""
    return data[question.end : question.end + 3] == b"\0\0\x29"


def read_reply(question: Question, data: bytes) -> Reply:
    """Check and scan a reply to `question`, whose id the transport has matched.

    Args:
        question: what was asked.
        data: the message.

    Returns:
        The reply; its `kind` is FAILURE for any rcode that concludes nothing.

    Raises:
        BadReply: the message is malformed, truncated, or answers another question.
    """
    ttl = plain_ttl(question, data)
    if ttl >= 0:
        return plain_reply(data, ttl, question.end - 16).reply()
    return read_unusual(question, data)


def read_unusual(question: Question, data: bytes) -> Reply:
    """The same for what is no plain reply, as `plain_ttl` has found."""
    if reason := mismatch(question, data):
        raise BadReply(reason)
    if data[2] & 2:
        raise BadReply("truncated")
    try:
        return _scan(question, data)
    except (IndexError, struct.error, UnicodeDecodeError):
        raise BadReply("a record runs past the end of the message") from None


def plain_ttl(question: Question, data: bytes) -> int:
    """Whether a message is a reply of addresses at the name asked for, and no more.

    It may have an OPT without options beside them. This covers all that `mismatch`
    does, for a fraction of what a scan costs.

    Returns:
        The least TTL; -1 where it is another reply, or none.
    """
    end = question.end
    asked = question.wire[12:end]
    plain = _PLAIN.get(asked[-4:])
    if plain is None or data[12:end] != asked:
        return -1
    head, size, shapes, several = plain
    shape = shapes.get(data[2:12])
    if shape is not None:
        octets, read, with_opt = shape
        if len(data) - end != octets:
            return -1
        if with_opt:
            owner, ttl, length, opt, rcode, options = read(data, end)
            if opt != b"\0\0\x29" or rcode or options:
                return -1
        else:
            owner, ttl, length = read(data, end)
        if owner != head or length != size:
            return -1
    else:
        ttl = _plain_ttl_of_several(data, end, head, size, several)
    if question.tsig is not None:
        return -1
    return int(ttl) if ttl < MAX_TTL else MAX_TTL


def _plain_ttl_of_several(
    data: bytes, end: int, head: bytes, size: int, several: Any
) -> int:
    counts = data[4:12]
    if data[2:4] not in _PLAIN_FLAGS or counts[:3] != b"\0\1\0" or not counts[3]:
        return -1
    last = end + (12 + size) * counts[3]
    # With the size, the counts cover that nothing is left over.
    if len(data) == last + _OPT_SIZE:
        if counts[4:] != b"\0\0\0\1" or data[last : last + 3] != b"\0\0\x29":
            return -1
        if data[last + 5] or data[-2:] != b"\0\0":
            return -1
    elif len(data) != last or counts[4:] != b"\0\0\0\0":
        return -1
    least = MAX_TTL
    for owner, ttl, length in several(data[end:last]):
        if owner != head or length != size:
            return -1
        least = min(least, ttl)
    return least


def _scan(question: Question, data: bytes) -> Reply:  # one pass, hot: not split up
    size = len(data)
    pos = question.end
    qname = question.wire[12 : pos - 4]
    qtype, qclass = question.rdtype, question.rdclass
    _, ancount, nscount, arcount = _counts(data, 4)
    unusual = question.tsig is not None
    found: dict[bytes, int] = {}  # owner → least TTL of the type asked for
    links: dict[bytes, tuple[bytes, int]] = {}  # owner → target, TTL
    soas: list[tuple[bytes, int]] = []
    ede: tuple[Ede, ...] = ()
    rcode = data[3] & 15
    opts = 0

    last_answer, last_authority = ancount, ancount + nscount
    for i in range(last_authority + arcount):
        if data[pos] == 0xC0 and data[pos + 1] == 12:  # the usual owner: the name asked
            owner, pos = qname, pos + 2
        else:
            owner, pos = read_name(data, pos, size)
        rdtype, rdclass, ttl, rdlen = _record(data, pos)
        pos += 10
        end = pos + rdlen
        if end > size:
            raise BadReply("a record runs past the end of the message")
        if ttl > MAX_TTL:
            ttl = MAX_TTL
        if rdtype == _OPT:
            if i < last_authority or opts or owner != b"\0":
                raise BadReply("misplaced OPT record")
            opts = 1
            rcode |= data[pos - 6] << 4  # RFC 6891 section 6.1.3
            if rdlen:
                ede, plain = _read_options(data, pos, end)
                unusual |= not plain
            pos = end
            continue
        if rdclass != 1:
            unusual = True
        elif rdtype == _A:
            if rdlen != 4:
                raise BadReply("an A record that is not 4 octets")
        elif rdtype == _AAAA:
            if rdlen != 16:
                raise BadReply("an AAAA record that is not 16 octets")
        elif rdtype == _CNAME or rdtype == _NS or rdtype == _PTR:
            target, stop = read_name(data, pos, end)
            if stop != end:
                raise BadReply("octets left over in a record")
            if rdtype == _CNAME and i < last_answer and qclass == 1:
                # Two CNAMEs at one owner are for dnspython to sort out.
                unusual |= owner in links and links[owner][0] != target
                links[owner] = (target, min(ttl, links.get(owner, (b"", ttl))[1]))
        elif rdtype == _SOA:
            stop = read_name(data, read_name(data, pos, end)[1], end)[1]
            if stop + 20 != end:
                raise BadReply("an SOA record of the wrong size")
            if last_answer <= i < last_authority:
                soas.append((owner, min(ttl, _minimum(data, stop + 16)[0])))
        else:
            unusual = True
        if i < last_answer and rdtype == qtype and rdclass == qclass:
            if owner not in found or ttl < found[owner]:
                found[owner] = ttl
        pos = end
    if pos != size:
        raise BadReply("octets left over after the last record")

    final, ttl, has_data, aliases = _follow(qname, qtype, found, links)
    message = None
    if unusual:
        message, chain = _parse(question, data)
        has_data = chain.answer is not None
        if qclass != 1:  # its aliases were not read above
            final = name_to_wire(chain.canonical_name)
            aliases = () if final == qname else (qname,)
            ttl = min(ttl, chain.minimum_ttl)
    soa = False
    kind = Kind.FAILURE
    if rcode == 0 and has_data:
        kind = Kind.DATA
    elif rcode == 0 or rcode == _NXDOMAIN:
        if has_data:
            raise BadReply("NXDOMAIN with an answer")
        kind = Kind.NXDOMAIN if rcode else Kind.NODATA
        for owner, negative in soas:
            if is_below(final, owner):
                soa, ttl = True, min(ttl, negative, MAX_NEGATIVE_TTL)
    elif rcode == _YXDOMAIN:
        kind = Kind.YXDOMAIN
    if kind is not Kind.DATA and not soa:
        ttl = 0
    flags = data[3]
    return Reply(
        data, kind, rcode, ttl, final,
        ede=ede, ad=flags & 0x20 != 0, soa=soa, ra=flags & 0x80 != 0,
        aliases=aliases, message=message,
    )  # fmt: skip


def _follow(
    name: bytes,
    qtype: int,
    found: dict[bytes, int],
    links: dict[bytes, tuple[bytes, int]],
) -> tuple[bytes, int, bool, tuple[bytes, ...]]:
    """The CNAME chain: its end, its least TTL, whether there is data, its owners."""
    ttl = MAX_TTL
    aliases: list[bytes] = []
    if qtype != _CNAME and links:
        while name not in found and name in links:
            if len(aliases) == MAX_CHAIN:
                raise BadReply(
                    f"a CNAME chain that loops or has more than {MAX_CHAIN} links"
                )
            aliases.append(name)
            name, link_ttl = links[name]
            if link_ttl < ttl:
                ttl = link_ttl
    if name in found:
        return name, min(ttl, found[name]), True, tuple(aliases)
    return name, ttl, False, tuple(aliases)


def _parse(
    question: Question, data: bytes
) -> tuple[dns.message.QueryMessage, dns.message.ChainingResult]:
    """Have dnspython judge a message with unusual records in it."""
    keyring, mac = question.tsig or (None, b"")
    try:
        message = dns.message.from_wire(data, keyring=keyring, request_mac=mac)
        if not isinstance(message, dns.message.QueryMessage):
            raise BadReply("not a query response")
        if keyring and not message.had_tsig:
            raise BadReply("the reply to a signed query is not signed")
        return message, message.resolve_chaining()
    except (dns.exception.DNSException, ValueError, struct.error) as error:
        raise BadReply(f"{type(error).__name__}: {error}") from error


def read_name(data: bytes, pos: int, end: int) -> tuple[bytes, int]:
    """A possibly compressed name as (lower-cased wire name, position after it).

    Pointers must lead strictly backwards, and what they lead to must end before the
    name that points there begins: no loops, no overlaps.
    """
    parts = []
    after = -1
    start = lowest = pos
    pointers = 0
    while True:
        length = data[pos]
        if length == 0:
            pos += 1
            break
        if length < 64:
            pos += 1 + length
            parts.append(data[pos - 1 - length : pos])
        elif length >= 192:
            target = (length & 63) << 8 | data[pos + 1]
            pos += 2
            pointers += 1
            if target >= lowest or pos > end or pointers > _MAX_POINTERS:
                raise BadReply("a compression pointer that leads nowhere")
            if after < 0:
                after = pos
            end, lowest, pos = start, target, target
            start = target
        else:
            raise BadReply("an unknown label type")
    parts.append(b"\0")
    name = b"".join(parts)
    if pos > end or len(name) > 255:
        raise BadReply("a name that is too long")
    return name.lower(), pos if after < 0 else after


def addresses(
    qname: bytes, rdtype: int, final: bytes, data: bytes
) -> tuple[int, list[bytes]]:
    """The addresses in a reply to an A or AAAA question that was scanned here.

    Args:
        qname: the name that was asked for; lower-cased wire name, as `final`.
        rdtype: A or AAAA.
        final: the end of the CNAME chain, `Reply.final`.
        data: the message.

    Returns:
        The least TTL as received (RFC 2181 section 8: 0 where the top bit is set), and
        the rdata of every record at the end of the chain, in order.
    """
    pos = 12 + len(qname) + 4
    least = 0x7FFFFFFF
    found = []
    for _ in range(_short(data, 6)[0]):
        if data[pos] == 0xC0 and data[pos + 1] == 12:
            owner, pos = qname, pos + 2
        else:
            owner, pos = read_name(data, pos, len(data))
        kind, _, ttl, rdlen = _record(data, pos)
        pos += 10 + rdlen
        if kind == rdtype and owner == final:
            found.append(data[pos - rdlen : pos])
            least = min(least, 0 if ttl > 0x7FFFFFFF else ttl)
    return least, found


def plain_addresses(name_size: int, size: int, data: bytes) -> list[bytes]:
    """The addresses of a reply that is `Reply.plain`, in a fraction of the time.

    Args:
        name_size: octets of the name that was asked for.
        size: octets of an address.
        data: the message.
    """
    first = 12 + name_size + 4 + 12
    if data[7] == 1 and not data[6]:
        return [data[first : first + size]]
    last = first + (12 + size) * _short(data, 6)[0]
    found = [data[pos : pos + size] for pos in range(first, last, 12 + size)]
    return list(dict.fromkeys(found))  # no two alike, as in a set of records


def plain_ttl_shown(name_size: int, size: int, data: bytes) -> int:
    """The TTL that dnspython shows for such a reply."""
    first, step = 12 + name_size + 4, 12 + size
    last = first + step * _short(data, 6)[0]
    ttls = [_record(data, pos)[2] for pos in range(first + 2, last, step)]
    return min([0 if ttl > 0x7FFFFFFF else ttl for ttl in ttls])


def _read_options(data: bytes, pos: int, end: int) -> tuple[tuple[Ede, ...], bool]:
    """EDE options (RFC 8914 section 2), and whether there was nothing unusual."""
    found: list[Ede] = []
    plain = True
    while pos < end:
        code, length = _pair(data, pos)
        pos += 4
        if pos + length > end:
            raise BadReply("an EDNS option runs past its record")
        if code == _EDE:
            (info,) = _short(data[pos : pos + length])
            text = data[pos + 2 : pos + length]
            found.append((info, text.removesuffix(b"\0").decode()))
        elif code != _PADDING:
            plain = False
        pos += length
    if pos != end:
        raise BadReply("octets left over in the OPT record")
    return tuple(found), plain
