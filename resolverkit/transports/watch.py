"""Many sockets under one watch of the loop's.

For each socket that is ready, a loop makes an event and runs a handle: some 3 µs in
asyncio, more than reading a datagram. On Linux one epoll can watch another, so that the
loop sees a single descriptor, and all that is ready is found by one more system call.
Elsewhere each socket has a reader of its own.
"""

from __future__ import annotations

import select
from contextvars import Context
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

_Item = TypeVar("_Item")


class Watch(Generic[_Item]):
    """Calls `read` with what belongs to a descriptor that can be read.

    Args:
        loop: who watches.
        read: called in an empty context, again and again until all has been read.

    Raises:
        NotImplementedError: the loop cannot watch descriptors.
    """

    __slots__ = ("_epoll", "_items", "_loop", "_read")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, read: Callable[[_Item], None]
    ) -> None:
        self._loop = loop
        self._read = read
        self._items: dict[int, _Item] = {}
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        if self._epoll is not None:
            try:
                Context().run(loop.add_reader, self._epoll.fileno(), self._wake)
            except BaseException:
                self._epoll.close()
                raise

    def add(self, number: int, item: _Item) -> None:
        """Watch the descriptor `number`, which belongs to `item`."""
        if self._epoll is None:
            Context().run(self._loop.add_reader, number, self._read, item)
        else:
            self._epoll.register(number, select.EPOLLIN)
            self._items[number] = item

    def remove(self, number: int) -> None:
        """Watch it no longer; before it is closed."""
        if self._epoll is not None:
            self._epoll.unregister(number)
            del self._items[number]
        elif not self._loop.is_closed():
            self._loop.remove_reader(number)

    def close(self) -> None:
        """Let go of the loop."""
        if self._epoll is not None:
            if not self._loop.is_closed():
                self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()

    def _wake(self) -> None:
        assert self._epoll is not None
        items, read = self._items, self._read
        for number, _ in self._epoll.poll(0):
            item = items.get(number)
            if item is not None:  # else closed by what came to another
                read(item)
