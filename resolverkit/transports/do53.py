"""DNS over UDP, and over TCP where a reply is truncated (RFC 1035, RFC 5452, RFC 7766).

No two outstanding questions share (port, id). A datagram that fails the checks of RFC
5452 section 9.1 is counted and dropped, and the question goes on waiting.
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import replace
from typing import TYPE_CHECKING

from resolverkit import wire
from resolverkit.deadlines import Timeouts
from resolverkit.errors import (
    BadReply,
    NetworkError,
    QueryTimeout,
    ServerFailure,
    UpstreamError,
)
from resolverkit.model import Attempt, Outcome, Reply
from resolverkit.policy import FAILURE_TTL
from resolverkit.transports.outcome import conclude, failed
from resolverkit.transports.ports import BUSY, Port, Ports
from resolverkit.transports.reconnect import network_error
from resolverkit.upstream import Pending

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from resolverkit.model import Endpoint, Question
    from resolverkit.transports.stream import Tcp

MAX_SENDS = 3
"""Packets per question, address and transport (RFC 9520 section 3.1)."""
EDNS_RETRY = 3600.0
"""Seconds for which a server that cannot do EDNS is asked without it."""

_FORMERR = 1
_short = struct.Struct("!H").pack


class _Asked(Pending):
    """One question on its way: what `Do53.query` returns."""

    __slots__ = (
        "dropped", "edns", "ident", "port", "question", "sends", "started",
    )  # fmt: skip

    question: Question
    port: Port[_Asked]
    ident: int
    started: float
    sends: int
    dropped: int
    edns: bool


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
        self.endpoint: Endpoint = endpoint
        self.heard: float = float("-inf")
        self.dropped: int = 0
        self._timeout = timeout
        self._source = source
        self._source_port = source_port
        self._locate = locate
        self._locating: asyncio.Future[None] | None = None
        self._locate_after = float("-inf")
        self._unknown: NetworkError | None = None  # until then
        self._ports: Ports[_Asked] | None = None
        self._edns_after = float("-inf")
        self._tcp: Tcp | None = None
        self._loop: asyncio.AbstractEventLoop
        self._timeouts: Timeouts[_Asked]
        self._bound = False
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
        ports = self._ports
        if ports is None:
            if not self.endpoint.address:
                self._bind()
                return asyncio.ensure_future(self._locate_and_query(question))
            ports = self._bind_ports()
        loop = self._loop
        asked = _Asked(loop=loop)
        asked.question = question
        asked.started = now = loop.time()
        asked.sends, asked.dropped = 1, 0
        asked.edns = now >= self._edns_after or not wire.may_drop_edns(question)
        if self._closed:
            self._fail(asked, NetworkError("the transport is closed", local=True))
            return asked
        try:
            asked.port, asked.ident = port, ident = ports.place(asked)
        except OSError as error:
            self._fail(asked, NetworkError(f"no socket: {error}", local=True))
            return asked
        self._timeouts.add(asked, now)
        message = question.wire if asked.edns else wire.without_edns(question)
        try:
            port.send(_short(ident) + message[2:])
        except OSError as error:
            self._not_sent(asked, error)
        return asked

    async def _locate_and_query(self, question: Question) -> Reply:
        """Find the server's own address first, by way of other upstreams."""
        assert self._loop is not None
        if self._unknown is not None and self._loop.time() < self._locate_after:
            raise network_error(self._unknown)
        if self._locating is None or self._locating.done():
            self._locating = asyncio.ensure_future(self._find_server())
        # Shared, and not the loser's of a race to cancel: the next question needs it.
        await asyncio.shield(self._locating)
        return await self.query(question)

    async def _find_server(self) -> None:
        if self._locate is None:
            raise NetworkError(f"the address of {self.endpoint.name} is not known")
        try:
            address = await self._locate()
        except UpstreamError as error:
            # Nor is its name asked for again at once (RFC 9520 section 3.2).
            assert self._loop is not None
            self._unknown = network_error(error)
            if not self._unknown.local:
                self._locate_after = self._loop.time() + FAILURE_TTL
            raise
        self.endpoint = replace(self.endpoint, address=address)

    def resend(self, future: asyncio.Future[Reply]) -> bool:
        """Send a pending question once more, from the same port and with the same id.

        Returns:
            Whether it was sent; False once it has been sent three times or has ended.
        """
        if not isinstance(future, _Asked) or future.done():
            return False
        if future.sends >= MAX_SENDS or future.ident not in future.port.asked:
            return False
        self._send_again(future)
        return True

    def _send_again(self, asked: _Asked) -> None:
        asked.sends += 1
        try:
            self._send(asked)
        except OSError as error:
            self._not_sent(asked, error)

    def _send(self, asked: _Asked) -> None:
        question = asked.question
        message = question.wire if asked.edns else wire.without_edns(question)
        asked.port.send(_short(asked.ident) + message[2:])

    def _not_sent(self, asked: _Asked, error: OSError) -> None:
        """Sending failed: try once more where the error was not its own."""
        if isinstance(error, ConnectionRefusedError):  # for an earlier datagram
            try:
                self._send(asked)
            except OSError as own:
                error = own
            else:
                return
        if not isinstance(error, BUSY):  # else as good as lost: sent again, or late
            self._forget(asked)
            self._fail(asked, network_error(error))

    # --- receiving -------------------------------------------------------------------

    def _lose(self, port: Port[_Asked], error: OSError) -> None:
        """An ICMP error, for all that is outstanding on a port."""
        for asked in list(port.asked.values()):
            self._forget(asked)
            self._fail(asked, network_error(error))

    def _take(self, port: Port[_Asked], data: bytes) -> None:
        asked = port.asked.get(data[0] << 8 | data[1]) if len(data) >= 12 else None
        if asked is None:
            self._take_stray(port, data)
            return
        question = asked.question
        now = self._loop.time()
        if data[2] & 2 or asked.done():  # late, or truncated: is it the reply at all?
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
                asked.dropped, asked.sends,
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

    def _take_stray(self, port: Port[_Asked], data: bytes) -> None:
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
        self._send_again(asked)
        return True

    # --- ends ------------------------------------------------------------------------

    def _expire(self, asked: _Asked) -> None:
        self._forget(asked)
        asked.port.late[asked.ident] = asked.question
        if not asked.done():
            self._fail(asked, QueryTimeout(f"no reply within {self._timeout:g} s"))

    def _fail(self, asked: _Asked, error: UpstreamError) -> None:
        if not asked.done():
            now = self._loop.time()
            asked.set_exception(
                failed(
                    error, self.endpoint, asked.started, now, asked.dropped, asked.sends
                )
            )

    def _forget(self, asked: _Asked) -> None:
        assert self._ports is not None
        if self._ports.release(asked.port, asked.ident):
            self._timeouts.discard(asked)
            if asked.sends > 1:  # each packet has a reply of its own
                asked.port.late[asked.ident] = asked.question

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

    def _bind(self) -> None:
        if self._bound:
            return
        self._loop = asyncio.get_running_loop()
        self._timeouts = Timeouts(self._loop, self._timeout, self._expire)
        self._bound = True

    def _bind_ports(self) -> Ports[_Asked]:
        self._bind()
        server = (self.endpoint.address, self.endpoint.port)
        source = (self._source or "", self._source_port)
        self._ports = Ports(self._loop, server, source, self._take, self._lose)
        return self._ports

    async def aclose(self) -> None:
        """Close every socket; outstanding questions are cancelled. Idempotent."""
        self._closed = True
        if self._ports is not None:
            waiting = [asked for port in self._ports for asked in port.asked.values()]
            for asked in waiting:
                self._forget(asked)
                asked.cancel()
            self._ports.close()
        if self._bound:
            self._timeouts.clear()
        if self._locating is not None:
            self._locating.cancel()
            await asyncio.wait([self._locating])
        if self._tcp is not None:
            await self._tcp.aclose()
