"""The Protocols that users' own classes may keep: of upstreams, and of stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence

    from resolverkit.model import Question, Reply
    from resolverkit.record import Change, Record


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
        """A short name for paths and logs, as the URL or what the user calls it."""
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


@runtime_checkable
class Store(Protocol):
    """A second tier behind the cache's memory, which keeps the last known good.

    Memory stands in front of it: a store is asked only for what memory does not have,
    and is written to behind the answers. The cache calls `fetch` and `write` in batches
    and each of them once at a time, on one loop; after `aclose` it may `open` the store
    again, on another loop. All but `aclose` and `may_have` raise a `StoreError` when
    the store cannot be used. The cache then goes on without it, and calls `open`, with
    growing pauses, until that works.

    A store says how old a record is by a clock that goes on while no process runs (see
    `record.aged` for clocks that jump). What it gives is checked by the cache.

    Attributes:
        budget: seconds that a `fetch` may take before the store counts as away.
    """

    budget: float

    @property
    def name(self) -> str:
        """Its URL for messages, without a password."""
        ...

    async def open(self) -> None:
        """Make it ready: connect, or open the file. Idempotent."""
        ...

    def may_have(self, key: bytes) -> bool:
        """False only if it is certain that there is nothing under `key`.

        It is called on each miss: from memory, in less than a microsecond.
        """
        ...

    async def fetch(self, keys: Sequence[bytes]) -> Mapping[bytes, Record]:
        """The records that there are for some keys."""
        ...

    async def write(self, changes: Sequence[Change]) -> None:
        """Take in what was learnt, in this order; all of a change or nothing.

        A `Record` replaces what is stored, unless that was learnt or denied later (a
        stored date in the future is not later). A `Denied` marks what is stored, if
        that was learnt before and is not marked yet.
        """
        ...

    def records(self) -> AsyncIterator[Record]:
        """Every record that can be read, in no order."""
        ...

    async def remove(self, keys: Sequence[bytes]) -> int:
        """Delete the records under some keys; gives how many there were."""
        ...

    async def aclose(self) -> None:
        """Let go of files, connections, threads and tasks. Idempotent."""
        ...
