"""The one Protocol that transports, groups, the cache and users' own classes share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from resolverkit.model import Question, Reply


@runtime_checkable
class Upstream(Protocol):
    """Anything that a question can be put to.

    The awaitable of `query` gives a `Reply` for any conclusive reply, denials
    included, and raises an `UpstreamError` otherwise (timeout, network, TLS, HTTP,
    SERVFAIL, REFUSED, bad message). `query` itself never raises. It is safe to call
    concurrently, lets cancellation through, and leaves no task behind. A transport ends
    an attempt after its own ``timeout``; the deadline of the whole is the caller's.

    A transport returns an `asyncio.Future`, so that racing several costs no task; a
    user's own class may be an ``async def``. Two attributes are read where they exist:
    ``endpoint`` (an `Endpoint`, for the path) and ``heard`` (when the last byte came
    from there, on the loop's clock).
    """

    @property
    def name(self) -> str:
        """A short name for paths and logs: the URL, or what the user calls it."""
        ...

    def query(self, question: Question) -> Awaitable[Reply]:
        """Put `question` to this upstream.

        Args:
            question: what to ask.

        Returns:
            An awaitable of the reply; it raises an `UpstreamError` when there is none.
        """
        ...

    async def aclose(self) -> None:
        """Let go of connections and tasks. Idempotent."""
        ...
