"""When replies of several vantages agree, and what to make of it when they do not.

Pure. The one place that says so; two grades and one relation:

- Replies **share data** if they are of one kind and, for data, have a record in common
  or an address in the same /24 (IPv4) or /48 (IPv6). Denials of one kind are the same.
- They **agree** if they share data, or if their aliases lead to the same name: a
  network for content delivery gives everybody other addresses of one name.
- They are **kin** if they agree, have an address in the same /16 or /32, or are aliases
  for names under a common parent of at least two labels (``eu.cdn.example.`` and
  ``us.cdn.example.``).

Agreement goes by operators: two addresses of one are one vantage. A liar that forges
the right alias with a wrong address passes for a content network here.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import dns.message

from resolverkit import policy, wire
from resolverkit.model import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from resolverkit.model import Question, Reply

_IN, _A, _SOA, _AAAA, _SVCB, _HTTPS = 1, 1, 6, 28, 64, 65
_NEAR = {_A: 3, _AAAA: 6}  # octets: /24, /48
_WIDE = {_A: 2, _AAAA: 4}  # octets: /16, /32
_SOA_TIMES = 20  # octets at its end: serial and times, which secondaries lag behind in


class Verdict(enum.StrEnum):
    """What a comparison comes to, for all vantages or for one of them."""

    AGREE = "agree"
    DIFFER = "differ as CDNs do"
    UNKNOWN = "unknown"
    DENIES = "denies"
    FILTERS = "filters"
    LIES = "lies alone"


_WEIGHT = {verdict: i for i, verdict in enumerate(Verdict)}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Replies compared.

    Attributes:
        verdict: of all: the gravest of those of each. UNKNOWN where fewer than two
            operators answered, and where they have data of which nobody can tell which
            is right.
        each: of each vantage, in order. AGREE: others share its data. DIFFER: others
            are kin of it. DENIES: it has less than others do. FILTERS: a block, or
            addresses that lead nowhere where others have real ones. LIES: the others
            hold together, at least two of them agree, and it alone has nothing in
            common with anybody. UNKNOWN: no reply, or nobody to say something of it.
    """

    verdict: Verdict
    each: tuple[Verdict, ...]


class Said:
    """What a reply says, in a form that can be compared."""

    __slots__ = ("alias", "data", "kind", "near", "sinkhole", "wide")

    def __init__(self, question: Question, reply: Reply) -> None:
        self.kind: Kind = reply.kind
        self.data: set[bytes] = _data(question, reply)
        self.near: set[bytes] = set()
        self.wide: set[bytes] = set()
        self.sinkhole: bool = False
        if _has_addresses(question):
            self.near = {x[: _NEAR[question.rdtype]] for x in self.data}
            self.wide = {x[: _WIDE[question.rdtype]] for x in self.data}
            self.sinkhole = all(map(_leads_nowhere, self.data))
        self.alias: set[bytes] = {reply.final} if reply.aliases else set[bytes]()

    def add(self, other: Said) -> None:
        """Merge with what the same vantage said another time."""
        self.kind = min(self.kind, other.kind)
        self.data |= other.data
        self.near |= other.near
        self.wide |= other.wide
        self.alias |= other.alias
        self.sinkhole &= other.sinkhole

    def shares(self, other: Said) -> bool:
        """Whether the two share data."""
        if self.kind is not other.kind:
            return False
        if self.data == other.data:  # denials have none
            return True
        return bool(self.data & other.data or self.near & other.near)

    def agrees(self, other: Said) -> bool:
        """Whether the two agree."""
        if self.shares(other):
            return True
        return self.kind is other.kind and bool(self.alias & other.alias)

    def is_kin(self, other: Said) -> bool:
        """Whether the two are kin."""
        if self.agrees(other):
            return True
        if self.kind is not other.kind:
            return False
        if self.wide & other.wide:
            return True
        return any(_have_a_parent(a, b) for a in self.alias for b in other.alias)


def agree(question: Question, a: Reply, b: Reply) -> bool:
    """Whether two replies to a question agree."""
    return Said(question, a).agrees(Said(question, b))


def compare(question: Question, *rounds: Sequence[Reply | None]) -> Comparison:
    """Compare what vantages replied to a question.

    Args:
        question: what they were asked.
        *rounds: a reply for each vantage, None where there was none. Where they were
            asked several times, what each of them said is merged: sets that rotate
            overlap sooner or later, and a liar's do not.
    """
    vantages = []
    for replies in zip(*rounds, strict=True):
        given = [reply for reply in replies if reply is not None]
        vantages.append(_Vantage(question, given) if given else None)
    found = [vantage for vantage in vantages if vantage is not None]
    if len({vantage.operator for vantage in found}) > 1:
        _judge(found)
    each = [vantage.verdict if vantage else Verdict.UNKNOWN for vantage in vantages]
    answered = [vantage.verdict for vantage in found] or [Verdict.UNKNOWN]
    verdict = max(answered, key=_WEIGHT.__getitem__)
    if verdict in {Verdict.AGREE, Verdict.DIFFER} and len(_camps(found)) > 1:
        verdict = Verdict.UNKNOWN
    return Comparison(verdict, tuple(each))


class _Vantage:
    """One vantage while it is compared."""

    __slots__ = ("operator", "said", "verdict")

    def __init__(self, question: Question, replies: Sequence[Reply]) -> None:
        winner = replies[0].winner
        endpoint = winner.endpoint if winner else None
        self.operator: object = object()  # nobody else's
        if endpoint is not None:
            self.operator = endpoint.operator or endpoint.name
        self.said = Said(question, replies[0])
        for reply in replies[1:]:
            self.said.add(Said(question, reply))
        self.verdict = Verdict.UNKNOWN
        if any(policy.is_block(reply, endpoint) for reply in replies):
            self.verdict = Verdict.FILTERS


def _judge(vantages: Sequence[_Vantage]) -> None:
    """Give each its verdict."""
    with_data = [x for x in vantages if x.said.kind is Kind.DATA]
    if not all(vantage.said.sinkhole for vantage in with_data):
        for vantage in with_data:
            if vantage.said.sinkhole:
                vantage.verdict = Verdict.FILTERS
    unfiltered = [x for x in vantages if x.verdict is not Verdict.FILTERS]
    most = min((x.said.kind for x in unfiltered), default=Kind.DATA)
    for vantage in unfiltered:
        if vantage.said.kind > most:
            vantage.verdict = Verdict.DENIES
    _judge_camps([x for x in unfiltered if x.said.kind is most])


def _judge_camps(vantages: Sequence[_Vantage]) -> None:
    """Of those who say the same kind of thing: who holds together, and who does not."""
    camps = _camps(vantages)
    for camp in camps:
        for vantage in camp:
            others = [x for x in camp if x.operator != vantage.operator]
            if any(vantage.said.shares(x.said) for x in others):
                vantage.verdict = Verdict.AGREE
            elif others:
                vantage.verdict = Verdict.DIFFER
    if len(camps) == 2:
        crowd, rest = sorted(camps, key=_operators, reverse=True)
        if _operators(rest) == 1 and _any_agree(crowd):
            for vantage in rest:
                vantage.verdict = Verdict.LIES


def _camps(vantages: Iterable[_Vantage]) -> list[list[_Vantage]]:
    """Vantages that hold together: each is kin of some other one in its camp."""
    camps: list[list[_Vantage]] = []
    for vantage in vantages:
        kindred = [x for x in camps if any(vantage.said.is_kin(y.said) for y in x)]
        camps = [camp for camp in camps if camp not in kindred]
        camps.append([*(y for camp in kindred for y in camp), vantage])
    return camps


def _operators(camp: Iterable[_Vantage]) -> int:
    return len({vantage.operator for vantage in camp})


def _any_agree(camp: Sequence[_Vantage]) -> bool:
    """Whether two operators of a camp agree."""
    return any(
        a.operator != b.operator and a.said.agrees(b.said)
        for a, b in combinations(camp, 2)
    )


def _has_addresses(question: Question) -> bool:
    return question.rdclass == _IN and question.rdtype in _NEAR


def _data(question: Question, reply: Reply) -> set[bytes]:
    """The rdata in a reply, in the form in which equal ones are the same."""
    if reply.kind is not Kind.DATA:
        return set()
    if _has_addresses(question):
        asked = question.wire_name, question.rdtype
        return set(wire.addresses(*asked, reply.final, reply.wire)[1])
    message = reply.message or dns.message.from_wire(reply.wire)
    assert isinstance(message, dns.message.QueryMessage)
    rdatas = message.resolve_chaining().answer or ()
    return {_lasting(question, rdata) for rdata in rdatas}


def _lasting(question: Question, rdata: Any) -> bytes:
    """What of a record does not change from one hour to the next."""
    rdtype = question.rdtype
    if rdtype == _SOA:
        return bytes(rdata.to_digestable()[:-_SOA_TIMES])
    if rdtype in {_SVCB, _HTTPS} and question.rdclass == _IN:  # in others just octets
        # Keys for ECH are replaced all the time.
        return bytes(rdata.priority.to_bytes(2, "big") + rdata.target.to_digestable())
    return bytes(rdata.to_digestable())


def _leads_nowhere(address: bytes) -> bool:
    """Whether an address is 0.0.0.0, 127.0.0.0/8, :: or ::1: a filter's sinkhole."""
    if len(address) == 4:
        return address[0] == 127 or not any(address)
    return not any(address[:-1]) and address[-1] < 2


def _have_a_parent(a: bytes, b: bytes) -> bool:
    """Whether two names are under one name of at least two labels."""
    ours = _labels(a)
    theirs = _labels(b)
    return len(ours) > 2 and len(theirs) > 2 and ours[-2:] == theirs[-2:]


def _labels(name: bytes) -> list[bytes]:
    labels = []
    while length := name[0]:
        labels.append(name[1 : 1 + length])
        name = name[1 + length :]
    return labels
