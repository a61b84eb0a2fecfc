"""Who may ask, and how often.

Pure. An open resolver is a weapon: it answers small questions of forged origin with
large datagrams (RFC 5358). So clients are answered from networks that were named, and
loopback; and each of their prefixes has an allowance, past which most datagrams get no
reply, and some an empty one with TC, which a real client takes as an invitation to TCP.
"""

from __future__ import annotations

import enum
import ipaddress
from collections import OrderedDict
from typing import TYPE_CHECKING, TypeAlias

from resolverkit.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

RATE = 1000.0
"""Queries per second and client prefix, by default; four times that at once."""
BURST = 4
"""Seconds of its allowance that a client may save up."""
SLIP = 2
"""Every second datagram above the rate is answered with TC, as BIND and NSD do."""
MAX_CLIENTS = 10_000
"""Prefixes, and addresses, that are remembered; the longest unheard give way."""
PREFIXES = {4: 32, 6: 64}
"""Bits by which clients are told apart: one subscriber has a /64 (RFC 6177)."""

_LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


class Ruling(enum.Enum):
    """What becomes of a query."""

    ANSWER = enum.auto()
    TRUNCATE = enum.auto()
    DROP = enum.auto()
    DENY = enum.auto()


class Access:
    """Decides about clients by their address.

    Args:
        allow: networks, as ``192.0.2.0/24``, that may ask besides loopback.
        rate: queries per second for each client prefix; 0 for no limit. Loopback has
            none: who is on this machine could do worse things.

    Attributes:
        allowed: those networks.

    Raises:
        ConfigurationError: no network, or no rate.
    """

    def __init__(self, allow: Iterable[str] = (), rate: float = RATE) -> None:
        self.allowed: tuple[Network, ...] = tuple(map(network, allow))
        if not isinstance(rate, (int, float)) or not rate >= 0:
            raise ConfigurationError(f"rate_limit={rate!r}: allowed are numbers >= 0")
        self._rate = float(rate)
        self._known: OrderedDict[str, str | None] = OrderedDict()
        self._buckets: OrderedDict[str, list[float]] = OrderedDict()

    def rule(self, client: str, now: float, *, datagram: bool) -> Ruling:
        """Decide about one query.

        Args:
            client: its IP address.
            now: seconds on any clock that goes on.
            datagram: it came over UDP; what comes over TCP shows its origin.
        """
        try:
            prefix = self._known[client]
        except KeyError:
            prefix = self._get_to_know(client)
        if prefix is None:
            return Ruling.DENY
        if not prefix or not self._rate or not datagram:
            return Ruling.ANSWER
        return self._spend(prefix, now)

    def admits(self, client: str) -> bool:
        """Whether it may ask at all."""
        return self.rule(client, 0.0, datagram=False) is not Ruling.DENY

    def _get_to_know(self, client: str) -> str | None:
        """Its prefix; empty for loopback, None for who may not ask."""
        address = ipaddress.ip_address(client.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        prefix: str | None = None
        if any(address in net for net in _LOOPBACK):
            prefix = ""
        elif any(address in net for net in self.allowed):
            bits = PREFIXES[address.version]
            prefix = str(ipaddress.ip_network((address, bits), strict=False))
        self._known[client] = prefix
        if len(self._known) > MAX_CLIENTS:
            self._known.popitem(last=False)
        return prefix

    def _spend(self, prefix: str, now: float) -> Ruling:
        """A token bucket: what is left, when that was, how many were above it."""
        bucket = self._buckets.get(prefix)
        full = self._rate * BURST
        if bucket is None:
            bucket = self._buckets[prefix] = [full, now, 0]
            if len(self._buckets) > MAX_CLIENTS:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(prefix)
        tokens = min(full, bucket[0] + (now - bucket[1]) * self._rate)
        bucket[1] = now
        if tokens >= 1:
            bucket[0] = tokens - 1
            return Ruling.ANSWER
        bucket[0] = tokens
        bucket[2] += 1
        return Ruling.TRUNCATE if bucket[2] % SLIP == 0 else Ruling.DROP


def network(text: str) -> Network:
    """A network that a user has named.

    Raises:
        ConfigurationError: it is none.
    """
    try:
        return ipaddress.ip_network(text if isinstance(text, str) else "")
    except ValueError as error:
        raise ConfigurationError(
            f"allow {text!r}: allowed are networks such as 192.168.0.0/16: {error}"
        ) from None
