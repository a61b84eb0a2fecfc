"""What a Resolver has counted: how its answers came by, and how its upstreams do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resolverkit.cache import Cache
    from resolverkit.stack import Stack


@dataclass(frozen=True, slots=True)
class UpstreamStats:
    """How one upstream does.

    Attributes:
        name: its URL.
        operator: who runs it.
        down: whether its breaker is open: it is only probed.
        srtt: smoothed round-trip time, seconds; None while nothing is known.
        answers: conclusive replies, and others with a rcode of NOERROR or NXDOMAIN.
        errors: attempts that failed: timeouts, SERVFAIL, network, TLS, HTTP.
        overtaken: attempts that another upstream, asked later, was faster than.
    """

    name: str
    operator: str
    down: bool
    srtt: float | None
    answers: int
    errors: int
    overtaken: int


@dataclass(frozen=True, slots=True)
class StoreStats:
    """How the store does.

    Attributes:
        name: its URL, without a password.
        problem: why it cannot be used now; empty while it can.
        found: look-ups that gave a record.
        missed: look-ups that gave none.
        written: changes that it took.
        waiting: changes that are still to be written.
        dropped: changes that it did not take in time.
    """

    name: str
    problem: str
    found: int
    missed: int
    written: int
    waiting: int
    dropped: int


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts since a Resolver was made, and its state now.

    Attributes:
        hits: questions answered from fresh entries.
        misses: questions that were not: they waited for a flight, or got what follows.
        stale: questions answered with stale data.
        held: questions answered with data that upstreams deny by now.
        refreshes: flights that began behind an answer, before its TTL ran out.
        failures: flights for which every upstream failed.
        evictions: entries that went for want of space.
        entries: answers and denials in memory.
        size: bytes that positive answers are charged with.
        upstreams: one for each that was asked since the options last changed.
        store: the store's, where there is one.
    """

    hits: int
    misses: int
    stale: int
    held: int
    refreshes: int
    failures: int
    evictions: int
    entries: int
    size: int
    upstreams: tuple[UpstreamStats, ...]
    store: StoreStats | None

    @classmethod
    def of(cls, cache: Cache, stack: Stack | None) -> Stats:
        """Read the counters of a Resolver's parts; for resolverkit's own use."""
        return cls(
            cache.hits,
            cache.misses,
            cache.stale_hits,
            cache.held_hits,
            cache.refreshes,
            cache.failures,
            cache.evictions,
            len(cache),
            cache.size,
            () if stack is None else tuple(_upstreams(stack)),
            _store(cache),
        )

    def to_dict(self) -> dict[str, Any]:
        """The same, JSON-ready."""
        return asdict(self)


def _upstreams(stack: Stack) -> list[UpstreamStats]:
    return [
        UpstreamStats(
            child.upstream.name,
            child.operator,
            child.health.down,
            child.health.srtt,
            child.health.answers,
            child.health.errors,
            child.health.overtakes,
        )
        for group in stack.groups
        for child in group.children
    ]


def _store(cache: Cache) -> StoreStats | None:
    behind = cache.behind
    if behind is None:
        return None
    return StoreStats(
        behind.store.name,
        behind.problem,
        behind.found,
        behind.missed,
        behind.written,
        behind.waiting,
        behind.dropped,
    )
