"""DNS over UDP, and over TCP where a reply is truncated (RFC 1035, RFC 5452, RFC 7766).

A pool of connected sockets, each on a random port that is given up after some uses:
connected, so that the kernel drops datagrams from elsewhere and ICMP errors surface.
Ids and the choice of socket come from the system's CSPRNG, and no two outstanding
questions share (port, id). Sockets are read until they are empty on each wake-up.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
from contextvars import Context
from dataclasses import replace
from typing import TYPE_CHECKING

from resolverkit import wire
from resolverkit.deadlines import Timeouts
from resolverkit.errors import BadReply, NetworkError, QueryTimeout, ServerFailure
from resolverkit.model import Attempt, Outcome, Reply
from resolverkit.transports.outcome import conclude, failed
from resolverkit.upstream import Pending

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from resolverkit.errors import UpstreamError
    from resolverkit.model import Endpoint, Question
    from resolverkit.transports.stream import Tcp

MAX_PORTS = 64
"""Sockets open to one server: RFC 5452 section 9.2 wants many, descriptors are few."""
PORT_USES = 100
"""Questions sent from one port before it is given up."""
MAX_SENDS = 3
"""Packets per question, address and transport (RFC 9520 section 3.1)."""
EDNS_RETRY = 3600.0
"""Seconds for which a server that cannot do EDNS is asked without it."""

_FORMERR = 1
_RECEIVE_SIZE = 4096  # more than the payload that is asked for, RFC 6891 section 6.2.3
_BIND_TRIES = 8
_BUSY = (BlockingIOError, InterruptedError)


class _Asked(Pending):
    """One question on its way: what `Do53.query` returns."""

    __slots__ = (
        "dropped", "edns", "ident", "port", "question", "sends", "started",
    )  # fmt: skip

    question: Question
    port: _Port
    ident: int
    started: float
    sends: int
    dropped: int
    edns: bool


class _Port:
    """A connected socket and the questions outstanding on it."""

    __slots__ = ("asked", "late", "sock", "uses")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.asked: dict[int, _Asked] = {}
        self.late: dict[int, Question] = {}  # over, but another reply may come
        self.uses = 0


class Do53:
    """One server asked over UDP, and over TCP for what does not fit.

    Attributes:
        endpoint: who is asked.
        heard: loop time of the last valid reply, late ones included.
        dropped: datagrams that failed the checks of RFC 5452 section 9.1.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        timeout: float = 2.0,
        source: str | None = None,
        source_port: int = 0,
        locate: Callable[[], Awaitable[str]] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.heard = float("-inf")
        self.dropped = 0
        self._timeout = timeout
        self._source = source
        self._source_port = source_port
        self._locate = locate
        self._ports: list[_Port] = []
        self._retired: set[_Port] = set()
        self._outstanding = 0
        self._draws: Iterator[int] = iter(())
        self._edns_after = float("-inf")
        self._tcp: Tcp | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timeouts: Timeouts[_Asked] | None = None
        self._closed = False

    @property
    def name(self) -> str:
        """The upstream's URL."""
        return self.endpoint.name

    def __repr__(self) -> str:
        return f"<Do53 {self.name}>"

    # --- asking ----------------------------------------------------------------------

    def query(self, question: Question) -> asyncio.Future[Reply]:
        """Send `question`; see `Upstream.query`."""
        loop = self._loop or self._bind()
        if not self.endpoint.address:
            return asyncio.ensure_future(self._locate_and_query(question))
        asked = _Asked(loop=loop)
        asked.question = question
        asked.started = now = loop.time()
        asked.sends = asked.dropped = 0
        if self._closed:
            self._fail(asked, NetworkError("the transport is closed", local=True))
            return asked
        asked.edns = now >= self._edns_after or not wire.may_drop_edns(question)
        try:
            asked.port = port = self._choose_port()
        except OSError as error:
            self._fail(asked, NetworkError(f"no socket: {error}", local=True))
            return asked
        ident = self._draw() & 0xFFFF
        while ident in port.asked:
            ident = self._draw() & 0xFFFF
        asked.ident = ident
        port.asked[ident] = asked
        port.uses += 1
        self._outstanding += 1
        assert self._timeouts is not None
        self._timeouts.add(asked, now)
        self._send(asked)
        return asked

    async def _locate_and_query(self, question: Question) -> Reply:
        """Find the server's own address first, by way of other upstreams."""
        if self._locate is None:
            raise NetworkError(f"the address of {self.endpoint.name} is not known")
        address = await self._locate()
        self.endpoint = replace(self.endpoint, address=address)
        return await self.query(question)

    def resend(self, future: asyncio.Future[Reply]) -> bool:
        """Send a pending question once more, from the same port and with the same id.

        Returns:
            Whether it was sent; False once it has been sent three times or has ended.
        """
        if not isinstance(future, _Asked) or future.done():
            return False
        if future.sends >= MAX_SENDS or future.ident not in future.port.asked:
            return False
        self._send(future)
        return True

    def _send(self, asked: _Asked) -> None:
        question = asked.question
        message = question.wire if asked.edns else wire.without_edns(question)
        data = asked.ident.to_bytes(2, "big") + message[2:]
        asked.sends += 1
        send = asked.port.sock.send
        try:
            try:
                send(data)
            except ConnectionRefusedError:  # an ICMP error for an earlier datagram
                send(data)
        except _BUSY:
            pass  # as good as lost: sent again, or timed out
        except OSError as error:
            self._forget(asked)
            self._fail(asked, _network_error(error))

    def _draw(self) -> int:
        """32 unpredictable bits (RFC 5452 section 9.2)."""
        for value in self._draws:
            return value
        self._draws = iter(struct.unpack("256I", os.urandom(1024)))
        return next(self._draws)

    # --- ports -----------------------------------------------------------------------

    def _choose_port(self) -> _Port:
        ports = self._ports
        limit = 1 if self._source_port else MAX_PORTS
        if len(ports) < limit and self._outstanding >= len(ports):
            port = self._open_port()
            ports.append(port)
            return port
        index = (self._draw() >> 16) % len(ports)
        port = ports[index]
        if port.uses < PORT_USES or self._source_port:
            return port
        ports[index] = fresh = self._open_port()
        if port.asked:
            self._retired.add(port)
        else:
            self._close_port(port)
        return fresh

    def _open_port(self) -> _Port:
        assert self._loop is not None
        address = self.endpoint.address
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            self._bind_socket(sock, self._source or "")
            sock.connect((address, self.endpoint.port))
            port = _Port(sock)
            Context().run(self._loop.add_reader, sock.fileno(), self._read, port)
        except BaseException:
            sock.close()
            raise
        return port

    def _bind_socket(self, sock: socket.socket, source: str) -> None:
        if self._source_port:  # which the sockets to other servers have, too
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((source, self._source_port))
            return
        for _ in range(_BIND_TRIES):
            with contextlib.suppress(OSError):
                sock.bind((source, 1024 + (self._draw() >> 8) % (65536 - 1024)))
                return
        sock.bind((source, 0))

    def _close_port(self, port: _Port) -> None:
        assert self._loop is not None
        self._retired.discard(port)
        if not self._loop.is_closed():
            self._loop.remove_reader(port.sock.fileno())
        port.sock.close()

    # --- receiving -------------------------------------------------------------------

    def _read(self, port: _Port) -> None:
        """Take in all that has arrived.

        Finding a socket empty costs a system call, so reading stops once nothing is
        outstanding on it.
        """
        receive = port.sock.recv
        while True:
            try:
                data = receive(_RECEIVE_SIZE)
            except _BUSY:
                return
            except OSError as error:  # an ICMP error, for all that is outstanding here
                for asked in list(port.asked.values()):
                    self._forget(asked)
                    self._fail(asked, _network_error(error))
                return
            self._take(port, data)
            if not port.asked:
                return

    def _take(self, port: _Port, data: bytes) -> None:
        asked = port.asked.get(data[0] << 8 | data[1]) if len(data) >= 12 else None
        if asked is None:
            self._take_stray(port, data)
            return
        question = asked.question
        assert self._loop is not None
        now = self._loop.time()
        if asked.done() or data[2] & 2:  # late, or truncated: is it the reply at all?
            if wire.mismatch(question, data):
                self._drop(asked)
                return
            self._forget(asked)
            self.heard = now
            if not asked.done():
                self._ask_tcp(asked, now)
            return
        try:
            reply = conclude(
                question, data, self.endpoint, asked.started, now,
                dropped=asked.dropped, sends=asked.sends,
            )  # fmt: skip
        except BadReply:
            self._drop(asked)
        except ServerFailure as failure:
            self.heard = now
            if failure.rcode == _FORMERR and self._try_without_edns(asked, data):
                return
            self._forget(asked)
            # Its traceback holds this frame, which holds `asked`: a cycle.
            asked.set_exception(failure.with_traceback(None))
        else:
            self.heard = now
            if not asked.edns and now >= self._edns_after:
                self._edns_after = now + EDNS_RETRY
            self._forget(asked)
            asked.set_result(reply)

    def _take_stray(self, port: _Port, data: bytes) -> None:
        """No question waits under this id; one may have, until a moment ago."""
        ident = data[0] << 8 | data[1] if len(data) >= 12 else -1
        late = port.late.get(ident)
        if late is not None and not wire.mismatch(late, data):
            del port.late[ident]
            return
        self.dropped += 1
        for waiting in port.asked.values():
            waiting.dropped += 1

    def _drop(self, asked: _Asked) -> None:
        """A datagram that fails the checks changes nothing (the lesson of TuDoor)."""
        self.dropped += 1
        asked.dropped += 1

    def _try_without_edns(self, asked: _Asked, data: bytes) -> bool:
        """RFC 6891 section 7: some servers answer FORMERR to any OPT."""
        question = asked.question
        if not asked.edns or not wire.may_drop_edns(question):
            return False
        if wire.has_opt(data, question) or asked.sends >= MAX_SENDS:
            return False
        asked.edns = False
        self._send(asked)
        return True

    # --- ends ------------------------------------------------------------------------

    def _expire(self, asked: _Asked) -> None:
        self._forget(asked)
        asked.port.late[asked.ident] = asked.question
        if not asked.done():
            self._fail(asked, QueryTimeout(f"no reply within {self._timeout:g} s"))

    def _fail(self, asked: _Asked, error: UpstreamError) -> None:
        assert self._loop is not None
        if not asked.done():
            now = self._loop.time()
            asked.set_exception(
                failed(
                    error, self.endpoint, asked.started, now, asked.dropped, asked.sends
                )
            )

    def _forget(self, asked: _Asked) -> None:
        port = asked.port
        assert self._timeouts is not None
        if port.asked.pop(asked.ident, None) is not None:
            self._outstanding -= 1
            self._timeouts.discard(asked)
            if asked.sends > 1:  # each packet has a reply of its own
                port.late[asked.ident] = asked.question
            if not port.asked and port in self._retired:
                self._close_port(port)

    def _ask_tcp(self, asked: _Asked, now: float) -> None:
        """RFC 7766 section 5: a truncated reply is asked for again over TCP."""
        if self._tcp is None:
            from resolverkit.transports.stream import Tcp

            self._tcp = Tcp(
                replace(self.endpoint, transport="tcp"),
                timeout=self._timeout,
                source=self._source,
            )
        first = Attempt(
            self.endpoint, asked.started, now - asked.started, Outcome.TRUNCATED,
            0, (), "", asked.dropped, asked.sends,
        )  # fmt: skip
        second = self._tcp.query(asked.question)

        def cancel(asked: asyncio.Future[Reply]) -> None:
            if asked.cancelled():
                second.cancel()

        def finish(second: asyncio.Future[Reply]) -> None:
            if asked.done() or second.cancelled():
                asked.cancel()
                return
            error = second.exception()
            if error is None:
                reply = second.result()
                reply.attempts = (first, *reply.attempts)
                asked.set_result(reply)
            else:
                error.attempts = (first, *getattr(error, "attempts", ()))  # type: ignore[attr-defined]
                asked.set_exception(error)

        asked.add_done_callback(cancel)
        second.add_done_callback(finish)

    # --- lifetime --------------------------------------------------------------------

    def _bind(self) -> asyncio.AbstractEventLoop:
        self._loop = loop = asyncio.get_running_loop()
        self._timeouts = Timeouts(loop, self._timeout, self._expire)
        return loop

    async def aclose(self) -> None:
        """Close every socket; outstanding questions are cancelled. Idempotent."""
        self._closed = True
        ports = [*self._ports, *self._retired]
        self._ports.clear()
        self._retired.clear()
        for port in ports:
            for asked in list(port.asked.values()):
                self._forget(asked)
                asked.cancel()
            self._close_port(port)
        if self._timeouts is not None:
            self._timeouts.clear()
        if self._tcp is not None:
            await self._tcp.aclose()


_LOCAL = frozenset(
    {"ENETUNREACH", "EADDRNOTAVAIL", "EMFILE", "ENFILE", "EACCES", "EPERM"}
)


def _network_error(error: OSError) -> NetworkError:
    local = errno.errorcode.get(error.errno or 0, "") in _LOCAL
    return NetworkError((error.strerror or str(error)).lower(), local=local)
