"""What a replay counts: a client's questions, and what became of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from statistics import median
from typing import Any


@dataclass(slots=True)
class Tally:
    """What became of a client's questions in some time.

    Attributes:
        asked: how many there were.
        answered: got the right addresses.
        wrong: were told that the name or its address does not exist, or another one.
        failed: got nothing, by the end of the lifetime or before.
        validated: of those answered, with data that an upstream has called validated.
        disputed: of those answered, although vantages disagreed.
        sources: where the answers came from.
        via: who gave those from upstreams.
        took: seconds until the answer, or the error.
        queries: what arrived at the upstreams.
    """

    asked: int = 0
    answered: int = 0
    wrong: int = 0
    failed: int = 0
    validated: int = 0
    disputed: int = 0
    sources: Counter[str] = field(default_factory=Counter)
    via: Counter[str] = field(default_factory=Counter)
    took: list[float] = field(default_factory=list)
    queries: int = 0

    @property
    def pending(self) -> int:
        """Questions that neither have an answer nor have failed."""
        return self.asked - len(self.took)

    @property
    def share(self) -> float:
        """Questions answered, of all: 0 to 1."""
        return self.answered / self.asked if self.asked else 0.0

    def add(self, other: Tally) -> None:
        """Count what another counted, too."""
        self.asked += other.asked
        self.answered += other.answered
        self.wrong += other.wrong
        self.failed += other.failed
        self.validated += other.validated
        self.disputed += other.disputed
        self.sources += other.sources
        self.via += other.via
        self.took += other.took
        self.queries += other.queries

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values; times in milliseconds."""
        took = [seconds * 1000 for seconds in self.took]
        return {
            "asked": self.asked,
            "answered": self.answered,
            "wrong": self.wrong,
            "failed": self.failed,
            "validated": self.validated,
            "disputed": self.disputed,
            "sources": dict(self.sources),
            "via": dict(self.via),
            "median_ms": round(median(took), 2) if took else None,
            "max_ms": round(max(took), 2) if took else None,
            "queries": self.queries,
        }


@dataclass(slots=True)
class Row:
    """One second of a replay: a tally for each client, by its label."""

    second: int
    phase: str
    tallies: dict[str, Tally]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        told = {label: tally.to_dict() for label, tally in self.tallies.items()}
        return {"second": self.second, "phase": self.phase, **told}
