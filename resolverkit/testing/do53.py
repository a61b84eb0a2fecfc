"""Fake servers for plain DNS, and for DNS over TLS: UDP, and messages in streams."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from resolverkit.testing.faults import exhausted
from resolverkit.testing.listener import HOST, Listener

if TYPE_CHECKING:
    from resolverkit.testing.faults import Responder

_PORT_TRIES = 20


class Framed(asyncio.Protocol):
    """Messages with two octets of length before each (RFC 1035 section 4.2.2)."""

    def __init__(self, responder: Responder) -> None:
        self._responder = responder
        self._buffer = bytearray()
        self._replies = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A connection begins."""
        self._transport = cast("asyncio.Transport", transport)
        self._responder.connected()

    def data_received(self, data: bytes) -> None:
        """Octets arrive, in any portions."""
        buffer = self._buffer
        buffer += data
        while not self._transport.is_closing() and len(buffer) >= 2:
            end = 2 + int.from_bytes(buffer[:2], "big")
            if len(buffer) < end:
                break
            message = bytes(buffer[2:end])
            del buffer[:end]
            self._responder.receive(message, self._send)
            self._close_if_exhausted()

    def _send(self, message: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(len(message).to_bytes(2, "big") + message)
            self._replies += 1
            self._close_if_exhausted()

    def _close_if_exhausted(self) -> None:
        if exhausted(self._responder.fault, self._replies):
            self._transport.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, responder: Responder) -> None:
        self._responder = responder
        self.gone = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._responder.receive(data, partial(self._send, addr), datagram=True)

    def _send(self, addr: Any, message: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.sendto(message, addr)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.gone.done():
            self.gone.set_result(None)


class Do53Server:
    """UDP, and TCP on the same port."""

    def __init__(self, responder: Responder) -> None:
        self._responder = responder
        self._listener = Listener(lambda _: Framed(responder))
        self._transport: asyncio.DatagramTransport | None = None

    async def start(self, port: int = 0) -> int:
        """Listen; gives the port."""
        for attempt in range(1, _PORT_TRIES + 1):
            bound = await self._listener.start(port)
            # That port may be taken over UDP, by somebody's client.
            try:
                await self._start_udp(bound)
            except OSError:
                self.close()
                await self.wait_closed()
                if port or attempt == _PORT_TRIES:
                    raise
            else:
                break
        return bound

    async def _start_udp(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        self._transport, self._datagrams = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self._responder), local_addr=(HOST, port)
        )

    def close(self) -> None:
        """Close the sockets and break off every connection, at once."""
        self._listener.close()
        if self._transport is not None:
            self._transport.abort()

    async def wait_closed(self) -> None:
        """Wait until `close` has taken effect."""
        await self._listener.wait_closed()
        if self._transport is not None:
            await self._datagrams.gone
