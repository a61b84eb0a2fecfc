"""One event loop in a thread of its own, for everybody who blocks.

It starts when it is first needed and ends with the process: connections are closed and
no thread keeps the interpreter from leaving. A process that forks has none afterwards,
and gets one of its own when it needs it. What was the parent's is neither used nor
closed in the child: its sockets, and the selector behind them, are the parent's still.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import concurrent.futures.thread  # noqa: TC003  its exit hook comes before ours
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_T = TypeVar("_T")

_TICK = 0.1 if os.name == "nt" else 1.0
"""Seconds between looks at whether the loop runs; on Windows Ctrl-C needs them."""
_PARKING = 1.0
"""Seconds that a fork waits for the loop to stand still."""
_ENDING = 5.0
"""Seconds that the process waits, at its end, for the loop to close what is open."""


class Background:
    """The loop, its thread, and how others have work done there."""

    def __init__(self) -> None:
        self.at_exit: list[Callable[[], Coroutine[Any, Any, object]]] = []
        self._inherited: list[object] = []
        self._stand_alone()

    def _stand_alone(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._forked = threading.Event()
        self._ended = asyncio.Event()
        self._begun: set[concurrent.futures.Future[Any]] = set()

    # --- work ------------------------------------------------------------------------

    @property
    def here(self) -> bool:
        """Whether the calling thread is the loop's own, which must not wait for it."""
        return threading.current_thread() is self._thread

    def owns(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether `loop` is this one."""
        return loop is self._loop

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Have a coroutine run on the loop, and wait for what it gives.

        Raises:
            RuntimeError: the loop itself asks, and would wait for ever.
        """
        if self.here:
            work.close()
            raise RuntimeError(
                "a blocking call on resolverkit's own loop, as from a hook, would wait "
                "for itself"
            )
        future = self.submit(work)
        loop = self._loop
        try:
            while True:
                with suppress(TimeoutError):  # it may be the coroutine's own
                    return future.result(_TICK)
                if future.done():
                    return future.result()
                if loop is None or loop.is_closed():
                    raise RuntimeError("resolverkit's loop ended before the answer")
        finally:
            future.cancel()  # where the wait was interrupted; flights go on
            del future  # it holds the error, whose traceback holds this frame

    def submit(self, work: Coroutine[Any, Any, _T]) -> concurrent.futures.Future[_T]:
        """Have a coroutine run on the loop; the Future is of what it gives."""
        return asyncio.run_coroutine_threadsafe(work, self._running())

    def call(self, function: Callable[..., _T], *args: Any) -> _T:
        """Have a function called on the loop, and wait for what it gives."""
        return function(*args) if self.here else self.run(_called(function, *args))

    def begin(self, work: Coroutine[Any, Any, object]) -> None:
        """Have a coroutine run on the loop, if that runs, and do not wait."""
        loop = self._loop
        if loop is None or loop.is_closed():
            work.close()
            return
        future = asyncio.run_coroutine_threadsafe(work, loop)
        self._begun.add(future)  # a loop knows its tasks only weakly
        future.add_done_callback(self._begun.discard)

    def call_soon(self, function: Callable[..., object], *args: Any) -> None:
        """Have a function called on the loop, if it runs, and do not wait."""
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # closed meanwhile
                loop.call_soon_threadsafe(function, *args)

    # --- lifetime --------------------------------------------------------------------

    def _running(self) -> asyncio.AbstractEventLoop:
        loop = self._loop
        if loop is None or loop.is_closed():
            with self._lock:
                loop = self._loop
                if loop is None or loop.is_closed():
                    loop = self._start()
        return loop

    def _start(self) -> asyncio.AbstractEventLoop:
        # Not the policy's: transports watch sockets, and a fork leaves this one alone.
        loop = asyncio.SelectorEventLoop()
        self._ended = asyncio.Event()
        thread = threading.Thread(
            target=_live, args=(loop, self._ended), name="resolverkit", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            loop.close()
            raise
        self._loop, self._thread = loop, thread
        return loop

    def settle(self) -> None:
        """The program ends, and threads can still be started: do what needs those."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            with suppress(Exception):
                self.run(self._settle())

    async def _settle(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_ENDING):
                await asyncio.gather(
                    *(work() for work in self.at_exit), return_exceptions=True
                )

    def end(self) -> None:
        """Close what is open, and the loop."""
        thread = self._thread
        if thread is not None and thread.is_alive():
            self.call_soon(self._ended.set)
            thread.join(_ENDING)

    # --- forks -----------------------------------------------------------------------

    def before_fork(self) -> None:
        """Have the loop stand still between two turns: no table is half made then."""
        self._lock.acquire()
        self._forked = forked = threading.Event()
        if self._loop is None or self._loop.is_closed() or self.here:
            return
        parked = threading.Event()

        def park() -> None:
            parked.set()
            forked.wait()

        self.call_soon(park)
        parked.wait(_PARKING)

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._forked.set()
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Begin anew."""
        self.keep((self._loop, self._thread))
        self._stand_alone()

    def keep(self, inherited: object) -> None:
        """Hold on to what is a parent's: to let go of it would close it."""
        self._inherited.append(inherited)


def _live(loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(_until(ended))  # and closes what is open, generators among it


async def _until(ended: asyncio.Event) -> None:
    await ended.wait()


async def _called(function: Callable[..., _T], *args: Any) -> _T:
    return function(*args)


background: Background = Background()
"""The one loop of this process."""

# Executors refuse work once the main thread has ended, which is before `atexit`.
getattr(threading, "_register_atexit", atexit.register)(background.settle)
atexit.register(background.end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=background.before_fork,
        after_in_parent=background.after_fork_in_parent,
        after_in_child=background.after_fork_in_child,
    )
