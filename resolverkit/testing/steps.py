"""What a scripted upstream can do about a question, one small function for each.

Replies are real messages, built by dnspython for the question at hand, and pass through
the same checks as those of a transport.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import dns.flags
import dns.inet
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from resolverkit.errors import BadReply, NetworkError, QueryTimeout, UpstreamError
from resolverkit.testing.records import ede_options, soa_rrset

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from resolverkit.model import Question
    from resolverkit.testing.records import EdeLike

TIMEOUT = 2.0
"""Seconds after which a transport ends an attempt, by default."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that a `ScriptedUpstream` does about one question.

    Attributes:
        make: the message for the question; raises an `UpstreamError` for no message.
        after: seconds until then.
        lost: how many packets of the question are lost on the way, see `lost`.
    """

    make: Callable[[Question], bytes]
    after: float = 0.01
    lost: int = 0


def answer(
    *values: str,
    ttl: int = 60,
    after: float = 0.01,
    cname: Sequence[str] = (),
    cname_ttl: int | None = None,
    ad: bool = False,
    ede: EdeLike = None,
) -> Step:
    """Data.

    Args:
        values: rdata in text. An address answers only questions for its own family:
            to others, if there is nothing else, the reply is NODATA with SOA.
        ttl: TTL of the data.
        after: seconds until the reply.
        cname: the chain of aliases that leads from the name to the data.
        cname_ttl: TTL of the aliases; as `ttl` by default.
        ad: claim that the answer was validated.
        ede: extended DNS error: a code, or ``(code, text)``.
    """
    link_ttl = ttl if cname_ttl is None else cname_ttl

    def make(question: Question) -> bytes:
        links, final = _chain(question, cname, link_ttl)
        rdtype = dns.rdatatype.RdataType(question.rdtype)
        fitting = [value for value in values if _fits(value, rdtype)]
        if not fitting:
            return _denial(question, dns.rcode.NOERROR, links, final, ede=ede)
        data = dns.rrset.from_text_list(final, ttl, "IN", rdtype, fitting)
        return _message(question, answers=[*links, data], ad=ad, ede=ede)

    return Step(make, after)


def nxdomain(
    *,
    soa: bool = True,
    ttl: int = 300,
    minimum: int = 300,
    after: float = 0.01,
    cname: Sequence[str] = (),
    ra: bool = True,
    ede: EdeLike = None,
) -> Step:
    """The name does not exist.

    Args:
        soa: prove it with an SOA record (RFC 2308); lame servers send none.
        ttl: TTL of the SOA record, and of aliases.
        minimum: MINIMUM of the SOA record.
        after: seconds until the reply.
        cname: aliases; the last one is what does not exist.
        ra: recursion available; Quad9 clears it on a block.
        ede: extended DNS error: a code, or ``(code, text)``.
    """

    def make(question: Question) -> bytes:
        links, final = _chain(question, cname, ttl)
        times = (ttl, minimum) if soa else None
        return _denial(question, dns.rcode.NXDOMAIN, links, final, times, ra, ede)

    return Step(make, after)


def nodata(
    *,
    soa: bool = True,
    ttl: int = 300,
    minimum: int = 300,
    after: float = 0.01,
    cname: Sequence[str] = (),
    ra: bool = True,
    ede: EdeLike = None,
) -> Step:
    """The name has no data of this type; arguments as for `nxdomain`."""

    def make(question: Question) -> bytes:
        links, final = _chain(question, cname, ttl)
        times = (ttl, minimum) if soa else None
        return _denial(question, dns.rcode.NOERROR, links, final, times, ra, ede)

    return Step(make, after)


def rcode(code: int, *, ede: EdeLike = None, after: float = 0.01) -> Step:
    """A reply with this response code and no records."""
    return Step(lambda question: _message(question, code, ede=ede), after)


def servfail(*, ede: EdeLike = None, after: float = 0.01) -> Step:
    """SERVFAIL."""
    return rcode(dns.rcode.SERVFAIL, ede=ede, after=after)


def refused(*, ede: EdeLike = None, after: float = 0.01) -> Step:
    """REFUSED."""
    return rcode(dns.rcode.REFUSED, ede=ede, after=after)


def silent(timeout: float = TIMEOUT) -> Step:
    """Nothing, until the transport's own timeout ends the attempt."""
    return _failure(lambda: QueryTimeout(f"no reply within {timeout:g} s"), timeout)


def network_error(
    text: str = "connection refused", *, local: bool = False, after: float = 0.001
) -> Step:
    """The question cannot be carried; `local` says that the fault is on this side."""
    return _failure(lambda: NetworkError(text, local=local), after)


def bad_reply(text: str = "not a reply", *, after: float = 0.01) -> Step:
    """The transport finds that what came is no reply."""
    return _failure(lambda: BadReply(text), after)


def wire(message: bytes | Callable[[Question], bytes], *, after: float = 0.01) -> Step:
    """This message, as it is, or what a function makes of the question."""
    return Step(message if callable(message) else lambda _: message, after)


def lost(step: Step, packets: int = 1) -> Step:
    """`step`, after the first `packets` packets of the question were lost.

    Without a retransmission (`ScriptedUpstream.resend`) the attempt ends in a timeout.
    """
    return replace(step, lost=packets)


def _failure(error: Callable[[], UpstreamError], after: float) -> Step:
    def make(_: Question) -> bytes:
        raise error()

    return Step(make, after)


def _fits(value: str, rdtype: dns.rdatatype.RdataType) -> bool:
    if not dns.inet.is_address(value):
        return True
    family = dns.rdatatype.AAAA if ":" in value else dns.rdatatype.A
    return rdtype == family


def _chain(
    question: Question, aliases: Sequence[str], ttl: int
) -> tuple[list[dns.rrset.RRset], dns.name.Name]:
    """The CNAME records that lead through `aliases`, and the name they end at."""
    owner = question.name
    links = []
    for alias in aliases:
        target = dns.name.from_text(alias)
        links.append(dns.rrset.from_text(owner, ttl, "IN", "CNAME", str(target)))
        owner = target
    return links, owner


def _denial(
    question: Question,
    code: int,
    links: list[dns.rrset.RRset],
    final: dns.name.Name,
    times: tuple[int, int] | None = (300, 300),
    ra: bool = True,
    ede: EdeLike = None,
) -> bytes:
    """A denial for `final`, with an SOA of these times (TTL, MINIMUM) or none."""
    authority = []
    if times:
        zone = final.parent() if len(final) > 2 else final
        authority = [soa_rrset(zone, *times)]
    return _message(question, code, links, authority, ra=ra, ede=ede)


def _message(
    question: Question,
    code: int = dns.rcode.NOERROR,
    answers: Sequence[dns.rrset.RRset] = (),
    authority: Sequence[dns.rrset.RRset] = (),
    *,
    ad: bool = False,
    ra: bool = True,
    ede: EdeLike = None,
) -> bytes:
    query = dns.message.from_wire(question.wire)
    response = dns.message.make_response(query, recursion_available=ra)
    response.answer.extend(answers)
    response.authority.extend(authority)
    if ad:
        response.flags |= dns.flags.AD
    if ede is not None and query.edns >= 0:
        response.use_edns(0, query.ednsflags, options=ede_options(ede))
    response.set_rcode(dns.rcode.Rcode(code))
    return response.to_wire(max_size=65_535)
