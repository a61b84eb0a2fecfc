"""A store on a Redis or Valkey server, or a cluster: one last known good for a fleet.

- Dates are the server's: it says its time with what it gives, and a script dates what
  it is given. This machine's calendar is not asked.
- A request is one round trip, on a connection that nobody else has meanwhile. One that
  does not end well takes its connection with it: no reply is left for the next.
- Nothing is tried again, but for a script that the server has forgotten. When to come
  back is the cache's business.
- A server that refuses writes (full, read-only) goes on giving records.

The host is looked up by the system, whenever a connection is made: an address, or a
name in /etc/hosts, is there in an outage too.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from resolverkit.errors import ConfigurationError, StoreError
from resolverkit.record import Record, check_key
from resolverkit.stores import redis_url
from resolverkit.stores.redis_value import (
    DENY,
    FETCH,
    LEARN,
    MAX_VALUE,
    Script,
    micros,
    pack,
    unpack,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence

    from resolverkit.record import Change
    from resolverkit.stores.redis_url import RedisURL

    Command = tuple[Any, ...]

BUDGET = 0.05
"""Seconds that a read may take before the store counts as away."""
CONNECT_TIMEOUT = 1.0
"""Seconds until a connection stands."""
PATIENCE = 1.0
"""Seconds that one round trip may take where nobody waits for an answer to a question,
connecting included."""
CONNECTIONS = 4
"""To a server: one that reads, one that writes, and two for whoever looks into it."""
BATCH = 500
"""Keys or changes in one round trip."""
_CLOSED = "closed meanwhile"
_ANY_TIME = 10**16
"""Microseconds, later than any date that a value can hold."""


class RedisStore:
    """Keeps records on a Redis or Valkey server (6.0 or newer), or on a cluster.

    Args:
        url: where, as the grammar in `resolverkit.stores.redis_url` says.
        budget: seconds that a `fetch` may take before the store counts as away.

    Attributes:
        budget: as given; who calls `fetch` keeps to it.

    Raises:
        ConfigurationError: the URL or its CA file cannot be used, or redis-py is not
            installed.
    """

    def __init__(self, url: str, *, budget: float = BUDGET) -> None:
        self.budget = budget
        self._url = redis_url.parse(url)
        self._context = _context(self._url)
        self._errors = _errors()
        self._server: _Single | _Cluster | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    @property
    def name(self) -> str:
        """The URL without user, password and parameters."""
        return str(self._url)

    async def open(self) -> None:
        """Connect on the running loop; what was connected before is let go.

        Raises:
            StoreError: no server, or it does not let this one in.
        """
        await self.aclose()
        make = _Cluster if self._url.cluster else _Single
        try:
            async with asyncio.timeout(PATIENCE):
                self._server = server = make(self._url, self._context)
                await server.connect()
            # Some that refuse to give records would say what time it is.
            await self.fetch([b""])
        except self._errors as error:
            await self.aclose()
            raise self._trouble(error) from error
        except BaseException:
            await self.aclose()
            raise

    def may_have(self, key: bytes) -> bool:
        """Always: others write to it."""
        return True

    async def fetch(self, keys: Sequence[bytes]) -> dict[bytes, Record]:
        """The records that there are for some keys, aged by the server's clock.

        What is no record of this version is as if it were absent.

        Raises:
            StoreError: the server cannot be asked, or says no.
        """
        if not keys:
            return {}
        server = self._opened()
        batches = list(_batches(keys, server.keys_together))
        prefix = self._url.prefix
        calls: list[tuple[Script, Sequence[bytes], Sequence[Any]]] = [
            (FETCH, [prefix + key for key in batch], (MAX_VALUE,)) for batch in batches
        ]
        found = {}
        for batch, reply in zip(batches, await self._call(calls), strict=True):
            now, values = self._read(reply, len(batch))
            server.said(now)
            for key, value in zip(batch, values, strict=True):
                record = unpack(key, value, now) if type(value) is bytes else None
                if record is not None:
                    found[key] = record
        return found

    async def write(self, changes: Sequence[Change]) -> None:
        """Take in what was learnt; the server decides, by its clock, what is newer.

        A message over 65,535 bytes, and what is past its TTL and max stale already,
        are left out.

        Raises:
            StoreError: the server cannot be reached, or refused one of them at least.
        """
        sent = self._opened().sent()
        calls = [call for each in changes if (call := self._call_for(each, sent))]
        for batch in _batches(calls):
            await self._call(batch)

    async def records(self) -> AsyncIterator[Record]:
        """Every record that can be read, in no order.

        One may come twice if the server rearranges its keys meanwhile.

        Raises:
            StoreError: the server cannot be asked, or says no.
        """
        prefix = self._url.prefix
        pages = self._opened().pages(_glob(prefix))
        try:
            while (page := await self._one(pages)) is not None:
                keys = [key.removeprefix(prefix) for key in page]
                for batch in _batches([key for key in keys if _is_key(key)]):
                    for record in (await self.fetch(batch)).values():
                        yield record
        finally:
            await pages.aclose()

    async def remove(self, keys: Sequence[bytes]) -> int:
        """Delete the records under some keys; gives how many there were.

        Raises:
            StoreError: the server cannot be reached, or says no.
        """
        prefix, removed = self._url.prefix, 0
        for batch in _batches(keys):
            removed += sum(await self._ask([("UNLINK", prefix + key) for key in batch]))
        return removed

    async def aclose(self) -> None:
        """Let go of the connections. Idempotent; `open` makes it usable again."""
        server, self._server = self._server, None
        if server is not None:
            await server.aclose()

    def _opened(self) -> _Single | _Cluster:
        if self._server is None:
            raise StoreError(f"{self.name}: not open")
        return self._server

    def _call_for(
        self, change: Change, sent: int
    ) -> tuple[Script, Sequence[bytes], Sequence[Any]] | None:
        """What a change is to the server; None for what is left out."""
        keys, age = [self._url.prefix + change.key], micros(change.age)
        if not isinstance(change, Record):
            return DENY, keys, (sent, age)
        value = pack(change)
        lifetime = round((change.ttl + self._url.max_stale) * 1000 - age / 1000)
        if value is None or lifetime <= 0:
            return None
        denied = "" if change.denied is None else micros(change.denied)
        return LEARN, keys, (sent, age, denied, lifetime, value)

    async def _call(
        self, calls: Sequence[tuple[Script, Sequence[bytes], Sequence[Any]]]
    ) -> list[Any]:
        """Run scripts in one round trip, or in two if the server forgot one.

        Each gives the same if it runs twice.
        """
        replies = await self._ask(
            [("EVALSHA", s.sha, len(keys), *keys, *args) for s, keys, args in calls],
            unknown=True,
        )
        for first, reply in enumerate(replies):
            if isinstance(reply, Exception):  # what came after it is to come after it
                replies[first:] = await self._ask(
                    [
                        ("EVAL", s.text, len(keys), *keys, *args)
                        for s, keys, args in calls[first:]
                    ]
                )
                break
        return replies

    async def _ask(
        self, commands: Sequence[Command], *, unknown: bool = False
    ) -> list[Any]:
        """The replies to some commands; the first that is an error is raised.

        Args:
            commands: what to ask, in one round trip.
            unknown: leave in place the error that a script is not known.
        """
        from redis.exceptions import NoScriptError

        server = self._opened()
        try:
            async with asyncio.timeout(PATIENCE):
                replies = await server.ask(commands)
        except self._errors as error:
            raise self._trouble(error) from error
        for reply in replies:
            if isinstance(reply, Exception):
                if unknown and isinstance(reply, NoScriptError):
                    continue
                raise self._trouble(reply) from reply
        return replies

    async def _one(self, pages: AsyncIterator[list[bytes]]) -> list[bytes] | None:
        """The next page of keys; None after the last."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await anext(pages, None)
        except self._errors as error:
            raise self._trouble(error) from error

    def _read(self, reply: Any, wanted: int) -> tuple[int, list[Any]]:
        """The server's time, in microseconds, and the values in a reply to `FETCH`."""
        try:
            seconds, micro, *values = reply
            if len(values) == wanted:
                return int(seconds) * 1_000_000 + int(micro), values
        except (TypeError, ValueError):
            pass
        raise StoreError(f"{self.name}: not the reply of a Redis server")

    def _trouble(self, error: Exception) -> StoreError:
        return StoreError(f"{self.name}: {_words(error)}")


class _Single:
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
        self.closed = False
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
        async with self._room:
            link = self._idle.pop() if self._idle else self._link()
            try:
                return await link.ask(commands)
            finally:
                self._idle.append(link)

    async def pages(self, pattern: bytes) -> AsyncGenerator[list[bytes]]:
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
        self.closed = True
        for link in self._links:
            await link.cut()

    def _link(self) -> _Link:
        link = _Link(self, self._kind(**self._options))
        self._links.append(link)
        return link


class _Link:
    """One connection, which has no reply outstanding or is cut."""

    def __init__(self, server: _Single, connection: Any) -> None:
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
            packed = connection.pack_commands(commands)
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


class _Cluster:
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
        return _ANY_TIME

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        pipeline = self._cluster.pipeline()
        for command in commands:
            pipeline.execute_command(*command)
        async with self._room:
            if self._closed:
                raise ConnectionAbortedError(_CLOSED)
            replies: list[Any] = await pipeline.execute(raise_on_error=False)
        return replies

    async def pages(self, pattern: bytes) -> AsyncGenerator[list[bytes]]:
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
        self._closed = True
        with suppress(*_errors(), RuntimeError):
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


def _context(url: RedisURL) -> ssl.SSLContext | None:
    if not url.tls:
        return None
    try:
        return ssl.create_default_context(cafile=url.ca)
    except OSError as error:
        why = None if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigurationError(
            f"ca={url.ca}: {why or 'no certificate in it'}; "
            "allowed is a readable file of PEM certificates"
        ) from error


def _errors() -> tuple[type[Exception], ...]:
    """What means that the server cannot be used."""
    try:
        from redis.exceptions import RedisClusterException, RedisError
    except ImportError as error:
        raise ConfigurationError(
            "a Redis store needs redis-py: pip install 'resolverkit[redis]'"
        ) from error
    return RedisError, RedisClusterException, OSError


def _words(error: Exception) -> str:
    """What the system or the server says, in one line."""
    system = error if isinstance(error, OSError) else error.__context__
    if type(error) is TimeoutError:
        return f"no reply within {PATIENCE:g} s"
    if isinstance(system, ConnectionError | FileNotFoundError) and system.errno:
        return os.strerror(system.errno).lower()
    text = " ".join(str(error).split())
    code = getattr(error, "status_code", None)  # redis-py cuts it off
    if code and not text.startswith(code):
        text = f"{code} {text}"
    return text or type(error).__name__


def _is_key(key: bytes) -> bool:
    with suppress(ValueError):
        check_key(key)
        return True
    return False


def _glob(prefix: bytes) -> bytes:
    """The pattern of all keys that begin with `prefix`."""
    return re.sub(rb"([*?\[\]\\^])", rb"\\\1", prefix) + b"*"


def _batches(items: Sequence[Any], size: int | None = None) -> Iterator[Sequence[Any]]:
    size = size or BATCH
    return (items[i : i + size] for i in range(0, len(items), size))
