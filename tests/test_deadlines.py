"""deadlines: many deadlines on one timer, in virtual time."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolverkit.deadlines import Deadline, Deadlines, Rounds, Timeouts, clock_of


class Timer:
    def __init__(self, when, callback):
        self._when, self.callback, self.cancelled = when, callback, False

    def when(self):
        return self._when

    def cancel(self):
        self.cancelled = True


class Loop:
    """As much of an event loop as Deadlines uses; `run` is what time does."""

    def __init__(self):
        self.now, self.timers, self.made = 0.0, [], 0

    def time(self):
        return self.now

    def call_at(self, when, callback, *, context):
        timer = Timer(when, callback)
        self.timers.append(timer)
        self.made += 1
        return timer

    def live(self):
        return [t for t in self.timers if not t.cancelled]

    def run(self, until):
        while due := [t for t in self.live() if t.when() <= until]:
            timer = min(due, key=Timer.when)
            self.timers.remove(timer)
            self.now = max(self.now, timer.when())
            timer.callback()
        self.now = until


@pytest.fixture
def loop():
    return Loop()


def test_one_timer_stands_for_all(loop):
    deadlines, fired = Deadlines(loop), []
    for i in range(1000):
        deadlines.add(2 + i / 1000, lambda i=i: fired.append((i, loop.now)))
    assert loop.made == 1
    loop.run(1.9)
    assert not fired
    loop.run(5)
    assert fired == [(i, 2 + i / 1000) for i in range(1000)]
    assert not loop.live()


def test_a_cancelled_one_is_not_called(loop):
    deadlines, fired = Deadlines(loop), []
    first = deadlines.add(1, lambda: fired.append(1))
    deadlines.add(2, lambda: fired.append(2))
    first.cancel()
    loop.run(3)
    assert fired == [2]


def test_what_is_over_is_let_go(loop):
    deadlines = Deadlines(loop)
    for i in range(1000):
        deadlines.add(float(i), int).cancel()
    assert len(deadlines._queue) <= 64


def test_what_waits_long_does_not_keep_what_is_over(loop):
    deadlines, fired = Deadlines(loop), []
    deadlines.add(1, lambda: fired.append(1))
    for i in range(1000):
        deadlines.add(2 + float(i), int).cancel()
        assert len(deadlines._queue) <= 66
    for i in range(500):
        deadlines.add(2000 + float(i), int)
    for i in range(2000):
        deadlines.add(3000 + float(i), int).cancel()
    assert len(deadlines._queue) <= 2 * 501 + 64
    loop.run(1)
    assert fired == [1]


def test_an_earlier_one_comes_first(loop):
    deadlines, fired = Deadlines(loop), []
    for due in (3, 1, 2, 1):
        deadlines.add(due, lambda due=due: fired.append((due, loop.now)))
    loop.run(9)
    assert fired == [(1, 1), (1, 1), (2, 2), (3, 3)]


def test_an_action_may_add_cancel_and_clear(loop):
    deadlines, fired = Deadlines(loop), []
    other = deadlines.add(1, lambda: fired.append("never"))

    def act():
        fired.append("act")
        other.cancel()
        deadlines.add(1, lambda: fired.append("at once"))
        deadlines.add(2, lambda: fired.append("later"))

    deadlines.add(0.5, act)
    loop.run(3)
    assert fired == ["act", "at once", "later"]
    deadlines.add(4, lambda: (fired.append("last"), deadlines.clear()))
    deadlines.add(4, lambda: fired.append("cleared"))
    loop.run(9)
    assert fired[3:] == ["last"]
    assert not loop.live()
    deadlines.add(10, lambda: fired.append("again"))
    loop.run(11)
    assert fired[4:] == ["again"]


def test_an_action_that_raises_does_not_keep_those_after_it_from_their_time(loop):
    deadlines, fired = Deadlines(loop), []
    deadlines.add(1, lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        loop.run(1)
    deadlines.add(2, lambda: fired.append(loop.now))
    loop.run(9)
    assert fired == [2]


def test_clear_leaves_no_timer(loop):
    deadlines = Deadlines(loop)
    deadlines.clear()
    deadlines.add(1, int)
    deadlines.clear()
    assert not loop.live()


@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.sampled_from(["add", "cancel", "run"])),
        max_size=60,
    )
)
def test_each_is_called_once_at_its_time_unless_cancelled(steps):
    loop = Loop()
    deadlines = Deadlines(loop)
    entries, fired, expected = [], {}, {}
    for number, (amount, what) in enumerate(steps):
        if what == "run":
            loop.run(loop.now + amount)
        elif what == "cancel" and entries:
            entry, of = entries[amount % len(entries)]
            entry.cancel()
            if of not in fired:
                expected.pop(of, None)
        else:
            due = loop.now + amount
            expected[number] = due

            def act(number=number):
                assert number not in fired
                fired[number] = loop.now

            entries.append((deadlines.add(due, act), number))
        assert len(loop.live()) <= 1
    loop.run(loop.now + 1000)
    assert fired == expected
    assert not deadlines._queue
    assert not loop.live()


def test_on_a_real_loop():
    async def main():
        loop = asyncio.get_running_loop()
        deadlines, done = Deadlines(loop), loop.create_future()
        start = loop.time()
        deadlines.add(start + 30, int)
        deadlines.add(start + 0.02, lambda: done.set_result(loop.time() - start))
        assert await done >= 0.019
        deadlines.clear()

    asyncio.run(main())


def test_the_clock_is_that_of_the_loop_whoever_has_set_it():
    loop = asyncio.new_event_loop()
    assert clock_of(loop) is time.monotonic
    loop.time = lambda: 5.0
    assert clock_of(loop)() == 5.0
    loop.close()


@given(
    st.lists(
        st.tuples(st.integers(0, 7), st.sampled_from(["add", "discard", "run"])),
        max_size=60,
    )
)
def test_timeouts_expire_after_the_delay_unless_discarded(steps):
    loop, fired, expected = Loop(), [], {}
    timeouts = Timeouts(loop, 5.0, lambda item: fired.append((item, loop.now)))
    for number, (amount, what) in enumerate(steps):
        if what == "run":
            loop.run(loop.now + amount)
        elif what == "add":
            timeouts.add(number, loop.now)
            expected[number] = loop.now + 5
        else:
            item = number - amount
            timeouts.discard(item)
            if expected.get(item, 0) > loop.now:
                del expected[item]
        assert len(loop.live()) <= 1
    loop.run(loop.now + 100)
    assert fired == list(expected.items())
    assert not loop.live()


def test_timeouts_may_be_added_and_cleared_while_they_expire(loop):
    fired = []

    def expire(item):
        fired.append((item, loop.now))
        if item == "a":
            timeouts.add("c", loop.now)
            timeouts.discard("b")
        else:
            timeouts.add("d", loop.now)
            timeouts.clear()

    timeouts = Timeouts(loop, 2.0, expire)
    timeouts.add("a", 0.0)
    timeouts.add("b", 0.0)
    loop.run(9)
    assert fired == [("a", 2), ("c", 4)]
    assert not loop.live()
    timeouts.clear()


class Kept:
    """Those who wait, and are told at their time if they still do."""

    def __init__(self, loop, period):
        self.loop, self.waiting, self.told = loop, {}, []
        self.table = Deadlines(loop)
        self.rounds = Rounds(loop, period, self.table, self.find)

    def find(self, until):
        found = [
            Deadline(due, lambda number=number, due=due: self.tell(number, due))
            for number, due in self.waiting.items()
            if due <= until
        ]
        return found, any(due > until for due in self.waiting.values())

    def tell(self, number, due):
        if self.waiting.pop(number, None) is not None:
            self.told.append((number, due, self.loop.now))

    def add(self, number, due):
        self.waiting[number] = due
        if self.rounds.next <= self.loop.now:
            self.rounds.begin(self.loop.now)
        if due <= self.rounds.next:
            self.table.add(due, lambda: self.tell(number, due))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "end", "run"]),
            st.integers(0, 12).map(lambda n: n / 4),
        ),
        max_size=60,
    )
)
def test_rounds_tell_each_who_still_waits_at_its_time(steps):
    loop = Loop()
    kept, expected = Kept(loop, 1.0), {}
    for number, (what, amount) in enumerate(steps):
        if what == "run":
            loop.run(loop.now + amount)
        elif what == "add":
            due = expected[number] = loop.now + amount
            kept.add(number, due)
        elif kept.waiting:
            ended = list(kept.waiting)[int(amount * 4) % len(kept.waiting)]
            del kept.waiting[ended], expected[ended]
    loop.run(loop.now + 100)
    assert sorted(kept.told) == [(n, due, due) for n, due in sorted(expected.items())]
    assert not loop.live()


def test_who_comes_late_is_told_in_the_next_round(loop):
    """As one may who was held up between looking at the clock and asking."""
    kept = Kept(loop, 1.0)
    kept.add(0, 10.0)
    loop.run(5)
    kept.waiting[1] = 4.5  # due before the round that was the last
    loop.run(6)
    assert kept.told == [(1, 4.5, 6.0)]


def test_rounds_are_made_while_somebody_waits(loop):
    kept = Kept(loop, 1.0)
    for number in range(100):
        kept.add(number, 10.0)
    assert loop.made == 1
    kept.waiting.clear()
    loop.run(50)
    assert loop.made == 1
    kept.add(0, 55.5)
    kept.rounds.clear()
    assert not loop.live()
