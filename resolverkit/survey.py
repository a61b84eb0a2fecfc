"""What every vantage says on one question, each asked for itself, and the comparison.

Nothing is cached, and no flight is joined: a survey is about the vantages, not about
the answer. A vantage that stands alone is not called a liar at once: everybody is asked
once more, and what each said both times is merged, for address sets rotate. Each time
has half of the lifetime.
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import dns.message

from resolverkit import health
from resolverkit.comparison import Verdict, compare
from resolverkit.errors import NetworkError, QueryTimeout, UpstreamError
from resolverkit.groups.group import Group
from resolverkit.model import (
    Endpoint,
    Kind,
    Outcome,
    Reply,
    ede_text,
    name_from_wire,
    rcode_text,
)
from resolverkit.transports.outcome import error_outcome
from resolverkit.upstream import start

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from resolverkit.comparison import Comparison
    from resolverkit.model import Attempt, Ede, Question
    from resolverkit.upstream import Upstream

_Result: TypeAlias = Reply | UpstreamError
_DENIALS = frozenset({Outcome.NODATA, Outcome.NXDOMAIN, Outcome.YXDOMAIN})


@dataclass(frozen=True, slots=True)
class Vantage:
    """What one vantage says.

    Attributes:
        name: the upstream's URL.
        operator: who runs it; empty where nobody knows.
        transport: ``"udp"``, ``"tcp"``, ``"dot"``, ``"doh"``.
        address: the address that was asked, where it is known.
        outcome: how the (first) question to it ended.
        rcode: the response code, None where no reply came.
        ttl: seconds for which the reply may be called fresh, None where none came.
        records: its data in text, sorted; of both times where it was asked twice.
        cname: the name at the end of its aliases; empty where there are none.
        ede: extended DNS errors of the reply.
        elapsed: seconds until the outcome.
        detail: what went wrong, in words.
        verdict: what the comparison says of it.
    """

    name: str
    operator: str
    transport: str
    address: str
    outcome: Outcome
    rcode: str | None
    ttl: int | None
    records: tuple[str, ...]
    cname: str
    ede: tuple[Ede, ...]
    elapsed: float
    detail: str
    verdict: Verdict

    @property
    def answered(self) -> bool:
        """Whether it had something conclusive to say."""
        return self.ttl is not None

    @property
    def who(self) -> str:
        """Its name, and its operator if that is known."""
        return f"{self.name} ({self.operator})" if self.operator else self.name

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values; times in milliseconds."""
        return {
            "upstream": self.name,
            "operator": self.operator,
            "transport": self.transport,
            "address": self.address,
            "outcome": str(self.outcome),
            "rcode": self.rcode,
            "ttl": self.ttl,
            "records": list(self.records),
            "cname": self.cname,
            "ede": [{"code": code, "text": text} for code, text in self.ede],
            "elapsed_ms": round(self.elapsed * 1000, 3),
            "detail": self.detail,
            "verdict": str(self.verdict),
        }

    def __str__(self) -> str:
        told = ", ".join(self.records) or self.detail or str(self.outcome)
        via = f" by {self.cname}" if self.cname else ""
        ede = "".join(f", EDE {ede_text(ede)}" for ede in self.ede)
        took = f"{self.elapsed * 1000:.1f} ms"
        return f"{self.who}: {told}{via}{ede}, in {took}: {self.verdict}"


@dataclass(frozen=True, slots=True)
class Survey:
    """What every vantage says on one question, and what that comes to.

    ``str()`` is the sentence with a line for each vantage, `to_dict` is JSON-ready.

    Attributes:
        question: what was asked.
        vantages: what each said, in the order in which they were given; none where the
            name never leaves the machine.
        verdict: of all: ``"agree"``, ``"differ as CDNs do"``, ``"denies"``,
            ``"filters"`` and ``"lies alone"`` where one or several do, ``"unknown"``.
        sentence: the verdict for people, with who it is about.
        rounds: how often they were asked: twice where one stood alone.
    """

    question: Question
    vantages: tuple[Vantage, ...]
    verdict: Verdict
    sentence: str
    rounds: int = 1

    @property
    def answered(self) -> tuple[Vantage, ...]:
        """The vantages that had something conclusive to say."""
        return tuple(vantage for vantage in self.vantages if vantage.answered)

    @property
    def operators(self) -> int:
        """How many operators answered."""
        return len({vantage.operator or vantage.name for vantage in self.answered})

    @property
    def denied(self) -> bool:
        """Whether all who answered deny it."""
        outcomes = {vantage.outcome for vantage in self.answered}
        return bool(outcomes) and outcomes <= _DENIALS

    def to_dict(self) -> dict[str, Any]:
        """The survey as JSON-ready values."""
        name, _, rdtype = str(self.question).rpartition(" ")
        return {
            "name": name,
            "type": rdtype,
            "verdict": str(self.verdict),
            "sentence": self.sentence,
            "rounds": self.rounds,
            "vantages": [vantage.to_dict() for vantage in self.vantages],
        }

    def __str__(self) -> str:
        return "\n".join(
            [f"{self.question}: {self.sentence}", *map(str, self.vantages)]
        )


async def take_survey(
    question: Question, upstream: Upstream, *, until: float
) -> Survey:
    """Ask every vantage of an upstream.

    Args:
        question: what to ask.
        upstream: a group, whose members are asked each for itself.
        until: loop time at which it has to end. Half of the time until then is for
            the first round, so that nobody is called a liar for want of a second.
    """
    asked = list(_vantages(upstream))
    halfway = (asyncio.get_running_loop().time() + until) / 2
    rounds = [await _ask(asked, question, halfway)]
    comparison = _compare(question, rounds)
    if comparison.verdict is Verdict.LIES:
        rounds.append(await _ask(asked, question, until))
        comparison = _compare(question, rounds)
    vantages = tuple(
        _tell(*told)
        for told in zip(asked, zip(*rounds, strict=True), comparison.each, strict=True)
    )
    sentence = _sentence(comparison.verdict, vantages)
    return Survey(question, vantages, comparison.verdict, sentence, len(rounds))


def local_survey(question: Question, why: str) -> Survey:
    """The survey of a name that nobody is asked for."""
    return Survey(question, (), Verdict.UNKNOWN, why, 0)


# --- asking --------------------------------------------------------------------------


def _vantages(upstream: Upstream) -> Iterator[Upstream]:
    """The transports in a group, and in groups in it."""
    if not isinstance(upstream, Group):
        yield upstream
        return
    for member in upstream.upstreams:
        yield from _vantages(member)


async def _ask(
    upstreams: Sequence[Upstream], question: Question, until: float
) -> list[_Result]:
    """Ask all at once, and wait for all of them."""
    loop = asyncio.get_running_loop()
    asked = [Context().run(start, upstream, question) for upstream in upstreams]
    late = list(range(len(asked)))
    pause = health.COLD_DELAY
    try:
        while late and (patience := min(pause, until - loop.time())) > 0:
            await asyncio.wait([asked[i] for i in late], timeout=patience)
            late = [i for i in late if not asked[i].done()]
            if patience == pause:  # a packet may be lost; transports know their limit
                for i in late:
                    resend = getattr(upstreams[i], "resend", None)
                    if resend is not None:
                        resend(asked[i])
            pause *= 2
    finally:
        for future in asked:
            future.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    return [_result(future) for future in asked]


def _result(future: asyncio.Future[Reply]) -> _Result:
    if future.cancelled():
        return QueryTimeout("no reply within half of the lifetime")
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, UpstreamError):
        return error
    return NetworkError(f"{type(error).__name__}: {error}")  # of a user's own class


def _compare(question: Question, rounds: Sequence[Sequence[_Result]]) -> Comparison:
    replies = [[x if isinstance(x, Reply) else None for x in got] for got in rounds]
    return compare(question, *replies)


# --- telling -------------------------------------------------------------------------


def _tell(upstream: Upstream, results: Sequence[_Result], verdict: Verdict) -> Vantage:
    """What a vantage said, in all rounds; times are those of the first reply."""
    replies = [result for result in results if isinstance(result, Reply)]
    reply = replies[0] if replies else None
    first = results[0]
    attempt = _attempt(reply or first)
    endpoint = getattr(upstream, "endpoint", None) or Endpoint(upstream.name)
    if attempt is not None:
        endpoint = attempt.endpoint
    if reply is not None:
        outcome = Outcome[reply.kind.name]
    else:
        assert isinstance(first, UpstreamError)  # there is no reply among them
        outcome = error_outcome(first)
    records = {text for each in replies for text in _records(each)}
    rcode = reply.rcode if reply else attempt.rcode if attempt else None
    return Vantage(
        name=endpoint.name,
        operator=endpoint.operator,
        transport=endpoint.transport,
        address=endpoint.address,
        outcome=outcome,
        rcode=None if rcode is None else rcode_text(rcode),
        ttl=reply.ttl if reply else None,
        records=tuple(sorted(records)),
        cname=str(name_from_wire(reply.final)) if reply and reply.aliases else "",
        ede=attempt.ede if attempt else (),
        elapsed=attempt.elapsed if attempt else 0.0,
        detail="" if reply else str(first),
        verdict=verdict,
    )


def _attempt(result: _Result) -> Attempt | None:
    """The attempt that a result ended, where its upstream tells."""
    if isinstance(result, Reply):
        return result.winner
    return result.attempts[-1] if result.attempts else None


def _records(reply: Reply) -> Iterator[str]:
    if reply.kind is not Kind.DATA:
        return
    message = reply.message or dns.message.from_wire(reply.wire)
    assert isinstance(message, dns.message.QueryMessage)
    for rdata in message.resolve_chaining().answer or ():
        yield str(rdata)


_SENTENCES = {  # of one, and of several
    Verdict.DENIES: ("denies it, others do not", "deny it, others do not"),
    Verdict.FILTERS: ("filters it", "filter it"),
    Verdict.LIES: (
        "lies alone, with nothing in common with the others",
        "lie alone, with nothing in common with the others",
    ),
}


def _sentence(verdict: Verdict, vantages: Sequence[Vantage]) -> str:
    answered = [vantage for vantage in vantages if vantage.answered]
    silent = len(vantages) - len(answered)
    rest = f"; {silent} of {len(vantages)} did not answer" if silent else ""
    if not answered:
        return f"none of {len(vantages)} vantages answered"
    if verdict in _SENTENCES:
        singled = [vantage for vantage in answered if vantage.verdict is verdict]
        who = ", ".join(vantage.who for vantage in singled)
        what = _SENTENCES[verdict][len(singled) > 1]
        return f"{len(singled)} of {len(answered)} {what}: {who}{rest}"
    if verdict is Verdict.UNKNOWN:
        return _undecided(answered) + rest
    if verdict is Verdict.AGREE and answered[0].outcome in _DENIALS:
        return f"all {len(answered)} deny it: {answered[0].outcome}{rest}"
    return f"all {len(answered)} {verdict}{rest}"


def _undecided(answered: Sequence[Vantage]) -> str:
    operators = {vantage.operator or vantage.name for vantage in answered}
    if len(operators) > 1:
        return "they have different data, and nobody can tell which is right"
    (operator,) = operators
    return f"there is nothing to compare: only {operator} answered"
