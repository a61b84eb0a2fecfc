"""Ask every vantage one question, each for itself, and compare what they say.

Nothing is cached, and no flight is joined: a survey is about the vantages, not about
the answer. A vantage that stands alone is not called a liar at once: everybody is asked
once more, and what each said both times is merged, for address sets rotate. Each time
has half of the lifetime.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeAlias

import dns.message

from resolverkit import health
from resolverkit.comparison import Verdict, compare
from resolverkit.errors import NetworkError, QueryTimeout, UpstreamError
from resolverkit.groups.group import Group
from resolverkit.listener import error_of, start
from resolverkit.model import (
    Endpoint,
    Kind,
    Outcome,
    Reply,
    name_from_wire,
    rcode_text,
)
from resolverkit.survey import Survey, Vantage, sentence
from resolverkit.transports.outcome import error_outcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from resolverkit.comparison import Comparison
    from resolverkit.model import Attempt, Question
    from resolverkit.upstream import Upstream

_Result: TypeAlias = Reply | UpstreamError


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
    said = sentence(comparison.verdict, vantages)
    return Survey(question, vantages, comparison.verdict, said, len(rounds))


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
    asked = [start(upstream, question) for upstream in upstreams]
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
    error = error_of(future)
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
