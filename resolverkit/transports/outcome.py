"""What every transport does with the bytes, or the error, that end an attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from resolverkit import wire
from resolverkit.errors import BadReply, ServerFailure, UpstreamError
from resolverkit.model import (
    Attempt,
    Kind,
    Outcome,
    PlainReply,
    plain_reply,
    rcode_text,
)

if TYPE_CHECKING:
    from resolverkit.model import Endpoint, Question, Reply

_OUTCOMES = {
    Kind.DATA: Outcome.DATA,
    Kind.NODATA: Outcome.NODATA,
    Kind.NXDOMAIN: Outcome.NXDOMAIN,
    Kind.YXDOMAIN: Outcome.YXDOMAIN,
    Kind.FAILURE: Outcome.FAILURE,
}

_Error = TypeVar("_Error", bound=UpstreamError)


def conclude(
    question: Question,
    data: bytes,
    endpoint: Endpoint,
    started: float,
    now: float,
    dropped: int = 0,
    sends: int = 1,
) -> Reply | PlainReply:
    """Read the message that ends an attempt.

    Args:
        question: what was asked.
        data: the message; its id has been matched.
        endpoint: who was asked.
        started: loop time at which the question was sent.
        now: loop time.
        dropped: datagrams that failed the checks meanwhile.
        sends: packets sent.

    Returns:
        The reply, with its one attempt.

    Raises:
        BadReply: the message is none.
        ServerFailure: it concludes nothing.
    """
    ttl = wire.plain_ttl(question, data)
    if ttl >= 0:
        size, elapsed = question.end - 16, now - started
        plain = plain_reply(data, ttl, size, endpoint, started, elapsed)
        if sends == 1 and not dropped:
            return plain
        reply = plain.reply()
        reply.winner = Attempt(
            endpoint, started, elapsed, Outcome.DATA, 0, (), "", dropped, sends
        )
        return reply
    try:
        reply = wire.read_unusual(question, data)
    except BadReply as error:
        raise failed(error, endpoint, started, now, dropped, sends) from None
    attempt = Attempt(
        endpoint, started, now - started, _OUTCOMES[reply.kind],
        reply.rcode, reply.ede, "", dropped, sends,
    )  # fmt: skip
    reply.winner = attempt
    if reply.kind is Kind.FAILURE:
        attempt.detail = rcode_text(reply.rcode)
        raise ServerFailure(reply.rcode, reply.ede, reply.attempts)
    return reply


def conclude_in_full(
    question: Question,
    data: bytes,
    endpoint: Endpoint,
    started: float,
    now: float,
    sends: int = 1,
) -> Reply:
    """As `conclude`, for those who want all that a reply says."""
    reply = conclude(question, data, endpoint, started, now, 0, sends)
    return reply.reply() if isinstance(reply, PlainReply) else reply


def failed(
    error: _Error,
    endpoint: Endpoint,
    started: float,
    now: float,
    dropped: int = 0,
    sends: int = 1,
) -> _Error:
    """The same error, with the attempt that it ends."""
    outcome = error_outcome(error)
    detail = "" if outcome is Outcome.TIMEOUT else str(error)
    error.attempts = (
        Attempt(
            endpoint, started, now - started, outcome, None, (), detail, dropped, sends
        ),
    )
    return error


def error_outcome(error: UpstreamError) -> Outcome:
    """The outcome that an attempt with this error has."""
    return _BY_ERROR.get(type(error).__name__, Outcome.NETWORK)


_BY_ERROR = {
    "QueryTimeout": Outcome.TIMEOUT,
    "NetworkError": Outcome.NETWORK,
    "BadReply": Outcome.BAD_REPLY,
    "ServerFailure": Outcome.FAILURE,
}
