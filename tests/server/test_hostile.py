"""Clients that mean harm, a few of them; bench/hostile.py has them by the thousand."""

from __future__ import annotations

import os
import time

import hostile
import pytest
from authority import Authority
from outage import cpu
from served import LIMIT, Served, wait_for

GROWTH = 40  # MiB, of some 45
WORK = hostile.HOLD / 2  # seconds of CPU for those who only hold connections


@pytest.fixture(scope="module")
def served():
    with Authority() as authority, Served(
        "--listen", "127.0.0.1:0", "-u", authority.url, "--log-level", "warning",
        limit=10 * LIMIT,
    ) as served:  # fmt: skip
        yield served


@pytest.fixture
def suffer(served):
    """Attack the stub; it answers hits, keeps its memory, and is at rest afterwards.

    Gives the seconds of CPU that it took.
    """

    def suffer(attack, count):
        before = cpu(served)
        suffered = hostile.suffer(
            served.process.pid, served.port, attack, count, served.port
        )
        assert len(suffered.took) >= hostile.AFTER
        assert suffered.lost <= len(suffered.took) / 2  # for want of room in a buffer
        assert suffered.peak - suffered.before < GROWTH
        took = cpu(served) - before
        wait_for(lambda: rests(served))
        assert served.process.poll() is None
        assert served.lines == []
        return took

    return suffer


def rests(served):
    before = cpu(served)
    time.sleep(0.5)
    return cpu(served) - before < 0.1


def test_noise(suffer):
    suffer(hostile.noise, 50_000)


def test_connections_that_never_read(suffer):
    suffer(hostile.deaf, 50)


def test_connections_that_never_end_a_query(suffer):
    assert suffer(hostile.dribblers, 200) < WORK


def test_forged_origins(suffer):
    """Its own address, and port 53 of others: it does not talk to itself for ever."""
    if os.geteuid() != 0:
        pytest.skip("needs root, for a raw socket")
    suffer(hostile.forgers, 5000)
