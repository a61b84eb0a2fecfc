"""Who waits for a reply: one query of one client, on a flight of the cache's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resolverkit.entry import Entry
    from resolverkit.errors import UpstreamError
    from resolverkit.flight import Call, Flight, Served
    from resolverkit.server.forms import Form
    from resolverkit.server.query import Over, Query
    from resolverkit.server.responder import Responder


class Asker:
    """One query, from when it came to its reply; its own waiter on a flight.

    Args:
        responder: who answers.
        data: the message.

    Attributes:
        over: how it came.
        form: of a plain query that is like others before it.
        end: where its question section ends.
        ended: its reply was told.
    """

    __slots__ = (
        "_asked", "call", "data", "due", "end", "ended", "entry", "flight", "form",
        "responder",
    )  # fmt: skip

    over: Over
    call: Call
    due: float
    entry: Entry | None
    flight: Flight
    end: int

    def __init__(self, responder: Responder, data: bytes) -> None:
        self.responder: Responder = responder
        self.data: bytes = data
        self.form: Form | None = None
        self.ended: bool = False

    def tell(self, reply: bytes | None) -> None:
        """Give it the reply, or silence."""
        raise NotImplementedError

    @property
    def query(self) -> Query:
        """What it says."""
        if self.form is not None:
            return self.form.query(self.data, self.end)
        return self._asked

    def read(self, query: Query) -> None:
        """Take in what it says."""
        self._asked = query
        self.end = query.end

    # --- as a waiter of the cache's --------------------------------------------------

    @property
    def waits(self) -> bool:
        """Whether it was not told yet."""
        return not self.ended

    def done(self) -> bool:
        """Whether it was told."""
        return self.ended

    def set_result(self, served: Served) -> None:
        """Its flight has landed, or stale data is better than to wait."""
        if self.ended:
            return
        responder = self.responder
        self.ended = True
        responder.forget(self)
        try:
            self.tell(responder.told(self, served))
        except Exception as problem:  # noqa: BLE001 - others stand on the same flight
            _report(problem)

    def set_exception(self, error: UpstreamError) -> None:
        """There is nothing to be served."""
        self.ended = True
        self.responder.forget(self)
        try:
            self.tell(self.responder.failed(self, error))
        except Exception as problem:  # noqa: BLE001 - as above
            _report(problem)

    def cancel(self) -> None:
        """It has to give way, or the server closes."""
        self.ended = True
        self.responder.forget(self)
        self.tell(self.responder.busy(self))

    def expire(self) -> None:
        """Its time is over."""
        self.flight.cache.release(self)


def _report(problem: Exception) -> None:
    """Tell the loop, as it is told of what a callback raises."""
    told = {"message": "a reply could not be made or sent", "exception": problem}
    asyncio.get_running_loop().call_exception_handler(told)
