"""A fake public resolver on loopback."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, get_args
from urllib.parse import quote

import dns.exception
import dns.flags
import dns.message
import dns.rdatatype

from resolverkit.errors import ConfigurationError
from resolverkit.testing.do53 import Do53Server, Framed
from resolverkit.testing.doh import DohServer
from resolverkit.testing.faults import Fault
from resolverkit.testing.forwarder import Forwarder, Outage
from resolverkit.testing.listener import Listener

if TYPE_CHECKING:
    from collections.abc import Callable

    from resolverkit.testing.authority import Authority
    from resolverkit.testing.certificates import Certificates
    from resolverkit.testing.faults import Send
    from resolverkit.testing.records import EdeLike

Transport: TypeAlias = Literal["udp", "tcp", "dot", "doh"]
Http: TypeAlias = Literal["h2", "http/1.1", "both"]

_URLS = {
    "udp": "udp://127.0.0.1:{port}",
    "tcp": "tcp://127.0.0.1:{port}",
    "dot": "tls://127.0.0.1:{port}",
    "doh": "https://localhost:{port}/dns-query",
}


class _Server(Protocol):
    async def start(self, port: int = 0) -> int: ...
    def close(self) -> None: ...
    async def wait_closed(self) -> None: ...


class LabUpstream:
    """A small caching forwarder, as a public resolver is seen from outside.

    It asks the lab's authority, keeps the answers for their TTL, and counts the TTLs
    down. When the authority has vanished and an answer has run out, it does what
    `outage` says.

    Args:
        transport: ``"udp"`` (with TCP on the same port), ``"tcp"`` (likewise),
            ``"dot"`` or ``"doh"``.
        operator: who runs it, as the URL tells.
        outage: ``"servfail"`` at once, or ``"silent"``, when the authority is gone.
        ede: extended DNS error of those SERVFAILs, such as 22 (No Reachable Authority).
        http: what a DoH server speaks, by ALPN.
        validates: it validates DNSSEC, and all data is signed: AD for those who ask.
        seed: of the randomness in faults.
        clock: seconds, for TTLs; by default the loop's time.

    Attributes:
        fault: what is wrong with it; set it at any time.
        queries: how many queries have arrived, lost ones included.
        by_name: the same by name, in lower case with the dot at its end.
        log: the same in order, as (loop time, name, type).
        connections: how many connections have been made to it.
        port: its port, once it has started.
        url: its URL in resolverkit's grammar, once it has started.
    """

    def __init__(
        self,
        transport: Transport = "udp",
        *,
        operator: str = "",
        outage: Outage = "servfail",
        ede: EdeLike = None,
        http: Http = "h2",
        validates: bool = False,
        seed: int = 0,
        clock: Callable[[], float] | None = None,
    ) -> None:
        _check("transport", transport, get_args(Transport))
        _check("outage", outage, get_args(Outage))
        _check("http", http, get_args(Http))
        self.transport = transport
        self.operator = operator
        self.outage = outage
        self.ede = ede
        self.http = http
        self.validates = validates
        self.fault: Fault = Fault()
        self.queries: int = 0
        self.by_name: Counter[str] = Counter()
        self.log: list[tuple[float, str, str]] = []
        self.connections: int = 0
        self.port: int = 0
        self.url: str = ""
        self._seed = seed
        self._clock = clock
        self._timers: set[asyncio.TimerHandle] = set()
        self._server: _Server | None = None
        self._forwarder: Forwarder | None = None

    @property
    def encrypted(self) -> bool:
        """Whether it needs a certificate."""
        return self.transport in {"dot", "doh"}

    async def stop(self) -> None:
        """Close its sockets and connections: from now on they are refused."""
        self._break_off()
        if self._server is not None:
            await self._server.wait_closed()

    async def start(self) -> None:
        """Start it again after `stop`, on its port and with an empty cache."""
        if self._server is None or self._forwarder is None:
            raise RuntimeError("the lab starts it first")
        self._forwarder.forget()
        self.port = await self._server.start(self.port)

    async def _set_up(
        self, authority: Authority, certificates: Certificates | None
    ) -> None:
        self._forwarder = Forwarder(
            authority, self.outage, self.ede, self._seed, validates=self.validates
        )
        self._server = self._make_server(certificates)
        self.port = 0
        await self.start()
        parameters = {"operator": self.operator}
        if certificates is not None:
            address = "127.0.0.1" if self.transport == "doh" else ""
            ca = certificates.ca_path.as_posix()
            parameters = {"address": address, "ca": ca, **parameters}
        query = "&".join(f"{k}={quote(v)}" for k, v in parameters.items() if v)
        url = _URLS[self.transport].format(port=self.port)
        self.url = f"{url}?{query}" if query else url

    def _make_server(self, certificates: Certificates | None) -> _Server:
        if certificates is None:
            return Do53Server(self)
        if self.transport == "dot":
            return Listener(lambda _: Framed(self), certificates.context(["dot"]))
        alpn = ["h2", "http/1.1"] if self.http == "both" else [self.http]
        return DohServer(self, certificates.context(alpn))

    def _break_off(self) -> None:
        """All that can be closed without waiting."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        if self._server is not None:
            self._server.close()

    def connected(self) -> None:
        """Count a connection."""
        self.connections += 1

    def receive(self, data: bytes, send: Send, *, datagram: bool = False) -> None:
        """Take a query, and send what there is to send: nothing, or soon, or later.

        Args:
            data: the query; what cannot be read, or is a response, gets no reply.
            send: sends one message back.
            datagram: it came over UDP.
        """
        try:
            query = dns.message.from_wire(data)
            asked = query.question[0]
        except (dns.exception.DNSException, IndexError):
            return
        if query.flags & dns.flags.QR:
            return
        loop = asyncio.get_running_loop()
        name = asked.name.to_text().lower()
        self.queries += 1
        self.by_name[name] += 1
        self.log.append((loop.time(), name, dns.rdatatype.to_text(asked.rdtype)))
        if self._forwarder is None:
            return
        fault = self.fault
        now = loop.time() if self._clock is None else self._clock()
        for message in self._forwarder.messages(query, fault, now, datagram=datagram):
            self._send(send, message, fault.delay)

    def _send(self, send: Send, message: bytes, delay: float) -> None:
        if not delay:
            send(message)
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._timers = {timer for timer in self._timers if timer.when() > now}
        self._timers.add(loop.call_later(delay, send, message))

    def __repr__(self) -> str:
        return f"<LabUpstream {self.url or self.transport} {self.queries} queries>"


def _check(what: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigurationError(f"{what} {value!r} is none of {', '.join(allowed)}")
