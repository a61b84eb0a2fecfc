"""The quorum: who is asked, when, to the millisecond, and who agrees with whom."""

import asyncio
import gc
from dataclasses import dataclass, field

import pytest
from virtual import at, call, moments, ms, pin, put, question, resent, resolver, told
from virtual import upstreams as scripted

from resolverkit import ConfigurationError, Hedge, Quorum, UpstreamError
from resolverkit.errors import QueryTimeout, ServerFailure
from resolverkit.model import Kind
from resolverkit.testing import (
    ScriptedUpstream,
    VirtualLoop,
    answer,
    lost,
    network_error,
    nodata,
    nxdomain,
    run,
    servfail,
    silent,
)

GOOD = answer("192.0.2.1")
LATE = answer("192.0.2.1", after=0.1)
LIE = answer("198.51.100.6")
OTHER = answer("203.0.113.9")
EDGE = answer("192.0.2.1", cname=["edge.cdn.example."])
FORGED = answer("198.51.100.6", cname=["edge.cdn.example."])
FAR_EDGE = answer("203.0.113.9", cname=["edge.cdn.example."])
DATA, NODATA, NXDOMAIN = "data", "no data", "no such name"
FAILURE, TIMEOUT, OVERTAKEN = "server failure", "timeout", "overtaken"


@dataclass
class Scenario:
    """One question to a cold quorum of upstreams a, b, c …, each of its own operator"""

    scripts: list
    asked: list  # per upstream: when it was asked, in ms
    ended: int  # ms
    winner: str
    quorum: tuple  # operators asked, and that agree
    disputed: bool = False
    operators: str = ""  # a letter for each upstream
    options: dict = field(default_factory=dict)
    resent: dict = field(default_factory=dict)  # by letter, in ms


def scenarios():
    yield (
        "k operators are asked at once, and agree",
        Scenario([GOOD, GOOD, GOOD], [[0], [0], []], 10, "a", (2, 2)),
    )
    yield (
        "which takes as long as the slower one of them",
        Scenario([GOOD, LATE, GOOD], [[0], [0], []], 100, "a", (2, 2)),
    )
    yield (
        "three of three, where three are to agree",
        Scenario([GOOD] * 4, [[0], [0], [0], []], 10, "a", (3, 3), options={"k": 3}),
    )
    yield (
        "two addresses of one operator are one vantage",
        Scenario([GOOD] * 3, [[0], [], [0]], 10, "a", (2, 2), operators="XXY"),
    )
    yield (
        "all operators at once, without a delay",
        Scenario(
            [LIE, GOOD, GOOD, GOOD],
            [[0], [0], [], [0]],
            10,
            "b",
            (3, 2),
            operators="XYYZ",
            options={"delay": 0},
        ),
    )

    yield (
        "a liar that is asked first does not win",
        Scenario([LIE, GOOD, GOOD], [[0], [0], [10]], 20, "b", (3, 2)),
    )
    yield (
        "nor one that is asked second",
        Scenario([GOOD, LIE, GOOD], [[0], [0], [10]], 20, "a", (3, 2)),
    )
    yield (
        "nor one that answers first",
        Scenario(
            [answer("198.51.100.6", after=0.001), LATE, LATE],
            [[0], [0], [100]],
            200,
            "b",
            (3, 2),
        ),
    )
    yield (
        "one that is asked last is not even heard",
        Scenario([GOOD, GOOD, LIE], [[0], [0], []], 10, "a", (2, 2)),
    )
    yield (
        "nor does one with two addresses",
        Scenario(
            [LIE, LIE, GOOD, GOOD],
            [[0], [], [0], [10]],
            20,
            "c",
            (3, 2),
            operators="XXYZ",
        ),
    )
    yield (
        "one that denies does not win either",
        Scenario([nxdomain(), GOOD, GOOD], [[0], [0], [10]], 20, "b", (3, 2)),
    )
    yield (
        "nor one that has data where the name is denied",
        Scenario([LIE, nxdomain(), nxdomain()], [[0], [0], [10]], 20, "b", (3, 2)),
    )
    yield (
        "NXDOMAIN and NODATA do not agree",
        Scenario([nxdomain(), nodata(), nodata()], [[0], [0], [10]], 20, "b", (3, 2)),
    )
    yield (
        "a third is asked at once where two disagree, not when it is late",
        Scenario(
            [LIE, GOOD, answer("192.0.2.1", after=0.2)],
            [[0], [0], [10]],
            210,
            "b",
            (3, 2),
            resent={"c": [160]},
        ),
    )

    yield (
        "one in a shared /24 agrees",
        Scenario([GOOD, answer("192.0.2.200")], [[0], [0]], 10, "a", (2, 2)),
    )
    yield (
        "one with the same alias does, though one more is asked",
        Scenario([EDGE, FAR_EDGE, EDGE], [[0], [0], [10]], 20, "a", (3, 3)),
    )
    yield (
        "so that a liar who copies the alias does not win",
        Scenario([FORGED, EDGE, EDGE], [[0], [0], [10]], 20, "b", (3, 3)),
    )
    yield (
        "but not two more",
        Scenario(
            [
                EDGE,
                FAR_EDGE,
                answer("198.18.0.1", cname=["edge.cdn.example."]),
                EDGE,
            ],
            [[0], [0], [10], []],
            20,
            "a",
            (3, 3),
        ),
    )
    yield (
        "and it is waited for as long as a hedge is",
        Scenario([EDGE, FAR_EDGE, silent()], [[0], [0], [10]], 160, "a", (3, 2)),
    )
    yield (
        "where there is nobody else, the alias will do",
        Scenario([EDGE, FAR_EDGE], [[0], [0]], 10, "a", (2, 2)),
    )

    for step in (servfail(), network_error(after=0.01), nxdomain(soa=False)):
        yield (
            "after a failure the next is asked at once",
            Scenario([step, GOOD, GOOD], [[0], [0], [10]], 20, "b", (3, 2)),
        )
    yield (
        "after the hedge delay when somebody is late: 150 ms cold",
        Scenario([silent(), GOOD, GOOD], [[0], [0], [150]], 160, "b", (3, 2)),
    )
    yield (
        "and one for each that is late",
        Scenario(
            [silent(), silent(), GOOD, GOOD],
            [[0], [0], [150], [150]],
            160,
            "c",
            (4, 2),
        ),
    )
    yield (
        "with a delay of its own",
        Scenario(
            [silent(), GOOD, GOOD],
            [[0], [0], [40]],
            50,
            "b",
            (3, 2),
            options={"delay": 0.04},
        ),
    )
    yield (
        "or never, but for a failure",
        Scenario(
            [silent(), GOOD, GOOD],
            [[0], [0], [2000]],
            2010,
            "b",
            (3, 2),
            options={"delay": None},
            resent={"a": [150, 450]},
        ),
    )
    yield (
        "a late one still counts if it comes before",
        Scenario(
            [answer("192.0.2.1", after=0.155), GOOD, GOOD],
            [[0], [0], [150]],
            155,
            "a",
            (3, 2),
        ),
    )
    yield (
        "where there is no other operator, another address of it",
        Scenario([silent(), GOOD, GOOD], [[0], [150], [0]], 160, "b", (2, 2),
                 operators="XXY"),
    )  # fmt: skip
    yield (
        "or the same question once more",
        Scenario([lost(GOOD), GOOD], [[0], [0]], 160, "a", (2, 2), resent={"a": [150]}),
    )

    yield (
        "where they all disagree the first is given, as disputed",
        Scenario([LIE, GOOD, OTHER], [[0], [0], [10]], 20, "a", (3, 1), disputed=True),
    )
    yield (
        "data before a denial",
        Scenario([nxdomain(), GOOD], [[0], [0]], 10, "b", (2, 1), disputed=True),
    )
    yield (
        "and the largest class before data",
        Scenario(
            [GOOD, nodata(), nodata()],
            [[0], [0], [0]],
            10,
            "b",
            (3, 2),
            disputed=True,
            options={"k": 3},
        ),
    )
    yield (
        "of two with two members each that with the first upstream",
        Scenario(
            [OTHER, GOOD, LIE, GOOD, LIE],
            [[0], [0], [0], [10], [10]],
            20,
            "b",
            (5, 2),
            disputed=True,
            options={"k": 3},
        ),
    )
    yield (
        "one answer of two that were asked is disputed",
        Scenario([servfail(), GOOD], [[0], [0]], 10, "b", (2, 1), disputed=True),
    )
    yield (
        "denials without SOA do not count, and are given when there is nothing else",
        Scenario(
            [nxdomain(soa=False), nxdomain(soa=False)],
            [[0], [0]],
            10,
            "a",
            (2, 0),
            disputed=True,
        ),
    )


@pytest.mark.parametrize(
    "scenario", [pytest.param(s, id=name) for name, s in scenarios()]
)
def test_who_is_asked_and_when(scenario):
    async def main():
        members = scripted(*scenario.scripts, operators=scenario.operators)
        reply, ended = await put(Quorum(members, **scenario.options))
        assert [moments(member) for member in members] == scenario.asked
        again = {m.name: resent(m) for m in members if m.resent}
        assert again == scenario.resent
        assert reply.winner.upstream == scenario.winner
        assert (reply.quorum, reply.disputed) == (scenario.quorum, scenario.disputed)
        assert ended == scenario.ended
        heard = sum(map(len, scenario.asked))
        assert len(reply.attempts) == heard  # every attempt is told

    run(main)


# --- failures -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scripts", "ended", "message"),
    [
        ([LIE, GOOD], 10, "1 of 2 operators agree, not 2"),
        ([LIE, GOOD, OTHER], 20, "1 of 3 operators agree, not 2"),
        ([servfail(), GOOD], 10, "1 of 2 operators agree, not 2"),
        ([silent(), GOOD], 2000, "1 of 2 operators agree, not 2"),
        ([nxdomain(soa=False)] * 2, 10, "0 of 2 operators agree, not 2"),
    ],
)
def test_strictly_a_dispute_is_an_error_that_says_how_many_agreed(
    scripts, ended, message
):
    async def main():
        members = scripted(*scripts)
        error, took = await put(Quorum(members, strict=True))
        assert (type(error), str(error), took) == (UpstreamError, message, ended)
        assert [a.upstream for a in error.attempts] == [m.name for m in members]

    run(main)


def test_strictly_an_agreement_is_an_answer():
    async def main():
        reply, took = await put(Quorum(scripted(LIE, GOOD, GOOD), strict=True))
        return reply.winner.upstream, took, reply.disputed

    assert run(main) == ("b", 20, False)


@pytest.mark.parametrize("strict", [False, True])
def test_where_all_fail_the_most_useful_error_carries_all_attempts(strict):
    async def main():
        members = scripted(silent(), servfail(ede=22), network_error())
        error, took = await put(Quorum(members, strict=strict))
        assert isinstance(error, ServerFailure)
        assert took == 2000
        return told(error)

    outcomes = [("a", TIMEOUT), ("b", FAILURE), ("c", "network error")]
    assert run(main) == outcomes


def test_an_unwanted_block_does_not_count_and_is_told():
    async def main():
        blocked = answer("0.0.0.0", ede=15)
        reply, _ = await put(Quorum(scripted(blocked, GOOD, GOOD)))
        return reply.quorum, told(reply)

    assert run(main) == ((3, 2), [("a", "blocked"), ("b", DATA), ("c", DATA)])


@pytest.mark.parametrize(
    ("on_block", "expected"), [("accept", ("a", (2, 2))), ("next", ("c", (3, 1)))]
)
def test_a_block_by_chosen_filters_is_a_vote(on_block, expected):
    """Two filters agree on the block; with "next" none of them counts."""

    async def main():
        script = nxdomain(ede=15)
        a, b = (
            ScriptedUpstream(name, script, operator=name, filtering=True)
            for name in "ab"
        )
        c = ScriptedUpstream("c", GOOD, operator="c")
        reply, _ = await put(Quorum([a, b, c], on_block=on_block))
        return reply.winner.upstream, reply.quorum

    assert run(main) == expected


def test_the_path_tells_who_disagreed():
    async def main():
        async with resolver(*scripted(LIE, GOOD, GOOD), strategy="quorum") as r:
            got = await call(r)
            assert (got.what, got.took) == ("192.0.2.1", 20)
            path = got.path
            assert (path.asked, path.agreed, path.disputed) == (3, 2, False)
            assert path.to_dict()["asked"] == 3
            assert path.to_dict()["agreed"] == 2
            text = str(path)
            assert "; 2 of 3 agree; also tried a disagrees: data after 10.0 ms" in text
            again = await call(r)
            assert (again.source, again.path.agreed) == ("cache", 2)
            return text

    assert "disputed" not in run(main)


def test_a_bogus_verdict_of_another_vantage_is_marked():
    """DESIGN 5.2: EDE 5-12 of one, and data without AD of others: disputed."""

    async def main():
        reply, _ = await put(Quorum(scripted(servfail(ede=6), GOOD, GOOD)))
        return reply.quorum, reply.disputed

    assert run(main) == ((3, 2), True)


# --- configuration --------------------------------------------------------------------


def test_too_few_operators_are_refused():
    with pytest.raises(ConfigurationError) as caught:
        Quorum(scripted(GOOD, GOOD, operators="XX"))
    assert str(caught.value) == (
        "a quorum of 2 needs 2 operators, and there are 1: X "
        "(two addresses of one operator are one vantage)"
    )
    with pytest.raises(ConfigurationError, match=r"of 3 needs 3 .* are 2: A, B"):
        Quorum(scripted(GOOD, GOOD), k=3)
    with pytest.raises(ConfigurationError, match="at least one upstream"):
        Quorum([])


@pytest.mark.parametrize("k", [0, 1, -1, "2", 2.0])
def test_a_k_that_is_none_is_refused(k):
    with pytest.raises(ConfigurationError, match="allowed are whole numbers from 2"):
        Quorum(scripted(GOOD, GOOD), k=k)


def test_it_is_an_upstream_with_a_name():
    quorum = Quorum(members := scripted(GOOD, GOOD))
    assert quorum.name == "quorum(a, b)"
    assert repr(quorum) == "<Quorum quorum(a, b)>"
    assert quorum.upstreams == members
    assert not quorum.down


# --- health ---------------------------------------------------------------------------


def test_the_best_of_each_operator_are_asked():
    async def main():
        members = scripted(*[answer("192.0.2.1", after=t) for t in (0.04, 0.03, 0.02)])
        quorum = Quorum(members)
        for _ in range(3):
            await put(quorum)  # a and b; c, not known yet, and b; the best two
        return [member.count for member in members]

    assert run(main) == [1, 3, 2]


def in_order(quorum):
    """Have the members asked in the order given, unless they are down."""
    for place, child in enumerate(quorum._children):
        child.health.srtt = 0.001 * (1 + place)
        child.health._updated = VirtualLoop.running().time()


def test_a_dead_one_is_soon_left_out_and_comes_back():
    async def main():
        a, *_ = members = scripted(silent(), GOOD, GOOD)
        quorum = Quorum(members)
        took = []
        for _ in range(5):
            in_order(quorum)
            took.append((await put(quorum))[1])
        assert took == [160, 160, 160, 10, 10]  # three silent losses demote
        assert quorum._children[0].health.down
        before = a.count
        a.play(GOOD)
        await asyncio.sleep(2)
        await put(quorum)  # a probe goes along
        await asyncio.sleep(0.1)
        return a.count - before, quorum._children[0].health.down

    assert run(main) == (1, False)


def test_one_that_is_down_is_asked_but_not_waited_for_where_nobody_else_is_left():
    async def main():
        members = scripted([silent()] * 7 + [GOOD], GOOD)
        quorum = Quorum(members)
        for _ in range(5):
            assert (await put(quorum))[1] == 2000
        reply, took = await put(quorum)  # down by now
        assert (took, reply.quorum, reply.disputed) == (150, (2, 1), True)
        strictly = Quorum(members, strict=True)
        strictly._children[0].health.probing(ms() / 1000)
        assert (await put(strictly))[1] == 2000
        reply, took = await put(quorum)  # and back
        return took, reply.quorum, reply.disputed

    assert run(main) == (10, (2, 2), False)


def test_those_who_want_to_know_are_told_of_a_recovery():
    async def main():
        calls = []
        members = scripted([servfail()] * 5 + [GOOD], GOOD, GOOD)
        quorum = Quorum(members, on_change=lambda _, up: up and calls.append(ms()))
        quorum.on_change(lambda _, up: up and calls.append("too"))
        for _ in range(5):
            in_order(quorum)
            await put(quorum)
        down = quorum._children[0].health.down
        await asyncio.sleep(1.5)
        await put(quorum)
        await asyncio.sleep(0.1)
        return down, len(calls)

    assert run(main) == (True, 2)


def test_the_budget_limits_waste():
    """Ten wasted hedges in 10 s, then the delay is 1 s."""

    async def main():
        slow = answer("192.0.2.1", after=0.05)
        members = scripted(slow, slow, answer("192.0.2.1", after=0.5))
        quorum = Quorum(members, delay=0.04)
        for _ in range(30):
            in_order(quorum)
            await put(quorum)
        return members[2].count

    assert run(main) == 10


# --- lifetimes ------------------------------------------------------------------------


def test_cancelling_the_question_cancels_all_that_is_pending():
    async def main():
        members = scripted(silent(), silent(), silent())
        asked = Quorum(members).query(question())
        await at(0.2)
        assert [m.count for m in members] == [1, 1, 1]
        assert asked.cancel()
        assert not asked.cancel()
        before = [resent(m) for m in members]
        await at(5)
        assert [resent(m) for m in members] == before  # no timer is left
        return [m.cancelled for m in members]

    assert run(main) == [1, 1, 1]


def test_losers_are_cancelled():
    async def main():
        members = scripted(silent(), GOOD, GOOD)
        await put(Quorum(members))
        await asyncio.sleep(0)
        return [m.cancelled for m in members]

    assert run(main) == [1, 0, 0]


def test_what_was_tried_so_far_can_be_told():
    async def main():
        asked = Quorum(scripted(servfail(), silent(), GOOD)).query(question())
        await at(0.1)
        so_far = [(a.upstream, str(a.outcome)) for a in asked.attempts]
        asked.cancel()
        return so_far

    assert run(main) == [("a", FAILURE), ("c", DATA), ("b", TIMEOUT)]


def test_a_users_own_upstream_may_be_an_async_def():
    class Own:
        def __init__(self, upstream):
            self.name = "own " + upstream.name
            self.upstream = upstream

        async def query(self, question):
            return await self.upstream.query(question)

        async def aclose(self):
            await self.upstream.aclose()

    async def main():
        quorum = Quorum([Own(member) for member in scripted(LIE, GOOD, GOOD)])
        reply, took = await put(quorum)
        await quorum.aclose()
        return reply.quorum, took, len(asyncio.all_tasks())

    assert run(main) == ((3, 2), 20, 1)


def test_a_foreign_exception_is_a_failure(caplog):
    class Broken:
        name = "broken"

        async def query(self, question):
            raise ValueError("oops")

        async def aclose(self):
            pass

    async def main():
        reply, _ = await put(Quorum([Broken(), *scripted(GOOD, GOOD)]))
        return reply.quorum

    assert run(main) == (3, 2)
    assert "broken raised ValueError('oops')" in caplog.text


def test_groups_nest():
    """An operator's two transports as a hedge, and a quorum in a hedge."""

    async def main():
        a, b, c, d = scripted(servfail(), GOOD, GOOD, LIE)
        inner = Quorum([Hedge([a, b]), c, d])
        reply, _ = await put(Hedge([inner]))
        return reply.quorum, told(reply)

    quorum, attempts = run(main)
    assert quorum == (2, 2)
    assert attempts == [("a", FAILURE), ("b", DATA), ("c", DATA)]


def test_closing_closes_all_and_may_be_repeated():
    async def main():
        quorum = Quorum(members := scripted(GOOD, GOOD))
        await quorum.aclose()
        await quorum.aclose()
        return [member.closed for member in members]

    assert run(main) == [True, True]


def test_a_question_leaves_no_reference_cycle():
    async def main():
        quorum = Quorum(scripted(LIE, silent(), GOOD, GOOD))
        for _ in range(20):
            await put(quorum)
        await asyncio.sleep(10)
        gc.collect()
        gc.disable()
        try:
            for _ in range(100):
                await put(quorum)
            await asyncio.sleep(10)
            return gc.collect()
        finally:
            gc.enable()

    assert run(main) == 0


# --- as a strategy --------------------------------------------------------------------


def test_a_denial_is_confirmed_already():
    """A quorum that denies a name for which there was data is not asked again."""

    async def main():
        members = scripted(*[answer("192.0.2.1", ttl=5)] * 3)
        async with resolver(*members, strategy="quorum") as r:
            await call(r)
            await asyncio.sleep(6)
            for member in members:
                member.play(nxdomain())
            got = await call(r)
            assert Quorum(members).confirm(question(), None) is None
            return got.what, sum(member.count for member in members), got.path.agreed

    assert run(main) == ("NXDOMAIN", 4, 2)


def test_a_list_with_one_operator_is_refused_at_once():
    one = scripted(GOOD, GOOD, operators="XX")

    async def main():
        with pytest.raises(ConfigurationError, match="needs 2 operators"):
            resolver(*one, strategy="quorum")
        with pytest.raises(ConfigurationError, match="needs 2 operators"):
            resolver(*scripted(GOOD, GOOD), strategy="quorum", routes={"corp.": one})
        with pytest.raises(ConfigurationError, match="are 1: Quad9"):
            resolver("quad9", strategy="quorum")
        with pytest.raises(ConfigurationError, match="are 1: Quad9"):
            resolver("9.9.9.9", "2620:fe::fe", strategy="quorum")
        resolver("quad9", "cloudflare", strategy="quorum")
        resolver(Quorum(scripted(GOOD, GOOD)), strategy="quorum")

    run(main)


def test_a_list_that_is_set_later_is_refused_when_it_is_used():
    async def main():
        async with resolver(*scripted(GOOD, GOOD), strategy="quorum") as r:
            await call(r)
            r.nameservers = scripted(GOOD)
            return (await call(r, "other.example.com")).what

    assert run(main) == "ConfigurationError"


def test_private_names_go_to_private_upstreams_even_if_they_are_one():
    async def main():
        own = ScriptedUpstream("own", GOOD, operator="own", private=True)
        others = scripted(LIE, LIE)
        async with resolver(own, *others, strategy="quorum") as r:
            got = await call(r, "nas.home.arpa")
            return got.what, got.path.asked, [other.count for other in others]

    assert run(main) == ("192.0.2.1", 0, [0, 0])


def test_routes_have_a_quorum_of_their_own():
    async def main():
        inside = scripted(LIE, GOOD, GOOD)
        outside = scripted(OTHER, OTHER)
        routes = {"corp.example.": inside}
        async with resolver(*outside, strategy="quorum", routes=routes) as r:
            got = await call(r, "db.corp.example")
            return got.what, got.path.agreed, [one.count for one in outside]

    assert run(main) == ("192.0.2.1", 2, [0, 0])


@pytest.mark.parametrize("place", [0, 1, 2, 3])
@pytest.mark.parametrize("near", [True, False])
def test_one_liar_among_three_who_are_honest_never_wins(place, near):
    """Nearest or farthest, first or last: 0 wrong answers of 200."""

    async def main():
        scripts = [answer("192.0.2.1", after=0.01 * (i + 2)) for i in range(3)]
        scripts.insert(place, answer("198.51.100.6", after=0.001 if near else 0.4))
        async with resolver(*scripted(*scripts), strategy="quorum") as r:
            for i in range(200):
                got = await call(r, f"n{i}.example.com")
                assert got.what == "192.0.2.1"
                assert not got.path.disputed
            return got.took

    assert run(main) <= 150


def test_strictly_what_is_known_is_served_in_a_dispute():
    """An error of a strict quorum is a failure: the last known good is served."""

    async def main():
        a, b = scripted(
            [answer("192.0.2.1", ttl=5), GOOD],
            [answer("192.0.2.1", ttl=5), LIE],
        )
        async with resolver(Quorum([a, b], strict=True)) as r:
            await call(r)
            await asyncio.sleep(6)
            got = await call(r)
            return got.what, got.source, (await call(r, "new.example.com")).what

    assert run(main) == ("192.0.2.1", "stale", "NoNameservers")


def test_the_order_is_by_health_in_a_resolver_too():
    async def main():
        members = scripted(GOOD, GOOD, GOOD)
        async with resolver(*members, strategy="quorum") as r:
            await call(r)
            pin(r, 2, 1, 0)
            before = [member.count for member in members]
            await call(r, "other.example.com")
            return [m.count - n for m, n in zip(members, before, strict=True)]

    assert run(main) == [0, 1, 1]


def test_a_timeout_of_all_is_a_timeout():
    async def main():
        error, took = await put(Quorum(scripted(silent(), silent())))
        return type(error), took

    assert run(main) == (QueryTimeout, 2000)


def test_a_reply_that_nobody_voted_on_has_no_quorum():
    async def main():
        reply, _ = await put(Hedge(scripted(GOOD)))
        return reply.kind, reply.quorum

    assert run(main) == (Kind.DATA, (0, 0))
