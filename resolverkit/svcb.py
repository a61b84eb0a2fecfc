"""What SVCB and HTTPS records say of where a service is: RFC 9460.

Pure. A record is of use only if everything is understood that it says is mandatory
(section 8), and for streams only if a protocol over TCP is offered (section 7.1.2).
Hints stand in for addresses that are not known otherwise (section 7.3).
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, NamedTuple

import dns.name
from dns.rdtypes.svcbbase import ParamKey

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resolverkit.addresses import Address

MAX_ALIASES = 8
"""Aliases that are followed (section 2.4.2 asks for a limit)."""

_UNDERSTOOD = frozenset({
    ParamKey.MANDATORY, ParamKey.ALPN, ParamKey.NO_DEFAULT_ALPN, ParamKey.PORT,
    ParamKey.IPV4HINT, ParamKey.IPV6HINT,
})  # fmt: skip
_OVER_QUIC = frozenset({b"h3"})


class Alternative(NamedTuple):
    """One place where a service is.

    Attributes:
        target: the host.
        port: its port; None for the usual one.
        hints: addresses that it is said to have.
    """

    target: dns.name.Name
    port: int | None
    hints: tuple[Address, ...]


def owner(host: dns.name.Name, port: int, service: str) -> dns.name.Name:
    """The name that has the records of a service: sections 2.3 and 9.1.

    Args:
        host: where the service is thought to be.
        port: likewise.
        service: its scheme, such as ``"https"``, without an underscore.
    """
    if service == "https" and port == 443:
        return host
    prefix = dns.name.from_text(f"_{port}._{service}", None)
    return prefix.concatenate(host)


def alias(records: Iterable[Any]) -> dns.name.Name | None:
    """Where the records of an alias are, if these are one (section 2.4.2)."""
    for record in records:
        if record.priority == 0:
            target: dns.name.Name = record.target
            return None if target == dns.name.root else target
    return None


def alternatives(
    records: Iterable[Any], name: dns.name.Name
) -> tuple[Alternative, ...]:
    """Where the service is, the best first.

    Args:
        records: dnspython's, of one name.
        name: their owner, which a target of ``.`` stands for (section 2.5.2).
    """
    usable = [r for r in records if r.priority > 0 and _is_usable(r.params)]
    usable.sort(key=lambda record: record.priority)
    return tuple(
        Alternative(
            name if record.target == dns.name.root else record.target,
            _port(record.params),
            _hints(record.params),
        )
        for record in usable
    )


def _is_usable(params: dict[ParamKey, Any]) -> bool:
    mandatory = params.get(ParamKey.MANDATORY)
    if mandatory is not None and not _UNDERSTOOD.issuperset(mandatory.keys):
        return False
    if ParamKey.NO_DEFAULT_ALPN not in params:
        return True
    alpn = params.get(ParamKey.ALPN)
    return alpn is None or not _OVER_QUIC.issuperset(alpn.ids)


def _port(params: dict[ParamKey, Any]) -> int | None:
    param = params.get(ParamKey.PORT)
    return None if param is None else int(param.port)


def _hints(params: dict[ParamKey, Any]) -> tuple[Address, ...]:
    keys = (ParamKey.IPV6HINT, ParamKey.IPV4HINT)
    found = [params[key] for key in keys if key in params]
    return tuple(ip_address(text) for param in found for text in param.addresses)
