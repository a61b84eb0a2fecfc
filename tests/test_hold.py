"""Last known good against a wrong denial: `StalePolicy(on_denial="hold")`."""

import asyncio
import logging

import pytest
from virtual import WWW, at, call, moments, resolver, told, upstreams

from resolverkit import ConfigurationError, StalePolicy
from resolverkit.testing import answer, nodata, nxdomain, run, servfail

GOOD = answer("192.0.2.1", ttl=60)
NEW = answer("192.0.2.2", ttl=60)
HOLD = StalePolicy(on_denial="hold")
HOUR = 3600


async def denied(*then, stale=HOLD, first=None, types=("A",)):
    """A Resolver whose upstreams a and b deny, from 100 s on, a name that was fine."""
    a, b = upstreams(GOOD, GOOD)
    r = resolver(a, b, stale=stale)
    for rdtype in types:
        await call(r, WWW, rdtype)
    for member in (a, b):
        member.play([first or nxdomain(), *then] if then else first or nxdomain())
        member.asked.clear()
    await at(100)
    return r, a, b


@pytest.mark.parametrize(
    ("denial", "outcome"), [(nxdomain(), "no such name"), (nodata(), "no data")]
)
def test_a_denial_everywhere_is_held(denial, outcome):
    """Zoom 2025-04-16 (NXDOMAIN) and DynamoDB 2025-10-20 (an empty record)."""

    async def main():
        r, a, b = await denied(first=denial)
        got = await call(r)
        assert (got.what, got.source, got.took) == ("192.0.2.1", "held", 20)
        assert [outcome for _, outcome in told(got.path)] == ["data", outcome, outcome]
        assert got.path.winner.outcome == "data"
        assert "denied by upstreams" in str(got.path)
        assert got.path.to_dict()["source"] == "held"
        assert got.result.rrset.ttl == 30
        return sorted(moments(a) + moments(b))

    assert run(main) == [100_000, 100_010]  # confirmed by another operator first


def test_off_by_default_a_deletion_is_visible_at_once():
    async def main():
        r, *_ = await denied(stale=StalePolicy())
        return await call(r), await call(r)

    assert run(main) == (("NXDOMAIN", "upstream", 20), ("NXDOMAIN", "cache", 0))


def test_what_is_held_is_asked_for_every_30_s():
    """… re-asked every 30 s, although the denial has a TTL of 300 s."""

    async def main():
        r, a, b = await denied()
        for second in range(100, 201, 5):
            await at(second)
            got = await call(r)
            assert (got.what, got.source) == ("192.0.2.1", "held"), second
            assert got.took == (20 if second == 100 else 0)
        return sorted(moments(a) + moments(b))

    # Two at first, for the denial has to be confirmed; then one, at once behind held.
    assert run(main) == [100_000, 100_010, 135_000, 170_000]


def test_data_that_comes_back_ends_it():
    async def main():
        r, a, b = await denied()
        await call(r)
        for member in (a, b):
            member.play(NEW)
        await at(131)
        first = await call(r)
        await at(132)
        second = await call(r)
        a.play(nxdomain())
        b.play(nxdomain())
        await at(132 + 7 * HOUR)  # a window of its own
        return first, second, await call(r)

    first, second, third = run(main)
    assert first == ("192.0.2.1", "held", 0)
    assert second == ("192.0.2.2", "cache", 0)
    assert (third.what, third.source) == ("192.0.2.2", "held")


def test_a_denial_that_persists_past_the_window_wins():
    async def main():
        r, *_ = await denied(stale=StalePolicy(on_denial="hold", hold=2 * HOUR))
        got = []
        for second in (100, HOUR, 100 + 2 * HOUR - 1, 100 + 2 * HOUR + 1):
            await at(second)
            got.append((await call(r)).what)
        return got

    assert run(main) == ["192.0.2.1", "192.0.2.1", "192.0.2.1", "NXDOMAIN"]


def test_the_window_is_six_hours_by_default():
    async def main():
        r, *_ = await denied()
        await call(r)
        await at(6 * HOUR + 99)
        before = await call(r)
        await at(6 * HOUR + 101)
        return before.what, (await call(r)).what

    assert run(main) == ("192.0.2.1", "NXDOMAIN")


@pytest.mark.parametrize("stale", [HOLD, StalePolicy()])
def test_each_call_may_have_its_own_policy(stale):
    """Per resolver and per call: who does not hold sees the denial, who holds data."""

    async def main():
        r, *_ = await denied(stale=stale)
        plain = await call(r, stale=StalePolicy())
        held = await call(r, stale=HOLD)
        again = await call(r, stale=False)
        return plain.what, held.what, held.source, again.what

    assert run(main) == ("NXDOMAIN", "192.0.2.1", "held", "NXDOMAIN")


def test_callers_of_one_flight_get_each_what_they_asked_for():
    async def main():
        r, *_ = await denied()
        return await asyncio.gather(
            call(r), call(r, stale=StalePolicy()), call(r, stale=False)
        )

    held, plain, fresh = run(main)
    assert held == ("192.0.2.1", "held", 20)
    assert plain.what == fresh.what == "NXDOMAIN"


def test_nxdomain_speaks_of_every_type_and_each_is_held():
    async def main():
        both = upstreams(*[[answer("192.0.2.1", "2001:db8::1")] * 2] * 2)
        r = resolver(*both, stale=HOLD)
        await call(r)
        await call(r, WWW, "AAAA")
        for member in both:
            member.play(nxdomain())
        await at(100)
        first = await call(r)
        second = await call(r, WWW, "AAAA")
        return (first.what, first.source), (second.what, second.source, second.took)

    assert run(main) == (("192.0.2.1", "held"), ("2001:db8::1", "held", 0))


def test_when_upstreams_fail_after_a_denial_it_is_still_held():
    async def main():
        r, *_ = await denied(nxdomain(), servfail())
        await call(r)
        await at(140)
        return await call(r)

    assert run(main) == ("192.0.2.1", "held", 0)


def test_who_does_not_hold_gets_no_stale_data_after_a_denial():
    """A denial counts as a refresh (RFC 8767 section 4)."""

    async def main():
        r, a, b = await denied(stale=StalePolicy())
        await call(r)
        a.play(servfail())
        b.play(servfail())
        await at(100 + 400)
        return await call(r)

    got = run(main)
    assert got.source != "held"
    assert got.what == "NXDOMAIN"  # the denial itself, stale


def test_a_name_that_never_had_data_is_not_held():
    async def main():
        r = resolver(*upstreams(nxdomain(), nxdomain()), stale=HOLD)
        return await call(r)

    assert run(main) == ("NXDOMAIN", "upstream", 10)


def test_vantages_that_disagree_are_told_apart_from_a_denial_by_all():
    """Microsoft 2019-05-02: one of four servers said NXDOMAIN."""

    async def main():
        a, b = upstreams(GOOD, GOOD)
        r = resolver(a, b, stale=HOLD, strategy="failover")
        await call(r)
        a.play(nxdomain())
        await at(100)
        return await call(r)

    got = run(main)
    assert got == ("192.0.2.1", "upstream", 20)
    assert got.path.disputed


def test_data_beyond_max_stale_is_not_held():
    async def main():
        r, *_ = await denied(stale=StalePolicy(max_stale=30, on_denial="hold"))
        return await call(r)

    assert run(main).what == "NXDOMAIN"


def test_a_block_that_was_chosen_is_no_mistake():
    async def main():
        (a,) = upstreams(GOOD, filtering=True)
        r = resolver(a, stale=HOLD)
        await call(r)
        a.play(nxdomain(ede=15))
        await at(100)
        return await call(r)

    assert run(main).what == "NXDOMAIN"


def test_holding_is_warned_of_once(caplog):
    async def main():
        r, *_ = await denied()
        for second in (100, 101, 140):
            await at(second)
            await call(r)

    with caplog.at_level(logging.WARNING, "resolverkit.cache"):
        run(main)
    (told,) = [r.message for r in caplog.records if r.name == "resolverkit.cache"]
    assert told.startswith("www.example.com. A: upstreams say NXDOMAIN")
    assert "held" in told


def test_a_refresh_by_force_that_is_denied_is_held_too():
    async def main():
        r, *_ = await denied()
        return await call(r, refresh=True)

    assert run(main) == ("192.0.2.1", "held", 20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_denial": "keep"}, "on_denial='keep': allowed are 'accept', 'hold'"),
        ({"hold": 0}, "hold=0: allowed are seconds up to 604800"),
        ({"hold": 604_801}, "hold=604801"),
    ],
)
def test_a_policy_that_cannot_be_is_refused(options, message):
    with pytest.raises(ConfigurationError, match=message):
        StalePolicy(**options)
