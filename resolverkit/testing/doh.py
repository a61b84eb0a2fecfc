"""Fake servers for DNS over HTTPS (RFC 8484): HTTP/2 by h2, HTTP/1.1 by aiohttp."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolverkit.testing.listener import Listener

if TYPE_CHECKING:
    import asyncio
    import ssl

    from resolverkit.testing.faults import Responder
    from resolverkit.testing.http1 import Http1


class DohServer:
    """HTTPS; ALPN decides which HTTP a connection speaks."""

    def __init__(self, responder: Responder, context: ssl.SSLContext) -> None:
        self._responder = responder
        self._listener = Listener(self._protocol, context)
        self._http1: Http1 | None = None

    def _protocol(self, transport: asyncio.Transport) -> asyncio.Protocol:
        # Each is loaded on first use, as in the transports.
        tls: ssl.SSLObject = transport.get_extra_info("ssl_object")
        self._responder.connected()
        if tls.selected_alpn_protocol() == "h2":
            from resolverkit.testing.http2 import Http2  # noqa: PLC0415

            return Http2(self._responder)
        if self._http1 is None:
            from resolverkit.testing.http1 import Http1  # noqa: PLC0415

            self._http1 = Http1(self._responder)
        return self._http1.protocol()

    async def start(self, port: int = 0) -> int:
        """Listen; gives the port."""
        return await self._listener.start(port)

    def close(self) -> None:
        """Close the socket and break off every connection, at once."""
        self._listener.close()

    async def wait_closed(self) -> None:
        """Wait until `close` has taken effect."""
        await self._listener.wait_closed()
        if self._http1 is not None:
            await self._http1.shutdown()
