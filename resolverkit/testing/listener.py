"""Listening sockets that leave nothing behind.

`asyncio.Server` cannot end connections that are still shaking hands (before 3.13), so
accepting is done here, and each connection joins in a task that belongs to the
listener.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias, cast

if TYPE_CHECKING:
    import ssl

Factory: TypeAlias = Callable[[asyncio.Transport], asyncio.Protocol]
"""Makes the protocol for a connection, once ALPN has said which one it shall be."""

HOST = "127.0.0.1"

_BACKLOG = 1024  # connections; a load test may open many at once
_MAX_ROUNDS = 100  # of the loop, until all connections are gone; some 5 are needed


class Listener:
    """One listening TCP socket on loopback, and all its connections.

    Args:
        factory: makes the protocol for each connection.
        context: for TLS.
    """

    def __init__(self, factory: Factory, context: ssl.SSLContext | None = None) -> None:
        self._factory = factory
        self._context = context
        self._socket: socket.socket | None = None
        self._acceptor: asyncio.Task[None] | None = None
        self._unclaimed: set[socket.socket] = set()
        self._joining: set[asyncio.Task[None]] = set()
        self._connections: dict[socket.socket, asyncio.Transport] = {}

    async def start(self, port: int = 0) -> int:
        """Listen; gives the port."""
        loop = asyncio.get_running_loop()
        listening = socket.create_server((HOST, port), backlog=_BACKLOG)
        listening.setblocking(False)
        self._socket = listening
        try:
            loop.add_reader(listening, self._accept, listening)
        except NotImplementedError:  # the proactor loop of Windows
            self._acceptor = loop.create_task(self._accept_for_ever(listening))
        bound: int = listening.getsockname()[1]
        return bound

    def close(self) -> None:
        """Close the socket and break off every connection, at once."""
        if self._acceptor is not None:
            self._acceptor.cancel()
        elif self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
        for owned in (self._socket, *self._unclaimed):
            if owned is not None:
                owned.close()
        self._socket = None
        self._unclaimed.clear()
        for task in self._joining:
            task.cancel()
        for connection, transport in self._connections.items():
            transport.abort()
            # A TLS transport that is closing gracefully is deaf to abort().
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    async def wait_closed(self) -> None:
        """Wait until `close` has taken effect."""
        acceptor, self._acceptor = self._acceptor, None
        tasks = self._joining if acceptor is None else {acceptor, *self._joining}
        await asyncio.gather(*tasks, return_exceptions=True)
        # An aborted transport tells its protocol, and closes its socket, in callbacks.
        for _ in range(_MAX_ROUNDS):
            await asyncio.sleep(0)
            if not any(map(_is_open, self._connections)):
                break
        self._connections.clear()

    def _accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it went away, or wakes us again
            self._welcome(listening.accept()[0])

    async def _accept_for_ever(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._welcome((await loop.sock_accept(listening))[0])

    def _welcome(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._unclaimed.add(connection)
        task = asyncio.get_running_loop().create_task(self._join(connection))
        self._joining.add(task)
        task.add_done_callback(self._joining.discard)

    async def _join(self, connection: socket.socket) -> None:
        self._unclaimed.discard(connection)
        loop = asyncio.get_running_loop()
        # Clients that distrust the certificate or go away are their own business.
        with contextlib.suppress(OSError):
            await loop.connect_accepted_socket(
                lambda: _Newcomer(self, connection), connection, ssl=self._context
            )

    def _joined(self, connection: socket.socket, transport: asyncio.Transport) -> None:
        for gone in [x for x in self._connections if not _is_open(x)]:
            del self._connections[gone]
        self._connections[connection] = transport
        protocol = self._factory(transport)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)


class _Newcomer(asyncio.Protocol):
    """Stands in until the protocol is known, which is before any data comes."""

    def __init__(self, listener: Listener, connection: socket.socket) -> None:
        self._listener = listener
        self._connection = connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._listener._joined(self._connection, cast("asyncio.Transport", transport))


def _is_open(connection: socket.socket) -> bool:
    return connection.fileno() >= 0
