"""Vantages that die, freeze or talk nonsense, beside real ones that do not.

Nobody who asks may notice: each answer is the right one, cold names included.
"""

from __future__ import annotations

import asyncio
import time

import dns.rcode
import pytest
from processes import LOOPBACK
from programs import NAMES

from resolverkit import NXDOMAIN, NoNameservers, Resolver
from resolverkit.model import Outcome, Source
from resolverkit.testing import Authority, Fault, Lab

STRATEGIES = ("hedge", "race", "failover")
KILL, FREEZE = "killed", "frozen"
HANDS = {KILL: lambda vantage: vantage.kill(), FREEZE: lambda vantage: vantage.stop()}
EXPECTED = {host: f"192.0.2.{i}" for i, host in enumerate(NAMES)}
# The vantages that stand alone: the others ask one of them.
FOUR = ("unbound", "knot", "bind", "recursor")
URLS = {"unbound": "tls_url", "knot": "udp_url", "bind": "https_url",
        "recursor": "udp_url"}  # fmt: skip


def urls_of(vantages):
    return [getattr(vantages[name], URLS[name]) for name in FOUR]


async def ask_all(resolver, hosts):
    """Ask for all of them at once; every answer has to be right."""
    answers = await asyncio.gather(*map(resolver.resolve, hosts))
    for host, answer in zip(hosts, answers, strict=True):
        assert [rdata.address for rdata in answer] == [EXPECTED[host]]
    return [answer.path for answer in answers]


async def ask_in_turn(resolver, hosts):
    paths = []
    for host in hosts:
        paths += await ask_all(resolver, [host])
    return paths


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("how", [KILL, FREEZE])
def test_one_vantage_after_the_other_is_lost(vantages, strategy, how):
    """Down to the last one, with warm connections to all; the lost are told."""

    async def main():
        cold = iter(batches(NAMES, 10))
        async with Resolver(urls_of(vantages), False, strategy=strategy) as resolver:
            await ask_all(resolver, next(cold))
            for lost in FOUR[:-1]:
                HANDS[how](vantages[lost])
                began = time.monotonic()
                hosts = next(cold)
                paths = await ask_all(resolver, hosts[:5])
                paths += await ask_in_turn(resolver, hosts[5:])
                assert time.monotonic() - began < 20
                assert {p.source for p in paths} == {Source.UPSTREAM}
                gone = FOUR[: FOUR.index(lost) + 1]
                assert not {p.operator for p in paths} & set(gone)
            assert {p.operator for p in paths} == {FOUR[-1]}

    asyncio.run(main())


def batches(items, size):
    return [items[i : i + size] for i in range(0, len(items), size)]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("how", [KILL, FREEZE])
def test_all_but_one_are_lost_before_the_first_question(vantages, strategy, how):
    """Nothing is known of any of them, and the one that is left comes last."""
    for lost in FOUR[:-1]:
        HANDS[how](vantages[lost])

    async def main():
        async with Resolver(urls_of(vantages), False, strategy=strategy) as resolver:
            # Failover waits this long for each that is frozen.
            resolver.lifetime, resolver.timeout = 20.0, 1.0
            paths = await ask_all(resolver, NAMES[:20])
            assert {p.operator for p in paths} == {FOUR[-1]}
            told = {a.operator: a.outcome for p in paths for a in p.attempts}
            assert told[FOUR[-1]] is Outcome.DATA
            if strategy != "race" and how == KILL:
                assert {told[lost] for lost in FOUR[:-1]} == {Outcome.NETWORK}
            later = await ask_all(resolver, NAMES[20:40])
            assert {p.operator for p in later} == {FOUR[-1]}

    asyncio.run(main())


def test_a_vantage_that_comes_back_is_asked_again(vantages):
    """The only one: killed, then restarted. Failures are forgotten with its return."""
    vantage = vantages["bind"]

    async def main():
        async with Resolver([vantage.tls_url], False) as resolver:
            await ask_all(resolver, NAMES[:1])
            vantage.kill()
            for host in NAMES[1:3]:
                with pytest.raises(NoNameservers):
                    await resolver.resolve(host)
            await asyncio.to_thread(vantage.restart)
            deadline = time.monotonic() + 50
            while True:
                try:
                    await ask_all(resolver, NAMES[1:3])
                except NoNameservers:
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.1)
                else:
                    break

    asyncio.run(main())


@pytest.mark.parametrize("over", ["udp", "tcp", "tls", "https"])
def test_a_vantage_that_was_frozen_serves_again_where_the_others_are_lost(
    vantages, over
):
    first, second = vantages["bind"], vantages["knot"]

    async def main():
        urls = [first.url(over), second.url(over)]
        async with Resolver(urls, False) as resolver:
            hosts = batches(NAMES, 10)
            first.stop()
            paths = await ask_in_turn(resolver, hosts[0])
            assert {p.operator for p in paths} == {"knot"}
            assert len(paths[-1].attempts) == 1  # nobody waits for it any more
            first.cont()
            second.stop()
            paths = await ask_all(resolver, hosts[1])
            assert {p.operator for p in paths} == {"bind"}

    asyncio.run(main())


# --- vantages that talk nonsense ------------------------------------------------------

NONSENSE = {
    "SERVFAIL": Fault(rcode=dns.rcode.SERVFAIL),
    "SERVFAIL with EDE": Fault(rcode=dns.rcode.SERVFAIL, ede=(22, "no authority")),
    "REFUSED": Fault(rcode=dns.rcode.REFUSED),
    "NOTIMP": Fault(rcode=dns.rcode.NOTIMP),
    "FORMERR": Fault(rcode=dns.rcode.FORMERR),
    "a denial without SOA": Fault(lame=True),
    "NXDOMAIN without SOA": Fault(rcode=dns.rcode.NXDOMAIN),
    "nothing": Fault(silent=True),
    "garbage": Fault(garbage=True, rcode=dns.rcode.SERVFAIL),
    "truncated for ever": Fault(truncated=True, rcode=dns.rcode.SERVFAIL),
}
OVER = ("udp", "tcp", "dot", "doh")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_nonsense_changes_nothing_for_the_user(vantages, strategy):
    """For each kind four fakes, one over each transport, and a real one behind them."""
    last = vantages["recursor"].udp_url

    async def one(fault):
        async with Lab(Authority([]), OVER) as fakes:
            for upstream in fakes.upstreams:
                upstream.fault = fault
            async with Resolver([*fakes.urls, last], False, strategy=strategy) as asker:
                asker.lifetime, asker.timeout = 30.0, 1.0
                paths = await ask_all(asker, NAMES[:10])
                paths += await ask_in_turn(asker, NAMES[10:20])
                with pytest.raises(NXDOMAIN) as missing:
                    await asker.resolve("missing.names.example.")
            assert {p.operator for p in paths} == {"recursor"}
            assert missing.value.path.operator == "recursor"
            assert missing.value.path.winner.rcode == dns.rcode.NXDOMAIN
            told = {a.transport for p in paths for a in p.attempts}
            assert "udp" in told
            if strategy == "failover":  # each has its turn, however slow the machine
                assert told == set(OVER)
                assert all(upstream.queries for upstream in fakes.upstreams)

    run_all(one)


def test_nonsense_replaces_nothing_that_is_known(vantages):
    """With the real one gone the last known good is served, whatever the rest say."""
    real = vantages["bind"]
    warm, killed = asyncio.Barrier(len(NONSENSE)), asyncio.Event()

    async def one(fault):
        async with Lab(Authority([]), ["udp"]) as fakes:
            fakes.upstreams[0].fault = fault
            urls = [real.udp_url, *fakes.urls]
            async with Resolver(urls, False) as resolver:
                (path,) = await ask_all(resolver, NAMES[:1])  # its TTL is 2 s
                assert path.operator == "bind"
                await asyncio.sleep(2.1)
                if await warm.wait() == 0:
                    real.kill()
                    killed.set()
                await killed.wait()
                (path,) = await ask_all(resolver, NAMES[:1])
                assert path.source is Source.STALE
                await asyncio.sleep(2.5)  # a silent one has failed by now, too
                (path,) = await ask_all(resolver, NAMES[:1])
                assert path.source is Source.STALE
                assert path.operator == "bind"
                assert path.stale_for > 2.5
                failed = {a.upstream for a in path.attempts if a is not path.winner}
                assert failed == {url.partition("?")[0] for url in urls}

    run_all(one)


def run_all(one):
    """One task for each kind of nonsense, on one loop."""

    async def told(kind, fault):
        try:
            await one(fault)
        except BaseException as error:
            error.add_note(f"the vantage says: {kind}")
            raise

    async def main():
        async with asyncio.TaskGroup() as tasks:
            for kind, fault in NONSENSE.items():
                tasks.create_task(told(kind, fault))

    asyncio.run(main())


def test_a_lame_denial_is_believed_only_when_nothing_better_comes(vantages):
    async def main():
        async with Lab(Authority([]), ["udp"]) as fakes:
            fakes.upstreams[0].fault = Fault(rcode=dns.rcode.NXDOMAIN)
            closed = f"udp://{LOOPBACK}:9"
            async with Resolver([*fakes.urls, closed], False) as resolver:
                with pytest.raises(NXDOMAIN) as caught:
                    await resolver.resolve(NAMES[0])
            path = caught.value.path
            assert [a.outcome for a in path.attempts] == [
                Outcome.NXDOMAIN,
                Outcome.NETWORK,
            ]
            assert "without SOA" in path.winner.detail

    asyncio.run(main())
