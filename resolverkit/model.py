"""The values that travel through the stack: questions, replies, attempts, paths."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import dns.edns
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype

if TYPE_CHECKING:
    from collections.abc import Callable

Ede: TypeAlias = tuple[int, str]
"""An extended DNS error: INFO-CODE and EXTRA-TEXT (RFC 8914 section 2)."""


class Source(enum.StrEnum):
    """Where an answer came from."""

    UPSTREAM = "upstream"
    CACHE = "cache"
    STALE = "stale"
    HELD = "held"
    LOCAL = "local"


class Outcome(enum.StrEnum):
    """How one attempt ended."""

    DATA = "data"
    NODATA = "no data"
    NXDOMAIN = "no such name"
    YXDOMAIN = "name too long"
    FAILURE = "server failure"
    BLOCKED = "blocked"
    TIMEOUT = "timeout"
    NETWORK = "network error"
    BAD_REPLY = "bad reply"
    TRUNCATED = "truncated"
    OVERTAKEN = "overtaken"


class Kind(enum.IntEnum):
    """What a reply says about its question."""

    DATA = 0
    NODATA = 1
    NXDOMAIN = 2
    YXDOMAIN = 3
    FAILURE = 4


class Question(NamedTuple):
    """What is asked. Made by `resolverkit.wire.make_question`, never by hand.

    Attributes:
        key: what tells one cached answer from another: the lower-cased wire name, type,
            class, one octet of flags (DO, CD), and the view (routes, filtering).
        wire: the whole query, with id 0 and the name in lower case.
        end: where the question section of `wire` ends.
        rdtype: the type asked for.
        rdclass: the class asked for.
        cacheable: False for RD=0, TSIG and a caller's own EDNS options.
        tsig: dnspython's keyring and the MAC of the query, where it is signed.
    """

    key: bytes
    wire: bytes
    end: int
    rdtype: int
    rdclass: int = 1
    cacheable: bool = True
    tsig: tuple[Any, bytes] | None = None

    @property
    def wire_name(self) -> bytes:
        """The lower-cased name in wire format."""
        return self.wire[12 : self.end - 4]

    @property
    def name(self) -> dns.name.Name:
        """The name, parsed."""
        return name_from_wire(self.wire_name)

    def __str__(self) -> str:
        rdtype = dns.rdatatype.to_text(dns.rdatatype.RdataType(self.rdtype))
        return f"{self.name} {rdtype}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One transport to one server: what a path says about who was asked.

    Attributes:
        name: the upstream's URL, as shown in paths and logs.
        transport: ``"udp"``, ``"tcp"``, ``"dot"``, ``"doh"``; ``""`` where unknown.
        operator: who runs the server; two addresses of one operator are one vantage.
        address: the IP address that is asked, where it is known.
        port: its port.
        filtering: True where the user chose it because it blocks names.
        private: True where private names may be sent to it.
        unsigned_block: True where an NXDOMAIN without SOA and without RA is this
            server's way to say "blocked" (Quad9).
    """

    name: str
    transport: str = ""
    operator: str = ""
    address: str = ""
    port: int = 0
    filtering: bool = False
    private: bool = False
    unsigned_block: bool = False


class Attempt:
    """One question put to one transport. Treat it as immutable.

    Attributes:
        endpoint: who was asked.
        started: when, on the loop's clock (seconds).
        elapsed: how long it took until its outcome (seconds).
        outcome: how it ended.
        rcode: the response code, where a reply came.
        ede: extended DNS errors of the reply.
        detail: what went wrong, in words.
        dropped: datagrams that failed the checks of RFC 5452 meanwhile.
        sends: packets sent for it.
    """

    __slots__ = (
        "detail", "dropped", "ede", "elapsed", "endpoint",
        "outcome", "rcode", "sends", "started",
    )  # fmt: skip

    def __init__(
        self,
        endpoint: Endpoint,
        started: float,
        elapsed: float,
        outcome: Outcome,
        rcode: int | None = None,
        ede: tuple[Ede, ...] = (),
        detail: str = "",
        dropped: int = 0,
        sends: int = 1,
    ) -> None:
        self.endpoint: Endpoint = endpoint
        self.started: float = started
        self.elapsed: float = elapsed
        self.outcome: Outcome = outcome
        self.rcode: int | None = rcode
        self.ede: tuple[Ede, ...] = ede
        self.detail: str = detail
        self.dropped: int = dropped
        self.sends: int = sends

    @property
    def upstream(self) -> str:
        """The upstream's URL."""
        return self.endpoint.name

    @property
    def transport(self) -> str:
        """How the question was carried."""
        return self.endpoint.transport

    @property
    def operator(self) -> str:
        """Who runs the server."""
        return self.endpoint.operator

    @property
    def address(self) -> str:
        """The address that was asked."""
        return self.endpoint.address

    def to_dict(self, *, since: float = 0.0) -> dict[str, Any]:
        """The attempt as JSON-ready values; times in milliseconds from `since`."""
        return {
            "upstream": self.endpoint.name,
            "transport": self.endpoint.transport,
            "operator": self.endpoint.operator,
            "address": self.endpoint.address,
            "started_ms": round((self.started - since) * 1000, 3),
            "elapsed_ms": round(self.elapsed * 1000, 3),
            "outcome": str(self.outcome),
            "rcode": None if self.rcode is None else rcode_text(self.rcode),
            "ede": [{"code": code, "text": text} for code, text in self.ede],
            "detail": self.detail,
            "dropped": self.dropped,
            "sends": self.sends,
        }

    def __str__(self) -> str:
        what = self.detail or str(self.outcome)
        if self.outcome is Outcome.FAILURE:
            what += "".join(f", EDE {ede_text(ede)}," for ede in self.ede)
        took = f"{self.elapsed * 1000:.1f} ms"
        return _one_line(f"{self.endpoint.name} {what} after {took}")

    def __repr__(self) -> str:
        return f"<Attempt {self}>"


class Reply:
    """A wire message that answers a question and passed the checks. Immutable by use.

    Attributes:
        wire: the message as received, with whatever id it had.
        kind: data, a denial, or a failure.
        rcode: the extended response code.
        ttl: seconds it may be called fresh: the least TTL on the CNAME chain; for a
            denial min(SOA TTL, MINIMUM, 300); 0 without SOA.
        ede: extended DNS errors, ``(code, text)``.
        ad: the upstream claims that it validated the answer (RFC 6840 section 5.8).
        soa: a denial carries the SOA that RFC 2308 asks for.
        final: the lower-cased wire name at the end of the CNAME chain.
        aliases: the owners of the CNAMEs on the way there, lower-cased.
        ra: recursion available.
        winner: the attempt that this is the reply of.
        disputed: vantages disagreed on it.
        quorum: operators asked, and operators that agreed; (0, 0) where no `Quorum`
            was asked.
        message: dnspython's parse, where somebody needed one.
        plain: NOERROR, addresses at the name asked for, and nothing else: all that was
            read of it can be read of its message again.
    """

    __slots__ = (
        "_attempts", "_quorum", "ad", "aliases", "disputed", "ede", "final", "kind",
        "message", "plain", "ra", "rcode", "soa", "ttl", "winner", "wire",
    )  # fmt: skip

    def __init__(
        self,
        wire: bytes,
        kind: Kind,
        rcode: int,
        ttl: int,
        final: bytes,
        ede: tuple[Ede, ...] = (),
        ad: bool = False,
        soa: bool = False,
        ra: bool = True,
        aliases: tuple[bytes, ...] = (),
        message: dns.message.QueryMessage | None = None,
        plain: bool = False,
    ) -> None:
        self.plain: bool = plain
        self.wire: bytes = wire
        self.kind: Kind = kind
        self.rcode: int = rcode
        self.ttl: int = ttl
        self.final: bytes = final
        self.aliases: tuple[bytes, ...] = aliases
        self.ede: tuple[Ede, ...] = ede
        self.ad: bool = ad
        self.soa: bool = soa
        self.ra: bool = ra
        self._attempts: tuple[Attempt, ...] | None = None
        self.winner: Attempt | None = None
        self.disputed: bool = False
        self.message: dns.message.QueryMessage | None = message

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """How it was learnt, losers included; as a rule there is the winner alone."""
        if self._attempts is None:
            return () if self.winner is None else (self.winner,)
        return self._attempts

    @attempts.setter
    def attempts(self, attempts: tuple[Attempt, ...]) -> None:
        self._attempts = attempts

    @property
    def quorum(self) -> tuple[int, int]:
        """Operators asked, and operators that agreed; most replies have neither."""
        try:
            return self._quorum
        except AttributeError:  # never set: __init__ has no time for it
            return 0, 0

    @quorum.setter
    def quorum(self, quorum: tuple[int, int]) -> None:
        self._quorum: tuple[int, int] = quorum

    @property
    def denial(self) -> bool:
        """NXDOMAIN or NODATA."""
        return self.kind is Kind.NXDOMAIN or self.kind is Kind.NODATA

    def __repr__(self) -> str:
        return f"<Reply {self.kind.name} ttl={self.ttl} {len(self.wire)} bytes>"


class PlainReply:
    """What nearly every reply is: addresses at the name asked for, and nothing else.

    It came with the only packet that was sent, nothing was dropped meanwhile, and the
    server had nothing to add. All else that a `Reply` says can be read of its message,
    and is made only for those who look at it.

    Attributes:
        wire: the message as received, with whatever id it had.
        ttl: seconds it may be called fresh.
        name_size: octets of the name asked for.
        endpoint: who answered; None where that is not known.
        started: when it was asked, on the loop's clock (seconds).
        elapsed: how long the reply took (seconds).
    """

    __slots__ = ("elapsed", "endpoint", "name_size", "started", "ttl", "wire")

    # Made once per miss: an __init__ would take longer than to set what it is given.
    wire: bytes
    ttl: int
    name_size: int
    endpoint: Endpoint | None
    started: float
    elapsed: float

    def reply(self) -> Reply:
        """All that it says; made anew each time."""
        data, end = self.wire, 12 + self.name_size
        flags = data[3]
        reply = Reply(
            data, Kind.DATA, 0, self.ttl, data[12:end],
            ad=flags & 0x20 != 0, ra=flags & 0x80 != 0, plain=True,
        )  # fmt: skip
        if self.endpoint is not None:
            reply.winner = Attempt(
                self.endpoint, self.started, self.elapsed, Outcome.DATA, 0
            )
        return reply


def plain_reply(
    wire: bytes,
    ttl: int,
    name_size: int,
    endpoint: Endpoint | None = None,
    started: float = 0.0,
    elapsed: float = 0.0,
) -> PlainReply:
    """A `PlainReply` with these attributes."""
    plain = PlainReply()
    plain.wire = wire
    plain.ttl = ttl
    plain.name_size = name_size
    plain.endpoint = endpoint
    plain.started = started
    plain.elapsed = elapsed
    return plain


@dataclass(frozen=True, slots=True)
class AnswerPath:
    """How an answer, or an error, came to be.

    ``age`` and ``stale_for`` are worked out when they are read, since a cached answer
    grows older while the caller holds it.

    Attributes:
        source: upstream, cache, stale, held or local.
        winner: the attempt whose reply this is; None for an error or a local answer.
        attempts: all attempts, losers included, in the order of asking; for a cached
            or stale answer those by which it was learnt and those that failed since.
        ttl: seconds it was fresh for, from the moment it was learnt.
        learnt: when it was learnt, on the resolver's clock (seconds).
        disputed: vantages disagreed.
        detail: why a local answer or an error is what it is, in words.
        clock: the resolver's clock.
        asked: operators that a quorum asked; 0 where there was none.
        agreed: how many of them agreed with this answer.
    """

    source: Source
    winner: Attempt | None = None
    attempts: tuple[Attempt, ...] = ()
    ttl: float = 0.0
    learnt: float = 0.0
    disputed: bool = False
    detail: str = ""
    clock: Callable[[], float] | None = field(default=None, repr=False, compare=False)
    asked: int = 0
    agreed: int = 0

    @property
    def age(self) -> float:
        """Seconds since the reply was learnt."""
        if self.clock is None:
            return 0.0
        return max(0.0, self.clock() - self.learnt)

    @property
    def stale_for(self) -> float:
        """Seconds since the TTL ran out; 0 while fresh."""
        return max(0.0, self.age - self.ttl)

    @property
    def upstream(self) -> str | None:
        """The URL of the upstream that answered."""
        return self.winner.endpoint.name if self.winner else None

    @property
    def transport(self) -> str | None:
        """``"udp"``, ``"tcp"``, ``"dot"`` or ``"doh"``."""
        return self.winner.endpoint.transport if self.winner else None

    @property
    def operator(self) -> str | None:
        """Who runs the upstream that answered."""
        return self.winner.endpoint.operator if self.winner else None

    @property
    def address(self) -> str | None:
        """The address that answered."""
        return self.winner.endpoint.address if self.winner else None

    @property
    def rtt(self) -> float | None:
        """Seconds from the winner's question to its reply."""
        return self.winner.elapsed if self.winner else None

    @property
    def ede(self) -> tuple[Ede, ...]:
        """Extended DNS errors of the winner's reply."""
        return self.winner.ede if self.winner else ()

    def to_dict(self) -> dict[str, Any]:
        """The path as JSON-ready values: times in milliseconds, ages in seconds."""
        since = min((a.started for a in self.attempts), default=0.0)
        winner = self.winner
        return {
            "source": str(self.source),
            "upstream": self.upstream,
            "transport": self.transport,
            "operator": self.operator,
            "address": self.address,
            "rtt_ms": None if winner is None else round(winner.elapsed * 1000, 3),
            "age": round(self.age, 3),
            "stale_for": round(self.stale_for, 3),
            "disputed": self.disputed,
            "asked": self.asked,
            "agreed": self.agreed,
            "detail": self.detail,
            "ede": [{"code": code, "text": text} for code, text in self.ede],
            "attempts": [a.to_dict(since=since) for a in self.attempts],
        }

    def __str__(self) -> str:
        return _one_line("; ".join(self._parts()))

    def _parts(self) -> list[str]:
        parts = []
        if self.source is Source.UPSTREAM:
            parts.append("upstream" if self.winner else "no upstream answered")
        elif self.source is Source.LOCAL:
            parts.append("local")
        else:
            parts.append(f"{self.source}, {self.age:.0f} s old")
            if self.stale_for:
                parts[0] += f", {self.stale_for:.0f} s past its TTL"
        if self.winner:
            parts[0] += f": {_told(self.winner)}"
        others = [a for a in self.attempts if a is not self.winner]
        if self.detail and not any(self.detail == a.detail for a in others):
            parts.append(self.detail)
        if self.asked:
            parts.append(f"{self.agreed} of {self.asked} agree")
        if self.disputed:
            parts.append("disputed")
        parts += [f"EDE {ede_text(ede)}" for ede in self.ede]
        if others:
            tried = "also tried " if self.winner else "tried "
            parts.append(tried + ", ".join(map(str, others)))
        return parts


def _one_line(text: str) -> str:
    """The text without line breaks and escape sequences; some of it is a server's."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )


def _told(winner: Attempt) -> str:
    who = winner.endpoint
    operator = f" ({who.operator})" if who.operator else ""
    over = f" over {who.transport}" if who.transport else ""
    return f"{who.name}{operator}{over} in {winner.elapsed * 1000:.1f} ms"


def name_from_wire(wire_name: bytes) -> dns.name.Name:
    """A wire name without pointers as dnspython's.

    Its labels have been checked where they came from, so that they are not checked
    again, as the class's own constructor does: that takes most of the time.
    """
    labels = []
    start = 0
    while length := wire_name[start]:
        labels.append(wire_name[start + 1 : start + 1 + length])
        start += 1 + length
    labels.append(b"")
    name = object.__new__(dns.name.Name)
    object.__setattr__(name, "labels", tuple(labels))  # the class is immutable
    return name


def rcode_text(rcode: int) -> str:
    """The mnemonic of an extended response code."""
    return dns.rcode.to_text(dns.rcode.Rcode(rcode))


def ede_text(ede: Ede) -> str:
    """An extended DNS error as ``6 (DNSSEC Bogus): text``."""
    code, text = ede
    return dns.edns.EDEOption(dns.edns.EDECode.make(code), text or None).to_text()[4:]
