"""Decisions: what is conclusive, which error is most useful, when stale may be served.

Pure: replies and times come in, values go out. The constants are those of the RFCs.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from resolverkit.errors import (
    BadReply,
    ConfigurationError,
    NetworkError,
    QueryTimeout,
    ServerFailure,
    UpstreamError,
)
from resolverkit.model import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from resolverkit.model import Attempt, Endpoint, Reply

CLIENT_RESPONSE_TIMER = 1.8
"""Seconds a caller waits for fresh data while stale data is at hand (RFC 8767 §5)."""
LIFETIME_MARGIN = 0.05
"""Seconds before the end of a caller's lifetime at which stale is served at last."""
STALE_TTL = 30
"""TTL of stale records (RFC 8767 §4)."""
FAILURE_RECHECK = 30.0
"""Seconds between two tries for a failing name with stale data (RFC 8767 §5)."""
MAX_STALE = 86_400.0
"""Seconds past its TTL that data may be served (RFC 8767 §5: 1 to 3 days)."""
MAX_STALE_LIMIT = 604_800.0
"""The longest max stale that may be asked for: 7 days."""
RESOLUTION_DEADLINE = 10.0
"""Seconds a flight may take (RFC 8767 §5: query resolution timer, 10 to 30 s)."""
RECENT_FAILURE = 300.0
"""Seconds for which a failed refresh makes stale data be served at once."""
FAILURE_TTL, MAX_FAILURE_TTL = 5.0, 30.0
"""Seconds a failure is cached: at first, and at most (RFC 9520 §3.2: 1 s to 5 min)."""
LAME_TTL = 5.0
"""Seconds a denial without SOA is believed when nothing better came."""
REFRESH_AHEAD = 0.1
"""The last part of a TTL in which an entry that is asked for is refreshed."""
SIBLING_WINDOW = 30.0
"""Seconds within which two failed siblings announce an outage of their zone."""
SIBLING_WAIT = 0.1
"""Seconds to wait for fresh data in such a zone."""

HOLD = 21_600.0
"""Seconds for which upstreams may deny a name before a holder of its data gives in."""
HEAD_START = 0.005
"""Seconds that a store has to answer before the upstreams are asked as well."""
OPENING = 0.1
"""The same while it is still being opened."""

_BLOCKS = frozenset(
    {15, 16, 17, 18}
)  # RFC 8914: blocked, censored, filtered, prohibited
_BOGUS = frozenset(range(5, 13))  # RFC 8914 §4.6-4.13: what DNSSEC found wrong


@dataclass(frozen=True, slots=True)
class StalePolicy:
    """When, and for how long, expired data may be served (RFC 8767).

    Attributes:
        max_stale: seconds past the TTL; 0 switches stale data off; at most 7 days.
        wait: seconds a caller waits for fresh data first (the client response timer);
            0 serves stale at once, with the refresh behind.
        ttl: TTL that stale records carry, in seconds.
        on_denial: ``"accept"`` takes NXDOMAIN and NODATA at their word once they are
            confirmed; ``"hold"`` goes on with the last known good data, and asks again
            every 30 s. That outlives a name that was taken out of its zone by mistake,
            and masks one that was deleted on purpose.
        hold: seconds for which it does; a denial that persists for longer wins.
    """

    max_stale: float = MAX_STALE
    wait: float = CLIENT_RESPONSE_TIMER
    ttl: int = STALE_TTL
    on_denial: Literal["accept", "hold"] = "accept"
    hold: float = HOLD

    def __post_init__(self) -> None:
        if not 0 <= self.max_stale <= MAX_STALE_LIMIT:
            raise ConfigurationError(
                f"max_stale={self.max_stale!r}: allowed are 0 to {MAX_STALE_LIMIT:.0f} "
                "seconds"
            )
        if not 0 <= self.wait <= RESOLUTION_DEADLINE:
            raise ConfigurationError(
                f"wait={self.wait!r}: allowed are 0 to {RESOLUTION_DEADLINE:.0f} "
                "seconds"
            )
        if not 1 <= self.ttl <= FAILURE_RECHECK:
            raise ConfigurationError(f"ttl={self.ttl!r}: allowed are 1 to 30 seconds")
        if self.on_denial not in {"accept", "hold"}:
            raise ConfigurationError(
                f"on_denial={self.on_denial!r}: allowed are 'accept', 'hold'"
            )
        if not 0 < self.hold <= MAX_STALE_LIMIT:
            raise ConfigurationError(
                f"hold={self.hold!r}: allowed are seconds up to {MAX_STALE_LIMIT:.0f}"
            )


NO_STALE = StalePolicy(max_stale=0)
"""Fresh data or an error."""


class Verdict(enum.Enum):
    """What a group does with a reply."""

    CONCLUSIVE = enum.auto()
    WEAK = enum.auto()  # kept in case nothing better comes
    BLOCKED = enum.auto()  # told in the path, and the next vantage is asked


def is_block(reply: Reply, endpoint: Endpoint | None) -> bool:
    """Whether the reply says that a filter stands between us and the name."""
    if any(code in _BLOCKS for code, _ in reply.ede):
        return True
    return (
        reply.kind is Kind.NXDOMAIN
        and not reply.soa
        and not reply.ra
        and endpoint is not None
        and endpoint.unsigned_block
    )


def verdict(
    reply: Reply, endpoint: Endpoint | None, *, on_block: str = "accept"
) -> Verdict:
    """Judge a reply.

    Args:
        reply: a reply that passed the checks.
        endpoint: who sent it.
        on_block: ``"accept"`` takes the word of an upstream that was chosen for its
            filtering, ``"next"`` asks the next one even then.
    """
    if reply.kind is Kind.DATA and not reply.ede:
        return Verdict.CONCLUSIVE
    if is_block(reply, endpoint):
        chosen = endpoint is not None and endpoint.filtering
        if chosen and on_block == "accept":
            return Verdict.CONCLUSIVE
        return Verdict.BLOCKED
    if reply.denial and not reply.soa:
        return Verdict.WEAK
    return Verdict.CONCLUSIVE


def is_bogus(attempts: Iterable[Attempt]) -> bool:
    """Whether a vantage reported that validation failed (EDE 5 to 12)."""
    for attempt in attempts:
        if attempt.ede and any(code in _BOGUS for code, _ in attempt.ede):
            return True
    return False


_USEFULNESS = (QueryTimeout, NetworkError, BadReply, ServerFailure)


def most_useful(errors: Sequence[UpstreamError]) -> UpstreamError:
    """The error that tells most: a server's own word, with EDE if there is one.

    A fault of this machine comes last: what all met is local only if each of them is.
    """

    def rank(error: UpstreamError) -> tuple[bool, int, bool]:
        by_type = next(
            (i for i, kind in enumerate(_USEFULNESS) if isinstance(error, kind)), -1
        )
        return (
            not getattr(error, "local", False),
            by_type,
            bool(getattr(error, "ede", ())),
        )

    return max(errors, key=rank)


def failure_ttl(previous: float, *, stale: bool) -> float:
    """Seconds for which a failed key is not asked for again.

    Args:
        previous: the last value, 0 for the first failure in a row.
        stale: there is stale data to serve meanwhile (RFC 8767: recheck timer).
    """
    if stale:
        return FAILURE_RECHECK
    return min(max(previous * 2, FAILURE_TTL), MAX_FAILURE_TTL)
