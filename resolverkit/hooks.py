"""Events: what a program may want to count, trace or raise an alarm on.

The same goes to the logger ``resolverkit.resolver``, with the path as ``extra``: DEBUG
for every flight that was answered, INFO for each that failed, and where the system's
servers have changed.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from resolverkit.model import AnswerPath, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from resolverkit.entry import Entry
    from resolverkit.errors import UpstreamError
    from resolverkit.flight import Served
    from resolverkit.model import Question

_log = logging.getLogger("resolverkit.resolver")


class Hook(Protocol):
    """Is told what happens in a Resolver. Subclass it and override what you need.

    Methods are called on the loop and must return at once. What they raise is logged
    and goes no further. Answers from memory that are fresh raise no event; `stats`
    counts them.
    """

    def started(self, question: Question) -> None:
        """A question goes out to the upstreams."""

    def answered(self, question: Question, path: AnswerPath) -> None:
        """They have answered it, with data or a denial."""

    def failed(self, question: Question, path: AnswerPath) -> None:
        """None of them has; the path tells what each said."""

    def stale(self, question: Question, path: AnswerPath) -> None:
        """A caller is given stale data."""

    def held(self, question: Question, path: AnswerPath) -> None:
        """A caller is given data that upstreams deny by now."""

    def upstream_down(self, upstream: str) -> None:
        """An upstream does not answer any more; `upstream` is its URL."""

    def upstream_up(self, upstream: str) -> None:
        """It answers again."""

    def servers_changed(self, servers: Sequence[str]) -> None:
        """The system has other servers, as on another network; these are they."""


class Reporter:
    """Tells a Hook, and the log, of what the cache and the groups observe.

    Args:
        hook: who is told, if anybody.
        path_of: gives the path of what is served.

    Attributes:
        hooked: there is a Hook.
    """

    def __init__(
        self, hook: Hook | None, path_of: Callable[[Served], AnswerPath]
    ) -> None:
        self._hook = hook
        self.hooked: bool = hook is not None
        self._path_of = path_of

    def started(self, question: Question) -> None:
        """See `Hook.started`."""
        if self._hook is not None:
            self._tell(self._hook.started, question)

    def landed(self, question: Question, served: Served) -> None:
        """A flight was answered."""
        wanted = _log.isEnabledFor(logging.DEBUG)
        if self._hook is None and not wanted:
            return
        path = self._path_of(served)
        if wanted:
            _log.debug("%s: %s", question, path, extra=path.to_dict())
        if self._hook is not None:
            self._tell(self._hook.answered, question, path)

    def failed(
        self, question: Question, error: UpstreamError, entry: Entry | None
    ) -> None:
        """A flight failed."""
        wanted = _log.isEnabledFor(logging.INFO)
        if self._hook is None and not wanted:
            return
        path = AnswerPath(Source.UPSTREAM, None, error.attempts, detail=str(error))
        if wanted:
            then = "stale data at hand" if entry else "nothing to serve"
            _log.info("%s: %s; %s", question, path, then, extra=path.to_dict())
        if self._hook is not None:
            self._tell(self._hook.failed, question, path)

    def served(self, question: Question, served: Served) -> None:
        """A caller is given stale or held data."""
        if self._hook is None:
            return
        held = served.source is Source.HELD
        event = self._hook.held if held else self._hook.stale
        self._tell(event, question, self._path_of(served))

    def changed(self, upstream: str, up: bool) -> None:
        """An upstream went down, or came back."""
        if self._hook is not None:
            event = self._hook.upstream_up if up else self._hook.upstream_down
            self._tell(event, upstream)

    def moved(self, servers: Sequence[str], before: Sequence[str]) -> None:
        """The system has other servers than before."""
        now, then = ", ".join(servers), ", ".join(before)
        _log.info("the system's servers are %s, and were %s", now, then)
        if self._hook is not None:
            self._tell(self._hook.servers_changed, tuple(servers))

    def _tell(self, event: Callable[..., None], *told: object) -> None:
        try:
            event(*told)
        except Exception:  # noqa: BLE001 - a hook is a user's own
            _log.exception("the hook %r failed", event)
