"""What a server must not be: open to everybody, or an upstream of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolverkit.errors import ConfigurationError
from resolverkit.stack import Stack
from resolverkit.transports.url import UpstreamURL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from resolverkit.resolver import Resolver
    from resolverkit.server.addresses import Address


def check_reach(addresses: Iterable[Address], allow: Sequence[object]) -> None:
    """Raise ConfigurationError where others could ask, and nobody is allowed to.

    RFC 5358: an open resolver is a weapon against third parties.
    """
    for address in addresses:
        if not address.loopback and not allow:
            raise ConfigurationError(
                f"'{address}': others than this machine can reach it; say "
                "who may ask, with allow=['192.168.0.0/16'] (--allow NETWORK)"
            )


def check_upstreams(resolver: Resolver, bound: Iterable[Address]) -> None:
    """Raise ConfigurationError where an upstream is at one of these addresses."""
    own = list(bound)
    for view in Stack.check(resolver):
        for member in view.members:
            name, where = _identify(member)
            if any(address.covers(*where) for address in own):
                raise ConfigurationError(
                    f"upstream {name!r} is this server itself; name others in its "
                    "place (--upstream)"
                )


def _identify(member: object) -> tuple[str, tuple[str, int]]:
    """An upstream as it was written, and where it is."""
    if isinstance(member, UpstreamURL):
        return member.text, (member.address, member.port)
    endpoint = getattr(member, "endpoint", member)
    where = (getattr(endpoint, "address", ""), getattr(endpoint, "port", 0))
    return str(getattr(member, "name", member)), where
