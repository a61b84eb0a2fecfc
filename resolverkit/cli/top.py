"""``resolverkit top``: what the page of a running stub shows, on a terminal."""

from __future__ import annotations

import json
import os
import select
import sys
import time
from contextlib import contextmanager
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

from resolverkit.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

DONE, USAGE, UNREACHABLE = 0, 2, 3
"""Exit statuses."""
EVERY = 1.0
"""Seconds between two looks."""
PATIENCE = 3.0
"""Seconds for one look."""
MAX_ANSWER = 4 * 1024 * 1024
"""Octets of a status that are read."""

_QUIT = frozenset(b"qQ\x03\x04")


class Unreachable(Exception):
    """The stub does not answer, or is none."""


def run(url: str, *, once: bool, as_json: bool) -> int:
    """Show a stub's state until told to end.

    Args:
        url: of its HTTP face.
        once: show it once, and end, as where stdout is no terminal.
        as_json: print what the stub says as JSON, once.

    Returns:
        The exit status.
    """
    try:
        address = _address(url)
        status = look(address)
        if as_json:
            print(json.dumps(status, indent=2))
        else:
            _show(address, status, once=once)
    except ConfigurationError as error:
        print(f"resolverkit: {error}", file=sys.stderr)
        return USAGE
    except Unreachable as error:
        print(f"resolverkit: {error}", file=sys.stderr)
        return UNREACHABLE
    except KeyboardInterrupt:
        return DONE
    return DONE


def _address(url: str) -> str:
    """The URL of the state; an address will do for the stub's own."""
    text = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(text)
        usable = parts.scheme == "http" and parts.hostname and parts.port != 0
        usable = usable and parts.netloc.isprintable() and " " not in parts.netloc
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError(
            f"{url!r}: allowed is the URL of a stub, as http://127.0.0.1:8053"
        )
    return f"http://{parts.netloc}/api/status"


def look(address: str) -> dict[str, Any]:
    """What a stub says of its state.

    Raises:
        Unreachable: it says nothing, or is no stub.
    """
    opener = build_opener(ProxyHandler({}))  # it is on this machine, as a rule
    try:
        with opener.open(address, timeout=PATIENCE) as response:
            status = json.loads(response.read(MAX_ANSWER))
    except (OSError, ValueError, RecursionError, HTTPException) as error:
        reason = str(error.reason if isinstance(error, URLError) else error).strip()
        told = reason if reason.isprintable() else repr(reason)  # a server said it
        raise Unreachable(f"{address}: {told}") from None
    if not isinstance(status, dict) or "upstreams" not in status:
        raise Unreachable(f"{address}: this is no resolverkit")
    return status


def _show(address: str, status: dict[str, Any], *, once: bool) -> None:
    from resolverkit.cli.console import console
    from resolverkit.cli.top_view import WIDTH, view

    out = console(WIDTH)
    if once or not out.is_terminal:
        out.print(view(status, out.width))
    else:
        _follow(address, status, out)


def _follow(address: str, status: dict[str, Any], console: Console) -> None:
    """Show it, again and again, until a key says that it is enough."""
    from rich.live import Live

    from resolverkit.cli.top_view import view

    with (
        _keys() as pressed,
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        heard, problem = time.monotonic(), ""
        while True:
            silent = time.monotonic() - heard if problem else 0.0
            shown = view(status, console.width, console.height, problem, silent)
            live.update(shown, refresh=True)
            if pressed(EVERY):
                return
            try:
                status, problem = look(address), ""
                heard = time.monotonic()
            except Unreachable as error:
                problem = str(error)


@contextmanager
def _keys() -> Iterator[Callable[[float], bool]]:
    """Gives a function that waits, and says whether a key asks for the end."""
    try:
        import termios
        import tty
    except ImportError:  # Windows, where Ctrl-C ends it
        yield _sleep
        return
    if not sys.stdin.isatty():
        yield _sleep
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def pressed(patience: float) -> bool:
        until = time.monotonic() + patience
        while (left := until - time.monotonic()) > 0:
            if select.select([descriptor], [], [], left)[0]:
                keys = os.read(descriptor, 32)  # not by sys.stdin, which keeps some
                if not keys or _QUIT & set(keys):
                    return True
        return False

    try:
        tty.setcbreak(descriptor)
        yield pressed
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _sleep(patience: float) -> bool:
    time.sleep(patience)
    return False
