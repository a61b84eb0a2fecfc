"""Connections: DNS over TCP (RFC 7766) and over TLS (RFC 7858).

Queries are answered as soon as that can be, out of order, and any number of them may
follow each other. What a client can occupy is bounded: connections in all, queries of
one connection that wait, octets of a query, and the time that it may be idle, take to
send a query, or take to read its replies. When all connections are taken, the one that
has been idle for the longest gives way (RFC 7766 section 6.2.3); where most of them do
not get beyond the handshake of TLS, the oldest of those.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from resolverkit.server.connection import PATIENCE, Connection
from resolverkit.server.query import Over

if TYPE_CHECKING:
    from resolverkit.server.access import Access
    from resolverkit.server.certificate import Certificate
    from resolverkit.server.responder import Responder

MAX_CONNECTIONS = 1000
"""Connections of one listener; each is a descriptor and some 3 kB."""
PORTION = 0.002
"""Seconds of work on queries that are there, between two looks at what is new."""
BACKLOG = 1024
"""Connections that the system keeps until they are accepted."""

_SWEEP = 1.0  # seconds between two looks for those who are overdue
_ACCEPT = 64  # connections at one wake-up
_PAUSE = 0.2  # seconds without accepting, when no descriptor is left

_log = logging.getLogger("resolverkit.server")


class TcpListener:
    """One listening socket, and its connections.

    Args:
        sock: bound and listening; it belongs to the listener from now on.
        responder: who answers.
        access: who may ask; None where only this machine can.
        certificate: for TLS.
        max_connections: that may be open at a time.
    """

    def __init__(
        self,
        sock: socket.socket,
        responder: Responder,
        access: Access | None,
        certificate: Certificate | None = None,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self.socket = sock
        self.access = access
        self.responder = responder
        self.over = Over.TCP if certificate is None else Over.TLS
        self.connections: dict[Connection, None] = {}  # the longest unheard first
        self._certificate = certificate
        self._max = max_connections
        self._joining: dict[asyncio.Task[None], socket.socket] = {}
        self._parting: set[asyncio.Task[None]] = set()  # that had to give way
        self._queue: deque[Connection] = deque()  # that have more to be answered
        self._working: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._acceptor: asyncio.Task[None] | None = None
        sock.setblocking(False)

    def start(self) -> None:
        """Begin to accept."""
        self._loop = asyncio.get_running_loop()
        try:
            self._loop.add_reader(self.socket, self._accept)
        except NotImplementedError:  # the proactor loop of Windows
            self._acceptor = self._loop.create_task(self._accept_for_ever())
        self._timer = self._loop.call_later(_SWEEP, self._sweep)

    def pause(self) -> None:
        """Accept nobody else, and read nothing more; what was asked is answered."""
        if self._acceptor is not None:
            self._acceptor.cancel()
        elif self.socket.fileno() >= 0:
            self._loop.remove_reader(self.socket)
        for connection in list(self.connections):
            connection.finish()

    @property
    def idle(self) -> bool:
        """Whether nobody waits for a reply."""
        return not any(connection.busy for connection in self.connections)

    async def aclose(self) -> None:
        """Break off every connection, and let go of the socket."""
        self.pause()
        for handle in (self._timer, self._working):
            if handle is not None:
                handle.cancel()
        self._queue.clear()
        for connection in list(self.connections):
            connection.abort()
        tasks = [*self._joining, *self._parting]
        for task, joining in self._joining.items():
            task.cancel()
            with contextlib.suppress(OSError):  # a handshake is deaf to cancel()
                joining.shutdown(socket.SHUT_RDWR)
        if self._acceptor is not None:
            tasks.append(self._acceptor)
        await asyncio.gather(*tasks, return_exceptions=True)
        self.socket.close()
        await asyncio.sleep(0)  # transports close their sockets in a callback

    # --- taking turns ----------------------------------------------------------------

    def put_off(self, connection: Connection) -> None:
        """Have it go on when others, and datagrams, have had their turn."""
        self._queue.append(connection)
        if self._working is None:
            self._working = self._loop.call_soon(self._work)

    def _work(self) -> None:
        self._working = None
        until = time.perf_counter() + PORTION
        while self._queue:
            self._queue.popleft().take_turn()
            if time.perf_counter() > until:
                break
        if self._queue and self._working is None:
            self._working = self._loop.call_soon(self._work)

    # --- accepting -------------------------------------------------------------------

    def _accept(self) -> None:
        for _ in range(_ACCEPT):
            try:
                connection, client = self.socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return
            except OSError as error:  # no descriptor left: not at every wake-up
                _log.warning("cannot accept a connection: %s", error)
                self._loop.remove_reader(self.socket)
                self._loop.call_later(_PAUSE, self._resume)
                return
            self._welcome(connection, client)

    def _resume(self) -> None:
        if self.socket.fileno() >= 0:
            self._loop.add_reader(self.socket, self._accept)

    async def _accept_for_ever(self) -> None:
        while True:
            try:
                connection, client = await self._loop.sock_accept(self.socket)
            except OSError:
                await asyncio.sleep(_PAUSE)
            else:
                self._welcome(connection, client)

    def _welcome(self, connection: socket.socket, client: Any) -> None:
        if self.access is not None and not self.access.admits(client[0]):
            self.responder.stats.denied += 1
            connection.close()
            return
        while len(self.connections) + len(self._joining) >= self._max:
            self._make_room()
        connection.setblocking(False)
        task = self._loop.create_task(self._join(connection))
        self._joining[task] = connection
        task.add_done_callback(self._joined)

    def _make_room(self) -> None:
        """End a connection; no flood of half a handshake each shuts out others."""
        if len(self._joining) <= len(self.connections):
            next(iter(self.connections)).drop()
            return
        task = next(iter(self._joining))
        self._parting.add(task)
        with contextlib.suppress(OSError):  # it is gone already
            self._joining.pop(task).shutdown(socket.SHUT_RDWR)
        self.responder.stats.closed += 1

    def _joined(self, task: asyncio.Task[None]) -> None:
        self._joining.pop(task, None)
        self._parting.discard(task)

    async def _join(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                partial(Connection, self), connection, **self._tls_options()
            )
        except (OSError, asyncio.CancelledError):  # the client's own business
            connection.close()

    def _tls_options(self) -> dict[str, Any]:
        """What an event loop is to know of TLS for a connection that begins now."""
        if self._certificate is None:
            return {}
        context = self._certificate.context
        return {"ssl": context, "ssl_handshake_timeout": PATIENCE}

    def _sweep(self) -> None:
        now = self._loop.time()
        for connection in list(self.connections):
            if connection.overdue(now):
                connection.drop()
        self._timer = self._loop.call_later(_SWEEP, self._sweep)
