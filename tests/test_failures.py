"""The failure cache (RFC 9520): no packet for a key that has just failed."""

import asyncio
import errno
from itertools import pairwise

import dns.message
import dns.rrset
import pytest
from virtual import WWW, at, call, moments, ms, pin, resolver, told, upstreams

import resolverkit
from resolverkit.testing import (
    ScriptedUpstream,
    VirtualLoop,
    answer,
    bad_reply,
    network_error,
    nodata,
    nxdomain,
    rcode,
    refused,
    run,
    servfail,
    silent,
    wire,
)

GOOD = answer("192.0.2.1", ttl=60)
FAILED = ("NoNameservers", "upstream", 0)


async def ask_all_the_time(r, until, *, every=0.5, **options):
    while ms() < until * 1000:
        await call(r, **options)
        await asyncio.sleep(every)


@pytest.mark.parametrize("step", [servfail(), refused(), bad_reply(), network_error()])
def test_a_failed_key_is_not_asked_for_again_for_a_while(step):
    """RFC 9520 section 3.2: no packet leaves for it for 5 s, doubling to 30 s."""

    async def main():
        (a,) = upstreams(step)
        r = resolver(a)
        await ask_all_the_time(r, 140, every=0.1)
        return moments(a)

    asked = run(main)
    gaps = [later - sooner for sooner, later in pairwise(asked)]
    for gap, pause in zip(gaps, (5, 10, 20, 30, 30, 30), strict=False):
        assert pause * 1000 <= gap <= pause * 1000 + 200
    assert len(asked) == 7


def alias_loop(asked):
    """A CNAME that leads to its own owner."""
    made = dns.message.make_response(dns.message.from_wire(asked.wire))
    own = str(asked.name)
    made.answer.append(dns.rrset.from_text(own, 60, "IN", "CNAME", own))
    return made.to_wire()


KINDS = {
    "SERVFAIL": servfail(),
    "REFUSED": refused(),
    "FORMERR": rcode(1),
    "NOTIMP": rcode(4),
    "timeout": silent(),
    "unreachable": network_error("no route to host"),
    "bad reply": bad_reply(),
    "alias loop": wire(alias_loop),
    "no reachable authority": servfail(ede=22),
    **{f"DNSSEC, EDE {code}": servfail(ede=code) for code in range(5, 13)},
}


@pytest.mark.parametrize("step", KINDS.values(), ids=KINDS)
def test_every_kind_of_failure_is_remembered(step):
    """RFC 9520 section 2 lists them, section 3.4 those of DNSSEC; section 3.2: no
    packet for 1 s at the least (here 5 s), and not for longer than 5 min."""

    async def main():
        (a,) = upstreams(step)
        r = resolver(a)
        assert (await call(r)).what == "NoNameservers"
        failed = ms() / 1000
        for later in (0, 0.5, 0.999, 4.9):
            await at(failed + later)
            assert await call(r) == FAILED
        assert a.count == 1
        a.play(GOOD)
        await at(failed + 300)
        return (await call(r)).what

    assert run(main) == "192.0.2.1"


@pytest.mark.parametrize("change", ["refresh", "no cache"])
def test_no_packet_leaves_for_a_failed_key_whatever_the_caller_wants(change):
    """RFC 9520 section 3.2: MUST NOT, until it expires."""

    async def main():
        (a,) = upstreams(servfail())
        r = resolver(a)
        options = {"refresh": True} if change == "refresh" else {}
        if change == "no cache":
            r.cache = None
        assert (await call(r, **options)).took == 10
        assert await call(r, **options) == FAILED
        return a.count

    assert run(main) == 1


def test_a_hundred_calls_for_a_failing_name_are_one_question_to_each():
    """RFC 9520 section 1.2: identical questions are joined."""

    async def main():
        members = upstreams(servfail(after=0.1), silent(), refused())
        r = resolver(*members)
        got = await asyncio.gather(*[call(r) for _ in range(100)])
        assert {g.what for g in got} == {"NoNameservers"}
        return [member.count for member in members]

    assert run(main) == [1, 1, 1]


def test_a_timeout_is_a_failure_too():
    async def main():
        (a,) = upstreams(silent())
        r = resolver(a)
        assert await call(r) == ("NoNameservers", "upstream", 2000)
        assert await call(r) == FAILED
        return a.count

    assert run(main) == 1


def test_a_cached_failure_tells_what_was_tried():
    async def main():
        r = resolver(*upstreams(servfail(ede=(22, "gone")), refused()))
        await call(r)
        return await call(r)

    got = run(main)
    assert got == FAILED
    assert told(got.path) == [("a", "server failure"), ("b", "server failure")]
    assert "not asked again for 5.0 s" in str(got.path)


def test_a_key_has_failed_when_every_vantage_that_was_asked_did():
    """RFC 9520 section 5: one upstream's SERVFAIL, which may be forged, never silences
    the others."""

    async def main():
        a, b = upstreams(servfail(), answer("192.0.2.1", ttl=0))
        r = resolver(a, b)
        for _ in range(5):
            assert (await call(r)).what == "192.0.2.1"
        return b.count

    assert run(main) == 5


def test_other_types_and_names_have_not_failed():
    async def main():
        (a,) = upstreams(
            {f"{WWW} A": servfail(), f"{WWW} AAAA": answer("::1"), "*": GOOD}
        )
        r = resolver(a)
        await call(r)
        return [(await call(r, *q)).what for q in ((WWW, "AAAA"), ("b.example", "A"))]

    assert run(main) == ["::1", "192.0.2.1"]


def test_over_tcp_it_may_be_tried_again():
    """RFC 9520 section 3.1: on another transport of the same server."""

    async def main():
        (a,) = upstreams([servfail(), GOOD])
        r = resolver(a)
        assert (await call(r)).what == "NoNameservers"
        assert (await call(r, tcp=True)).what == "192.0.2.1"
        return await call(r)

    assert run(main) == ("192.0.2.1", "cache", 0)


def test_success_ends_the_row_of_failures():
    async def main():
        (a,) = upstreams([servfail(), answer("192.0.2.1", ttl=0), servfail()])
        r = resolver(a)
        await call(r)
        await at(6)
        await call(r)
        await call(r)
        failed = ms()
        await at(failed / 1000 + 4.9)
        assert await call(r) == FAILED
        await at(failed / 1000 + 5.1)
        return (await call(r)).took

    assert run(main) == 10


def test_a_failure_long_ago_is_not_in_a_row():
    async def main():
        (a,) = upstreams(servfail())
        r = resolver(a)
        for _ in range(3):
            await call(r)
            await asyncio.sleep(5.1)
            assert await call(r) != FAILED  # 10 s from here
            await asyncio.sleep(100)
        return a.count

    assert run(main) == 6


def test_with_stale_to_serve_it_is_30_s():
    """With stale to serve, 30 s (failure recheck timer)."""

    async def main():
        (a,) = upstreams([GOOD, servfail()])
        r = resolver(a)
        await call(r)
        await at(100)
        await ask_all_the_time(r, 200, every=0.1)
        return moments(a)

    asked = run(main)
    assert asked[:2] == [0, 100000]
    gaps = [b - a for a, b in pairwise(asked[1:])]
    assert len(gaps) == 3
    assert all(30_000 <= gap <= 30_200 for gap in gaps)


# --- this machine's own fault --------------------------------------------------------


def test_local_errors_are_never_cached_as_failures():
    """Local network errors (no route, no socket) are never cached as failures."""

    async def main():
        (a,) = upstreams([network_error("no route", local=True)] * 5 + [GOOD])
        r = resolver(a)
        for _ in range(5):
            assert (await call(r)).what == "NoNameservers"
        return (await call(r)).what, a.count

    assert run(main) == ("192.0.2.1", 6)


def test_who_asks_is_told_at_once_where_nothing_can_be_sent(monkeypatch):
    """The one upstream has no socket, and says so before anybody waits for it."""

    def full(*_):
        raise OSError(errno.EMFILE, "too many open files")

    async def main():
        r = resolverkit.Resolver(["127.0.0.1:1"], configure=False)
        with monkeypatch.context() as patch:
            patch.setattr("resolverkit.transports.ports.socket.socket", full)
            with pytest.raises(resolverkit.NoNameservers, match="too many open files"):
                await r.resolve("www.example.com")
        await r.aclose()

    asyncio.run(asyncio.wait_for(main(), 10))


def test_an_upstream_that_cannot_be_reached_from_here_goes_to_the_end_of_the_line():
    """An address family that this host lacks is not to be tried first for ever."""

    async def main():
        (a,) = upstreams(network_error("no route", local=True))
        r = resolver(a)
        for _ in range(20):
            await call(r)
        (group,) = r._stack._groups.values()
        return group.down

    assert run(main) is True


@pytest.mark.parametrize("others", [silent(), servfail(), network_error()])
def test_where_others_were_reached_in_vain_it_is_a_failure(others):
    """A host without IPv6 and an outage: the failure cache holds all the same."""

    async def main():
        a, b = upstreams(network_error("no route", local=True), others)
        r = resolver(a, b)
        await call(r)
        assert await call(r) == FAILED
        return b.count

    assert run(main) == 1


# --- recovery ------------------------------------------------------------------------


def test_the_recovery_of_an_upstream_clears_failures():
    """A change of network or the recovery of an upstream clears failures."""

    async def main():
        (a,) = upstreams(network_error())
        r = resolver(a)
        for i in range(6):
            await call(r, f"n{i}.example")
        assert await call(r, "n5.example") == FAILED
        a.play(GOOD)
        assert (await call(r, "other.example")).what == "192.0.2.1"
        return await call(r, "n5.example")

    assert run(main) == ("192.0.2.1", "upstream", 10)


def test_a_change_of_servers_clears_failures():
    async def main():
        a, b = upstreams(servfail(), GOOD)
        r = resolver(a)
        await call(r)
        assert await call(r) == FAILED
        r.nameservers = [b]
        return await call(r)

    assert run(main) == ("192.0.2.1", "upstream", 10)


def test_recovery_keeps_the_failure_recheck_timer():
    """A recursor that is silent about a dead zone goes up and down with every other
    name: names with stale data are asked for once in 30 s all the same."""

    async def main():
        dead = [f"n{i}.dead.example" for i in range(20)]

        def script(asked, _):
            if VirtualLoop.running().time() < 1050:
                return GOOD
            return silent() if ".dead." in str(asked) else answer("192.0.2.3", ttl=1)

        members = [ScriptedUpstream(c, script, operator=c) for c in "abc"]
        r = resolver(*members)
        for name in dead:
            await call(r, name)
        await at(100)
        pauses = {"live.example.org": 3.1, **dict.fromkeys(dead, 0.5)}

        async def keep_asking(name, pause):
            while ms() < 190_000:
                got = await call(r, name)
                assert got.what in {"192.0.2.1", "192.0.2.3"}
                await asyncio.sleep(pause)

        await asyncio.gather(*[keep_asking(*item) for item in pauses.items()])
        return [
            [when for when in moments(member, name) if when >= 100_000]
            for member in members
            for name in dead
        ]

    for asked in run(main):
        gaps = [b - a for a, b in pairwise(asked)]
        assert all(gap >= 28_000 for gap in gaps), asked
        assert len(asked) <= 3


# --- the deadline of a flight --------------------------------------------------------


def test_a_flight_ends_at_the_resolution_deadline():
    """The flight goes on until the resolution deadline (10 s)."""

    async def main():
        members = upstreams(*[silent()] * 8)
        r = resolver(*members, strategy="failover")
        got = await call(r, lifetime=30)
        assert len(told(got.path)) == sum(member.count for member in members)
        again = await call(r)
        return got, again, sum(member.count for member in members)

    got, again, asked = run(main)
    assert got == ("NoNameservers", "upstream", 10_000)
    assert {outcome for _, outcome in told(got.path)} == {"timeout"}
    assert "10 s" in str(got.path)
    assert again == FAILED
    assert asked in {5, 6}


def test_a_flight_goes_on_behind_stale_until_then():
    async def main():
        members = upstreams(*[GOOD] * 6)
        r = resolver(*members, strategy="failover")
        await call(r)
        await at(100)
        for member in members:
            member.play(silent())
        assert await call(r) == ("192.0.2.1", "stale", 1800)
        members[4].play(answer("192.0.2.5"))
        pin(r, *range(6))
        await at(110)
        return await call(r)

    assert run(main) == ("192.0.2.5", "cache", 0)


def test_an_unconfirmed_denial_counts_when_time_is_over():
    """Nobody contradicts it within 10 s."""

    async def main():
        members = upstreams([GOOD, nxdomain(after=1.9)], *[silent()] * 7)
        r = resolver(*members, strategy="failover")
        await call(r)
        await at(100)
        pin(r, *range(8))
        got = await call(r, stale=False, lifetime=30)
        assert got.what == "NXDOMAIN"
        return got.took

    assert run(main) == 10_000


# --- errors are dnspython's, with a path ---------------------------------------------


@pytest.mark.parametrize(
    ("script", "name", "options", "took"),
    [
        (nxdomain(), "NXDOMAIN", {}, 10),
        (nodata(), "NoAnswer", {}, 10),
        (servfail(), "NoNameservers", {}, 10),
        (silent(), "NoNameservers", {}, 2000),
        (silent(), "LifetimeTimeout", {"lifetime": 0.7}, 700),
    ],
)
def test_each_error_is_dnspythons_and_tells_the_path(script, name, options, took):
    import dns.resolver

    import resolverkit

    async def main():
        return await call(resolver(*upstreams(script)), **options)

    got = run(main)
    assert got == (name, "upstream", took)
    error = got.result
    assert isinstance(error, getattr(dns.resolver, name))
    assert type(error) is getattr(resolverkit, name)
    assert [attempt.upstream for attempt in error.path.attempts] == ["a"]
    assert str(error)
    assert error.path.to_dict()["attempts"]
    if name in {"NoNameservers", "LifetimeTimeout"}:
        assert len(error.kwargs["errors"]) == 1


def test_a_timeout_lists_what_had_been_tried_by_then():
    async def main():
        members = upstreams(servfail(), silent())
        return await call(resolver(*members), lifetime=1)

    got = run(main)
    assert got == ("LifetimeTimeout", "upstream", 1000)
    assert told(got.path) == [("a", "server failure"), ("b", "timeout")]


@pytest.mark.parametrize("rd", [True, False])
def test_no_packet_leaves_for_a_failed_key_that_bypasses_the_cache(rd):
    """RFC 9520 section 3.2: a matching query causes no outgoing ones until it expires,
    with RD=0 or a caller's own EDNS options as well."""
    import dns.edns

    async def main():
        (a,) = upstreams(servfail())
        r = resolver(a)
        if rd:
            r.use_edns(0, 0, 1232, [dns.edns.GenericOption(65001, b"x")])
        else:
            r.flags = 0
        for _ in range(5):
            assert (await call(r)).what == "NoNameservers"
        return a.count

    assert run(main) == 1
