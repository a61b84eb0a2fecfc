"""Who waits for a reply: one query of one client, on a flight of the cache's."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resolverkit.cache import Call, Served, _Flight
    from resolverkit.entry import Entry
    from resolverkit.errors import UpstreamError
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
        "responder", "waits",
    )  # fmt: skip

    over: Over
    call: Call
    due: float
    entry: Entry | None
    flight: _Flight
    waits: bool

    def __init__(self, responder: Responder, data: bytes) -> None:
        self.responder = responder
        self.data = data
        self.form: Form | None = None
        self.ended = False

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

    def done(self) -> bool:
        """Whether it was told."""
        return self.ended

    def set_result(self, served: Served) -> None:
        """Its flight has landed, or stale data is better than to wait."""
        self.ended = True
        self.responder.landed(self, served)

    def set_exception(self, error: UpstreamError) -> None:
        """There is nothing to be served."""
        self.ended = True
        self.responder.crashed(self, error)

    def cancel(self) -> None:
        """It has to give way, or the server closes."""
        self.ended = True
        self.responder.abandoned(self)

    def expire(self) -> None:
        """Its time is over."""
        self.flight.cache.release(self)
