"""The connections of a Redis store: to one server, or to a cluster.

What one request leaves behind is never the next one's: a connection on which a request
did not end well is cut.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from resolverkit.errors import ConfigurationError

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, Sequence

    from resolverkit.stores.redis_url import RedisURL

    Command = tuple[Any, ...]

CONNECT_TIMEOUT = 1.0
"""Seconds until a connection stands."""
CONNECTIONS = 4
"""To a server: one that reads, one that writes, and two for whoever looks into it."""
BATCH = 500
"""Keys or changes in one round trip."""
_CLOSED = "closed meanwhile"
_ANY_TIME = 10**16
"""Microseconds, later than any date that a value can hold."""


class Single:
    """One server, and a few connections to it."""

    keys_together = BATCH

    def __init__(self, url: RedisURL, context: ssl.SSLContext | None) -> None:
        self._options = _options(url)
        if url.path:
            self._options["path"] = url.path
        else:
            self._options["host"], self._options["port"] = url.hosts[0]
        self._kind = _kind(url, context, WeakSet())
        self._idle: list[_Link] = []
        self._links: list[_Link] = []
        self._room = asyncio.Semaphore(CONNECTIONS)
        self.closed: bool = False
        self._loop = asyncio.get_running_loop()
        self._ahead = 0.0  # the server's clock, less the loop's, in microseconds

    async def connect(self) -> None:
        """Nothing to do: it connects when it is asked."""

    def said(self, now: int) -> None:
        """It said what time it is, in microseconds."""
        self._ahead = now - self._loop.time() * 1_000_000

    def sent(self) -> int:
        """What time it is there, or was when it last said so and this loop goes on.

        Changes carry it, so that one which lies about for an hour in the buffers of a
        server that was stopped is not taken for news.
        """
        return int(self._ahead + self._loop.time() * 1_000_000)

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to some commands, in one round trip, errors among them."""
        async with self._room:
            link = self._idle.pop() if self._idle else self._link()
            try:
                return await link.ask(commands)
            finally:
                self._idle.append(link)

    async def pages(self, pattern: bytes) -> AsyncGenerator[list[bytes]]:
        """The keys that fit a pattern, some at a time."""
        cursor: Any = b"0"
        while True:
            command = ("SCAN", cursor, "MATCH", pattern, "COUNT", BATCH)
            (reply,) = await self.ask([command])
            if isinstance(reply, Exception):
                raise reply
            cursor, keys = reply
            yield keys
            if cursor == b"0":
                return

    async def aclose(self) -> None:
        """Cut every connection; one that is being made as well."""
        self.closed = True
        for link in self._links:
            await link.cut()

    def _link(self) -> _Link:
        link = _Link(self, self._kind(**self._options))
        self._links.append(link)
        return link


def _packed(command: Command) -> bytes:
    """A command as Redis has it; redis-py takes three times as long for one."""
    parts = [
        part if type(part) is bytes else str(part).encode("utf-8") for part in command
    ]
    body = b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in parts])
    return b"*%d\r\n%b" % (len(parts), body)


class _Link:
    """One connection, which has no reply outstanding or is cut."""

    def __init__(self, server: Single, connection: Any) -> None:
        from redis.exceptions import ResponseError

        self._connection = connection
        self._said = ResponseError
        self._server = server

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        connection = self._connection
        try:
            # The server has closed it meanwhile, or says what nobody asked.
            if connection.is_connected and await connection.can_read():
                await self.cut()
            if not connection.is_connected:
                await self._connect()
            packed = b"".join([_packed(command) for command in commands])
            await connection.send_packed_command(packed, check_health=False)
            return [await self._reply() for _ in commands]
        except BaseException:
            await self.cut()
            raise

    async def _connect(self) -> None:
        await self._connection.connect()
        if self._server.closed:
            raise ConnectionAbortedError(_CLOSED)

    async def _reply(self) -> Any:
        """The next reply; an error that the server says is one too."""
        try:
            return await self._connection.read_response()
        except self._said as error:
            return error

    async def cut(self) -> None:
        with suppress(RuntimeError):  # of a loop that is closed
            await self._connection.disconnect(nowait=True)


class Cluster:
    """A cluster. Who has which key is redis-py's business; each command has one."""

    keys_together = 1

    def __init__(self, url: RedisURL, context: ssl.SSLContext | None) -> None:
        from redis.asyncio.cluster import ClusterNode, RedisCluster
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        self._room = asyncio.Semaphore(CONNECTIONS)
        self._closed = False
        make: Any = RedisCluster
        node: Any = ClusterNode
        self._cluster = make(
            startup_nodes=[node(*host) for host in url.hosts],
            retry=Retry(NoBackoff(), 0),
            max_connections=CONNECTIONS,
            ssl=url.tls,
            **_options(url),
        )
        self._made: WeakSet[Any] = WeakSet()
        kind = _kind(url, context, self._made)
        self._cluster.get_connection_kwargs()["connection_class"] = kind
        for node in self._cluster.startup_nodes:
            node.connection_class = kind

    async def connect(self) -> None:
        """Find the nodes, and connect to each that has keys."""
        await self._cluster.initialize()
        for node in self._cluster.get_primaries():
            await node.execute_command("PING")

    def said(self, now: int) -> None:
        """Nodes have clocks of their own."""

    def sent(self) -> int:
        """Later than any date: a change is dated when it is taken in."""
        return _ANY_TIME

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to some commands, each from the node that has its key."""
        pipeline = self._cluster.pipeline()
        for command in commands:
            pipeline.execute_command(*command)
        async with self._room:
            if self._closed:
                raise ConnectionAbortedError(_CLOSED)
            replies: list[Any] = await pipeline.execute(raise_on_error=False)
        return replies

    async def pages(self, pattern: bytes) -> AsyncGenerator[list[bytes]]:
        """The keys that fit a pattern, some at a time, of one node after the other."""
        for node in self._cluster.get_primaries():
            cursor: Any = 0
            while True:
                command = ("SCAN", cursor, "MATCH", pattern, "COUNT", BATCH)
                async with self._room:
                    if self._closed:
                        raise ConnectionAbortedError(_CLOSED)
                    cursor, keys = await node.execute_command(*command)
                yield keys
                if not int(cursor):
                    break

    async def aclose(self) -> None:
        """Cut every connection."""
        self._closed = True
        with suppress(*errors(), RuntimeError):
            await self._cluster.aclose()
        for connection in list(self._made):  # it forgets some after an error
            with suppress(RuntimeError):  # of a loop that is closed
                await connection.disconnect(nowait=True)


def _options(url: RedisURL) -> dict[str, Any]:
    # The second version of its protocol takes one round trip less to begin with.
    return {
        "username": url.user,
        "password": url.password,
        "db": url.database,
        "protocol": 2,
        "socket_timeout": None,
        "socket_connect_timeout": CONNECT_TIMEOUT,
    }


def _kind(url: RedisURL, context: ssl.SSLContext | None, made: WeakSet[Any]) -> Any:
    """The connections of redis-py's that a URL wants; each goes into `made`."""
    from redis.asyncio import connection

    base: Any = connection.Connection
    if url.path:
        base = connection.UnixDomainSocketConnection
    elif url.tls:
        base = connection.SSLConnection

    class Kind(base):  # type: ignore[misc]  # what redis-py has is not annotated
        """Trusts whom `context` trusts, and nobody else. Closes at once.

        redis-py would leave a socket open until a server that was stopped has taken in
        all that was written.
        """

        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            made.add(self)
            if context is not None:
                self.ssl_context.context = context

        async def disconnect(self, *args: Any, **options: Any) -> None:
            if self._writer is not None:
                self._writer.transport.abort()
            await super().disconnect(*args, **options)

    return Kind


def errors() -> tuple[type[Exception], ...]:
    """What means that the server cannot be used."""
    try:
        from redis.exceptions import RedisClusterException, RedisError
    except ImportError as error:
        raise ConfigurationError(
            "a Redis store needs redis-py: pip install 'resolverkit[redis]'"
        ) from error
    return RedisError, RedisClusterException, OSError
