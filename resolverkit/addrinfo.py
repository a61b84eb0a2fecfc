"""`socket.getaddrinfo` over a Resolver: same arguments, results and errors.

The system's own function does all that needs no name server: it checks the arguments,
reads numeric addresses with their scopes, and finds sockets and ports for services, so
that these are as they are on this system. What is done here is the rest:

`lookup` finds the addresses, and they are put in the order of RFC 6724.
"""

from __future__ import annotations

import _socket  # getaddrinfo as it was before anybody replaced it
import socket
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from resolverkit import interfaces
from resolverkit.addresses import order
from resolverkit.lookup import look_up
from resolverkit.model import Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from resolverkit.addresses import Address
    from resolverkit.model import AnswerPath
    from resolverkit.resolver import Resolver

SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]
Found: TypeAlias = tuple[
    socket.AddressFamily, socket.SocketKind, int, str, SocketAddress
]
"""One entry of the result: family, type, protocol, canonical name, address."""

_OLD = frozenset({Source.STALE, Source.HELD})
_VERSIONS = {4: socket.AF_INET, 6: socket.AF_INET6}


class Result(NamedTuple):
    """What `find` gives.

    Attributes:
        entries: as `getaddrinfo` gives them.
        paths: how the answers came to be; none where nobody was asked.
    """

    entries: list[Found]
    paths: tuple[AnswerPath, ...] = ()

    @property
    def expired(self) -> bool:
        """Whether an address may be out of date: if none connects, ask again."""
        return any(path.source in _OLD for path in self.paths)

    @property
    def addresses(self) -> list[str]:
        """As text with scopes, each once, in order."""
        return list(dict.fromkeys(with_scope(entry[4]) for entry in self.entries))

    def adds_to(self, other: Result) -> bool:
        """Whether there is an address here that `other` lacks."""
        return not set(self.addresses) <= set(other.addresses)


async def getaddrinfo(
    resolver: Resolver,
    host: bytes | str | None,
    port: bytes | str | int | None,
    family: int = 0,
    type: int = 0,  # noqa: A002  socket.getaddrinfo's name for it
    proto: int = 0,
    flags: int = 0,
) -> list[Found]:
    """See `Resolver.getaddrinfo`."""
    return (await find(resolver, host, port, family, type, proto, flags)).entries


async def find(
    resolver: Resolver,
    host: bytes | str | None,
    port: bytes | str | int | None,
    family: int = 0,
    type: int = 0,  # noqa: A002
    proto: int = 0,
    flags: int = 0,
    *,
    refresh: bool = False,
) -> Result:
    """The same, with the paths; `refresh` is for what upstreams say now, or nothing."""
    rest = family, type, proto, flags
    known = numeric(host, port, *rest)
    if known is not None:
        return Result(known)
    return await find_by_name(resolver, host, port, *rest, refresh=refresh)


async def find_by_name(
    resolver: Resolver,
    host: bytes | str | None,
    port: bytes | str | int | None,
    family: int = 0,
    type: int = 0,  # noqa: A002
    proto: int = 0,
    flags: int = 0,
    *,
    refresh: bool = False,
) -> Result:
    """The same for a host for which `numeric` gives None."""
    name = _text(host)
    sockets = _sockets(port, family, type, proto, flags)
    found = await look_up(resolver, name, _wanted(family, flags), refresh=refresh)
    addresses = found.addresses
    if family == socket.AF_INET6:
        addresses = tuple(_as_ipv6(addresses, flags))
    ordered = addresses if len(addresses) == 1 else _order(addresses)
    canonical = found.name if flags & socket.AI_CANONNAME else ""
    entries = []
    for address in ordered:
        where = _VERSIONS[address.version]
        for kind, protocol, number in sockets:
            at = _address(address, number)
            entries.append((where, kind, protocol, canonical, at))
            canonical = ""  # only the first has it
    return Result(entries, found.paths)


def _order(addresses: Sequence[Address]) -> list[Address]:
    any_ipv6 = any(address.version == 6 for address in addresses)
    known = interfaces.traits() if any_ipv6 else {}
    return order(addresses, interfaces.source_of, known)


# --- what the system does ------------------------------------------------------------


def numeric(
    host: bytes | str | None,
    port: bytes | str | int | None,
    family: int = 0,
    type: int = 0,  # noqa: A002
    proto: int = 0,
    flags: int = 0,
) -> list[Found] | None:
    """The result where no name has to be resolved; None where one has to be.

    Raises:
        socket.gaierror: it is an address that is wrong, or another argument is.
    """
    no_names = flags if host is None else flags | socket.AI_NUMERICHOST
    try:
        return _system(host, port, family, type, proto, no_names)
    except socket.gaierror as error:
        by_name = error.errno == socket.EAI_NONAME and host is not None
        if not by_name or flags & socket.AI_NUMERICHOST or ":" in _text(host):
            raise
    return None


def _system(*args: Any) -> list[Found]:
    entries: list[Any] = _socket.getaddrinfo(*args)
    return [
        (socket.AddressFamily(family), socket.SocketKind(kind), proto, name, address)
        for family, kind, proto, name, address in entries
    ]


def _sockets(
    port: bytes | str | int | None, family: int, *rest: int
) -> list[tuple[socket.SocketKind, int, int]]:
    """Types, protocols and ports, as for any host.

    Raises:
        socket.gaierror: an argument or the service is wrong.
    """
    kind, proto, flags = rest
    placeholder = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    flags = (flags & ~socket.AI_CANONNAME) | socket.AI_NUMERICHOST
    if not family:
        flags &= ~socket.AI_ADDRCONFIG  # the placeholder's family may be missing here
    found = _system(placeholder, port, family, kind, proto, flags)
    return [(entry[1], entry[2], entry[4][1]) for entry in found]


def _wanted(family: int, flags: int) -> list[int]:
    """The families to ask for."""
    both: list[int] = [socket.AF_INET, socket.AF_INET6]
    if family == socket.AF_INET6 and flags & socket.AI_V4MAPPED:
        return both
    if family:
        return [family]
    if flags & socket.AI_ADDRCONFIG:
        return [one for one in both if _is_configured(one)] or both
    return both


def _is_configured(family: int) -> bool:
    """Whether this machine has an address of that family, but for the loopback one."""
    try:
        _socket.getaddrinfo(None, 0, family, 0, 0, socket.AI_ADDRCONFIG)
    except socket.gaierror:
        return False
    return True


def with_scope(address: SocketAddress) -> str:
    """The address alone, as text that names its scope."""
    scope = address[3] if len(address) == 4 else 0
    return f"{address[0]}%{scope}" if scope else address[0]


def _address(address: Address, port: int) -> SocketAddress:
    if isinstance(address, IPv4Address):
        return str(address), port
    # In libc's spelling, which differs from Python's for ::ffff:192.0.2.1.
    text = socket.inet_ntop(socket.AF_INET6, address.packed)
    return text, port, 0, int(address.scope_id or 0)


def _as_ipv6(addresses: Iterable[Address], flags: int) -> list[Address]:
    """IPv6 addresses, and mapped ones for IPv4 where they are wanted."""
    found = [*addresses]
    native: list[Address] = [a for a in found if isinstance(a, IPv6Address)]
    if native and not flags & socket.AI_ALL:
        return native
    return native + [
        IPv6Address(0xFFFF << 32 | int(a)) for a in found if isinstance(a, IPv4Address)
    ]


def _text(host: bytes | str | None) -> str:
    assert host is not None
    return host.decode("ascii", "replace") if isinstance(host, bytes) else host
