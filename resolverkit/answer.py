"""The Answer that a user gets: dnspython's, parsed when it is read, with a path."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any

import dns.ipv4
import dns.ipv6
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.resolver
import dns.rrset
from dns.rdtypes.IN.A import A
from dns.rdtypes.IN.AAAA import AAAA

from resolverkit import wire
from resolverkit.model import AnswerPath, Kind, Source, name_from_wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from resolverkit.model import Attempt, Question, Reply

_FORWARDED = frozenset({"name", "ttl", "covers"})
_MADE = {
    "response": "_parse",
    "chaining_result": "_parse",
    "rrset": "_read_rrset",
    "canonical_name": "_read_rrset",
    "rdtype": "_read_question",
    "rdclass": "_read_question",
    "qname": "_read_question",
    "nameserver": "_read_winner",
    "port": "_read_winner",
    "expiration": "_read_times",
    "path": "_read_path",
}
"""Attributes that are worked out when they are read, and what does it."""
_A, _AAAA = 1, 28
_PARSE_COST, _RRSET_COST, _RDATA_COST = 4000, 900, 300  # bytes, about


class Answer(dns.resolver.Answer):
    """What `resolve()` gives: a `dns.resolver.Answer` with a `path`.

    All of dnspython's attributes are there; the message is parsed when one of them is
    read for the first time. All hits of one cached entry share one Answer.

    Attributes:
        path: how the answer came to be.
    """

    path: AnswerPath
    qname: dns.name.Name
    rdtype: dns.rdatatype.RdataType
    rdclass: dns.rdataclass.RdataClass
    response: dns.message.QueryMessage
    chaining_result: dns.message.ChainingResult
    canonical_name: dns.name.Name
    rrset: dns.rrset.RRset | None
    nameserver: str | None
    port: int | None
    expiration: float
    # What most answers do without.
    _since: tuple[Attempt, ...] = ()
    _stale_ttl: int = 0
    _detail: str = ""
    _on_parse: Callable[[Question, Reply, int], None] | None = None

    def __init__(  # dnspython's parses at once: not called
        self,
        question: Question,
        reply: Reply,
        source: Source,
        learnt: float,
        clock: Callable[[], float],
        on_parse: Callable[[Question, Reply, int], None] | None = None,
        *,
        since: tuple[Attempt, ...] = (),
        stale_ttl: int = 0,
        detail: str = "",
    ) -> None:
        """Make the shell; for resolverkit's own use.

        Args:
            question: what was asked.
            reply: what came.
            source: where from.
            learnt: when, on `clock`.
            clock: the resolver's clock, for ages.
            on_parse: told of the bytes that what was parsed takes.
            since: attempts that have failed since it was learnt.
            stale_ttl: TTL of the records where they are stale, in seconds.
            detail: for the path.
        """
        self._question = question
        self._reply = reply
        self._source = source
        self._learnt = learnt
        self._clock = clock
        self._on_parse = on_parse
        if since:
            self._since = since
        if detail:
            self._detail = detail
        if stale_ttl:
            self._stale_ttl = stale_ttl
            self.expiration = time.time() + stale_ttl

    def __getattr__(self, attr: str) -> Any:
        if attr in _FORWARDED and self.rrset is not None:
            return getattr(self.rrset, attr)
        if attr not in _MADE or "_reply" not in self.__dict__:
            raise AttributeError(attr)
        getattr(self, _MADE[attr])()
        return self.__dict__[attr]

    def _parse(self) -> None:
        reply = self._reply
        if reply.message is None:
            message = dns.message.from_wire(reply.wire)
            assert isinstance(message, dns.message.QueryMessage)
            reply.message = message
            self._charge(_PARSE_COST + 4 * len(reply.wire))
        self.response = reply.message
        self.chaining_result = reply.message.resolve_chaining()

    def _read_rrset(self) -> None:
        """The addresses by hand, some ten times as fast as parsing the message."""
        question, reply = self._question, self._reply
        plain = reply.kind is Kind.DATA and reply.message is None
        if plain and question.rdtype in {_A, _AAAA} and question.rdclass == 1:
            self.rrset = self._read_addresses()
            self.canonical_name = self.rrset.name
        else:
            chain = self.chaining_result
            self.canonical_name = chain.canonical_name
            self.rrset = chain.answer
            if self._stale_ttl and self.rrset is not None:
                self.rrset = self.rrset.copy()  # type: ignore[no-untyped-call]
        if self._stale_ttl and self.rrset is not None:
            self.rrset.ttl = self._stale_ttl  # RFC 8767 section 4

    def _read_addresses(self) -> dns.rrset.RRset:
        question, reply = self._question, self._reply
        ttl, found = wire.addresses(question, reply)
        name = self.qname
        if reply.final != question.wire_name:
            name = name_from_wire(reply.final)
        rrset = dns.rrset.RRset(name, self.rdclass, self.rdtype)
        make = _make_a if question.rdtype == _A else _make_aaaa
        rrset.items = dict.fromkeys([make(rdata) for rdata in found])
        rrset.ttl = ttl
        self._charge(_RRSET_COST + _RDATA_COST * len(found))
        return rrset

    def _charge(self, cost: int) -> None:
        if self._on_parse is not None:
            self._on_parse(self._question, self._reply, cost)

    def _read_question(self) -> None:
        question = self._question
        self.rdtype, self.rdclass = _enums(question.rdtype, question.rdclass)
        self.qname = question.name

    def _read_winner(self) -> None:
        winner = self._reply.winner
        self.nameserver = self.port = None
        if winner is not None:
            encrypted_by_name = winner.transport == "doh"
            self.nameserver = winner.upstream if encrypted_by_name else winner.address
            self.port = winner.endpoint.port

    def _read_times(self) -> None:
        assert self._clock is not None
        self.expiration = time.time() - (self._clock() - self._learnt) + self._reply.ttl

    def _read_path(self) -> None:
        reply = self._reply
        self.path = AnswerPath(
            self._source,
            reply.winner,
            reply.attempts + self._since,
            reply.ttl,
            self._learnt,
            reply.disputed,
            self._detail,
            self._clock,
            *reply.quorum,
        )

    def __getstate__(self) -> dict[str, Any]:
        """For copy and pickle: everything read, ages as of now, no clock."""
        for attr in _MADE:
            getattr(self, attr)
        state = dict(self.__dict__)
        path: AnswerPath = state["path"]
        age = path.age
        state["path"] = AnswerPath(
            path.source, path.winner, path.attempts, path.ttl, -age,
            path.disputed, path.detail, _frozen, path.asked, path.agreed,
        )  # fmt: skip
        for private in ("_reply", "_question", "_clock", "_on_parse", "_since"):
            state.pop(private, None)
        return state

    def __repr__(self) -> str:
        return f"<Answer {self._source}: {self.rrset}>"


@functools.lru_cache(maxsize=256)
def _enums(
    rdtype: int, rdclass: int
) -> tuple[dns.rdatatype.RdataType, dns.rdataclass.RdataClass]:
    """Type and class as dnspython's."""
    return (
        dns.rdatatype.RdataType.make(rdtype),
        dns.rdataclass.RdataClass.make(rdclass),
    )


def _make_a(rdata: bytes) -> A:
    """An address past the checks of its class, which cost ten times as much.

    The scanner has seen that it has its four octets.
    """
    made = object.__new__(A)
    _set(made, "rdclass", dns.rdataclass.IN)
    _set(made, "rdtype", dns.rdatatype.A)
    _set(made, "rdcomment", None)
    _set(made, "address", dns.ipv4.inet_ntoa(rdata))
    return made


def _make_aaaa(rdata: bytes) -> AAAA:
    """The same for sixteen octets."""
    made = object.__new__(AAAA)
    _set(made, "rdclass", dns.rdataclass.IN)
    _set(made, "rdtype", dns.rdatatype.AAAA)
    _set(made, "rdcomment", None)
    _set(made, "address", dns.ipv6.inet_ntoa(rdata))
    return made


_set = object.__setattr__  # past the immutability of dnspython's classes


def _frozen() -> float:
    """The clock of an answer that was copied: it stands still."""
    return 0.0
