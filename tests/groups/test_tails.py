"""What loss does to the slowest answers, and what it costs in queries: to the ms."""

from __future__ import annotations

import asyncio
import random

import pytest
from virtual import at, put, quick_answer

from resolverkit import Hedge
from resolverkit.testing import ScriptedUpstream, lost, run, silent

RTT = quick_answer(after=0.010)
LOST = lost(RTT, packets=1)
ASKED = 2_000


def lossy(name, loss, chance):
    """An upstream 10 ms away; of its first packets, or their replies, some are lost."""
    return ScriptedUpstream(
        name, lambda *_: LOST if chance.random() < loss else RTT, operator=name
    )


def ask(members, count=ASKED):
    """The waits of `count` questions in ms, one each 4 ms, after a second of them."""

    async def main():
        group = Hedge(members)
        waits, asking = [], set()

        async def one(keep):
            _, took = await put(group)
            if keep:
                waits.append(took)

        for i in range(250 + count):
            await at(i * 0.004)
            if i == 250:
                told = queries(members)
            asking.add(asyncio.ensure_future(one(i >= 250)))
        await asyncio.gather(*asking)
        delays = [child.health.delay * child.health.backoff for child in group.children]
        return sorted(waits), (queries(members) - told) / count, delays

    return run(main)


def queries(members):
    return sum(member.count + len(member.resent) for member in members)


def percentile(waits, part):
    return waits[int(len(waits) * part / 100)]


@pytest.mark.parametrize(
    ("loss", "p99", "most"), [(0.02, 25, 1.03), (0.1, 40, 1.15)], ids=["2 %", "10 %"]
)
def test_a_lost_packet_costs_one_hedge_delay_and_one_query(loss, p99, most):
    chance = random.Random(1)
    waits, each, delays = ask([lossy(name, loss, chance) for name in "abc"])
    assert len(waits) == ASKED  # nobody failed
    assert percentile(waits, 50) == 10
    assert percentile(waits, 99) <= p99
    assert percentile(waits, 99.9) <= 130
    assert 1 + loss / 2 < each <= most
    assert delays == pytest.approx([0.0145] * 3)  # 1.25 × 10 ms + 2 ms: as without loss


def test_one_of_three_that_is_dead_costs_nothing_after_the_first_second():
    chance = random.Random(1)
    dead = ScriptedUpstream("a", silent(), operator="a")
    waits, each, _ = ask([dead, lossy("b", 0, chance), lossy("c", 0, chance)])
    assert len(waits) == ASKED
    assert percentile(waits, 99) <= 24.5  # the round trip and the hedge delay
    assert each <= 1.05
