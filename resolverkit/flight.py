"""Who waits for what: a flight, the callers on it, and what they are told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from resolverkit.errors import NetworkError, QueryTimeout

if TYPE_CHECKING:
    from asyncio import Future

    from resolverkit.cache import Cache
    from resolverkit.entry import Entry
    from resolverkit.errors import UpstreamError
    from resolverkit.listener import UnderWay
    from resolverkit.model import PlainReply, Question, Reply, Source
    from resolverkit.policy import StalePolicy
    from resolverkit.record import Record
    from resolverkit.upstream import Upstream


class Served:
    """What a caller gets: an entry, where it came from, and what to tell of it."""

    __slots__ = ("detail", "entry", "source")

    entry: Entry
    source: Source
    detail: str


def serve(entry: Entry, source: Source, detail: str = "") -> Served:
    """Give an entry to callers; a constructor would take three times as long."""
    served = Served()
    served.entry = entry
    served.source = source
    served.detail = detail
    return served


class Call:
    """What callers want who have the same options.

    Attributes:
        stale: their policy.
        lifetime: seconds that each of their calls may take.
        refresh: go out even if a fresh entry is there.
        variant: tells flights apart that go other ways (TCP, a source address).
    """

    stale: StalePolicy
    lifetime: float
    refresh = False
    variant = b""


class Observer(Protocol):
    """Is told of flights; it must not raise.

    Attributes:
        hooked: somebody wants to know of each start and each answer.
    """

    hooked: bool

    def started(self, question: Question) -> None:
        """A question goes out."""

    def landed(self, question: Question, served: Served) -> None:
        """It was answered, or denied."""

    def failed(
        self, question: Question, error: UpstreamError, entry: Entry | None
    ) -> None:
        """It was not; `entry` can be served in place of an answer."""


class LifetimeOver(QueryTimeout):
    """The caller's lifetime ended before the flight did."""


class Waiter(Protocol):
    """One caller on a flight, and its own entry among the deadlines.

    A caller has a Future; one of another kind is told at once, and not on the next turn
    of the loop.

    Attributes:
        call: what it wants.
        due: loop time at which its lifetime ends.
        entry: what it can be served, if anything.
        flight: what it waits for.
    """

    call: Call
    due: float
    entry: Entry | None
    flight: Flight

    @property
    def waits(self) -> bool:
        """Whether it still does."""
        ...

    def expire(self) -> None:
        """Its time is over: have `Cache.release` tell it."""

    def done(self) -> bool:
        """Whether it was told, or does not want to know any more."""

    def set_result(self, served: Served, /) -> None:
        """Tell it what it is served, if it still waits."""

    def set_exception(self, error: UpstreamError, /) -> None:
        """Tell it the error."""

    def cancel(self) -> object:
        """Have it wait no longer."""


class Caller:
    """Who waits by itself, for a Future.

    The Future is one of asyncio's own and no subclass, since a task waits for that in
    half the steps.
    """

    __slots__ = ("call", "due", "entry", "flight", "future")

    call: Call
    due: float
    entry: Entry | None
    flight: Flight
    future: Future[Served]

    @property
    def waits(self) -> bool:
        """Whether it still does."""
        return not self.future.done()

    def expire(self) -> None:
        """The caller's time is over."""
        self.flight.cache.release(self)

    def done(self) -> bool:
        """Whether it was told, or has gone."""
        return self.future.done()

    def set_result(self, served: Served) -> None:
        """Tell it what it is served, if it still waits."""
        future = self.future
        if not future.done():
            future.set_result(served)

    def set_exception(self, error: UpstreamError) -> None:
        """Tell it the error."""
        self.future.set_exception(error)

    def cancel(self) -> None:
        """Have it wait no longer."""
        self.future.cancel()


AnyWaiter = TypeVar("AnyWaiter", bound=Waiter)


class Flight:
    """The one running resolution of a question."""

    __slots__ = (
        "asked", "cache", "denial", "failure", "key", "looking", "question", "started",
        "upstream", "waiters",
    )  # fmt: skip

    asked: UnderWay | None
    cache: Cache
    denial: Reply | None  # waits to be confirmed
    failure: UpstreamError | None  # of the upstreams, while the store is silent
    key: bytes
    looking: bool  # the store has not spoken yet
    question: Question
    started: float
    upstream: Upstream
    waiters: list[Waiter]

    # No __init__: it would take longer than what it does.
    def begin(
        self,
        cache: Cache,
        key: bytes,
        question: Question,
        upstream: Upstream,
        started: float,
    ) -> None:
        """Take in what it is for, and stand on the table."""
        self.cache = cache
        self.key = key
        self.question = question
        self.upstream = upstream
        self.started = started
        self.waiters = []
        self.denial = None
        self.failure = None
        self.looking = False
        self.asked = None
        cache._flights[key] = self

    def looked_up(self, record: Record | None) -> None:
        """The store has spoken."""
        self.cache._looked_up(self, record)

    def answered(self, reply: Reply | PlainReply) -> None:
        """The upstream has answered."""
        self.cache._answered(self, reply)

    def failed(self, error: BaseException) -> None:
        """The upstream has failed."""
        self.cache._end_denied(self, error)

    def called_off(self) -> None:
        """The upstream was closed."""
        closed = NetworkError("the resolver was closed", local=True)
        self.cache._end_denied(self, closed)
