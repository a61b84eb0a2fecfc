"""What a public resolver does, in small: ask the authority, cache, count TTLs down."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Literal, TypeAlias

import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rrset

from resolverkit.testing.authority import Lookup
from resolverkit.testing.records import ede_options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dns.message import Message
    from dns.name import Name
    from dns.rdatatype import RdataType

    from resolverkit.testing.authority import Authority
    from resolverkit.testing.faults import Fault
    from resolverkit.testing.records import EdeLike

Outage: TypeAlias = Literal["servfail", "silent"]

_GARBAGE = 64  # octets


class Forwarder:
    """Queries in, messages out. No sockets, and the time is an argument.

    Args:
        authority: who is asked for what is not in the cache.
        outage: what to do when the authority has vanished.
        ede: extended DNS error of a SERVFAIL then.
        seed: of the randomness in faults.
        validates: data is secure, and told to be where the query asks for that.
    """

    def __init__(
        self,
        authority: Authority,
        outage: Outage,
        ede: EdeLike,
        seed: int,
        *,
        validates: bool = False,
    ) -> None:
        self._authority = authority
        self._outage = outage
        self._ede = ede
        self._validates = validates
        self._random = random.Random(seed)
        self._cache: dict[tuple[Name, RdataType], tuple[Lookup, float]] = {}

    def forget(self) -> None:
        """Empty the cache, as a restart does."""
        self._cache.clear()

    def messages(
        self, query: Message, fault: Fault, now: float, *, datagram: bool
    ) -> Iterator[bytes]:
        """All that comes back for one query, forged messages first."""
        if fault.silent or fault.close_after == 0:
            return
        if fault.loss and self._random.random() < fault.loss:
            return
        if fault.garbage:
            yield self._random.randbytes(_GARBAGE)
        reply = self._reply(query, fault, now)
        if reply is None:
            return
        if fault.truncated and datagram:
            reply.answer.clear()
            reply.authority.clear()
            reply.flags |= dns.flags.TC
        message = _pack(reply, query, datagram)
        if fault.wrong_id:
            yield _forge(message)
        yield message

    def _reply(self, query: Message, fault: Fault, now: float) -> Message | None:
        if fault.no_edns and query.edns >= 0:
            reply = _respond(query, Lookup(dns.rcode.FORMERR))
            reply.use_edns(False)
            return reply
        refusal = _refusal(query)
        if refusal is not None:
            return _respond(query, Lookup(refusal))
        asked = query.question[0]
        if fault.rcode is not None and _concerns(fault, asked.name):
            soa = (self._authority.soa(asked.name),) if fault.soa else ()
            said = Lookup(dns.rcode.Rcode(fault.rcode), authority=soa)
            return _respond(query, said, fault.ede)
        if fault.lame:
            return _respond(query, Lookup(dns.rcode.NOERROR))
        found = self._find(asked.name, asked.rdtype, now, cut_off=fault.cut_off)
        if found is not None:
            reply = _respond(query, found)
            if self._validates and found.answer and _wants_ad(query):
                reply.flags |= dns.flags.AD
            return reply
        if self._outage == "silent":
            return None
        return _respond(query, Lookup(dns.rcode.SERVFAIL), self._ede)

    def _find(
        self, name: Name, rdtype: RdataType, now: float, *, cut_off: bool
    ) -> Lookup | None:
        """The answer at loop time `now`; None if it is not known and cannot be."""
        known = self._cache.get((name, rdtype))
        if known is not None:
            lookup, learnt = known
            if now < learnt + lookup.ttl:
                return _aged(lookup, int(now - learnt))
            del self._cache[name, rdtype]
        fresh = None if cut_off else self._authority.ask(name, rdtype)
        if fresh is not None:
            self._cache[name, rdtype] = (fresh, now)
        return fresh


def _refusal(query: Message) -> dns.rcode.Rcode | None:
    """What is said to a query that is none of ours; silence would be a loss (RFC 8906).

    RFC 8906 section 3, RFC 9619 section 4, RFC 6891 section 6.1.3.
    """
    if query.opcode() != dns.opcode.QUERY:
        return dns.rcode.NOTIMP
    if len(query.question) != 1:
        return dns.rcode.FORMERR
    return dns.rcode.BADVERS if query.edns > 0 else None


def _concerns(fault: Fault, name: Name) -> bool:
    names = {dns.name.from_text(text) for text in fault.names}
    return not names or name in names


def _wants_ad(query: Message) -> bool:
    """RFC 6840 section 5.8: AD is for those who ask with DO or AD."""
    return bool(query.flags & dns.flags.AD or query.ednsflags & dns.flags.DO)


def _aged(lookup: Lookup, seconds: int) -> Lookup:
    """The same records with TTLs that are `seconds` further down."""
    answer, authority = (
        tuple(dns.rrset.from_rdata_list(x.name, x.ttl - seconds, list(x)) for x in part)
        for part in (lookup.answer, lookup.authority)
    )
    return Lookup(lookup.rcode, answer, authority)


def _respond(query: Message, lookup: Lookup, ede: EdeLike = None) -> Message:
    """The reply that carries what was found; OPT only where the query has one."""
    response = dns.message.make_response(query, recursion_available=True)
    response.flags |= query.flags & dns.flags.CD
    del response.question[1:]  # RFC 9619 section 4
    response.answer.extend(lookup.answer)
    response.authority.extend(lookup.authority)
    if query.edns >= 0 and ede is not None:
        response.use_edns(0, query.ednsflags, options=ede_options(ede))
    response.set_rcode(lookup.rcode)
    return response


def _pack(response: Message, query: Message, datagram: bool) -> bytes:
    """The message as bytes; over UDP with TC where it does not fit."""
    if not datagram:
        return response.to_wire(max_size=65_535)
    # RFC 6891 section 6.2.3: payload sizes below 512 count as 512, and so does no OPT.
    room = max(512, query.payload) if query.edns >= 0 else 512
    return response.to_wire(max_size=room, prefer_truncation=True)


def _forge(message: bytes) -> bytes:
    """Another id, and a denial: whoever takes it will notice."""
    return bytes((message[0] ^ 0xFF, *message[1:3], message[3] | 3)) + message[4:]
