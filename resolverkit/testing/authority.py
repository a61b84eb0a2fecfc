"""The rest of the DNS, in memory: all authoritative servers of all zones, as one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import dns.exception
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rdtypes.ANY.SOA
import dns.rrset
import dns.ttl

from resolverkit.errors import ConfigurationError
from resolverkit.testing.records import soa_rrset

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dns.name import Name
    from dns.rdatatype import RdataType
    from dns.rrset import RRset

_RECORD = re.compile(r"(\S+)\s+(\d\w*)\s+(?:IN\s+)?(\S+)\s+(.+)", re.IGNORECASE)
_MAX_CHAIN = 16  # aliases followed before a chain counts as a loop


class Lookup(NamedTuple):
    """What the authority has on a question.

    Attributes:
        rcode: NOERROR, NXDOMAIN, or SERVFAIL for a loop of aliases.
        answer: aliases and data.
        authority: the SOA record of a denial.
    """

    rcode: dns.rcode.Rcode
    answer: tuple[RRset, ...] = ()
    authority: tuple[RRset, ...] = ()

    @property
    def ttl(self) -> int:
        """Seconds for which it may be cached; a denial's SOA carries its least TTL."""
        return min((x.ttl for x in (*self.answer, *self.authority)), default=0)


class Authority:
    """Authoritative data that can be changed, and that can vanish from the internet.

    ::

        authority = Authority([
            "www.facebook.com. 3600 IN CNAME star-mini.c10r.facebook.com.",
            "star-mini.c10r.facebook.com. 60 IN A 157.240.20.35",
        ])

    Zones are where there are SOA records. A name above which there is none gets a zone
    of its last two labels; all other names are denied by the root.

    Args:
        records: lines as in zone files, with absolute names and a TTL each; or a
            mapping from names to what follows them in such lines, one or several.
        negative_ttl: TTL (seconds) of denials from zones that have no SOA in `records`.

    Attributes:
        present: its servers can be reached.
        queries: how many questions reached it.

    Raises:
        ConfigurationError: a line is no record, or its name, type or data is none.
    """

    def __init__(
        self,
        records: Iterable[str] | Mapping[str, str | Iterable[str]],
        *,
        negative_ttl: int = 60,
    ) -> None:
        self.present: bool = True
        self.queries: int = 0
        self._negative_ttl = negative_ttl
        self.replace(records)

    def replace(
        self, records: Iterable[str] | Mapping[str, str | Iterable[str]]
    ) -> None:
        """Put these records in the place of all data.

        Args:
            records: as for the class.
        """
        self._sets: dict[tuple[Name, RdataType], RRset] = {}
        self._add_zone(dns.name.root)
        sets: dict[tuple[Name, RdataType], RRset] = {}
        for rrset in map(_parse, _lines(records)):
            sets.setdefault((rrset.name, rrset.rdtype), rrset).add(rrset[0])
        # SOA records first, so that no zone is made up beside theirs.
        for rrset in sorted(sets.values(), key=lambda x: x.rdtype != dns.rdatatype.SOA):
            self._put(rrset)

    def vanish(self) -> None:
        """Take all its servers off the internet, as on 2021-10-04."""
        self.present = False

    def restore(self) -> None:
        """Bring its servers back."""
        self.present = True

    def change(self, name: str, rdtype: str, *values: str, ttl: int = 60) -> None:
        """Set the data of a name and type.

        Args:
            name: owner.
            rdtype: type.
            values: rdata in text.
            ttl: TTL.
        """
        owner = dns.name.from_text(name)
        self._put(dns.rrset.from_text_list(owner, ttl, "IN", rdtype, values))

    def remove(self, name: str, rdtype: str | None = None) -> None:
        """Remove the data of a name.

        Args:
            name: owner.
            rdtype: type; by default all but SOA, which keeps its zone alive.
        """
        owner = dns.name.from_text(name)
        wanted = None if rdtype is None else dns.rdatatype.from_text(rdtype)
        for key in [key for key in self._sets if key[0] == owner]:
            if key[1] == wanted or (wanted is None and key[1] != dns.rdatatype.SOA):
                del self._sets[key]

    def ask(self, name: Name, rdtype: RdataType) -> Lookup | None:
        """Ask its servers, following aliases; None while it has vanished."""
        if not self.present:
            return None
        self.queries += 1
        chain: list[RRset] = []
        for _ in range(_MAX_CHAIN):
            if data := self._sets.get((name, rdtype)):
                return Lookup(dns.rcode.NOERROR, (*chain, data))
            alias = self._sets.get((name, dns.rdatatype.CNAME))
            if alias is None:
                return self._deny(name, chain)
            chain.append(alias)
            name = alias[0].target
        return Lookup(dns.rcode.SERVFAIL)

    def _deny(self, name: Name, chain: list[RRset]) -> Lookup:
        # A name that only has names below it exists, without data (RFC 8020).
        exists = any(owner.is_subdomain(name) for owner, _ in self._sets)
        rcode = dns.rcode.NOERROR if exists else dns.rcode.NXDOMAIN
        return Lookup(rcode, tuple(chain), (self.soa(name),))

    def soa(self, name: Name) -> RRset:
        """The zone's SOA with the TTL of a denial (RFC 2308 section 3)."""
        while (found := self._sets.get((name, dns.rdatatype.SOA))) is None:
            name = name.parent()
        soa = found[0]
        assert isinstance(soa, dns.rdtypes.ANY.SOA.SOA)
        return dns.rrset.from_rdata(found.name, min(found.ttl, soa.minimum), soa)

    def _put(self, rrset: RRset) -> None:
        self._sets[rrset.name, rrset.rdtype] = rrset
        if self.soa(rrset.name).name == dns.name.root:
            self._add_zone(rrset.name.split(min(3, len(rrset.name)))[1])

    def _add_zone(self, apex: Name) -> None:
        soa = soa_rrset(apex, self._negative_ttl, self._negative_ttl)
        self._sets[apex, dns.rdatatype.SOA] = soa


def _lines(records: Iterable[str] | Mapping[str, str | Iterable[str]]) -> list[str]:
    if isinstance(records, str):
        records = records.splitlines()
    if not isinstance(records, Mapping):
        return [line for line in records if line.strip()]
    return [
        f"{name} {line}"
        for name, lines in records.items()
        for line in ([lines] if isinstance(lines, str) else lines)
    ]


def _parse(line: str) -> RRset:
    # Not by dns.zonefile, which takes one zone, and no data that a server should not
    # have but some do, such as a CNAME beside other records.
    fields = _RECORD.fullmatch(line.strip())
    if fields is None:
        raise ConfigurationError(f"record {line!r} is not NAME TTL [IN] TYPE RDATA")
    owner, ttl, rdtype, rdata = fields.groups()
    try:
        name = dns.name.from_text(owner)
        return dns.rrset.from_text(name, dns.ttl.from_text(ttl), "IN", rdtype, rdata)
    except (dns.exception.DNSException, ValueError) as error:
        raise ConfigurationError(f"record {line!r}: {error}") from error
