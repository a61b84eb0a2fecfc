"""One of several addresses: RFC 8305 section 5, for whatever it is that connects.

The next address is tried when the one before has failed, or 250 ms after it was begun.
The first to connect wins; the others are cancelled, and awaited.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    _T = TypeVar("_T")

ATTEMPT_DELAY = 0.25
"""Seconds between the beginnings of two attempts (RFC 8305 section 5)."""


async def first(
    connect: Callable[[str], Awaitable[_T]],
    addresses: Sequence[str],
    close: Callable[[_T], Awaitable[Any]],
) -> _T:
    """What the first attempt that succeeds gives.

    Args:
        connect: begins an attempt.
        addresses: to try, the best first; at least one.
        close: ends what another attempt gave in the same moment.

    Raises:
        Exception: the last attempt's, when all have failed.
    """
    waiting = list(addresses)
    running: set[asyncio.Task[_T]] = set()
    error: BaseException | None = None
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.ensure_future(connect(waiting.pop(0))))
            done, running = await asyncio.wait(
                running,
                timeout=ATTEMPT_DELAY if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                error = task.exception()
                if error is None:
                    running |= done - {task}
                    return task.result()
        assert error is not None
        raise error
    finally:
        error = None  # its traceback holds this frame
        for task in running:
            task.cancel()
        for task in running:
            with suppress(Exception, asyncio.CancelledError):
                await close(await task)
