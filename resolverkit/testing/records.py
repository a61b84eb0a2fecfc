"""Two things that more than one fake has to build."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import dns.edns
import dns.name
import dns.rrset

if TYPE_CHECKING:
    from resolverkit.model import Ede

    EdeLike: TypeAlias = int | Ede | None


def soa_rrset(zone: dns.name.Name, ttl: int, minimum: int) -> dns.rrset.RRset:
    """The SOA record that proves a denial, with its TTL and its MINIMUM."""
    below = "" if zone == dns.name.root else zone.to_text()
    text = f"ns.{below} hostmaster.{below} 1 7200 3600 1209600 {minimum}"
    return dns.rrset.from_text(zone, ttl, "IN", "SOA", text)


def ede_options(ede: EdeLike) -> list[dns.edns.Option]:
    """An extended DNS error (RFC 8914), a code or ``(code, text)``, as EDNS options."""
    if ede is None:
        return []
    code, text = (ede, "") if isinstance(ede, int) else ede
    return [dns.edns.EDEOption(dns.edns.EDECode.make(code), text or None)]
