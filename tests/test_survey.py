"""resolver.survey(): what every vantage says, each for itself, and what it comes to."""

from __future__ import annotations

import asyncio
import json

import dns.name
import dns.resolver
import pytest
from virtual import at, call, moments, ms, resent, resolver
from virtual import upstreams as scripted

from resolverkit import Hedge, NoNameservers, Survey
from resolverkit.model import Outcome
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

WWW = "www.example.com"
GOOD, LIE = answer("192.0.2.1"), answer("198.51.100.6")


def survey(*scripts, name=WWW, rdtype="A", operators="", **options):
    """Take a survey among scripted vantages; gives it, and the ms that it took."""

    async def main():
        members = scripted(*scripts, operators=operators)
        async with resolver(*members) as r:
            began = ms()
            taken = await r.survey(name, rdtype, **options)
            return taken, ms() - began, members

    return run(main)


def test_everybody_is_asked_at_once_for_himself():
    taken, took, members = survey(GOOD, answer("192.0.2.1", after=0.3), GOOD)
    assert [moments(member) for member in members] == [[0], [0], [0]]
    assert took == 300
    assert isinstance(taken, Survey)
    assert (taken.verdict, taken.rounds) == ("agree", 1)
    assert taken.sentence == "all 3 agree"
    assert str(taken.question) == f"{WWW}. A"
    assert (taken.operators, taken.denied) == (3, False)
    assert [vantage.verdict for vantage in taken.vantages] == ["agree"] * 3


def test_what_a_vantage_said_is_told():
    step = answer("192.0.2.1", "192.0.2.2", ttl=77, cname=["x.cdn.example."], ede=3)
    taken, _, _ = survey(step, GOOD, operators=["Alpha", "Beta"])
    vantage = taken.vantages[0]
    assert (vantage.name, vantage.operator) == ("a", "Alpha")
    assert (vantage.transport, vantage.address) == ("udp", "192.0.2.1")
    assert (vantage.outcome, vantage.rcode) == (Outcome.DATA, "NOERROR")
    assert vantage.records == ("192.0.2.1", "192.0.2.2")
    assert (vantage.cname, vantage.ttl) == ("x.cdn.example.", 77)
    assert vantage.ede == ((3, ""),)
    assert round(vantage.elapsed * 1000) == 10
    assert vantage.answered
    assert str(vantage) == (
        "a (Alpha): 192.0.2.1, 192.0.2.2 by x.cdn.example., EDE 3 (Stale Answer), "
        "in 10.0 ms: agree"
    )
    assert str(taken).splitlines() == [
        (f"{WWW}. A: all 2 agree"), *map(str, taken.vantages)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (silent(), "b: no reply within half of the lifetime, in 0.0 ms: unknown"),
        (nxdomain(after=0.3), "b: no such name, in 300.0 ms: denies"),
        (answer("192.0.2.1", after=0.3), "b: 192.0.2.1, in 300.0 ms: agree"),
    ],
)
def test_a_vantage_is_a_line_of_what_there_is_to_say(step, told):
    async def main():
        own = ScriptedUpstream("b", step, operator="")
        async with resolver(*scripted(GOOD, GOOD), own) as r:
            taken = await r.survey(WWW, lifetime=1.0)
            return str(taken.vantages[2])

    assert run(main) == told


def test_its_data_is_in_order():
    addresses = [f"192.0.2.{i}" for i in range(9, 0, -1)]
    taken, _, _ = survey(answer(*addresses), GOOD)
    assert taken.vantages[0].records == tuple(sorted(addresses))


def test_as_json():
    taken, _, _ = survey(GOOD, nxdomain(ede=(22, "gone")))
    told = json.loads(json.dumps(taken.to_dict()))
    assert told == taken.to_dict()
    assert (told["name"], told["type"]) == (f"{WWW}.", "A")
    assert (told["verdict"], told["rounds"]) == ("denies", 1)
    assert told["sentence"] == taken.sentence
    assert told["vantages"][1] == {
        "upstream": "b", "operator": "B", "transport": "udp", "address": "192.0.2.1",
        "outcome": "no such name", "rcode": "NXDOMAIN", "ttl": 300, "records": [],
        "cname": "", "ede": [{"code": 22, "text": "gone"}], "elapsed_ms": 10.0,
        "detail": "", "verdict": "denies",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("scripts", "verdict", "sentence"),
    [
        ([GOOD, GOOD], "agree", "all 2 agree"),
        ([nxdomain()] * 3, "agree", "all 3 deny it: no such name"),
        ([nodata()] * 2, "agree", "all 2 deny it: no data"),
        ([GOOD, GOOD, servfail()], "agree", "all 2 agree; 1 of 3 did not answer"),
        ([GOOD, answer("192.0.9.1")], "differ as CDNs do", "all 2 differ as CDNs do"),
        (
            [GOOD, LIE],
            "unknown",
            "they have different data, and nobody can tell which is right",
        ),
        (
            [GOOD, refused()],
            "unknown",
            "there is nothing to compare: only A answered; 1 of 2 did not answer",
        ),
        ([servfail(), refused()], "unknown", "none of 2 vantages answered"),
        (
            [GOOD, nxdomain(), nodata()],
            "denies",
            "2 of 3 deny it, others do not: b (B), c (C)",
        ),
        (
            [GOOD, nxdomain()],
            "denies",
            "1 of 2 denies it, others do not: b (B)",
        ),
        (
            [GOOD, GOOD, answer("0.0.0.0")],
            "filters",
            "1 of 3 filters it: c (C)",
        ),
        (
            [GOOD, answer("0.0.0.0"), answer("127.0.0.1")],
            "filters",
            "2 of 3 filter it: b (B), c (C)",
        ),
        (
            [GOOD, LIE, GOOD, GOOD],
            "lies alone",
            "1 of 4 lies alone, with nothing in common with the others: b (B)",
        ),
    ],
)
def test_the_sentence(scripts, verdict, sentence):
    taken, _, _ = survey(*scripts)
    assert (taken.verdict, taken.sentence) == (verdict, sentence)


def test_two_addresses_of_one_operator_lie_alone():
    taken, _, _ = survey(LIE, LIE, GOOD, GOOD, operators="AABC")
    assert taken.sentence == (
        "2 of 4 lie alone, with nothing in common with the others: a (A), b (A)"
    )
    assert (len(taken.answered), taken.operators) == (4, 3)


def test_vantages_of_which_no_operator_is_known_are_each_their_own():
    taken, _, _ = survey(GOOD, LIE, operators=["", ""])
    assert taken.operators == 2
    assert "nobody can tell" in taken.sentence
    taken, _, _ = survey(GOOD, servfail(), operators=["", ""])
    assert taken.sentence.startswith("there is nothing to compare: only a answered")


def test_denials_of_any_kind_deny():
    taken, _, _ = survey(nxdomain(), nodata(), rcode(6))
    assert taken.denied
    assert not survey(nxdomain(), GOOD)[0].denied


@pytest.mark.parametrize(
    ("step", "outcome", "rcode", "detail"),
    [
        (servfail(ede=6), "server failure", "SERVFAIL", "SERVFAIL"),
        (network_error("no route"), "network error", None, "no route"),
        (bad_reply("HTTP 502"), "bad reply", None, "HTTP 502"),
        (silent(), "timeout", None, "no reply within 2 s"),
    ],
)
def test_a_vantage_that_fails_is_told(step, outcome, rcode, detail):
    taken, _, _ = survey(GOOD, GOOD, step)
    failed = taken.vantages[2]
    assert (failed.outcome, failed.rcode, failed.detail) == (outcome, rcode, detail)
    assert (failed.records, failed.ttl, failed.verdict) == ((), None, "unknown")
    assert not failed.answered
    assert taken.answered == taken.vantages[:2]


def test_only_who_stands_alone_is_heard_again_with_everybody():
    """A rotating set overlaps over rounds; a liar's does not."""
    rotating = [answer("203.0.113.7"), answer("192.0.2.1")]
    taken, took, members = survey(GOOD, GOOD, rotating)
    assert [member.count for member in members] == [2, 2, 2]
    assert (taken.verdict, taken.rounds, took) == ("agree", 2, 20)
    assert taken.vantages[2].records == ("192.0.2.1", "203.0.113.7")
    taken, took, members = survey(GOOD, LIE, GOOD)
    assert [member.count for member in members] == [2, 2, 2]
    assert (taken.verdict, taken.rounds, took) == ("lies alone", 2, 20)
    assert [v.verdict for v in taken.vantages] == ["agree", "lies alone", "agree"]
    assert taken.vantages[1].records == ("198.51.100.6",)


def test_who_answers_only_the_second_time_is_told_of_by_that():
    first, second = servfail(after=0.03), answer("192.0.2.1", after=0.02)
    taken, _, _ = survey(GOOD, GOOD, LIE, [first, second])
    late = taken.vantages[3]
    assert (taken.rounds, late.outcome, late.rcode) == (2, "data", "NOERROR")
    assert (late.records, round(late.elapsed * 1000)) == (("192.0.2.1",), 20)
    assert (late.detail, late.verdict) == ("", "agree")


def test_aliases_for_places_are_no_lies():
    taken, _, _ = survey(
        answer("192.0.2.1", cname=["eu.cdn.example."]),
        answer("203.0.113.1", cname=["us.cdn.example."]),
        answer("198.51.100.1", cname=["ap.cdn.example."]),
    )
    assert (taken.verdict, taken.rounds) == ("differ as CDNs do", 1)


def test_a_lost_packet_is_sent_once_more():
    taken, took, members = survey(GOOD, lost(GOOD), lost(GOOD, 2), silent())
    assert [resent(member) for member in members] == [[], [150], [150, 450], [150, 450]]
    assert took == 2000
    assert [vantage.answered for vantage in taken.vantages] == [True] * 3 + [False]


def test_the_lifetime_bounds_it():
    taken, took, members = survey(GOOD, silent(), lifetime=0.5)
    assert took == 250  # half is for asking once more
    late = taken.vantages[1]
    assert (late.outcome, late.detail) == (
        "timeout",
        "no reply within half of the lifetime",
    )
    assert (late.operator, late.transport, late.elapsed) == ("B", "udp", 0.0)
    assert members[1].cancelled == 1
    assert resent(members[1]) == [150]
    taken, took, _ = survey(GOOD, GOOD, answer("198.51.100.6", after=0.2), lifetime=0.5)
    assert (taken.verdict, taken.rounds, took) == ("lies alone", 2, 400)


def test_it_goes_past_the_cache_and_leaves_it_alone():
    async def main():
        members = scripted(GOOD, GOOD)
        async with resolver(*members) as r:
            await call(r)
            for member in members:
                member.play(answer("192.0.2.200"))
            taken = await r.survey(WWW)
            cached = await call(r)
            return taken.vantages[0].records, cached.what, cached.source

    assert run(main) == (("192.0.2.200",), "192.0.2.1", "cache")


def test_cancelling_it_cancels_all_questions():
    async def main():
        members = scripted(silent(), silent())
        async with resolver(*members) as r:
            task = asyncio.create_task(r.survey(WWW))
            await at(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return [member.cancelled for member in members]

    assert run(main) == [1, 1]


def test_members_of_groups_are_vantages_too():
    async def main():
        a, b, c = scripted(GOOD, GOOD, LIE)
        async with resolver(Hedge([Hedge([a, b]), c])) as r:
            taken = await r.survey(WWW)
            return [(v.name, v.verdict) for v in taken.vantages]

    told = [("a", "agree"), ("b", "agree"), ("c", "lies alone")]
    assert run(main) == told


class Own:
    """A user's own upstream: nothing but what the Protocol asks for."""

    def __init__(self, name, act):
        self.name = name
        self.act = act

    async def query(self, question):
        return await self.act(question)

    async def aclose(self):
        pass


def test_a_users_own_upstream_may_be_an_async_def_and_at_fault():
    async def main():
        (a,) = scripted(GOOD)

        async def anonymous(question):
            reply = await a.query(question)
            reply.winner, reply.attempts = None, ()
            return reply

        async def broken(question):
            raise ValueError("oops")

        async def slow(question):
            await asyncio.sleep(60)

        async def wrong(question):
            return None

        acts = {"own": anonymous, "broken": broken, "slow": slow, "wrong": wrong}
        members = [*(Own(name, act) for name, act in acts.items()), a]
        async with resolver(*members) as r:
            taken = await r.survey(WWW)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return [(v.name, str(v.outcome), v.rcode, v.detail) for v in taken.vantages]

    nothing = "TypeError: query() gave None, which is no Reply"
    assert run(main) == [
        ("own", "data", "NOERROR", ""),
        ("broken", "network error", None, "ValueError: oops"),
        ("slow", "timeout", None, "no reply within half of the lifetime"),
        ("wrong", "network error", None, nothing),
        ("a", "data", "NOERROR", ""),
    ]


def test_who_has_answered_an_upstream_of_a_users_own_is_told():
    async def main():
        a, b, c = scripted(GOOD, silent(), GOOD)
        async with resolver(Own("own", Hedge([a, b], delay=0).query), c) as r:
            taken = await r.survey(WWW)
            return [(v.name, v.operator) for v in taken.vantages]

    assert run(main) == [("a", "A"), ("c", "C")]


# --- what is asked, and who -----------------------------------------------------------


def test_names_and_types_are_as_resolve_takes_them():
    async def main():
        members = scripted(answer("10 mx.example."), answer("10 mx.example."))
        async with resolver(*members) as r:
            taken = [
                await r.survey(dns.name.from_text("example.com"), "mx"),
                await r.survey("EXAMPLE.com.", 15),
                await r.survey(dns.name.from_text("example.com", None), "MX", "IN"),
            ]
            with pytest.raises(dns.resolver.NoMetaqueries):
                await r.survey("example.com", "ANY")
            return [(str(t.question), t.vantages[0].records) for t in taken]

    assert run(main) == [("example.com. MX", ("10 mx.example.",))] * 3


def test_names_that_never_leave_are_not_surveyed():
    async def main():
        members = scripted(GOOD, GOOD)
        async with resolver(*members) as r:
            for name in ("localhost", "printer.local", "nas.home.arpa"):
                taken = await r.survey(name)
                assert (taken.vantages, taken.verdict) == ((), "unknown")
                assert (taken.rounds, taken.operators, taken.denied) == (0, 0, False)
                yield_sentences.append(taken.sentence)
            return [member.count for member in members]

    yield_sentences = []
    assert run(main) == [0, 0]
    assert yield_sentences == [
        "this name never leaves the machine",
        "this name never leaves the machine",
        "no private upstream is configured",
    ]


def test_private_names_and_routes_have_their_own_vantages():
    async def main():
        own = ScriptedUpstream("own", GOOD, private=True)
        route = scripted(GOOD, GOOD)
        public = ScriptedUpstream("public", LIE)
        routes = {"corp.example.": route}
        async with resolver(own, public, routes=routes) as r:
            private = await r.survey("nas.home.arpa")
            routed = await r.survey("db.corp.example")
            return (
                [v.name for v in private.vantages],
                [v.name for v in routed.vantages],
                public.count,
            )

    assert run(main) == (["own"], ["a", "b"], 0)


def test_without_upstreams_there_is_no_survey():
    async def main():
        async with resolver() as r:
            with pytest.raises(NoNameservers):
                await r.survey(WWW)

    run(main)
