"""Events, log records and counts: what a program is told of its Resolver."""

import json
import logging

import pytest
from stored import FakeStore
from virtual import WWW, at, call, resolver, upstreams

from resolverkit import Hook, StalePolicy
from resolverkit.testing import (
    answer,
    lost,
    network_error,
    nxdomain,
    run,
    servfail,
    silent,
)

GOOD = answer("192.0.2.1", ttl=60)


class Diary(Hook):
    """Writes down what it is told."""

    def __init__(self):
        self.lines = []

    def started(self, question):
        self.lines.append(f"started {question}")

    def answered(self, question, path):
        self.lines.append(f"answered {question} by {path.upstream}")

    def failed(self, question, path):
        tried = len(path.attempts)
        self.lines.append(f"failed {question}: {tried} tried: {path.detail}")

    def stale(self, question, path):
        self.lines.append(f"stale {question} {path.stale_for:.0f} s")

    def held(self, question, path):
        self.lines.append(f"held {question}: {path.detail}")

    def upstream_down(self, upstream):
        self.lines.append(f"down {upstream}")

    def upstream_up(self, upstream):
        self.lines.append(f"up {upstream}")


LATE = "no reply within 2 s"


def test_a_hook_is_told_of_an_outage():
    async def main():
        diary = Diary()
        (a,) = upstreams(GOOD)
        r = resolver(a, hook=diary)
        await call(r)
        await call(r)  # from memory: no event
        a.play(silent())
        for second in range(100, 900, 100):
            await at(second)
            await call(r)
        a.play(GOOD)
        await at(1000)
        await call(r)
        await at(1005)
        await call(r)
        return diary.lines

    lines = run(main)
    name = f"{WWW}. A"
    assert lines[:5] == [
        f"started {name}", f"answered {name} by a",
        f"started {name}", f"stale {name} 42 s", f"failed {name}: 1 tried: {LATE}",
    ]  # fmt: skip
    assert lines.count("down a") == 1
    assert lines.count("up a") == 1
    assert lines.index("down a") < lines.index("up a")
    assert lines[-1] in {f"answered {name} by a", "up a"}


def test_a_hook_is_told_of_what_is_held():
    async def main():
        diary = Diary()
        (a,) = upstreams([GOOD, nxdomain()])
        r = resolver(a, hook=diary, stale=StalePolicy(on_denial="hold"))
        await call(r)
        await at(100)
        await call(r)
        return diary.lines[-2:]

    assert run(main) == [
        f"answered {WWW}. A by a",
        f"held {WWW}. A: denied by upstreams for 0 s",
    ]


class Silent(Hook):
    """Overrides nothing."""


class Broken(Hook):
    def started(self, question):
        raise RuntimeError("no")

    def stale(self, question, path):
        raise RuntimeError("no")


def test_a_hook_needs_no_more_than_what_it_overrides():
    async def main():
        (a,) = upstreams([GOOD, servfail()])
        r = resolver(a, hook=Silent())
        await call(r)
        await at(100)
        return (await call(r)).source

    assert run(main) == "stale"


def test_a_hook_that_fails_harms_nobody(caplog):
    async def main():
        (a,) = upstreams([GOOD, servfail()])
        r = resolver(a, hook=Broken())
        first = await call(r)
        await at(100)
        return first.source, (await call(r)).source

    assert run(main) == ("upstream", "stale")
    failed = [r for r in caplog.records if "failed" in r.message and r.exc_info]
    assert len(failed) == 3


def test_log_records_carry_the_path(caplog):
    async def main():
        (a,) = upstreams([GOOD, servfail()])
        r = resolver(a)
        await call(r)
        await at(100)
        await call(r)

    with caplog.at_level(logging.DEBUG, "resolverkit.resolver"):
        run(main)
    first, second = (r for r in caplog.records if r.name == "resolverkit.resolver")
    assert (first.levelname, first.source, first.upstream) == ("DEBUG", "upstream", "a")
    assert second.levelname == "INFO"
    assert "stale data at hand" in second.message
    assert second.attempts[0]["outcome"] == "server failure"


# --- stats ---------------------------------------------------------------------------


def test_stats_count_how_answers_came_by():
    async def main():
        (a,) = upstreams(
            {WWW: [GOOD, GOOD, servfail()], "no.example.com": [nxdomain()]}
        )
        r = resolver(a, stale=StalePolicy(wait=0))
        await call(r)
        await call(r)
        await at(55)
        await call(r)  # refreshed ahead
        await at(56)
        await call(r, "no.example.com")
        await at(200)
        await call(r)
        await at(201)
        await call(r)
        return r.stats()

    stats = run(main)
    assert (stats.hits, stats.misses, stats.stale, stats.held) == (2, 4, 2, 0)
    assert (stats.refreshes, stats.failures, stats.evictions) == (1, 1, 0)
    assert stats.entries == 2
    assert stats.size > 400
    (upstream,) = stats.upstreams
    assert (upstream.name, upstream.answers, upstream.errors) == ("a", 3, 1)
    assert upstream.srtt == pytest.approx(0.01)
    assert stats.store is None
    assert json.loads(json.dumps(stats.to_dict()))["upstreams"][0]["name"] == "a"


def test_stats_count_what_is_held():
    async def main():
        (a,) = upstreams([GOOD, nxdomain()])
        r = resolver(a, stale=StalePolicy(on_denial="hold"))
        await call(r)
        await at(100)
        await call(r)
        await call(r)
        return r.stats()

    stats = run(main)
    assert (stats.hits, stats.stale, stats.held) == (0, 0, 2)


def test_stats_count_what_waits_and_what_is_dropped(monkeypatch):
    monkeypatch.setattr("resolverkit.behind.MAX_WAITING", 2)

    async def main():
        r = resolver(*upstreams({"*": [GOOD]}), store=FakeStore(), cache_size=1500)
        for i in range(5):
            await call(r, f"n{i}.example.com")
        stats = r.stats()
        await at(10)
        later = r.stats().store
        await r.aclose()
        return stats, later

    stats, later = run(main)
    assert (stats.store.waiting, stats.store.dropped, stats.store.written) == (2, 3, 0)
    assert (later.waiting, later.dropped, later.written) == (0, 3, 2)
    assert stats.entries + stats.evictions == 5
    assert stats.evictions >= 2


def test_stats_say_who_is_down():
    async def main():
        r = resolver(*upstreams(GOOD, network_error()), strategy="race")
        for i in range(9):
            await call(r, WWW, refresh=bool(i))
        return {u.name: u.down for u in r.stats().upstreams}

    assert run(main) == {"a": False, "b": True}


def test_stats_tell_upstreams_apart():
    async def main():
        r = resolver(*upstreams(lost(GOOD), GOOD, silent()))
        for i in range(12):
            await call(r, WWW, refresh=bool(i))
        return {u.name: u for u in r.stats().upstreams}

    told = run(main)
    assert set(told) == {"a", "b", "c"}
    assert told["a"].overtaken + told["a"].answers >= 1
    assert told["b"].answers > 5
    assert told["c"].answers == 0
    assert told["c"].operator == "C"


def test_stats_before_anything_was_asked():
    async def main():
        return resolver(*upstreams(GOOD)).stats()

    assert run(main).upstreams == ()
