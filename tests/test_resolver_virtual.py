"""The Resolver as a whole, in virtual time: names, options, errors, loops, memory."""

import asyncio
import contextlib
import copy
import gc
import io
import json
import pickle
import socket
import threading

import dns.asyncbackend
import dns.asyncresolver
import dns.exception
import dns.message
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver
import dns.reversename
import dns.rrset
import dns.tsigkeyring
import pytest
from virtual import (
    WWW,
    at,
    call,
    data,
    moments,
    ms,
    quick_answer,
    quick_nxdomain,
    resolver,
    told,
    upstreams,
)

import resolverkit
from resolverkit import ConfigurationError, Resolver, Source
from resolverkit.testing import (
    ScriptedUpstream,
    Step,
    VirtualLoop,
    answer,
    nodata,
    nxdomain,
    rcode,
    run,
    servfail,
    silent,
    wire,
)

GOOD = answer("192.0.2.1", ttl=60)
RESOLV_CONF = """\
search corp.example lab.example
nameserver 192.0.2.53
"""


def private(name="inside", script=GOOD, **options):
    return ScriptedUpstream(name, script, private=True, **options)


def configured(*members, text=RESOLV_CONF, **options):
    """A Resolver with a search list of resolv.conf, and upstreams of its own."""
    return Resolver(
        list(members), filename=io.StringIO(text),
        clock=VirtualLoop.running().clock, **options,
    )  # fmt: skip


def names(upstream):
    return [text for _, text in upstream.asked]


# --- it is dnspython's ---------------------------------------------------------------


def test_it_is_a_dnspython_resolver():
    """`Resolver` **is a** `dns.asyncresolver.Resolver`."""

    async def main():
        r = resolver(*upstreams(GOOD))
        assert isinstance(r, dns.asyncresolver.Resolver)
        answer = await r.resolve(WWW, "A", "IN", False, None, True, 0, 5.0, None, None)
        assert isinstance(answer, dns.resolver.Answer)
        assert [rdata.address for rdata in answer] == ["192.0.2.1"]
        assert answer.qname == dns.name.from_text(WWW)
        assert answer.canonical_name == dns.name.from_text(WWW)
        assert (answer.nameserver, answer.port) == ("192.0.2.1", 53)
        assert answer.response.answer[0] == answer.rrset
        for clone in (copy.copy(answer), pickle.loads(pickle.dumps(answer))):  # noqa: S301
            assert clone[0].address == "192.0.2.1"
            assert clone.path.source is Source.UPSTREAM
        json.dumps(answer.path.to_dict())

    run(main)


@pytest.mark.parametrize(
    "qname", [WWW, f"{WWW}.", "WWW.Example.com", dns.name.from_text(WWW)]
)
def test_a_name_may_be_written_in_any_way(qname):
    async def main():
        r = resolver(*upstreams(GOOD))
        await call(r)
        return await call(r, qname)

    assert run(main) == ("192.0.2.1", "cache", 0)


@pytest.mark.parametrize("rdtype", ["A", "a", 1, dns.rdatatype.A])
def test_a_type_may_be_written_in_any_way(rdtype):
    async def main():
        r = resolver(*upstreams(GOOD))
        await call(r)
        return await call(r, rdtype=rdtype)

    assert run(main) == ("192.0.2.1", "cache", 0)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("a..example",), dns.name.EmptyLabel),
        (("a" * 64 + ".example",), dns.name.LabelTooLong),
        ((".".join(["a" * 60] * 5),), dns.name.NameTooLong),
        ((WWW, "NONSENSE"), dns.rdatatype.UnknownRdatatype),
        ((WWW, "ANY"), dns.resolver.NoMetaqueries),
        ((WWW, "AXFR"), dns.resolver.NoMetaqueries),
        ((WWW, "A", "ANY"), dns.resolver.NoMetaqueries),
    ],
)
def test_bad_input_is_refused_before_any_packet(arguments, error):
    async def main():
        (a,) = upstreams(GOOD)
        r = resolver(a)
        with pytest.raises(error):
            await r.resolve(*arguments)
        return a.count

    assert run(main) == 0


@pytest.mark.parametrize("known", [False, True], ids=["a miss", "after a hit"])
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((None,), "qname=None: allowed are"),
        ((b"www.example.com",), "qname=b'www.example.com': allowed are"),
        ((5,), "qname=5: allowed are"),
        ((WWW, None), "rdtype=None: allowed are"),
        ((WWW, b"A"), "rdtype=b'A': allowed are"),
        ((WWW, "A", None), "rdclass=None: allowed are"),
    ],
)
def test_what_is_no_name_type_or_class_is_told(arguments, told, known):
    async def main():
        (a,) = upstreams(GOOD)
        r = resolver(a)
        for _ in range(3 if known else 0):
            await r.resolve(WWW)
        for search in (None, True):
            with pytest.raises(TypeError, match=told):
                await r.resolve(*arguments, search=search)
        with pytest.raises(TypeError, match=told):
            await r.survey(*arguments)
        return a.count

    assert run(main) == known


@pytest.mark.parametrize("lifetime", [0, -1, "soon", True])
def test_a_lifetime_that_is_none_is_refused(lifetime):
    async def main():
        with pytest.raises(ConfigurationError, match="lifetime"):
            await resolver(*upstreams(GOOD)).resolve(WWW, lifetime=lifetime)

    run(main)


@pytest.mark.parametrize(
    "options",
    [
        {"strategy": "fastest"},
        {"on_block": "ignore"},
        {"cache_size": -1},
        {"stale": "always"},
        {"routes": {"corp.example.": []}},
        {"routes": {"corp.example.": ["nonsense://x"]}},
        {"upstreams": [42]},
        {"upstreams": 42},
        {"upstreams": ["gopher://192.0.2.1"]},
    ],
)
def test_options_that_cannot_be_are_refused(options):
    options = {"upstreams": ["192.0.2.1"], **options}
    with pytest.raises(ConfigurationError):
        Resolver(configure=False, **options)


# --- denials and errors --------------------------------------------------------------


def test_raise_on_no_answer():
    async def main():
        r = resolver(*upstreams(nodata()))
        assert await call(r) == ("NoAnswer", "upstream", 10)
        got = await call(r, raise_on_no_answer=False)
        assert got == ("", "cache", 0)
        assert got.result.rrset is None
        error = (await call(r)).result
        assert isinstance(error, dns.resolver.NoAnswer)
        assert error.response().authority
        assert error.path.source is Source.CACHE

    run(main)


def test_nxdomain_has_dnspythons_attributes():
    async def main():
        r = resolver(*upstreams(nxdomain(cname=["gone.example"])))
        error = (await call(r)).result
        assert isinstance(error, dns.resolver.NXDOMAIN)
        name = dns.name.from_text(WWW)
        assert error.qnames() == [name]
        assert error.response(name).rcode() == 3
        assert error.canonical_name == dns.name.from_text("gone.example")
        assert error.path.winner.upstream == "a"

    run(main)


def test_nxdomain_may_be_signed():
    keys = dns.tsigkeyring.from_text({"key.": "c2VjcmV0"})

    def signed(asked):
        query = dns.message.from_wire(asked.wire, keyring=keys)
        reply = dns.message.make_response(query)
        reply.set_rcode(3)
        soa = "ns.example. mail.example. 1 2 3 4 300"
        reply.authority.append(dns.rrset.from_text("example.com.", 300, 1, 6, soa))
        return reply.to_wire()

    async def main():
        r = resolver(*upstreams(Step(signed)))
        r.use_tsig(keys)
        return (await call(r)).result

    error = run(main)
    assert isinstance(error, dns.resolver.NXDOMAIN)
    assert error.response(dns.name.from_text(WWW)).had_tsig


def test_yxdomain():
    async def main():
        return await call(resolver(*upstreams(rcode(6))))

    got = run(main)
    assert got == ("YXDOMAIN", "upstream", 10)
    assert isinstance(got.result, dns.resolver.YXDOMAIN)
    assert told(got.path) == [("a", "name too long")]


def test_no_nameservers_says_why_where_nobody_was_asked():
    async def main():
        none = resolver()
        alone = (await call(none)).result
        r = resolver(*upstreams(silent()))
        closed = asyncio.ensure_future(call(r))
        await asyncio.sleep(0)
        await r.aclose()
        return alone, (await closed).result

    alone, closed = run(main)
    asked = f"All nameservers failed to answer the query {WWW}. IN A: "
    assert str(alone) == f"{asked}no upstream is configured"
    assert str(closed) == f"{asked}the resolver was closed"


def test_no_nameservers_lists_every_server():
    async def main():
        return await call(resolver(*upstreams(servfail(), silent(), rcode(5))))

    got = run(main)
    assert got.what == "NoNameservers"
    assert [error[0] for error in got.result.kwargs["errors"]] == ["a", "b", "c"]
    assert all(name in str(got.result) for name in ("a", "b", "c", "SERVFAIL"))


# --- search lists --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("qname", "options", "asked"),
    [
        ("www", {"search": True}, ["www.one.example.", "www.two.example.", "www."]),
        ("www.", {"search": True}, ["www."]),
        (
            "www.sub",
            {"search": True},
            ["www.sub.", "www.sub.one.example.", "www.sub.two.example."],
        ),
        ("www", {"search": False}, ["www."]),
        ("www", {}, ["www."]),
    ],
)
def test_search_lists_are_dnspythons(qname, options, asked):
    async def main():
        a = private("a", nxdomain())
        r = resolver(a)
        r.search = [dns.name.from_text(f"{x}.example") for x in ("one", "two")]
        got = await call(r, qname, **options)
        assert got.what == "NXDOMAIN"
        assert [str(name) for name in got.result.qnames()] == asked
        return [name.split()[0] for name in names(a)]

    assert run(main) == asked


def test_the_first_candidate_with_data_counts():
    async def main():
        a = private("a", {"www.two.example": GOOD})
        r = resolver(a)
        r.use_search_by_default = True
        r.search = [dns.name.from_text(f"{x}.example") for x in ("one", "two")]
        got = await call(r, "www")
        assert got.result.qname == dns.name.from_text("www.two.example")
        again = await call(r, "www")
        return got.what, again, a.count

    assert run(main) == ("192.0.2.1", ("192.0.2.1", "cache", 0), 2)


def test_a_failure_ends_the_search():
    """The first candidate may exist: the others must not answer in its place."""

    async def main():
        a = private("a", {"www.one.example": servfail(), "*": GOOD})
        r = resolver(a)
        r.search = [dns.name.from_text(f"{x}.example") for x in ("one", "two")]
        return await call(r, "www", search=True)

    assert run(main).what == "NoNameservers"


def test_one_lifetime_for_all_candidates():
    async def main():
        a = private("a", nxdomain(after=0.4))
        r = resolver(a)
        r.search = [dns.name.from_text(f"{x}.example") for x in ("one", "two", "six")]
        return await call(r, "www", search=True, lifetime=1)

    assert run(main) == ("LifetimeTimeout", "upstream", 1000)


# --- conveniences --------------------------------------------------------------------


def test_resolve_name_asks_both_families_at_once():
    """`resolve_name` asks A and AAAA at once under one deadline."""

    async def main():
        (a,) = upstreams(answer("192.0.2.1", "2001:db8::1", after=0.3))
        r = resolver(a)
        found = await r.resolve_name(WWW)
        assert sorted(found.addresses()) == ["192.0.2.1", "2001:db8::1"]
        assert isinstance(found, dns.resolver.HostAnswers)
        return moments(a), ms()

    assert run(main) == ([0, 0], 300)


def test_one_deadline_for_both_families():
    async def main():
        (a,) = upstreams(silent())
        r = resolver(a)
        with pytest.raises(dns.resolver.LifetimeTimeout) as caught:
            await r.resolve_name(WWW, lifetime=0.7)
        assert caught.value.path.attempts
        return ms()

    assert run(main) == 700


@pytest.mark.parametrize(
    ("family", "found"),
    [(socket.AF_INET, ["192.0.2.1"]), (socket.AF_INET6, ["2001:db8::1"])],
)
def test_resolve_name_for_one_family(family, found):
    async def main():
        (a,) = upstreams(answer("192.0.2.1", "2001:db8::1"))
        answers = await resolver(a).resolve_name(WWW, family)
        return list(answers.addresses()), a.count

    assert run(main) == (found, 1)


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (nodata(), "NoAnswer"),
        (nxdomain(), "NXDOMAIN"),
        (servfail(), "NoNameservers"),
        ({f"{WWW} A": nodata(), f"{WWW} AAAA": servfail()}, "NoNameservers"),
        ({f"{WWW} A": servfail(), f"{WWW} AAAA": nodata()}, "NoNameservers"),
    ],
)
def test_resolve_name_without_an_address(script, error):
    async def main():
        r = resolver(*upstreams(script))
        with pytest.raises(getattr(dns.resolver, error)) as caught:
            await r.resolve_name(WWW)
        assert caught.value.path.attempts

    run(main)


def test_resolve_address():
    async def main():
        (a,) = upstreams({"1.0.113.203.in-addr.arpa": answer("host.example.")})
        a.play({"4.4.8.8.in-addr.arpa PTR": answer("dns.example.")})
        found = await resolver(a).resolve_address("8.8.4.4")
        return str(found[0].target), names(a)

    assert run(main) == ("dns.example.", ["4.4.8.8.in-addr.arpa. PTR"])


@pytest.mark.parametrize(
    ("script", "name"),
    [
        (answer("192.0.2.1", cname=["b.example", "c.example"]), "c.example."),
        (nxdomain(cname=["gone.example"]), "gone.example."),
        (nodata(cname=["b.example"]), "b.example."),
        (GOOD, f"{WWW}."),
    ],
)
def test_canonical_name(script, name):
    async def main():
        return str(await resolver(*upstreams(script)).canonical_name(WWW))

    assert run(main) == name


# --- names that never leave ----------------------------------------------------------

NEVER = ("localhost", "www.localhost", "x.invalid", "x.onion", "printer.local",
         "x.alt", "resolver.arpa", "_dns.resolver.arpa")  # fmt: skip
PRIVATE_ONLY = ("x.internal", "x.home.arpa", "1.0.168.192.in-addr.arpa",
                "1.0.0.10.in-addr.arpa", "9.1.16.172.in-addr.arpa",
                "1.d.f.ip6.arpa", "nas", "printer",
                "x.corp.example", "a.b.lab.example", "corp.example")  # fmt: skip


@pytest.mark.parametrize("name", NEVER)
@pytest.mark.parametrize("rdtype", ["A", "AAAA", "TXT"])
def test_names_that_stay_here(name, rdtype):
    """`localhost`, `invalid`, `onion`, `local`, `alt`, `resolver.arpa` … stay here."""

    async def main():
        inside, (a,) = private(), upstreams(GOOD)
        got = await call(configured(inside, a), name, rdtype)
        assert got.source == "local"
        assert got.took == 0
        return got.what, inside.count + a.count

    what, asked = run(main)
    assert asked == 0
    if name.endswith("localhost"):
        assert what == {"A": "127.0.0.1", "AAAA": "::1", "TXT": "NoAnswer"}[rdtype]
    else:
        assert what == "NXDOMAIN"


@pytest.mark.parametrize("name", PRIVATE_ONLY)
def test_names_that_go_to_private_upstreams_only(name):
    """… single labels (not absolute TLDs) and names under resolv.conf's domain and
    search suffixes go to private upstreams only."""

    async def main():
        (a,) = upstreams(GOOD)
        inside = private(script=answer("10.0.0.1"))
        r = configured(a, inside)
        got = await call(r, name)
        assert (got.what, a.count) == ("10.0.0.1", 0)
        # Also when it fails, is silent, or denies: they never leak.
        for script in (servfail(), silent(), nxdomain()):
            inside.play(script)
            await at(ms() / 1000 + 200_000)
            await call(r, name)
        return a.count

    assert run(main) == 0


@pytest.mark.parametrize("name", ["x.internal", "1.0.168.192.in-addr.arpa", "nas"])
def test_without_a_private_upstream_they_stay_here(name):
    async def main():
        (a,) = upstreams(GOOD)
        got = await call(resolver(a), name)
        assert "no private upstream" in str(got.path)
        return got, a.count

    assert run(main) == (("NXDOMAIN", "local", 0), 0)


@pytest.mark.parametrize(
    "name",
    [
        "com.",
        "example",
        "localhost.example.com",
        "internal.example",
        "xinternal.com",
        "mylocal.com",
        "corp.example.com",
        "8.8.8.8.in-addr.arpa",
    ],
)
def test_public_names_go_to_all(name):
    async def main():
        (a,) = upstreams(GOOD)
        qname = f"{name}." if "." not in name else name  # an absolute top-level domain
        return (await call(configured(a, private()), qname)).what, a.count

    assert run(main) == ("192.0.2.1", 1)


def test_private_and_public_answers_are_apart():
    """The key has the view."""

    async def main():
        (a,) = upstreams({"nas": answer("192.0.2.1")})
        inside = private(script=answer("10.0.0.1"))
        r = configured(a, inside)
        return (await call(r, "nas")).what, (await call(r, "nas.")).what

    assert run(main) == ("10.0.0.1", "192.0.2.1")


def test_reverse_lookups_of_private_addresses_stay_inside():
    async def main():
        (a,) = upstreams(GOOD)
        inside = private(script=answer("nas.corp.example."))
        r = configured(a, inside)
        for address in ("192.168.1.1", "10.1.2.3", "172.20.0.1", "fd00::1", "fe80::1"):
            await r.resolve_address(address)
        return inside.count, a.count

    assert run(main) == (5, 0)


# --- routes --------------------------------------------------------------------------


def test_a_route_sends_a_subtree_to_its_own_upstreams_and_nowhere_else():
    """`routes={"corp.example.": [...]}` sends a subtree to its own upstreams and
    nowhere else."""

    async def main():
        a, corp, deep = upstreams(GOOD, answer("10.0.0.1"), answer("10.0.0.2"))
        r = resolver(a, routes={"corp.example.": [corp], "deep.corp.example": [deep]})
        got = [
            (await call(r, name)).what
            for name in ("x.corp.example", "corp.example", "y.deep.corp.example",
                         "xcorp.example", "corp.example.org")
        ]  # fmt: skip
        corp.play(servfail())
        failed = await call(r, "z.corp.example")
        assert failed.what == "NoNameservers"
        return got, (a.count, corp.count, deep.count)

    assert run(main) == (
        ["10.0.0.1", "10.0.0.1", "10.0.0.2", "192.0.2.1", "192.0.2.1"],
        (2, 3, 1),
    )


def test_a_route_may_carry_a_private_zone():
    async def main():
        a, corp = upstreams(GOOD, answer("10.0.0.1"))
        r = resolver(a, routes={"internal": [corp], "10.in-addr.arpa": [corp]})
        await call(r, "x.internal")
        await call(r, "1.0.0.10.in-addr.arpa", "PTR")
        return a.count, corp.count

    assert run(main) == (0, 2)


# --- options -------------------------------------------------------------------------


def test_nameservers_and_port_in_any_order():
    """`nameservers` and `port` set in any order after construction."""

    def first(r):
        r.nameservers = ["192.0.2.9", "2001:db8::9"]
        r.port = 5353

    def last(r):
        r.port = 5353
        r.nameservers = ["192.0.2.9", "2001:db8::9"]

    def single(r):
        r.port = 1
        r.nameservers = ["192.0.2.9", "2001:db8::9"]
        r.nameserver_ports = {"192.0.2.9": 5353, "2001:db8::9": 5353}

    async def main():
        for change in (first, last, single):
            r = resolver("192.0.2.1")
            assert r._bind(None) is r._bind(None)
            before = r._bind(None)
            change(r)
            stack = r._bind(None)
            assert stack is not before
            (one, other) = stack.group(
                stack.view(b"\1x\3com\0", relative=False), (False, None, 0)
            ).upstreams
            assert (one.endpoint.address, one.endpoint.port) == ("192.0.2.9", 5353)
            assert (other.endpoint.address, other.endpoint.port) == (
                "2001:db8::9",
                5353,
            )
            await r.aclose()

    run(main)


def test_nameservers_may_be_changed_in_place():
    """Compared on each miss."""

    async def main():
        a, b = upstreams(GOOD, answer("192.0.2.2"))
        r = resolver(a)
        await call(r)
        r.nameservers[0] = b
        assert await call(r) == ("192.0.2.1", "cache", 0)  # the cache is kept
        return await call(r, "other.example")

    assert run(main) == ("192.0.2.2", "upstream", 10)


def test_a_change_of_options_leaves_flights_and_upstreams_alone():
    """The old stack closes 10 s later; what the user made may be in use by the new."""

    async def main():
        a, b = upstreams(answer("192.0.2.1", after=0.5), GOOD)
        r = resolver(a, b, strategy="failover")
        waiting = asyncio.create_task(call(r))
        await at(0.1)
        r.timeout = 3.0
        await call(r, "other.example")
        assert (await waiting).what == "192.0.2.1"
        await at(30)
        assert not a.closed
        assert not b.closed
        got = await call(r, "third.example")
        await r.aclose()
        return got.what, a.closed, b.closed

    assert run(main) == ("192.0.2.1", True, True)


def test_a_group_of_the_users_own():
    """Or pass one Upstream in place of the list."""

    async def main():
        a, b = upstreams(silent(), GOOD)
        r = Resolver(resolverkit.race([a, b]), False, clock=VirtualLoop.running().clock)
        return await call(r), moments(b)

    assert run(main) == (("192.0.2.1", "upstream", 10), [0])


@pytest.mark.parametrize(
    ("strategy", "asked"), [("race", [0]), ("hedge", [150]), ("failover", [2000])]
)
def test_strategies(strategy, asked):
    async def main():
        a, b = upstreams(silent(), GOOD)
        r = resolver(a, b, strategy=strategy)
        await call(r)
        return moments(b)

    assert run(main) == asked


def test_a_name_hits_however_it_is_written():
    """As text or as a Name, in any case; and not once it is flushed."""

    async def main():
        (a,) = upstreams(GOOD)
        r = resolver(a)
        await call(r)
        written = [
            WWW, WWW.upper(), dns.name.from_text(WWW), dns.name.from_text(WWW.upper())
        ]  # fmt: skip
        for name in written * 2:
            for rdtype in ("A", dns.rdatatype.A, "a"):
                assert await call(r, name, rdtype) == ("192.0.2.1", "cache", 0)
        hits = r.stats().hits
        r.cache.flush()
        assert await call(r, written[2]) == ("192.0.2.1", "upstream", 10)
        assert await call(r, written[2]) == ("192.0.2.1", "cache", 0)
        assert await call(r, written[0]) == ("192.0.2.1", "cache", 0)
        return hits

    assert run(main) == 24


class _Text(str):
    """A program's own kind of text, with more to it."""

    __slots__ = ("more",)


@pytest.mark.parametrize("name", [WWW, WWW.upper(), _Text(WWW), _Text(WWW.upper())])
def test_hits_are_found_by_plain_text_in_lower_case(name):
    async def main():
        (a,) = upstreams(GOOD)
        r = resolver(a)
        for _ in range(3):
            await call(r, name)
        (table,) = {id(table): table for table in r._hot.values()}.values()
        return [(key, type(key)) for key in table]

    assert run(main) == [(WWW, str)]


def test_tcp_and_source_share_the_store():
    """`tcp`, `source`, `source_port` work and share the store."""

    async def main():
        (a,) = upstreams(GOOD)
        r = resolver(a)
        await call(r, tcp=True)
        assert await call(r) == ("192.0.2.1", "cache", 0)
        await call(r, "b.example", source="192.0.2.77", source_port=4000)
        return await call(r, "b.example")

    assert run(main) == ("192.0.2.1", "cache", 0)


def test_a_foreign_backend_is_refused():
    """A non-asyncio `backend` raises an error that says so."""

    class Trio:
        def name(self):
            return "trio"

    async def main():
        (a,) = upstreams(GOOD)
        with pytest.raises(ConfigurationError, match="asyncio"):
            await resolver(a).resolve(WWW, backend=Trio())
        return a.count

    assert run(main) == 0


def test_an_asyncio_backend_is_fine():
    async def main():
        backend = dns.asyncbackend.get_backend("asyncio")
        return await call(resolver(*upstreams(GOOD)), backend=backend)

    assert run(main) == ("192.0.2.1", "upstream", 10)


def test_trio_gets_a_clear_error():
    """asyncio (and uvloop) only: under trio a clear error says so."""
    coroutine = Resolver(["192.0.2.1"], False).resolve(WWW)
    with pytest.raises(RuntimeError, match="asyncio"):
        coroutine.send(None)


def test_a_local_answer_has_a_path():
    async def main():
        return await call(resolver(*upstreams(GOOD)), "localhost")

    got = run(main)
    assert got == ("127.0.0.1", "local", 0)
    assert got.path.winner is None
    assert json.dumps(got.path.to_dict())
    assert "local" in str(got.path)


def test_custom_dnspython_nameservers_are_asked():
    """Any `dns.nameserver.Nameserver`."""

    class Mine(dns.nameserver.Nameserver):
        def __str__(self):
            return "mine"

        def kind(self):
            return "Mine"

        def is_always_max_size(self):
            return True

        def answer_nameserver(self):
            return "mine"

        def answer_port(self):
            return 0

        async def async_query(self, request, *args, **kwargs):
            asked = resolverkit.wire.make_question(
                resolverkit.wire.name_to_wire(request.question[0].name), 1
            )
            message = dns.message.from_wire(data(asked))
            message.id = request.id
            return message

    async def main():
        return await call(resolver(Mine()))

    got = run(main)
    assert got == ("192.0.2.1", "upstream", 0)
    assert got.path.upstream == "mine"


# --- loops ---------------------------------------------------------------------------


def test_asyncio_run_twice_keeps_the_cache():
    """When that loop is closed and another runs it rebinds and keeps its cache."""
    seconds = [0.0]
    a = ScriptedUpstream("a", GOOD)
    r = Resolver([a], False, clock=lambda: seconds[0])

    async def main():
        a.closed = False  # the end of the first loop has closed it
        return (await call(r)).source, (await call(r, f"n{a.count}.example")).source

    assert run(main) == ("upstream", "upstream")
    assert a.closed
    assert run(main) == ("cache", "upstream")
    seconds[0] = 100.0
    a.play(servfail())
    assert run(main) == ("stale", "upstream")


def test_a_flight_ends_with_its_loop():
    a = ScriptedUpstream("a", silent())
    r = Resolver([a], False)

    async def leave():
        waiting = asyncio.ensure_future(call(r))
        await asyncio.sleep(0.1)
        waiting.cancel()

    async def again():
        a.closed = False
        a.play(GOOD)
        return (await call(r)).what

    run(leave)
    assert run(again) == "192.0.2.1"


def test_a_second_live_loop_is_refused():
    """A second live loop gets a RuntimeError."""
    (a,) = upstreams(GOOD)
    r = Resolver([a], False)
    ready, done = threading.Event(), threading.Event()

    async def first():
        await call(r)
        ready.set()
        await asyncio.get_running_loop().run_in_executor(None, done.wait)

    thread = threading.Thread(target=run, args=(first,))
    thread.start()
    ready.wait(10)

    async def second():
        return await call(r, "other.example")

    try:
        got = run(second)
    finally:
        done.set()
        thread.join(10)
    assert got.what == "RuntimeError"
    assert "in use on another loop" in str(got.result)
    assert "resolverkit.blocking.Resolver" in str(got.result)


def test_closing_and_going_on():
    """`async with` or `aclose()` closes; the cache stays."""

    async def main():
        (a,) = upstreams(GOOD)
        async with resolver(a) as r:
            await call(r)
        assert a.closed
        assert (await call(r)).source == "cache"
        await r.aclose()
        a.closed = False
        return await call(r, "other.example")

    assert run(main) == ("192.0.2.1", "upstream", 10)


def test_one_default_resolver_for_each_thread():
    """Module-level `resolve()` keeps one Resolver per thread."""
    mine = resolverkit.get_default_resolver()
    assert resolverkit.get_default_resolver() is mine
    others = []
    thread = threading.Thread(
        target=lambda: others.append(resolverkit.get_default_resolver())
    )
    thread.start()
    thread.join(10)
    assert others[0] is not mine


# --- options of a call ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ({"lifetime": [5]}, "lifetime=[5]: allowed is a number of seconds > 0"),
        ({"stale": {}}, "stale={}: allowed are True, False and a StalePolicy"),
        ({"source": ["192.0.2.1"]}, "source=['192.0.2.1']: allowed is an IP address"),
        ({"source": "here"}, "source='here': allowed is an IP address"),
        ({"source_port": 99999}, "source_port=99999: allowed are 0 to 65535"),
        ({"source_port": "53"}, "source_port='53': allowed are 0 to 65535"),
    ],
)
def test_an_option_that_cannot_be_is_told_by_its_name(option, told):
    async def main():
        with pytest.raises(ConfigurationError) as caught:
            await resolver(*upstreams(GOOD)).resolve(WWW, **option)
        return str(caught.value)

    assert run(main) == told


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("timeout", 0, "timeout=0: allowed is a number of seconds > 0"),
        ("timeout", "2", "timeout='2': allowed is a number of seconds > 0"),
        ("port", 99999, "upstream '192.0.2.9': port=99999: allowed are 1 to 65535"),
    ],
)
def test_an_attribute_that_cannot_be_is_told_at_the_next_miss(name, value, told):
    async def main():
        r = resolver("192.0.2.9")
        setattr(r, name, value)
        with pytest.raises(ConfigurationError) as caught:
            await r.resolve(WWW)
        return str(caught.value)

    assert run(main) == told


def test_a_lifetime_of_its_own_for_each_call_takes_no_place_from_other_calls():
    async def main():
        r = resolver(*upstreams(GOOD))
        for i in range(1000):
            await r.resolve(WWW, lifetime=1 + i / 1000, refresh=True)
        assert len(r._calls) <= 256
        for _ in range(2):
            await r.resolve("www.example.net")
        return [options[5] for options in r._calls if options[5] is None]

    assert run(main) == [None]


# --- reference cycles ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "strategy"),
    [
        (quick_answer(), "hedge"),
        (quick_answer(), "race"),
        (quick_nxdomain(), "hedge"),
        (servfail(after=0), "hedge"),
        (wire(b"nonsense", after=0), "hedge"),
    ],
    ids=["answers", "races", "denials", "failures", "bad replies"],
)
def test_a_miss_leaves_no_reference_cycle(script, strategy):
    """A miss leaves no reference cycle (a test runs `gc.collect()` after 1,000 misses
    and finds nothing)."""
    count = 1_000 if strategy == "hedge" else 300

    async def main():
        members = upstreams(script, script, script)
        r = resolver(*members, strategy=strategy)

        async def miss(i):
            try:
                answer = await r.resolve(f"n{i}.example.com")
            except dns.exception.DNSException:
                return
            assert answer.rrset is not None

        for i in range(10):
            await miss(f"warm{i}")
        await asyncio.sleep(5)
        gc.collect()
        gc.disable()
        try:
            for i in range(count):
                await miss(i)
            await asyncio.sleep(5)
            return gc.collect()
        finally:
            gc.enable()

    assert run(main) == 0


def test_nor_do_hits_stale_answers_and_timeouts():
    async def main():
        (a,) = upstreams([GOOD, servfail()])
        r = resolver(a)
        await call(r)
        gc.collect()
        gc.disable()
        try:
            for i in range(200):
                await at(100 + i * 40)
                await r.resolve(WWW)
                with contextlib.suppress(dns.exception.DNSException):
                    await r.resolve(f"n{i}.example", lifetime=0.001)
            await asyncio.sleep(5)
            return gc.collect()
        finally:
            gc.enable()

    assert run(main) == 0


def test_who_goes_on_with_the_cache_of_another_finds_no_more_than_that_keeps():
    async def main():
        (a,) = upstreams(GOOD)
        old, new = resolver(a), resolver(a)
        await call(old)
        new._inherit(old)
        got = await call(new)
        found = [len(table) for table in new._hot.values()]
        new.cache.flush()
        return got.source, found, [len(table) for table in new._hot.values()]

    assert run(main) == ("cache", [1, 1], [0, 0])
