"""``resolverkit serve``: a stub resolver for what is not Python."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dns.resolver

from resolverkit.config import store_of
from resolverkit.errors import ConfigurationError, StoreError
from resolverkit.server import addresses
from resolverkit.server.faces import HTTPS_PORT
from resolverkit.server.notify import notify
from resolverkit.server.process import Process, run
from resolverkit.server.settings import Settings
from resolverkit.server.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from resolverkit.server.addresses import Sockets
    from resolverkit.server.faces import Faces
    from resolverkit.server.stub import Server

OK, USAGE, UNABLE = 0, 2, 3
"""Exit statuses."""

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_ALLOWED = ", ".join(_LEVELS)
_PR_SET_PDEATHSIG, _SIGTERM = 1, 15


def serve(file: str | None, options: Mapping[str, Any], log_level: str) -> int:
    """Serve until told to end.

    Args:
        file: the TOML file.
        options: what the command line says besides, which takes precedence.
        log_level: what is logged on stderr.

    Returns:
        The exit status.
    """
    read = partial(Settings.load, file, options)
    try:
        _log_to_stderr(log_level)
        settings = read()
        inherited = addresses.inherited(os.environ) or None
        if settings.workers == 1:
            run(Process(settings, read, inherited, _say).run())
            return OK
        return _share(settings, read, inherited)
    except (ConfigurationError, dns.resolver.NoResolverConfiguration) as error:
        return _complain(error, USAGE)
    except OSError as error:
        return _complain(error, UNABLE)
    except KeyboardInterrupt:
        return OK


def check(file: str) -> int:
    """Say whether a file can be used, without listening anywhere.

    Returns:
        The exit status.
    """
    try:
        settings = Settings.load(file, {})
    except (ConfigurationError, dns.resolver.NoResolverConfiguration) as error:
        return _complain(error, USAGE)
    print(f"{file}: can be used")
    if settings.store is not None:
        _look_at_store(file, settings.store)
    return OK


def _look_at_store(file: str, url: str) -> None:
    """Complain of a store that could not be opened, for `serve` goes on without it.

    As the checks of other servers, it looks at files, makes none, and asks nobody.
    """
    scheme, _, path = store_of(url).name.partition("://")
    if scheme != "sqlite":
        return
    import sqlite3

    from resolverkit.stores.sqlite_open import look_at

    try:
        look_at(Path(path))
    except (StoreError, sqlite3.Error, OSError) as error:
        print(f"resolverkit: {file}: store={url!r}: {error}", file=sys.stderr)


def _complain(error: Exception, status: int) -> int:
    text = error.strerror if isinstance(error, OSError) and error.strerror else error
    print(f"resolverkit: {text}", file=sys.stderr)
    return status


def _share(settings: Settings, read: Any, inherited: list[Sockets] | None) -> int:
    """Serve with several processes."""
    if not hasattr(os, "fork"):
        raise ConfigurationError("workers: this system cannot fork; allowed is 1")
    shared = _bind(settings, inherited)
    parent = os.getpid()

    def work(number: int) -> None:
        _die_with(parent)
        os.environ.pop("NOTIFY_SOCKET", None)  # the parent speaks for all
        for other, sockets in enumerate(shared):
            if other != number:
                for each in sockets:
                    if each not in shared[number]:
                        each.close()
        try:
            run(Process(settings, read, shared[number], _hush).run())
        except ConfigurationError as error:
            sys.exit(_complain(error, USAGE))

    def ready() -> None:
        _print_ready(
            [str(s.address) for s in shared[0] if not s.tls and not s.https],
            [str(s.address) for s in shared[0] if s.tls],
            [str(s.address) for s in shared[0] if s.https],
        )
        notify("READY=1")

    try:
        return Workers(settings.workers, work, ready).run()
    finally:
        notify("STOPPING=1")
        for each in (sockets for group in shared for sockets in group):
            each.close()


def _bind(settings: Settings, inherited: list[Sockets] | None) -> list[list[Sockets]]:
    """For each worker sockets of its own at the same addresses.

    Those that systemd has handed over, in place of some, are one for all.
    """
    given = inherited or []
    wanted: list[tuple[addresses.Address, dict[str, bool]]] = []
    if not given:
        wanted += [(addresses.parse(text), {}) for text in settings.listen]
        for text in settings.listen_tls:
            wanted.append((addresses.parse(text, addresses.TLS_PORT), {"tls": True}))
    if not any(each.https for each in given):
        for text in settings.listen_https:
            wanted.append((addresses.parse(text, HTTPS_PORT), {"https": True}))
    first = [addresses.bind(where, **kind, shared=True) for where, kind in wanted]
    others = [
        [
            addresses.bind(s.address, tls=s.tls, https=s.https, shared=True)
            for s in first
        ]
        for _ in range(settings.workers - 1)
    ]
    return [given + own for own in (first, *others)]


def _die_with(parent: int) -> None:
    """Have the system end this worker with its parent, where it can (prctl(2))."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGTERM)
        if os.getppid() != parent:
            sys.exit(OK)


def _hush(_: Server, __: Faces) -> None:
    """A worker's word that it answers is the parent's, which has the sockets."""


def _say(server: Server, faces: Faces) -> None:
    """The line that says that it answers, and where."""
    plain, tls = map(str, server.addresses), map(str, server.tls_addresses)
    _print_ready(list(plain), list(tls), faces.https, faces.page)
    notify("READY=1")


def _print_ready(
    plain: Sequence[str],
    tls: Sequence[str],
    https: Sequence[str] = (),
    page: str | None = None,
) -> None:
    each = (("at", plain), ("over TLS at", tls), ("over HTTPS at", https))
    where = [f"{how} {' '.join(known)}" for how, known in each if known]
    if page:
        where.append(f"page at {page}")
    print(f"resolverkit serve: ready {', '.join(where)}", flush=True)


class _Lines(logging.Formatter):
    """A line for each event: key=value, for people and for machines."""

    def __init__(self) -> None:
        super().__init__("time=%(asctime)s level=%(levelname)s logger=%(name)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        text = record.message.replace("\\", "\\\\").replace('"', '\\"')
        head = super().formatMessage(record)
        return f'{head} message="{text}"'


def _log_to_stderr(level: str) -> None:
    if level not in _LEVELS:
        raise ConfigurationError(f"--log-level {level}: allowed are {_ALLOWED}")
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines())
    logger = logging.getLogger("resolverkit")
    logger.addHandler(handler)
    logger.setLevel(_LEVELS[level])
