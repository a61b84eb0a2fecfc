"""What an outage is made of, as data; `resolverkit.testing.outages` has real ones.

An `Outage` says what was the case (texts), and how it is replayed: the records of a
healthy day, the vantages that can be asked, the clients that ask them all the while,
and the phases, which say what the authority has and what is wrong with which vantage.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import dns.name
import dns.rdatatype

from resolverkit.policy import StalePolicy
from resolverkit.testing.authority import Authority
from resolverkit.testing.upstreams import LabUpstream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from resolverkit.config import Strategy
    from resolverkit.testing.faults import Fault
    from resolverkit.testing.forwarder import Outage as Silence
    from resolverkit.testing.records import EdeLike
    from resolverkit.testing.upstreams import Transport

Library: TypeAlias = Literal["dnspython", "resolverkit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vantage:
    """A public resolver of the replay; see `LabUpstream`.

    Attributes:
        transport: how it is asked.
        operator: who runs it.
        outage: what it does when the authority is gone.
        ede: extended DNS error of its SERVFAILs then.
        validates: it validates DNSSEC.
    """

    transport: Transport
    operator: str
    outage: Silence = "servfail"
    ede: EdeLike = None
    validates: bool = False

    def upstream(self, clock: Callable[[], float]) -> LabUpstream:
        """A server that is like that, with TTLs on this clock."""
        return LabUpstream(
            self.transport,
            operator=self.operator,
            outage=self.outage,
            ede=self.ede,
            validates=self.validates,
            clock=clock,
        )

    def __str__(self) -> str:
        return f"{self.operator} {self.transport}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A part of an outage.

    Attributes:
        name: what it is called in tables.
        seconds: how long it lasts in a replay.
        fast: how long in a fast one.
        outage: something is wrong in it.
        vanished: the authority cannot be reached by anybody.
        records: what the authority has in place of the records of a healthy day.
        faults: what is wrong with which vantage, by its name in the outage.
    """

    name: str
    seconds: float
    fast: float
    outage: bool = False
    vanished: bool = False
    records: tuple[str, ...] | None = None
    faults: Mapping[str, Fault] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A program that asks all the while.

    Attributes:
        label: what it is called in tables.
        library: what it asks with.
        vantages: whom it asks, by their names in the outage, in its order.
        setting: its configuration, in words, where it is not the default.
        strategy: of resolverkit.
        stale: policy of resolverkit.
        dnssec_ok: it asks with DO, without which nobody says AD.
        keeps: it is to lose no answer; a replay in which it does has failed.
    """

    label: str
    library: Library
    vantages: tuple[str, ...]
    setting: str = ""
    strategy: Strategy = "hedge"
    stale: StalePolicy = field(default_factory=StalePolicy)
    dnssec_ok: bool = False
    keeps: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """An outage: what is known of it, and how it is replayed.

    Attributes:
        name: what it is called on the command line.
        title: what failed, in a few words.
        when: date and duration.
        facts: what happened.
        sources: who says so.
        signature: what a stub saw.
        helps: what keeps a program going, and what of it is in the replay.
        limits: what none of it can do.
        replay: what the replay leaves out or makes up.
        records: what the authority has on a healthy day.
        names: what is asked for.
        vantages: who can be asked, by name.
        clients: who asks.
        phases: what happens, in order.
    """

    name: str
    title: str
    when: str
    facts: str
    sources: str
    signature: str
    helps: str
    limits: str
    replay: str
    records: tuple[str, ...]
    names: tuple[str, ...]
    vantages: Mapping[str, Vantage]
    clients: tuple[Client, ...]
    phases: tuple[Phase, ...]

    def to_dict(self) -> dict[str, str]:
        """What is known of it, JSON-ready."""
        told = (
            "name", "title", "when", "facts", "sources", "signature", "helps", "limits",
            "replay",
        )  # fmt: skip
        return {field: getattr(self, field) for field in told}

    def truth(self) -> dict[str, frozenset[str]]:
        """The addresses that each name has on a healthy day."""
        authority = Authority(self.records)
        found = {}
        for name in self.names:
            answer = authority.ask(dns.name.from_text(name), dns.rdatatype.A)
            assert answer is not None
            final = answer.answer[-1]
            found[name] = frozenset(rdata.address for rdata in final)
        return found
