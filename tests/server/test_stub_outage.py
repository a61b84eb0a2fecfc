"""A stub while nsd is stopped; bench/outage.py is the same for a minute, and faster."""

from __future__ import annotations

import pytest
from outage import NAMES, Load, Outage, Reply, share, suffer

pytestmark = pytest.mark.servers


def test_warm_names_outlive_an_authority_that_was_stopped(lab):
    """200 queries/s for 15 s: no name that was known fails, and none is asked twice."""
    outage = suffer(lab, rate=200, seconds=15)
    load = outage.load
    assert (load.failed, load.drops) == (0, 0)
    assert load.sent >= 2900
    assert set(outage.flights) == set(NAMES)
    assert outage.most_flights() == 1
    settled = outage.settled()
    assert len(settled) > load.sent / 3
    assert all(reply.stale for reply in settled)
    took = [reply.took for reply in settled]
    assert share(took, 0.8) < 0.2  # 10 ms; a stub without a CPU for 3 s is as late
    assert max(reply.took for reply in load.replies) < 4  # 1.8 s, the first time


def test_a_failure_is_seen():
    """What is measured above would tell."""
    load = Load(0, NAMES, sent=3)
    load.replies = [
        Reply("a", 0.0, 0.1, good=True, stale=True),
        Reply("a", 1.0, 0.1, good=False, stale=False),
    ]
    load.pending[2] = ("a", 2.0)
    assert load.failed == 2
    outage = Outage(load, {"a": [0.5, 31.0], "b": [1.0, 30.1, 60.0]}, 0.0, 60.0)
    assert outage.most_flights() == 1
    assert outage.settled() == load.replies[1:]
    outage.flights["b"] = [1.0, 29.0]
    assert outage.most_flights() == 2
    assert share([3, 1, 2], 0.99) == 3
