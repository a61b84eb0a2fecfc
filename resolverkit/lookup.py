"""The addresses of a host, as `getaddrinfo` looks them up.

- The hosts file comes first, as in ``hosts: files dns``.
- The search list is used as libc does (resolver(5)), which goes on after a name without
  addresses and after a failure, where `Resolver.resolve` does not.
- A and AAAA are asked for at once. When A is there, AAAA has 50 ms left (RFC 8305
  section 3); A is waited for, since a host that only looks as if it had IPv6 needs it.
"""

from __future__ import annotations

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, NamedTuple

import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver

from resolverkit import errors
from resolverkit.hosts import HostsFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from resolverkit.addresses import Address
    from resolverkit.answer import Answer
    from resolverkit.model import AnswerPath
    from resolverkit.resolver import Resolver

RESOLUTION_DELAY = 0.05
"""Seconds that AAAA may come after A (RFC 8305 section 3)."""

_MESSAGES = {
    socket.EAI_NONAME: "Name or service not known",
    socket.EAI_AGAIN: "Temporary failure in name resolution",
    socket.EAI_NODATA: "No address associated with hostname",
}
_MOST_TOLD = (socket.EAI_NODATA, socket.EAI_AGAIN, socket.EAI_NONAME)
_TYPES = {socket.AF_INET: dns.rdatatype.A, socket.AF_INET6: dns.rdatatype.AAAA}

hosts: HostsFile = HostsFile()
"""The system's."""


class Host(NamedTuple):
    """What is known of a host.

    Attributes:
        name: its canonical name.
        aliases: its other names, as far as they came up.
        addresses: of it, in no order.
        paths: how the answers came to be; none where the hosts file had it.
    """

    name: str
    aliases: tuple[str, ...]
    addresses: tuple[Address, ...]
    paths: tuple[AnswerPath, ...] = ()


async def look_up(
    resolver: Resolver,
    name: str,
    families: Sequence[int],
    *,
    refresh: bool = False,
) -> Host:
    """What is known of a host, by the hosts file or by upstreams.

    Args:
        resolver: who asks them.
        name: of the host, which is no address.
        families: which addresses, AF_INET and AF_INET6.
        refresh: only what upstreams say now will do.

    Raises:
        socket.gaierror: there is none; from what the resolver raised.
    """
    known = hosts.find(name)
    if known is not None:
        addresses = tuple(
            address
            for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6))
            if family in families
            for address in known.of(version, alone=len(families) == 1)
        )
        if addresses:
            return Host(known.name, tuple(known.aliases), addresses)
    return await _search(resolver, name, families, refresh=refresh)


class _Trial:
    """What became of one candidate of the search list."""

    def __init__(self, results: Iterable[Answer | Exception | None]) -> None:
        results = list(results)
        self.answers = [r for r in results if isinstance(r, dns.resolver.Answer)]
        self.found = [answer for answer in self.answers if answer.rrset is not None]
        self.errors = [r for r in results if isinstance(r, Exception)]
        denied = dns.resolver.NXDOMAIN
        self.failures = [e for e in self.errors if not isinstance(e, denied)]

    def explain(self) -> tuple[int, BaseException | None]:
        """The code of a gaierror and its cause."""
        if self.failures:
            return socket.EAI_AGAIN, self.failures[0]
        if self.answers:
            answer = self.answers[0]
            return socket.EAI_NODATA, errors.NoAnswer(
                answer.path, response=answer.response
            )
        return socket.EAI_NONAME, self.errors[0] if self.errors else None


async def _search(
    resolver: Resolver, name: str, families: Sequence[int], *, refresh: bool
) -> Host:
    loop = asyncio.get_running_loop()
    until = loop.time() + resolver.lifetime
    trials: list[_Trial] = []
    for candidate in _candidates(resolver, name):
        left = until - loop.time()
        if left <= 0:
            break
        results = await _ask(resolver, candidate, families, left, refresh=refresh)
        trial = _Trial(results)
        if trial.found:
            return _host(trial.found)
        trials.append(trial)
    raise _error(trials)


def _error(trials: Sequence[_Trial]) -> socket.gaierror:
    """As res_nsearch: what says most of a name, among those that were tried."""
    told = [trial.explain() for trial in trials] or [(socket.EAI_NONAME, None)]
    code, cause = min(told, key=lambda one: _MOST_TOLD.index(one[0]))
    error = socket.gaierror(code, _MESSAGES[code])
    error.__cause__ = cause
    return error


def _candidates(resolver: Resolver, name: str) -> list[str]:
    """The names to try; the one without a final dot is as the caller wrote it."""
    try:
        ascii_name = name.encode("idna").decode("ascii")
        written = dns.name.from_text(ascii_name, None)
        names = resolver._get_qnames_to_try(written, True)
    except (UnicodeError, dns.exception.DNSException):
        return []
    if written.is_absolute() or len(written) == 0:
        return [] if len(written) < 2 else [ascii_name]
    as_written = written.concatenate(dns.name.root)
    return [
        ascii_name if candidate == as_written else candidate.to_text()
        for candidate in names
    ]


async def _ask(
    resolver: Resolver,
    name: str,
    families: Sequence[int],
    lifetime: float,
    *,
    refresh: bool,
) -> list[Answer | Exception | None]:
    """What each family's question came to; None for one that was not waited for."""

    async def ask(family: int) -> Answer | Exception:
        try:
            return await resolver.resolve(
                name, _TYPES[socket.AddressFamily(family)], search=False,
                raise_on_no_answer=False, lifetime=lifetime, refresh=refresh,
                stale=False if refresh else None,
            )  # fmt: skip
        except (dns.exception.DNSException, errors.ResolverKitError) as error:
            return error

    if len(families) == 1:
        return [await ask(families[0])]
    tasks = [asyncio.ensure_future(ask(family)) for family in families]
    try:
        v4 = await tasks[0]
        found = isinstance(v4, dns.resolver.Answer) and v4.rrset is not None
        await asyncio.wait(tasks[1:], timeout=RESOLUTION_DELAY if found else None)
        return [v4, tasks[1].result() if tasks[1].done() else None]
    finally:
        for task in tasks:
            task.cancel()  # the caller's part; the flight goes on


def _host(answers: Sequence[Answer]) -> Host:
    first = answers[0]
    aliases: list[str] = []
    if first.canonical_name != first.qname:  # else there is no need to parse it
        chain = first.chaining_result.cnames
        aliases = [cname.name.to_text(omit_final_dot=True) for cname in chain]
    return Host(
        first.canonical_name.to_text(omit_final_dot=True),
        tuple(aliases),
        tuple(
            (IPv4Address if answer.rdtype == dns.rdatatype.A else IPv6Address)(
                rdata.address
            )
            for answer in answers
            for rdata in answer
        ),
        tuple(answer.path for answer in answers),
    )
