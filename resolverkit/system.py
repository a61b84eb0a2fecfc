"""What the system says of its name servers, and that this changes.

A laptop joins another network, a VPN comes up: resolv.conf is written anew. It is read
by dnspython, which goes to the registry on Windows in its place. Here is when to read
it again, and what to take over: nothing that a user has set since.
"""

from __future__ import annotations

import copy
import io
import logging
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dns.exception
import dns.name
import dns.resolver

from resolverkit import config
from resolverkit.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TextIO

LOOK_EVERY = 2.0
"""Seconds between two looks at whether resolv.conf has changed, which take some µs."""
LOOK_EVERY_ON_WINDOWS = 30.0
"""There the whole of it is read each time, which takes some ms."""

UPLINKS = Path("/run/systemd/resolve/resolv.conf")
"""Where systemd-resolved writes which servers it asks: systemd-resolved.service(8)."""
_RESOLVED = frozenset({"127.0.0.53", "127.0.0.54"})
"""What resolv.conf names where everybody asks systemd-resolved, on whatever network."""

_OPTIONS = (
    "nameservers", "search", "domain", "ndots", "timeout", "rotate", "edns",
    "ednsflags", "payload",
)  # fmt: skip

_MAX_TIMEOUT, _MAX_NDOTS = 30, 15
"""What higher values in a resolv.conf count as: resolv.conf(5)."""

_log = logging.getLogger("resolverkit.resolver")


def read_resolv_conf(
    options: dns.resolver.BaseResolver,
    file: str | os.PathLike[str] | TextIO,
    read: Callable[[TextIO], None],
) -> None:
    """Take over what a resolv.conf says, without what cannot be used of it.

    Others write that file, and the C library reads past what it cannot use: a program
    with upstreams of its own, or with one good server there, starts nonetheless.

    Args:
        options: what is to have it.
        file: the resolv.conf.
        read: dnspython's reader, of the same options.

    Raises:
        dns.resolver.NoResolverConfiguration: there is no such file, or it names no
            server that can be asked.
    """
    timeout, unusable = options.timeout, list[str]()
    try:
        read(_usable(file, unusable))
    except dns.resolver.NoResolverConfiguration as error:
        told = "; ".join([str(error), *unusable[:1]])
        raise no_servers(told) from None
    if options.timeout != timeout:
        options.timeout = min(max(options.timeout, 1), _MAX_TIMEOUT)
    if options.ndots is not None:
        options.ndots = min(options.ndots, _MAX_NDOTS)
    if unusable:
        more = f", and {len(unusable) - 1} more" if unusable[1:] else ""
        _log.warning("%s: %s%s", file, unusable[0], more)


class System:
    """The system's configuration, as it was last read.

    Args:
        filename: a resolv.conf, which Windows does not have.

    Attributes:
        servers: the addresses of its servers.
        uplinks: those behind them, where they are systemd-resolved.
        suffixes: its domain and search list.
        look_at: from when on a look at it is due, on the clock of who looks; never
            before it was read, nor where nothing can change.
    """

    def __init__(self, filename: str | os.PathLike[str] | TextIO) -> None:
        self.servers: list[str] = []
        self.uplinks: list[str] = []
        self.suffixes: frozenset[dns.name.Name] = frozenset()
        self.look_at: float = float("inf")
        self._filename = filename
        self._every = LOOK_EVERY
        if sys.platform == "win32":
            self._every = LOOK_EVERY_ON_WINDOWS
        elif hasattr(filename, "read"):  # an open file is read once
            self._every = float("inf")
        self._seen = self._stamp()
        self._refused: object = None  # what was wrong has been told
        self._given: dict[str, tuple[Any, Any]] = {}

    def _stamp(self) -> object:
        """What differs when the file does; None for one that is not there."""
        if sys.platform == "win32" or hasattr(self._filename, "read"):
            return None
        stamp = _stamp(self._filename)
        if stamp is not None and self._is_resolved:
            return stamp, _stamp(UPLINKS)
        return stamp

    @property
    def _is_resolved(self) -> bool:
        return bool(self.servers) and _RESOLVED.issuperset(self.servers)

    def gave(self, options: dns.resolver.BaseResolver) -> None:
        """All these options are as they were read."""
        self._note(options, _OPTIONS)
        self._read(options)
        self.look_at = float("-inf")

    def again(self, now: float) -> dns.resolver.BaseResolver | None:
        """What it says now, if it has changed.

        A file that is not there, or names no server, is one that is being written, or
        that of a machine without a network: nothing changes.

        Args:
            now: the time; the next look is due `LOOK_EVERY` later.
        """
        self.look_at = now + self._every
        stamp = self._stamp()
        if sys.platform != "win32" and stamp in {None, self._seen}:
            return None
        try:
            told = _read(self._filename)
        except (dns.exception.DNSException, OSError, ValueError) as error:
            self._complain(error, stamp)
            return None
        self._seen = stamp
        return told

    def take(
        self,
        options: dns.resolver.BaseResolver,
        told: dns.resolver.BaseResolver,
        check: Callable[[], object],
    ) -> bool:
        """Have `options` say what is told now, where they said what was told before.

        Args:
            options: of who was configured by this.
            told: by `again`.
            check: raises ConfigurationError where the options cannot be used; they are
                as before then.

        Returns:
            Whether anything has changed.
        """
        before = dict(self._given), self.servers, self.uplinks, self.suffixes
        was: dict[str, Any] = {}
        try:
            for name, (given, copied) in before[0].items():
                now, new = getattr(options, name), getattr(told, name)
                if now is given and now == copied and new != now:
                    was[name] = now
                    setattr(options, name, new)
            self._note(options, was)
            self._read(told)
            check()
        except ConfigurationError as error:
            for name, value in was.items():
                setattr(options, name, value)
            self._given, self.servers, self.uplinks, self.suffixes = before
            self._complain(error, self._seen)
            return False
        return bool(was) or (self.servers, self.uplinks, self.suffixes) != before[1:]

    def _note(self, options: dns.resolver.BaseResolver, names: Iterable[str]) -> None:
        for name in names:
            value = getattr(options, name)
            # A list may change in place: the same object need not say the same.
            self._given[name] = value, copy.copy(value)

    def _read(self, told: dns.resolver.BaseResolver) -> None:
        self.servers = [str(server) for server in told.nameservers]
        if self._is_resolved:
            with suppress(dns.exception.DNSException, OSError, ValueError):
                self.uplinks = [str(server) for server in _read(UPLINKS).nameservers]
        else:
            self.uplinks = []
        # But for what dnspython makes of this host's own name.
        host = dns.name.from_text(socket.gethostname())
        own = dns.name.root, dns.name.Name(host[1:])
        names = (*told.search, told.domain)
        self.suffixes = frozenset(name for name in names if name not in own)

    def _complain(self, error: Exception, stamp: object) -> None:
        """Say once what is wrong with a file."""
        if stamp is None or stamp != self._refused:
            self._refused = stamp
            where = "the registry" if sys.platform == "win32" else self._filename
            _log.warning("%s: %s; the servers before stay", where, error)


def _usable(file: str | os.PathLike[str] | TextIO, unusable: list[str]) -> TextIO:
    """A resolv.conf without the servers and suffixes that are none, which are told."""
    if isinstance(file, (str, os.PathLike)):
        try:
            text = Path(file).read_text("utf-8", errors="replace")
        except OSError as error:
            raise no_servers(f"cannot open {file}: {error.strerror}") from None
    else:
        text = file.read()
    kept = io.StringIO()
    for line in io.StringIO(text):
        key, *values = line.split() or [""]
        if key == "nameserver":
            values, check, what = values[:1], _check_server, "server's address"
        elif key in {"domain", "search"}:
            check, what = _check_suffix, "domain name"
        else:
            kept.write(line)
            continue
        kept.write(key)
        for value in values:
            try:
                check(value)
            except (dns.exception.DNSException, ValueError):
                unusable.append(f"{key} {value[:80]!r}: that is no {what}")
            else:
                kept.write(f" {value}")
        kept.write("\n")
    kept.seek(0)
    return kept


def _check_server(text: str) -> None:
    config.members([text], system=())


def _check_suffix(text: str) -> None:
    dns.name.from_text(text)


def no_servers(why: str) -> dns.resolver.NoResolverConfiguration:
    """The error of dnspython, with the reason."""
    return dns.resolver.NoResolverConfiguration(why)  # type: ignore[no-untyped-call]


def _stamp(path: str | os.PathLike[str] | TextIO) -> object:
    """What differs when a file does; None for one that is not there."""
    try:
        stat = os.stat(path)  # type: ignore[arg-type]  # noqa: PTH116  as it was given
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino, stat.st_dev


class _Options(dns.resolver.BaseResolver):
    """What the system says, and nobody asks."""

    def read_resolv_conf(self, f: Any) -> None:
        read_resolv_conf(self, f, super().read_resolv_conf)


def _read(filename: str | os.PathLike[str] | TextIO) -> dns.resolver.BaseResolver:
    """What the system says, by dnspython's reader for it.

    Raises:
        DNSException, OSError, ValueError: it cannot be read, or names no server.
    """
    told = _Options(filename)
    if not told.nameservers:  # as in the registry of a machine without a network
        raise ValueError("no nameservers")
    return told
