"""One of several addresses: who is begun when, and who is closed (RFC 8305)."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from virtual import ms

from resolverkit.integrations.eyeballs import first
from resolverkit.testing import run


class Network:
    """Addresses by name: seconds until they connect, or an error after so many."""

    def __init__(self, **after):
        self.after = after
        self.begun = []
        self.closed = []
        self.cancelled = []

    async def connect(self, address):
        self.begun.append((address, ms()))
        seconds = self.after[address]
        try:
            await asyncio.sleep(abs(seconds))
        except asyncio.CancelledError:
            self.cancelled.append(address)
            raise
        if seconds < 0:
            raise OSError(address)
        return address

    async def close(self, address):
        self.closed.append(address)

    def race(self):
        async def main():
            try:
                found = await first(self.connect, list(self.after), self.close)
            except OSError as error:
                found = error
            return found, ms()

        return run(main)


def test_the_next_is_tried_after_250_ms():
    network = Network(a=10, b=0.1, c=0.1)
    assert network.race() == ("b", 350)
    assert network.begun == [("a", 0), ("b", 250)]
    assert network.cancelled == ["a"]


def test_the_next_is_tried_at_once_after_a_failure():
    network = Network(a=-0.01, b=0.02)
    assert network.race() == ("b", 30)


def test_the_first_may_still_win():
    network = Network(a=0.3, b=0.2)
    assert network.race() == ("a", 300)
    assert network.cancelled == ["b"]


def test_of_two_that_connect_in_one_moment_one_is_closed():
    network = Network(a=0.35, b=0.1)
    found, _ = network.race()
    assert {found, *network.closed, *network.cancelled} == {"a", "b"}


def test_the_last_error_is_told_when_all_have_failed():
    error, when = Network(a=-0.4, b=-0.05).race()
    assert isinstance(error, OSError)
    assert when == 400


def test_a_cancelled_race_leaves_nothing():
    network = Network(a=10, b=10)

    async def main():
        work = first(network.connect, ["a", "b"], network.close)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(work, 0.3)

    run(main)
    assert sorted(network.cancelled) == ["a", "b"]
