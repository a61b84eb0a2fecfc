"""The cache: what is kept, under which key, for how long, and who shares a flight."""

import asyncio
import gc
import tracemalloc
import weakref
from contextvars import ContextVar

import dns.edns
import dns.flags
import dns.rdatatype
import dns.tsigkeyring
import pytest
from virtual import (
    WWW,
    at,
    call,
    denial,
    moments,
    pin,
    question,
    quick_answer,
    quick_nodata,
    quick_nxdomain,
    resolver,
    told,
    upstreams,
)

from resolverkit import Reply, StalePolicy
from resolverkit.cache import Cache
from resolverkit.flight import Call
from resolverkit.model import Endpoint, Kind
from resolverkit.testing import (
    ScriptedUpstream,
    VirtualLoop,
    answer,
    nodata,
    nxdomain,
    run,
    servfail,
    silent,
)
from resolverkit.transports.do53 import Do53
from resolverkit.wire import read_reply

GOOD = answer("192.0.2.1")
NEW = answer("192.0.2.2")
SLOW = answer("192.0.2.1", after=0.5)

# --- fresh ---------------------------------------------------------------------------


def test_fresh_is_answered_from_memory():
    """Fresh → answer."""

    async def main():
        (a,) = upstreams(GOOD)
        r = resolver(a)
        assert await call(r) == ("192.0.2.1", "upstream", 10)
        await at(50)
        got = await call(r, "WWW.Example.COM.")
        assert got == ("192.0.2.1", "cache", 0)
        assert (got.path.age, got.path.stale_for) == (pytest.approx(49.99), 0)
        assert told(got.path) == [("a", "data")]
        return moments(a)

    assert run(main) == [0]


def test_the_ttl_is_the_least_on_the_chain():
    async def main():
        (a,) = upstreams(answer("192.0.2.1", ttl=60, cname=["x.example"], cname_ttl=20))
        r = resolver(a)
        await call(r)
        await at(17)
        assert await call(r) == ("192.0.2.1", "cache", 0)
        await at(21)
        return await call(r)

    assert run(main) == ("192.0.2.1", "upstream", 10)


@pytest.mark.parametrize("ttl", [604_801, 2**31, 2**32 - 1])
def test_data_is_fresh_for_seven_days_at_most_top_bit_or_not(ttl):
    """RFC 8767 section 4: a TTL with the top bit is a large one, and capped; not 0."""

    async def main():
        (a,) = upstreams([quick_answer(ttl=ttl), servfail()])
        r = resolver(a)
        await call(r)
        await at(500_000)
        assert await call(r) == ("192.0.2.1", "cache", 0)
        assert a.count == 1
        await at(604_801)
        return (await call(r)).source

    assert run(main) == "stale"


def test_an_entry_that_is_asked_for_in_its_last_tenth_is_refreshed():
    """In its last 10 % of TTL an entry that is asked for is refreshed behind the
    answer."""

    async def main():
        (a,) = upstreams([answer("192.0.2.1", ttl=100), answer("192.0.2.2", ttl=100)])
        r = resolver(a)
        await call(r)
        await at(90)  # 10 ms before the last tenth
        assert await call(r) == ("192.0.2.1", "cache", 0)
        await at(90.02)
        assert await call(r) == ("192.0.2.1", "cache", 0)
        assert await call(r) == ("192.0.2.1", "cache", 0)  # one refresh is enough
        await at(90.04)
        assert await call(r) == ("192.0.2.2", "cache", 0)
        return moments(a)

    assert run(main) == [0, 90020]


def test_an_entry_that_nobody_asks_for_is_not_refreshed():
    async def main():
        (a,) = upstreams(GOOD)
        await call(resolver(a))
        await at(500)
        return moments(a)

    assert run(main) == [0]


def test_a_failed_refresh_ahead_is_not_tried_again_at_once():
    async def main():
        (a,) = upstreams([answer("192.0.2.1", ttl=1000), servfail()])
        r = resolver(a)
        await call(r)
        for i in range(400):
            await at(905 + i / 10)
            assert await call(r) == ("192.0.2.1", "cache", 0)
        return moments(a)

    asked = run(main)
    assert asked[:2] == [0, 905000]
    assert len(asked) == 3  # once more in 40 s, after the recheck time
    assert asked[2] - asked[1] >= 30_000


def test_ages_count_suspend():
    async def main():
        (a,) = upstreams(GOOD)
        r = resolver(a)
        await call(r)
        VirtualLoop.running().suspend(61)
        return await call(r)

    assert run(main) == ("192.0.2.1", "upstream", 10)


def test_ttl_zero_is_for_one_question_only():
    async def main():
        (a,) = upstreams(answer("192.0.2.1", ttl=0))
        r = resolver(a)
        first, second = await call(r), await call(r)
        return first, second, moments(a)

    first, second, asked = run(main)
    assert first == second == ("192.0.2.1", "upstream", 10)
    assert asked == [0, 10]


def test_types_classes_do_and_cd_are_apart():
    async def main():
        (a,) = upstreams(answer("192.0.2.1", "2001:db8::1"))
        r = resolver(a)
        await call(r)
        await call(r, rdtype="AAAA")
        r.use_edns(0, dns.flags.DO)
        await call(r)
        r.use_edns(-1)
        r.flags = dns.flags.RD | dns.flags.CD
        await call(r)
        assert a.count == 4
        r.flags = None
        return await call(r), a.count

    assert run(main) == (("192.0.2.1", "cache", 0), 4)


@pytest.mark.parametrize(
    "change",
    [
        lambda r: setattr(r, "flags", dns.flags.Flag(0)),
        lambda r: r.use_edns(0, 0, 1232, [dns.edns.GenericOption(65001, b"x")]),
        lambda r: r.use_tsig(dns.tsigkeyring.from_text({"key.": "c2VjcmV0"})),
    ],
    ids=["RD=0", "EDNS options", "TSIG"],
)
def test_what_bypasses_the_cache(change):
    """RD=0, TSIG and a caller's own EDNS options bypass the cache."""

    async def main():
        (a,) = upstreams(GOOD)
        r = resolver(a)
        await call(r)
        change(r)
        await call(r)
        await call(r)
        return a.count

    assert run(main) == 3


def test_refresh_goes_out_although_a_fresh_answer_is_there():
    """resolve(..., refresh=True)"""

    async def main():
        (a,) = upstreams([GOOD, NEW])
        r = resolver(a)
        await call(r)
        assert await call(r) == ("192.0.2.1", "cache", 0)
        assert await call(r, refresh=True) == ("192.0.2.2", "upstream", 10)
        return await call(r)

    assert run(main) == ("192.0.2.2", "cache", 0)


@pytest.mark.parametrize(("step", "took"), [(servfail(), 10), (silent(), 1800)])
def test_refresh_that_fails_leaves_the_fresh_answer(step, took):
    async def main():
        (a,) = upstreams([GOOD, step])
        r = resolver(a)
        await call(r)
        return await call(r, refresh=True)

    assert run(main) == ("192.0.2.1", "cache", took)


# --- denials, by RFC 2308 ------------------------------------------------------------


def test_nxdomain_is_for_all_types():
    """RFC 2308: NXDOMAIN by name and class, whatever the type."""

    async def main():
        (a,) = upstreams(nxdomain())
        r = resolver(a)
        assert await call(r) == ("NXDOMAIN", "upstream", 10)
        assert await call(r) == ("NXDOMAIN", "cache", 0)
        assert await call(r, rdtype="AAAA") == ("NXDOMAIN", "cache", 0)
        assert await call(r, rdtype="TXT") == ("NXDOMAIN", "cache", 0)
        return a.count

    assert run(main) == 1


def test_nodata_is_for_one_type():
    async def main():
        (a,) = upstreams(answer("192.0.2.1"))
        r = resolver(a)
        assert await call(r, rdtype="AAAA") == ("NoAnswer", "upstream", 10)
        assert await call(r, rdtype="AAAA") == ("NoAnswer", "cache", 0)
        assert await call(r, rdtype="A") == ("192.0.2.1", "upstream", 10)
        return a.count

    assert run(main) == 2


def test_nxdomain_at_the_end_of_a_chain_is_of_the_last_name():
    """CNAME-chain NXDOMAIN: the rcode belongs to the last name."""

    async def main():
        (a,) = upstreams(
            {WWW: nxdomain(cname=["gone.example"]), "gone.example": nxdomain()}
        )
        r = resolver(a)
        assert await call(r) == ("NXDOMAIN", "upstream", 10)
        assert await call(r) == ("NXDOMAIN", "cache", 0)
        # The alias exists: another type has to be asked for.
        assert await call(r, rdtype="AAAA") == ("NXDOMAIN", "upstream", 10)
        return a.count

    assert run(main) == 2


def test_denials_are_kept_for_the_soas_time():
    """For a denial min(SOA TTL, MINIMUM, 300)."""
    for ttl, minimum, kept in ((600, 40, 40), (40, 600, 40), (9999, 9999, 300)):

        async def main(ttl=ttl, minimum=minimum, kept=kept):
            (a,) = upstreams(nxdomain(ttl=ttl, minimum=minimum))
            r = resolver(a)
            await call(r)
            await at(kept * 0.89)
            await call(r)
            assert a.count == 1
            await at(kept + 1)
            await call(r)
            assert a.count == 2

        run(main)


@pytest.mark.parametrize("denial", [nxdomain, nodata])
def test_a_denial_without_soa_is_kept_for_5_s(denial):
    """Accepted only when nothing better comes, and kept 5 s."""

    async def main():
        (a,) = upstreams(denial(soa=False))
        r = resolver(a)
        for i in range(12):
            await at(i)
            got = await call(r)
            assert got.what in {"NXDOMAIN", "NoAnswer"}
        return moments(a)

    # 4.5 s is its last tenth; never stale.
    asked = run(main)
    assert asked[0] == 0
    assert asked[1] in {5000, 6000}
    assert len(asked) <= 3


def test_the_newer_denial_counts():
    """An expired NODATA does not hide the NXDOMAIN that came after it."""

    async def main():
        (a,) = upstreams([nodata(ttl=20), nxdomain()])
        r = resolver(a)
        assert await call(r) == ("NoAnswer", "upstream", 10)
        await at(30)
        assert await call(r) == ("NXDOMAIN", "upstream", 10)
        for _ in range(5):
            assert await call(r) == ("NXDOMAIN", "cache", 0)
        await at(400)  # past its TTL: the name is back, without this type
        a.play(nodata())
        assert await call(r) == ("NoAnswer", "upstream", 10)
        a.play(servfail())
        assert await call(r, rdtype="AAAA") == ("NoNameservers", "upstream", 10)

    run(main)


def test_a_newer_nxdomain_counts_for_the_types_that_had_no_data():
    async def main():
        (a,) = upstreams({f"{WWW} AAAA": nodata(ttl=20), f"{WWW} A": nxdomain()})
        r = resolver(a)
        assert await call(r, rdtype="AAAA") == ("NoAnswer", "upstream", 10)
        await at(30)
        assert await call(r, rdtype="A") == ("NXDOMAIN", "upstream", 10)
        return await call(r, rdtype="AAAA"), a.count

    assert run(main) == (("NXDOMAIN", "cache", 0), 2)


def test_data_ends_a_denial():
    async def main():
        (a,) = upstreams([nxdomain(ttl=20), GOOD, servfail()])
        r = resolver(a)
        await call(r)
        await at(30)
        assert await call(r) == ("192.0.2.1", "upstream", 10)
        return await call(r, rdtype="TXT")

    assert run(main).what == "NoNameservers"


# --- one evicts another --------------------------------------------------------------


def test_a_cname_evicts_direct_data_at_its_owner():
    """RFC 8767 section 7: a CNAME at an owner evicts entries with direct data there."""

    async def main():
        (a,) = upstreams(
            {
                f"{WWW} A": [GOOD, servfail()],
                f"{WWW} TXT": [answer('"old"'), servfail()],
                f"{WWW} MX": [
                    answer("10 mx.example.", cname=["mail.example"]), servfail()
                ],
                f"{WWW} AAAA": answer("2001:db8::1", cname=["c.example"]),
            }
        )  # fmt: skip
        r = resolver(a)
        for rdtype in ("A", "TXT", "MX", "AAAA"):
            await call(r, rdtype=rdtype)
        await at(100)
        return [(await call(r, rdtype=t)).what for t in ("A", "TXT", "MX")]

    assert run(main) == ["NoNameservers", "NoNameservers", "10 mx.example."]


def test_the_answer_to_a_cname_question_does_so_too():
    async def main():
        (a,) = upstreams(
            {
                f"{WWW} A": [GOOD, servfail()],
                f"{WWW} CNAME": [answer("c.example."), servfail()],
            }
        )
        r = resolver(a)
        await call(r)
        await call(r, rdtype="CNAME")
        await at(100)
        return [(await call(r, rdtype=t)).what for t in ("A", "CNAME")]

    assert run(main) == ["NoNameservers", "c.example."]


def test_a_becomes_cname_then_the_outage_serves_the_chain():
    """RFC 8767 section 7: CNAME replaces A; outage → CNAME chain, not old A."""

    async def main():
        (a,) = upstreams([GOOD, answer("192.0.2.9", cname=["c.example"]), servfail()])
        r = resolver(a)
        await call(r)
        await at(100)
        await call(r)
        await at(200)
        got = await call(r)
        return got, str(got.result.canonical_name)

    assert run(main) == (("192.0.2.9", "stale", 10), "c.example.")


def test_nxdomain_evicts_every_type_at_the_denied_name():
    """NXDOMAIN evicts every type at the denied (last) name."""

    async def main():
        (a,) = upstreams(
            {
                f"{WWW} A": [GOOD, servfail()],
                f"{WWW} TXT": [answer('"old"'), servfail()],
                f"{WWW} AAAA": nxdomain(ttl=5),
            }
        )
        r = resolver(a)
        await call(r)
        await call(r, rdtype="TXT")
        await call(r, rdtype="AAAA")
        return [(await call(r, rdtype=t)).what for t in ("A", "TXT")]

    assert run(main) == ["NXDOMAIN", "NXDOMAIN"]


def test_nxdomain_evicts_at_the_last_name_of_the_chain():
    async def main():
        (a,) = upstreams(
            {
                "last.example": [GOOD, servfail()],
                WWW: nxdomain(cname=["last.example"]),
                "other.example": GOOD,
            }
        )
        r = resolver(a)
        await call(r, "last.example")
        await call(r, "other.example")
        await call(r)
        await at(20)
        return (await call(r, "last.example")).what, await call(r, "other.example")

    assert run(main) == ("NoNameservers", ("192.0.2.1", "cache", 0))


def test_a_weak_nxdomain_evicts_nothing():
    """A denial without SOA (lame authorities, broken proxies) never replaces an
    entry: nor one of another type."""

    async def main():
        (a,) = upstreams(
            {f"{WWW} A": [GOOD, servfail()], f"{WWW} AAAA": nxdomain(soa=False)}
        )
        r = resolver(a)
        await call(r)
        assert await call(r, rdtype="AAAA") == ("NXDOMAIN", "upstream", 10)
        assert await call(r) == ("192.0.2.1", "cache", 0)
        await at(100)
        return await call(r)

    assert run(main) == ("192.0.2.1", "stale", 10)


# --- denials that contradict ---------------------------------------------------------


def contradicted(second, *, operators="XY"):
    """a (the nearest) denies a name that we hold; the others say what they say."""

    async def main():
        members = upstreams([GOOD, nxdomain()], second, second, operators=operators)
        r = resolver(*members)
        await call(r)
        await at(100)
        pin(r, *range(len(members)))
        got = await call(r)
        then = await call(r)
        return got, then, [moments(m)[1:] if m is members[0] else moments(m)
                           for m in members]  # fmt: skip

    return run(main)


def test_a_denial_that_contradicts_is_confirmed_by_another_operator():
    """A denial that contradicts a positive entry within max stale is confirmed by
    another operator first, if there is one."""
    got, then, asked = contradicted(nxdomain())
    assert got == ("NXDOMAIN", "upstream", 20)
    assert told(got.path) == [("a", "no such name"), ("b", "no such name")]
    assert then == ("NXDOMAIN", "cache", 0)
    assert asked == [[100000], [100010]]


def test_if_they_disagree_the_positive_stays():
    """If they disagree, the positive stays and the path says `disputed`."""
    got, then, asked = contradicted(NEW)
    assert got == ("192.0.2.2", "upstream", 20)
    assert got.path.disputed
    assert told(got.path) == [("a", "no such name"), ("b", "data")]
    assert then == ("192.0.2.2", "cache", 0)
    assert then.path.disputed
    assert asked == [[100000], [100010]]


def test_another_address_of_the_same_operator_confirms_nothing():
    got, _, asked = contradicted(NEW, operators="XX")
    assert got == ("NXDOMAIN", "upstream", 10)
    assert asked == [[100000], []]


def test_the_third_is_asked_where_the_second_is_the_same_operator():
    got, _, asked = contradicted(NEW, operators="XXY")
    assert got == ("192.0.2.2", "upstream", 20)
    assert asked == [[100000], [], [100010]]


def test_a_second_operator_that_fails_contradicts_nothing():
    got, *_ = contradicted(servfail())
    assert got == ("NXDOMAIN", "upstream", 20)
    assert told(got.path) == [("a", "no such name"), ("b", "server failure")]


def test_while_a_denial_is_confirmed_stale_is_served_in_time():
    got, *_ = contradicted(silent())
    assert got == ("192.0.2.1", "stale", 1800)


def test_of_two_denials_the_lesser_is_believed():
    got, *_ = contradicted(nodata())
    assert got == ("NoAnswer", "upstream", 20)
    assert got.path.disputed


def test_nxdomain_for_another_type_contradicts_as_well():
    """One server with an empty zone must not cost the last known good of any type
    (Microsoft 2019-05-02)."""

    async def main():
        a, b = upstreams(
            {f"{WWW} A": [GOOD, servfail()], f"{WWW} AAAA": nxdomain()},
            {f"{WWW} A": servfail(), f"{WWW} AAAA": answer("192.0.2.1")},
        )
        r = resolver(a, b)
        await call(r)
        await at(100)
        pin(r, 0, 1)
        got = await call(r, rdtype="AAAA")
        assert told(got.path) == [("a", "no such name"), ("b", "no data")]
        assert got.what == "NoAnswer"
        return await call(r)

    assert run(main).source == "stale"


def test_a_denial_of_what_we_do_not_hold_is_taken_at_once():
    async def main():
        a, b = upstreams(nxdomain(), GOOD)
        got = await call(resolver(a, b))
        return got, b.count

    assert run(main) == (("NXDOMAIN", "upstream", 10), 0)


def test_past_max_stale_nothing_is_contradicted():
    async def main():
        a, b = upstreams([GOOD, nxdomain()], NEW)
        r = resolver(a, b, stale=StalePolicy(max_stale=50), strategy="failover")
        await call(r)
        await at(111)
        pin(r, 0, 1)
        return await call(r), b.count

    assert run(main) == (("NXDOMAIN", "upstream", 10), 0)


def test_a_block_that_was_chosen_needs_no_second_opinion():
    """A block from an upstream declared as filtering is conclusive, since its user
    chose it."""
    for block in (nxdomain(ede=15), nxdomain(soa=False, ede=17)):

        async def main(block=block):
            a = ScriptedUpstream("a", [GOOD, block], filtering=True, operator="A")
            b = ScriptedUpstream("b", NEW, operator="B")
            r = resolver(a, b, strategy="failover")
            await call(r)
            await at(100)
            pin(r, 0, 1)
            return await call(r), b.count

        assert run(main) == (("NXDOMAIN", "upstream", 10), 0)


def test_a_weak_denial_never_replaces_an_entry():
    """A denial without SOA never replaces an entry."""
    for weak in (nxdomain(soa=False), nodata(soa=False)):

        async def main(weak=weak):
            (a,) = upstreams([GOOD, weak])
            r = resolver(a)
            await call(r)
            await at(100)
            assert await call(r) == ("192.0.2.1", "stale", 10)
            # Who wants nothing stale is told what there is.
            await at(140)
            got = await call(r, stale=False)
            assert got.what in {"NXDOMAIN", "NoAnswer"}
            await at(180)
            return await call(r)

        assert run(main) == ("192.0.2.1", "stale", 0)


# --- one flight ----------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["hedge", "race", "failover"])
def test_a_hundred_identical_calls_are_one_question(strategy):
    """RFC 9520 section 1.2: 100 concurrent identical calls → one question per asked
    upstream."""

    async def main():
        a, b, c = upstreams(servfail(), SLOW, SLOW)
        r = resolver(a, b, c, strategy=strategy)
        got = await asyncio.gather(*[call(r) for _ in range(100)])
        return {(g.what, g.source) for g in got}, [m.count for m in (a, b, c)]

    answers, asked = run(main)
    assert answers == {("192.0.2.1", "upstream")}
    assert max(asked) == 1
    assert asked[:2] == [1, 1]


def test_calls_that_differ_do_not_share():
    async def main():
        (a,) = upstreams(answer("192.0.2.1", "2001:db8::1", after=0.1))
        r = resolver(a)
        await asyncio.gather(
            call(r),
            call(r, "WWW.EXAMPLE.COM"),
            call(r, rdtype="AAAA"),
            call(r, "www.example.org"),
            call(r, tcp=True),
        )
        return a.count

    assert run(main) == 4


def test_a_follower_survives_the_leaders_cancellation():
    async def main():
        (a,) = upstreams(SLOW)
        r = resolver(a)
        leader = asyncio.create_task(call(r))
        await at(0.1)
        follower = asyncio.create_task(call(r))
        await at(0.2)
        leader.cancel()
        got = await follower
        assert leader.cancelled()
        return got, moments(a)

    assert run(main) == (("192.0.2.1", "upstream", 400), [0])


def test_a_cancelled_caller_leaves_its_flight_to_finish():
    """Cancelling a caller leaves its flight to finish."""

    async def main():
        (a,) = upstreams(SLOW)
        r = resolver(a)
        only = asyncio.create_task(call(r))
        await at(0.1)
        only.cancel()
        await at(0.6)
        return await call(r), a.count, a.cancelled

    assert run(main) == (("192.0.2.1", "cache", 0), 1, 0)


def test_a_caller_whose_lifetime_ends_leaves_its_flight_to_finish():
    async def main():
        (a,) = upstreams(SLOW)
        r = resolver(a)
        assert await call(r, lifetime=0.2) == ("LifetimeTimeout", "upstream", 200)
        await at(0.6)
        return await call(r), a.count

    assert run(main) == (("192.0.2.1", "cache", 0), 1)


def test_each_caller_has_its_own_lifetime():
    async def main():
        (a,) = upstreams(answer("192.0.2.1", after=1.5))
        r = resolver(a)
        lifetimes = (0.3, 1.0, 1.4, 1.6, 5)
        return await asyncio.gather(*[call(r, lifetime=x) for x in lifetimes])

    assert [got.took for got in run(main)] == [300, 1000, 1400, 1500, 1500]


def test_closing_ends_the_flights_and_tells_the_callers():
    """Until the resolution deadline or `aclose()`."""

    async def main():
        (a,) = upstreams(silent())
        r = resolver(a)
        waiting = asyncio.create_task(call(r))
        await at(0.5)
        await r.aclose()
        await r.aclose()
        return await waiting

    assert run(main) == ("NoNameservers", "upstream", 500)


REQUEST = ContextVar("request", default="none")


@pytest.mark.parametrize("strategy", ["hedge", "race"])
@pytest.mark.parametrize("first", ["none", "fails", "closed"])
def test_a_flight_has_an_empty_context(first, strategy):
    """Connections, reader callbacks and flights start in an empty context; whoever is
    asked because another has failed, too."""
    seen = []

    def script(_question, _nth):
        seen.append(REQUEST.get())
        return GOOD

    async def main():
        REQUEST.set("mine")
        closed = Do53(Endpoint("closed", address="192.0.2.1", port=53))
        await closed.aclose()
        failing = ScriptedUpstream("f", servfail())
        before = {"none": [], "fails": [failing], "closed": [closed]}[first]
        members = [*before, ScriptedUpstream("a", script)]
        await call(resolver(*members, strategy=strategy))

    run(main)
    assert seen == ["none"]


def test_a_flight_keeps_nothing_of_a_caller_that_has_gone():
    class Large:
        pass

    async def main():
        r = resolver(ScriptedUpstream("a", answer("192.0.2.1", after=5)))

        async def ask():
            large = Large()
            REQUEST.set(large)
            await call(r, lifetime=0.1)
            return weakref.ref(large)

        large = await asyncio.create_task(ask())
        await asyncio.sleep(0.1)
        gc.collect()
        return large()

    assert run(main) is None


def test_nor_does_a_stack_that_gives_way_to_another():
    class Large:
        pass

    async def main():
        r = resolver(ScriptedUpstream("a", GOOD))
        await call(r)

        async def ask():
            large = Large()
            REQUEST.set(large)
            r.timeout = 1.5
            await call(r, "www.example.net")
            return weakref.ref(large)

        large = await asyncio.create_task(ask())
        await asyncio.sleep(0.1)
        gc.collect()
        return large()

    assert run(main) is None


# --- memory --------------------------------------------------------------------------


def test_a_flood_of_random_names_does_not_push_out_last_known_good():
    """A flood of random names cannot push out last known good."""

    async def main():
        (a,) = upstreams({WWW: [GOOD, servfail()], "*": quick_nxdomain()})
        r = resolver(a, cache_size=1_000_000)
        await call(r)
        cache, (group,) = r._store, r._stack._groups.values()
        flood, wanted = Denies(), Call()
        wanted.stale, wanted.lifetime = StalePolicy(), 5.0
        started = VirtualLoop.running().time()
        for i in range(100_000):
            served = cache.ask(
                question(f"r{i}.flood.example"), flood, wanted, started, started
            )
            if i % 100 == 0:
                await served.future
        await asyncio.sleep(0.1)
        assert 0 < cache._denials.currsize <= 1_000_000 // 8
        assert group.upstreams == [a]
        assert await call(r) == ("192.0.2.1", "cache", 0)
        await at(100)
        return await call(r), flood.count

    assert run(main) == (("192.0.2.1", "stale", 10), 100_000)


class Denies:
    """Denies whatever it is asked, as cheaply as can be."""

    name = "denies"

    def __init__(self):
        self.count = 0
        self.reply = read_reply(question("x.example"), denial(question("x.example")))

    def query(self, asked):
        self.count += 1
        future = asyncio.get_running_loop().create_future()
        reply = Reply(self.reply.wire, Kind.NXDOMAIN, 3, 300, asked.wire_name, soa=True)
        future.set_result(reply)
        return future

    async def aclose(self):
        pass


def test_a_flood_of_failures_does_not_either():
    """RFC 9520 section 3.2: the memory for failures is bounded."""

    async def main():
        (a,) = upstreams({WWW: [GOOD, servfail()], "*": servfail(after=0)})
        r = resolver(a, cache_size=1_000_000)
        await call(r)
        for i in range(300):
            await call(r, f"r{i}.flood.example")
        assert len(r._store._failures) == 64
        await at(100)
        return await call(r)

    assert run(main) == ("192.0.2.1", "stale", 10)


@pytest.mark.parametrize("read", [False, True], ids=["unread", "read"])
@pytest.mark.parametrize("rdtype", ["A", "AAAA"], ids=["data", "denials"])
def test_the_memory_bound_holds(read, rdtype):
    """Positive entries and denials have separate byte bounds: what is charged is what
    is used, with what was parsed, which is charged to the positive ones."""

    async def main():
        step = quick_answer() if rdtype == "A" else quick_nodata()
        a = ScriptedUpstream("a", step)
        bound = 300_000
        r = resolver(a, cache_size=bound * (1 if rdtype == "A" else 8))
        await r.resolve(WWW, rdtype, raise_on_no_answer=False)
        tracemalloc.start()
        for i in range(1_200):
            name = f"n{i}.example.com"
            answer = await r.resolve(name, rdtype, raise_on_no_answer=False)
            if read:  # the one that hits share
                answer = await r.resolve(name, rdtype, raise_on_no_answer=False)
                str(answer.rrset)
            a.asked.clear()
        del answer
        gc.collect()
        used, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return used, bound, r._store.size, r._store._denials.currsize

    used, bound, positive, denials = run(main)
    charged = positive if rdtype == "A" else denials
    assert bound * 0.9 < charged <= bound
    assert used < 1.1 * (positive + denials)
    assert positive <= bound * (1 if rdtype == "A" else 0.5)  # a sixteenth of 8 bounds


def test_entries_that_are_read_stay():
    async def main():
        (a,) = upstreams(GOOD)
        r = resolver(a, cache_size=20_000)
        await call(r)
        for i in range(200):
            await call(r, f"n{i}.example.com")
            await call(r)
        assert r._store.evictions > 100
        return moments(a, WWW)

    assert run(main) == [0]


def test_a_cache_of_dnspythons_sets_the_size():
    """A dnspython cache assigned to it sets the size; `cache=None` switches it off."""
    import dns.resolver

    async def main():
        (a,) = upstreams(GOOD)
        r = resolver(a)
        assert isinstance(r.cache, dns.resolver.CacheBase)
        r.cache = dns.resolver.LRUCache(10)
        for i in range(100):
            await call(r, f"n{i}.example.com")
        assert 10 <= len(r._store) <= 50
        await call(r, "n99.example.com")
        assert a.count == 100
        r.cache = None
        assert r.cache is None
        assert len(r._store) == 0
        await call(r)
        await call(r)
        assert a.count == 102
        r.cache = dns.resolver.Cache()
        await call(r)
        await call(r)
        return a.count

    assert run(main) == 103


def test_the_cache_can_be_looked_at_and_flushed():
    """`resolver.cache` stays a dnspython `CacheBase` to look at."""
    import dns.name
    import dns.rdataclass

    async def main():
        (a,) = upstreams(GOOD)
        r = resolver(a)
        await call(r)
        await call(r)
        key = (dns.name.from_text(WWW), dns.rdatatype.A, dns.rdataclass.IN)
        assert r.cache.get(key)[0].address == "192.0.2.1"
        assert (r.cache.hits(), r.cache.misses()) == (1, 1)
        r.cache.flush(key)
        assert r.cache.get(key) is None
        assert await call(r) == ("192.0.2.1", "upstream", 10)
        r.cache.flush()
        return await call(r)

    assert run(main) == ("192.0.2.1", "upstream", 10)


def test_nothing_is_kept_in_a_cache_of_no_bytes():
    cache = Cache(lambda: 0.0, StalePolicy(), 0)
    assert len(cache) == 0


def test_a_cname_in_the_middle_of_a_chain_evicts_direct_data_at_its_owner_too():
    async def main():
        (a,) = upstreams(
            {
                "b.example A": [GOOD, servfail()],
                WWW: answer("192.0.2.9", cname=["b.example", "c.example"]),
            }
        )
        r = resolver(a)
        first = await call(r, "b.example")
        await call(r)
        await asyncio.sleep(61)
        return first.what, (await call(r, "b.example")).what

    assert run(main) == ("192.0.2.1", "NoNameservers")


def test_calls_with_other_edns_options_do_not_share_a_flight():
    async def main():
        (a,) = upstreams(answer("192.0.2.1", after=0.01))
        r = resolver(a)
        r.use_edns(0, 0, 1232, [dns.edns.GenericOption(65001, b"x")])
        first = asyncio.ensure_future(call(r))
        await asyncio.sleep(0)
        r.use_edns(0, 0, 1232, [dns.edns.GenericOption(65001, b"y")])
        await asyncio.gather(first, call(r))
        return a.count

    assert run(main) == 2


def test_a_failure_by_tcp_says_nothing_of_udp():
    """The refresh by the usual way did not fail, so it is waited for."""

    async def main():
        (a,) = upstreams([GOOD, servfail(), answer("192.0.2.9", after=0.1)])
        r = resolver(a)
        await call(r)
        await asyncio.sleep(61)
        await call(r, tcp=True)
        return await call(r)

    assert run(main) == ("192.0.2.9", "upstream", 100)


def test_the_last_known_good_survives_a_ttl_that_was_counted_down_to_0():
    """A recursor that counts down gives TTL 0 for a second, then the outage goes on."""

    async def main():
        (a,) = upstreams([GOOD, answer("192.0.2.2", ttl=0), servfail()])
        r = resolver(a)
        await call(r)
        await asyncio.sleep(61)
        own = await call(r)
        return own.what, (await call(r)).what

    assert run(main) == ("192.0.2.2", "192.0.2.1")
