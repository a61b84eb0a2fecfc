"""The counts of the last hour: slots, gaps, counters that begin anew."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from resolverkit.server.history import SLOT, SLOTS, History

FIELDS = ("fresh", "stale")


def test_differences_are_counted_in_the_slot_in_which_they_are_seen():
    history = History(FIELDS)
    history.add(1000.0, (5, 7))  # where counting begins
    history.add(1003.0, (6, 7))
    history.add(1010.0, (6, 9))
    history.add(1019.9, (8, 9))
    assert history.counts(1019.9) == [[1, 0], [2, 2]]
    assert history.counts(1035.0) == [[1, 0], [2, 2], [0, 0], [0, 0]]
    assert history.total(1019.9) == {"fresh": 3, "stale": 2}
    assert history.total(1019.9, 1) == {"fresh": 2, "stale": 2}


def test_time_in_which_nobody_looked_is_empty():
    history = History(FIELDS)
    history.add(0.0, (0, 0))
    history.add(35.0, (1, 1))
    assert history.counts(35.0) == [[0, 0], [0, 0], [0, 0], [1, 1]]


def test_a_counter_that_begins_anew_counts_from_zero():
    history = History(FIELDS)
    history.add(0.0, (100, 100))
    history.add(1.0, (3, 101))
    assert history.counts(1.0) == [[3, 1]]


def test_nothing_is_older_than_an_hour():
    history = History(FIELDS)
    history.add(0.0, (0, 0))
    history.add(1.0, (1, 0))
    assert len(history.counts(3599.0)) == SLOTS
    assert history.counts(3600.0) == [[0, 0]]
    assert History(FIELDS).counts(5.0) == [[0, 0]]


@given(
    st.lists(
        st.tuples(st.floats(0, 2 * SLOT * SLOTS), st.integers(0, 5)), max_size=2000
    )
)
def test_memory_is_bounded_and_no_count_is_lost(steps):
    history, now, total = History(["one"], slots=10), 0.0, 0
    history.add(now, [0])
    seen = []
    for seconds, count in steps:
        now, total = now + seconds, total + count
        history.add(now, [total])
        seen.append((int(now // SLOT), count))
    assert len(history._kept) <= 10
    lately = sum(count for slot, count in seen if slot > int(now // SLOT) - 10)
    assert history.total(now) == {"one": lately}
