"""The cache with a store behind it: when it is looked into, and what it is told."""

import asyncio
import contextlib
import logging

import pytest
from stored import FakeStore
from virtual import WWW, at, call, moments, question, resolver, told, upstreams

from resolverkit import ConfigurationError, StalePolicy, behind
from resolverkit.record import Record, record_of, reply_of
from resolverkit.testing import answer, network_error, nxdomain, run, servfail, silent

GOOD = answer("192.0.2.1", ttl=60)
NEW = answer("192.0.2.2", ttl=60)
HOLD = StalePolicy(on_denial="hold")


async def learnt(store, *names, script=GOOD, **options):
    """Have one Resolver put names into a store, and close it."""
    (first,) = upstreams(script)
    r = resolver(first, store=store, **options)
    for name in names or (WWW,):
        await call(r, name)
    await r.aclose()


# --- what another process learnt -----------------------------------------------------


def test_a_fresh_answer_of_another_process_costs_no_packet():
    async def main():
        store = FakeStore()
        await learnt(store)
        (b,) = upstreams(NEW)
        r = resolver(b, store=store)
        await at(30)
        got = await call(r)
        again = await call(r)
        await r.aclose()
        return got, got.path.age, told(got.path), again.source, moments(b)

    got, age, attempts, again, asked = run(main)
    assert got == ("192.0.2.1", "cache", 0)
    assert age == pytest.approx(29.99, abs=0.05)
    assert attempts == [("a", "data")]
    assert (again, asked) == ("cache", [])


def test_a_stale_answer_of_another_process_is_served_when_upstreams_are_silent():
    async def main():
        store = FakeStore()
        await learnt(store)
        (b,) = upstreams(silent())
        r = resolver(b, store=store)
        await at(1000)
        got = await call(r)
        await r.aclose()
        return got, got.path.stale_for, moments(b)

    got, stale_for, asked = run(main)
    # At once, for nothing was heard from the upstreams since the start: 100 ms.
    assert got == ("192.0.2.1", "stale", 100)
    assert stale_for == pytest.approx(940, abs=1)
    assert asked == [1_000_000]


def test_once_upstreams_were_heard_they_get_the_whole_client_response_timer():
    async def main():
        store = FakeStore()
        await learnt(store)
        (b,) = upstreams({"*": [NEW], WWW: [silent()]})
        r = resolver(b, store=store)
        await at(1000)
        await call(r, "other.example.net")
        got = await call(r)
        await r.aclose()
        return got

    assert run(main) == ("192.0.2.1", "stale", 1800)


def test_a_stale_answer_of_another_process_gives_way_to_a_fresh_one():
    async def main():
        store = FakeStore()
        await learnt(store)
        (b,) = upstreams(NEW)
        r = resolver(b, store=store)
        await at(1000)
        got = await call(r)
        await r.aclose()
        return got, store.record(question().key).age

    got, age = run(main)
    assert got == ("192.0.2.2", "upstream", 10)
    assert age < 1  # and was written


def test_beyond_max_stale_it_is_not_served():
    async def main():
        store = FakeStore()
        await learnt(store)
        (b,) = upstreams(servfail())
        r = resolver(b, store=store)
        await at(86_400 + 100)
        got = await call(r)
        await r.aclose()
        return got

    assert run(main).what == "NoNameservers"


def test_stale_false_gets_no_stale_answer_from_the_store():
    async def main():
        store = FakeStore()
        await learnt(store)
        (b,) = upstreams(servfail())
        r = resolver(b, store=store)
        await at(1000)
        got = await call(r, stale=False)
        await r.aclose()
        return got

    assert run(main).what == "NoNameservers"


def test_refresh_goes_out_although_the_store_has_a_fresh_answer():
    async def main():
        store = FakeStore()
        await learnt(store)
        (b,) = upstreams(NEW)
        r = resolver(b, store=store)
        got = await call(r, refresh=True)
        await r.aclose()
        return got

    assert run(main) == ("192.0.2.2", "upstream", 10)


def test_refresh_falls_back_on_what_the_store_has():
    async def main():
        store = FakeStore()
        await learnt(store)
        (b,) = upstreams(servfail())
        r = resolver(b, store=store)
        await at(30)
        got = await call(r, refresh=True)
        await r.aclose()
        return got

    assert run(main) == ("192.0.2.1", "cache", 10)


def test_a_hit_in_memory_never_touches_the_store():
    async def main():
        store = FakeStore()
        r = resolver(*upstreams(GOOD), store=store)
        await call(r)
        for _ in range(10):
            await call(r)
        await r.aclose()
        return len(store.fetched)

    assert run(main) == 1


def test_what_expired_is_looked_up_for_a_fresher_one():
    """What one worker learns every worker can serve."""

    async def main():
        store = FakeStore()
        a, b = upstreams(GOOD, NEW)
        mine, other = resolver(a, store=store), resolver(b, store=store)
        await call(mine)
        await at(65)
        await call(other, refresh=True)
        await at(66)
        got = await call(mine)
        await mine.aclose()
        await other.aclose()
        return got, moments(a)

    assert run(main) == (("192.0.2.2", "cache", 0), [0])


# --- when the store is slow, away, or lies -------------------------------------------


@pytest.mark.parametrize(("after", "out"), [(0.004, 4), (0.006, 5), (0.049, 5)])
def test_the_upstreams_are_asked_beside_a_store_that_takes_5_ms(after, out):
    async def main():
        store = FakeStore()
        (b,) = upstreams({"*": [GOOD]})
        r = resolver(b, store=store)
        await call(r, "first.example.com")  # opens it
        store.after = after
        got = await call(r)
        await r.aclose()
        return got, moments(b, WWW)[0] - 10

    assert run(main) == (("192.0.2.1", "upstream", out + 10), out)


def test_a_store_that_is_opened_has_100_ms_more():
    """A new process finds what is fresh in a file without a packet."""

    async def main():
        store = FakeStore(budget=2)
        await learnt(store)
        store.after = 0.04
        (b,) = upstreams(NEW)
        r = resolver(b, store=store)
        got = await call(r)
        await r.aclose()
        return got, moments(b)

    assert run(main) == (("192.0.2.1", "cache", 80), [])


def test_a_store_that_hangs_adds_its_head_start_and_no_more():
    async def main():
        store = FakeStore(after=3600)
        (b,) = upstreams({"*": [GOOD]})
        r = resolver(b, store=store)
        first = await call(r)
        await at(1)
        second = await call(r, "other.example.com")
        problem = r.stats().store.problem
        await r.aclose()
        return first, second, problem

    first, second, problem = run(main)
    assert first == ("192.0.2.1", "upstream", 60)  # its budget, to open it
    assert second == ("192.0.2.1", "upstream", 10)  # it counts as away now
    assert problem == "no answer within 50 ms"


def test_what_is_asked_while_a_store_hangs_does_not_wait_for_it_again():
    """The budget is spent once, be it in the middle of another look-up."""

    async def main():
        store = FakeStore(after=3600)
        (b,) = upstreams(network_error(after=0.001))
        r = resolver(b, store=store)
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(call(r))
            await asyncio.sleep(0.03)
            second = tasks.create_task(call(r, "other.example.com"))
        await r.aclose()
        return first.result().took, second.result().took, store.opened

    assert run(main) == (51, 21, 1)


def test_upstreams_that_fail_first_wait_for_the_store():
    async def main():
        store = FakeStore()
        await learnt(store)
        store.after = 0.02
        (b,) = upstreams(network_error(after=0.001))
        r = resolver(b, store=store)
        await at(1000)
        got = await call(r)
        await r.aclose()
        return got

    assert run(main) == ("192.0.2.1", "stale", 41)


def test_upstreams_that_fail_fail_when_the_store_has_nothing():
    async def main():
        store = FakeStore(after=0.02)
        (b,) = upstreams(network_error(after=0.001))
        r = resolver(b, store=store)
        got = await call(r)
        await r.aclose()
        return got

    got = run(main)
    assert (got.what, got.took) == ("NoNameservers", 41)


def test_upstreams_that_fail_beside_the_store_wait_for_it():
    async def main():
        store = FakeStore()
        await learnt(store)
        (b,) = upstreams(network_error(after=0.001))
        r = resolver(b, store=store)
        await call(r, "first.example.com")  # opens it
        store.after = 0.02
        await at(1000)
        got = await call(r), await call(r, "none.example.com")
        asked = len(b.asked)
        await r.aclose()
        return got, asked

    (there, nowhere), asked = run(main)
    assert there == ("192.0.2.1", "stale", 20)
    assert (nowhere.what, nowhere.took) == ("NoNameservers", 20)
    assert asked == 3


class Stuck(FakeStore):
    """Does not let go of a look-up, whatever it is told."""

    async def fetch(self, keys):
        until = asyncio.get_running_loop().time() + 1e3
        while (left := until - asyncio.get_running_loop().time()) > 0:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(left)
        return {}


def test_a_store_that_never_says_a_word_keeps_no_question_for_ever():
    async def main():
        (b,) = upstreams([servfail(), GOOD])
        r = resolver(b, store=Stuck())
        first = await call(r)
        await asyncio.sleep(60)
        second = await call(r)
        await at(1100)
        await r.aclose()
        return first, second

    first, second = run(main)
    assert (first.what, first.took) == ("LifetimeTimeout", 5000)
    assert (second.what, second.source) == ("192.0.2.1", "upstream")


def test_a_store_that_is_slower_than_the_upstreams_changes_nothing():
    async def main():
        store = FakeStore()
        await learnt(store)
        (b,) = upstreams({"*": [NEW]})
        r = resolver(b, store=store)
        await call(r, "first.example.com")  # opens it
        store.after = 0.03
        await at(30)
        got = await call(r)
        await at(31)
        later = await call(r)
        asked = moments(b, WWW)
        await r.aclose()
        return got, later, asked

    got, later, asked = run(main)
    assert got == ("192.0.2.2", "upstream", 15)
    assert later == ("192.0.2.2", "cache", 0)
    assert asked == [30_005]


def test_what_the_upstreams_say_beside_the_store_is_learnt_all_the_same():
    async def main():
        store = FakeStore()
        await learnt(store)
        (b,) = upstreams({"*": [NEW]})
        r = resolver(b, store=store)
        await call(r, "first.example.com")  # opens it
        store.after = 0.007
        await at(30)
        got = await call(r)
        await at(31)
        later = await call(r)
        hits = r.stats().hits
        await r.aclose()
        return got, later, hits

    got, later, hits = run(main)
    assert got == ("192.0.2.1", "cache", 7)
    assert later == ("192.0.2.2", "cache", 0)
    assert hits == 2


def test_one_warning_for_each_change_of_state(caplog):
    async def main():
        store = FakeStore()
        r = resolver(*upstreams({"*": [GOOD]}), store=store)
        await call(r)
        store.problem = "refused"
        for i in range(20):
            await at(1 + i)
            assert (await call(r, f"n{i}.example.com")).what == "192.0.2.1"
        away = r.stats().store
        store.problem = ""
        await at(200)
        back = r.stats().store
        await call(r, "last.example.com")
        await r.aclose()
        return away, back, store

    with caplog.at_level(logging.WARNING):
        away, back, store = run(main)
    told = [r.message for r in caplog.records if r.name == "resolverkit.store"]
    assert told == [
        "fake://store; answers go on from memory: fake://store: refused",
        "fake://store is in use again",
    ]
    assert away.problem == "fake://store: refused"
    assert (back.problem, back.waiting, back.dropped) == ("", 0, 0)
    assert store.has("n19.example.com")  # written once it was back
    assert 3 < store.opened < 30  # with pauses


def test_a_store_that_takes_no_writes_is_read_all_the_same(caplog):
    """Redis at its maxmemory refuses writes."""

    async def main():
        store = FakeStore()
        await learnt(store)
        store.write_problem = "full"
        (b,) = upstreams({"*": [GOOD]})
        r = resolver(b, store=store)
        await call(r, "other.example.com")
        await at(30)
        got = await call(r)
        problem = r.stats().store.problem
        store.write_problem = ""
        await at(120)
        await r.aclose()
        return got, problem, store.has("other.example.com")

    with caplog.at_level(logging.WARNING):
        got, problem, written = run(main)
    assert got == ("192.0.2.1", "cache", 0)
    assert (problem, written) == ("fake://store: full", True)
    assert len([r for r in caplog.records if r.name == "resolverkit.store"]) == 2


class Rude(FakeStore):
    """A user's own, with a bug."""

    def __init__(self, give):
        super().__init__()
        self.give = give

    async def fetch(self, keys):
        return self.give(keys)


@pytest.mark.parametrize(
    ("give", "told"),
    [
        (lambda _keys: {}["oops"], "KeyError: 'oops'"),
        (lambda _keys: None, "TypeError: fetch() gave no mapping of Records"),
        (dict.fromkeys, "TypeError: fetch() gave no mapping of"),
    ],
)
def test_a_store_with_a_bug_counts_as_away(give, told):
    async def main():
        r = resolver(*upstreams(GOOD), store=Rude(give))
        got = await call(r)
        problem = r.stats().store.problem
        await r.aclose()
        return got, problem

    got, problem = run(main)
    assert got == ("192.0.2.1", "upstream", 10)
    assert problem.startswith(told)


@pytest.mark.parametrize(
    "changes",
    [
        {"wire": b"garbage"},
        {"wire": b""},
        {"wire": None},
        {"ttl": -5},
        {"ttl": "60"},
        {"key": b"\x03"},
    ],
)
def test_what_comes_out_of_a_store_is_checked_like_bytes_from_the_network(changes):
    async def main():
        store = FakeStore()
        await learnt(store)
        key = question().key
        record, when, denied = store.kept[key]
        store.kept[key] = record._replace(**changes), when, denied
        (b,) = upstreams(NEW)
        r = resolver(b, store=store)
        await at(1)
        got = await call(r)
        await r.aclose()
        return got.what

    # Where the key or the TTL is wrong, the rest is still an answer to the question.
    wrong = "wire" in changes or "ttl" in changes
    assert run(main) == ("192.0.2.2" if wrong else "192.0.2.1")


def test_changes_that_cannot_be_written_are_bounded():
    async def main():
        store = FakeStore()
        store.problem = "away"
        r = resolver(*upstreams(GOOD), store=store)
        await call(r)
        tier = r._store.behind
        entry = next(r._store.entries())
        for i in range(30_000):
            tier._change(i.to_bytes(4, "big"), entry)
        await r.aclose()
        return tier.waiting, tier.dropped

    waiting, dropped = run(main)
    assert waiting == 20_000
    assert dropped == 10_001


# --- what is written -----------------------------------------------------------------


def test_answers_are_written_within_a_second():
    async def main():
        store = FakeStore()
        r = resolver(*upstreams({"*": [GOOD]}), store=store)
        for i in range(600):
            await call(r, f"n{i}.example.com")
        before = sum(store.written)
        await asyncio.sleep(0.5)
        after = sum(store.written)
        await r.aclose()
        return before, after, max(store.written)

    before, after, largest = run(main)
    assert before >= 550  # one comes each 20 ms, and is written 0.5 s later at the most
    assert after == 600
    assert largest > 20, "together"


def test_no_batch_is_larger_than_its_bound(monkeypatch):
    monkeypatch.setattr(behind, "BATCH", 10)

    async def main():
        store = FakeStore()
        r = resolver(*upstreams({"*": [GOOD]}), store=store)
        await asyncio.gather(*(call(r, f"n{i}.example.com") for i in range(25)))
        await asyncio.sleep(1)
        await r.aclose()
        return store.written

    assert run(main) == [10, 10, 5]


def test_closing_writes_what_waits():
    async def main():
        store = FakeStore()
        await learnt(store)
        return store.has(), store.closed

    assert run(main) == (True, 1)


def test_a_loop_that_ends_without_closing_writes_what_waits():
    store = FakeStore()

    async def main():
        r = resolver(*upstreams(GOOD), store=store)
        await call(r)

    run(main)
    assert store.has()
    assert store.closed == 1


def test_nothing_but_positive_answers_is_kept():
    async def main():
        store = FakeStore()
        r = resolver(
            *upstreams(
                {"no.example.com": [nxdomain()], "*": [answer("192.0.2.1", ttl=0)]}
            ),
            store=store,
        )
        await call(r, "no.example.com")
        await call(r, "zero.example.com")
        await r.aclose()
        return store.kept

    assert run(main) == {}


def test_what_memory_is_too_small_for_is_stored():
    many = answer(*[f"192.0.2.{i}" for i in range(1, 120)], ttl=60)

    async def main():
        store = FakeStore()
        (a,) = upstreams(many)
        r = resolver(a, store=store, cache_size=2000)
        first = await call(r)
        await at(2)
        again = await call(r)
        await r.aclose()
        return first, again, store.has(), moments(a)

    first, again, stored, asked = run(main)
    assert (first.source, again.source) == ("upstream", "cache")
    assert {*first.what.split()} == {*again.what.split()}
    assert stored
    assert len(asked) == 1


@pytest.mark.parametrize("how", ["cache_size=0", "cache=None"])
def test_while_caching_is_off_the_store_is_neither_read_nor_written(how):
    async def main():
        store = FakeStore()
        await learnt(store)
        store.fetched.clear()
        (b,) = upstreams([NEW, servfail()])
        r = resolver(b, store=store, **({"cache_size": 0} if "0" in how else {}))
        if "None" in how:
            r.cache = None
        got = [await call(r), await call(r)]
        await r.aclose()
        return [each.what for each in got], store.fetched, store.written

    assert run(main) == (["192.0.2.2", "NoNameservers"], [], [1])


@pytest.mark.parametrize(
    "blocked",
    [nxdomain(soa=False, ra=False), nxdomain(soa=False, ede=15)],
    ids=["signature", "EDE"],
)
def test_after_a_block_that_was_chosen_the_store_has_nothing_to_serve(blocked):
    async def main():
        store = FakeStore()
        await learnt(store)
        (b,) = upstreams(blocked, filtering=True, unsigned_block=True)
        r = resolver(b, store=store)
        await at(100)
        got = [await call(r)]
        await r.aclose()
        (c,) = upstreams(silent())
        r = resolver(c, store=store)
        got.append(await call(r))
        await r.aclose()
        return got

    denied, later = run(main)
    assert denied.what == "NXDOMAIN"
    assert later.what == "NoNameservers"


def test_after_a_denial_the_store_has_nothing_to_serve():
    async def main():
        store = FakeStore()
        a, b = upstreams([GOOD, nxdomain()], servfail())
        first = resolver(a, store=store)
        await call(first)
        await at(100)
        await call(first)
        await first.aclose()
        cold = resolver(b, store=store)
        got = await call(cold)
        await cold.aclose()
        return got.what, store.record(question().key).denied

    what, denied = run(main)
    assert what == "NoNameservers"
    assert denied is not None


def test_a_store_that_takes_no_writes_has_nothing_to_serve_after_a_denial():
    async def main():
        store = FakeStore()
        await learnt(store)
        store.write_problem = "read-only"
        store.after = 0.03  # so that memory hears of the denial alone
        (b,) = upstreams([nxdomain(), servfail()])
        r = resolver(b, store=store, cache_size=2000)  # which keeps no denials
        await at(100)
        denied = await call(r)
        await at(200)
        later = await call(r)
        await r.aclose()
        return denied.what, later.what, len(store.fetched)

    assert run(main) == ("NXDOMAIN", "NoNameservers", 3)


def test_a_name_that_is_denied_is_denied_for_each_type_in_the_store():
    async def main():
        store = FakeStore()
        (a,) = upstreams([GOOD, answer("2001:db8::1", ttl=60), nxdomain()])
        r = resolver(a, store=store)
        await call(r)
        await call(r, WWW, "AAAA")
        await at(100)
        await call(r)
        await r.aclose()
        return [store.record(question(WWW, t).key).denied for t in (1, 28)]

    assert None not in run(main)


def test_what_is_denied_is_not_fresh_for_another_process():
    async def main():
        store = FakeStore()
        await learnt(store)
        key = question().key
        record, when, _ = store.kept[key]
        store.kept[key] = record, when, when + 1
        (b,) = upstreams(NEW)
        r = resolver(b, store=store)
        await at(5)
        got = await call(r)
        await r.aclose()
        return got

    assert run(main) == ("192.0.2.2", "upstream", 10)


def test_a_date_that_was_rounded_is_no_newer():
    async def main():
        store = FakeStore()
        r = resolver(*upstreams(GOOD), store=store)
        await call(r)
        cache = r._store
        (entry,) = cache.entries()
        now = cache.clock()
        record = record_of(entry, now)
        same = cache.adopt(record, reply_of(record), now + 0.9)
        other = cache.adopt(record, reply_of(record), now + 1.1)
        await r.aclose()
        return same is entry, other is entry

    assert run(main) == (True, False)


def test_a_restart_keeps_the_window_of_what_is_held():
    """The window is stored: so a restart keeps it."""

    async def main():
        store = FakeStore()
        a, b, c = upstreams([GOOD, nxdomain()], nxdomain(), nxdomain())
        first = resolver(a, store=store, stale=HOLD)
        await call(first)
        await at(100)
        await call(first)
        await first.aclose()
        await at(3600)
        second = resolver(b, store=store, stale=HOLD)
        during = await call(second)
        await second.aclose()
        await at(6 * 3600 + 101)
        third = resolver(c, store=store, stale=HOLD)
        after = await call(third)
        await third.aclose()
        return during.what, during.source, after.what

    assert run(main) == ("192.0.2.1", "held", "NXDOMAIN")


def test_an_alias_that_was_learnt_since_voids_direct_data_in_the_store():
    """RFC 8767 section 7: or a stale A resurfaces, as it once did in BIND."""

    async def main():
        store = FakeStore()
        await learnt(store)
        await at(100)
        alias = answer("2001:db8::1", cname=["new.example.net."])
        (b,) = upstreams([alias, servfail()])
        r = resolver(b, store=store)
        await call(r, WWW, "AAAA")
        got = await call(r)
        await r.aclose()
        return got.what

    assert run(main) == "NoNameservers"


def test_a_denial_in_memory_counts_more_than_older_data_in_the_store():
    async def main():
        store = FakeStore()
        await learnt(store)
        await at(100)
        (b,) = upstreams([nxdomain(), servfail()])
        r = resolver(b, store=store)
        await call(r, WWW, "AAAA")
        await at(102)  # it was marked by then; say that another process has not seen it
        store.kept[question().key] = (*store.kept[question().key][:2], None)
        await at(100 + 301)
        got = await call(r)
        await r.aclose()
        return got.what

    assert run(main) == "NXDOMAIN"


# --- clocks that jump ----------------------------------------------------------------

YEAR = 365.25 * 86_400


@pytest.mark.parametrize(
    ("jump", "expected"),
    [
        (-3600, ("192.0.2.1", "stale")),  # dated in the future: stale, never fresh
        (-10 * YEAR, ("192.0.2.1", "stale")),
        (3600, ("192.0.2.1", "stale")),
        (10 * YEAR, ("NoNameservers", "upstream")),  # too old, and not deleted
        (0, ("192.0.2.1", "cache")),
    ],
)
def test_the_wall_clock_may_jump_either_way(jump, expected):
    async def main():
        store = FakeStore()
        await learnt(store)
        store.jump = jump
        (b,) = upstreams(servfail())
        r = resolver(b, store=store)
        await at(30)
        got = await call(r)
        assert got.path.age >= 0
        assert got.path.stale_for >= 0
        await r.aclose()
        return got, store.has()

    got, there = run(main)
    assert (got.what, got.source) == expected
    assert there


@pytest.mark.parametrize(
    ("jump", "expected"),
    [(-3600, "held"), (-10 * YEAR, "held"), (3600, "held"), (10 * YEAR, "upstream")],
)
def test_a_hold_survives_a_clock_that_jumps(jump, expected):
    async def main():
        store = FakeStore()
        a, b = upstreams([GOOD, nxdomain()], nxdomain())
        first = resolver(a, store=store, stale=HOLD)
        await call(first)
        await at(100)
        await call(first)
        await first.aclose()
        store.jump = jump
        second = resolver(b, store=store, stale=HOLD)
        got = await call(second)
        await second.aclose()
        return got.source

    assert run(main) == expected


@pytest.mark.parametrize("jump", [-3600, 3600, -10 * YEAR, 10 * YEAR])
def test_memory_does_not_care_for_the_wall_clock(jump):
    async def main():
        store = FakeStore()
        (a,) = upstreams([GOOD, silent()])
        r = resolver(a, store=store)
        await call(r)
        store.jump = jump
        await at(30)
        fresh = await call(r)
        await at(100)
        stale = await call(r)
        await r.aclose()
        return fresh.source, stale.source, stale.took

    assert run(main) == ("cache", "stale", 1800)


# --- options -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mysql://x",
        "memory",
        "sqlite://host/path",
        "sqlite:///x?size=1",
        "sqlite:",
        7,
    ],
)
def test_a_store_that_cannot_be_is_refused(url):
    with pytest.raises(ConfigurationError, match="store="):
        resolver_without_loop(store=url)


def resolver_without_loop(**options):
    from resolverkit import Resolver

    return Resolver(["192.0.2.1"], configure=False, **options)


def test_a_user_s_own_store_may_be_used():
    store = FakeStore()
    assert resolver_without_loop(store=store)._store.behind.store is store


def test_a_record_says_who_it_was():
    async def main():
        store = FakeStore()
        await learnt(store)
        return store.record(question().key)

    record = run(main)
    assert isinstance(record, Record)
    assert record.said.upstream == "a"
    assert record.said.elapsed == pytest.approx(0.01)
