"""A transport that keeps one connection: what TCP, DoT and DoH have in common.

It takes questions, ends them in time, and asks those of a lost connection once more on
a new one. What a connection is to it, `asked.Channel` says.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from resolverkit.deadlines import Deadlines, Rounds
from resolverkit.errors import NetworkError, QueryTimeout, UpstreamError
from resolverkit.listener import Direct, UnderWay
from resolverkit.transports.asked import Asked
from resolverkit.transports.reconnect import (
    CONNECT_TIMEOUT,
    Connector,
    fail_all,
    network_error,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Iterator

    from resolverkit.deadlines import Due
    from resolverkit.listener import Listener
    from resolverkit.model import Endpoint, Question
    from resolverkit.transports.asked import Channel


class Connected(Direct):
    """The base of transports that keep a connection.

    Args:
        endpoint: who is asked, and how paths name it.
        timeout: seconds after which an attempt ends.
        source: the local address to send from.
        source_port: the local port to send from; 0 for any.
        locate: gives the server's IP address when `endpoint` has none.
        connect_timeout: seconds after which a try to connect ends.

    Attributes:
        endpoint: who is asked; its address is filled in once it is known.
        timeout: as given.
        heard: when the last valid reply came, on the loop's clock.
        loop: the loop of the first query, which it lives on.
    """

    loop: asyncio.AbstractEventLoop

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        timeout: float = 2.0,
        source: str | None = None,
        source_port: int = 0,
        locate: Callable[[], Awaitable[str]] | None = None,
        connect_timeout: float = CONNECT_TIMEOUT,
    ) -> None:
        self.endpoint: Endpoint = endpoint
        self.heard: float = 0.0
        self.timeout: float = timeout
        self._source = source
        self._source_port = source_port
        self._locate = None if endpoint.address else locate
        self._connect_timeout = connect_timeout
        self._connector: Connector | None = None
        self._channel: Channel | None = None  # the one that new questions go to
        self._channels: set[Channel] = set()  # that one, and those that are ending
        self._closed = False

    @property
    def name(self) -> str:
        """The endpoint's URL."""
        return self.endpoint.name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.endpoint.name}>"

    def ask(self, question: Question, listener: Listener, now: float) -> UnderWay:
        """Put `question` to the server; see `Direct.ask`."""
        if self._connector is None:
            self._connector = self._bind()
        asked = Asked(self, question, listener, now)
        if self._rounds.next <= now:
            self._rounds.begin(now)
        channel = self._channel
        if channel is not None:
            channel.send(asked)
        elif self._closed:
            asked.fail(NetworkError("the transport is closed", local=True))
        else:
            self._connector.put(asked)
        return asked

    def _bind(self) -> Connector:
        self.loop = asyncio.get_running_loop()
        self._deadlines = Deadlines(self.loop)
        period = self.timeout / 4
        self._rounds = Rounds(self.loop, period, self._deadlines, self._find_late)
        return Connector(self.loop, self._connect, self._connect_timeout)

    def _find_late(self, until: float) -> tuple[list[Due], bool]:
        """Those whose time ends by then, and whether there are others."""
        outstanding = list(self._outstanding())
        found: list[Due] = [asked for asked in outstanding if asked.due <= until]
        return found, len(found) < len(outstanding)

    def _outstanding(self) -> Iterator[Asked]:
        if self._connector is not None:
            yield from self._connector.waiting
        for channel in self._channels:
            yield from channel.outstanding()

    async def _connect(self) -> None:
        """Make a connection and call `connected`, or raise."""
        raise NotImplementedError

    async def _locate_server(self) -> str:
        """The address to connect to."""
        if self._locate is None:
            return self.endpoint.address
        try:
            address = await self._locate()
        except UpstreamError as error:
            local = isinstance(error, NetworkError) and error.local
            raise NetworkError(f"bootstrap: {error}", local=local) from None
        if address != self.endpoint.address:
            self.endpoint = replace(self.endpoint, address=address)
        return address

    def _local_address(self, address: str) -> tuple[str, int] | None:
        """Where to bind a socket to `address`; None for anywhere."""
        if not self._source and not self._source_port:
            return None
        anywhere = "::" if ":" in address else "0.0.0.0"  # noqa: S104 - outgoing only
        return self._source or anywhere, self._source_port

    async def _open(
        self,
        make: Callable[[], asyncio.BufferedProtocol],
        context: ssl.SSLContext | None = None,
        hostname: str | None = None,
    ) -> None:
        """Connect to the server; `make` gives the protocol."""
        address = await self._locate_server()
        await self.loop.create_connection(
            make,
            address,
            self.endpoint.port,
            ssl=context,
            server_hostname=hostname,
            local_addr=self._local_address(address),
        )

    def connected(self, channel: Channel) -> None:
        """`channel` is ready for questions."""
        self._channels.add(channel)
        if self._closed or self._connector is None:
            channel.abort()
            return
        self._channel = channel
        self._connector.deliver(channel)

    def retire(self, channel: Channel, *, closing: bool = False) -> None:
        """`channel` takes no more questions, but may still answer some."""
        if self._channel is channel:
            self._channel = None
        if closing:
            self._channels.add(channel)  # for aclose() to wait for
            channel.close()

    def lost(self, channel: Channel, error: NetworkError) -> None:
        """`channel` is gone: ask what was outstanding there once more."""
        self.retire(channel)
        self._channels.discard(channel)
        self.replay(channel.take(), error)

    def replay(self, outstanding: list[Asked], error: NetworkError) -> None:
        """Ask again, but only once (RFC 7766 section 6.2.4): else fail with `error`."""
        for asked in outstanding:
            asked.channel = None
            if asked.replayed or self._closed or self._connector is None:
                asked.fail(network_error(error))
                continue
            asked.replayed = True
            if self._channel is not None:
                self._channel.send(asked)
            else:
                self._connector.put(asked)

    def release(self, asked: Asked) -> None:
        """A question ended while it waited for a connection."""
        if self._connector is not None:
            self._connector.waiting.pop(asked, None)

    def overdue(self, asked: Asked) -> None:
        """The time of a question is over. Silence since it was sent: a dead stream."""
        channel = asked.channel
        asked.fail(QueryTimeout(f"no reply within {self.timeout:g} s"))
        if channel is not None and channel.reads == asked.seen:
            self.retire(channel)
            younger = channel.take()
            channel.abort()
            self.replay(younger, NetworkError("the server has gone silent"))

    async def aclose(self) -> None:
        """Close the connection; fail what is outstanding. Idempotent."""
        if self._closed or self._connector is None:
            self._closed = True
            return
        self._closed = True
        if self.loop.is_closed():
            return  # its connections ended with it
        error = NetworkError("the transport is closed", local=True)
        self._channel = None
        for channel in tuple(self._channels):
            fail_all(channel.take(), error)
            channel.close()
        self._connector.fail(error)
        await self._connector.aclose()
        for channel in tuple(self._channels):  # one that was made meanwhile, too
            await channel.wait_closed()
        self._rounds.clear()
        self._deadlines.clear()
