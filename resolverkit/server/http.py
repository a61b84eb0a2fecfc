"""HTTP: DNS over HTTPS (RFC 8484), and the page, the state and the metrics of a stub.

Who may ask is decided as for DNS. Beyond that a browser stands between this server and
every site that its user visits, so a request has to name this server by an address or
by ``localhost`` (or a site could have its own name point here: DNS rebinding), and may
not be made by another site (Fetch Metadata); none can read a response (no CORS).
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from aiohttp import http_exceptions, web

from resolverkit.errors import ConfigurationError
from resolverkit.server import addresses, doh
from resolverkit.server.certificate import Certificate
from resolverkit.server.explain import explain
from resolverkit.server.faces import HTTP_PORT, HTTPS_PORT
from resolverkit.server.guard import check_reach
from resolverkit.server.http2 import Http2, Response
from resolverkit.server.http_listener import MAX_CONNECTIONS, HttpListener
from resolverkit.server.page import page
from resolverkit.server.query import Over
from resolverkit.server.reply import least_ttl
from resolverkit.server.status import Status

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable

    from resolverkit.server.addresses import Address, Sockets
    from resolverkit.server.metrics import Metrics
    from resolverkit.server.stub import Server
    from resolverkit.server.watch import Watch

PATIENCE = 10.0
"""Seconds for the body of a request."""

_TICK = 1.0  # seconds between two looks at the counters
_SHUTDOWN = 1.0  # seconds for handlers that were cancelled
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
_FOREIGN = frozenset({"cross-site", "same-site"})

_log = logging.getLogger("resolverkit.server")
_aiohttps = logging.getLogger("resolverkit.server.http")


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether this is no mistake of a client, who could fill the log with those."""
    error = record.exc_info and record.exc_info[1]
    theirs = (http_exceptions.HttpProcessingError, web.RequestPayloadError)
    return not isinstance(error, theirs)


_aiohttps.addFilter(_is_ours)


class HttpFace:
    """What a Server shows over HTTP.

    ::

        watch = Watch(suspend_clock())
        async with Resolver(hook=watch) as resolver, Server(resolver) as server:
            face = HttpFace(server, watch)
            await face.start("127.0.0.1:8053")

    Args:
        server: who answers.
        watch: the hook of its Resolver; None for ``/dns-query`` alone.
        max_connections: that may be open at a time.
    """

    def __init__(
        self,
        server: Server,
        watch: Watch | None = None,
        *,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self.server = server
        self.status: Status | None = None if watch is None else Status(server, watch)
        self.address: Address | None = None
        self._metrics: Metrics | None = None
        self._max_connections = max_connections
        self._certificate: Certificate | None = None
        self._runner: web.AppRunner | None = None
        self._listener: HttpListener | None = None
        self._timer: asyncio.TimerHandle | None = None

    # --- its life --------------------------------------------------------------------

    async def start(
        self,
        listen: str,
        *,
        tls_cert: str | os.PathLike[str] | None = None,
        tls_key: str | os.PathLike[str] | None = None,
        sockets: Sockets | None = None,
    ) -> None:
        """Bind and begin to answer.

        Args:
            listen: an address, with or without a port.
            tls_cert: PEM file of a certificate; without it this is HTTP in clear text.
            tls_key: PEM file of its key; None where that is in `tls_cert`.
            sockets: in place of the address, one that is bound and listening already.

        Raises:
            ConfigurationError: the address or the certificate cannot be used.
            OSError: the address is taken, or is not of this machine.
        """
        port = HTTP_PORT if tls_cert is None else HTTPS_PORT
        address = addresses.parse(listen, port) if sockets is None else sockets.address
        check_reach([address], self.server._access.allowed)
        if tls_cert is not None:
            # The page is for HTTP/1.1; some clients of DNS speak HTTP/2 alone.
            own = ["h2"] if self.status is None else []
            self._certificate = Certificate(tls_cert, tls_key, [*own, "http/1.1"])
        if sockets is None:
            sockets = addresses.bind(address, https=True)
        assert sockets.tcp is not None
        self.address = sockets.address
        self._runner = web.AppRunner(
            self._application(),
            handle_signals=False,
            access_log=None,
            logger=_aiohttps,
            auto_decompress=False,  # nor is it over HTTP/2: a query is short
            handler_cancellation=True,
            shutdown_timeout=_SHUTDOWN,
        )
        await self._runner.setup()
        assert self._runner.server is not None
        self._listener = HttpListener(
            sockets.tcp, self.server, self._runner.server,
            lambda connection: Http2(connection, self._answer),
            self._certificate, self._max_connections,
        )  # fmt: skip
        self._listener.start()
        self._tick()
        _log.info("listening at %s for HTTP", self.address)

    def load_certificate(self) -> None:
        """Read the certificate, or the one that has taken its place.

        Raises:
            ConfigurationError: the files cannot be used; the one before stays.
        """
        if self._certificate is not None:
            self._certificate.load()

    async def aclose(self) -> None:
        """End every request, and let go of the socket. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        listener, self._listener = self._listener, None
        if listener is not None:
            await listener.aclose()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def _tick(self) -> None:
        if self.status is not None:
            self.status.tick()
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_TICK, self._tick)

    def _application(self) -> web.Application:
        # aiohttp refuses a body of just this size, too.
        app = web.Application(
            middlewares=[self._guard], client_max_size=doh.MAX_MESSAGE + 1
        )
        app.router.add_get(doh.PATH, self._doh_get)
        app.router.add_post(doh.PATH, self._doh_post)
        app.on_response_prepare.append(_finish)
        if self.status is not None:
            app.router.add_get("/", self._page)
            app.router.add_get("/healthz", self._healthz)
            app.router.add_get("/metrics", self._metrics_text)
            app.router.add_get("/api/status", self._api_status)
            app.router.add_get("/api/explain", self._api_explain)
        return app

    # --- who may ask -----------------------------------------------------------------

    @web.middleware
    async def _guard(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        assert self._listener is not None
        if self._certificate is None and not _is_us(request):
            # Over TLS the certificate has told whom the client means.
            raise web.HTTPMisdirectedRequest(text="this host is not served here\n")
        navigates = request.headers.get("Sec-Fetch-Mode") == "navigate"
        if request.headers.get("Sec-Fetch-Site") in _FOREIGN and not (
            navigates and request.path == "/"
        ):
            raise web.HTTPForbidden(text="not for other sites\n")
        with self._listener.at_work(request.protocol):
            return await handler(request)

    # --- DNS over HTTPS --------------------------------------------------------------

    async def _doh_get(self, request: web.Request) -> web.Response:
        query = doh.read_get(request.query.getall("dns", []))
        return _as_http1(await self._answer(query, request.remote or ""))

    async def _doh_post(self, request: web.Request) -> web.Response:
        query: bytes | int = 415
        if request.content_type == doh.MEDIA_TYPE:
            try:
                async with asyncio.timeout(PATIENCE):
                    body = await request.read()
            except TimeoutError:
                query = 408
            else:
                query = doh.read_post(request.content_type, body)
        return _as_http1(await self._answer(query, request.remote or ""))

    async def _answer(self, query: bytes | int, client: str) -> Response:
        """The response to a query, or to what is an HTTP status in place of one."""
        if isinstance(query, int):
            return _problem(query)
        reply = await self.server.answer(query, client=client, over=Over.HTTPS)
        if reply is None:
            return _problem(403)
        # How long it is fresh is the least TTL, which has been counted down already
        # (RFC 8484 section 5.1). Failures are not to be kept here as well.
        lifetime = least_ttl(reply)
        kept = f"max-age={lifetime}" if lifetime else "no-store"
        headers = {"content-type": doh.MEDIA_TYPE, "cache-control": kept}
        return Response(200, headers, reply)

    # --- the page and the state ------------------------------------------------------

    async def _page(self, _: web.Request) -> web.Response:
        document = page()
        return web.Response(
            body=document.body,
            content_type="text/html",
            charset="utf-8",
            headers={"Content-Security-Policy": document.policy},
        )

    async def _healthz(self, _: web.Request) -> web.Response:
        # Of this process alone: one that serves stale data in an outage is well.
        return web.Response(text="ok\n")

    async def _metrics_text(self, _: web.Request) -> web.Response:
        assert self.status is not None
        if self._metrics is None:
            try:
                from resolverkit.server import metrics  # noqa: PLC0415 - an extra
            except ModuleNotFoundError as error:
                if error.name != "prometheus_client":
                    raise
                raise web.HTTPNotImplemented(
                    text="metrics need: pip install 'resolverkit[server]'\n"
                ) from None
            self._metrics = metrics.Metrics(self.status)
        return web.Response(
            body=self._metrics.text(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def _api_status(self, _: web.Request) -> web.Response:
        assert self.status is not None
        self.status.tick()
        return _json(self.status.to_dict())

    async def _api_explain(self, request: web.Request) -> web.Response:
        name = request.query.get("name", "")
        rdtype = request.query.get("type", "A")
        try:
            return _json(await explain(self.server.resolver, name, rdtype))
        except ConfigurationError as error:
            return _json({"error": str(error)}, 400)


def _is_us(request: web.Request) -> bool:
    """Whether a request's Host means this server, by the address that it came to.

    Ports may differ, for they may be forwarded (``ssh -L``).
    """
    try:
        name = urlsplit(f"//{request.headers.get('Host', '')}").hostname or ""
    except ValueError:
        return False
    if name.rstrip(".") == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    if address.is_loopback or request.transport is None:
        return address.is_loopback
    own = request.transport.get_extra_info("sockname")[0]
    return address == ipaddress.ip_address(own.partition("%")[0])


async def _finish(_: web.Request, response: web.StreamResponse) -> None:
    """Headers of every response, errors included."""
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers.setdefault("Content-Security-Policy", "default-src 'none'")
    response.headers.popall("Server", None)


def _json(value: Any, status: int = 200) -> web.Response:
    text = json.dumps(value, separators=(",", ":"))
    return web.Response(text=text, status=status, content_type="application/json")


def _as_http1(response: Response) -> web.Response:
    return web.Response(
        status=response.status, headers=response.headers, body=response.body
    )


def _problem(status: int) -> Response:
    """What is wrong with a request for DNS, in one line."""
    text = {
        400: "no DNS query: ?dns= is to be one, in base64url without padding",
        403: "you may not ask here",
        404: f"there is nothing here but {doh.PATH}",
        405: "allowed are GET, HEAD and POST",
        408: "the query took too long",
        413: f"a query has at most {doh.MAX_MESSAGE} octets",
        415: f"the content type is to be {doh.MEDIA_TYPE}",
    }[status]
    headers = {"content-type": "text/plain; charset=utf-8", "cache-control": "no-store"}
    if status == 405:
        headers["allow"] = "GET, HEAD, POST"
    return Response(status, headers, f"{text}\n".encode())
