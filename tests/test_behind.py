"""What stands between the cache and a store, by itself: batches, budget, state."""

import asyncio
import itertools

import pytest
from stored import FakeStore
from virtual import WWW, at, call, ms, question, resolver, upstreams

from resolverkit import StalePolicy, behind
from resolverkit.behind import Behind
from resolverkit.memory import Entry
from resolverkit.record import record_of
from resolverkit.testing import VirtualLoop, answer, nxdomain, run
from resolverkit.wire import read_reply

GOOD = answer("192.0.2.1", ttl=60)
KEYS = [question(f"n{i}.example.com").key for i in range(5)]


def bound(store):
    """One on the running loop."""
    loop = VirtualLoop.running()
    tier = Behind(store, loop.clock)
    tier.bind(loop)
    return tier


def entry(name=WWW):
    asked = question(name)
    reply = read_reply(asked, GOOD.make(asked))
    return Entry(asked, reply, VirtualLoop.running().clock())


class Picky(FakeStore):
    """Knows what it has."""

    def may_have(self, key):
        return key in self.kept


def test_a_store_that_knows_what_it_has_is_not_asked_for_the_rest():
    async def main():
        store = Picky()
        tier = bound(store)
        before = tier.may_have(question().key)
        tier.denied(question().key)
        waiting = tier.waiting  # nothing is there to be marked
        tier.learnt(entry())
        await asyncio.sleep(1)
        tier.denied(question().key)
        after = tier.may_have(question().key), tier.waiting
        await tier.aclose()
        return before, waiting, after

    assert run(main) == (False, 0, (True, 1))


def test_two_that_want_the_same_key_are_told_both():
    async def main():
        store = FakeStore()
        tier, told = bound(store), []
        tier.look_up(KEYS[0], lambda record: told.append(("one", record)))
        tier.look_up(KEYS[0], lambda record: told.append(("two", record)))
        await asyncio.sleep(0.01)
        await tier.aclose()
        return told, store.fetched

    assert run(main) == ([("one", None), ("two", None)], [[KEYS[0]]])


def test_look_ups_are_counted_and_none_is_made_while_the_store_is_away():
    async def main():
        store = FakeStore()
        first = resolver(*upstreams({"*": [GOOD]}), store=store)
        await call(first)
        await first.aclose()
        r = resolver(*upstreams({"*": [GOOD]}), store=store)
        await call(r)
        await call(r, "a.example.com")
        await call(r, "b.example.com")
        counts = r.stats().store.found, r.stats().store.missed
        store.problem = "away"
        await call(r, "c.example.com")
        assert r.stats().store.problem
        await call(r, "d.example.com")
        await call(r, "e.example.com")
        later = r.stats().store.found, r.stats().store.missed
        await r.aclose()
        return counts, later

    assert run(main) == ((1, 2), (1, 3))


def test_each_batch_has_the_whole_budget():
    async def main():
        store = FakeStore(budget=0.05, after=0.03)
        tier, told = bound(store), []
        await tier.opened()
        began = ms()
        tier.look_up(KEYS[0], lambda _: told.append(ms() - began))
        await asyncio.sleep(0.01)
        tier.look_up(KEYS[1], lambda _: told.append(ms() - began))
        await asyncio.sleep(0.2)
        problem = tier.problem
        await tier.aclose()
        return told, problem

    assert run(main) == ([30, 60], "")


class Deaf(FakeStore):
    """Is not ended by the first that tells it to."""

    async def fetch(self, keys):
        try:
            return await super().fetch(keys)
        except asyncio.CancelledError:
            if len(self.fetched) == 1:
                return {}
            raise


def test_a_store_that_is_deaf_to_the_end_of_its_budget_is_ended_at_the_next():
    async def main():
        store = Deaf()
        tier, told = bound(store), []
        await tier.opened()
        store.after, began = 1e6, ms()
        for key in KEYS[:2]:  # the second waits for the first, and goes by itself
            tier.look_up(key, lambda _: told.append(ms() - began))
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        left, store.after = tier._reader, 0
        await tier.aclose()
        return told, left, len(store.fetched)

    assert run(main) == ([50, 100], None, 2)


@pytest.mark.parametrize(("after", "problem"), [(0.045, ""), (0.055, "no answer")])
def test_the_budget_is_what_the_store_says(after, problem):
    async def main():
        store = FakeStore(budget=0.05, after=0)
        tier, told = bound(store), []
        await tier.opened()
        store.after, began = after, ms()
        tier.look_up(KEYS[0], lambda _: told.append(ms() - began))
        await asyncio.sleep(0.1)
        said = tier.problem
        store.after = 0
        await tier.aclose()
        return told, said

    told, said = run(main)
    assert told == [min(50, after * 1000)]
    assert said.startswith(problem)
    assert bool(said) == bool(problem)


class Slow(FakeStore):
    """Takes its time to give up."""

    async def fetch(self, keys):
        try:
            await asyncio.sleep(1e6)
        finally:
            await asyncio.sleep(1)


def test_closing_ends_a_look_up_that_is_ending_by_itself():
    async def main():
        tier = bound(Slow())
        tier.look_up(KEYS[0], lambda _: None)
        await asyncio.sleep(0.5)  # the budget is spent, and it still gives up
        await tier.aclose()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        return tier.problem, tier._opener, left

    assert run(main) == ("", None, set())


def test_what_a_spent_budget_ended_can_be_ended_no_more():
    """… so that the timeouts of the next batch, in the same task, count right."""

    async def main():
        store = FakeStore(after=1e6)
        tier, left = bound(store), []
        tier.look_up(KEYS[0], lambda _: left.append(asyncio.current_task()))
        await asyncio.sleep(0.1)
        (task,) = left
        store.after = 0
        await tier.aclose()
        return task.cancelling()

    assert run(main) == 0


def test_what_is_denied_before_it_was_written_is_written_all_the_same():
    async def main():
        store = FakeStore()
        tier = bound(store)
        one = entry()
        tier.learnt(one)
        one.deny(VirtualLoop.running().clock())
        tier.denied(one.key)
        await asyncio.sleep(1)
        await tier.aclose()
        return store.has(), store.record(question().key).denied

    has, denied = run(main)
    assert has
    assert denied == pytest.approx(1.0)


def test_a_mark_is_as_old_as_the_denial():
    async def main():
        store = FakeStore()
        r = resolver(
            *upstreams([GOOD, nxdomain()]), store=store, stale=StalePolicy(max_stale=60)
        )
        await call(r)
        await at(61)
        store.write_problem = "full"
        await call(r)
        await at(70)
        store.write_problem = ""
        await at(120)
        denied = store.record(question().key).denied
        await r.aclose()
        return denied

    assert run(main) == pytest.approx(59, abs=0.1)


def test_what_is_forgotten_is_not_written():
    async def main():
        store = FakeStore()
        tier = bound(store)
        tier.learnt(entry())
        tier.forget(lambda key: key == question().key)
        await asyncio.sleep(1)
        await tier.aclose()
        return store.written

    assert run(main) == []


def test_the_oldest_changes_are_dropped_first(monkeypatch):
    monkeypatch.setattr(behind, "MAX_WAITING", 3)

    async def main():
        store = FakeStore()
        tier = bound(store)
        for letter in "abcad":
            tier.learnt(entry(f"{letter}.example.com"))
        dropped = tier.dropped
        await asyncio.sleep(1)
        await tier.aclose()
        return dropped, [chr(key[1]) for key in store.kept]

    assert run(main) == (1, ["c", "a", "d"])


class Noted(FakeStore):
    """Takes 0.1 s for everything, and notes what it took in."""

    def __init__(self):
        super().__init__(after=0.1)
        self.taken = []

    async def write(self, changes):
        await super().write(changes)
        self.taken.append(changes)


def test_what_came_since_a_write_began_counts_more():
    async def main():
        store = Noted()
        tier = bound(store)
        old = entry()
        tier.learnt(old)
        store.write_problem = "full"
        await asyncio.sleep(0.65)  # opened by then, and under way
        new = entry()
        tier.learnt(new)
        await asyncio.sleep(0.2)
        assert tier.problem
        store.write_problem = ""
        await asyncio.sleep(5)
        written, problem = tier.written, tier.problem
        await tier.aclose()
        return [round(c.age, 2) for each in store.taken for c in each], written, problem

    ages, written, problem = run(main)
    assert len(ages) == written == 1
    assert ages[0] < 1.0
    assert problem == ""


def test_a_write_that_fails_keeps_what_was_denied_meanwhile():
    async def main():
        store = Noted()
        tier = bound(store)
        one = entry()
        tier.learnt(one)
        store.write_problem = "full"
        await asyncio.sleep(0.65)  # it is under way
        one.deny(VirtualLoop.running().clock())
        tier.denied(one.key)
        await asyncio.sleep(0.2)
        assert tier.problem
        store.write_problem = ""
        await asyncio.sleep(5)
        await tier.aclose()
        return store.has(), store.has() and store.record(one.key).denied

    assert run(main) == (True, pytest.approx(5.2, abs=0.2))


@pytest.mark.parametrize("after", [0.0, 0.65], ids=["waiting", "being written"])
def test_what_memory_has_evicted_is_marked_by_the_time_it_is_written(after):
    async def main():
        store = Noted()
        tier = bound(store)
        one = entry()
        tier.learnt(one)
        store.write_problem = "full"
        await asyncio.sleep(after)
        tier.denied(one.key)
        await asyncio.sleep(1 - after)
        store.write_problem = ""
        await asyncio.sleep(5)
        await tier.aclose()
        return store.record(one.key).denied

    assert run(main) == pytest.approx(6 - after, abs=0.2)


def test_what_waits_to_be_written_is_found():
    async def main():
        store, found = FakeStore(), []
        tier = bound(store)
        tier.learnt(entry())
        await asyncio.sleep(10)
        store.write_problem = "full"
        tier.learnt(entry())
        tier.look_up(question().key, found.append)
        await asyncio.sleep(5)
        tier.look_up(question().key, found.append)
        await asyncio.sleep(1)
        store.kept[question().key] = found[0], store.now(), None  # by another process
        tier.look_up(question().key, found.append)
        await asyncio.sleep(1)
        await tier.aclose()
        return [record.age for record in found]

    assert run(main) == pytest.approx([0, 5, 0], abs=0.1)


def test_a_denial_counts_for_what_another_process_learnt_in_between():
    """The record that waits is older than what is stored, and its mark is not."""

    async def main():
        store = FakeStore()
        tier = bound(store)
        mine = entry()
        tier.learnt(mine)
        store.write_problem = "full"
        await asyncio.sleep(1)
        now = VirtualLoop.running().clock()
        store.kept[mine.key] = record_of(entry(), now), store.now(), None
        await asyncio.sleep(1)
        mine.deny(VirtualLoop.running().clock())
        tier.denied(mine.key)
        store.write_problem = ""
        await asyncio.sleep(2)
        await tier.aclose()
        record = store.record(mine.key)
        return record.age, record.denied

    assert run(main) == pytest.approx((3, 2), abs=0.1)


def test_what_is_forgotten_while_a_write_fails_is_not_written_again():
    async def main():
        store = Noted()
        tier = bound(store)
        tier.learnt(entry())
        store.write_problem = "full"
        await asyncio.sleep(0.65)
        tier.forget(lambda key: key == question().key)
        await asyncio.sleep(0.2)
        assert tier.problem
        store.write_problem = ""
        await asyncio.sleep(5)
        await tier.aclose()
        return store.written

    assert run(main) == []


def test_pauses_between_writes_that_fail_grow_and_begin_anew():
    async def main():
        store = FakeStore()
        tier, tried = bound(store), []
        write = store.write

        async def noted(changes):
            tried.append(ms())
            await write(changes)

        store.write, store.write_problem = noted, "full"
        tier.learnt(entry())
        await at(200)
        pauses = [b - a for a, b in itertools.pairwise(tried)]
        store.write_problem = ""
        await at(300)
        del tried[:]
        store.write_problem = "full"
        tier.learnt(entry())
        await at(302)
        again = [b - a for a, b in itertools.pairwise(tried)]
        store.write_problem = ""
        await tier.aclose()
        return pauses, again

    pauses, again = run(main)
    assert pauses[:8] == [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]
    assert again == [500]


def test_what_is_left_after_a_loop_is_written_on_the_next():
    async def main():
        store = FakeStore()
        tier = bound(store)
        tier.learnt(entry())
        tier._loop = None  # another loop's
        tier._timer.cancel()
        tier.bind(VirtualLoop.running())
        await asyncio.sleep(1)
        written = sum(store.written)
        await tier.aclose()
        return written

    assert run(main) == 1


def test_what_was_being_written_on_a_loop_that_stands_still_is_written_on_the_next():
    """As a child's after a fork: its parent's loop goes on elsewhere."""

    async def main():
        tier = bound(Noted())
        tier.learnt(entry())
        await asyncio.sleep(0.65)  # it is under way
        other = VirtualLoop()
        tier.bind(other)
        other.close()
        waiting = tier.waiting
        (writer,) = asyncio.all_tasks() - {asyncio.current_task()}
        writer.cancel()  # this loop goes on, after all
        await asyncio.wait([writer])
        return waiting

    assert run(main) == 1


def test_to_bind_it_again_changes_nothing():
    async def main():
        store = FakeStore()
        tier = bound(store)
        await tier.opened()
        tier.bind(VirtualLoop.running())
        opened = tier.is_open, store.opened
        await tier.aclose()
        return opened, tier.is_open

    assert run(main) == ((True, 1), False)


def test_closing_takes_no_longer_than_its_bound(caplog):
    async def main():
        store = FakeStore()
        tier = bound(store)
        await tier.opened()
        tier.learnt(entry())
        store.after = 1e6
        began = ms()
        await tier.aclose()
        return ms() - began

    assert run(main) == 2000
    assert "1 answers not kept" in caplog.text


def test_a_store_that_was_closed_stays_closed():
    async def main():
        store = FakeStore()
        tier = bound(store)
        tier.learnt(entry())
        await tier.aclose()
        await asyncio.sleep(5)
        return store.opened, store.closed, tier.written

    assert run(main) == (1, 1, 1)


def test_closing_does_not_wait_for_a_store_that_is_away(caplog):
    async def main():
        store = FakeStore()
        tier = bound(store)
        store.problem = "away"
        tier.look_up(KEYS[0], lambda _: None)
        tier.learnt(entry())
        await asyncio.sleep(0.1)
        opened = store.opened
        await tier.aclose()
        return store.opened - opened, tier.waiting

    assert run(main) == (0, 1)


def test_nothing_is_written_before_the_store_is_opened_again(monkeypatch):
    monkeypatch.setattr(behind, "MIN_PAUSE", 10)

    async def main():
        store = FakeStore()
        tier = bound(store)
        store.problem = "away"
        tier.look_up(KEYS[0], lambda _: None)
        tier.learnt(entry())
        await asyncio.sleep(0.1)
        store.problem = ""
        await at(9)
        early = store.opened, sum(store.written)
        await at(11)
        late = store.opened, sum(store.written), tier.problem
        await tier.aclose()
        return early, late

    assert run(main) == ((1, 0), (2, 1, ""))


# --- programs that cancel every task that they find ----------------------------------


def others():
    """All tasks but the test's own."""
    return asyncio.all_tasks() - {asyncio.current_task()}


def test_who_waits_for_a_look_up_that_is_cancelled_is_told_that_there_is_nothing():
    async def main():
        store = FakeStore(after=0.01)
        tier, told = bound(store), []
        tier.look_up(KEYS[0], lambda record: told.append((0, record)))
        await asyncio.sleep(0.005)
        tier.look_up(KEYS[1], lambda record: told.append((1, record)))
        for task in others():
            task.cancel()
        await asyncio.sleep(0.005)
        cancelled = list(told)
        tier.look_up(KEYS[2], lambda record: told.append((2, record)))
        await asyncio.sleep(0.1)
        await tier.aclose()
        return cancelled, told[2:], store.fetched

    assert run(main) == ([(0, None), (1, None)], [(2, None)], [KEYS[2:3]])


def test_what_was_being_written_is_written_after_all():
    async def main():
        store = FakeStore()
        tier = bound(store)
        await tier.opened()
        store.after = 0.1
        tier.learnt(entry())
        await asyncio.sleep(behind.WRITE_DELAY + 0.05)
        for task in others():
            task.cancel()
        await asyncio.sleep(1)
        tier.learnt(entry("other.example.com"))
        await asyncio.sleep(1)
        written = sum(store.written)
        await tier.aclose()
        return written

    assert run(main) == 2


def test_a_store_that_is_away_is_opened_again():
    async def main():
        store = FakeStore()
        tier, told = bound(store), []
        store.problem = "away"
        tier.look_up(KEYS[0], told.append)
        await asyncio.sleep(0.1)
        for task in others():
            task.cancel()
        await asyncio.sleep(0.1)
        store.problem = ""
        looks = tier.may_have(KEYS[0])
        tier.look_up(KEYS[0], told.append)
        await asyncio.sleep(0.1)
        await tier.aclose()
        return looks, tier.problem, store.fetched

    assert run(main) == (True, "", [KEYS[:1]])


def test_a_store_that_was_away_at_the_end_is_looked_into_again_afterwards():
    async def main():
        store, found = FakeStore(), []
        tier = bound(store)
        for leave in (tier.aclose, lambda: asyncio.sleep(0)):  # or its loop has ended
            store.problem = "away"
            tier.look_up(KEYS[0], lambda _: None)
            await asyncio.sleep(0.1)
            store.problem = ""
            opener = tier._opener
            await leave()
            tier._loop = None  # another loop's
            tier.bind(VirtualLoop.running())
            found.append(tier.may_have(KEYS[0]))
            if not opener.done():
                opener.cancel()
        await tier.aclose()
        return found

    assert run(main) == [True, True]
