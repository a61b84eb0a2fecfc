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
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeAlias

from resolverkit.errors import ConfigurationError, StoreError
from resolverkit.record import Record, check_key
from resolverkit.stores import redis_url
from resolverkit.stores.packed import micros
from resolverkit.stores.redis_server import BATCH, Cluster, Single, errors
from resolverkit.stores.redis_value import (
    DENY,
    FETCH,
    LEARN,
    MAX_VALUE,
    Script,
    learning,
    record_of,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from resolverkit.record import Change
    from resolverkit.stores.redis_server import Command
    from resolverkit.stores.redis_url import RedisURL

BUDGET = 0.05
"""Seconds that a read may take before the store counts as away."""
PATIENCE = 1.0
"""Seconds that one round trip may take where nobody waits for an answer to a question,
connecting included."""


TOGETHER = 64
"""Records that one script stores: others have to wait for it meanwhile."""

Run: TypeAlias = "tuple[Script, Sequence[bytes], Sequence[Any]]"
"""A script, with its keys and arguments."""


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
        self._errors = errors()
        self._server: Single | Cluster | None = None

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
        make = Cluster if self._url.cluster else Single
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
        calls: list[Run] = [
            (FETCH, [prefix + key for key in batch], (MAX_VALUE,)) for batch in batches
        ]
        found = {}
        for batch, reply in zip(batches, await self._call(calls), strict=True):
            now, values = self._read(reply, len(batch))
            server.said(now)
            for key, value in zip(batch, values, strict=True):
                record = record_of(key, value, now) if type(value) is bytes else None
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
        server = self._opened()
        sent = server.sent()
        calls: list[Run] = []
        for _, alike in groupby(changes, type):
            for some in _batches(list(alike), min(TOGETHER, server.keys_together)):
                calls += self._calls_for(some, sent)
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

    def _opened(self) -> Single | Cluster:
        if self._server is None:
            raise StoreError(f"{self.name}: not open")
        return self._server

    def _calls_for(self, alike: Sequence[Change], sent: int) -> Iterator[Run]:
        """What changes of one kind are to the server."""
        prefix = self._url.prefix
        keys: list[bytes] = []
        values: list[bytes] = []
        longest = self._url.max_stale
        for change in alike:
            if not isinstance(change, Record):
                yield DENY, [prefix + change.key], (sent, micros(change.age))
                continue
            lifetime = int((change.ttl + longest - change.age) * 1000)
            value = learning(change, lifetime) if lifetime > 0 else None
            if value is not None:
                keys.append(prefix + change.key)
                values.append(value)
        if keys:
            yield LEARN, keys, (sent, *values)

    async def _call(self, calls: Sequence[Run]) -> list[Any]:
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
