"""A DNS-over-HTTPS server that speaks HTTP/1.1 only, as some proxies still do.

    python http1.py PORT CERTIFICATE KEY UPSTREAM_PORT

It hands each message to a resolver's UDP port on loopback. aiohttp offers "http/1.1"
alone by ALPN, so that a client which insists on h2 gets nowhere.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import ssl
import sys

from aiohttp import web

MEDIA_TYPE = "application/dns-message"
UPSTREAM: web.AppKey[int] = web.AppKey("upstream", int)


class OneReply(asyncio.DatagramProtocol):
    """Waits for one datagram."""

    def __init__(self) -> None:
        self.reply = asyncio.get_running_loop().create_future()

    def datagram_received(self, data, addr) -> None:
        if not self.reply.done():
            self.reply.set_result(data)


async def ask(query: bytes, port: int) -> bytes:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(
        OneReply, remote_addr=("127.0.0.1", port)
    )
    try:
        transport.sendto(query)
        async with asyncio.timeout(5):
            return await protocol.reply
    finally:
        transport.close()


async def query_in(request: web.Request) -> bytes:
    if request.method == "POST":
        if request.content_type != MEDIA_TYPE:
            raise web.HTTPUnsupportedMediaType
        return await request.read()
    text = request.query.get("dns", "")
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise web.HTTPBadRequest from error


async def serve(request: web.Request) -> web.Response:
    query = await query_in(request)
    if len(query) < 12:
        raise web.HTTPBadRequest
    try:
        reply = await ask(query, request.app[UPSTREAM])
    except (TimeoutError, OSError) as error:
        raise web.HTTPBadGateway from error
    return web.Response(body=reply, content_type=MEDIA_TYPE)


def main(port: str, certificate: str, key: str, upstream: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["http/1.1"])
    app = web.Application()
    app[UPSTREAM] = int(upstream)
    app.router.add_route("GET", "/dns-query", serve)
    app.router.add_route("POST", "/dns-query", serve)
    web.run_app(app, host="127.0.0.1", port=int(port), ssl_context=context, print=None)


if __name__ == "__main__":
    main(*sys.argv[1:])
