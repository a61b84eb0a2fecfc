"""What a Resolver's events say of an outage: names on stale, errors, ups and downs.

No I/O here. Everything is bounded: a flood of names pushes out the ones that nobody has
asked for the longest.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from resolverkit.hooks import Hook
from resolverkit.model import Outcome, Source, ede_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from resolverkit.model import AnswerPath, Attempt, Question

MAX_NAMES = 1000
"""Names on stale that are remembered, some 500 bytes each."""
MAX_UPSTREAMS = 256
"""Upstreams whose last error is remembered."""
MAX_CHANGES = 50
"""Ups and downs that are remembered."""
IDLE = 600.0
"""Seconds after which a name that nobody asks for is forgotten."""
RECENT = 30.0
"""Seconds for which an error may be why an upstream went down."""

_FAILED = frozenset({
    Outcome.FAILURE, Outcome.TIMEOUT, Outcome.NETWORK, Outcome.BAD_REPLY,
})  # fmt: skip
_SILENT = "silent while others answered"

_Key: TypeAlias = tuple[bytes, int]


@dataclass(slots=True)
class OldName:
    """A name that clients get stale or held data for.

    Attributes:
        question: as it was last asked.
        source: stale or held.
        since: when that began, on the clock of the Watch.
        learnt: when its data was learnt.
        asked: when it was last asked for.
        served: how often it was served.
        error: what the last attempt that failed has met.
        text: the question in words, once somebody has asked for them.
    """

    question: Question
    source: Source
    since: float
    learnt: float
    asked: float
    served: int = 0
    error: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What was wrong with an upstream when it last failed."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Change:
    """An upstream went down, or came back."""

    at: float
    upstream: str
    up: bool


class Watch(Hook):
    """Remembers what is going wrong; give it to a Resolver as its `hook`.

    Args:
        clock: seconds, on a clock that never goes back.

    Attributes:
        changes: of upstreams, the oldest first.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.changes: deque[Change] = deque(maxlen=MAX_CHANGES)
        self._names: OrderedDict[_Key, OldName] = OrderedDict()
        self._troubles: OrderedDict[str, Trouble] = OrderedDict()

    # --- what a Hook is told ---------------------------------------------------------

    def started(self, question: Question) -> None:
        """A question goes out: nothing is wrong with that."""

    def stale(self, question: Question, path: AnswerPath) -> None:
        """A client is given stale data."""
        self._serve(question, path)

    def held(self, question: Question, path: AnswerPath) -> None:
        """A client is given data that upstreams deny by now."""
        self._serve(question, path)

    def answered(self, question: Question, path: AnswerPath) -> None:
        """A name has fresh data again; a denial does not end what is held."""
        self._note(path.attempts)
        key = (question.wire_name, question.rdtype)
        name = self._names.get(key)
        if name is None or name.question.key != question.key:
            return
        denied = path.winner is None or path.winner.outcome is not Outcome.DATA
        if name.source is Source.STALE or not denied:
            del self._names[key]

    def failed(self, question: Question, path: AnswerPath) -> None:
        """All upstreams have failed for a name."""
        self._note(path.attempts)

    def upstream_down(self, upstream: str) -> None:
        """An upstream does not answer any more."""
        now = self.clock()
        self.changes.append(Change(now, upstream, up=False))
        known = self._troubles.get(upstream)
        if known is None or known.at < now - RECENT:
            self._fail(upstream, Trouble(now, _SILENT))

    def upstream_up(self, upstream: str) -> None:
        """It answers again."""
        self.changes.append(Change(self.clock(), upstream, up=True))

    def servers_changed(self, servers: Sequence[str]) -> None:
        """The system has other servers: those that are down will be told of."""

    # --- what it has seen ------------------------------------------------------------

    def names(self, still: Callable[[OldName], bool]) -> list[OldName]:
        """The names on stale and held data now, those on it for the longest first.

        Args:
            still: whether the cache has nothing better; who is not is forgotten.
        """
        now = self.clock()
        for key, name in list(self._names.items()):
            if now - name.asked > IDLE or not still(name):
                del self._names[key]
        return sorted(self._names.values(), key=lambda name: name.since)

    def trouble(self, upstream: str) -> Trouble | None:
        """The last error of an upstream."""
        return self._troubles.get(upstream)

    def _serve(self, question: Question, path: AnswerPath) -> None:
        now = self.clock()
        key = (question.wire_name, question.rdtype)
        name = self._names.get(key)
        if name is None or name.source is not path.source:
            learnt = now - path.age
            name = OldName(question, path.source, now, learnt, now)
            self._names[key] = name
            if len(self._names) > MAX_NAMES:
                self._names.popitem(last=False)
        self._names.move_to_end(key)
        name.question = question
        name.asked = now
        name.served += 1
        errors = [a for a in path.attempts if a.outcome in _FAILED]
        if errors:
            name.error = f"{errors[-1].upstream}: {_text(errors[-1])}"

    def _note(self, attempts: Iterable[Attempt]) -> None:
        for attempt in attempts:
            if attempt.outcome in _FAILED:
                self._fail(attempt.upstream, Trouble(self.clock(), _text(attempt)))

    def _fail(self, upstream: str, trouble: Trouble) -> None:
        self._troubles[upstream] = trouble
        self._troubles.move_to_end(upstream)
        if len(self._troubles) > MAX_UPSTREAMS:
            self._troubles.popitem(last=False)


def _text(attempt: Attempt) -> str:
    """What an attempt met; some of it is a server's, and may hold anything."""
    told = [attempt.detail or str(attempt.outcome)]
    if attempt.outcome is Outcome.FAILURE:
        told += [f"EDE {ede_text(ede)}" for ede in attempt.ede[:2]]
    text = ", ".join(told)
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
