"""A question on its way, and what it needs of its connection and its transport."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from resolverkit import wire
from resolverkit.errors import BadReply, UpstreamError
from resolverkit.listener import UnderWay
from resolverkit.transports.outcome import conclude, failed

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from resolverkit.listener import Listener
    from resolverkit.model import Endpoint, Question


class Channel(Protocol):
    """One connection, as its transport and its questions see it."""

    reads: int
    """How often bytes have come from there, whatever they were."""

    def send(self, asked: Asked) -> None:
        """Put the question on its way."""

    def forget(self, asked: Asked) -> None:
        """The question is over; free what it holds."""

    def outstanding(self) -> Iterable[Asked]:
        """All that it has been given and that is not over."""

    def take(self) -> list[Asked]:
        """The same; the channel forgets them."""

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
    timeout: float

    def release(self, asked: Asked) -> None:
        """The question ended before it had a channel."""

    def overdue(self, asked: Asked) -> None:
        """The time of the question is over."""


class Asked(UnderWay):
    """One question on its way, and its own entry among deadlines."""

    __slots__ = (
        "by_get", "channel", "dropped", "owner", "question", "replayed", "seen",
        "sends", "started", "tag",
    )  # fmt: skip

    channel: Channel | None
    tag: Any  # what the channel knows it by: an id, a stream, a task
    seen: int  # the channel's reads when it got the question

    def __init__(
        self, owner: Owner, question: Question, listener: Listener, now: float
    ) -> None:
        self.owner: Owner = owner
        self.question: Question = question
        self.listener: Listener | None = listener
        self.started: float = now
        self.channel = None
        self.dropped: int = 0
        self.sends: int = 0
        self.replayed: bool = False
        self.by_get: bool = False

    @property
    def due(self) -> float:
        """When its time is over, on the loop's clock."""
        return self.started + self.owner.timeout

    @property
    def waits(self) -> bool:
        """Whether it is not over."""
        return self.listener is not None

    def expire(self) -> None:
        """Its deadline has come."""
        self.owner.overdue(self)

    def drop(self) -> None:
        """Free its slot; a late reply is ignored."""
        if self.listener is not None:
            self._release()

    def _release(self) -> None:
        self.listener = None
        channel, self.channel = self.channel, None
        if channel is not None:
            channel.forget(self)
        else:
            self.owner.release(self)

    def fail(self, error: UpstreamError) -> None:
        """End it with `error`, which must be its own."""
        listener = self.listener
        if listener is None:
            return
        self._release()
        endpoint, now = self.owner.endpoint, self.owner.loop.time()
        failed(error, endpoint, self.started, now, self.dropped, self.sends)
        listener.failed(error.with_traceback(None))

    def conclude(self, data: bytes, now: float, age: int = 0) -> bool:
        """End it with the message that answers it, `age` seconds old.

        Its channel has forgotten it.

        Returns:
            False where the message answers something else, and nothing has ended.
        """
        listener, owner = self.listener, self.owner
        if listener is None:
            return True
        try:
            reply = conclude(
                self.question, data, owner.endpoint, self.started, now,
                self.dropped, self.sends,
            )  # fmt: skip
        except UpstreamError as error:
            if isinstance(error, BadReply) and wire.mismatch(self.question, data):
                return False
            self.listener = self.channel = None
            owner.heard = now
            # The traceback holds this frame, which holds what will hold the error.
            listener.failed(error.with_traceback(None))
            return True
        self.listener = self.channel = None
        owner.heard = now
        if age:
            reply.ttl = max(0, reply.ttl - age)
        listener.answered(reply)
        return True
