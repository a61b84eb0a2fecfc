"""The Answer that a user gets: dnspython's, parsed when it is read, with a path."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.resolver
import dns.rrset

from resolverkit.model import AnswerPath, Source

if TYPE_CHECKING:
    from collections.abc import Callable

    from resolverkit.model import Attempt, Question, Reply

_PARSED = frozenset({"response", "chaining_result", "canonical_name", "rrset"})
_FORWARDED = frozenset({"name", "ttl", "covers"})
_LAZY = _PARSED | {"qname", "nameserver", "port", "expiration", "path"}


class Answer(dns.resolver.Answer):
    """What `resolve()` gives: a `dns.resolver.Answer` with a `path`.

    All of dnspython's attributes are there; the message is parsed when one of them is
    read for the first time. All hits of one cached entry share one Answer.

    Attributes:
        path: how the answer came to be.
    """

    path: AnswerPath

    def __init__(  # dnspython's parses at once: not called
        self,
        question: Question,
        reply: Reply,
        source: Source,
        *,
        learnt: float,
        clock: Callable[[], float],
        since: tuple[Attempt, ...] = (),
        stale_ttl: int = 0,
        detail: str = "",
        on_parse: Callable[[Question, Reply], None] | None = None,
    ) -> None:
        """Make the shell; for resolverkit's own use.

        Args:
            question: what was asked.
            reply: what came.
            source: where from.
            learnt: when, on `clock`.
            clock: the resolver's clock, for ages.
            since: attempts that have failed since it was learnt.
            stale_ttl: TTL of the records where they are stale, in seconds.
            detail: for the path.
            on_parse: called once when dnspython has parsed the message.
        """
        self.rdtype = dns.rdatatype.RdataType.make(question.rdtype)
        self.rdclass = dns.rdataclass.RdataClass.make(question.rdclass)
        self._question = question
        self._reply = reply
        self._source = source
        self._learnt = learnt
        self._clock: Callable[[], float] | None = clock
        self._since = since
        self._stale_ttl = stale_ttl
        self._detail = detail
        self._on_parse = on_parse
        if stale_ttl:
            self.expiration = time.time() + stale_ttl

    def __getattr__(self, attr: str) -> Any:
        if attr in _FORWARDED and self.rrset is not None:
            return getattr(self.rrset, attr)
        if attr not in _LAZY or "_reply" not in self.__dict__:
            raise AttributeError(attr)
        if attr in _PARSED:
            self._parse()
        else:
            self.__dict__[attr] = getattr(self, f"_make_{attr}")()
        return self.__dict__[attr]

    def _parse(self) -> None:
        reply = self._reply
        if reply.message is None:
            message = dns.message.from_wire(reply.wire)
            assert isinstance(message, dns.message.QueryMessage)
            reply.message = message
            if self._on_parse is not None:
                self._on_parse(self._question, reply)
        chain = reply.message.resolve_chaining()
        self.response = reply.message
        self.chaining_result = chain
        self.canonical_name = chain.canonical_name
        self.rrset = chain.answer
        if self._stale_ttl and chain.answer is not None:  # RFC 8767 section 4
            self.rrset = chain.answer.copy()  # type: ignore[no-untyped-call]
            self.rrset.ttl = self._stale_ttl

    def _make_qname(self) -> dns.name.Name:
        return self._question.name

    def _make_nameserver(self) -> str | None:
        winner = self._reply.winner
        if winner is None:
            return None
        return winner.address if winner.transport != "doh" else winner.upstream

    def _make_port(self) -> int | None:
        winner = self._reply.winner
        return winner.endpoint.port if winner else None

    def _make_expiration(self) -> float:
        assert self._clock is not None
        return time.time() - (self._clock() - self._learnt) + self._reply.ttl

    def _make_path(self) -> AnswerPath:
        reply = self._reply
        return AnswerPath(
            self._source,
            reply.winner,
            reply.attempts + self._since,
            reply.ttl,
            self._learnt,
            reply.disputed,
            self._detail,
            self._clock,
        )

    def __getstate__(self) -> dict[str, Any]:
        """For copy and pickle: everything read, ages as of now, no clock."""
        for attr in _LAZY:
            getattr(self, attr)
        state = dict(self.__dict__)
        path: AnswerPath = state["path"]
        age = path.age
        state["path"] = AnswerPath(
            path.source, path.winner, path.attempts, path.ttl, -age,
            path.disputed, path.detail, _frozen,
        )  # fmt: skip
        for private in ("_reply", "_question", "_clock", "_on_parse", "_since"):
            state.pop(private, None)
        return state

    def __repr__(self) -> str:
        return f"<Answer {self._source}: {self.rrset}>"


def _frozen() -> float:
    """The clock of an answer that was copied: it stands still."""
    return 0.0
