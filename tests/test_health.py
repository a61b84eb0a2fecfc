"""health: the hedge delay, the breaker, demotion, and the order of upstreams."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resolverkit import health
from resolverkit.health import Health

RTTS = st.floats(0, 3, allow_nan=False)


def test_nothing_is_known_at_first():
    fresh = Health()
    assert fresh.delay == 0.150
    assert fresh.srtt is None
    assert not fresh.down
    assert not fresh.probe_due(1e9)
    assert fresh.rank(0) == 0


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([0.020], 0.027),
        ([0.1] * 19 + [0.9], 0.127),  # 1 of 20 is beyond the 95th percentile
        ([0.1] * 18 + [0.9, 0.9], 1.0),  # 2 are not; at most 1 s
        ([0.001] * 32, 0.010),  # at least 10 ms
        ([0.0064], 0.010),
        ([0.008], 0.012),
        ([5.0], 1.0),
    ],
)
def test_the_delay_is_five_quarters_of_p95_and_2_ms(samples, expected):
    assert health.hedge_delay(samples) == pytest.approx(expected)


@given(st.lists(RTTS, min_size=1, max_size=40))
def test_the_delay_covers_95_percent_and_stays_in_bounds(samples):
    delay = health.hedge_delay(samples)
    assert health.MIN_DELAY <= delay <= health.MAX_DELAY
    if delay < health.MAX_DELAY:
        covered = sum(1.25 * rtt + 0.002 <= delay for rtt in samples)
        assert covered >= math.ceil(0.95 * len(samples))
    assert delay == health.hedge_delay(sorted(samples, reverse=True))


@given(st.lists(RTTS, min_size=1, max_size=100))
def test_the_delay_is_learnt_from_the_last_32_replies(rtts):
    one = Health()
    for n, rtt in enumerate(rtts, 1):
        one.succeeded(float(n), rtt)
        if n <= 8:  # from the first reply on; later after every eighth
            assert one.delay == health.hedge_delay(rtts[:n])
    known = {health.hedge_delay(rtts[:n][-32:]) for n in range(1, len(rtts) + 1)}
    assert one.delay in known
    recent = {
        health.hedge_delay(rtts[:n][-32:])
        for n in range(max(1, len(rtts) - 7), len(rtts) + 1)
    }
    assert one.delay in recent


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["succeeded", "failed", "overtaken", "silent", "resent"]),
        st.floats(0, 2),
        st.floats(0, 100),
    ),
    max_size=60,
)


def play(one, events, only=None):
    """Apply events to a record; returns the time at the end."""
    now = 0.0
    for what, rtt, pause in events:
        now += pause
        if only is not None and what not in only:
            continue
        if what == "succeeded":
            one.succeeded(now, rtt)
        elif what == "resent":
            one.succeeded(now, rtt, sample=False)
        elif what == "failed":
            one.failed(now, rtt)
        else:
            one.overtaken(now, rtt, silent=what == "silent")
    return now


@given(EVENTS)
@example([("failed", 2.0, 0.0), ("silent", 2.0, 0.0), ("succeeded", 0.02, 0.0)])
@example([("resent", 2.0, 0.0), ("overtaken", 2.0, 0.0), ("succeeded", 0.02, 0.0)])
def test_losses_never_move_the_delay(events):
    """Nor does a reply to a question that was sent twice (Karn's algorithm)."""
    mixed, clean = Health(), Health()
    play(mixed, events)
    play(clean, events, only={"succeeded"})
    assert mixed.delay == clean.delay


@given(EVENTS, st.sampled_from(["succeeded", "resent", "heard"]))
def test_any_reply_restores(events, how):
    one = Health()
    now = play(one, events)
    was_down = one.down
    if how == "heard":
        told = one.heard()
    else:
        told = one.succeeded(now, 0.01, sample=how == "succeeded")
    assert told is was_down
    assert not one.down
    assert (one.failures, one.losses, one.pause) == (0, 0, health.MIN_PAUSE)


@given(EVENTS)
def test_what_is_down_has_failed_five_times_or_was_overtaken_three_times(events):
    one = Health()
    now = play(one, events)
    assert one.down == (
        one.failures >= health.BREAKER_FAILURES or one.losses >= health.DEMOTING_LOSSES
    )
    assert one.rank(now) >= 0
    assert one.rank(now + 60) <= one.rank(now)
    assert one.pause <= health.MAX_PAUSE


def test_the_breaker_opens_after_five_failures_in_a_row():
    one = Health()
    assert not any(one.failed(float(n), 2.0) for n in range(4))
    one.succeeded(4.0, 0.02)
    assert not any(one.failed(float(n), 2.0) for n in range(5, 9))
    assert not one.down
    assert one.failed(9.0, 2.0)
    assert one.down
    assert not one.failed(9.5, 2.0)  # told once
    assert not one.probe_due(9.999)
    assert one.probe_due(10.0)


def test_pauses_double_from_1_to_30_s():
    one = Health()
    for _ in range(5):
        one.failed(0.0, 2.0)
    now, pauses = 0.0, []
    for _ in range(8):
        assert not one.probe_due(one.retry_at - 0.001)
        pauses.append(one.retry_at - now)
        now = one.retry_at
        assert one.probe_due(now)
        one.probing(now)
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
    assert one.succeeded(now, 0.02)
    for _ in range(5):
        one.failed(now, 2.0)
    assert one.retry_at == now + 1  # and from the start again


def test_three_silent_overtakings_demote():
    one = Health()
    assert not one.overtaken(0.0, 0.1, silent=True)
    assert not one.overtaken(1.0, 0.1, silent=True)
    assert one.overtaken(2.0, 0.1, silent=True)
    assert one.down
    assert not one.overtaken(2.0, 0.1, silent=True)
    assert one.heard()
    assert not one.down


def test_an_upstream_that_is_heard_of_is_never_demoted_for_being_slow():
    one = Health()
    assert not any(one.overtaken(float(n), 0.1, silent=False) for n in range(50))
    assert not one.down
    assert one.srtt == pytest.approx(0.1)


def test_losing_is_no_failure_but_lowers_the_rank():
    one = Health()
    one.succeeded(0.0, 0.01)
    before = one.rank(0.0)
    one.overtaken(0.0, 0.5, silent=True)
    assert one.rank(0.0) > before
    assert one.failures == 0
    once = one.srtt
    one.overtaken(0.0, 0.001, silent=False)  # it had no time
    assert one.srtt == once


def test_srtt_moves_by_an_eighth():
    """RFC 6298 section 2."""
    one = Health()
    one.succeeded(0.0, 0.080)
    one.succeeded(0.0, 0.160)
    assert one.srtt == pytest.approx(0.090)
    one.succeeded(0.0, 9.0, sample=False)
    assert one.srtt == pytest.approx(0.090)


def test_the_rank_halves_each_minute_so_that_slow_ones_are_tried_again():
    slow, fast = Health(), Health()
    slow.succeeded(0.0, 0.2)
    fast.succeeded(0.0, 0.02)
    assert slow.rank(60.0) == pytest.approx(0.1)
    assert slow.rank(120.0) == pytest.approx(0.05)
    for now in range(0, 300, 10):
        fast.succeeded(float(now), 0.02)
        if health.order([slow, fast], float(now)) == [0, 1]:
            break
    assert 190 <= now <= 210  # 0.2 s has become 0.02 s after 3.3 minutes


def test_the_order_of_preference_holds_while_nothing_is_known():
    assert health.order([Health() for _ in range(9)], 5.0) == list(range(9))
    assert health.order([], 0.0) == []


@given(st.lists(EVENTS, min_size=1, max_size=6))
def test_the_order_puts_the_fastest_first_and_what_is_down_last(histories):
    records = [Health() for _ in histories]
    now = max(play(r, events) for r, events in zip(records, histories, strict=True))
    found = health.order(records, now)
    assert sorted(found) == list(range(len(records)))
    keys = [(records[i].down, records[i].rank(now), i) for i in found]
    assert keys == sorted(keys)


def test_what_is_down_comes_last_however_fast_it_was():
    down, slow = Health(), Health()
    down.succeeded(0.0, 0.001)
    slow.succeeded(0.0, 0.9)
    for _ in range(5):
        down.failed(0.0, 0.001)
    assert down.rank(0.0) < slow.rank(0.0)
    assert health.order([down, slow], 0.0) == [1, 0]
    down.heard()
    assert health.order([down, slow], 0.0) == [0, 1]


def test_replies_to_resent_questions_alone_double_the_wait():
    """RFC 6298 section 5.5: the delay may be shorter than any round trip."""
    one, factors = Health(), []
    for now in range(5):
        one.succeeded(float(now), 0.6, sample=False)
        factors.append(one.backoff)
    assert factors[:2] == [2, 4]
    assert one.delay * one.backoff <= health.MAX_DELAY * 1.001
    assert one.delay == health.COLD_DELAY
    assert one.srtt == 0.6  # it places an upstream that is new
    one.succeeded(9.0, 0.3)
    assert (one.backoff, one.delay) == (1, health.hedge_delay([0.3]))
    for now, factor in ((10.0, 1), (11.0, 1), (12.0, 2)):  # now three in a row
        one.succeeded(now, 0.6, sample=False)
        assert one.backoff == factor


@given(EVENTS)
def test_losses_never_move_the_backoff(events):
    mixed, clean = Health(), Health()
    play(mixed, events)
    play(clean, events, only={"succeeded", "resent"})
    assert mixed.backoff == clean.backoff
    assert mixed.backoff >= 1
    assert mixed.delay * mixed.backoff <= health.MAX_DELAY * 1.001


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.sampled_from(["succeeded", "resent", "failed", "overtaken", "heard"]),
            st.sampled_from([0.01, 0.02, 0.2]),
            st.sampled_from([0.0, 0.001, 0.1, 40.0]),
        ),
        max_size=80,
    )
)
def test_a_ranking_that_holds_is_the_order(events):
    """But for the decay of 50 ms."""
    records = [Health() for _ in range(3)]
    ranking, now = health.Ranking(records, keep=False), 1.0
    for who, what, elapsed, after in events:
        now += after
        record = records[who]
        match what:
            case "succeeded":
                record.succeeded(now, elapsed)
            case "resent":
                record.succeeded(now, elapsed, sample=False)
            case "failed":
                record.failed(now, elapsed)
            case "overtaken":
                record.overtaken(now, elapsed, silent=True)
            case _:
                record.heard()
        if not ranking.holds(now):
            ranking.renew(now)
        assert ranking.down == [i for i in range(3) if records[i].down]
        first = records[health.order(records, now)[0]]
        assert ranking.first.down == first.down
        assert ranking.first.rank(now) <= first.rank(now) * 1.001
