"""What dnspython's resolvers do, ours do: one table, four faces, one loopback server.

The rows are the behaviours that dnspython's own tests of its resolvers cover, without
the internet. Each row is done to `dns.resolver`, `dns.asyncresolver`, our asyncio face
and our blocking face; what comes of it has to be the same: values, or the exception's
class (ours are subclasses) and its details.
"""

from __future__ import annotations

import asyncio
import inspect
import io
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.name
import dns.nameserver
import dns.rdataclass
import dns.rdatatype
import dns.resolver
import pytest
from loopback_lab import lab_in_thread

import resolverkit
from resolverkit import blocking
from resolverkit.testing import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

RECORDS = {
    "www.example.com.": ["300 A 192.0.2.1", "300 AAAA 2001:db8::1"],
    "two.example.com.": ["300 A 192.0.2.2", "300 A 192.0.2.3"],
    "v4.example.com.": "300 A 192.0.2.4",
    "v6.example.com.": "300 AAAA 2001:db8::6",
    "alias.example.com.": "300 CNAME second.example.com.",
    "second.example.com.": "120 CNAME www.example.com.",
    "dangling.example.com.": "300 CNAME nowhere.example.com.",
    "text.example.com.": '300 TXT "a" "b"',
    "example.com.": ["300 MX 10 mail.example.com.", "300 NS ns.example.com."],
    "_sip._tcp.example.com.": "300 SRV 1 2 5060 www.example.com.",
    "www.lan.example.": "300 A 192.0.2.10",
    "www.far.example.": "300 A 192.0.2.11",
    "deep.www.lan.example.": "300 A 192.0.2.12",
    "empty.lan.example.": '300 TXT "no address"',
    "empty.far.example.": "300 A 192.0.2.13",
    "only.far.example.": "300 A 192.0.2.14",
    "xn--bcher-kva.example.com.": "300 A 192.0.2.15",
    "broken.example.com.": "300 A 192.0.2.16",
    "1.2.0.192.in-addr.arpa.": "300 PTR www.example.com.",
    f"1.{'0.' * 23}8.b.d.0.1.0.0.2.ip6.arpa.": "300 PTR www.example.com.",
}
WWW = "www.example.com"
SEARCH = [dns.name.from_text("lan.example"), dns.name.from_text("far.example")]
FACES = {
    "dns.resolver": dns.resolver.Resolver,
    "dns.asyncresolver": dns.asyncresolver.Resolver,
    "resolverkit": resolverkit.Resolver,
    "resolverkit.blocking": blocking.Resolver,
}


@dataclass
class Row:
    """A behaviour: what is set first, and what is done then."""

    name: str
    do: Callable[[Any], Any]
    options: dict[str, Any] = field(default_factory=dict)
    shape: Callable[[Any], Any] | None = None  # what of the result has to be the same


def ask(*args, **kwargs):
    return lambda resolver: resolver.resolve(*args, **kwargs)


def name_of(*args, **kwargs):
    return lambda resolver: resolver.resolve_name(*args, **kwargs)


def search(name, ndots=None, rdtype="A", **kwargs):
    options = {"search": SEARCH, "ndots": ndots}
    return f"search {name} ndots={ndots}", ask(name, rdtype, search=True), options


def ttl(data):
    """The server counts down between one face and the next."""
    return round(data.ttl, -2)


def chain(answer):
    cnames = answer.chaining_result.cnames
    return [(str(c.name), str(c[0])) for c in cnames], ttl(answer)


def parts(answer):
    return (
        len(answer), answer[0].address, [str(r) for r in answer], answer.name,
        ttl(answer), answer[0] in answer, answer.nameserver, answer.port == 53,
        answer.rdtype, answer.rdclass, str(answer.canonical_name),
        bool(answer.response.flags & dns.flags.RA), answer.response.question[0].name,
    )  # fmt: skip


def where(answer):
    return answer.nameserver, answer.port > 1024


def read(text):
    """What resolv.conf says."""

    def do(resolver):
        resolver.read_resolv_conf(io.StringIO(text))
        return [
            list(resolver.nameservers), resolver.search, resolver.domain,
            resolver.ndots, resolver.timeout, resolver.rotate, resolver.edns,
        ]  # fmt: skip

    return do


def twice(first, second):
    async def both(resolver):
        await first(resolver)
        return await second(resolver)

    def do(resolver):
        if asyncio.iscoroutinefunction(resolver.resolve):
            return both(resolver)
        first(resolver)
        return second(resolver)

    return do


def set_to(name, value):
    return lambda resolver: setattr(resolver, name, value)


def edns(*args):
    def do(resolver):
        resolver.use_edns(*args)
        return resolver.resolve(WWW)

    return do


def flags(value):
    def do(resolver):
        resolver.set_flags(value)
        return resolver.resolve(WWW)

    return do


def by_ports(resolver):
    resolver.nameserver_ports = {"127.0.0.1": resolver.port}
    resolver.port = 1
    return resolver.resolve(WWW)


def by_nameserver(resolver):
    server = dns.nameserver.Do53Nameserver("127.0.0.1", resolver.port)
    resolver.nameservers = [server]
    return resolver.resolve(WWW)


def candidates(name, **options):
    """The names that would be tried, without asking anybody."""

    def do(resolver):
        for key, value in options.items():
            setattr(resolver, key, value)
        found = resolver._get_qnames_to_try(dns.name.from_text(name, None), True)
        return [str(candidate) for candidate in found]

    return f"candidates {name} {options}", do


ROWS = [
    # names and types
    Row("relative name", ask(WWW, "A"), shape=parts),
    Row("absolute name", ask(WWW + ".", "A"), shape=parts),
    Row("a Name", ask(dns.name.from_text(WWW), "A"), shape=parts),
    Row("a relative Name", ask(dns.name.from_text(WWW, None), "A"), shape=parts),
    Row("type by default", ask(WWW)),
    Row("type as a number", ask(WWW, 28)),
    Row("type as a constant", ask(WWW, dns.rdatatype.AAAA)),
    Row("type in lower case", ask(WWW, "aaaa")),
    Row("class as text", ask(WWW, "A", "IN")),
    Row("class as a constant", ask(WWW, "A", dns.rdataclass.IN)),
    Row("several addresses", ask("two.example.com")),
    Row("MX", ask("example.com", "MX")),
    Row("NS", ask("example.com", "NS")),
    Row("TXT", ask("text.example.com", "TXT")),
    Row("SRV", ask("_sip._tcp.example.com", "SRV")),
    Row("IDNA", ask("b\xfccher.example.com")),
    Row("generic type", ask(WWW, "TYPE1")),
    Row("unknown type", ask(WWW, "NOSUCHTYPE")),
    Row("unknown class", ask(WWW, "A", "NOSUCHCLASS")),
    Row("empty label", ask("a..b")),
    Row("long label", ask("a" * 64)),
    Row("long name", ask("a." * 130)),
    Row("bad escape", ask("a\\25")),
    # transport
    Row("over TCP", ask(WWW, tcp=True), shape=parts),
    Row("from an address", ask(WWW, source="127.0.0.1")),
    Row("arguments by place",
        ask(WWW, "A", "IN", False, None, True, 0, 3.0, False)),
    Row("server and port", ask(WWW), shape=where),
    Row("ports of servers", by_ports, shape=where),
    Row("a Nameserver", by_nameserver, shape=where),
    Row("no servers", ask(WWW), {"nameservers": []}),
    Row("servers that are no list", set_to("nameservers", "127.0.0.1")),
    Row("servers that are none", set_to("nameservers", ["nonsense"])),
    Row("EDNS", edns(0, 0, 1232)),
    Row("EDNS True", edns(True)),
    Row("EDNS off", edns(None)),
    Row("EDNS with DO", edns(0, dns.flags.DO, 4096)),
    Row("flags", flags(dns.flags.RD | dns.flags.CD)),
    # aliases
    Row("aliases", ask("alias.example.com"), shape=chain),
    Row("aliases, what is found", ask("alias.example.com"), shape=parts),
    Row("an alias itself", ask("alias.example.com", "CNAME")),
    Row("canonical name", lambda r: r.canonical_name("alias.example.com")),
    Row("canonical name of no alias", lambda r: r.canonical_name(WWW)),
    Row("canonical name of what is not there",
        lambda r: r.canonical_name("dangling.example.com")),
    Row("canonical name without an address",
        lambda r: r.canonical_name("text.example.com")),
    Row("a dangling alias", ask("dangling.example.com")),
    # denials
    Row("NXDOMAIN", ask("nosuch.example.com")),
    Row("NXDOMAIN whatever is raised",
        ask("nosuch.example.com", raise_on_no_answer=False)),
    Row("NoAnswer", ask(WWW, "MX")),
    Row("NoAnswer that is not raised", ask(WWW, "MX", raise_on_no_answer=False)),
    Row("NoAnswer by an alias", ask("alias.example.com", "MX")),
    Row("NoAnswer above a name", ask("_tcp.example.com")),
    # failures
    Row("SERVFAIL", ask("broken.example.com")),
    Row("lifetime", ask("silent.example.com", lifetime=0.2), {"nameservers": ["dead"]}),
    Row("lifetime of the resolver", ask("silent.example.com"),
        {"nameservers": ["dead"], "lifetime": 0.2}),
    # metaqueries
    *(Row(f"metaquery {rdtype}", ask(WWW, rdtype))
      for rdtype in ("ANY", "AXFR", "IXFR", "MAILA", "MAILB", "OPT", "TSIG")),
    Row("metaquery class ANY", ask(WWW, "A", "ANY")),
    Row("metaquery class NONE", ask(WWW, "A", "NONE")),
    # search list
    *(Row(*search(name, ndots))
      for name in ("www", "only", "empty", "nosuch", "deep.www", "www.lan.example",
                   WWW, WWW + ".", "www.", "nosuch.nosuch")
      for ndots in (None, 0, 1, 2, 3)),
    Row("search by default", ask("www"),
        {"search": SEARCH, "use_search_by_default": True}),
    Row("search by default, but not this time", ask("www", search=False),
        {"search": SEARCH, "use_search_by_default": True}),
    Row("no search by default", ask("www"), {"search": SEARCH}),
    Row("search in the domain", ask("www", search=True), {"domain": SEARCH[0]}),
    Row("search in the root", ask("www", search=True), {"domain": dns.name.root}),
    Row("search, nothing there", ask("nosuch", "A", search=True), {"search": SEARCH}),
    *(Row(*candidates(name, **options))
      for name in ("www", "www.sub", "www.sub.", "a.b.c.d")
      for options in ({"search": SEARCH, "ndots": None}, {"search": SEARCH, "ndots": 2},
                      {"search": [], "domain": SEARCH[0]},
                      {"search": [], "domain": dns.name.root})),
    # addresses
    *(Row(f"resolve_name {name} {int(family)}", name_of(name, family))
      for name in (WWW, "v4.example.com", "v6.example.com", "text.example.com",
                   "nosuch.example.com", "alias.example.com")
      for family in (socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6)),
    Row("resolve_name by default", name_of(WWW)),
    Row("resolve_name of a Name", name_of(dns.name.from_text(WWW))),
    Row("resolve_name of a wrong family", name_of(WWW, 99)),
    Row("resolve_name, nothing raised",
        name_of("text.example.com", raise_on_no_answer=False)),
    Row("resolve_name with options", name_of(WWW, lifetime=3.0, tcp=True)),
    Row("resolve_name, type and class given",
        name_of(WWW, rdtype="MX", rdclass="CH")),
    Row("reverse name", lambda r: r.resolve_address("192.0.2.1")),
    Row("reverse name of IPv6", lambda r: r.resolve_address("2001:db8::1")),
    Row("reverse name with options",
        lambda r: r.resolve_address("192.0.2.1", lifetime=3.0, tcp=True)),
    Row("reverse name of nobody", lambda r: r.resolve_address("192.0.2.99")),
    Row("reverse name of no address", lambda r: r.resolve_address("nonsense")),
    # cache
    Row("a cache of dnspython's", twice(ask(WWW), ask(WWW)),
        {"cache": dns.resolver.LRUCache}),
    Row("the other cache of dnspython's", twice(ask(WWW), ask(WWW)),
        {"cache": dns.resolver.Cache}),
    Row("no cache", twice(ask(WWW), ask(WWW)), {"cache": lambda: None}),
    Row("a denial out of the cache",
        twice(name_of(WWW), ask("nosuch.example.com")),
        {"cache": dns.resolver.LRUCache}),
    # configuration
    Row("resolv.conf", read("nameserver 192.0.2.1\nnameserver 192.0.2.2\n")),
    Row("resolv.conf, all of it", read(
        "# comment\n; comment\nnameserver 192.0.2.1\nsearch a.example b.example\n"
        "options ndots:2 timeout:7 rotate edns0 nonsense\nunknown thing\nshort\n")),
    Row("resolv.conf, domain after search", read(
        "nameserver 192.0.2.1\nsearch a.example\ndomain c.example\n")),
    Row("resolv.conf, bad numbers", read(
        "nameserver 192.0.2.1\noptions ndots:x timeout:y\n")),
    Row("resolv.conf without servers", read("search a.example\n")),
    Row("reset", lambda r: (r.reset(), list(r.nameservers), r.lifetime)[1:]),
]  # fmt: skip


@pytest.fixture(scope="module")
def ports():
    """Of a server that answers, and of one that does not."""
    with lab_in_thread(RECORDS, ("udp", "udp")) as lab:
        live, dead = lab.upstreams
        live.fault = Fault(rcode=2, names={"broken.example.com"})
        dead.fault = Fault(silent=True)
        yield live.port, dead.port


def make(face, options, ports):
    resolver = FACES[face](configure=False)
    live, dead = ports
    resolver.port = live
    resolver.domain = dns.name.root
    resolver.nameservers = ["127.0.0.1"]
    for name, value in options.items():
        if value == ["dead"]:
            resolver.port = dead
        else:
            setattr(resolver, name, value() if name == "cache" else value)
    return resolver


def outcome(face, row, ports):
    async def main():
        resolver = make(face, row.options, ports)
        try:
            result = row.do(resolver)
            return await result if inspect.isawaitable(result) else result
        finally:
            if isinstance(resolver, resolverkit.Resolver):
                await resolver.aclose()

    try:
        if face.endswith(("asyncresolver", "kit")):
            result = asyncio.run(main())
        else:
            resolver = make(face, row.options, ports)
            try:
                result = row.do(resolver)
            finally:
                getattr(resolver, "close", lambda: None)()
        return (row.shape or shape)(result)
    except Exception as error:  # noqa: BLE001
        return told(error)


def shape(result):
    """What has to be the same of a result."""
    if isinstance(result, dns.resolver.HostAnswers):
        return sorted(result.addresses()), result.canonical_name()
    if isinstance(result, dns.resolver.Answer):
        found = None
        if result.rrset is not None:
            rrset = result.rrset
            found = rrset.name, ttl(rrset), sorted(map(str, rrset))
        return (
            result.qname, int(result.rdtype), result.canonical_name, found,
            int(result.response.rcode()), [str(q) for q in result.response.question],
        )  # fmt: skip
    return result


KINDS = (
    dns.resolver.NXDOMAIN, dns.resolver.NoAnswer, dns.resolver.NoNameservers,
    dns.resolver.LifetimeTimeout, dns.resolver.NoMetaqueries,
    dns.resolver.NoResolverConfiguration, dns.exception.DNSException, ValueError,
)  # fmt: skip


def told(error):
    """What has to be the same of an exception."""
    kind = next((k for k in KINDS if isinstance(error, k)), type(error))
    if kind is dns.exception.DNSException:
        kind = type(error)
    details = []
    if kind is dns.resolver.NXDOMAIN:
        details = [error.qnames(), sorted(error.responses()), error.canonical_name]
        details += [str(error), [r.rcode() for r in error.responses().values()]]
    elif kind is dns.resolver.NoAnswer:
        response = error.kwargs["response"]
        details = [str(error), response.rcode(), [str(q) for q in response.question]]
    elif kind is dns.resolver.NoNameservers:
        details = [str(error.kwargs["request"].question[0])]
    return [kind.__name__, *details]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_all_faces_do_the_same(row, ports):
    wanted = outcome("dns.resolver", row, ports)
    for face in FACES:
        assert outcome(face, row, ports) == wanted, face


# --- the rest of dnspython's tests, that are no table --------------------------------


OURS = pytest.mark.parametrize("face", ["resolverkit.blocking", "dns.resolver"])


@OURS
def test_the_cache_counts_and_can_be_flushed(face, ports):
    resolver = make(face, {"cache": dns.resolver.LRUCache}, ports)
    key = (dns.name.from_text(WWW), dns.rdatatype.A, dns.rdataclass.IN)
    first = resolver.resolve(WWW)
    assert resolver.cache.misses() in {1, 2}  # dnspython looks for NXDOMAIN too
    second = resolver.resolve(WWW)
    assert resolver.cache.hits() == 1
    assert abs(second.expiration - first.expiration) < 1
    assert resolver.cache.get(key)[0].address == "192.0.2.1"
    resolver.cache.flush(key)
    assert resolver.cache.get(key) is None
    resolver.resolve(WWW)
    resolver.cache.flush()
    assert resolver.cache.get(key) is None
    resolver.cache.reset_statistics()
    assert (resolver.cache.hits(), resolver.cache.misses()) == (0, 0)


@OURS
def test_the_system_resolver_can_be_overridden_and_restored(face, ports):
    names = ("getaddrinfo", "getnameinfo", "getfqdn", "gethostbyname",
             "gethostbyname_ex", "gethostbyaddr")  # fmt: skip
    before = [getattr(socket, name) for name in names]
    dns.resolver.override_system_resolver(make(face, {}, ports))
    try:
        found = socket.getaddrinfo(WWW, 80, socket.AF_INET, socket.SOCK_STREAM)
        assert found == [(2, 1, 6, "", ("192.0.2.1", 80))]
        assert socket.gethostbyname("two.example.com") in {"192.0.2.2", "192.0.2.3"}
        assert socket.gethostbyaddr("192.0.2.1") == (WWW, [], ["192.0.2.1"])
        assert socket.getnameinfo(("192.0.2.1", 80), 0) == (WWW, "http")
        for name, code in (("nosuch.example.com", socket.EAI_NONAME),
                           ("broken.example.com", socket.EAI_AGAIN)):  # fmt: skip
            with pytest.raises(socket.gaierror) as caught:
                socket.getaddrinfo(name, 80)
            assert caught.value.errno == code
    finally:
        dns.resolver.restore_system_resolver()
    assert [getattr(socket, name) for name in names] == before
