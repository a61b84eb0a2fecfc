"""One process that serves: signals, reloading, draining."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from dns.resolver import NoResolverConfiguration

from resolverkit.errors import ConfigurationError
from resolverkit.resolver import suspend_clock
from resolverkit.server.faces import Faces
from resolverkit.server.notify import notify, reloading
from resolverkit.server.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence
    from typing import Any

    from resolverkit.server.addresses import Sockets
    from resolverkit.server.settings import Settings
    from resolverkit.server.stub import Server

_RELOAD = [signal.SIGHUP] if hasattr(signal, "SIGHUP") else []
_END = [signal.SIGTERM, signal.SIGINT]

_log = logging.getLogger("resolverkit.server")

Reader: TypeAlias = "Callable[[], Settings]"
"""Reads the settings, again at each call."""


class Process:
    """Serves until it is told to end.

    Args:
        settings: what to begin with.
        read: gives what is to hold after SIGHUP.
        sockets: that are bound already.
        ready: called once with the server and its HTTP, when it answers.
    """

    def __init__(
        self,
        settings: Settings,
        read: Reader,
        sockets: Sequence[Sockets] | None,
        ready: Callable[[Server, Faces], None],
    ) -> None:
        self._settings = settings
        self._read = read
        self._https = [each for each in sockets or () if each.https]
        self._sockets = sockets and [each for each in sockets if not each.https]
        self._ready = ready
        self._watch = None if settings.http is None else Watch(suspend_clock())

    async def run(self) -> None:
        """Serve; SIGTERM and SIGINT end it, SIGHUP has it read its settings again.

        Raises:
            ConfigurationError: the settings cannot be used.
            OSError: an address is taken.
        """
        self._end = asyncio.Event()
        # From the beginning until all is written: who is told twice, as by Ctrl-C and
        # by a parent, leaves nothing behind.
        _hold(_RELOAD, True)
        with _handling(self._end.set, *_END):
            resolver = self._settings.resolver(self._watch)
            try:
                server = self._settings.server(resolver, self._sockets)
                faces = Faces(self._settings, server, self._watch, self._https)
                async with server, faces:
                    reload = partial(self.reload, server, faces)
                    with _reloading(reload):
                        self._ready(server, faces)
                        await self._end.wait()
                        notify("STOPPING=1")
                        await server.drain()
                resolver = server.resolver
            finally:
                await resolver.aclose()
                _hold(_END, True)  # all is written: told once more, it ends the same

    def reload(self, server: Server, faces: Faces) -> None:
        """Take in the settings as they are now; if they are wrong, go on as before."""
        reloading()
        try:
            newer = self._read()
            fixed = self._settings.needs_restart(newer)
            if fixed:
                _log.warning("changed, but not before a restart: %s", ", ".join(fixed))
            resolver = newer.resolver(self._watch)
            faces.check_upstreams(resolver)
            faces.load_certificate()
            server.change(
                resolver,
                allow=newer.allow,
                rate_limit=newer.rate_limit,
                explain=newer.explain,
            )
        except (ConfigurationError, NoResolverConfiguration, OSError) as error:
            _log.error("not reloaded: %s", error)
        else:
            _log.info("reloaded")
        notify("READY=1")


@contextlib.contextmanager
def _handling(handler: Callable[[], object], *numbers: int) -> Iterator[None]:
    """Have the loop call this at signals; on Windows Ctrl-C ends the loop by itself."""
    loop = asyncio.get_running_loop()
    handled = []
    with contextlib.suppress(NotImplementedError):
        for number in numbers:
            loop.add_signal_handler(number, handler)
            handled.append(number)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)


@contextlib.contextmanager
def _reloading(handler: Callable[[], object]) -> Iterator[None]:
    """Heed SIGHUP; before and after it is held, for it would be the end."""
    with _handling(handler, *_RELOAD):
        _hold(_RELOAD, False)
        try:
            yield
        finally:
            _hold(_RELOAD, True)


def _hold(numbers: Sequence[int], held: bool) -> None:
    """Have signals wait; Windows cannot."""
    if hasattr(signal, "pthread_sigmask"):
        how = signal.SIG_BLOCK if held else signal.SIG_UNBLOCK
        signal.pthread_sigmask(how, numbers)


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop where that is installed, on asyncio's loop elsewhere."""
    try:
        import uvloop  # noqa: PLC0415 - an extra
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main)
