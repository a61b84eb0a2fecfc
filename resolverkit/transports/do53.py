"""DNS over UDP, and over TCP where a reply is truncated (RFC 1035, RFC 5452, RFC 7766).

No two outstanding questions share (port, id). A datagram that fails the checks of RFC
5452 section 9.1 is counted and dropped, and the question goes on waiting.
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from resolverkit import wire
from resolverkit.deadlines import Deadline, Deadlines, Rounds, clock_of
from resolverkit.errors import (
    BadReply,
    NetworkError,
    QueryTimeout,
    ServerFailure,
    UpstreamError,
)
from resolverkit.listener import Direct, UnderWay, Watched, listen
from resolverkit.model import Attempt, Outcome, PlainReply, Reply
from resolverkit.policy import FAILURE_TTL
from resolverkit.transports.outcome import conclude, failed
from resolverkit.transports.ports import BUSY, Port, Ports
from resolverkit.transports.reconnect import network_error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from resolverkit.deadlines import Due
    from resolverkit.listener import Listener
    from resolverkit.model import Endpoint, Question
    from resolverkit.transports.stream import Tcp

MAX_SENDS = 3
"""Packets per question, address and transport (RFC 9520 section 3.1)."""
EDNS_RETRY = 3600.0
"""Seconds for which a server that cannot do EDNS is asked without it."""

_FORMERR = 1


class _Asked(UnderWay):
    """One question on its way."""

    __slots__ = (
        "dropped", "edns", "ident", "port", "question", "sends", "started", "tcp",
    )  # fmt: skip

    question: Question
    port: Port[_Asked]
    ident: bytes
    started: float
    sends: int
    dropped: int
    edns: bool
    tcp: asyncio.Future[Reply] | None  # unset as a rule

    def drop(self) -> None:
        """Nobody wants to know; the id is held until the reply comes, or is late."""
        self.listener = None
        tcp = getattr(self, "tcp", None)
        if tcp is not None:
            tcp.cancel()


class Do53(Direct):
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
        self._deadlines: Deadlines
        self._rounds: Rounds
        self._bound = False
        self._closed = False

    @property
    def name(self) -> str:
        """The upstream's URL."""
        return self.endpoint.name

    def __repr__(self) -> str:
        return f"<Do53 {self.name}>"

    # --- asking ----------------------------------------------------------------------

    def ask(self, question: Question, listener: Listener, now: float) -> UnderWay:
        """Send `question`; see `Direct.ask`."""
        ports = self._ports
        if ports is None:
            if not self.endpoint.address:
                return self._ask_once_located(question, listener)
            ports = self._bind_ports()
        asked = _Asked()
        asked.question = question
        asked.listener = listener
        asked.started = now
        asked.sends, asked.dropped = 1, 0
        asked.edns = edns = now >= self._edns_after or not wire.may_drop_edns(question)
        if self._closed:
            self._fail(asked, NetworkError("the transport is closed", local=True))
            return asked
        try:
            port = ports.place(asked)
        except OSError as error:
            self._fail(asked, NetworkError(f"no socket: {error}", local=True))
            return asked
        if self._rounds.next <= now:
            self._rounds.begin(now)
        message = question.wire if edns else wire.without_edns(question)
        try:
            port.send(asked.ident + message[2:])
        except OSError as error:
            self._not_sent(asked, error)
        return asked

    def _ask_once_located(self, question: Question, listener: Listener) -> UnderWay:
        self._bind()
        task = Context().run(asyncio.ensure_future, self._locate_and_query(question))
        return Watched(task, listener)

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
        asked = getattr(future, "under_way", None)
        if not isinstance(asked, _Asked) or asked.listener is None:
            return False
        if asked.sends >= MAX_SENDS or not self._is_held(asked):
            return False
        self._send_again(asked)
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
        asked.port.send(asked.ident + message[2:])

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
        waiting = port.asked
        asked = waiting.get(data[:2])
        if asked is None:
            self._take_stray(port, data)
            return
        question, listener = asked.question, asked.listener
        if listener is not None and asked.sends == 1 and not asked.dropped:
            ttl = wire.plain_ttl(question, data)
            if ttl >= 0:  # as nearly all: what the rest would come to, in fewer steps
                del waiting[asked.ident]
                if port.uses >= self._most_uses:
                    self._tidy(port)
                asked.listener = None
                self.heard = now = self._time()
                plain = PlainReply()
                plain.wire = data
                plain.ttl = ttl
                plain.name_size = question.end - 16
                plain.endpoint = self.endpoint
                plain.started = started = asked.started
                plain.elapsed = now - started
                listener.answered(plain)
                return
        self._judge(asked, data)

    def _judge(self, asked: _Asked, data: bytes) -> None:
        question = asked.question
        now = self._time()
        if len(data) < 12:
            self._drop(asked)
            return
        if data[2] & 2 or asked.listener is None:  # truncated, or late: is it one?
            if wire.mismatch(question, data):
                self._drop(asked)
                return
            self._forget(asked)
            self.heard = now
            if asked.listener is not None:
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
            self._tell_failed(asked, failure)
        else:
            self.heard = now
            if not asked.edns and now >= self._edns_after:
                self._edns_after = now + EDNS_RETRY
            self._forget(asked)
            listener, asked.listener = asked.listener, None
            listener.answered(reply)

    def _tell_failed(self, asked: _Asked, error: BaseException) -> None:
        listener, asked.listener = asked.listener, None
        if listener is not None:
            # Its traceback holds frames that hold `asked`: a cycle.
            listener.failed(error.with_traceback(None))

    def _take_stray(self, port: Port[_Asked], data: bytes) -> None:
        """No question waits under this id; one may have, until a moment ago."""
        ident = data[:2]
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

    def _find_late(self, until: float) -> tuple[list[Due], bool]:
        """Those whose time ends by then, and whether there are others."""
        timeout, others = self._timeout, False
        found: list[Due] = []
        for port in self._ports or ():
            for asked in port.asked.values():
                due = asked.started + timeout
                if due <= until:
                    found.append(Deadline(due, partial(self._expire, asked)))
                else:
                    others = True
        return found, others

    def _is_held(self, asked: _Asked) -> bool:
        """Whether its id is still its own: it is not over, nor goes on over TCP."""
        return asked.port.asked.get(asked.ident) is asked

    def _expire(self, asked: _Asked) -> None:
        if not self._is_held(asked):
            return
        self._forget(asked)
        asked.port.late[asked.ident] = asked.question
        self._fail(asked, QueryTimeout(f"no reply within {self._timeout:g} s"))

    def _fail(self, asked: _Asked, error: UpstreamError) -> None:
        if asked.listener is not None:
            now, since = self._time(), asked.started
            failed(error, self.endpoint, since, now, asked.dropped, asked.sends)
            self._tell_failed(asked, error)

    def _forget(self, asked: _Asked) -> None:
        assert self._ports is not None
        held = self._ports.release(asked.port, asked.ident)
        if held and asked.sends > 1:  # each packet has a reply of its own
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
        asked.tcp = self._tcp.query(asked.question)
        listen(asked.tcp, partial(self._take_tcp, asked, first))

    def _take_tcp(
        self, asked: _Asked, first: Attempt, second: asyncio.Future[Reply]
    ) -> None:
        asked.tcp = None
        if second.cancelled():
            self._call_off(asked)
            return
        error = second.exception()
        if error is not None:
            error.attempts = (first, *getattr(error, "attempts", ()))  # type: ignore[attr-defined]
            self._tell_failed(asked, error)
            return
        listener, asked.listener = asked.listener, None
        if listener is not None:
            reply = second.result()
            reply.attempts = (first, *reply.attempts)
            listener.answered(reply)

    def _call_off(self, asked: _Asked) -> None:
        listener, asked.listener = asked.listener, None
        if listener is not None:
            listener.called_off()

    # --- lifetime --------------------------------------------------------------------

    def _bind(self) -> None:
        if self._bound:
            return
        self._loop = asyncio.get_running_loop()
        self._time = clock_of(self._loop)
        self._deadlines = Deadlines(self._loop)
        period = self._timeout / 4
        self._rounds = Rounds(self._loop, period, self._deadlines, self._find_late)
        self._bound = True

    def _bind_ports(self) -> Ports[_Asked]:
        self._bind()
        server = (self.endpoint.address, self.endpoint.port)
        source = (self._source or "", self._source_port)
        self._ports = ports = Ports(self._loop, server, source, self._take, self._lose)
        self._tidy, self._most_uses = ports.tidy, ports.most_uses
        return ports

    async def aclose(self) -> None:
        """Close every socket; outstanding questions are cancelled. Idempotent."""
        self._closed = True
        if self._ports is not None:
            waiting = [asked for port in self._ports for asked in port.asked.values()]
            for asked in waiting:
                self._forget(asked)
                self._call_off(asked)
            self._ports.close()
        if self._bound:
            self._rounds.clear()
            self._deadlines.clear()
        if self._locating is not None:
            self._locating.cancel()
            await asyncio.wait([self._locating])
        if self._tcp is not None:
            await self._tcp.aclose()
