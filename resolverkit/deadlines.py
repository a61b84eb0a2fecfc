"""Many deadlines on one timer: at times of their own, or all after the same delay.

A timer per question would cost more than sending it (`loop.call_later` 1.5 µs, an
entry here 0.1 µs), and nearly all of them are cancelled. Deadlines are mostly added in
the order in which they fall due, so a deque that is kept sorted serves: appending and
expiring are O(1), and one loop timer stands for its head.
"""

from __future__ import annotations

import bisect
import math
import time
from collections import deque
from contextvars import Context
from operator import attrgetter
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

_due = attrgetter("due")
_FEW = 64  # entries that are not worth looking through
_T = TypeVar("_T")


def clock_of(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """The loop's time; past asyncio's own method, which only calls this one."""
    where = getattr(loop.time, "__module__", "")  # a test may have set another
    return time.monotonic if where == "asyncio.base_events" else loop.time


class Due(Protocol):
    """What waits in a table: a Future may be its own entry.

    Attributes:
        due: loop time, seconds; it stays the same while the entry is in a table.
        waits: False once it need not be called.
    """

    @property
    def due(self) -> float: ...  # noqa: D102
    @property
    def waits(self) -> bool: ...  # noqa: D102

    def expire(self) -> None:
        """Its time has come."""


class Deadline:
    """An entry that calls `action`, unless it was cancelled."""

    __slots__ = ("action", "due", "waits")

    def __init__(self, due: float, action: Callable[[], None]) -> None:
        self.due: float = due
        self.waits: bool = True
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Let go of the action."""
        self.waits, self.action = False, None

    def expire(self) -> None:
        """Its time has come."""
        if self.action is not None:
            self.action()


class Deadlines:
    """Tells each entry once its time has come, on one loop."""

    __slots__ = ("_full", "_last", "_loop", "_queue", "_timer", "_timer_due")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: deque[Due] = deque()
        self._full = _FEW  # entries at which those that do not wait are let go
        self._last = math.inf  # when the last one is due; infinity where no timer runs
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0

    def add(self, due: float, action: Callable[[], None]) -> Deadline:
        """Have `action` called at `due` (loop time, seconds)."""
        entry = Deadline(due, action)
        self.push(entry)
        return entry

    def push(self, entry: Due) -> None:
        """Have `entry` told when it is due, if it still waits then."""
        due, queue = entry.due, self._queue
        queue.append(entry)
        if due >= self._last and len(queue) < self._full:  # as nearly all
            self._last = due
        else:
            self._place(queue.pop(), due)

    def _place(self, entry: Due, due: float) -> None:
        """Put `entry` where it belongs, and let go of what does not wait."""
        queue = self._queue
        if len(queue) + 1 >= self._full:  # no longer than twice what is live
            live = [known for known in queue if known.waits]
            queue.clear()
            queue.extend(live)
            self._full = 2 * len(queue) + _FEW
        if queue and due < queue[-1].due:
            bisect.insort(queue, entry, key=_due)
        else:
            queue.append(entry)
        self._last = queue[-1].due
        if self._timer is None or due < self._timer_due:
            self._arm(due)

    def _arm(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._expire, context=Context())
        self._timer_due = due

    def _expire(self) -> None:
        self._timer, self._last = None, math.inf
        queue, now = self._queue, self._loop.time()
        while queue and (queue[0].due <= now or not queue[0].waits):
            entry = queue.popleft()
            if entry.waits:
                entry.expire()
        if queue:
            self._arm(queue[0].due)  # in place of one that an action may have armed
            self._last = queue[-1].due

    def clear(self) -> None:
        """Forget every entry."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._queue.clear()
        self._last = math.inf


class Rounds:
    """Deadlines of what nearly always ends long before them: nobody writes them down.

    A round is made now and then among those who wait, wherever they are kept, and only
    who has to be told before the next one goes to the table. So one that ends earlier
    costs a comparison.

    Args:
        loop: where the timer runs.
        period: seconds from round to round, while anybody waits.
        table: where those go that are due before the next round.
        find: gives those who wait and are due by a time, and whether there are others;
            who is told already, or about to be, takes no harm from being found again.

    Attributes:
        next: loop time of the next round; in the past while there is none to come.
            Who is due after it need not be told of, if it is to come.
    """

    __slots__ = ("_find", "_loop", "_period", "_table", "_timer", "next")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        period: float,
        table: Deadlines,
        find: Callable[[float], tuple[list[Due], bool]],
    ) -> None:
        self._loop = loop
        self._period = period
        self._table = table
        self._find = find
        self._timer: asyncio.TimerHandle | None = None
        self.next: float = -math.inf

    def begin(self, now: float) -> None:
        """Somebody waits from `now` on; see to it that a round comes."""
        if self._timer is None:
            self.next = due = now + self._period
            self._timer = self._loop.call_at(due, self._look, context=Context())

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        found, others = self._find(now + self._period)
        if others or found:
            self.begin(now)
        else:
            self.next = -math.inf
        for entry in sorted(found, key=_due):
            self._table.push(entry)

    def clear(self) -> None:
        """Make no more rounds."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.next = -math.inf


class Timeouts(Generic[_T]):
    """Calls `expire` for each item that was added `delay` seconds ago.

    Items wait in a dict, which keeps the order in which they came, so that adding and
    discarding one costs next to nothing; the timer finds the oldest when it fires.

    Args:
        loop: where the timer runs.
        delay: seconds, the same for all.
        expire: called with an item whose time has come.
    """

    __slots__ = ("_delay", "_expire", "_loop", "_timer", "_waiting")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        delay: float,
        expire: Callable[[_T], None],
    ) -> None:
        self._loop = loop
        self._delay = delay
        self._expire = expire
        self._waiting: dict[_T, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, item: _T, now: float) -> None:
        """Start the time of `item`, which must be hashed by identity."""
        self._waiting[item] = due = now + self._delay
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._fire, context=Context())

    def discard(self, item: _T) -> None:
        """Forget `item`, whether or not it waits."""
        self._waiting.pop(item, None)

    def _fire(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._waiting:
            item, due = next(iter(self._waiting.items()))
            if due > now:
                if self._timer is None:
                    self._timer = self._loop.call_at(due, self._fire, context=Context())
                return
            del self._waiting[item]
            self._expire(item)

    def clear(self) -> None:
        """Forget every item."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._waiting.clear()
