"""A lying vantage beside three honest ones, over Do53: a quorum does not believe it.

The honest ones are real resolvers; the liar answers every question in its own way.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from programs import NAMES

from resolverkit import NXDOMAIN, Resolver
from resolverkit.model import Outcome
from resolverkit.testing import Authority, Fault, Lab, LabUpstream

HONEST = ("unbound", "knot", "bind")
EXPECTED = {host: f"192.0.2.{i}" for i, host in enumerate(NAMES)}
WWW, TARGET = "www.facebook.com.", "star-mini.c10r.facebook.com."
FACEBOOK, EVIL = "157.240.20.35", "198.51.100.6"
MISSING = "missing.names.example."
LIES = [
    *(f"{host} 3 A {EVIL}" for host in (*NAMES, MISSING)),
    # It copies the alias, so that it looks like a content network.
    f"{WWW} 3 CNAME {TARGET}",
    f"{TARGET} 3 A {EVIL}",
]
NEAREST, FARTHEST = Fault(), Fault(delay=0.3)


@asynccontextmanager
async def with_liar(vantages, place, fault, **options):
    """A resolver over three honest vantages and a liar, at this place of the list."""
    async with Lab(Authority(LIES), [LabUpstream("udp", operator="liar")]) as lab:
        lab.upstreams[0].fault = fault
        urls = [vantages[name].udp_url for name in HONEST]
        urls.insert(place, lab.urls[0])
        async with Resolver(urls, False, **options) as resolver:
            yield resolver, lab.upstreams[0]


def prefer(resolver, operator):
    """Have this one asked first, as the nearest is, or last."""
    (group,) = resolver._stack._groups.values()
    for child in group._children:
        if child.operator == operator:
            child.health.srtt = 1e-6
            child.health._updated = asyncio.get_running_loop().time()


@pytest.mark.parametrize(
    ("place", "fault"), [(0, NEAREST), (3, FARTHEST)], ids=["nearest", "farthest"]
)
def test_with_a_quorum_there_is_no_wrong_answer(vantages, place, fault):
    async def main():
        async with with_liar(vantages, place, fault, strategy="quorum") as (r, liar):
            for host in NAMES:
                answer = await r.resolve(host)
                assert [rdata.address for rdata in answer] == [EXPECTED[host]]
                path = answer.path
                assert path.operator in HONEST
                assert path.agreed >= 2
                assert not path.disputed
                if fault is NEAREST:
                    prefer(r, "liar")
            answer = await r.resolve(WWW)
            assert [rdata.address for rdata in answer] == [FACEBOOK]
            with pytest.raises(NXDOMAIN) as denied:
                await r.resolve(MISSING)
            assert denied.value.path.agreed >= 2
            return liar.queries, answer.path

    asked, path = asyncio.run(main())
    if fault is NEAREST:
        assert asked == len(NAMES) + 2  # it was asked each time, and never believed
        assert "liar" in {attempt.operator for attempt in path.attempts}


def test_many_at_once(vantages):
    async def main():
        async with with_liar(vantages, 0, NEAREST, strategy="quorum") as (r, _):
            by_tcp = await r.resolve(NAMES[0], tcp=True)
            answers = await asyncio.gather(*map(r.resolve, NAMES))
            assert (by_tcp.path.agreed, by_tcp.path.transport) == (2, "tcp")
            assert [rdata.address for rdata in by_tcp] == [EXPECTED[NAMES[0]]]
            for host, answer in zip(NAMES, answers, strict=True):
                assert [rdata.address for rdata in answer] == [EXPECTED[host]]

    asyncio.run(main())


@pytest.mark.parametrize("lost", HONEST)
def test_with_one_honest_vantage_frozen_the_other_two_are_enough(vantages, lost):
    async def main():
        vantages[lost].stop()
        async with with_liar(vantages, 0, NEAREST, strategy="quorum") as (r, _):
            for host in NAMES[:10]:
                answer = await r.resolve(host)
                assert [rdata.address for rdata in answer] == [EXPECTED[host]]
                assert answer.path.operator in set(HONEST) - {lost}

    asyncio.run(main())


def test_with_a_hedge_the_path_and_the_survey_show_the_lie(vantages):
    """The nearest is believed, and it can be seen who that was, and that it lies."""

    async def main():
        async with with_liar(vantages, 0, NEAREST) as (r, _):
            answer = await r.resolve(NAMES[1])
            assert [rdata.address for rdata in answer] == [EVIL]
            assert answer.path.operator == "liar"
            survey = await r.survey(NAMES[1])
            assert survey.verdict == "lies alone"
            assert survey.rounds == 2
            by_operator = {v.operator: v for v in survey.vantages}
            assert by_operator["liar"].verdict == "lies alone"
            assert by_operator["liar"].records == (EVIL,)
            assert {by_operator[name].verdict for name in HONEST} == {"agree"}
            assert "(liar)" in survey.sentence
            denied = await r.survey(MISSING)
            assert denied.verdict == "denies"
            assert {v.operator for v in denied.vantages if v.verdict == "denies"} == {
                *HONEST
            }

    asyncio.run(main())


def test_a_survey_of_honest_vantages_over_every_transport(vantages):
    async def main():
        urls = [
            vantages["unbound"].tls_url,
            vantages["knot"].udp_url,
            vantages["bind"].https_url,
            vantages["recursor"].tcp_url,
        ]
        async with Resolver(urls, False) as resolver:
            for name, verdict, denied in (
                (WWW, "agree", False),
                (NAMES[0], "agree", False),
                (MISSING, "agree", True),
            ):
                survey = await resolver.survey(name)
                assert (survey.verdict, survey.denied) == (verdict, denied)
                assert survey.operators == len(survey.vantages) == 4
            vantages["knot"].kill()
            survey = await resolver.survey(WWW)
            assert survey.verdict == "agree"
            assert survey.vantages[1].outcome in {Outcome.NETWORK, Outcome.TIMEOUT}
            assert survey.vantages[0].cname == TARGET
            return survey.sentence

    assert asyncio.run(main()) == "all 3 agree; 1 of 4 did not answer"


# --- honest vantages that differ ------------------------------------------------------

SITE = "www.example.com."
GEO = [
    [f"{SITE} 60 CNAME {place}.cdn.example.", f"{place}.cdn.example. 60 A {address}"]
    for place, address in (
        ("eu", "192.0.2.1"), ("us", "198.51.100.1"), ("ap", "203.0.113.1")
    )
]  # fmt: skip
ROTATING = [
    [f"{SITE} 60 A {address}" for address in addresses]
    for addresses in (
        ("192.0.2.1", "198.51.100.1"),
        ("198.51.100.1", "203.0.113.1"),
        ("203.0.113.1", "198.18.0.1"),
    )
]


@asynccontextmanager
async def seen_from(*views, **options):
    """A resolver over vantages to which the authority shows other data each."""
    async with AsyncExitStack() as stack:
        urls = []
        for i, records in enumerate(views):
            upstream = LabUpstream("udp", operator=f"V{i}")
            lab = Lab(Authority(records), [upstream])
            urls += (await stack.enter_async_context(lab)).urls
        yield await stack.enter_async_context(Resolver(urls, False, **options))


@pytest.mark.parametrize(
    ("views", "verdict"),
    [(GEO, "differ as CDNs do"), (ROTATING, "agree")],
    ids=["geo-CNAMEs", "rotating sets"],
)
def test_honest_vantages_that_differ_are_not_called_liars(views, verdict):
    async def main():
        async with seen_from(*views, strategy="quorum") as resolver:
            survey = await resolver.survey(SITE)
            answer = await resolver.resolve(SITE)
            return survey.verdict, [v.verdict for v in survey.vantages], len(answer)

    assert asyncio.run(main())[:2] == (verdict, [verdict] * 3)
