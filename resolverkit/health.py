"""How an upstream has been doing: SRTT, hedge delay, breaker, order.

Pure: `now` is an argument, on whatever clock the caller keeps to. One `Health` stands
for one transport in one group.

Two estimates are kept apart. SRTT orders upstreams, and everything moves it: replies,
failures, and being overtaken. The hedge delay comes from the times of replies alone, so
that losses never inflate it (an estimate that learns from losses waits ever longer
before it does something about them).
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

COLD_DELAY = 0.150
"""Seconds before the next upstream is asked while nothing is known."""
MIN_DELAY, MAX_DELAY = 0.010, 1.0
"""Bounds of the hedge delay in seconds; RFC 8305 section 5 has 10 ms as its floor."""
SAMPLES = 32
"""Successes that the delay is learnt from."""
BREAKER_FAILURES = 5
"""Failures in a row that open the breaker."""
DEMOTING_LOSSES = 3
"""Times overtaken in a row, without a byte received, that do the same."""
MIN_PAUSE, MAX_PAUSE = 1.0, 30.0
"""Seconds before an upstream that is down is probed; doubled by each failed probe."""

_GAIN = 1 / 8  # RFC 6298 section 2, for the mean
_HALF_LIFE = (
    60.0  # seconds: an idle upstream looks better with time, and is tried again
)
_UNCLEAR = 3  # resent questions in a row that show the delay to be too short
_BUSY = 0.05  # seconds within which there is no decay to speak of
_DOWN = 1e6  # seconds on top of the rank of one that is down: more than any SRTT
_RESORT_EVERY = 8  # successes between two sorts of the samples, once there are enough


class Health:
    """One upstream's record."""

    __slots__ = (
        "_learn_at", "_samples", "_unclear", "_updated", "answers", "backoff",
        "delay", "errors", "failures", "losses", "overtakes", "pause", "ranking",
        "retry_at", "srtt",
    )  # fmt: skip

    def __init__(self) -> None:
        self.srtt: float | None = None
        self.delay: float = COLD_DELAY
        # What the delay is multiplied by, while it is too short.
        self.backoff: float = 1.0
        self.failures: int = 0
        self.losses: int = 0
        self.retry_at: float | None = None  # None: closed; else down until then
        self.pause: float = MIN_PAUSE
        self._samples: deque[float] = deque(maxlen=SAMPLES)
        self._learn_at = 0  # how many answers it takes to learn the delay again
        self._unclear = 0
        self._updated = 0.0
        self.answers: int = 0  # these since the beginning
        self.errors: int = 0
        self.overtakes: int = 0
        self.ranking: Ranking | None = None  # where it has a place

    @property
    def down(self) -> bool:
        """Whether the breaker is open or half-open, or the upstream demoted."""
        return self.retry_at is not None

    def probe_due(self, now: float) -> bool:
        """Whether a down upstream should be asked again to see if it is back."""
        return self.retry_at is not None and now >= self.retry_at

    def succeeded(self, now: float, rtt: float, *, sample: bool = True) -> bool:
        """A reply came.

        Args:
            now: the time.
            rtt: seconds it took.
            sample: False where the question was sent more than once, so that nobody
                knows which one was answered (Karn's algorithm). Such times place an
                upstream that is new, and where all are such the delay is doubled (RFC
                6298 section 5.5): it may be shorter than any round trip.

        Returns:
            Whether the upstream had been down until now.
        """
        self.answers = answers = self.answers + 1
        if sample:
            mean = self.srtt
            self.srtt = rtt if mean is None else mean + (rtt - mean) * _GAIN
            self._updated = now
            self._samples.append(rtt)
            if answers >= self._learn_at:
                self._learn_delay()
        else:
            self._note_unclear(now, rtt)
        if self.retry_at is not None:
            return self.heard()
        if self.failures or self.losses:
            self.failures = self.losses = 0
        ranking = self.ranking
        if ranking is not None and ranking.first is not self:
            ranking.until = 0.0
        return False

    def _note_unclear(self, now: float, rtt: float) -> None:
        """A reply came, and nobody knows to which of several packets."""
        if self.srtt is None:
            self.srtt, self._updated = rtt, now
        self._unclear += 1
        self._learn_at = 0  # with the next that is clear
        if not self._samples or self._unclear >= _UNCLEAR:
            self.backoff = min(self.backoff * 2, MAX_DELAY / self.delay)

    def _learn_delay(self) -> None:
        """Look at the samples again: at each while they are few, or were unclear."""
        self.delay = hedge_delay(self._samples)
        many = len(self._samples) >= _RESORT_EVERY
        self._learn_at = self.answers + (_RESORT_EVERY if many else 1)
        self._unclear, self.backoff = 0, 1.0

    def heard(self) -> bool:
        """A byte came: whatever it said, the upstream is there."""
        self.failures = self.losses = 0
        ranking = self.ranking
        if ranking is not None and ranking.first is not self:
            ranking.until = 0.0
        if self.retry_at is None:
            return False
        self._moved()
        self.retry_at = None
        self.pause = MIN_PAUSE
        return True

    def failed(self, now: float, elapsed: float) -> bool:
        """Nothing usable came.

        Returns:
            Whether this took the upstream down.
        """
        self.failures += 1
        self._worsen(now, elapsed)
        return self._maybe_open(now, self.failures >= BREAKER_FAILURES)

    def overtaken(self, now: float, elapsed: float, *, silent: bool) -> bool:
        """An upstream that was asked later answered first.

        Args:
            now: the time.
            elapsed: seconds since this one was asked.
            silent: no byte has come from it since then.

        Returns:
            Whether this took the upstream down.
        """
        self.overtakes += 1
        self._worsen(now, elapsed)
        if not silent:
            return False
        self.losses += 1
        return self._maybe_open(now, self.losses >= DEMOTING_LOSSES)

    def probing(self, now: float) -> None:
        """A probe is on its way; the next one has to wait."""
        self._moved()
        self.retry_at = now + self.pause
        self.pause = min(self.pause * 2, MAX_PAUSE)

    def rank(self, now: float) -> float:
        """What upstreams are ordered by: decayed SRTT (s); unknown comes first."""
        if self.srtt is None:
            return 0.0
        idle = now - self._updated
        if idle < _BUSY:  # the power costs more than the rest
            return self.srtt
        return float(self.srtt * 0.5 ** (idle / _HALF_LIFE))

    def _worsen(self, now: float, elapsed: float) -> None:
        if self.srtt is None:
            self.srtt = elapsed
        elif elapsed > self.srtt:
            self.srtt += (elapsed - self.srtt) * _GAIN
        self._updated = now
        self._moved()

    def _moved(self) -> None:
        if self.ranking is not None:
            self.ranking.until = 0.0

    def _maybe_open(self, now: float, reached: bool) -> bool:
        if self.retry_at is not None or not reached:
            return False
        self.probing(now)
        return True


def hedge_delay(samples: Sequence[float] | deque[float]) -> float:
    """1.25 × the 95th percentile + 2 ms, within bounds (seconds)."""
    ordered = sorted(samples)
    p95 = ordered[max(0, -(-len(ordered) * 95 // 100) - 1)]
    return min(max(1.25 * p95 + 0.002, MIN_DELAY), MAX_DELAY)


class Ranking:
    """Some upstreams in order, looked at again only when that may have changed.

    While nothing but answers of the first move a record, the order is what it was as
    long as the first is no slower than the second, and decay is not to speak of.

    Args:
        records: of the upstreams.
        keep: never mind the SRTT; only those that are down come last.

    Attributes:
        indices: of the upstreams, the best first; those that are down come last.
        down: of those that are down.
        first: the record that comes first.
        second: the SRTT up to which it does.
        until: when it is looked at again.
    """

    __slots__ = ("_keep", "_records", "down", "first", "indices", "second", "until")

    def __init__(self, records: Sequence[Health], *, keep: bool) -> None:
        self._records = records
        self._keep = keep
        self.until: float = 0.0
        self.first: Health = records[0]
        self.second: float = math.inf
        self.indices: list[int] = []
        self.down: list[int] = []
        for record in records:
            record.ranking = self

    def holds(self, now: float) -> bool:
        """Whether it needs no `renew`."""
        if now >= self.until:
            return False
        srtt = self.first.srtt
        return srtt is None or srtt <= self.second

    def renew(self, now: float) -> None:
        """Look at all of them."""
        records = self._records
        self.down = [i for i, record in enumerate(records) if record.down]
        if self._keep:
            is_down = self.down.__contains__
            self.indices = sorted(range(len(records)), key=is_down)
        else:
            self.indices = order(records, now)
        self.first = records[self.indices[0]]
        self.second = math.inf
        if len(records) > 1 and not self._keep:
            second = records[self.indices[1]]
            self.second = second.rank(now) + (_DOWN if second.down else 0)
            if self.indices[0] > self.indices[1]:  # which comes first of equals
                self.second = math.nextafter(self.second, -math.inf)
        self.until = now if self.down else now + _BUSY


def order(records: Sequence[Health], now: float) -> list[int]:
    """Indices of upstreams, the best first; those that are down come last."""
    if len(records) == 1:
        return [0]
    ranks = []
    for record in records:
        rank, idle = record.srtt or 0.0, now - record._updated  # as `Health.rank`
        if idle >= _BUSY:
            rank *= 0.5 ** (idle / _HALF_LIFE)
        ranks.append(rank if record.retry_at is None else rank + _DOWN)
    return sorted(range(len(ranks)), key=ranks.__getitem__)
