"""The Server: a Resolver for everything that speaks DNS."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from resolverkit.errors import ConfigurationError, StoreError
from resolverkit.server import addresses
from resolverkit.server.access import RATE, Access, Ruling
from resolverkit.server.certificate import Certificate
from resolverkit.server.counts import ServerStats
from resolverkit.server.guard import check_reach, check_upstreams
from resolverkit.server.query import Over
from resolverkit.server.responder import MAX_IN_FLIGHT, Responder
from resolverkit.server.tcp import MAX_CONNECTIONS, TcpListener
from resolverkit.server.udp import UdpListener

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from resolverkit.resolver import Resolver
    from resolverkit.server.addresses import Address, Sockets

DRAIN = 5.0
"""Seconds for queries that wait when the server is to end; more than they take."""

STORE = 2.0
"""Seconds that a store may take to open before queries are answered without it."""

_LOOK = 0.01  # seconds between two looks at whether nobody waits any more

_log = logging.getLogger("resolverkit.server")


class Server:
    """A stub resolver on the network: UDP, TCP and TLS over one `Resolver`.

    ::

        async with Resolver(["quad9", "cloudflare"]) as resolver:
            async with Server(resolver, ["127.0.0.1:5353"]) as server:
                print(*server.addresses)
                await asyncio.Event().wait()

    It answers loopback, and who is in `allow`: it is never an open resolver. The
    Resolver stays the caller's, to be closed after the server.

    Args:
        resolver: who answers.
        listen: addresses for UDP and TCP; port 53 without one, and 0 for any free one.
        listen_tls: addresses for DNS over TLS; port 853 without one.
        tls_cert: PEM file of the certificate and those that lead to its authority.
        tls_key: PEM file of its key; None where that is in `tls_cert`.
        allow: networks that may ask besides loopback, as ``"192.168.0.0/16"``.
        rate_limit: datagrams per second that a client prefix (/32, /64) may send, and
            four times that at once; 0 for any number. Loopback has no limit.
        explain: tell in each reply to a client with EDNS by which path it came.
        max_in_flight: queries that may wait for upstreams; then the oldest give way.
        max_connections: connections for each address, likewise.
        sockets: in place of addresses, sockets that are bound already.

    Attributes:
        stats: what was counted, and is under way.

    Raises:
        ConfigurationError: an address, a network or a certificate that cannot be used;
            an address beyond loopback, and nobody there is allowed to ask.
    """

    def __init__(
        self,
        resolver: Resolver,
        listen: Sequence[str] = ("127.0.0.1",),
        *,
        listen_tls: Sequence[str] = (),
        tls_cert: str | os.PathLike[str] | None = None,
        tls_key: str | os.PathLike[str] | None = None,
        allow: Sequence[str] = (),
        rate_limit: float = RATE,
        explain: bool = False,
        max_in_flight: int = MAX_IN_FLIGHT,
        max_connections: int = MAX_CONNECTIONS,
        sockets: Sequence[Sockets] | None = None,
    ) -> None:
        self.stats: ServerStats = ServerStats()
        self._given = sockets
        self._wanted = [(addresses.parse(text), False) for text in listen]
        self._wanted += [
            (addresses.parse(text, addresses.TLS_PORT), True) for text in listen_tls
        ]
        if sockets is not None:
            self._wanted = [(each.address, each.tls) for each in sockets]
        self._access = Access(allow, rate_limit)
        check_reach((address for address, _ in self._wanted), allow)
        self._certificate: Certificate | None = None
        if any(tls for _, tls in self._wanted):
            if tls_cert is None:
                raise ConfigurationError("listen_tls needs tls_cert (and tls_key)")
            self._certificate = Certificate(tls_cert, tls_key, ["dot"])
        self._max_connections = max_connections
        self._responder = Responder(
            resolver, self.stats, explain=explain, max_in_flight=max_in_flight
        )
        self._bound: list[Sockets] = []
        self._udp: list[UdpListener] = []
        self._tcp: list[TcpListener] = []

    # --- what it is ------------------------------------------------------------------

    @property
    def resolver(self) -> Resolver:
        """Who answers."""
        return self._responder.resolver

    @property
    def addresses(self) -> list[Address]:
        """Where it listens for UDP and TCP; `str()` is as one writes them."""
        return [each.address for each in self._bound if not each.tls]

    @property
    def tls_addresses(self) -> list[Address]:
        """Where it listens for DNS over TLS."""
        return [each.address for each in self._bound if each.tls]

    @property
    def _reached(self) -> list[Address]:
        return [address for each in self._bound for address in each.reached]

    @property
    def _listeners(self) -> list[UdpListener | TcpListener]:
        return [*self._udp, *self._tcp]

    # --- its life --------------------------------------------------------------------

    async def start(self) -> None:
        """Bind and begin to answer.

        Raises:
            OSError: an address is taken, or is not of this machine.
            ConfigurationError: an upstream is this server.
        """
        self._bound = list(self._given or ())
        try:
            if self._given is None:
                for address, tls in self._wanted:
                    self._bound.append(addresses.bind(address, tls=tls))
            self._take(self.resolver)
        except BaseException:
            self._unbind()
            raise
        await self._open_store()
        own = {each.udp.getsockname() for each in self._bound if each.udp is not None}
        for sockets in self._bound:
            access = None if sockets.address.loopback else self._access
            if sockets.udp is not None:
                datagrams = UdpListener(sockets.udp, self._responder, access, own)
                await datagrams.start()
                self._udp.append(datagrams)
            if sockets.tcp is not None:
                connections = TcpListener(
                    sockets.tcp, self._responder, access,
                    self._certificate if sockets.tls else None, self._max_connections,
                )  # fmt: skip
                connections.start()
                self._tcp.append(connections)
        if self._bound:
            _log.info("listening at %s", ", ".join(str(a.address) for a in self._bound))

    async def _open_store(self) -> None:
        """Have what is known at hand for the first query, as amid an outage."""
        self.resolver._bind(None)  # which gives the store its loop
        behind = self.resolver._store.behind
        if behind is not None:
            with contextlib.suppress(TimeoutError, StoreError):  # told by its first use
                async with asyncio.timeout(STORE):
                    await behind.opened()

    def _unbind(self) -> None:
        for sockets in self._bound:
            sockets.close()
        self._bound = []

    async def drain(self, patience: float = DRAIN) -> None:
        """Take no new queries, and answer those that are under way.

        Args:
            patience: seconds that this may take.
        """
        for listener in self._listeners:
            listener.pause()
        loop = asyncio.get_running_loop()
        until = loop.time() + patience
        while self._busy() and loop.time() < until:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK)

    def _busy(self) -> bool:
        return bool(self._responder.in_flight) or not all(
            listener.idle for listener in self._listeners
        )

    async def aclose(self) -> None:
        """Break off whatever is under way, and let go of the sockets. Idempotent."""
        udp, self._udp = self._udp, []
        tcp, self._tcp = self._tcp, []
        for datagrams in udp:
            datagrams.close()
        self._responder.give_up()
        for connections in tcp:
            await connections.aclose()
        self._bound = []

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # --- what may change while it runs -----------------------------------------------

    def load_certificate(self) -> None:
        """Read the certificate, or the one that has taken its place.

        Connections that are open go on with the one before.

        Raises:
            ConfigurationError: the files cannot be used; the one before stays.
        """
        if self._certificate is not None:
            self._certificate.load()

    def change(
        self,
        resolver: Resolver,
        *,
        allow: Sequence[str] = (),
        rate_limit: float = RATE,
        explain: bool = False,
    ) -> None:
        """Go on with another Resolver and other rules, at the same addresses.

        The cache and the store of the Resolver before are its own from then on.

        Raises:
            ConfigurationError: one of them cannot be used; nothing has changed then.
        """
        access = Access(allow, rate_limit)
        check_reach((address for address, _ in self._wanted), allow)
        self._take(resolver)
        self.load_certificate()
        self._access = access
        for listener in self._listeners:
            if listener.access is not None:
                listener.access = access
        if resolver is not self.resolver:
            resolver._inherit(self.resolver)
        self._responder.use(resolver, explain=explain)

    def check_upstreams(self, resolver: Resolver) -> None:
        """Raise ConfigurationError where an upstream is this server."""
        check_upstreams(resolver, self._reached)

    def _is_own(self, host: str, port: int) -> bool:
        """Whether what is sent there would come here."""
        return any(address.covers(host, port) for address in self._reached)

    def _take(self, resolver: Resolver) -> None:
        """Raise ConfigurationError for a Resolver that cannot answer here."""
        resolver._serve_at(self._is_own, self.check_upstreams)
        self.check_upstreams(resolver)

    # --- for other ways to ask -------------------------------------------------------

    async def answer(
        self, message: bytes, *, client: str, over: Over = Over.HTTPS
    ) -> bytes | None:
        """The reply to a message that came by a way of the caller's own.

        Args:
            message: as it came.
            client: its IP address.
            over: how it came, which decides about size and padding.

        Returns:
            The reply; None where the client may not ask, or nothing is to be said.
        """
        stats = self.stats
        name = over.value
        setattr(stats, name, getattr(stats, name) + 1)
        now = self.resolver._clock()
        ruling = self._access.rule(client, now, datagram=over.datagram)
        if ruling is not Ruling.ANSWER:
            stats.denied += 1
            return None
        future: asyncio.Future[bytes | None]
        future = asyncio.get_running_loop().create_future()

        def done(reply: bytes | None) -> None:
            if not future.done():
                future.set_result(reply)

        self._responder.ask(message, over, done)
        return await future
