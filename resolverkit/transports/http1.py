"""HTTP/1.1 for DNS over HTTPS, by aiohttp, where a server offers no HTTP/2."""

from __future__ import annotations

import asyncio
import socket
from contextvars import Context
from typing import TYPE_CHECKING

from resolverkit import wire
from resolverkit.errors import NetworkError
from resolverkit.transports.reconnect import MAX_OUTSTANDING, network_error, too_many
from resolverkit.transports.response import MAX_BODY, MEDIA_TYPE, Head

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

    from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
    from aiohttp.abc import AbstractResolver

    from resolverkit.transports.asked import Asked
    from resolverkit.transports.doh import Doh

POOL = 16
"""HTTP/1.1 connections to a server; questions beyond wait for one."""

_ANYWHERE = "server.invalid"  # what aiohttp is told to look up: `_fixed` answers


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
