"""The Answer that a user gets: dnspython's, parsed when it is read, with a path."""

from __future__ import annotations

import functools
import time
from operator import attrgetter
from typing import TYPE_CHECKING, Any

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
    from collections.abc import Callable, Iterator

    from dns.rdata import Rdata

    from resolverkit.entry import Entry
    from resolverkit.memory import Memory
    from resolverkit.model import Attempt

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
_IN = dns.rdataclass.IN
_A, _AAAA = dns.rdatatype.A, dns.rdatatype.AAAA
_DATA = Kind.DATA  # attributes of an enum are slow to look up on Python 3.11
_UPSTREAM = Source.UPSTREAM
_new = object.__new__
_PARSE_COST, _RRSET_COST = 4000, 750  # bytes, about
_RDATAS_COST, _RDATA_COST = 250, 250


class _Read:
    """What was read of an Answer, and what a stale one is told beside its entry."""

    __slots__ = (*_MADE, "detail", "rdatas", "since", "stale_ttl")

    qname: dns.name.Name
    rdtype: dns.rdatatype.RdataType
    rdclass: dns.rdataclass.RdataClass
    rrset: dns.rrset.RRset | None
    canonical_name: dns.name.Name

    def __init__(
        self, since: tuple[Attempt, ...] = (), stale_ttl: int = 0, detail: str = ""
    ) -> None:
        # Addresses, while nobody has asked for more of the RRset than them.
        self.rdatas: list[Rdata] | None = None
        self.since = since
        self.stale_ttl = stale_ttl
        self.detail = detail


class Answer(dns.resolver.Answer):
    """What `resolve()` gives: a `dns.resolver.Answer` with a `path`.

    All of dnspython's attributes are there; the message is parsed when one of them is
    read for the first time. All hits of one cached entry share one Answer.

    Attributes:
        path: how the answer came to be.
    """

    # Nothing else of one not read yet: of hits there are many that nobody reads.
    __slots__ = ("_entry", "_memory", "_read", "_source")

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

    def __init__(  # dnspython's parses at once: not called
        self,
        entry: Entry,
        source: Source,
        memory: Memory,
        *,
        stale_ttl: int = 0,
        detail: str = "",
    ) -> None:
        """Make the shell; for resolverkit's own use.

        Args:
            entry: what came, and when.
            source: where from.
            memory: has the clock for ages, and is told of what is parsed.
            stale_ttl: TTL of the records where they are stale, in seconds.
            detail: for the path.
        """
        self._entry = entry
        self._source = source
        self._memory = memory
        self._read: _Read | None = None
        if stale_ttl or detail or entry.more is not None:
            self._read = _Read(entry.since, stale_ttl, detail)
            if stale_ttl:
                self.expiration = time.time() + stale_ttl

    @property
    def entry(self) -> Entry:
        """What it was made of; for resolverkit's own use."""
        return self._entry

    def __getitem__(self, i: Any) -> Any:
        rdatas = self._addresses()
        return super().__getitem__(i) if rdatas is None else rdatas[i]  # type: ignore[no-untyped-call]

    def __iter__(self) -> Iterator[Any]:
        rdatas = self._addresses()
        return super().__iter__() if rdatas is None else iter(rdatas)

    def __len__(self) -> int:
        rdatas = self._addresses()
        return super().__len__() if rdatas is None else len(rdatas)

    def _addresses(self) -> list[Rdata] | None:
        """What its RRset has, as long as that was not made: a tenth of the work."""
        read = self._read
        if read is not None:
            return read.rdatas
        entry = self._entry
        data = entry.plain
        if data is None:
            return None
        self._read = read = _Read()
        make, size = _MAKERS[entry.rdtype]
        found = wire.plain_addresses(entry.name_size, size, data)
        read.rdatas = rdatas = [make(rdata) for rdata in found]
        self._memory.parsed(self, _RDATAS_COST + _RDATA_COST * len(rdatas))
        return rdatas

    def __getattr__(self, attr: str) -> Any:
        if attr in _MADE:
            if self._read is None:
                self._read = _Read()
            getattr(self, _MADE[attr])()
            return getattr(self._read, attr)
        if attr in _FORWARDED and self.rrset is not None:
            return getattr(self.rrset, attr)
        raise AttributeError(attr)

    def _parse(self) -> None:
        reply = self._entry.reply
        message = reply.message
        if message is None:
            parsed = dns.message.from_wire(reply.wire)
            assert isinstance(parsed, dns.message.QueryMessage)
            message = parsed
            self._memory.parsed(self, _PARSE_COST + 4 * len(reply.wire))
        self.response = message
        self.chaining_result = message.resolve_chaining()

    def _read_rrset(self) -> None:
        """The addresses by hand, some ten times as fast as parsing the message."""
        entry, read = self._entry, self._read
        assert read is not None
        if not hasattr(read, "qname"):
            self._read_question()
        scanned = entry.kind is _DATA and not hasattr(read, "response")
        if scanned and read.rdtype in _MAKERS and read.rdclass == _IN:
            read.rrset = rrset = self._read_addresses(read)
            read.canonical_name = rrset.name
        else:
            chain = self.chaining_result
            self.canonical_name = chain.canonical_name
            self.rrset = chain.answer
            if read.stale_ttl and self.rrset is not None:
                self.rrset = self.rrset.copy()  # type: ignore[no-untyped-call]
        if read.stale_ttl and self.rrset is not None:
            self.rrset.ttl = read.stale_ttl  # RFC 8767 section 4

    def _read_addresses(self, read: _Read) -> dns.rrset.RRset:
        entry, name = self._entry, read.qname
        make, size = _MAKERS[read.rdtype]
        data, rdatas = entry.plain, read.rdatas
        if data is not None:
            ttl = wire.plain_ttl_shown(entry.name_size, size, data)
            if rdatas is None:
                found = wire.plain_addresses(entry.name_size, size, data)
        else:
            reply = entry.reply
            if reply.final != entry.name:
                name = name_from_wire(reply.final)
            ttl, found = wire.addresses(
                entry.name, read.rdtype, reply.final, reply.wire
            )
        cost = _RRSET_COST
        if rdatas is None:
            rdatas = [make(rdata) for rdata in found]
            cost += _RDATA_COST * len(rdatas)
        read.rdatas = None  # from now on the RRset, which may be changed, has them
        rrset = dns.rrset.RRset(name, read.rdclass, read.rdtype)
        rrset.items = dict.fromkeys(rdatas)
        rrset.ttl = ttl
        self._memory.parsed(self, cost)
        return rrset

    def _read_question(self) -> None:
        entry, read = self._entry, self._read
        assert read is not None
        owner = entry.name
        rdclass = entry.key[len(owner) + 2 : len(owner) + 4]
        read.rdtype, read.rdclass = _enums(entry.rdtype, rdclass)
        read.qname = name_from_wire(owner)

    def _read_winner(self) -> None:
        winner = self._entry.reply.winner
        self.nameserver = self.port = None
        if winner is not None:
            encrypted_by_name = winner.transport == "doh"
            self.nameserver = winner.upstream if encrypted_by_name else winner.address
            self.port = winner.endpoint.port

    def _read_times(self) -> None:
        age = self._memory.clock() - self._entry.learnt
        self.expiration = time.time() - age + self._entry.ttl

    def _read_path(self) -> None:
        entry, reply, read = self._entry, self._entry.reply, self._read
        assert read is not None
        self.path = AnswerPath(
            self._source,
            reply.winner,
            reply.attempts + read.since,
            reply.ttl,
            entry.learnt,
            reply.disputed,
            read.detail,
            self._memory.clock,
            *reply.quorum,
        )

    def __getstate__(self) -> dict[str, Any]:
        """For copy and pickle: everything read, ages as of now, no clock."""
        state = {attr: getattr(self, attr) for attr in _MADE}
        path: AnswerPath = state["path"]
        state["path"] = AnswerPath(
            path.source, path.winner, path.attempts, path.ttl, -path.age,
            path.disputed, path.detail, _frozen, path.asked, path.agreed,
        )  # fmt: skip
        return self.__dict__ | state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._read = _Read()
        for attr, value in state.items():
            setattr(self, attr, value)

    def __repr__(self) -> str:
        return f"<Answer {self.path.source}: {self.rrset}>"


def new_answer(entry: Entry, memory: Memory) -> Answer:
    """The Answer of what has just come; as its `__init__` makes it, and cheaper."""
    answer = _new(Answer)
    answer._entry = entry
    answer._source = _UPSTREAM
    answer._memory = memory
    answer._read = None
    return answer


def _put(attr: str) -> Callable[[Answer, Any], None]:
    def put(answer: Answer, value: Any) -> None:
        if answer._read is None:
            answer._read = _Read()
        answer._read.rdatas = None
        setattr(answer._read, attr, value)

    return put


for _attr in _MADE:  # what was not read yet goes to Answer.__getattr__
    setattr(Answer, _attr, property(attrgetter(f"_read.{_attr}"), _put(_attr)))


@functools.lru_cache(maxsize=256)
def _enums(
    rdtype: int, rdclass: bytes
) -> tuple[dns.rdatatype.RdataType, dns.rdataclass.RdataClass]:
    """Type and class (two octets) as dnspython's."""
    return (
        dns.rdatatype.RdataType.make(rdtype),
        dns.rdataclass.RdataClass.make(int.from_bytes(rdclass, "big")),
    )


def _make_a(rdata: bytes) -> A:
    """An address past the checks of its class, which cost ten times as much.

    The scanner has seen that it has its four octets.
    """
    made = object.__new__(A)
    _set(made, "rdclass", _IN)
    _set(made, "rdtype", _A)
    _set(made, "rdcomment", None)
    first, second, third, fourth = rdata
    _set(made, "address", f"{first}.{second}.{third}.{fourth}")
    return made


def _make_aaaa(rdata: bytes) -> AAAA:
    """The same for sixteen octets."""
    made = object.__new__(AAAA)
    _set(made, "rdclass", _IN)
    _set(made, "rdtype", _AAAA)
    _set(made, "rdcomment", None)
    _set(made, "address", dns.ipv6.inet_ntoa(rdata))
    return made


_MAKERS = {1: (_make_a, 4), 28: (_make_aaaa, 16)}
"""By type of address: what makes one of its octets, and how many these are."""
_set = object.__setattr__  # past the immutability of dnspython's classes


def _frozen() -> float:
    """The clock of an answer that was copied: it stands still."""
    return 0.0
