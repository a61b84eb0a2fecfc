"""DNS over HTTP/1.1, server side, over aiohttp."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from resolverkit.testing.doh_request import MEDIA_TYPE, read_request
from resolverkit.testing.faults import exhausted

if TYPE_CHECKING:
    from aiohttp.web_protocol import RequestHandler

    from resolverkit.testing.faults import Responder

_SHUTDOWN = 1.0  # seconds; handlers were cancelled before


class Http1:
    """Makes a protocol for each connection, and ends their tasks."""

    def __init__(self, responder: Responder) -> None:
        self._responder = responder
        self._replies: dict[RequestHandler, int] = {}
        # A handler that waits because the upstream is silent ends with its connection.
        self._server = web.Server(
            self._handle, handler_cancellation=True, access_log=None
        )

    def protocol(self) -> asyncio.Protocol:
        """A protocol for one connection."""
        return self._server()

    async def shutdown(self) -> None:
        """End what is left of tasks, after all connections were broken off."""
        await self._server.shutdown(_SHUTDOWN)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        query = read_request(
            request.method,
            request.path_qs,
            request.content_type,
            body,
            refuse_post=self._responder.fault.refuse_post,
        )
        if isinstance(query, int):
            return web.Response(status=query)
        reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def send(message: bytes) -> None:
            if not reply.done():  # HTTP has room for one reply only
                reply.set_result(message)

        self._responder.receive(query, send)
        if self._exhausted(request, 0) and request.transport is not None:
            request.transport.abort()
        message = await reply
        fault = self._responder.fault
        response = web.Response(
            body=message,
            status=fault.status,
            headers={"content-type": MEDIA_TYPE, **fault.headers},
        )
        if self._exhausted(request, 1):
            response.force_close()
        return response

    def _exhausted(self, request: web.BaseRequest, more: int) -> bool:
        """Whether the connection has to be closed, after `more` further replies."""
        known = self._replies
        self._replies = {each: known.get(each, 0) for each in self._server.connections}
        replies = known.get(request.protocol, 0) + more
        self._replies[request.protocol] = replies
        return exhausted(self._responder.fault, replies)
