"""Counts of the last hour, in slots of ten seconds.

Pure: `now` is an argument. What is put in are totals, read whenever somebody looks;
what is kept are their differences, so that a counter may begin anew (a Resolver with
other options) and costs nothing where it counts.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

SLOT = 10.0
"""Seconds that are counted together."""
SLOTS = 360
"""Slots that are kept: an hour."""


class History:
    """Differences of some counters, slot by slot.

    Args:
        fields: names of the counters.
        slots: that are kept.
        slot: seconds of each.
    """

    def __init__(
        self, fields: Sequence[str], slots: int = SLOTS, slot: float = SLOT
    ) -> None:
        self.fields: tuple[str, ...] = tuple(fields)
        self.slot = slot
        self._slots = slots
        self._kept: deque[tuple[int, list[int]]] = deque(maxlen=slots)
        self._last: tuple[int, ...] | None = None

    def add(self, now: float, totals: Sequence[int]) -> None:
        """Take in what the counters say; the first time is where counting begins.

        Args:
            now: seconds on a clock that never goes back.
            totals: one for each field.
        """
        last, self._last = self._last, tuple(totals)
        if last is None:
            last = self._last
        number = int(now // self.slot)
        if not self._kept or self._kept[-1][0] != number:
            self._kept.append((number, [0] * len(self.fields)))
        counts = self._kept[-1][1]
        for i, (before, total) in enumerate(zip(last, totals, strict=True)):
            counts[i] += total - before if total >= before else total

    def counts(self, now: float) -> list[list[int]]:
        """The slots from the first that is known to the one of `now`, oldest first."""
        number = int(now // self.slot)
        known = {n: counts for n, counts in self._kept if n > number - self._slots}
        empty = [0] * len(self.fields)
        return [
            list(known.get(n, empty))
            for n in range(min(known, default=number), number + 1)
        ]

    def total(self, now: float, slots: int = SLOTS) -> dict[str, int]:
        """The sum over the last slots, by field."""
        columns = zip(*self.counts(now)[-slots:], strict=True)
        return dict(zip(self.fields, map(sum, columns), strict=True))
