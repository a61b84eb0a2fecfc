"""Virtual time: an event loop that waits for nothing.

Timers fire in their order and at their times, to the nanosecond, but no time passes in
between: when nothing is ready, the loop's time jumps to the next timer. A day of timers
takes a fraction of a second, and a test can say who was asked when, exactly::

    from resolverkit.testing import VirtualLoop, run

    async def main():
        loop = VirtualLoop.running()
        await asyncio.sleep(86_400)
        assert loop.time() == 87_400

    run(main)

Real sockets are polled but never waited for, so they have no place in such a test.
Work in threads (``run_in_executor``) is waited for, and takes no virtual time.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Executor

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

START = 1000.0
"""Loop time (seconds) at which a virtual loop starts: not 0, which hides mistakes."""
CLOCK_OFFSET = 10_000.0
"""Seconds by which `VirtualLoop.clock` is ahead of the loop, which shows code that
compares one with the other."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time advances only when nothing is ready.

    When there is no callback, no timer and no thread to wait for, nothing will ever
    happen again; the loop then raises RuntimeError in place of hanging.

    Args:
        start: loop time at which it starts (seconds).
    """

    def __init__(self, start: float = START) -> None:
        self._now = start
        self._offset = CLOCK_OFFSET
        self._threads = 0
        super().__init__(_JumpingSelector(self))

    @staticmethod
    def running() -> VirtualLoop:
        """The running loop, which must be a virtual one.

        Raises:
            TypeError: it is another kind of loop.
            RuntimeError: none runs.
        """
        loop = asyncio.get_running_loop()
        if not isinstance(loop, VirtualLoop):
            raise TypeError(f"{loop!r} has no virtual time: use testing.run()")
        return loop

    def time(self) -> float:
        """Virtual seconds."""
        return self._now

    def clock(self) -> float:
        """Seconds for ``Resolver(clock=loop.clock)``: moves with the loop's time."""
        return self._now + self._offset

    def suspend(self, seconds: float) -> None:
        """Have the machine sleep: the clock goes on meanwhile, and timers do not.

        Args:
            seconds: how long it sleeps.
        """
        self._offset += seconds

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*_Ts], _T], *args: *_Ts
    ) -> asyncio.Future[_T]:
        """Run `func` in a thread; virtual time stands still until it is done."""
        future = super().run_in_executor(executor, func, *args)
        self._threads += 1
        future.add_done_callback(self._thread_done)
        return future

    def _thread_done(self, _: asyncio.Future[Any]) -> None:
        self._threads -= 1

    async def shutdown_default_executor(self, *args: Any) -> None:
        """Join the executor's threads, which happens in a thread of its own."""
        self._threads += 1
        try:
            await super().shutdown_default_executor(*args)
        finally:
            self._threads -= 1

    def _idle(self, timeout: float | None) -> None:
        """Nothing is ready: go to the next timer, `timeout` seconds away."""
        if timeout is None:
            waiting = ", ".join(sorted(map(_describe, asyncio.all_tasks(self))))
            raise RuntimeError(
                "deadlock: nothing will ever happen, for no callback is ready and no "
                f"timer runs; waiting for ever: {waiting or 'no task'}"
            )
        self._now += timeout


class _JumpingSelector(selectors.DefaultSelector):
    """Polls; where the loop would sleep, it has the loop's time jump."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(
        self, timeout: float | None = None
    ) -> list[tuple[selectors.SelectorKey, int]]:
        sleeps = timeout is None or timeout > 0
        if sleeps and self._loop._threads:
            return super().select(None)  # a thread that ends wakes the loop
        events = super().select(0)
        if sleeps and not events:
            self._loop._idle(timeout)
        return events


def _describe(task: asyncio.Task[Any]) -> str:
    stack = task.get_stack(limit=1)
    if not stack:
        return task.get_name()
    code = stack[-1].f_code
    return f"{task.get_name()} in {code.co_qualname} line {stack[-1].f_lineno}"


def run(
    main: Coroutine[Any, Any, _T] | Callable[[], Coroutine[Any, Any, _T]],
    *,
    start: float = START,
) -> _T:
    """Run a coroutine to its end under virtual time.

    Args:
        main: a coroutine, or a coroutine function without arguments.
        start: loop time at which it starts (seconds).

    Returns:
        What it returns.

    Raises:
        RuntimeError: it waits for something that will never happen.
    """
    coroutine = main() if callable(main) else main
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(start)) as runner:
        return runner.run(coroutine)
