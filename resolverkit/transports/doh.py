"""DNS over HTTPS (RFC 8484): HTTP/2 where the server offers it, else HTTP/1.1.

What HTTP means for DNS is said here, for both: which responses are DNS replies, when a
question goes by GET, and how old a reply is. `http2.Http2` and `Http1` carry it.
"""

from __future__ import annotations

import asyncio
import base64
import socket
from contextvars import Context
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from resolverkit import wire
from resolverkit.errors import BadReply, ConfigurationError, NetworkError
from resolverkit.transports.connected import Connected
from resolverkit.transports.http2 import Http2
from resolverkit.transports.reconnect import MAX_OUTSTANDING, network_error, too_many
from resolverkit.transports.response import MAX_BODY, MEDIA_TYPE, Head
from resolverkit.transports.tls import TlsOptions, make_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

    from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
    from aiohttp.abc import AbstractResolver

    from resolverkit.model import Endpoint, Question
    from resolverkit.transports.asked import Asked, Channel

POOL = 16
"""HTTP/1.1 connections to a server; questions beyond wait for one."""

_REFUSE_POST = frozenset((400, 405, 415, 501))  # Knot Resolver 5.6 says 400
_ANYWHERE = "server.invalid"  # what aiohttp is told to look up: `_fixed` answers


class Doh(Connected):
    """One server asked over HTTPS.

    Args:
        endpoint: who is asked.
        url: the URI template, ``https://host[:port]/path[{?dns}]``; by default the
            endpoint's name.
        tls: whom to trust; by default the certificate must be for the URL's host.
        options: as `Connected` takes them.

    Attributes:
        alpn: what the last handshake agreed on: ``"h2"``, ``"http/1.1"`` or None.
        by_get: the server refused POST and answered to GET.

    Raises:
        ConfigurationError: the URL, the CA file or a pin cannot be used.
    """

    authority: str
    target: str

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        url: str | None = None,
        tls: TlsOptions | None = None,
        **options: Any,
    ) -> None:
        super().__init__(endpoint, **options)
        self.authority, self.target, hostname = _read_url(url or endpoint.name)
        self.tls: TlsOptions = tls or TlsOptions(hostname)
        self._context = make_context(self.tls, ("h2", "http/1.1"))
        self.alpn: str | None = None
        self.by_get: bool = False
        self._http1 = False  # until a connection fails

    async def _connect(self) -> None:
        if not self._http1:
            link = Http2(self)
            await self._open(lambda: link, self._context, self.tls.hostname)
            self.alpn = link.alpn
            self._http1 = link.alpn != "h2"
        if self._http1:
            # Its own connections offer no more than aiohttp can speak.
            context = make_context(self.tls, ("http/1.1",))
            address = await self._locate_server()
            self.connected(Http1(self, context, address))

    def retire(self, channel: Channel, *, closing: bool = False) -> None:
        """`channel` takes no more questions; who comes next may speak HTTP/2."""
        if channel is self._channel:
            self._http1 = False
        super().retire(channel, closing=closing)

    def get_target(self, question: Question) -> str:
        """Path and query of a GET: base64url without padding (RFC 8484 section 6)."""
        text = base64.urlsafe_b64encode(wire.padded(question)).rstrip(b"=").decode()
        return f"{self.target}{'&' if '?' in self.target else '?'}dns={text}"

    def retry_by_get(self, asked: Asked, status: int) -> bool:
        """Whether a refused POST is worth one GET; if so it is marked."""
        if asked.by_get or status not in _REFUSE_POST:
            return False
        asked.by_get = True
        return True

    def finish(self, asked: Asked, head: Head, body: bytes, now: float) -> None:
        """End a question with the response to it."""
        if asked.by_get:
            if head.status in _REFUSE_POST:
                self.by_get = False
            elif not head.refusal:
                self.by_get = True
        if head.refusal:
            asked.fail(NetworkError(head.refusal))
        elif len(body) > MAX_BODY:
            asked.fail(BadReply(f"a body of more than {MAX_BODY} octets"))
        elif body[:2].strip(b"\0"):
            asked.fail(BadReply("another id"))
        elif not asked.conclude(body, now, head.age):
            asked.fail(BadReply(wire.mismatch(asked.question, body)))


class Http1:
    """A pool of HTTP/1.1 connections, as one channel; a request is a task."""

    reads = 0  # not counted: a request that hangs takes its connection with it

    def __init__(self, owner: Doh, context: ssl.SSLContext, address: str) -> None:
        import aiohttp

        self._owner = owner
        self._loop = owner.loop
        self._tasks: dict[Asked, asyncio.Task[None]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._ending: asyncio.Task[None] | None = None
        self._pool = aiohttp.TCPConnector(
            ssl=context,
            limit=POOL,
            resolver=_fixed(address, owner.endpoint.port),
            local_addr=owner._local_address(address),
            happy_eyeballs_delay=None,
        )
        self._session = aiohttp.ClientSession(
            connector=self._pool,
            cookie_jar=aiohttp.DummyCookieJar(),  # RFC 8484 section 8.2
            trust_env=False,
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept-Encoding"),
            timeout=aiohttp.ClientTimeout(total=None),  # ours are the deadlines
            middlewares=(_once,),
        )
        self._host = {"Host": owner.authority, "Accept": MEDIA_TYPE}

    def send(self, asked: Asked) -> None:
        """Put the question on its way."""
        if len(self._tasks) >= MAX_OUTSTANDING:
            asked.fail(too_many())
            return
        asked.channel = self
        asked.sends += 1
        asked.seen = -1
        task = self._loop.create_task(self._ask(asked), context=Context())
        self._tasks[asked] = task
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _ask(self, asked: Asked) -> None:
        import aiohttp

        owner = self._owner
        try:
            head, body = await self._request(asked)
            if owner.retry_by_get(asked, head.status):
                asked.sends += 1
                head, body = await self._request(asked)
        except (aiohttp.ClientError, OSError) as error:
            self._tasks.pop(asked, None)
            self._failed(asked, error)
        else:
            self._tasks.pop(asked, None)
            owner.finish(asked, head, body, self._loop.time())

    async def _request(self, asked: Asked) -> tuple[Head, bytes]:
        """Header and body of the response."""
        from yarl import URL

        owner = self._owner
        if asked.by_get or owner.by_get:
            asked.by_get = True
            target, data, headers = owner.get_target(asked.question), None, self._host
        else:
            target, data = owner.target, wire.padded(asked.question)
            headers = {**self._host, "Content-Type": MEDIA_TYPE}
        async with self._session.request(
            "GET" if asked.by_get else "POST",
            URL(f"https://{_ANYWHERE}{target}", encoded=True),
            data=data,
            headers=headers,
            allow_redirects=False,
            server_hostname=owner.tls.hostname,
        ) as response:
            body, ok = b"", 200 <= response.status <= 299
            while ok and len(body) <= MAX_BODY and not response.content.at_eof():
                body += await response.content.read(MAX_BODY)
            if not response.content.at_eof():
                response.close()  # what is left of it is not wanted
            fields = response.headers
            kind, age = fields.get("Content-Type", ""), fields.get("Age", "")
            return Head(response.status, kind, age), body

    def _failed(self, asked: Asked, error: Exception) -> None:
        import aiohttp

        if isinstance(error, aiohttp.ClientConnectorError):
            self.close()
            connect = getattr(error, "certificate_error", None) or error.os_error
            asked.fail(network_error(connect))
        elif isinstance(
            error, (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, OSError)
        ):
            # Most likely it closed an idle connection; or it broke off in mid-answer.
            cause = error if isinstance(error, OSError) else error.__cause__
            os_error = cause if isinstance(cause, OSError) else None
            self._owner.replay([asked], network_error(os_error))
        else:
            asked.fail(NetworkError(f"HTTP/1.1: {type(error).__name__}"))

    def close(self) -> None:
        """Begin to close: what runs may end, unless it is taken away."""
        self._owner.retire(self)
        if self._ending is None:
            self._ending = self._loop.create_task(self._end(), context=Context())

    async def _end(self) -> None:
        while self._running:
            await asyncio.wait(self._running)
        await self._pool.close(abort_ssl=True)
        await self._session.close()
        self._owner.lost(self, network_error(None))

    def forget(self, asked: Asked) -> None:
        """The question is over: so is its request."""
        if (task := self._tasks.pop(asked, None)) is not None:
            task.cancel()

    def outstanding(self) -> Iterable[Asked]:
        """All that it has been given and that is not over."""
        return self._tasks

    def take(self) -> list[Asked]:
        """The same; their requests end."""
        taken = list(self._tasks)
        for asked in taken:
            self.forget(asked)
        return taken

    abort = close

    async def wait_closed(self) -> None:
        """Return when all connections are closed."""
        self.close()
        if self._ending is not None:
            await asyncio.wait((self._ending,))


async def _once(request: ClientRequest, send: ClientHandlerType) -> ClientResponse:
    """Keep aiohttp from sending a GET again by itself: we count (RFC 9520 3.1)."""
    import aiohttp

    try:
        return await send(request)
    except aiohttp.ClientConnectorError:
        raise
    except aiohttp.ClientConnectionError as error:
        cause = error if isinstance(error, OSError) else None
        raise aiohttp.ClientConnectionError from cause


def _read_url(url: str) -> tuple[str, str, str]:
    """Authority, path with query, and host name."""
    text = url.removesuffix("{?dns}")
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme != "https" or not parts.hostname or "{" in text:
        raise ConfigurationError(
            f"{url}: allowed is https://host[:port]/path, "
            "with or without {?dns} at its end"
        )
    authority = parts.netloc.rpartition("@")[2].removesuffix(":443")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return authority, target, parts.hostname


def _fixed(address: str, port: int) -> AbstractResolver:
    """A resolver of aiohttp's that knows one answer."""
    from aiohttp.abc import AbstractResolver, ResolveResult

    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    answer = ResolveResult(
        hostname=_ANYWHERE, host=address, port=port, family=family, proto=0, flags=0
    )

    class Fixed(AbstractResolver):
        async def resolve(self, *_: object, **__: object) -> list[ResolveResult]:
            return [answer]

        async def close(self) -> None:
            pass

    return Fixed()
