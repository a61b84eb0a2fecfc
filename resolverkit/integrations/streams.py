"""`open_connection`: asyncio's streams, by resolverkit and with Happy Eyeballs.

Addresses are tried as in RFC 8305, the next 250 ms after the one before. For services
with SVCB or HTTPS records (RFC 9460) these are asked for beside the addresses, have
50 ms left once those are there, and say which hosts and ports are tried first; the host
itself comes last. Where no address of an expired answer connects, upstreams are asked
once more.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

import dns.exception
import dns.name

from resolverkit import addrinfo, errors, lookup, svcb
from resolverkit.default import get_default_resolver
from resolverkit.integrations.eyeballs import ATTEMPT_DELAY

if TYPE_CHECKING:
    import ssl as ssl_module
    from collections.abc import AsyncGenerator

    from resolverkit.addrinfo import Found
    from resolverkit.resolver import Resolver

__all__ = ["open_connection"]

_HTTPS = 443
_MAX_ALTERNATIVES = 8


async def open_connection(
    host: str,
    port: int | str,
    *,
    ssl: ssl_module.SSLContext | bool | None = None,
    service: str | None = None,
    resolver: Resolver | None = None,
    family: int = 0,
    local_addr: tuple[str, int] | None = None,
    **options: Any,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to a host by name, as `asyncio.open_connection`.

    Args:
        host: a name or an address.
        port: a number or the name of a service.
        ssl: a context, or True for the default one; certificates are for `host`.
        service: the scheme whose SVCB records are asked for; ``""`` for none. By
            default ``"https"`` where the port is 443 and `ssl` is given.
        resolver: who is asked; None for the one behind `resolverkit.resolve`.
        family: AF_INET or AF_INET6 for addresses of that one; 0 for both.
        local_addr: address and port to connect from.
        **options: others of `asyncio.open_connection`.

    Raises:
        OSError: no address connects; a `socket.gaierror` where there is none.
    """
    resolver = resolver or get_default_resolver()
    if service is None:
        service = "https" if ssl and port in {_HTTPS, str(_HTTPS), "https"} else ""
    local = None
    if local_addr is not None:
        stream = socket.SOCK_STREAM
        local = (await addrinfo.find(resolver, *local_addr, family, stream)).entries
    async with aclosing(_rounds(resolver, host, port, service, family)) as rounds:
        sock = await _connect(rounds, local)
    if ssl:
        options.setdefault("server_hostname", host.rstrip("."))
    try:
        return await asyncio.open_connection(sock=sock, ssl=ssl or None, **options)
    except BaseException:
        sock.close()
        raise


async def _connect(
    rounds: AsyncGenerator[list[Found], None], local: list[Found] | None
) -> socket.socket:
    error: OSError | None = None
    async for found in rounds:
        try:
            return await _start(found, local)
        except OSError as failed:
            error = failed
    assert error is not None  # there is a round for the host itself
    try:
        raise error
    finally:
        error = None  # its traceback holds this frame


async def _start(entries: list[Found], local: list[Found] | None) -> socket.socket:
    from aiohappyeyeballs import start_connection

    return await start_connection(
        entries, local_addr_infos=local, happy_eyeballs_delay=ATTEMPT_DELAY
    )


async def _rounds(
    resolver: Resolver, host: str, port: int | str, service: str, family: int
) -> AsyncGenerator[list[Found], None]:
    """The addresses to try, one set after the other."""
    asking, stream = None, socket.SOCK_STREAM
    if service and addrinfo.numeric(host, port, family, stream) is None:
        asking = asyncio.ensure_future(_alternatives(resolver, host, port, service))
    try:
        found: addrinfo.Result | OSError
        try:
            found = await addrinfo.find(resolver, host, port, family, stream)
        except OSError as failed:
            found = failed
        if asking is not None:
            late = lookup.RESOLUTION_DELAY if isinstance(found, tuple) else None
            await asyncio.wait([asking], timeout=late)
            if asking.done():
                patience = ATTEMPT_DELAY if isinstance(found, tuple) else None
                where = _each(resolver, asking.result(), port, family, patience)
                async with aclosing(where) as sets:
                    async for entries in sets:
                        yield entries
    finally:
        if asking is not None:
            asking.cancel()
    if isinstance(found, OSError):
        raise found
    yield found.entries
    if found.expired:
        with suppress(OSError):
            again = await addrinfo.find(
                resolver, host, port, family, stream, refresh=True
            )
            if again.adds_to(found):
                yield again.entries


async def _alternatives(
    resolver: Resolver, host: str, port: int | str, service: str
) -> list[svcb.Alternative]:
    """What records say of the service; nothing where there are none."""
    number = port if isinstance(port, int) else _number(port)
    try:
        name = dns.name.from_text(host.encode("idna").decode("ascii"))
        name = svcb.owner(name, number, service)
    except (UnicodeError, dns.exception.DNSException):  # as too long, with its labels
        return []
    rdtype = "HTTPS" if service == "https" else "SVCB"
    found: tuple[svcb.Alternative, ...] = ()
    ends: tuple[svcb.Alternative, ...] = ()  # of aliases: after all else (section 3)
    for _ in range(svcb.MAX_ALIASES):
        try:
            answer = await resolver.resolve(name, rdtype, raise_on_no_answer=False)
        except (dns.exception.DNSException, errors.ResolverKitError):
            break
        records = list(answer)
        target = svcb.alias(records)
        if target is None:
            found = svcb.alternatives(records, answer.canonical_name)
            break
        name, ends = target, (svcb.Alternative(target, None, ()),)
    return [*found[:_MAX_ALTERNATIVES], *ends]


def _number(port: str) -> int:
    return int(port) if port.isdecimal() else socket.getservbyname(port, "tcp")


async def _each(
    resolver: Resolver,
    alternatives: list[svcb.Alternative],
    port: int | str,
    family: int,
    patience: float | None,
) -> AsyncGenerator[list[Found], None]:
    """The addresses of each alternative: its own, or those of its hints.

    All are looked up at once, and who is late by `patience` has but hints.
    """
    finding = [
        asyncio.ensure_future(_at(resolver, x, port, family)) for x in alternatives
    ]
    try:
        for alternative, found in zip(alternatives, finding, strict=True):
            await asyncio.wait([found], timeout=patience)
            entries = found.result() if found.done() else []
            entries = entries or _hinted(alternative, port, family)
            if entries:
                yield entries
    finally:
        for found in finding:
            found.cancel()


async def _at(
    resolver: Resolver, alternative: svcb.Alternative, port: int | str, family: int
) -> list[Found]:
    """The addresses of an alternative; none where there are none."""
    target = alternative.target.to_text()
    where = port if alternative.port is None else alternative.port
    stream = socket.SOCK_STREAM
    try:
        return (await addrinfo.find(resolver, target, where, family, stream)).entries
    except (OSError, UnicodeError):  # as a label that is too long with its escapes
        return []


def _hinted(alternative: svcb.Alternative, port: int | str, family: int) -> list[Found]:
    """What the hints of an alternative come to."""
    where = port if alternative.port is None else alternative.port
    found: list[Found] = []
    for hint in alternative.hints:
        found += addrinfo.numeric(str(hint), where, 0, socket.SOCK_STREAM) or []
    return [entry for entry in found if not family or entry[0] == family]
