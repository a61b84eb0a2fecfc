"""Serving stale (RFC 8767): when, for how long, and how fresh data comes back."""

import asyncio
import time

import pytest
from virtual import WWW, at, call, moments, ms, pin, resolver, told, upstreams

from resolverkit import ConfigurationError, StalePolicy
from resolverkit.testing import (
    answer,
    bad_reply,
    lost,
    network_error,
    nodata,
    nxdomain,
    rcode,
    refused,
    run,
    servfail,
    silent,
)

OLD = answer("192.0.2.1", ttl=60)
NEW = answer("192.0.2.2", ttl=60)
LATE = answer("192.0.2.2", ttl=60, after=1.9)  # after the client response timer
DAY = 86_400


async def warmed(*scripts, **options):
    """A Resolver that holds WWW, 100 s old and expired; then the scripts go on."""
    members = upstreams(*[OLD] * len(scripts), operators=options.pop("operators", ""))
    r = resolver(*members, **options)
    assert await call(r) == ("192.0.2.1", "upstream", 10)
    for member, script in zip(members, scripts, strict=True):
        member.play(script)
        member.asked.clear()
        member.resent.clear()
    await at(100)
    pin(r, *range(len(members)))
    return r, *members


# --- the client response timer -------------------------------------------------------


def test_stale_is_served_at_the_client_response_timer():
    """While it flies, stale is served … at the client response timer: 1.8 s."""

    async def main():
        r, a = await warmed(silent())
        got = await call(r)
        assert got.path.stale_for == pytest.approx(41.79)
        return got, moments(a)

    assert run(main) == (("192.0.2.1", "stale", 1800), [100000])


def test_fresh_data_that_comes_before_it_is_better():
    """RFC 8767 section 7: stale only after an attempt in good faith to refresh."""

    async def main():
        r, _ = await warmed(answer("192.0.2.2", after=1.79))
        return await call(r)

    assert run(main) == ("192.0.2.2", "upstream", 1790)


def test_the_flight_goes_on_and_its_result_replaces_the_entry():
    """RFC 8767 section 5: at 1.8 s look for stale and send it while continuing to
    refresh."""

    async def main():
        r, a = await warmed([LATE, servfail()])
        assert await call(r) == ("192.0.2.1", "stale", 1800)
        await at(101.91)
        return await call(r), a.count

    assert run(main) == (("192.0.2.2", "cache", 0), 1)


@pytest.mark.parametrize(
    ("lifetime", "took"), [(1, 950), (0.5, 450), (1.8, 1750), (1.85, 1800), (5, 1800)]
)
def test_lifetime_with_stale_in_hand_gives_stale_and_not_a_timeout(lifetime, took):
    """Or 50 ms before the caller's lifetime ends if that is earlier."""

    async def main():
        r, _ = await warmed(silent())
        return await call(r, lifetime=lifetime)

    assert run(main) == ("192.0.2.1", "stale", took)


def test_a_lifetime_shorter_than_the_margin_gives_stale_at_once():
    async def main():
        r, a = await warmed(silent())
        return await call(r, lifetime=0.03), a.count

    assert run(main) == (("192.0.2.1", "stale", 0), 1)


def test_the_timer_counts_from_the_start_of_the_flight():
    """Counted from the start of the flight."""

    async def main():
        r, a = await warmed(silent())
        first = asyncio.create_task(call(r))
        await at(101)
        second = asyncio.create_task(call(r))
        await at(101.7)
        third = asyncio.create_task(call(r))
        return await asyncio.gather(first, second, third), a.count

    got, asked = run(main)
    assert [one.took for one in got] == [1800, 800, 100]
    assert {one.source for one in got} == {"stale"}
    assert asked == 1


def test_a_refresh_in_flight_is_joined_and_not_short_cut():
    """A refresh in flight is joined and not short-cut by stale before the client
    response timer."""

    async def main():
        r, a = await warmed(answer("192.0.2.2", after=0.9))
        first = asyncio.create_task(call(r))
        await at(100.5)
        second = await call(r)
        return await first, second, a.count

    assert run(main) == (
        ("192.0.2.2", "upstream", 900),
        ("192.0.2.2", "upstream", 400),
        1,
    )


def test_a_refresh_ahead_in_flight_is_joined_as_well():
    async def main():
        (a,) = upstreams([OLD, answer("192.0.2.2", after=1.5)])
        r = resolver(a)
        await call(r)
        await at(59.5)
        assert await call(r) == ("192.0.2.1", "cache", 0)  # starts it
        await at(60.5)
        return await call(r), a.count

    assert run(main) == (("192.0.2.2", "upstream", 500), 2)


@pytest.mark.parametrize("ndots", [1, 3])
def test_the_timer_runs_once_for_all_search_candidates(ndots):
    """Once per call (not per search candidate or address family)."""
    import dns.name

    async def main():
        names = {
            "www.a.example.": [nxdomain(ttl=5), answer("192.0.2.9", after=1.0)],
            "www.b.example.": [OLD, silent()],
        }
        slow = nxdomain(ttl=5, minimum=5, after=1.0)
        names["www.a.example."] = [nxdomain(ttl=5, minimum=5), slow]
        (a,) = upstreams(names)
        r = resolver(a)
        r.search = [dns.name.from_text("a.example"), dns.name.from_text("b.example")]
        r.ndots = ndots
        r.port = 53
        a.endpoint = type(a.endpoint)("a", "udp", private=True)
        assert (await call(r, "www", search=True)).what == "192.0.2.1"
        await at(100)
        return await call(r, "www", search=True)

    # 1.0 s for the first candidate's denial, 0.8 s for the second's silence.
    assert run(main) == ("192.0.2.1", "stale", 1800)


def test_the_timer_runs_once_for_both_families():
    async def main():
        (a,) = upstreams(answer("192.0.2.1", "2001:db8::1", ttl=60))
        r = resolver(a)
        await r.resolve_name(WWW)
        a.play(silent())
        await at(100)
        began = ms()
        found = await r.resolve_name(WWW)
        return sorted(found.addresses()), ms() - began

    assert run(main) == (["192.0.2.1", "2001:db8::1"], 1800)


# --- at once -------------------------------------------------------------------------


def test_at_once_when_the_flight_is_older_already():
    """Served at once when: the flight is already older than that."""

    async def main():
        r, a = await warmed(silent())
        first = asyncio.create_task(call(r))
        await at(101.9)
        return await call(r), await first, a.count

    assert run(main) == (("192.0.2.1", "stale", 0), ("192.0.2.1", "stale", 1800), 1)


def test_at_once_when_the_last_refresh_failed_within_5_min():
    """The last refresh of that key failed within 5 min: … with the refresh behind."""

    async def main():
        r, a = await warmed([servfail(), silent()])
        assert await call(r) == ("192.0.2.1", "stale", 10)  # the flight has failed
        await at(100.5)
        assert await call(r) == ("192.0.2.1", "stale", 0)  # not asked again yet
        await at(399)
        assert await call(r) == ("192.0.2.1", "stale", 0)  # asked, behind the answer
        return moments(a)

    assert run(main) == [100000, 399000]


def test_within_30_s_of_a_failed_refresh_no_packet_leaves():
    """RFC 8767 section 5, failure recheck timer: stale at once, and 0 packets."""

    async def main():
        r, a, b = await warmed(servfail(), refused())
        assert (await call(r)).source == "stale"
        asked = moments(a) + moments(b)
        for second in range(101, 130):
            await at(second)
            assert await call(r) == ("192.0.2.1", "stale", 0)
        assert moments(a) + moments(b) == asked
        await at(131)
        assert await call(r) == ("192.0.2.1", "stale", 0)
        return a.count, b.count

    assert run(main) == (2, 1)  # the refresh of 131 s has begun


def test_after_5_min_without_a_failure_fresh_data_is_waited_for():
    async def main():
        r, _ = await warmed([servfail(), silent()])
        await call(r)
        await at(400.02)
        return await call(r)

    assert run(main) == ("192.0.2.1", "stale", 1800)


def test_the_refresh_behind_brings_fresh_data():
    async def main():
        r, a = await warmed([servfail(), NEW])
        await call(r)
        await at(131)
        assert await call(r) == ("192.0.2.1", "stale", 0)
        await at(131.02)
        return await call(r), moments(a)

    assert run(main) == (("192.0.2.2", "cache", 0), [100000, 131000])


def test_at_once_when_all_breakers_are_open():
    """All breakers are open (misses still probe)."""

    async def main():
        r, a, b = await warmed(network_error(), network_error())
        for i in range(5):
            await call(r, f"n{i}.example.org")
        before = a.count, b.count
        a.play(silent())
        b.play(silent())
        assert await call(r) == ("192.0.2.1", "stale", 0)
        asked = a.count - before[0], b.count - before[1]
        assert sum(asked) == 1  # the refresh goes on behind it
        a.play(NEW)
        b.play(NEW)
        await asyncio.sleep(3)
        return await call(r, "miss.example.net")

    assert run(main).what == "192.0.2.2"


def test_not_at_once_while_one_breaker_is_closed():
    async def main():
        r, a, b = await warmed(network_error(), OLD)
        for i in range(6):
            pin(r, 0, 1)
            await call(r, f"n{i}.example.org")
        b.play(silent())
        a.play(silent())
        return await call(r)

    assert run(main) == ("192.0.2.1", "stale", 1800)


def test_at_once_when_the_timer_is_0():
    """The timer is set to 0."""

    async def main():
        r, a = await warmed(NEW, stale=StalePolicy(wait=0))
        assert await call(r) == ("192.0.2.1", "stale", 0)
        await at(100.02)
        return await call(r), a.count

    assert run(main) == (("192.0.2.2", "cache", 0), 1)


def test_the_timer_can_be_set_for_a_call():
    async def main():
        r, _ = await warmed(silent())
        return await call(r, stale=StalePolicy(wait=0.3))

    assert run(main) == ("192.0.2.1", "stale", 300)


# --- siblings ------------------------------------------------------------------------


def siblings(events, *, name=WWW):
    """What a call for `name` takes after others have failed or not, at their times."""

    async def main():
        (a,) = upstreams(OLD)
        r = resolver(a)
        await call(r, name)
        script = {other: step for _, other, step in events}
        script[name] = silent()
        a.play(script)
        for when, other, _ in events:
            await at(when)
            await call(r, other)
        await at(100)
        return await call(r, name)

    got = run(main)
    assert (got.what, got.source) == ("192.0.2.1", "stale")
    return got.took


FAILS, WORKS = servfail(), NEW


@pytest.mark.parametrize(
    ("events", "took"),
    [
        ([(90, "a.example.com", FAILS), (95, "b.example.com", FAILS)], 100),
        ([(90, "a.example.com", FAILS)], 1800),
        # two names, not one name twice
        ([(90, "a.example.com", FAILS), (96, "a.example.com", FAILS)], 1800),
        ([(69, "a.example.com", FAILS), (95, "b.example.com", FAILS)], 1800),
        ([(71, "a.example.com", FAILS), (95, "b.example.com", FAILS)], 100),
        (
            [
                (90, "a.example.com", FAILS),
                (91, "b.example.com", FAILS),
                (92, "c.example.com", WORKS),
            ],
            1800,
        ),
        (
            [
                (90, "a.example.com", FAILS),
                (91, "c.example.com", WORKS),
                (92, "b.example.com", FAILS),
            ],
            1800,
        ),
        ([(90, "a.example.org", FAILS), (95, "b.example.org", FAILS)], 1800),
        ([(90, "x.a.example.com", FAILS), (95, "x.b.example.com", FAILS)], 1800),
    ],
)
def test_two_failed_siblings_shorten_the_wait(events, took):
    """When two siblings (same parent of at least two labels) have failed within 30 s
    and none has succeeded since, the wait is 100 ms."""
    assert siblings(events) == took


def test_names_below_one_label_are_no_siblings():
    events = [(90, "a.com", FAILS), (95, "b.com", FAILS)]
    assert siblings(events, name="example.com") == 1800


def test_many_failed_siblings_are_remembered_by_their_last_failure():
    first = [(50 + i / 10, f"{c}.example.com", FAILS) for i, c in enumerate("abcd")]
    again = [(99, "a.example.com", FAILS), (99.1, "e.example.com", FAILS)]
    assert siblings([*first, *again]) == 100


# --- how long ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "limit"),
    [
        (True, DAY),
        (StalePolicy(), DAY),
        (StalePolicy(max_stale=3600), 3600),
        (StalePolicy(max_stale=7 * DAY), 7 * DAY),
    ],
)
def test_max_stale(policy, limit):
    """RFC 8767 section 5: max stale (default 24 h, up to 7 days)."""

    async def main():
        (a,) = upstreams([OLD, servfail()])
        r = resolver(a, stale=policy)
        await call(r)
        await at(60.01 + limit - 0.5)
        assert await call(r) == ("192.0.2.1", "stale", 10)
        await at(60.01 + limit + 40)
        return await call(r)

    assert run(main) == ("NoNameservers", "upstream", 10)


@pytest.mark.parametrize(
    "options",
    [
        {"max_stale": 7 * DAY + 1},
        {"max_stale": -1},
        {"wait": -0.1},
        {"wait": 11},
        {"ttl": 0},  # RFC 8767 section 4: MUST be > 0
        {"ttl": 31},
    ],
)
def test_a_policy_that_cannot_be_is_refused(options):
    with pytest.raises(ConfigurationError, match="allowed are"):
        StalePolicy(**options)


def test_stale_false_for_a_call():
    """RFC 8767 section 10: stale=False per call, fresh data or an error."""

    async def main():
        r, _ = await warmed([servfail(), silent()])
        assert await call(r, stale=False) == ("NoNameservers", "upstream", 10)
        await at(200)
        assert await call(r, stale=False, lifetime=1) == (
            "LifetimeTimeout",
            "upstream",
            1000,
        )
        return await call(r)

    assert run(main).source == "stale"


def test_stale_false_for_a_resolver():
    async def main():
        r, _ = await warmed(servfail(), stale=False)
        assert await call(r) == ("NoNameservers", "upstream", 10)
        return await call(r, stale=True)

    assert run(main) == ("192.0.2.1", "stale", 0)


@pytest.mark.parametrize("stale", [1, "yes", 3600.0])
def test_a_stale_that_is_none_is_refused(stale):
    async def main():
        r, _ = await warmed(servfail())
        return await call(r, stale=stale)

    assert run(main).what == "ConfigurationError"


def test_stale_data_carries_ttl_30():
    """RFC 8767 section 4: stale data carries TTL 30; `expiration` is now + 30 s when
    stale; TTLs inside `response` stay as received."""

    async def main():
        r, _ = await warmed(servfail())
        stale = (await call(r)).result
        again = (await call(r)).result
        assert again is not stale  # stale answers are made per call
        return stale

    stale = run(main)
    assert stale.rrset.ttl == stale.ttl == 30
    assert stale.response.answer[0].ttl == 60
    assert stale.expiration == pytest.approx(time.time() + 30, abs=5)


def test_a_stale_answer_says_so_and_for_how_long():
    """RFC 8767 section 10: who must not use stale data can tell."""

    async def main():
        r, _ = await warmed(servfail())
        return await call(r)

    path = run(main).path
    assert path.source == "stale"
    assert path.stale_for == pytest.approx(39.99, abs=0.02)
    assert path.to_dict()["source"] == "stale"
    assert "past its TTL" in str(path)


def test_rd_0_gets_no_stale_data():
    """RFC 8767 section 5: who does not want recursion is answered at once, without."""

    async def main():
        r, _ = await warmed([servfail(), silent()])
        r.flags = 0
        first = await call(r)
        r.flags = None
        await at(200)
        return first, (await call(r)).source

    assert run(main) == (("NoNameservers", "upstream", 10), "stale")


def test_a_policy_may_set_the_ttl():
    async def main():
        r, _ = await warmed(servfail(), stale=StalePolicy(ttl=5))
        return (await call(r)).result.rrset.ttl

    assert run(main) == 5


def test_ttl_zero_data_is_never_served_stale():
    """RFC 8767 section 7: TTL-0 data is never served stale."""

    async def main():
        (a,) = upstreams([answer("192.0.2.1", ttl=0), servfail()])
        r = resolver(a)
        await call(r)
        return await call(r)

    assert run(main) == ("NoNameservers", "upstream", 10)


@pytest.mark.parametrize("denial", [nxdomain(ttl=0), nodata(ttl=0)])
def test_ttl_zero_denials_are_never_served_stale(denial):
    """RFC 8767 section 7 speaks of all data."""

    async def main():
        (a,) = upstreams([denial, servfail()])
        r = resolver(a)
        await call(r)
        return await call(r)

    assert run(main) == ("NoNameservers", "upstream", 10)


def test_yxdomain_leaves_the_last_known_good():
    """RFC 8767 section 4: neither NOERROR nor NXDOMAIN, so earlier data stay."""

    async def main():
        r, _ = await warmed([rcode(6), servfail()])
        assert (await call(r)).what == "YXDOMAIN"
        return await call(r)

    assert run(main) == ("192.0.2.1", "stale", 10)


def test_ttl_zero_data_leaves_the_last_known_good():
    """A vantage that counts its TTL down says 0 for a second."""

    async def main():
        r, _ = await warmed([answer("192.0.2.2", ttl=0), servfail()])
        assert await call(r) == ("192.0.2.2", "upstream", 10)
        return await call(r)

    assert run(main) == ("192.0.2.1", "stale", 10)


# --- what refreshes and what does not ------------------------------------------------

FAILURES = {
    "SERVFAIL": servfail(),
    "REFUSED": refused(),
    "NOTIMP": rcode(4),
    "FORMERR": rcode(1),
    "bad reply": bad_reply(),
    "network": network_error(),
    "local": network_error(local=True),
    "denial without SOA": nxdomain(soa=False),
    "no data without SOA": nodata(soa=False),
    "block": nxdomain(ede=15),
    "silence": silent(),
    "loss": lost(NEW, 3),
}


@pytest.mark.parametrize("step", FAILURES.values(), ids=FAILURES)
def test_anything_else_leaves_the_entry_alone(step):
    """RFC 8767 section 4: NOERROR and confirmed denials refresh; anything else leaves
    the entry alone. Section 6: stale may be served, also where all say REFUSED."""

    async def main():
        r, a = await warmed([step, NEW])
        got = await call(r)
        assert (got.what, got.source) == ("192.0.2.1", "stale")
        assert told(got.path)[0] == ("a", "data")
        await at(200)
        await call(r)
        await at(201)
        return await call(r), a.count

    assert run(main) == (("192.0.2.2", "cache", 0), 2)


def test_a_denial_that_a_quorum_disputes_leaves_the_entry_alone():
    """One of three denies, and the others fail: no majority."""

    async def main():
        r, *_ = await warmed(nxdomain(), servfail(), servfail(), strategy="quorum")
        got = await call(r)
        return got.what, got.source, told(got.path)[-3:]

    what, source, attempts = run(main)
    assert (what, source) == ("192.0.2.1", "stale")
    assert ("a", "no such name") in attempts


@pytest.mark.parametrize("step", FAILURES.values(), ids=FAILURES)
def test_the_last_known_good_survives_any_number_of_failures(step):
    """RFC 8767 section 4: earlier data are left as they are."""

    async def main():
        r, a = await warmed(step)
        for when in (100, 140, 200, 5000, 86_000):
            await at(when)
            got = await call(r)
            assert (got.what, got.source) == ("192.0.2.1", "stale")
        return a.count

    assert run(main) == 5


@pytest.mark.parametrize(
    ("late", "took"), [(silent(), 1800), (servfail(after=1), 1000)]
)
def test_a_name_that_is_denied_meanwhile_is_denied_to_who_waits_for_other_types(
    late, took
):
    """Nor is it held for them: they did not ask for that."""

    async def main():
        six = answer("2001:db8::1", ttl=60)
        (a,) = upstreams({WWW: [OLD], f"{WWW} AAAA": [six]})
        r = resolver(a)
        await call(r)
        await call(r, rdtype="AAAA")
        await at(100)
        a.play({WWW: [nxdomain(after=0.5)], f"{WWW} AAAA": [late]})
        return await asyncio.gather(call(r), call(r, rdtype="AAAA"))

    v4, v6 = run(main)
    assert v4 == ("NXDOMAIN", "upstream", 500)
    assert v6 == ("NXDOMAIN", "cache", took)


@pytest.mark.parametrize(
    ("step", "what", "took"),
    [
        (answer("192.0.2.2", after=1.9), "192.0.2.2", 1900),
        (servfail(after=1.5), "NoNameservers", 1500),
        (silent(), "NoNameservers", 2000),
    ],
)
def test_fresh_data_that_expires_while_a_refresh_waits_is_not_served_stale(
    step, what, took
):
    async def main():
        (a,) = upstreams([answer("192.0.2.1", ttl=1), step])
        r = resolver(a, stale=False)
        await call(r)
        return await call(r, refresh=True)

    got = run(main)
    assert (got.what, got.source, got.took) == (what, "upstream", took)


@pytest.mark.parametrize(
    ("step", "what"), [(nxdomain(), "NXDOMAIN"), (nodata(), "NoAnswer")]
)
def test_a_denial_everywhere_refreshes(step, what):
    """RFC 8767 section 4: NXDOMAIN for a formerly existing name is not an error: A
    dropped, and not served when the servers vanish later."""

    async def main():
        r, a, b = await warmed(step, step)
        assert await call(r) == (what, "upstream", 20)
        a.play(servfail())
        b.play(servfail())
        await at(500)
        return await call(r)

    got = run(main)
    assert (got.what, got.source) == (what, "stale")


def test_a_stale_answer_tells_what_has_failed_since():
    """A cached or stale answer keeps the attempts by which it was learnt and adds
    those that have failed since."""

    async def main():
        r, *_ = await warmed(servfail(ede=22), refused())
        got = await call(r)
        assert got.path.winner is got.path.attempts[0]
        assert "past its TTL" in str(got.path)
        return told(got.path)

    assert run(main) == [
        ("a", "data"),
        ("a", "server failure"),
        ("b", "server failure"),
    ]


# --- a verdict of bogus --------------------------------------------------------------


def bogus(ede, held_ad, given_ad, **options):
    """a reports an EDE, b has an answer; what is held was validated, or not."""

    async def main():
        (a, b) = upstreams(answer("192.0.2.1", ad=held_ad), silent())
        r = resolver(a, b, strategy="failover")
        await call(r)
        a.play(servfail(ede=ede))
        b.play(answer("192.0.2.2", ad=given_ad))
        await at(100)
        pin(r, 0, 1)
        return await call(r, **options)

    return run(main)


@pytest.mark.parametrize("ede", range(5, 13))
def test_a_validated_stale_entry_comes_before_an_answer_without_ad(ede):
    """When a vantage reports EDE 5–12 and we hold a stale entry learnt with AD, that
    entry comes before another vantage's answer without AD."""
    got = bogus(ede, held_ad=True, given_ad=False)
    assert got == ("192.0.2.1", "stale", 20)
    assert told(got.path)[1:] == [("a", "server failure"), ("b", "data")]


@pytest.mark.parametrize(
    ("ede", "held_ad", "given_ad", "disputed"),
    [
        (6, False, False, True),  # without such an entry the answer is given, disputed
        (6, True, True, False),
        (22, True, False, False),
        (4, True, False, False),
        (13, True, False, False),
        (None, True, False, False),
    ],
)
def test_otherwise_the_other_vantages_answer_is_given(ede, held_ad, given_ad, disputed):
    """EDE otherwise never changes a decision (1.1.1.1 sent 22 for a bogus name)."""
    got = bogus(ede, held_ad, given_ad)
    assert got == ("192.0.2.2", "upstream", 20)
    assert got.path.disputed is disputed


def test_who_wants_nothing_stale_gets_the_answer():
    got = bogus(6, held_ad=True, given_ad=False, stale=False)
    assert got == ("192.0.2.2", "upstream", 20)
    assert got.path.disputed


# --- a dead family -------------------------------------------------------------------


@pytest.mark.parametrize(
    "step", [servfail(), silent(), refused(), nodata(), nxdomain(soa=False)]
)
def test_a_without_aaaa_is_served(step):
    """A set with a dead family is still a set: A without AAAA is served."""

    async def main():
        (a,) = upstreams({f"{WWW} A": OLD, f"{WWW} AAAA": step})
        found = await resolver(a).resolve_name(WWW)
        return list(found.addresses_and_families())

    assert run(main) == [("192.0.2.1", 2)]


def test_a_stale_without_aaaa_is_served():
    async def main():
        (a,) = upstreams({f"{WWW} A": [OLD, servfail()], f"{WWW} AAAA": servfail()})
        r = resolver(a)
        await r.resolve_name(WWW)
        await at(100)
        return list((await r.resolve_name(WWW)).addresses())

    assert run(main) == ["192.0.2.1"]
