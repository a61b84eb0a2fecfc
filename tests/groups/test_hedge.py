"""The one racing loop: who is asked, when, to the millisecond, and what comes of it."""

import asyncio
import socket
from dataclasses import dataclass, field

import pytest
from virtual import at, moments, ms, put, question, resent, told, upstreams

from resolverkit import ConfigurationError, Hedge, Reply, UpstreamError, failover, race
from resolverkit.errors import (
    BadReply,
    NetworkError,
    QueryTimeout,
    ServerFailure,
)
from resolverkit.listener import Pending
from resolverkit.model import Endpoint, Kind
from resolverkit.testing import (
    ScriptedUpstream,
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
from resolverkit.transports.do53 import Do53

GOOD = answer("192.0.2.1")
SLOW = answer("192.0.2.1", after=0.5)
DATA, NODATA, NXDOMAIN = "data", "no data", "no such name"
FAILURE, TIMEOUT, OVERTAKEN = "server failure", "timeout", "overtaken"


@dataclass
class Scenario:
    """One question to a cold group of upstreams a, b, c …"""

    scripts: list
    asked: list  # per upstream: when it was asked, in ms
    ended: int  # ms
    outcomes: list  # as the path lists them, in the order of asking
    end: object = Kind.DATA  # of the reply, or the error's class
    operators: str = ""  # a letter for each upstream
    options: dict = field(default_factory=dict)
    resent: list = field(default_factory=list)  # by upstream a


def scenarios():
    one = "the best answers: nobody else is asked"
    yield one, Scenario([GOOD, GOOD], [[0], []], 10, [("a", DATA)])

    quick = "best by SRTT first, the next at once on a failure"
    for step, outcome in (
        (servfail(after=0.02), FAILURE),
        (refused(after=0.02), FAILURE),
        (rcode(4, after=0.02), FAILURE),  # NOTIMP
        (rcode(1, after=0.02), FAILURE),  # FORMERR
        (rcode(16, after=0.02), FAILURE),  # BADVERS
        (network_error("TLS: bad certificate", after=0.02), "network error"),
        (network_error("no route", local=True, after=0.02), "network error"),
        (bad_reply("HTTP 502", after=0.02), "bad reply"),
    ):
        yield (
            quick,
            Scenario(
                [step, GOOD, GOOD], [[0], [20], []], 30, [("a", outcome), ("b", DATA)]
            ),
        )
    yield (
        "each failure moves on to the next",
        Scenario(
            [servfail(), refused(), network_error(), GOOD],
            [[0], [10], [20], [21]],
            31,
            [("a", FAILURE), ("b", FAILURE), ("c", "network error"), ("d", DATA)],
        ),
    )

    yield (
        "or when the delay has passed: 150 ms cold",
        Scenario([silent(), GOOD], [[0], [150]], 160, [("a", OVERTAKEN), ("b", DATA)]),
    )
    yield (
        "a delay for each one that is late",
        Scenario(
            [silent(), silent(), GOOD],
            [[0], [150], [300]],
            310,
            [("a", OVERTAKEN), ("b", OVERTAKEN), ("c", DATA)],
        ),
    )
    yield (
        "a late first upstream still wins if it is sooner",
        Scenario(
            [answer("192.0.2.1", after=0.155), GOOD],
            [[0], [150]],
            155,
            [("a", DATA), ("b", OVERTAKEN)],
        ),
    )
    yield (
        "a failure of the hedge moves on, too",
        Scenario(
            [silent(), servfail(), GOOD],
            [[0], [150], [160]],
            170,
            [("a", OVERTAKEN), ("b", FAILURE), ("c", DATA)],
        ),
    )
    yield (
        "a delay given in seconds",
        Scenario(
            [silent(), GOOD],
            [[0], [40]],
            50,
            [("a", OVERTAKEN), ("b", DATA)],
            options={"delay": 0.04},
        ),
    )

    yield (
        "the next is one of another operator if there is one",
        Scenario(
            [silent(), GOOD, answer("192.0.2.1", after=0.3)],
            [[0], [300], [150]],
            310,
            [("a", OVERTAKEN), ("c", OVERTAKEN), ("b", DATA)],
            operators="XXY",
        ),
    )
    yield (
        "with one operator, its other addresses do",
        Scenario(
            [servfail(), GOOD],
            [[0], [10]],
            20,
            [("a", FAILURE), ("b", DATA)],
            operators="XX",
        ),
    )

    for asked_for in ({"delay": 0}, {"delay": 0.0}):
        yield (
            "race asks all at once",
            Scenario(
                [SLOW, GOOD, silent()],
                [[0], [0], [0]],
                10,
                [("a", OVERTAKEN), ("b", DATA), ("c", OVERTAKEN)],
                options=asked_for,
            ),
        )
    yield (
        "a race outlives a fast failure",
        Scenario(
            [servfail(), answer("192.0.2.1", after=0.05)],
            [[0], [0]],
            50,
            [("a", FAILURE), ("b", DATA)],
            options={"delay": 0},
        ),
    )

    yield (
        "failover is no delay but failure",
        Scenario(
            [silent(), GOOD],
            [[0], [2000]],
            2010,
            [("a", TIMEOUT), ("b", DATA)],
            options={"delay": None},
            resent=[150, 450],
        ),
    )
    yield (
        "failover asks at once after a failure",
        Scenario(
            [refused(), GOOD, GOOD],
            [[0], [10], []],
            20,
            [("a", FAILURE), ("b", DATA)],
            options={"delay": None},
        ),
    )

    yield (
        "with one upstream the hedge is its retransmission",
        Scenario([lost(GOOD)], [[0]], 160, [("a", DATA)], resent=[150]),
    )
    yield (
        "which backs off",
        Scenario([lost(GOOD, 2)], [[0]], 460, [("a", DATA)], resent=[150, 450]),
    )
    yield (
        "and there are at most 3 sends (RFC 9520 section 3.1)",
        Scenario(
            [lost(GOOD, 3)],
            [[0]],
            2000,
            [("a", TIMEOUT)],
            QueryTimeout,
            resent=[150, 450],
        ),
    )
    yield (
        "all asked: then the first may send once more",
        Scenario(
            [lost(GOOD), silent()],
            [[0], [150]],
            310,
            [("a", DATA), ("b", OVERTAKEN)],
            resent=[300],
        ),
    )

    yield (
        "nothing conclusive: the most useful error is a server's own word, with EDE",
        Scenario(
            [network_error(), servfail(ede=(6, "bogus")), servfail(), silent()],
            [[0], [1], [11], [21]],
            2021,
            [
                ("a", "network error"),
                ("b", FAILURE),
                ("c", FAILURE),
                ("d", TIMEOUT),
            ],
            ServerFailure,
        ),
    )
    yield (
        "a bad reply tells more than a network error",
        Scenario(
            [bad_reply(), network_error()],
            [[0], [10]],
            11,
            [("a", "bad reply"), ("b", "network error")],
            BadReply,
        ),
    )
    yield (
        "a network error tells more than silence",
        Scenario(
            [silent(), network_error()],
            [[0], [150]],
            2000,
            [("a", TIMEOUT), ("b", "network error")],
            NetworkError,
            resent=[300, 600],
        ),
    )

    for denial, kind, outcome in (
        (nxdomain, Kind.NXDOMAIN, NXDOMAIN),
        (nodata, Kind.NODATA, NODATA),
    ):
        yield (
            "a denial with SOA is conclusive",
            Scenario([denial(), GOOD], [[0], []], 10, [("a", outcome)], kind),
        )
        yield (
            "a denial without SOA is not: something better comes",
            Scenario(
                [denial(soa=False), GOOD],
                [[0], [10]],
                20,
                [("a", outcome), ("b", DATA)],
            ),
        )
        yield (
            "it is accepted only when nothing better comes",
            Scenario(
                [denial(soa=False), servfail(), silent()],
                [[0], [10], [20]],
                2020,
                [("a", outcome), ("b", FAILURE), ("c", TIMEOUT)],
                kind,
            ),
        )
    yield (
        "YXDOMAIN is conclusive",
        Scenario(
            [rcode(6), GOOD], [[0], []], 10, [("a", "name too long")], Kind.YXDOMAIN
        ),
    )


SCENARIOS = list(scenarios())


@pytest.mark.parametrize(
    "scenario",
    [scenario for _, scenario in SCENARIOS],
    ids=[f"{i}: {name}" for i, (name, _) in enumerate(SCENARIOS)],
)
def test_who_is_asked_and_when(scenario):
    async def main():
        members = upstreams(*scenario.scripts, operators=scenario.operators)
        group = Hedge(members, **scenario.options)
        end, took = await put(group)
        await asyncio.sleep(20)  # nobody is asked afterwards
        return members, end, took

    members, end, took = run(main)
    assert [moments(member) for member in members] == scenario.asked
    assert resent(members[0]) == scenario.resent
    assert took == scenario.ended
    assert told(end) == scenario.outcomes
    if isinstance(end, Reply):
        assert end.kind is scenario.end
        assert end.winner in end.attempts
    else:
        assert type(end) is scenario.end


def test_race_and_failover_are_the_extremes_of_one_group():
    """`race(...)` is delay 0, `failover(...)` is no delay but failure."""
    one = ScriptedUpstream("a", GOOD)
    assert (race([one]).delay, failover([one]).delay) == (0, None)
    assert Hedge([one]).delay == "auto"


@pytest.mark.parametrize("delay", ["quick", -1, 1.5])
def test_a_delay_that_is_none_is_refused(delay):
    with pytest.raises(ConfigurationError, match="allowed are"):
        Hedge([ScriptedUpstream("a", GOOD)], delay=delay)


def test_a_group_without_upstreams_is_refused():
    with pytest.raises(ConfigurationError, match="at least one"):
        Hedge([])


def test_the_most_useful_error_carries_all_attempts():
    async def main():
        group = Hedge(upstreams(servfail(), servfail(ede=(22, "gone")), refused()))
        end, _ = await put(group)
        return end

    error = run(main)
    assert error.ede == ((22, "gone"),)
    assert [attempt.detail for attempt in error.attempts] == [
        "SERVFAIL",
        "SERVFAIL",
        "REFUSED",
    ]


def test_a_local_fault_is_told_only_where_all_had_one():
    """Local network errors are never cached as failures: silence of others is one."""

    async def main():
        here = network_error("no route", local=True)
        alone, _ = await put(Hedge(upstreams(here, here)))
        mixed, _ = await put(Hedge(upstreams(here, silent())))
        return alone, mixed

    alone, mixed = run(main)
    assert alone.local
    assert not getattr(mixed, "local", False)


# --- order and delay are learnt ------------------------------------------------------


def test_the_best_by_srtt_is_asked_first():
    async def main():
        members = upstreams(
            answer("192.0.2.1", after=0.05),
            answer("192.0.2.1", after=0.02),
            answer("192.0.2.1", after=0.08),
        )
        group = Hedge(members)
        for _ in range(10):
            await put(group)
        return [member.count for member in members]

    assert run(main) == [1, 8, 1]  # each is tried once while nothing is known


@pytest.mark.parametrize(
    ("rtt", "hedged_after"),
    [
        (0.04, 52),  # 1.25 × p95 + 2 ms
        (0.001, 10),  # 10 ms …
        (0.9, 1000),  # … to 1 s
    ],
)
def test_the_automatic_delay_is_learnt_from_successes(rtt, hedged_after):
    """1.25 × p95 + 2 ms over an upstream's last 32 successes, 10 ms to 1 s."""

    async def main():
        a, b = upstreams(answer("192.0.2.1", after=rtt), answer("192.0.2.1", after=1.9))
        group = Hedge([a, b])
        await put(group)  # asks a, and b after the cold delay if a is slow
        for _ in range(40):
            await put(group)
        a.play(silent())
        began, b_before = ms(), b.count
        await put(group)
        assert b.count == b_before + 1
        return moments(b)[-1] - began

    assert run(main) == hedged_after


def test_losses_never_inflate_the_delay():
    async def main():
        a, b = upstreams(answer("192.0.2.1", after=0.04), GOOD)
        group = Hedge([a, b])
        group._children[1].health.srtt = 5.0  # a stays the first to be asked
        group._children[1].health._updated = 1000.0
        for i in range(60):
            a.play(silent() if i % 3 == 2 else answer("192.0.2.1", after=0.04))
            began = ms()
            await put(group)
            if i % 3 == 2:
                assert moments(a)[-1] == began
                yield_after = moments(b)[-1] - began
        return yield_after

    assert run(main) == 52


def test_one_lost_packet_teaches_nothing():
    """Karn: nobody knows which of the packets was answered."""

    async def main():
        (a,) = upstreams([GOOD])
        group = Hedge([a])
        for _ in range(10):
            await put(group)
        health = group._children[0].health
        learnt = health.srtt, health.delay
        a.play(lost(GOOD))
        await put(group)
        return (health.srtt, health.delay) == learnt

    assert run(main)


@pytest.mark.parametrize("before", [0, 40])
@pytest.mark.parametrize("rtt", [0.2, 0.5, 0.75])
def test_a_far_upstream_is_not_sent_every_question_twice(rtt, before):
    """However far it is, and however near it has been."""

    async def main():
        (a,) = upstreams([GOOD] * before + [answer("192.0.2.1", after=rtt)])
        group = Hedge([a])
        for _ in range(before + 40):
            await put(group)
        resends = len(a.resent)
        for _ in range(40):
            await put(group)
        return resends, len(a.resent) - resends

    learning, later = run(main)
    assert learning <= 30
    assert later == 0


def test_failover_keeps_to_the_order_given():
    """However far the first is, and though nothing is known of the second."""

    async def main():
        a, b = upstreams(answer("192.0.2.1", after=1.5), GOOD)
        group = failover([a, b])
        for _ in range(5):
            await put(group)
        return a.count, b.count

    assert run(main) == (5, 0)


def test_failover_goes_past_what_is_down_and_comes_back():
    async def main():
        down = [servfail(after=0.001)] * 5
        a, b = upstreams([*down, GOOD], GOOD)
        group = failover([a, b])
        for _ in range(5):
            await put(group)
        while_up = a.count, b.count
        await put(group)
        without = a.count, b.count
        await asyncio.sleep(2)
        await put(group)  # a probe goes along
        await asyncio.sleep(0.1)
        await put(group)
        return while_up, without, (a.count, b.count)

    assert run(main) == ((5, 5), (5, 6), (7, 7))


def test_an_upstream_that_tells_no_attempts_is_told_of_all_the_same():
    class Own:
        name = "own"

        async def query(self, question):
            (reply,) = [await a.query(question)]
            reply.attempts, reply.winner = (), None
            return reply

        async def aclose(self):
            pass

    async def main():
        (other,) = upstreams(GOOD)
        nonlocal a
        a = other
        reply, _ = await put(Hedge([Own()]))
        return reply.winner.upstream, [str(x.outcome) for x in reply.attempts]

    a = None
    assert run(main) == ("own", ["data"])


def test_losing_a_race_is_not_a_failure_but_lowers_the_place():
    """Losing a race is not a failure; but an overtaken attempt lowers a transport's
    place in the order."""

    async def main():
        a, b = upstreams(
            [answer("192.0.2.1", after=0.02)] * 2 + [answer("192.0.2.1", after=1.0)],
            answer("192.0.2.1", after=0.022),
        )
        group = Hedge([a, b])
        order = []
        for _ in range(5):
            before = a.count, b.count
            await put(group)
            order.append((a.count - before[0], b.count - before[1]))
        health = group._children[0].health
        return order, health.failures, health.down

    # a (20 ms); b, not known yet (22 ms); a; a is late once: b from then on
    order, failures, down = run(main)
    assert order == [(1, 0), (0, 1), (1, 0), (1, 1), (0, 1)]
    assert (failures, down) == (0, False)


def demotable(after=0.2):
    """a is near and falls silent, b is far: only demotion puts b first."""
    return upstreams([GOOD, silent()], answer("192.0.2.2", after=after))


def test_three_silent_losses_in_a_row_demote():
    """Three in a row without a byte received demote it until it answers again."""

    async def main():
        a, b = demotable(1.5)
        group = Hedge([a, b])
        await put(group)  # a answers
        await put(group)  # b is tried
        first = []
        for _ in range(5):
            began = ms()
            await put(group)
            first.append("".join(m.name for m in (a, b) if moments(m)[-1] == began))
        assert group._children[0].health.failures == 0
        return first

    # The third loss demotes a: it is asked last from then on.
    assert run(main) == ["a", "a", "a", "b", "b"]


def test_a_demoted_upstream_is_back_as_soon_as_it_answers():
    async def main():
        recovered = []
        a, b = demotable()
        group = Hedge([a, b], on_change=lambda _, up: up and recovered.append(ms()))
        for _ in range(5):
            await put(group)
        assert group._children[0].health.down
        a.play(GOOD)
        await asyncio.sleep(1.0)
        probed = ms()
        await put(group)  # b answers, a is probed
        assert moments(a)[-1] == moments(b)[-1] == probed
        assert not group._children[0].health.down
        before = b.count
        await put(group)
        return recovered == [probed + 10], b.count - before, moments(a)[-1] > probed

    assert run(main) == (True, 0, True)


def test_a_late_reply_is_a_byte_received():
    """A loser that answers after all was slow, and is not demoted."""

    async def main():
        a, b = upstreams(
            [GOOD, answer("192.0.2.1", after=0.15)], answer("192.0.2.2", after=0.2)
        )
        group = Hedge([a, b], delay=0.01)
        for _ in range(20):
            await put(group)
            await asyncio.sleep(1)
        return group._children[0].health.down

    assert run(main) is False


def test_a_race_demotes_nobody_who_is_merely_slower():
    """All were asked at once: nobody was overtaken by a later question."""

    async def main():
        recovered = []
        members = upstreams(answer("192.0.2.1", after=0.05), GOOD)
        group = Hedge(
            members, delay=0, on_change=lambda _, up: up and recovered.append(1)
        )
        for _ in range(30):
            await put(group)
        return [child.health.down for child in group._children], recovered

    assert run(main) == ([False, False], [])


def test_five_failures_in_a_row_open_the_breaker():
    async def main():
        a, b = upstreams(silent(), answer("192.0.2.2", after=0.05))
        group = failover([a, b])
        for _ in range(5):
            group._children[0].health.srtt = None  # a stays first
            await put(group)
        before = a.count
        for _ in range(3):
            await put(group)
        return before, a.count

    assert run(main) == (5, 5)


@pytest.mark.parametrize("others", [1, 2, 3])
def test_a_down_upstream_is_probed_beside_the_question(others):
    async def main():
        a, *rest = upstreams(*[network_error()], *[GOOD] * others)
        group = Hedge([a, *rest])
        down = group._children[0].health
        for _ in range(5):
            down.srtt = None
            await put(group)
        assert down.down
        opened = ms()
        for _ in range(700):
            _, took = await put(group)
            assert took == 10  # nobody waits for a probe
            await asyncio.sleep(0.09)
        probes = [when - opened for when in moments(a) if when > opened]
        gaps = [b - a for a, b in zip([0, *probes], probes, strict=False)]
        a.play(GOOD)
        await asyncio.sleep(30)
        await put(group)
        await asyncio.sleep(0.1)
        return gaps, down.down

    gaps, still_down = run(main)
    # 1 s, doubled by each failed probe up to 30 s, to the next question.
    for gap, pause in zip(gaps, (1000, 2000, 4000, 8000, 16000, 30000), strict=False):
        assert pause <= gap < pause + 110
    assert len(gaps) >= 5
    assert not still_down


def test_a_probe_is_not_a_second_question():
    """One question for each asked upstream, the probed one included."""

    async def main():
        a, b = upstreams(network_error(), GOOD)
        group = Hedge([a, b])
        for _ in range(5):
            group._children[0].health.srtt = None
            await put(group)
        await asyncio.sleep(5)
        a.play(answer("192.0.2.1", after=0.05))
        b.play(servfail())
        a.asked.clear()
        end, took = await put(group)
        return end.kind, took, len(a.asked)

    assert run(main) == (Kind.DATA, 50, 1)


def test_a_probe_is_not_a_second_question_though_its_server_is_up_again():
    """It has answered another question before the race came to it."""

    async def main():
        a, b = upstreams(network_error(), GOOD)
        group = Hedge([a, b], delay=None)
        for _ in range(5):
            await put(group)
        assert group._children[0].health.down
        await asyncio.sleep(5)
        a.play(answer("192.0.2.1", after=0.5))
        b.play(servfail(after=0.1))
        a.asked.clear()
        first = asyncio.ensure_future(put(group))
        await asyncio.sleep(0.05)
        group._children[0].health.heard()  # by another question
        end, took = await first
        return end.kind, took, len(a.asked)

    assert run(main) == (Kind.DATA, 500, 1)


def test_all_down_are_still_asked():
    async def main():
        a, b = upstreams(network_error(), network_error())
        group = Hedge([a, b])
        for _ in range(5):
            await put(group)
        assert group.down
        a.play(GOOD)
        end, took = await put(group)
        return end.kind, took <= 11, group.down

    assert run(main) == (Kind.DATA, True, False)


def test_a_server_that_fails_with_the_rest_is_not_down():
    """All fail alike: it is the name, not the server."""

    async def main():
        group = Hedge(upstreams(servfail(), servfail()))
        for _ in range(20):
            await put(group)
        return group.down

    assert run(main) is False


def test_a_failure_that_all_share_is_a_byte_received():
    """It breaks the row of failures that would open the breaker."""

    async def main():
        fails = [network_error()] * 4
        group = Hedge(upstreams([*fails, servfail(), *fails]))
        for _ in range(9):
            await put(group)
        return group.down

    assert run(main) is False


def test_a_server_that_fails_alone_goes_down():
    async def main():
        a, b = upstreams(servfail(), answer("192.0.2.2", after=0.3))
        group = Hedge([a, b])
        for _ in range(5):
            group._children[0].health.srtt = None  # a stays first
            await put(group)
        return group._children[0].health.down

    assert run(main) is True


def test_names_that_get_no_reply_do_not_take_down_a_server_that_answers_others():
    """A recursor is silent about a dead zone for minutes, and there all the same."""

    async def main():
        (a,) = upstreams({"dead.example": silent(), "live.example": GOOD})
        group = Hedge([a])

        async def keep_asking(name, pause, times):
            for _ in range(times):
                await put(group, name)
                await asyncio.sleep(pause)

        dead = [keep_asking("dead.example", 0.1, 10) for _ in range(10)]
        downs = []

        async def watch():
            for _ in range(200):
                downs.append(group.down)
                await asyncio.sleep(0.1)

        await asyncio.gather(*dead, keep_asking("live.example", 0.5, 40), watch())
        return any(downs)

    assert run(main) is False


# --- budget --------------------------------------------------------------------------


def wasteful():
    """a answers after the hedge was sent: each hedge is wasted."""
    return upstreams(answer("192.0.2.1", after=0.04), answer("192.0.2.2", after=0.4))


def test_a_budget_limits_waste():
    """≤ 5 % of questions (floor 10 per 10 s)."""

    async def main():
        a, b = wasteful()
        group = Hedge([a, b], delay=0.02)
        await put(group)
        b.asked.clear()
        began = ms()
        for _ in range(600):
            group._children[1].health.srtt = 9.0
            await put(group)
        return [when - began for when in moments(b)]

    hedges = run(main)
    first = [when for when in hedges if when < 9_900]
    assert 10 <= len(first) <= 13  # the floor, or 5 % of some 240
    assert len(hedges) <= 0.06 * 600
    assert hedges[-1] > 10_000  # the next window has a budget of its own


def test_the_budget_does_not_limit_rescue():
    """A budget limits waste, not rescue: it counts only hedges whose first attempt
    answered after all."""

    async def main():
        a, b = upstreams(silent(), answer("192.0.2.2", after=0.03))
        group = Hedge([a, b], delay=0.02)
        took = []
        for _ in range(100):
            for child, srtt in zip(group._children, (0.001, 9.0), strict=True):
                child.health.heard()
                child.health.srtt = srtt
            took.append((await put(group))[1])
        return set(took), a.count, b.count

    assert run(main) == ({50}, 100, 100)


# --- the end of a race ---------------------------------------------------------------


def test_losers_are_cancelled():
    async def main():
        members = upstreams(SLOW, GOOD, silent())
        await put(race(members))
        await asyncio.sleep(0)
        return [member.cancelled for member in members]

    assert run(main) == [1, 0, 1]


def test_cancelling_the_question_cancels_all():
    async def main():
        members = upstreams(silent(), silent(), silent())
        group = Hedge(members)
        asked = group.query(question())
        await at(0.2)
        assert asked.cancel()
        assert not asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        await asyncio.sleep(5)
        return [(member.count, member.cancelled) for member in members]

    assert run(main) == [(1, 1), (1, 1), (0, 0)]


def test_what_was_tried_so_far_can_be_told():
    async def main():
        group = Hedge(upstreams(servfail(), silent(), GOOD))
        asked = group.query(question())
        await at(0.1)
        tried = [(a.upstream, str(a.outcome), a.detail) for a in asked.attempts]
        asked.cancel()
        return tried

    assert run(main) == [
        ("a", FAILURE, "SERVFAIL"),
        ("b", TIMEOUT, "no reply yet"),
    ]


class Foreign:
    """A user's own upstream, with nothing but what the Protocol asks for."""

    def __init__(self, name, act):
        self.name = name
        self.act = act
        self.closed = 0

    async def query(self, asked):
        return await self.act(asked)

    async def aclose(self):
        self.closed += 1


def test_a_users_own_upstream_may_be_an_async_def():
    async def main():
        behind = ScriptedUpstream("behind", GOOD)
        mine = Foreign("mine", behind.query)
        group = Hedge([mine])
        end, took = await put(group)
        await group.aclose()
        return end.kind, took, told(end), mine.closed

    assert run(main) == (Kind.DATA, 10, [("behind", DATA)], 1)


@pytest.mark.parametrize(
    ("error", "becomes"), [(ValueError("oops"), NetworkError), (TimeoutError(), None)]
)
def test_a_foreign_exception_is_told_and_the_next_is_asked(error, becomes):
    async def fails(_):
        raise error

    async def main():
        (good,) = upstreams(GOOD)
        end, _ = await put(Hedge([Foreign("mine", fails), good]))
        alone, _ = await put(Hedge([Foreign("mine", fails)]))
        return end, alone

    end, alone = run(main)
    assert told(end)[0][0] == "mine"
    assert told(end)[1] == ("a", DATA)
    assert isinstance(alone, UpstreamError)
    assert type(alone) is (becomes or QueryTimeout)


@pytest.mark.parametrize("gives", [None, b"\0\0\x81\x80"])
@pytest.mark.parametrize(
    "options", [{}, {"delay": 0}, {"delay": None}], ids=["hedge", "race", "failover"]
)
def test_what_is_no_reply_is_a_failure(gives, options, caplog):
    async def wrong(_):
        await asyncio.sleep(0.001)
        return gives

    async def main():
        (good,) = upstreams(GOOD)
        end, took = await put(Hedge([Foreign("mine", wrong), good], **options))
        alone, _ = await put(Hedge([Foreign("mine", wrong)], **options))
        return told(end), took < 20, str(alone), type(alone)

    attempts, at_once, text, kind = run(main)
    assert attempts == [("mine", "network error"), ("a", DATA)]
    assert at_once
    assert text == f"TypeError: query() gave {gives!r}, which is no Reply"
    assert kind is NetworkError
    assert "mine raised" in caplog.text


def test_groups_nest():
    async def main():
        a, b, c = upstreams(servfail(), refused(), GOOD)
        end, took = await put(failover([race([a, b]), race([c])]))
        return end.kind, took, told(end)

    assert run(main) == (
        Kind.DATA,
        20,
        [("a", FAILURE), ("b", FAILURE), ("c", DATA)],
    )


def test_closing_closes_all_and_may_be_repeated():
    async def main():
        members = upstreams(GOOD, GOOD)
        group = Hedge(members)
        await group.aclose()
        await group.aclose()
        return [member.closed for member in members]

    assert run(main) == [True, True]


def test_closing_leaves_no_timer():
    """What is called off in one member goes on with another, as long as that lasts."""

    async def main():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
            deaf.bind(("127.0.0.1", 0))
            where = Endpoint("deaf", address="127.0.0.1", port=deaf.getsockname()[1])
            group = Hedge([Do53(where), Do53(where)])
            asked = group.query(question())
            await group.aclose()
            with pytest.raises(UpstreamError):
                await asked
            return len(group.deadlines._queue)

    assert asyncio.run(main()) == 0


# --- blocks --------------------------------------------------------------------------

BLOCKS = {
    "EDE 15 with an address": answer("0.0.0.0", ede=15),
    "EDE 16 with SOA": nxdomain(ede=(16, "court order")),
    "EDE 17 without SOA": nxdomain(soa=False, ede=17),
    "EDE 18 with no data": nodata(ede=18),
}


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_a_block_is_inconclusive_and_told_in_the_path(block):
    """From any other it is treated as inconclusive and told in the path."""

    async def main():
        return await put(Hedge(upstreams(block, GOOD)))

    end, took = run(main)
    assert (end.kind, took) == (Kind.DATA, 20)
    assert told(end) == [("a", "blocked"), ("b", DATA)]


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_a_block_by_a_filtering_upstream_is_conclusive(block):
    """A block from an upstream declared as filtering is conclusive, since its user
    chose it."""

    async def main():
        a = ScriptedUpstream("a", block, filtering=True)
        (b,) = upstreams(GOOD)
        _, took = await put(Hedge([a, b]))
        return took, b.count

    assert run(main) == (10, 0)


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_on_block_next_goes_on(block):
    async def main():
        a = ScriptedUpstream("a", block, filtering=True)
        b = ScriptedUpstream("b", GOOD)
        return await put(Hedge([a, b], on_block="next"))

    end, took = run(main)
    assert (end.kind, took) == (Kind.DATA, 20)
    assert told(end) == [("a", "blocked"), ("b", DATA)]


@pytest.mark.parametrize(
    ("known", "ra", "outcome"),
    [(True, False, "blocked"), (True, True, NXDOMAIN), (False, False, NXDOMAIN)],
)
def test_a_preset_has_its_own_signature_of_a_block(known, ra, outcome):
    """NXDOMAIN with no SOA, RA=0: filtered, not non-existence (Quad9)."""

    async def main():
        a = ScriptedUpstream("a", nxdomain(soa=False, ra=ra), unsigned_block=known)
        b = ScriptedUpstream("b", servfail())
        return await put(Hedge([a, b]))

    end, _ = run(main)
    assert told(end) == [("a", outcome), ("b", FAILURE)]
    # A block is no denial: when nothing better comes, it is an error and no NXDOMAIN.
    assert isinstance(end, UpstreamError) is (outcome == "blocked")


# --- dispute -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ede", "ad", "disputed"),
    [*((code, False, True) for code in range(5, 13)), (6, True, False)]
    + [(code, False, False) for code in (3, 4, 13, 22, 23)],
)
def test_a_bogus_verdict_of_another_vantage_is_marked(ede, ad, disputed):
    """EDE 5–12 … without such an entry the answer is given, marked `disputed`."""

    async def main():
        members = upstreams(servfail(ede=ede), answer("192.0.2.1", ad=ad))
        return await put(Hedge(members))

    end, _ = run(main)
    assert end.disputed is disputed


def test_ede_otherwise_never_changes_a_decision():
    """1.1.1.1 sent 22 for a bogus name."""

    async def main():
        for code in (0, 3, 4, 13, 19, 22, 23, 24, 31):
            end, took = await put(Hedge(upstreams(answer("192.0.2.1", ede=code), GOOD)))
            assert (end.kind, took, len(end.attempts)) == (Kind.DATA, 10, 1)

    run(main)


def test_another_operator_confirms():
    async def main():
        a, b, c = upstreams(nxdomain(), GOOD, GOOD, operators="XXY")
        group = Hedge([a, b, c])
        denial, _ = await put(group)
        confirmed = await group.confirm(question(), denial.winner)
        assert confirmed.kind is Kind.DATA
        assert Hedge([a, b]).confirm(question(), denial.winner) is None
        return [member.count for member in (a, b, c)]

    assert run(main) == [1, 0, 1]


def test_a_group_in_a_group_confirms_by_other_operators_too():
    """Who denied is one of a member's members: the first of each group is asked."""

    async def main():
        a, b, c = upstreams(nxdomain(), GOOD, GOOD)
        group = failover([failover([a, b]), c])
        denial, _ = await put(group)
        confirmed = await group.confirm(question(), denial.winner)
        assert told(confirmed) == [("c", DATA)]
        return [member.count for member in (a, b, c)]

    assert run(main) == [1, 0, 1]


@pytest.mark.parametrize(("operators", "who"), [("XYX", "b"), ("XXX", None)])
def test_where_no_other_member_can_confirm_others_in_it_do(operators, who):
    async def main():
        a, b, c = upstreams(nxdomain(), GOOD, GOOD, operators=operators)
        group = failover([failover([a, b]), c])
        denial, _ = await put(group)
        confirmed = group.confirm(question(), denial.winner)
        return None if confirmed is None else told(await confirmed)[0][0]

    assert run(main) == who


def test_all_who_want_to_know_are_told_of_a_recovery():
    told_to = []

    async def main():
        (a,) = upstreams([silent()] * 5 + [GOOD])
        group = Hedge([a], on_change=lambda _, up: up and told_to.append("one"))
        group.on_change(lambda _, up: up and told_to.append("two"))
        for _ in range(6):
            await put(group)

    run(main)
    assert sorted(told_to) == ["one", "two"]


def test_who_is_up_again_is_told_of_whatever_it_answers():
    changes = []

    async def main():
        members = upstreams(*[[silent()] * 5 + [servfail()]] * 2)
        group = failover(members)
        group.on_change(lambda name, up: changes.append((name, up)))
        for _ in range(6):
            await put(group)
        return group.down

    assert run(main) is False
    assert changes == [("a", False), ("b", False), ("a", True), ("b", True)]


def test_a_validator_that_finds_a_zone_bogus_is_not_at_fault():
    """EDE 5 to 12: it did its work, and another that answers does not validate."""

    async def main():
        a, b = upstreams(servfail(ede=6), answer("192.0.2.1"))
        group = Hedge([a, b], delay=None)
        for _ in range(10):
            reply, _ = await put(group)
            assert reply.disputed
        return group.down, a.count

    assert run(main) == (False, 10)


class Crashing(Foreign):
    """A user's own upstream that breaks the contract: its `query` raises."""

    def query(self, asked):
        raise self.act


@pytest.mark.parametrize("crash", [ValueError("oops"), StopIteration()])
@pytest.mark.parametrize("options", [{}, {"delay": 0}], ids=["lead", "race"])
def test_an_upstream_that_crashes_has_failed(crash, options, caplog):
    async def main():
        mine, b = Crashing("mine", crash), ScriptedUpstream("b", GOOD)
        alone, took = await put(Hedge([mine], **options))
        assert (type(alone), took) == (NetworkError, 0)
        assert type(crash).__name__ in str(alone)
        group = Hedge([mine, b], **options)
        return told((await put(group))[0]), group.children[0].health.errors

    assert run(main) == ([("mine", "network error"), ("b", DATA)], 1)
    assert "mine raised" in caplog.text


class Unreachable:
    """A transport whose network is gone by the time that it sends again."""

    name = "a"

    def query(self, question):
        return Pending(loop=asyncio.get_running_loop())

    def resend(self, future):
        future.set_exception(NetworkError("Network is unreachable"))
        return True


@pytest.mark.parametrize(("others", "end"), [(0, NetworkError), (1, Kind.DATA)])
def test_who_fails_at_sending_again_has_failed(others, end):
    async def main():
        a, b = Unreachable(), ScriptedUpstream("b", SLOW)
        got, took = await put(Hedge([a, b][: 1 + others]))
        return getattr(got, "kind", type(got)), took

    assert run(main) == (end, 650 if others else 150)
