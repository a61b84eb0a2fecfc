"""What a server counts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(slots=True)
class ServerStats:
    """Counts since a `Server` was made, and what is under way now.

    Attributes:
        udp: queries that came in datagrams.
        tcp: queries that came over TCP.
        tls: queries that came over TLS.
        https: queries that came over HTTPS.
        fast: answered from fresh data, by a reply that was at hand.
        cache: answered from fresh data, by one that had to be made.
        upstream: answered by upstreams, while the client waited.
        stale: answered with stale data.
        held: answered with data that upstreams deny by now.
        local: answered here, such as localhost.
        failed: answered with SERVFAIL.
        refused: malformed, or nothing that is answered here.
        ignored: responses, fragments, and what came from the server itself.
        denied: from clients outside the networks that are allowed.
        limited: from clients that asked more than the rate limit allows.
        dropped: that gave way to newer ones, for want of room.
        unsent: replies that the system did not take.
        in_flight: queries that wait for upstreams now.
        connections: that are open now.
        closed: connections that gave way to newer ones, or were too slow.
    """

    udp: int = 0
    tcp: int = 0
    tls: int = 0
    https: int = 0
    fast: int = 0
    cache: int = 0
    upstream: int = 0
    stale: int = 0
    held: int = 0
    local: int = 0
    failed: int = 0
    refused: int = 0
    ignored: int = 0
    denied: int = 0
    limited: int = 0
    dropped: int = 0
    unsent: int = 0
    in_flight: int = 0
    connections: int = 0
    closed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The same, JSON-ready."""
        return asdict(self)
