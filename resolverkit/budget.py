"""A limit of time for which a busy loop counts for little.

A thousand questions at once keep the loop from what it waits for longer than that may
take by itself. So the time is counted in parts, and a part that the loop is late for
counts as one.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

SLICES = 10
"""Parts of a budget: each counts as no longer, however late the loop is."""


class Budget:
    """Ends what a task awaits in its ``with`` block with TimeoutError once it is spent.

    Args:
        seconds: that this may take.
    """

    _task: asyncio.Task[object]
    _timer: asyncio.TimerHandle

    def __init__(self, seconds: float) -> None:
        self._part = seconds / SLICES
        self._left = SLICES

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._timer = task.get_loop().call_later(self._part, self._count)
        return self

    def _count(self) -> None:
        """One more part is spent; after the last the task is ended."""
        self._left -= 1
        if self._left:
            self._timer = self._task.get_loop().call_later(self._part, self._count)
        else:
            self._task.cancel()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        if self._left:
            return
        # Whether or not what was awaited has let the cancellation through.
        others = self._task.uncancel()
        if kind is asyncio.CancelledError and not others:
            raise TimeoutError from None
