"""How our own upstreams tell of an outcome: a listener in place of a Future.

To others each of them is an `Upstream`, and a user's own class gives Futures: between
the two stand `Direct.query` and `Watched`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from resolverkit.model import Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from resolverkit.model import Attempt, PlainReply, Question
    from resolverkit.upstream import Upstream


class Listener(Protocol):
    """Who asked: is told of the outcome at once, and once.

    Futures would tell it on the next turn of the loop, and each of them costs more than
    the rest of the work between a socket and a caller.
    """

    def answered(self, reply: Reply | PlainReply) -> None:
        """Here is the reply."""

    def failed(self, error: BaseException) -> None:
        """There is none."""

    def called_off(self) -> None:
        """There will be none, for the transport was closed."""


_set_result = asyncio.Future.set_result


class Pending(asyncio.Future[Reply]):
    """The Future of our own transports and groups: one listener is called at once.

    Attributes:
        then: called with the Future as soon as it is done.
        under_way: what it stands for, where that is no Future.
    """

    __slots__ = ("then", "under_way")

    # Unset until somebody sets them: an __init__ would take longer than the Future's.
    then: Callable[[asyncio.Future[Reply]], None] | None
    under_way: UnderWay

    def answered(self, reply: Reply | PlainReply) -> None:
        """Give the reply."""
        self.set_result(reply if isinstance(reply, Reply) else reply.reply())

    def failed(self, error: BaseException) -> None:
        """Give the error."""
        self.set_exception(error)

    def called_off(self) -> None:
        """Cancel it, without a word to who was asked."""
        if super().cancel():
            self._tell()

    def set_result(self, result: Reply) -> None:
        """Give the reply."""
        _set_result(self, result)
        try:  # as `_tell` does, without the call
            then = self.then
        except AttributeError:
            return
        if then is not None:
            self.then = None
            then(self)

    def set_exception(self, exception: Any) -> None:
        """Give the error."""
        super().set_exception(exception)
        self._tell()

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel it, and tell who was asked."""
        if not super().cancel(msg):
            return False
        under_way = getattr(self, "under_way", None)
        if under_way is not None:
            under_way.drop()
        self._tell()
        return True

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """What has been tried so far, for a caller whose time is over."""
        attempts: tuple[Attempt, ...] = getattr(
            getattr(self, "under_way", None), "attempts", ()
        )
        return attempts

    def _tell(self) -> None:
        then = getattr(self, "then", None)
        if then is not None:
            self.then = None
            then(self)


class UnderWay(ABC):
    """A question that was asked, as who asked it sees it.

    Attributes:
        listener: who is told of the outcome; None once nobody wants to know.
    """

    __slots__ = ("listener",)

    listener: Listener | None

    def future(self, loop: asyncio.AbstractEventLoop | None) -> asyncio.Future[Reply]:
        """A Future that is told from now on, in place of the listener."""
        self.listener = found = Pending(loop=loop)
        found.under_way = self
        return found

    @abstractmethod
    def drop(self) -> None:
        """Nobody wants to know any more."""


class Direct:
    """An upstream of our own, which tells a listener in place of a Future."""

    def ask(self, question: Question, listener: Listener, now: float) -> UnderWay:
        """Put `question` to it; the listener may be told before this returns.

        Args:
            question: what to ask.
            listener: who is told.
            now: loop time.
        """
        raise NotImplementedError

    def query(self, question: Question) -> asyncio.Future[Reply]:
        """Ask; see `Upstream.query`."""
        loop = asyncio.get_running_loop()
        found = Pending(loop=loop)
        found.under_way = self.ask(question, found, loop.time())
        return found


class Watched(UnderWay):
    """A Future that was asked for, as what is under way for a listener."""

    __slots__ = ("_future",)

    def __init__(self, future: asyncio.Future[Reply], listener: Listener) -> None:
        self._future = future
        self.listener = listener
        listen(future, self._ended)

    def _ended(self, future: asyncio.Future[Reply]) -> None:
        listener, self.listener = self.listener, None
        if future.cancelled():
            if listener is not None:
                listener.called_off()
            return
        error = error_of(future)
        if listener is None:
            return
        if error is None:
            listener.answered(future.result())
        else:
            listener.failed(error)

    def future(self, _loop: object) -> asyncio.Future[Reply]:
        """The Future itself."""
        self.listener = None
        return self._future

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """What has been tried so far, where it tells."""
        attempts: tuple[Attempt, ...] = getattr(self._future, "attempts", ())
        return attempts

    def drop(self) -> None:
        """Cancel it."""
        self.listener = None
        self._future.cancel()


Ask: TypeAlias = "Callable[[Question, Listener, float], UnderWay]"
"""How a question is put to an upstream: as `Direct.ask`."""


def asker(upstream: Upstream) -> Ask:
    """How to put a question to any upstream."""
    return upstream.ask if isinstance(upstream, Direct) else partial(_ask, upstream)


def _ask(
    upstream: Upstream, question: Question, listener: Listener, _now: float
) -> UnderWay:
    """Ask one that gives an awaitable."""
    return Watched(start(upstream, question), listener)


def start(upstream: Upstream, question: Question) -> asyncio.Future[Reply]:
    """Put `question` to `upstream`, in a context that no caller shares.

    A user's coroutine becomes a task.
    """
    return Context().run(_start, upstream, question)


def _start(upstream: Upstream, question: Question) -> asyncio.Future[Reply]:
    try:
        asked = upstream.query(question)
        return asked if isinstance(asked, Pending) else asyncio.ensure_future(asked)
    except Exception as error:  # noqa: BLE001 - a user's own class may raise anything
        return _crashed(error)


def _crashed(error: Exception) -> asyncio.Future[Reply]:
    """The Future of an upstream whose `query` raised: its failure, as any other."""

    async def fail() -> Reply:
        raise error

    return asyncio.ensure_future(fail())


def error_of(asked: asyncio.Future[Reply]) -> BaseException | None:
    """Why there is no reply, once `asked` is done; None where there is one."""
    error = asked.exception()
    if error is None:
        reply: object = asked.result()
        if not isinstance(reply, Reply):  # a user's own class may give anything
            return TypeError(f"query() gave {reply!r:.80}, which is no Reply")
    return error


def listen(
    asked: asyncio.Future[Reply], listener: Callable[[asyncio.Future[Reply]], None]
) -> None:
    """Have `listener` called when `asked` is done: at once where that can be.

    It keeps no context of a caller, and what it asks for has none either.
    """
    if isinstance(asked, Pending) and not asked.done():
        asked.then = listener
    else:
        asked.add_done_callback(listener, context=Context())


def drop(asked: asyncio.Future[Reply]) -> None:
    """Cancel `asked` without a word to its listener."""
    if isinstance(asked, Pending):
        asked.then = None
    asked.cancel()
