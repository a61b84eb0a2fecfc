"""One client of a replay, with a mini-internet of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import dns.asyncresolver
import dns.flags
import dns.nameserver

from resolverkit.answer import Answer
from resolverkit.model import AnswerPath, Source
from resolverkit.resolver import Resolver
from resolverkit.testing.authority import Authority
from resolverkit.testing.faults import Fault
from resolverkit.testing.lab import Lab

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AsyncExitStack

    from resolverkit.testing.outage import Client, Outage, Phase
    from resolverkit.testing.upstreams import LabUpstream

_PLAIN_PATH = AnswerPath(Source.UPSTREAM)
"""What is told of answers of plain dnspython: it has no cache and no path."""


class Found(NamedTuple):
    """What an answer says, whichever library gave it."""

    addresses: frozenset[str]
    source: Source
    via: str
    validated: bool
    disputed: bool


class Side:
    """One client, and the mini-internet that it sees.

    Args:
        client: what it asks with, and whom.
        outage: where that is.
        clock: of all caches (seconds).
        lifetime: seconds that an answer may take.
    """

    def __init__(
        self,
        client: Client,
        outage: Outage,
        clock: Callable[[], float],
        lifetime: float,
    ) -> None:
        self.client = client
        self._outage = outage
        self._clock = clock
        self._lifetime = lifetime
        self._authority = Authority(outage.records)
        self._upstreams: dict[str, LabUpstream] = {
            name: outage.vantages[name].upstream(clock) for name in client.vantages
        }
        self._lab = Lab(self._authority, list(self._upstreams.values()))
        self._counted = 0
        self._resolver: dns.asyncresolver.Resolver

    async def start(self, stack: AsyncExitStack) -> None:
        """Start the servers and make the resolver; `stack` ends them."""
        await stack.enter_async_context(self._lab)
        if self.client.library == "resolverkit":
            self._resolver = await stack.enter_async_context(self._ours())
        else:
            self._resolver = self._plain()
        self._resolver.lifetime = self._lifetime
        if self.client.dnssec_ok:
            self._resolver.use_edns(0, dns.flags.DO, 1232)

    def set_up(self, phase: Phase) -> None:
        """Let the phase begin."""
        if phase.vanished:
            self._authority.vanish()
        else:
            self._authority.restore()
        self._authority.replace(
            self._outage.records if phase.records is None else phase.records
        )
        for name, upstream in self._upstreams.items():
            upstream.fault = phase.faults.get(name, Fault())

    def new_queries(self) -> int:
        """How many queries have arrived since this was called before."""
        total = sum(upstream.queries for upstream in self._upstreams.values())
        new, self._counted = total - self._counted, total
        return new

    async def ask(self, name: str) -> Found:
        """Have the client ask."""
        answer = await self._resolver.resolve(name)
        ports = {upstream.port: name for name, upstream in self._upstreams.items()}
        path = answer.path if isinstance(answer, Answer) else _PLAIN_PATH
        return Found(
            frozenset(rdata.address for rdata in answer),
            path.source,
            str(self._outage.vantages[ports[answer.port or 0]]),
            bool(answer.response.flags & dns.flags.AD),
            path.disputed,
        )

    def _ours(self) -> Resolver:
        return Resolver(
            self._lab.urls,
            configure=False,
            strategy=self.client.strategy,
            stale=self.client.stale,
            clock=self._clock,
        )

    def _plain(self) -> dns.asyncresolver.Resolver:
        """Plain dnspython over the transports that it has without extras."""
        plain = dns.asyncresolver.Resolver(configure=False)
        plain.nameservers = [
            dns.nameserver.Do53Nameserver("127.0.0.1", upstream.port)
            if upstream.transport == "udp"
            else dns.nameserver.DoTNameserver(
                "127.0.0.1", upstream.port, verify=str(self._lab.ca)
            )
            for upstream in self._upstreams.values()
        ]
        return plain
