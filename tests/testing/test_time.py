"""Virtual time: exact, instant, and never hanging."""

import asyncio
import time

import pytest

from resolverkit.testing import VirtualLoop, run


def test_a_day_of_timers_takes_no_time():
    async def main():
        loop = VirtualLoop.running()
        for _ in range(1_440):
            await asyncio.sleep(60)
        return loop.time()

    began = time.perf_counter()
    assert run(main) == 1000 + 86_400
    assert time.perf_counter() - began < 5  # tenfold margin


def test_timers_fire_in_order_and_at_their_times():
    fired = []

    async def main():
        loop = VirtualLoop.running()
        for delay in (1.8, 0.15, 30.0, 0.0):
            loop.call_later(delay, lambda: fired.append(round(loop.time(), 9)))
        await asyncio.sleep(31)

    run(main, start=500.0)
    assert fired == [500.0, 500.15, 501.8, 530.0]


def test_a_timeout_ends_at_its_time():
    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.5):
                await asyncio.Event().wait()
        return VirtualLoop.running().time()

    assert run(main()) == 1002.5


def test_the_result_and_the_exception_come_through():
    async def gives():
        return 42

    async def raises():
        raise ValueError("mine")

    assert run(gives) == 42
    assert run(gives()) == 42
    with pytest.raises(ValueError, match="mine"):
        run(raises)


@pytest.mark.untidy("the task that waits for ever is what it is about")
def test_a_deadlock_is_told_and_not_waited_for():
    ended = []

    async def stuck():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def main():
        await stuck()

    with pytest.raises(RuntimeError, match=r"nothing will ever happen.*main"):
        run(main)
    assert ended == [True]


def test_ready_io_goes_before_timers():
    async def main():
        loop = VirtualLoop.running()
        order = []
        loop.call_later(1, order.append, "timer")
        # Wakes the loop through its self-pipe: I/O that is ready at once.
        loop.call_soon_threadsafe(order.append, "io")
        await asyncio.sleep(2)
        return order

    assert run(main) == ["io", "timer"]


def test_the_clock_moves_with_the_loop_and_counts_suspend():
    async def main():
        loop = VirtualLoop.running()
        began = loop.clock()
        assert began != loop.time()
        await asyncio.sleep(5)
        assert loop.clock() - began == 5
        loop.suspend(3600)
        assert loop.clock() - began == 3605
        return loop.time()

    assert run(main) == 1005


def test_threads_take_no_virtual_time():
    async def main():
        loop = VirtualLoop.running()
        job = loop.run_in_executor(None, time.sleep, 0.05)
        loop.call_later(1, lambda: None)
        await job
        return loop.time()

    assert run(main) == 1000


def test_the_running_loop_must_be_a_virtual_one():
    async def main():
        VirtualLoop.running()

    with pytest.raises(TypeError, match="no virtual time"):
        asyncio.run(main())
