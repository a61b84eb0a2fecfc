"""A question on its way, and what it needs of its connection and its transport."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from resolverkit.errors import UpstreamError
from resolverkit.transports.outcome import conclude, failed
from resolverkit.upstream import Pending

if TYPE_CHECKING:
    import asyncio

    from resolverkit.model import Endpoint, Question


class Channel(Protocol):
    """One connection, as its transport and its questions see it."""

    reads: int
    """How often bytes have come from there, whatever they were."""

    def send(self, asked: Asked) -> None:
        """Put the question on its way."""

    def forget(self, asked: Asked) -> None:
        """The question is over; free what it holds."""

    def take(self) -> list[Asked]:
        """All that is outstanding; the channel forgets them."""

    def abort(self) -> None:
        """Drop the connection."""

    def close(self) -> None:
        """Begin to close in an orderly way."""

    async def wait_closed(self) -> None:
        """Return when it is closed; abort it if that takes long."""


class Owner(Protocol):
    """What a question needs of the transport that carries it."""

    endpoint: Endpoint
    heard: float
    loop: asyncio.AbstractEventLoop

    def release(self, asked: Asked) -> None:
        """The question ended before it had a channel."""

    def overdue(self, asked: Asked) -> None:
        """The time of the question is over."""


class Asked(Pending):
    """One question on its way: what `query` returns.

    A subclass, since a separate record, and a done callback to notice cancellation,
    would cost more than the rest of the bookkeeping.
    """

    __slots__ = (
        "by_get", "channel", "dropped", "due", "owner",
        "question", "replayed", "seen", "sends", "started", "tag", "waits",
    )  # fmt: skip

    tag: Any  # what the channel knows it by: an id, a stream, a task
    seen: int  # the channel's reads when it got the question

    def __init__(
        self, owner: Owner, question: Question, now: float, due: float
    ) -> None:
        super().__init__(loop=owner.loop)
        self.due: float = due
        self.waits: bool = True
        self.owner: Owner = owner
        self.question: Question = question
        self.started: float = now
        self.channel: Channel | None = None
        self.dropped: int = 0
        self.sends: int = 0
        self.replayed: bool = False
        self.by_get: bool = False

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel it and free its slot; a late reply is ignored."""
        if not super().cancel(msg=msg):
            return False
        self._release()
        return True

    def _release(self) -> None:
        self.waits = False
        channel, self.channel = self.channel, None
        if channel is not None:
            channel.forget(self)
        else:
            self.owner.release(self)

    def expire(self) -> None:
        """Its deadline has come."""
        self.owner.overdue(self)

    def fail(self, error: UpstreamError) -> None:
        """End it with `error`, which must be its own."""
        if self.done():
            return
        self._release()
        endpoint, now = self.owner.endpoint, self.owner.loop.time()
        failed(error, endpoint, self.started, now, self.dropped, self.sends)
        self.set_exception(error.with_traceback(None))

    def conclude(self, data: bytes, now: float, age: int = 0) -> None:
        """End it with the message that answers it, `age` seconds old.

        Its channel has forgotten it.
        """
        if self.done():
            return
        self.waits, self.channel = False, None
        owner = self.owner
        owner.heard = now
        try:
            reply = conclude(
                self.question, data, owner.endpoint, self.started, now,
                dropped=self.dropped, sends=self.sends,
            )  # fmt: skip
        except UpstreamError as error:
            # The traceback holds this frame, which holds the Future, which holds it.
            self.set_exception(error.with_traceback(None))
        else:
            if age:
                reply.ttl = max(0, reply.ttl - age)
            self.answered(reply)
