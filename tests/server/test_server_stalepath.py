"""Stale replies at hand: those of the slow path, for as long as it would give them."""

from __future__ import annotations

import asyncio

import dns.edns
from asking import WWW, Asked, ede, query, ttls
from virtual import upstreams

from resolverkit import Hook, StalePolicy
from resolverkit.server import stalepath
from resolverkit.server.query import Over
from resolverkit.testing import answer, nxdomain, run, servfail

ADDRESS = "192.0.2.1"
GOOD = answer(ADDRESS, ttl=60)


class Told(Hook):
    def __init__(self):
        self.stale_count = 0

    def stale(self, question, path):
        self.stale_count += 1


def in_outage(*, first=GOOD, **options):
    """Run a test of one argument: an `Asked` whose one name went stale, once told."""

    def decorate(test):
        def runs():
            async def main():
                (upstream,) = members = upstreams(first)
                async with Asked(*members, **options) as asked:
                    asked.upstream = upstream
                    await asked()
                    upstream.play(servfail())
                    await asyncio.sleep(70)
                    assert ede(await asked())[0][0] in {3, 19}
                    asked.count = len(upstream.asked)
                    await test(asked)

            run(main)

        runs.__name__ = test.__name__
        runs.__doc__ = test.__doc__
        return runs

    return decorate


def kept(asked):
    return sum(map(len, asked.responder._stale.values()))


@in_outage()
async def test_it_is_what_the_slow_path_says_but_for_the_id(asked):
    slow = await asked.wire(query(ident=1))
    assert kept(asked) == 1
    quick = await asked.wire(query(ident=2))
    assert (quick[:2], quick[2:]) == (b"\0\2", slow[2:])
    reply = await asked()
    assert (ttls(reply), ede(reply)) == ([30], [(3, "")])
    assert asked.stats.stale == 4
    assert len(asked.upstream.asked) == asked.count
    counted = asked.resolver.stats()
    assert (counted.stale, counted.misses) == (4, 5)


@in_outage()
async def test_each_form_of_a_question_has_its_own(asked):
    for options in ({"edns": False}, {"name": WWW.upper()}, {"payload": 512}):
        for _ in range(3):
            await asked(**options)
    await asked(over=Over.TCP)
    assert kept(asked) >= 4
    option = dns.edns.GenericOption(100, b"1")
    before = kept(asked)
    for _ in range(2):
        await asked(options=[option])  # nobody else will ask that
    assert kept(asked) == before


@in_outage()
async def test_when_a_failure_is_over_upstreams_are_asked_again(asked):
    await asked()
    await asyncio.sleep(29)
    await asked()
    assert len(asked.upstream.asked) == asked.count
    await asyncio.sleep(2)
    await asked()
    assert len(asked.upstream.asked) > asked.count


@in_outage()
async def test_newer_data_takes_its_place(asked):
    await asked()
    asked.upstream.play(answer("192.0.2.9", ttl=60))
    asked.resolver._store.forget_failures()  # as when an upstream is there again
    await asked.resolver.resolve(WWW)  # is given stale data, with a refresh behind
    await asyncio.sleep(1)
    reply = await asked()
    assert [rdata.address for rdata in reply.answer[0]] == ["192.0.2.9"]
    assert ede(reply) == []


@in_outage()
async def test_what_is_flushed_is_not_said_any_more(asked):
    await asked()
    await asked.resolver.store.flush()
    assert (await asked()).rcode() == 2


@in_outage()
async def test_nor_what_was_evicted(asked):
    await asked()
    asked.resolver._store._positive.clear()
    assert (await asked()).rcode() == 2


@in_outage(stale=StalePolicy(max_stale=20))
async def test_nor_what_is_too_old(asked):
    await asked()
    await asyncio.sleep(11)
    assert (await asked()).rcode() == 2


@in_outage(first=nxdomain(minimum=60))
async def test_denials_are_made_anew(asked):
    """One may be of another type, which has not failed."""
    await asked()
    await asked(rdtype="AAAA")
    assert kept(asked) == 0


@in_outage(explain=True)
async def test_a_path_is_told_as_it_is_now(asked):
    first = ede(await asked())
    await asyncio.sleep(5)
    assert ede(await asked()) != first
    assert kept(asked) == 0


@in_outage(hook=Told())
async def test_hooks_are_told_of_each(asked):
    before = asked.resolver._reporter._hook.stale_count
    for _ in range(3):
        await asked()
    assert asked.resolver._reporter._hook.stale_count == before + 3


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(stalepath, "MAX_STALE", 5)

    @in_outage()
    async def test(asked):
        for ident in range(40):
            payload = 512 + ident  # another form each time
            await asked(payload=payload)
            assert kept(asked) <= 5

    test()


@in_outage()
async def test_options_that_change_have_it_forgotten(asked):
    await asked()
    path = asked.responder._stale[True]
    assert path.reply(query().to_wire()) is not None
    asked.resolver._hot = {}  # as when options are set
    assert path.reply(query().to_wire()) is None
