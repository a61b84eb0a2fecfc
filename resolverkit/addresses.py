"""In which order the addresses of a host are tried: RFC 6724 section 6.

Pure: who asks has found out from which source address each one would be reached. As in
glibc, rule 9 (longest matching prefix) is for IPv6 only: for IPv4 it would undo the
rotation by which servers share load, and the RFC lets it be left out (section 6, rule
9 "may be superseded"). Rules 3, 4 and 7 go by `Traits`, where
those are known.
"""

from __future__ import annotations

import functools
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Address: TypeAlias = IPv4Address | IPv6Address

_POLICY = tuple(  # section 2.1; the longest prefix that matches
    (IPv6Network(prefix), precedence, label)
    for prefix, precedence, label in (
        ("::1/128", 50, 0),
        ("::ffff:0:0/96", 35, 4),
        ("::/96", 1, 3),
        ("2001::/32", 5, 5),
        ("2002::/16", 30, 2),
        ("3ffe::/16", 1, 12),
        ("fec0::/10", 1, 11),
        ("fc00::/7", 3, 13),
        ("::/0", 40, 1),
    )
)
_LINK_LOCAL, _SITE_LOCAL, _GLOBAL = 0x2, 0x5, 0xE
"""Scopes, as multicast addresses have them (RFC 4291 section 2.7)."""
_INTERFACE_ID = 64
"""Bits of an IPv6 address that a prefix never reaches into (section 2.2)."""


class Traits(NamedTuple):
    """What only the kernel knows of a source address.

    Attributes:
        deprecated: its preferred lifetime is over (RFC 4862 section 5.5.4).
        home: a home address of a mobile node (RFC 6275).
        native: it is not that of a tunnel.
    """

    deprecated: bool = False
    home: bool = False
    native: bool = True


_PLAIN = Traits()


def order(
    addresses: Iterable[Address],
    source_of: Callable[[Address], Address | None],
    traits: Mapping[Address, Traits] = MappingProxyType({}),
) -> list[Address]:
    """The addresses, the best first; equal ones stay as they came.

    Args:
        addresses: of one host.
        source_of: the source address that the system would use for one; None where it
            cannot be reached.
        traits: of source addresses, for those that are not plain.
    """

    def rank(address: Address) -> tuple[int, ...]:
        source = source_of(address)
        return _rank(address, source, traits.get(source, _PLAIN) if source else _PLAIN)

    return sorted(addresses, key=rank)


def _rank(address: Address, source: Address | None, traits: Traits) -> tuple[int, ...]:
    """The rules as a key: less is better. The number of each stands beside it."""
    precedence, label = _policy(address)
    scope = _scope(address)
    if source is None:
        return 1, 0, 0, 0, 0, -precedence, 0, scope, 0
    return (
        0,  # 1: avoid unusable destinations
        scope != _scope(source),  # 2: prefer matching scope
        traits.deprecated,  # 3: avoid deprecated addresses
        not traits.home,  # 4: prefer home addresses
        label != _policy(source)[1],  # 5: prefer matching label
        -precedence,  # 6: prefer higher precedence
        not traits.native,  # 7: prefer native transport
        scope,  # 8: prefer smaller scope
        -_common_prefix(address, source),  # 9: use longest matching prefix
    )


def _mapped(address: Address) -> IPv6Address:
    if isinstance(address, IPv4Address):
        return IPv6Address(0xFFFF << 32 | int(address))
    return address


@functools.lru_cache(maxsize=1024)
def _policy(address: Address) -> tuple[int, int]:
    mapped = _mapped(address)
    return next((p, label) for prefix, p, label in _POLICY if mapped in prefix)


def _scope(address: Address) -> int:
    """Section 3.1 and, for IPv4, section 3.2."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return _scope(address.ipv4_mapped)
        if address.is_multicast:
            return address.packed[1] & 0x0F
        if address.is_site_local:
            return _SITE_LOCAL
    return _LINK_LOCAL if address.is_link_local or address.is_loopback else _GLOBAL


def _common_prefix(one: Address, other: Address) -> int:
    if one.version == 4 or other.version == 4:
        return 0
    return min(128 - (int(one) ^ int(other)).bit_length(), _INTERFACE_ID)
