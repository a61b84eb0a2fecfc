"""The fast path says what the slow path says, or nothing."""

from __future__ import annotations

import asyncio
import contextlib
import gc

import dns.edns
import dns.exception
import pytest
from asking import Asked, query
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual import quick_answer, upstreams

from resolverkit.server import fastpath
from resolverkit.server.query import Over
from resolverkit.testing import Step, answer, nodata, nxdomain, run, servfail

NAMES = ["a.example.com", "b.example.com", "A.eXample.com", "a.b.example.com"]
SHAPES = [
    {}, {"edns": False}, {"want_dnssec": True}, {"flags": "RD CD"}, {"payload": 512},
    {"flags": "RD AD"}, {"flags": ""},
    {"options": [dns.edns.GenericOption(10, b"8" * 8)]},
]  # fmt: skip
STEPS = [
    answer("192.0.2.1", "2001:db8::1", ttl=20, after=0),
    answer("192.0.2.2", ttl=5, cname=["web.example.net"], cname_ttl=50, after=0),
    answer("192.0.2.3", ttl=0, after=0),
    answer(*(f"192.0.2.{i}" for i in range(1, 60)), ttl=30, after=0),
    answer("192.0.2.4", ttl=9, ad=True, ede=(0, "so it is"), after=0),
    nxdomain(minimum=15, after=0),
    nodata(minimum=15, after=0),
    nodata(soa=False, after=0),
    servfail(after=0),
]


class Twin:
    """A Responder whose fast path is compared with a slow one at every query."""

    def __init__(self, asked):
        self.asked = asked
        self.fast = 0

    async def ask(self, message, over):
        data = message.to_wire()
        responder = self.asked.responder
        fast = responder.fast(over)
        now = self.asked.resolver._clock()
        fast.check(now)
        said = fast.reply(data, now)
        slow = self.asked.send(data, over)
        if said is not None:
            assert slow.done()  # it is in memory, and fresh
            self.fast += 1
            assert said == slow.result()
        await slow


QUERY = st.tuples(
    st.sampled_from(NAMES),
    st.sampled_from(["A", "AAAA", "MX"]),
    st.sampled_from(SHAPES),
    st.sampled_from([Over.UDP, Over.TCP]),
)
EVENT = st.one_of(
    st.integers(0, 2),  # one of three queries, so that they come again and again
    st.integers(0, 2),
    st.integers(0, 2),
    st.sampled_from([0.3, 1.0, 2.5, 7.0]),
    st.sampled_from(STEPS),
    st.sampled_from(["flush", "flush all", "servers", "cache off", "cache on"]),
)


@settings(max_examples=150)
@given(
    queries=st.tuples(QUERY, QUERY, QUERY),
    events=st.lists(EVENT, min_size=5, max_size=60),
    explain=st.booleans(),
)
def test_fast_replies_are_those_of_the_slow_path(queries, events, explain):
    async def main():
        (upstream,) = upstreams(STEPS[0])
        async with Asked(upstream, explain=explain) as asked:
            twin = Twin(asked)
            for event in events:
                if isinstance(event, float):
                    await asyncio.sleep(event)
                elif isinstance(event, Step):
                    upstream.play(event)
                elif isinstance(event, str):
                    await change(asked.resolver, event)
                else:
                    name, rdtype, shape, over = queries[event]
                    await twin.ask(query(name, rdtype, **shape), over)

    run(main)


async def change(resolver, event):
    if event == "flush":
        await resolver.store.flush("a.example.com")
    elif event == "flush all":
        await resolver.store.flush()
    elif event == "servers":
        resolver.nameservers = list(resolver.nameservers)
    else:
        resolver._store.resize(0 if event == "cache off" else 1 << 20)


def test_the_second_reply_from_memory_is_a_fast_one():
    async def main():
        async with Asked(*upstreams(answer("192.0.2.1"))) as asked:
            twin = Twin(asked)
            for _ in range(5):
                await twin.ask(query(), Over.UDP)
            assert twin.fast == 3  # after the upstream's, and the one from memory
            await twin.ask(query("WWW.Example.com"), Over.UDP)
            assert twin.fast == 4
            assert asked.stats.fast == 4
            assert asked.resolver.stats().hits == 9

    run(main)


async def asked_often(twin, times=4, **options):
    """Ask for the same over UDP; gives how many replies were fast."""
    before = twin.fast
    for _ in range(times):
        await twin.ask(query(**options), Over.UDP)
    return twin.fast - before


def test_what_is_flushed_is_not_said_any_more():
    async def main():
        async with Asked(*upstreams(answer("192.0.2.1"))) as asked:
            twin = Twin(asked)
            assert await asked_often(twin) == 2
            await asked.resolver.store.flush()
            assert await asked_often(twin) == 2

    run(main)


@pytest.mark.parametrize("newer", [answer("192.0.2.2"), nodata(), nxdomain()])
def test_newer_data_takes_the_place_of_older(newer):
    async def main():
        (upstream,) = upstreams(answer("192.0.2.1", after=0))
        async with Asked(upstream) as asked:
            twin = Twin(asked)
            assert await asked_often(twin) == 2
            upstream.play(newer)
            with contextlib.suppress(dns.exception.DNSException):
                await asked.resolver.resolve("www.example.com", refresh=True)
            assert await asked_often(twin) == 3  # the first one prepares

    run(main)


@pytest.mark.parametrize("options", [{}, {"edns": False}], ids=["edns", "no edns"])
@pytest.mark.parametrize("count", [1, 60, 99], ids=["fits", "maybe", "does not fit"])
def test_ttls_of_fast_replies_count_down(options, count):
    many = answer(
        *(f"192.0.2.{i}" for i in range(count)), cname=["web.example.com"], ttl=100
    )

    async def main():
        async with Asked(*upstreams(many)) as asked:
            twin = Twin(asked)
            assert await asked_often(twin, **options) == 2
            for _ in range(20):
                await asyncio.sleep(0.7)
                assert await asked_often(twin, 1, **options) == 1

    run(main)


def test_every_moment_is_looked_at_anew():
    """Seconds pass, and the time of a refresh, while a name is asked for all along."""

    async def main():
        (upstream,) = upstreams(answer("192.0.2.1", ttl=3, after=0))
        async with Asked(upstream) as asked:
            twin = Twin(asked)
            for _ in range(200):
                await asyncio.sleep(0.03)
                await twin.ask(query(), Over.UDP)
            assert asked.resolver.stats().refreshes == 2
            assert twin.fast == 200 - 6  # the first, those that refresh or prepare

    run(main)


@pytest.mark.parametrize("kind", [nodata(), nxdomain()], ids=["nodata", "nxdomain"])
def test_denials_have_fast_replies_until_the_name_is_there(kind):
    async def main():
        (upstream,) = upstreams(kind)
        async with Asked(upstream) as asked:
            twin = Twin(asked)
            for _ in range(4):
                await twin.ask(query(), Over.UDP)
            assert twin.fast == 2
            upstream.play(answer("192.0.2.1"))
            await asked.resolver.resolve("www.example.com", refresh=True)
            await twin.ask(query(), Over.UDP)
            assert twin.fast == 2

    run(main)


def test_what_is_to_be_refreshed_takes_the_slow_path():
    async def main():
        (upstream,) = upstreams(answer("192.0.2.1", ttl=100))
        async with Asked(upstream) as asked:
            twin = Twin(asked)
            for _ in range(3):
                await twin.ask(query(), Over.UDP)
            await asyncio.sleep(91)
            await twin.ask(query(), Over.UDP)
            assert (twin.fast, asked.resolver.stats().refreshes) == (1, 1)

    run(main)


def test_what_was_read_by_the_fast_path_is_not_evicted_first():
    async def main():
        async with Asked(*upstreams(quick_answer())) as asked:
            twin = Twin(asked)
            for _ in range(3):
                await twin.ask(query(), Over.UDP)
            entry = next(iter(asked.resolver._store.entries()))
            entry.used = False
            await twin.ask(query(), Over.UDP)
            assert entry.used

    run(main)


def test_prepared_replies_are_bounded(monkeypatch):
    monkeypatch.setattr(fastpath, "MAX_PREPARED", 50)

    async def main():
        async with Asked(*upstreams(quick_answer())) as asked:
            for i in range(200):
                for _ in range(2):
                    await asked(query(f"n{i}.example.com"))
            assert 40 <= len(asked.responder.fast(Over.UDP)) <= 50

    run(main)


def test_queries_with_options_of_their_own_are_not_kept():
    """A cookie makes each query another one (RFC 7873)."""

    async def main():
        async with Asked(*upstreams(quick_answer())) as asked:
            for i in range(20):
                cookie = dns.edns.GenericOption(10, bytes(7) + bytes((i,)))
                await asked(query(options=[cookie]))
            assert not len(asked.responder.fast(Over.UDP))

    run(main)


@given(noise=st.binary(max_size=100))
def test_any_bytes_are_no_fast_query(noise):
    async def main():
        async with Asked(*upstreams(quick_answer())) as asked:
            for _ in range(2):
                await asked()
            fast = asked.responder.fast(Over.UDP)
            assert fast.reply(noise, asked.resolver._clock()) is None
            known = query().to_wire()
            fast.reply(known[:12] + noise, asked.resolver._clock())

    run(main)


def test_a_miss_leaves_no_cycle():
    async def main():
        async with Asked(*upstreams(quick_answer())) as asked:
            await asked()
            gc.collect()
            gc.disable()
            try:
                for i in range(200):
                    await asked.wire(query(f"n{i}.example.com"))
                await asyncio.sleep(0)
                assert gc.collect() < 200  # dnspython's own messages among them
            finally:
                gc.enable()

    run(main)
