"""aiohttp's client over a Resolver.

::

    resolver = Resolver(resolverkit.Resolver(["quad9", "cloudflare"]))
    connector = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False)
    async with aiohttp.ClientSession(
        connector=connector, middlewares=[resolver.try_again]
    ) as session:
        ...

The connector's own cache knows no TTLs and cannot serve what has expired: switch it
off.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from resolverkit import addrinfo
from resolverkit.default import get_default_resolver

if TYPE_CHECKING:
    import resolverkit.resolver
    from resolverkit.model import AnswerPath

__all__ = ["Resolver"]

_KEPT = 1024
"""Hosts whose paths are remembered."""
_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class Resolver(AbstractResolver):
    """Looks up the hosts of an aiohttp connector.

    Args:
        resolver: who is asked; None for the one behind `resolverkit.resolve`. It is
            the caller's to close.
    """

    def __init__(self, resolver: resolverkit.resolver.Resolver | None = None) -> None:
        self._resolver = resolver or get_default_resolver()
        self._found: dict[str, addrinfo.Result] = {}

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,
    ) -> list[ResolveResult]:
        """The addresses of a host, the best first.

        Raises:
            OSError: a `socket.gaierror`, which aiohttp makes a ClientConnectorDNSError.
        """
        return await self._resolve(host, port, family)

    async def _resolve(
        self, host: str, port: int, family: int, *, refresh: bool = False
    ) -> list[ResolveResult]:
        flags = 0 if family else socket.AI_ADDRCONFIG
        found = await addrinfo.find(
            self._resolver, host, port, family, socket.SOCK_STREAM, 0, flags,
            refresh=refresh,
        )  # fmt: skip
        self._found.pop(host, None)
        self._found[host] = found
        if len(self._found) > _KEPT:
            del self._found[next(iter(self._found))]
        return [
            ResolveResult(
                hostname=host,
                host=addrinfo.with_scope(address),
                port=address[1],
                family=entry_family,
                proto=proto,
                flags=_NUMERIC,
            )
            for entry_family, _, proto, _, address in found.entries
        ]

    def paths(self, host: str) -> tuple[AnswerPath, ...]:
        """How the addresses that a host was last given came to be, for tracing.

        Args:
            host: as in the URL.

        Returns:
            A path for each family that has addresses; none where nobody was asked.
        """
        found = self._found.get(host)
        return () if found is None else found.paths

    async def try_again(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """A middleware for sessions: what has expired may be wrong by now.

        Where no address of an expired answer connects, upstreams are asked once more
        before the request fails. Nothing of it has been sent by then.

        Raises:
            aiohttp.ClientError: the second try's, or the first where nothing changed.
        """
        try:
            return await handler(request)
        except aiohttp.ClientConnectorDNSError:
            raise
        except aiohttp.ClientConnectorError:
            host = request.url.host or ""
            before = self._found.get(host)
            if before is None or not before.expired:
                raise
            with suppress(OSError):
                await self._resolve(host, 0, 0, refresh=True)
            if not self._found[host].adds_to(before):
                raise
        return await handler(request)

    async def close(self) -> None:
        """Nothing: the Resolver is the caller's."""
