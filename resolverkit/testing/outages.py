"""Outages of the past, to be replayed. Data, no code.

Texts say what operators and measurements published. Where that leaves room (the TTL of
a record, which resolver was how), the replay takes something ordinary, and says so.
"""

from __future__ import annotations

import dns.rcode

from resolverkit.policy import StalePolicy
from resolverkit.testing.faults import Fault
from resolverkit.testing.outage import Client, Outage, Phase, Vantage

_BEFORE = Phase(name="before", seconds=4, fast=1)
_AFTER = Phase(name="after", seconds=5, fast=1.5)
_THREE = {
    "alpha": Vantage(transport="udp", operator="Alpha"),
    "beta": Vantage(transport="dot", operator="Beta"),
    "gamma": Vantage(transport="doh", operator="Gamma"),
}
_PLAIN = Client(label="dnspython", library="dnspython", vantages=("alpha", "beta"))
_OURS = Client(
    label="resolverkit",
    library="resolverkit",
    vantages=("alpha", "beta", "gamma"),
    keeps=True,
)
_ACCEPTS = Client(
    label="resolverkit",
    library="resolverkit",
    vantages=("alpha", "beta", "gamma"),
    setting="as it is by default: a denial is a refresh",
)
_HOLDS = Client(
    label="resolverkit, hold",
    library="resolverkit",
    vantages=("alpha", "beta", "gamma"),
    setting='StalePolicy(on_denial="hold")',
    stale=StalePolicy(on_denial="hold"),
    keeps=True,
)

_FACEBOOK = Outage(
    name="facebook-2021",
    title="Facebook, Instagram, WhatsApp: all name servers unreachable",
    when="2021-10-04 from 15:39 UTC, for nearly six hours",
    facts=(
        "A command for maintenance took down all links of the backbone, and the edge "
        "withdrew the routes to all four name servers. An address had a TTL of 60 s "
        "and the delegation one of 48 h: every resolver went on asking four servers "
        "that were not there. .com and .net saw these names rise from 7,000 to over "
        "900,000 queries/s."
    ),
    sources="RFC 9520 section 1.1; thousandeyes.com/blog/facebook-outage-analysis",
    signature="timeouts, or SERVFAIL within 4 ms and without EDE; never a denial",
    helps="stale answers (RFC 8767)",
    limits=(
        "Hosts that are down stay down. On that day the addresses answered nobody "
        "either; a stale answer changes which error a program sees, how soon, and how "
        "much load it makes."
    ),
    replay=(
        "www.facebook.com has the TTLs that it had (3600 s, then 60 s); the other two "
        "are taken to have 60 s."
    ),
    records=(
        "www.facebook.com. 3600 IN CNAME star-mini.c10r.facebook.com.",
        "star-mini.c10r.facebook.com. 60 IN A 157.240.1.35",
        "whatsapp.com. 60 IN A 157.240.1.60",
        "instagram.com. 60 IN A 157.240.1.174",
    ),
    names=("www.facebook.com", "whatsapp.com", "instagram.com"),
    # What public resolvers did that day: silence, or SERVFAIL within 4 ms.
    vantages={
        "alpha": Vantage(transport="udp", operator="Alpha", outage="silent"),
        "beta": Vantage(transport="dot", operator="Beta", ede=22),
        "gamma": Vantage(transport="doh", operator="Gamma"),
    },
    clients=(_PLAIN, _OURS),
    phases=(
        Phase(name="healthy", seconds=4, fast=1),
        Phase(name="gone", seconds=14, fast=4.5, outage=True, vanished=True),
        Phase(name="back", seconds=5, fast=1.5),
    ),
)

_FLOODED = Fault(cut_off=True)
_DYN = Outage(
    name="dyn-2016",
    title="Dyn: managed DNS under a flood, in waves",
    when="2016-10-21, 11:10 to 13:20 and 15:50 to 17:00 UTC, and a smaller third wave",
    facts=(
        "A denial of service against an operator of many zones, first in one region, "
        "then everywhere. Resolvers made it worse: some large ones retried at more "
        "than ten times their normal rate (RFC 9520 section 1.1)."
    ),
    sources="dynstatus.com; RFC 9520 section 1.1",
    signature="timeouts and SERVFAIL: from some resolvers at first, later from all",
    helps="stale answers (RFC 8767), and retries that are bounded (RFC 9520)",
    limits=(
        "A name that was not asked for within max stale is not known, and a zone that "
        "moves its hosts meanwhile is known by its old addresses."
    ),
    replay=(
        "Names and addresses are made up, with a TTL of 60 s. In the first wave Gamma "
        "still reaches the name servers, in the second nobody does."
    ),
    records=(
        "www.shop.example. 60 IN A 192.0.2.10",
        "api.news.example. 60 IN A 192.0.2.20",
        "music.example. 60 IN A 192.0.2.30",
    ),
    names=("www.shop.example", "api.news.example", "music.example"),
    vantages={
        "alpha": Vantage(transport="udp", operator="Alpha", outage="silent"),
        "beta": Vantage(transport="dot", operator="Beta"),
        "gamma": Vantage(transport="udp", operator="Gamma"),
    },
    clients=(
        Client(
            label="dnspython",
            library="dnspython",
            vantages=("alpha", "beta", "gamma"),
        ),
        _OURS,
    ),
    phases=(
        Phase(name="before", seconds=4, fast=0.5),
        Phase(
            name="first wave",
            seconds=7,
            fast=2,
            outage=True,
            faults={"alpha": _FLOODED, "beta": _FLOODED},
        ),
        Phase(name="between", seconds=3, fast=0.5),
        Phase(name="second wave", seconds=9, fast=3, outage=True, vanished=True),
        Phase(name="after", seconds=3, fast=1),
    ),
)


def _empty_copy(name: str) -> Fault:
    return Fault(rcode=dns.rcode.NXDOMAIN, soa=True, names=(name,))


_AZURE = tuple(f"db{i}.database.windows.net" for i in range(1, 5))
_MICROSOFT = Outage(
    name="microsoft-2019",
    title="Azure: one of four name servers had an empty copy of the zone",
    when="2019-05-02, 19:29 to 22:35 UTC",
    facts=(
        "In a change of delegation one of four name servers got an empty copy of zones "
        "such as database.windows.net and said NXDOMAIN. About a quarter of all "
        "queries came out wrong, and caching of denials prolonged that."
    ),
    sources="Microsoft's root cause analysis",
    signature="NXDOMAIN from some resolvers, the right answer from others",
    helps="a second operator that is asked before a denial is believed",
    limits=(
        "Two resolvers that chance upon the bad server agree on the denial, and the "
        'name is gone until one asks again; StalePolicy(on_denial="hold") outlasts '
        "that. A name that was never known is not missed: the first denial counts."
    ),
    replay=(
        "Each resolver has asked the bad server about another quarter of the names, "
        "and says so for as long as it lasts. The names are made up, with a TTL of "
        "60 s."
    ),
    records=tuple(f"{name}. 60 IN A 192.0.2.{i}" for i, name in enumerate(_AZURE, 1)),
    names=_AZURE,
    vantages=_THREE,
    clients=(_PLAIN, _OURS),
    phases=(
        _BEFORE,
        Phase(
            name="during",
            seconds=12,
            fast=4,
            outage=True,
            faults={
                vantage: _empty_copy(name)
                for vantage, name in zip(_THREE, _AZURE, strict=False)
            },
        ),
        _AFTER,
    ),
)

_SITES = tuple(f"www.site{i}.example" for i in range(1, 8))
_BROKEN = Fault(rcode=dns.rcode.SERVFAIL, names=_SITES[:1])
_RESOLVER_2023 = Outage(
    name="resolver-2023",
    title="1.1.1.1: SERVFAIL for a part of all names",
    when="2023-10-04, 07:00 to 11:02 UTC",
    facts=(
        "Copies of the root zone had not been renewed since 09-21, and at 07:00 the "
        "signatures in them expired. By data centre, names that are valid failed: 15 % "
        "of all answers were SERVFAIL at the peak, in place of 3 %."
    ),
    sources="blog.cloudflare.com/1-1-1-1-lookup-failures-on-october-4th-2023",
    signature="SERVFAIL for some names from one operator, at all of its addresses",
    helps="another operator; stale answers for those who have no other",
    limits=(
        "A second address of the same operator is no help. Stale answers without "
        "another operator help only names that were known before."
    ),
    replay=(
        "One name of seven fails at both addresses of Alpha. Plain dnspython goes on "
        "to the next server after SERVFAIL, so a second operator cures that too."
    ),
    records=tuple(f"{name}. 60 IN A 192.0.2.{i}" for i, name in enumerate(_SITES, 1)),
    names=_SITES,
    vantages={
        "alpha-1": Vantage(transport="udp", operator="Alpha"),
        "alpha-2": Vantage(transport="udp", operator="Alpha"),
        "beta": Vantage(transport="dot", operator="Beta"),
    },
    clients=(
        Client(
            label="dnspython",
            library="dnspython",
            vantages=("alpha-1", "alpha-2"),
            setting="two addresses of one operator",
        ),
        Client(
            label="dnspython + Beta",
            library="dnspython",
            vantages=("alpha-1", "alpha-2", "beta"),
        ),
        Client(
            label="resolverkit",
            library="resolverkit",
            vantages=("alpha-1", "alpha-2"),
            setting="two addresses of one operator",
            keeps=True,
        ),
        Client(
            label="resolverkit + Beta",
            library="resolverkit",
            vantages=("alpha-1", "alpha-2", "beta"),
            keeps=True,
        ),
    ),
    phases=(
        _BEFORE,
        Phase(
            name="during",
            seconds=12,
            fast=4,
            outage=True,
            faults={"alpha-1": _BROKEN, "alpha-2": _BROKEN},
        ),
        _AFTER,
    ),
)

_RESOLVER_2025 = Outage(
    name="resolver-2025",
    title="1.1.1.1: the addresses of a resolver unreachable, DoH by name still there",
    when="2025-07-14, 21:52 to 22:54 UTC (62 minutes)",
    facts=(
        "A mistake in the configuration of services withdrew the routes to 1.1.1.0/24, "
        "1.0.0.0/24 and their IPv6 counterparts. DNS over HTTPS at cloudflare-dns.com, "
        "which has other addresses, stayed stable."
    ),
    sources="thousandeyes.com, cloudflare-outage-analysis-july-14-2025",
    signature="timeouts over UDP, TCP and DoT; DoH by name answers",
    helps="another transport that has another address, or another operator",
    limits=(
        "It takes an upstream at another address. A program that has nothing but "
        "1.1.1.1 and 1.0.0.1 has stale answers, and no names that are new to it."
    ),
    replay=(
        "Both clients ask one operator. Plain dnspython, which needs another package "
        "for DoH, has UDP and DoT; resolverkit has DoH too."
    ),
    records=(
        "www.shop.example. 60 IN A 192.0.2.10",
        "api.news.example. 60 IN A 192.0.2.20",
        "music.example. 60 IN A 192.0.2.30",
    ),
    names=("www.shop.example", "api.news.example", "music.example"),
    vantages={
        "udp": Vantage(transport="udp", operator="Alpha"),
        "dot": Vantage(transport="dot", operator="Alpha"),
        "doh": Vantage(transport="doh", operator="Alpha"),
    },
    clients=(
        Client(label="dnspython", library="dnspython", vantages=("udp", "dot")),
        Client(
            label="resolverkit",
            library="resolverkit",
            vantages=("udp", "dot", "doh"),
            keeps=True,
        ),
    ),
    phases=(
        _BEFORE,
        Phase(
            name="during",
            seconds=12,
            fast=4.5,
            outage=True,
            faults={"udp": Fault(silent=True), "dot": Fault(silent=True)},
        ),
        _AFTER,
    ),
)

_US = "us. 60 IN SOA ns.us. hostmaster.us. 1 7200 3600 1209600 60"
_ZOOM = Outage(
    name="zoom-2025",
    title="Zoom: the registry took the domain out of its zone",
    when="2025-04-16, 18:25 to 20:12 UTC (107 minutes)",
    facts=(
        "The registry of .us put zoom.us on serverHold, which removed its delegation. "
        "Zoom's own name servers answered correctly, and meetings that were under way "
        "went on: only the name was gone."
    ),
    sources="zoom.statuspage.io; domainincite.com",
    signature="NXDOMAIN from .us for every name under zoom.us, from every resolver",
    helps='last known good: StalePolicy(on_denial="hold")',
    limits=(
        "RFC 8767 takes a denial as a refresh, so stale answers alone lose the name. "
        "To hold against a denial masks names that were deleted on purpose, for up to "
        "the window; it is off by default. Names that were never known stay unknown."
    ),
    replay="Names below zoom.us and all addresses are made up, with TTLs of 60 s.",
    records=(
        _US,
        "zoom.us. 60 IN A 192.0.2.10",
        "www.zoom.us. 60 IN A 192.0.2.20",
        "api.zoom.us. 60 IN A 192.0.2.30",
    ),
    names=("zoom.us", "www.zoom.us", "api.zoom.us"),
    vantages=_THREE,
    clients=(_PLAIN, _ACCEPTS, _HOLDS),
    phases=(
        _BEFORE,
        Phase(name="during", seconds=12, fast=4, outage=True, records=(_US,)),
        _AFTER,
    ),
)

_REGIONAL = (
    "amazonaws.com. 60 IN SOA ns.amazonaws.com. hostmaster.amazonaws.com. "
    "1 7200 3600 1209600 60"
)
_ENDPOINT = "dynamodb.us-east-1.amazonaws.com"
_DYNAMODB = Outage(
    name="dynamodb-2025",
    title="DynamoDB in us-east-1: all addresses of the endpoint deleted",
    when="2025-10-20, 06:48 to 09:40 UTC (172 minutes)",
    facts=(
        "Two processes that write DNS records raced each other, and all addresses of "
        "dynamodb.us-east-1.amazonaws.com were deleted. The name stayed, empty. "
        "Connections that existed went on working: only the name was gone."
    ),
    sources="failure-modes.dev",
    signature="NOERROR with an empty answer (NODATA); one account has NXDOMAIN",
    helps='last known good: StalePolicy(on_denial="hold")',
    limits=(
        "RFC 8767 takes a denial as a refresh, so stale answers alone lose the name. "
        "Held addresses are the old ones: where an operator moves a service by DNS, "
        "they lead to what is no longer in use."
    ),
    replay="The address is made up, with a TTL of 60 s.",
    records=(_REGIONAL, f"{_ENDPOINT}. 60 IN A 192.0.2.10"),
    names=(_ENDPOINT,),
    vantages=_THREE,
    clients=(_PLAIN, _ACCEPTS, _HOLDS),
    phases=(
        _BEFORE,
        Phase(
            name="during",
            seconds=12,
            fast=4,
            outage=True,
            # Something else is at the name, so that it exists.
            records=(_REGIONAL, f'{_ENDPOINT}. 60 IN TXT "empty"'),
        ),
        _AFTER,
    ),
)

_GERMAN = ("www.shop.example.de", "api.news.example.de")
_DE = Outage(
    name="de-2026",
    title=".de: signatures of the registry that do not validate",
    when="2026-05-05, from the evening until after 01:00 CEST",
    facts=(
        "In a rollover of keys three pairs had the tag 33834 and one was published; "
        "only some of six name servers signed correctly. Validating resolvers failed, "
        "on and off, for names under .de; others noticed nothing. Cloudflare suspended "
        "validation of .de at 22:17 UTC, and says that stale answers cushioned it."
    ),
    sources="blog.cloudflare.com/de-tld-outage-dnssec",
    signature=(
        "SERVFAIL from all that validate, with EDE 6 (DNSSEC Bogus) or, from 1.1.1.1, "
        "22 (No Reachable Authority)"
    ),
    helps="stale answers (RFC 8767); those that were learnt validated come first",
    limits=(
        "A resolver that does not validate has answers for new names too, and cannot "
        "tell them from forged ones: to take those is a choice. The EDE may be wrong."
    ),
    replay=(
        "Alpha and Beta validate; Gamma does not and is the last resort. Half of the "
        "names are under .de. They are made up, with TTLs of 60 s (elsewhere 30 s). "
        "All ask with DO, without which nobody says what was validated (RFC 6840)."
    ),
    records=(
        "www.shop.example.de. 60 IN A 192.0.2.10",
        "api.news.example.de. 60 IN A 192.0.2.20",
        "www.shop.example. 30 IN A 192.0.2.30",
        "api.news.example. 30 IN A 192.0.2.40",
    ),
    names=(*_GERMAN, "www.shop.example", "api.news.example"),
    vantages={
        "alpha": Vantage(transport="udp", operator="Alpha", validates=True),
        "beta": Vantage(transport="dot", operator="Beta", validates=True),
        "gamma": Vantage(transport="udp", operator="Gamma"),
    },
    clients=(
        Client(
            label="dnspython",
            library="dnspython",
            vantages=("alpha", "beta"),
            setting="only those that validate",
            dnssec_ok=True,
        ),
        Client(
            label="dnspython + Gamma",
            library="dnspython",
            vantages=("alpha", "beta", "gamma"),
            dnssec_ok=True,
        ),
        Client(
            label="resolverkit",
            library="resolverkit",
            vantages=("alpha", "beta", "gamma"),
            setting='strategy="failover": Gamma only where the others fail',
            strategy="failover",
            dnssec_ok=True,
            keeps=True,
        ),
    ),
    phases=(
        _BEFORE,
        Phase(
            name="during",
            seconds=12,
            fast=4,
            outage=True,
            faults={
                "alpha": Fault(rcode=dns.rcode.SERVFAIL, ede=6, names=_GERMAN),
                "beta": Fault(rcode=dns.rcode.SERVFAIL, ede=22, names=_GERMAN),
            },
        ),
        _AFTER,
    ),
)

OUTAGES: dict[str, Outage] = {
    outage.name: outage
    for outage in (
        _FACEBOOK, _DYN, _MICROSOFT, _RESOLVER_2023, _RESOLVER_2025, _ZOOM, _DYNAMODB,
        _DE,
    )
}  # fmt: skip
"""Every outage that can be replayed, by name."""
