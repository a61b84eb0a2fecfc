"""httpx's clients over a Resolver: transports, and the network backends inside.

::

    transport = AsyncHTTPTransport(resolverkit.Resolver(["quad9", "cloudflare"]))
    async with httpx.AsyncClient(transport=transport) as client:
        ...

Names are replaced by addresses below TLS, so that certificates, SNI and the Host header
are for the name. The backends serve httpcore as well.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

try:
    import httpcore
    import httpx
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        f"{__name__} needs {_error.name}: pip install 'resolverkit[httpx]'",
        name=_error.name,
    ) from None

from resolverkit import addrinfo, blocking
from resolverkit.default import get_default_resolver
from resolverkit.integrations.eyeballs import first

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import resolverkit.resolver

__all__ = ["AsyncBackend", "AsyncHTTPTransport", "Backend", "HTTPTransport"]

_STREAM = 1  # SOCK_STREAM
_FAILED = (httpcore.ConnectError, httpcore.ConnectTimeout)


class AsyncHTTPTransport(httpx.AsyncHTTPTransport):
    """The transport of an `httpx.AsyncClient`, on asyncio.

    Args:
        resolver: who is asked; None for the one behind `resolverkit.resolve`.
        **options: those of `httpx.AsyncHTTPTransport`.
    """

    def __init__(
        self, resolver: resolverkit.resolver.Resolver | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        pool: Any = self._pool  # its backend can be given to httpcore's pools only
        pool._network_backend = AsyncBackend(resolver, pool._network_backend)


class HTTPTransport(httpx.HTTPTransport):
    """The transport of an `httpx.Client`.

    Args:
        resolver: who is asked; None for the one behind `resolverkit.blocking.resolve`.
        **options: those of `httpx.HTTPTransport`.
    """

    def __init__(
        self, resolver: blocking.Resolver | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        pool: Any = self._pool
        pool._network_backend = Backend(resolver, pool._network_backend)


class AsyncBackend(httpcore.AsyncNetworkBackend):
    """A backend for httpcore's asynchronous pools.

    Args:
        resolver: who is asked; None for the one behind `resolverkit.resolve`.
        backend: what connects to addresses; None for httpcore's own.
    """

    def __init__(
        self,
        resolver: resolverkit.resolver.Resolver | None = None,
        backend: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        self._resolver = resolver
        self._backend = backend or httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  httpcore's
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address of a host that takes the connection.

        Raises:
            httpcore.ConnectError: none does, or there is none.
            httpcore.ConnectTimeout: not in time.
        """

        async def connect(address: str) -> httpcore.AsyncNetworkStream:
            return await self._backend.connect_tcp(
                address, port, None, local_address, socket_options
            )

        try:
            async with asyncio.timeout(timeout):
                return await self._connect(host, port, connect)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"{host}: no connection") from error
        except OSError as error:  # of the name
            raise httpcore.ConnectError(str(error)) from error

    async def _connect(
        self, host: str, port: int, connect: Callable[[str], Any]
    ) -> httpcore.AsyncNetworkStream:
        resolver = self._resolver or get_default_resolver()
        found = await addrinfo.find(resolver, host, port, 0, _STREAM)
        try:
            return await _first(found, connect)
        except _FAILED:
            again = found
            if found.expired:
                with suppress(OSError):
                    again = await addrinfo.find(
                        resolver, host, port, 0, _STREAM, refresh=True
                    )
            if not again.adds_to(found):
                raise
        return await _first(again, connect)

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to a socket of this machine, which has no name to look up."""
        return await self._backend.connect_unix_socket(path, timeout, socket_options)

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        await self._backend.sleep(seconds)


class Backend(httpcore.NetworkBackend):
    """A backend for httpcore's blocking pools.

    Args:
        resolver: who is asked; None for the one behind `resolverkit.blocking.resolve`.
        backend: what connects to addresses; None for httpcore's own.
    """

    def __init__(
        self,
        resolver: blocking.Resolver | None = None,
        backend: httpcore.NetworkBackend | None = None,
    ) -> None:
        self._resolver = resolver
        self._backend = backend or httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address of a host that takes the connection.

        Raises:
            httpcore.ConnectError: none does, or there is none.
            httpcore.ConnectTimeout: not in time.
        """
        until = None if timeout is None else time.monotonic() + timeout

        def find(*, refresh: bool = False) -> addrinfo.Result:
            left = None if until is None else max(0.0, until - time.monotonic())
            return resolver._find(host, port, 0, _STREAM, refresh=refresh, timeout=left)

        def connect(found: addrinfo.Result) -> httpcore.NetworkStream:
            error: Exception | None = None
            for place, address in enumerate(found.addresses):
                left = None
                if until is not None:  # each of those that are left has its share
                    share = len(found.addresses) - place
                    left = (until - time.monotonic()) / share
                    if left <= 0:
                        break
                try:
                    return self._backend.connect_tcp(
                        address, port, left, local_address, socket_options
                    )
                except _FAILED as failed:
                    error = failed
            raise error or httpcore.ConnectTimeout(f"{host}: no connection")

        resolver = self._resolver or blocking.get_default_resolver()
        try:
            found = find()
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"{host}: no connection") from error
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        try:
            return connect(found)
        except _FAILED:
            again = found
            if found.expired:
                with suppress(OSError):
                    again = find(refresh=True)
            if not again.adds_to(found):
                raise
        return connect(again)

    def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to a socket of this machine, which has no name to look up."""
        return self._backend.connect_unix_socket(path, timeout, socket_options)

    def sleep(self, seconds: float) -> None:
        """Sleep."""
        self._backend.sleep(seconds)


async def _first(
    found: addrinfo.Result, connect: Callable[[str], Any]
) -> httpcore.AsyncNetworkStream:
    stream: httpcore.AsyncNetworkStream = await first(
        connect, found.addresses, lambda late: late.aclose()
    )
    return stream
