"""Connections that come back: who waits for one, when to try again, what went wrong.

A question that finds no connection starts the one connector of its transport, or joins
it. The first failure to connect fails all that wait, so that the next vantage is asked
at once; then the connector goes on alone, with random exponential pauses, for as long
as somebody has asked since its last try. Who asks while it pauses is told so at once.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from contextvars import Context
from typing import TYPE_CHECKING

from resolverkit.errors import NetworkError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from resolverkit.transports.asked import Asked, Channel

CONNECT_TIMEOUT = 5.0
"""Seconds for one try to connect, TLS included. Longer than a question may take: on a
slow path the first question is lost, but not the second."""
FIRST_PAUSE = 0.1
"""Seconds: the bound of the first random pause after a failure; it doubles."""
LONGEST_PAUSE = 30.0
"""Seconds: the bound of every pause."""

MAX_OUTSTANDING = 16_384
"""Questions outstanding on a connection, or waiting for one: a quarter of the ids, so
that a random unused one stays easy to find."""

_LOCAL = frozenset(
    {
        errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL,
        errno.EADDRINUSE, errno.EAFNOSUPPORT, errno.EMFILE, errno.ENFILE,
        errno.ENOBUFS, errno.ENOMEM, errno.EACCES, errno.EPERM,
    }
)  # fmt: skip
"""What this machine lacks; refused, reset, unreachable and timed out are the peer's."""

_BY_TYPE: tuple[tuple[type[Exception], str], ...] = (
    (ConnectionResetError, "connection reset by peer"),
    (ConnectionRefusedError, "connection refused"),
    (ConnectionAbortedError, "connection aborted"),
    (BrokenPipeError, "broken pipe"),
    (TimeoutError, "connect timed out"),
)
"""Words for those that asyncio raises without an errno."""


def network_error(error: BaseException | None) -> NetworkError:
    """What an error of the operating system or of ssl means for a question."""
    if error is None:
        return NetworkError("connection closed by the server")
    if isinstance(error, NetworkError):  # one each: it carries the attempt
        return NetworkError(str(error), local=error.local)
    if isinstance(error, ssl.SSLCertVerificationError):
        why = getattr(error, "verify_message", "") or str(error)
        return NetworkError(f"TLS: certificate verify failed: {why}")
    if isinstance(error, ssl.SSLError):
        return NetworkError(f"TLS: {_ssl_words(error)}")
    if not isinstance(error, OSError):
        return NetworkError(f"{type(error).__name__}: {error}")
    if isinstance(error, socket.gaierror):
        return NetworkError(str(error.strerror).lower(), local=True)
    if error.errno is None:
        words = next((w for t, w in _BY_TYPE if isinstance(error, t)), "")
        # Without errno and subclass: asyncio found no way to use source=.
        return NetworkError(words or str(error), local=type(error) is OSError)
    words = os.strerror(error.errno).lower()
    return NetworkError(words, local=error.errno in _LOCAL)


def _ssl_words(error: ssl.SSLError) -> str:
    return (getattr(error, "reason", None) or str(error)).replace("_", " ").lower()


class Connector:
    """Questions without a connection, and the task that makes one."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connect: Callable[[], Awaitable[None]],
        timeout: float,
    ) -> None:
        self.waiting: dict[Asked, None] = {}
        self._loop = loop
        self._connect = connect
        self._timeout = timeout
        self._task: asyncio.Task[None] | None = None
        self._error: NetworkError | None = None
        self._wanted = False
        self._until = 0.0  # loop time of the next try, while it pauses

    def put(self, asked: Asked) -> None:
        """Have `asked` wait for a connection, or fail now while there is no hope."""
        self._wanted = True
        if self._until and self._error is not None:
            left = max(0.0, self._until - self._loop.time())
            text = f"{self._error}; next try in {left:.1f} s"
            asked.fail(NetworkError(text, local=self._error.local))
            return
        if len(self.waiting) >= MAX_OUTSTANDING:
            asked.fail(too_many())
            return
        self.waiting[asked] = None
        if self._task is None:
            self._task = self._loop.create_task(self._run(), context=Context())

    def deliver(self, channel: Channel) -> None:
        """Hand all that wait to the connection that was made."""
        waiting, self.waiting = self.waiting, {}
        for asked in waiting:
            channel.send(asked)

    def fail(self, error: NetworkError) -> None:
        """Fail all that wait."""
        fail_all(self.waiting, error)

    async def _run(self) -> None:
        try:
            # A connection that was lost at once has brought its questions back here.
            while self.waiting:
                try:
                    await self._try()
                except NetworkError:
                    await self._try_again()
        finally:
            self._task = None
            self._until = 0.0

    async def _try(self) -> None:
        self._wanted = False
        try:
            async with asyncio.timeout(self._timeout):
                await self._connect()
        except Exception as error:  # noqa: BLE001 - locate() is the caller's code
            self._error = network_error(error)
            self.fail(self._error)
            raise self._error from None

    async def _try_again(self) -> None:
        import tenacity

        if TYPE_CHECKING:
            assert self._error is not None
        first = [self._error]

        async def attempt() -> None:
            if first:
                raise first.pop()
            if self._wanted:
                await self._try()

        pauses = tenacity.wait_random_exponential(FIRST_PAUSE, LONGEST_PAUSE)
        await tenacity.AsyncRetrying(
            wait=pauses,
            sleep=self._pause,
            retry=tenacity.retry_if_exception_type(NetworkError),
        )(attempt)

    async def _pause(self, seconds: float) -> None:
        self._until = self._loop.time() + seconds
        await asyncio.sleep(seconds)
        self._until = 0.0

    async def aclose(self) -> None:
        """Stop trying."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))


def fail_all(outstanding: Iterable[Asked], error: NetworkError) -> None:
    """Fail each of them with a copy of `error`."""
    for asked in tuple(outstanding):
        asked.fail(network_error(error))


def too_many() -> NetworkError:
    """The error for a question more than a transport can carry."""
    return NetworkError(f"{MAX_OUTSTANDING} questions are outstanding", local=True)
