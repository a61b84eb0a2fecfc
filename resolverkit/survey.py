"""What a survey comes to: what every vantage said on one question, and the comparison.

`resolverkit.vantages` takes one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resolverkit.comparison import Verdict
from resolverkit.model import Outcome, ede_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolverkit.model import Ede, Question

_DENIALS = frozenset({Outcome.NODATA, Outcome.NXDOMAIN, Outcome.YXDOMAIN})


@dataclass(frozen=True, slots=True)
class Vantage:
    """What one vantage says.

    Attributes:
        name: the upstream's URL.
        operator: who runs it; empty where nobody knows.
        transport: ``"udp"``, ``"tcp"``, ``"dot"``, ``"doh"``.
        address: the address that was asked, where it is known.
        outcome: how the (first) question to it ended.
        rcode: the response code, None where no reply came.
        ttl: seconds for which the reply may be called fresh, None where none came.
        records: its data in text, sorted; of both times where it was asked twice.
        cname: the name at the end of its aliases; empty where there are none.
        ede: extended DNS errors of the reply.
        elapsed: seconds until the outcome.
        detail: what went wrong, in words.
        verdict: what the comparison says of it.
    """

    name: str
    operator: str
    transport: str
    address: str
    outcome: Outcome
    rcode: str | None
    ttl: int | None
    records: tuple[str, ...]
    cname: str
    ede: tuple[Ede, ...]
    elapsed: float
    detail: str
    verdict: Verdict

    @property
    def answered(self) -> bool:
        """Whether it had something conclusive to say."""
        return self.ttl is not None

    @property
    def who(self) -> str:
        """Its name, and its operator if that is known."""
        return f"{self.name} ({self.operator})" if self.operator else self.name

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values; times in milliseconds."""
        return {
            "upstream": self.name,
            "operator": self.operator,
            "transport": self.transport,
            "address": self.address,
            "outcome": str(self.outcome),
            "rcode": self.rcode,
            "ttl": self.ttl,
            "records": list(self.records),
            "cname": self.cname,
            "ede": [{"code": code, "text": text} for code, text in self.ede],
            "elapsed_ms": round(self.elapsed * 1000, 3),
            "detail": self.detail,
            "verdict": str(self.verdict),
        }

    def __str__(self) -> str:
        told = ", ".join(self.records) or self.detail or str(self.outcome)
        via = f" by {self.cname}" if self.cname else ""
        ede = "".join(f", EDE {ede_text(ede)}" for ede in self.ede)
        took = f"{self.elapsed * 1000:.1f} ms"
        return f"{self.who}: {told}{via}{ede}, in {took}: {self.verdict}"


@dataclass(frozen=True, slots=True)
class Survey:
    """What every vantage says on one question, and what that comes to.

    ``str()`` is the sentence with a line for each vantage, `to_dict` is JSON-ready.

    Attributes:
        question: what was asked.
        vantages: what each said, in the order in which they were given; none where the
            name never leaves the machine.
        verdict: of all: ``"agree"``, ``"differ as CDNs do"``, ``"denies"``,
            ``"filters"`` and ``"lies alone"`` where one or several do, ``"unknown"``.
        sentence: the verdict for people, with who it is about.
        rounds: how often they were asked: twice where one stood alone.
    """

    question: Question
    vantages: tuple[Vantage, ...]
    verdict: Verdict
    sentence: str
    rounds: int = 1

    @property
    def answered(self) -> tuple[Vantage, ...]:
        """The vantages that had something conclusive to say."""
        return tuple(vantage for vantage in self.vantages if vantage.answered)

    @property
    def operators(self) -> int:
        """How many operators answered."""
        return len({vantage.operator or vantage.name for vantage in self.answered})

    @property
    def denied(self) -> bool:
        """Whether all who answered deny it."""
        outcomes = {vantage.outcome for vantage in self.answered}
        return bool(outcomes) and outcomes <= _DENIALS

    def to_dict(self) -> dict[str, Any]:
        """The survey as JSON-ready values."""
        name, _, rdtype = str(self.question).rpartition(" ")
        return {
            "name": name,
            "type": rdtype,
            "verdict": str(self.verdict),
            "sentence": self.sentence,
            "rounds": self.rounds,
            "vantages": [vantage.to_dict() for vantage in self.vantages],
        }

    def __str__(self) -> str:
        return "\n".join(
            [f"{self.question}: {self.sentence}", *map(str, self.vantages)]
        )


def local_survey(question: Question, why: str) -> Survey:
    """The survey of a name that nobody is asked for."""
    return Survey(question, (), Verdict.UNKNOWN, why, 0)


_SENTENCES = {  # of one, and of several
    Verdict.DENIES: ("denies it, others do not", "deny it, others do not"),
    Verdict.FILTERS: ("filters it", "filter it"),
    Verdict.LIES: (
        "lies alone, with nothing in common with the others",
        "lie alone, with nothing in common with the others",
    ),
}


def sentence(verdict: Verdict, vantages: Sequence[Vantage]) -> str:
    """A verdict for people, with who it is about."""
    answered = [vantage for vantage in vantages if vantage.answered]
    silent = len(vantages) - len(answered)
    rest = f"; {silent} of {len(vantages)} did not answer" if silent else ""
    if not answered:
        return f"none of {len(vantages)} vantages answered"
    if verdict in _SENTENCES:
        singled = [vantage for vantage in answered if vantage.verdict is verdict]
        who = ", ".join(vantage.who for vantage in singled)
        what = _SENTENCES[verdict][len(singled) > 1]
        return f"{len(singled)} of {len(answered)} {what}: {who}{rest}"
    if verdict is Verdict.UNKNOWN:
        return _undecided(answered) + rest
    if verdict is Verdict.AGREE and answered[0].outcome in _DENIALS:
        return f"all {len(answered)} deny it: {answered[0].outcome}{rest}"
    return f"all {len(answered)} {verdict}{rest}"


def _undecided(answered: Sequence[Vantage]) -> str:
    operators = {vantage.operator or vantage.name for vantage in answered}
    if len(operators) > 1:
        return "they have different data, and nobody can tell which is right"
    (operator,) = operators
    return f"there is nothing to compare: only {operator} answered"
