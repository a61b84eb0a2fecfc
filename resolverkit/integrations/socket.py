"""`install`: every name that a program looks up goes through a Resolver.

It puts other functions in the place of `socket.getaddrinfo`, `socket.gethostbyname`,
`socket.gethostbyname_ex` and the `getaddrinfo` of event loops. The `create_connection`
of uvloop asks libc by itself: it is given a connected socket in place of a name. And
aiohttp asks c-ares where aiodns is installed: its connectors are given a resolver that
asks the loop.

What works for the Resolver itself, on its background loop, is never sent through it: a
store's host, say, is looked up as the system does.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import socket
import threading
from typing import TYPE_CHECKING, Any

import resolverkit.resolver
from resolverkit import addrinfo, blocking, lookup
from resolverkit.background import background

if TYPE_CHECKING:
    from collections.abc import Callable

    from resolverkit.addrinfo import Found

__all__ = ["Installation", "install"]


class Installation:
    """What `install` gives. End it with `close`, or by ``with``.

    Attributes:
        resolver: who is asked while it lasts.
    """

    def __init__(self, resolver: blocking.Resolver) -> None:
        self.resolver = resolver

    def close(self) -> None:
        """Put back what was there before; the Resolver stays open. Idempotent."""
        global _active  # noqa: PLW0603  what is replaced is the process's too
        with _changing:
            _active = tuple(other for other in _active if other is not self)
            if not _active:
                for patch in _patches():
                    patch.undo()

    def __enter__(self) -> Installation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def install(
    resolver: blocking.Resolver | resolverkit.resolver.Resolver | None = None,
) -> Installation:
    """Have the whole process look up names by a Resolver.

    While it lasts, `socket.getaddrinfo`, `socket.gethostbyname`,
    `socket.gethostbyname_ex` and every event loop's ``getaddrinfo`` ask it, and with
    them most of what connects by name. What a C library looks up by itself is not
    covered. Of several installations the latest counts.

    Args:
        resolver: who is asked. An asyncio Resolver must not be in use: it moves to the
            background loop. None for the one behind `resolverkit.blocking.resolve`.

    Returns:
        A context manager that puts everything back when it is left, as its `close`
        does.

    Raises:
        ConfigurationError: the Resolver is in use on another loop; or what the
            environment says of the one behind `resolverkit.blocking.resolve` is wrong.
    """
    global _active  # noqa: PLW0603
    if resolver is None:
        resolver = blocking.get_default_resolver()
    elif isinstance(resolver, resolverkit.resolver.Resolver):
        resolver = blocking.Resolver.over(resolver)
    installation = Installation(resolver)
    with _changing:
        if not _active:
            for patch in _patches():
                patch.apply()
        _active = (*_active, installation)
    return installation


_active: tuple[Installation, ...] = ()
_changing = threading.Lock()


def _resolver() -> blocking.Resolver | None:
    """Who is asked now; None for the system."""
    active = _active
    return active[-1].resolver if active and not background.here else None


# --- what is put in place ------------------------------------------------------------


def _getaddrinfo(
    host: bytes | str | None,
    port: bytes | str | int | None,
    family: int = 0,
    type: int = 0,  # noqa: A002  socket.getaddrinfo's name for it
    proto: int = 0,
    flags: int = 0,
) -> list[Found]:
    """`socket.getaddrinfo`, by resolverkit."""
    resolver = _resolver()
    if resolver is None:
        return _system(host, port, family, type, proto, flags)
    return resolver.getaddrinfo(host, port, family, type, proto, flags)


def _gethostbyname(hostname: str) -> str:
    """`socket.gethostbyname`, by resolverkit."""
    if _resolver() is None or hostname in _SPECIAL:
        return str(_GETHOSTBYNAME.old(hostname))
    return str(_getaddrinfo(hostname, None, socket.AF_INET)[0][4][0])


def _gethostbyname_ex(hostname: str) -> tuple[str, list[str], list[str]]:
    """`socket.gethostbyname_ex`, by resolverkit."""
    resolver = _resolver()
    known = hostname in _SPECIAL or addrinfo.numeric(hostname, None, socket.AF_INET)
    if resolver is None or known:
        found: tuple[str, list[str], list[str]] = _GETHOSTBYNAME_EX.old(hostname)
        return found
    work = lookup.look_up(resolver._inner, hostname, [socket.AF_INET])
    host = resolver._run(work)
    return host.name, [*host.aliases], [str(address) for address in host.addresses]


async def _loop_getaddrinfo(
    self: asyncio.AbstractEventLoop,
    host: bytes | str | None,
    port: bytes | str | int | None,
    *,
    family: int = 0,
    type: int = 0,  # noqa: A002
    proto: int = 0,
    flags: int = 0,
) -> list[Found]:
    """A loop's `getaddrinfo`, by resolverkit."""
    resolver = None if background.owns(self) else _resolver()
    arguments = host, port, family, type, proto, flags
    if resolver is None:
        return await self.run_in_executor(None, _system, *arguments)
    return await resolver._getaddrinfo(*arguments)


async def _create_connection(
    self: asyncio.AbstractEventLoop,
    protocol_factory: Callable[[], asyncio.BaseProtocol],
    host: str | None = None,
    port: int | str | None = None,
    **options: Any,
) -> Any:
    """The `create_connection` of uvloop, by way of a socket that is connected."""
    real = _of_uvloop()[0].old
    by_name = host is not None and not addrinfo.numeric(host, port)
    if _resolver() is None or not by_name or options.get("sock") is not None:
        return await real(self, protocol_factory, host, port, **options)
    from aiohappyeyeballs import start_connection

    hints = {key: options.pop(key, 0) for key in ("family", "proto", "flags")}
    stream = socket.SOCK_STREAM
    remote = await self.getaddrinfo(host, port, type=stream, **hints)
    local = options.pop("local_addr", None)
    if local is not None:
        local = await self.getaddrinfo(*local, type=stream, **hints)
    sock = await start_connection(remote, local_addr_infos=local, loop=self)
    if options.get("ssl"):
        options.setdefault("server_hostname", host)
    try:
        return await real(self, protocol_factory, sock=sock, **options)
    except BaseException:
        sock.close()
        raise


def _system(*arguments: Any) -> list[Found]:
    found: list[Found] = _GETADDRINFO.old(*arguments)
    return found


_SPECIAL = frozenset({"", "<broadcast>"})
"""Names that only socket.gethostbyname knows."""


# --- how it is put there -------------------------------------------------------------


class _Patch:
    """An attribute, and what takes its place for a while.

    Attributes:
        old: what was there before.
    """

    def __init__(self, owner: Any, name: str, new: Callable[..., Any]) -> None:
        self._owner, self._name, self._new = owner, name, new
        self._inherited = False
        self.old: Callable[..., Any] = getattr(owner, name)

    def apply(self) -> None:
        """Put the new one there."""
        current = getattr(self._owner, self._name)
        if current is not self._new:  # left there by somebody who had replaced it
            self._inherited = self._name not in vars(self._owner)
            self.old = current
            setattr(self._owner, self._name, self._new)

    def undo(self) -> None:
        """Put the old one back, unless somebody has replaced the new one since."""
        if vars(self._owner).get(self._name) is not self._new:
            return
        if self._inherited:
            delattr(self._owner, self._name)
        else:
            setattr(self._owner, self._name, self.old)


_GETADDRINFO = _Patch(socket, "getaddrinfo", _getaddrinfo)
_GETHOSTBYNAME = _Patch(socket, "gethostbyname", _gethostbyname)
_GETHOSTBYNAME_EX = _Patch(socket, "gethostbyname_ex", _gethostbyname_ex)
_LOOP = _Patch(asyncio.BaseEventLoop, "getaddrinfo", _loop_getaddrinfo)


def _patches() -> list[_Patch]:
    sockets = _GETADDRINFO, _GETHOSTBYNAME, _GETHOSTBYNAME_EX
    return [*sockets, _LOOP, *_of_uvloop(), *_of_aiohttp()]


@functools.cache
def _of_uvloop() -> tuple[_Patch, ...]:
    """Its loop has methods of its own, in C: the first of these connects."""
    try:
        from uvloop import Loop
    except ImportError:
        return ()
    return (
        _Patch(Loop, "create_connection", _create_connection),
        _Patch(Loop, "getaddrinfo", _loop_getaddrinfo),
    )


@functools.cache
def _of_aiohttp() -> tuple[_Patch, ...]:
    """What a connector of its own accord looks up names by, where that is c-ares."""
    if importlib.util.find_spec("aiodns") is None:  # else it asks the loop
        return ()
    from aiohttp import ThreadedResolver, connector

    return (_Patch(connector, "DefaultResolver", ThreadedResolver),)
