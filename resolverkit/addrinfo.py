"""`socket.getaddrinfo` over a Resolver: same arguments, results and errors.

The system's own function does all that needs no name server: it checks the arguments,
reads numeric addresses with their scopes, and finds sockets and ports for services, so
that these are as they are on this system. What is done here is the rest:

- the hosts file comes first, as in ``hosts: files dns``;
- the search list is used as libc does (resolver(5)), which goes on after a name without
  addresses and after a failure, where `Resolver.resolve` does not;
- A and AAAA are asked for at once. When A is there, AAAA has 50 ms left (RFC 8305
  section 3); A is waited for, since a host that only looks as if it had IPv6 needs it;
- the order is that of RFC 6724.
"""

from __future__ import annotations

import _socket  # getaddrinfo as it was before anybody replaced it
import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver

from resolverkit import errors
from resolverkit.addresses import Address, order
from resolverkit.hosts import HostsFile
from resolverkit.model import Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from resolverkit.answer import Answer
    from resolverkit.model import AnswerPath
    from resolverkit.resolver import Resolver

SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]
Found: TypeAlias = tuple[
    socket.AddressFamily, socket.SocketKind, int, str, SocketAddress
]
"""One entry of the result: family, type, protocol, canonical name, address."""

RESOLUTION_DELAY = 0.05
"""Seconds that AAAA may come after A (RFC 8305 section 3)."""

_MESSAGES = {
    socket.EAI_NONAME: "Name or service not known",
    socket.EAI_AGAIN: "Temporary failure in name resolution",
    socket.EAI_NODATA: "No address associated with hostname",
}
_OLD = frozenset({Source.STALE, Source.HELD})
_MOST_TOLD = (socket.EAI_NODATA, socket.EAI_AGAIN, socket.EAI_NONAME)
_TYPES = {socket.AF_INET: dns.rdatatype.A, socket.AF_INET6: dns.rdatatype.AAAA}
_VERSIONS = {4: socket.AF_INET, 6: socket.AF_INET6}
_ANY_PORT = 53  # where a source address is looked for; nothing is sent

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


class Result(NamedTuple):
    """What `find` gives.

    Attributes:
        entries: as `getaddrinfo` gives them.
        paths: how the answers came to be; none where nobody was asked.
    """

    entries: list[Found]
    paths: tuple[AnswerPath, ...] = ()

    @property
    def expired(self) -> bool:
        """Whether an address may be out of date: if none connects, ask again."""
        return any(path.source in _OLD for path in self.paths)

    @property
    def addresses(self) -> list[str]:
        """As text with scopes, each once, in order."""
        return list(dict.fromkeys(with_scope(entry[4]) for entry in self.entries))

    def adds_to(self, other: Result) -> bool:
        """Whether there is an address here that `other` lacks."""
        return not set(self.addresses) <= set(other.addresses)


async def getaddrinfo(
    resolver: Resolver,
    host: bytes | str | None,
    port: bytes | str | int | None,
    family: int = 0,
    type: int = 0,  # noqa: A002  socket.getaddrinfo's name for it
    proto: int = 0,
    flags: int = 0,
) -> list[Found]:
    """See `Resolver.getaddrinfo`."""
    return (await find(resolver, host, port, family, type, proto, flags)).entries


async def find(
    resolver: Resolver,
    host: bytes | str | None,
    port: bytes | str | int | None,
    family: int = 0,
    type: int = 0,  # noqa: A002
    proto: int = 0,
    flags: int = 0,
    *,
    refresh: bool = False,
) -> Result:
    """The same, with the paths; `refresh` is for what upstreams say now, or nothing."""
    known = numeric(host, port, family, type, proto, flags)
    if known is not None:
        return Result(known)
    name = _text(host)
    sockets = _sockets(port, family, type, proto, flags)
    found = await look_up(resolver, name, _wanted(family, flags), refresh=refresh)
    addresses = found.addresses
    if family == socket.AF_INET6:
        addresses = tuple(_as_ipv6(addresses, flags))
    ordered = addresses if len(addresses) == 1 else order(addresses, source_of)
    canonical = found.name if flags & socket.AI_CANONNAME else ""
    entries = []
    for address in ordered:
        where = _VERSIONS[address.version]
        for kind, protocol, number in sockets:
            at = _address(address, number)
            entries.append((where, kind, protocol, canonical, at))
            canonical = ""  # only the first has it
    return Result(entries, found.paths)


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
            for version, family in _VERSIONS.items()
            if family in families
            for address in known.of(version, alone=len(families) == 1)
        )
        if addresses:
            return Host(known.name, tuple(known.aliases), addresses)
    return await _search(resolver, name, families, refresh=refresh)


# --- what the system does ------------------------------------------------------------


def numeric(
    host: bytes | str | None,
    port: bytes | str | int | None,
    family: int = 0,
    type: int = 0,  # noqa: A002
    proto: int = 0,
    flags: int = 0,
) -> list[Found] | None:
    """The result where no name has to be resolved; None where one has to be.

    Raises:
        socket.gaierror: it is an address that is wrong, or another argument is.
    """
    no_names = flags if host is None else flags | socket.AI_NUMERICHOST
    try:
        return _system(host, port, family, type, proto, no_names)
    except socket.gaierror as error:
        by_name = error.errno == socket.EAI_NONAME and host is not None
        if not by_name or flags & socket.AI_NUMERICHOST or ":" in _text(host):
            raise
    return None


def _system(*args: Any) -> list[Found]:
    entries: list[Any] = _socket.getaddrinfo(*args)
    return [
        (socket.AddressFamily(family), socket.SocketKind(kind), proto, name, address)
        for family, kind, proto, name, address in entries
    ]


def _sockets(
    port: bytes | str | int | None, family: int, *rest: int
) -> list[tuple[socket.SocketKind, int, int]]:
    """Types, protocols and ports, as for any host.

    Raises:
        socket.gaierror: an argument or the service is wrong.
    """
    kind, proto, flags = rest
    placeholder = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    flags = (flags & ~socket.AI_CANONNAME) | socket.AI_NUMERICHOST
    if not family:
        flags &= ~socket.AI_ADDRCONFIG  # the placeholder's family may be missing here
    found = _system(placeholder, port, family, kind, proto, flags)
    return [(entry[1], entry[2], entry[4][1]) for entry in found]


def _wanted(family: int, flags: int) -> list[int]:
    """The families to ask for."""
    both: list[int] = [socket.AF_INET, socket.AF_INET6]
    if family == socket.AF_INET6 and flags & socket.AI_V4MAPPED:
        return both
    if family:
        return [family]
    if flags & socket.AI_ADDRCONFIG:
        return [one for one in both if _is_configured(one)] or both
    return both


def _is_configured(family: int) -> bool:
    """Whether this machine has an address of that family, but for the loopback one."""
    try:
        _socket.getaddrinfo(None, 0, family, 0, 0, socket.AI_ADDRCONFIG)
    except socket.gaierror:
        return False
    return True


def source_of(address: Address) -> Address | None:
    """The source address that the system would use; None where there is no way."""
    family = _VERSIONS[address.version]
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(_address(address, _ANY_PORT))
            text = probe.getsockname()[0]
    except OSError:
        return None
    return IPv4Address(text) if family == socket.AF_INET else IPv6Address(text)


def with_scope(address: SocketAddress) -> str:
    """The address alone, as text that names its scope."""
    scope = address[3] if len(address) == 4 else 0
    return f"{address[0]}%{scope}" if scope else address[0]


def _address(address: Address, port: int) -> SocketAddress:
    if isinstance(address, IPv4Address):
        return str(address), port
    # In libc's spelling, which differs from Python's for ::ffff:192.0.2.1.
    text = socket.inet_ntop(socket.AF_INET6, address.packed)
    return text, port, 0, int(address.scope_id or 0)


def _as_ipv6(addresses: Iterable[Address], flags: int) -> list[Address]:
    """IPv6 addresses, and mapped ones for IPv4 where they are wanted."""
    found = [*addresses]
    native: list[Address] = [a for a in found if isinstance(a, IPv6Address)]
    if native and not flags & socket.AI_ALL:
        return native
    return native + [
        IPv6Address(0xFFFF << 32 | int(a)) for a in found if isinstance(a, IPv4Address)
    ]


def _text(host: bytes | str | None) -> str:
    assert host is not None
    return host.decode("ascii", "replace") if isinstance(host, bytes) else host


# --- what upstreams say --------------------------------------------------------------


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
