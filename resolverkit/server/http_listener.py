"""Connections for HTTP: those of DNS over TCP, with a protocol of HTTP inside."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from resolverkit.server.connection import Connection
from resolverkit.server.tcp import TcpListener

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from resolverkit.server.access import Access
    from resolverkit.server.certificate import Certificate
    from resolverkit.server.stub import Server

MAX_CONNECTIONS = 500
"""Connections of one listener; aiohttp takes some 20 kB for each."""
MAX_KEPT = 64 * 1024 * 1024
"""Octets of queries that are not whole, and replies that are not read, of all clients
over HTTP/2 together; for more, whoever keeps the most is dropped."""
IDLE = 75.0
"""Seconds until the next request of a connection, and all of its head, is there."""


class HttpListener(TcpListener):
    """One listening socket; limits, idle connections and access are as for TCP.

    Args:
        sock: bound and listening; it belongs to the listener from now on.
        server: whose rules and counts hold.
        protocol: makes the protocol for one connection.
        http2: the same, where TLS has agreed on HTTP/2.
        certificate: for TLS.
        max_connections: that may be open at a time.
    """

    def __init__(
        self,
        sock: socket.socket,
        server: Server,
        protocol: Callable[[], asyncio.Protocol],
        http2: Callable[[HttpConnection], asyncio.Protocol],
        certificate: Certificate | None,
        max_connections: int,
    ) -> None:
        super().__init__(sock, server._responder, None, certificate, max_connections)
        self._server = server
        self.protocol = protocol
        self.http2 = http2
        self.by_inner: dict[object, HttpConnection] = {}
        self.kept = 0  # octets, of all connections

    @contextlib.contextmanager
    def at_work(self, protocol: object) -> Iterator[None]:
        """While a request is handled, its connection is not idle."""
        connection = self.by_inner.get(protocol)
        if connection is None:  # gone already
            yield
            return
        connection.working = True
        try:
            yield
        finally:
            connection.rest(working=False)

    def _welcome(self, connection: socket.socket, client: Any) -> None:
        self.access: Access = self._server._access  # which may have changed
        super()._welcome(connection, client)

    async def _join(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: HttpConnection(self), connection, **self._tls_options()
            )
        except (OSError, asyncio.CancelledError):  # the client's own business
            connection.close()


class HttpConnection(Connection):
    """One client: hands everything on, and keeps an eye on the time.

    aiohttp waits for ever for the first request, and for the rest of its head.

    Attributes:
        working: a response is still to come.
        since: loop time at which the last one was made.
        kept: octets of memory that the client occupies, as far as that is known.
    """

    _inner: asyncio.Protocol

    def __init__(self, listener: HttpListener) -> None:
        super().__init__(listener)
        self._http = listener
        self.working: bool = False
        self.since: float = listener._loop.time()
        self.kept: int = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there, TLS included."""
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() == "h2":
            self._inner = self._http.http2(self)
        else:
            self._inner = self._http.protocol()
        self._http.by_inner[self._inner] = self
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        super().connection_lost(exc)
        if self._http.by_inner.pop(self._inner, None) is not None:
            self._http.kept -= self.kept
            self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Octets, in any portions."""
        connections = self._listener.connections
        connections.pop(self, None)  # the latest heard go last
        connections[self] = None
        self._inner.data_received(data)

    def eof_received(self) -> bool:
        """The client has said all."""
        return bool(self._inner.eof_received())

    def pause_writing(self) -> None:
        """The client does not read."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """It reads again."""
        self._inner.resume_writing()

    @property
    def busy(self) -> bool:
        """Whether a response is still to come."""
        return self.working

    def overdue(self, now: float) -> bool:
        """Whether it has used up the time that it has."""
        return not self.working and now > self.since + IDLE

    def rest(self, *, working: bool) -> None:
        """A response was made; `working` if others are still to come."""
        self.working = working
        self.since = self._http._loop.time()

    def keep(self, octets: int) -> None:
        """So much is kept for the client now."""
        http = self._http
        if self._inner not in http.by_inner:  # gone already
            return
        http.kept += octets - self.kept
        self.kept = octets
        while http.kept > MAX_KEPT:
            max(http.by_inner.values(), key=lambda other: other.kept).drop()

    def finish(self) -> None:
        """Close, unless a response is still to come."""
        if not self.working:
            self._transport.close()
