"""An upstream that does what a script says, for tests without a network."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import dns.exception
import dns.name
import dns.rdatatype

from resolverkit.errors import (
    ConfigurationError,
    NetworkError,
    QueryTimeout,
    UpstreamError,
)
from resolverkit.model import Endpoint, Question, Reply
from resolverkit.testing.steps import TIMEOUT, Step, nxdomain
from resolverkit.transports.outcome import conclude_in_full, failed

if TYPE_CHECKING:
    from asyncio import Future

Steps: TypeAlias = Step | Sequence[Step]
Script: TypeAlias = Steps | Mapping[str, Steps] | Callable[[Question, int], Step]

MAX_SENDS = 3
"""Packets per question, address and transport (RFC 9520 section 3.1)."""


class ScriptedUpstream:
    """An upstream that plays a script, in real or in virtual time.

    ::

        upstream = ScriptedUpstream("one", [answer("192.0.2.1"), servfail(), silent()])

    Args:
        name: what it is called in paths.
        script: a step or a list of steps, played one per question, of which the last
            one repeats; or a mapping from names (``"www.example.com"`` or
            ``"www.example.com AAAA"``, ``"*"`` for all others) to such, where names
            that are not in it do not exist; or a function of the question and of how
            many came before, that gives a step.
        operator: who runs it.
        transport: what carries the question, as told in paths.
        address: its address, as told in paths.
        port: its port, as told in paths.
        filtering: it blocks names, and the user wants it to.
        private: private names may be sent to it.
        unsigned_block: it blocks by NXDOMAIN without SOA and RA.

    Attributes:
        endpoint: who it is, for paths.
        asked: all questions in order, as (loop time, text).
        resent: all retransmissions in order, as (loop time, text).
        cancelled: how many questions were cancelled while they waited.
        heard: loop time at which the last message came from it, also when that came
            too late for a cancelled question.
        closed: `aclose` was called.

    Raises:
        ConfigurationError: the script is none.
    """

    def __init__(
        self,
        name: str,
        script: Script,
        *,
        operator: str = "",
        transport: str = "udp",
        address: str = "192.0.2.1",
        port: int = 53,
        filtering: bool = False,
        private: bool = False,
        unsigned_block: bool = False,
    ) -> None:
        self.endpoint: Endpoint = Endpoint(
            name, transport, operator, address, port,
            filtering=filtering, private=private, unsigned_block=unsigned_block,
        )  # fmt: skip
        self.asked: list[tuple[float, str]] = []
        self.resent: list[tuple[float, str]] = []
        self.cancelled: int = 0
        self.heard: float = 0.0
        self.closed: bool = False
        self._script = _checked(script)
        self._played: Counter[str] = Counter()
        self._pending: dict[Future[Reply], _Asked] = {}

    @property
    def name(self) -> str:
        """What it is called in paths."""
        return self.endpoint.name

    @property
    def count(self) -> int:
        """How many questions it was asked."""
        return len(self.asked)

    def play(self, script: Script) -> None:
        """Go on with another script, from its first step.

        Args:
            script: as for the constructor.
        """
        self._script = _checked(script)
        self._played.clear()

    def query(self, question: Question) -> Future[Reply]:
        """Play the next step of the script.

        Args:
            question: what is asked.

        Returns:
            A future of the reply, or of an `UpstreamError`; of any other exception
            where the script itself is at fault.
        """
        loop = asyncio.get_running_loop()
        future: Future[Reply] = loop.create_future()
        now = loop.time()
        if self.closed:
            error = NetworkError(f"{self.name} is closed", local=True)
            future.set_exception(failed(error, self.endpoint, now, now, sends=0))
            return future
        try:
            step = self._step(question)
        except Exception as fault:  # noqa: BLE001  query() never raises
            future.set_exception(fault)
            return future
        self.asked.append((now, str(question)))
        asked = _Asked(question, step, now)
        self._pending[future] = asked
        future.add_done_callback(self._done)
        if step.lost:
            loop.call_at(now + TIMEOUT, self._give_up, future, asked)
        else:
            loop.call_at(now + step.after, self._play, future, asked)
        return future

    def resend(self, future: Future[Reply]) -> bool:
        """Send the question of a pending future once more, as over UDP.

        Args:
            future: what `query` returned.

        Returns:
            Whether it was sent: not more than `MAX_SENDS` times, and only while it is
            pending.
        """
        asked = self._pending.get(future)
        if asked is None or future.done() or asked.sends >= MAX_SENDS:
            return False
        asked.sends += 1
        loop = asyncio.get_running_loop()
        now = loop.time()
        self.resent.append((now, str(asked.question)))
        if asked.sends == asked.step.lost + 1:
            loop.call_at(now + asked.step.after, self._play, future, asked)
        return True

    async def aclose(self) -> None:
        """Cancel what is pending. Idempotent; later questions are network errors."""
        self.closed = True
        pending, self._pending = self._pending, {}
        for future in pending:
            future.cancel()

    def _step(self, question: Question) -> Step:
        script, key = self._script, ""
        if isinstance(script, Mapping):
            key, script = _entry(script, question)
        nth = self._played[key]
        self._played[key] += 1
        if isinstance(script, Step):
            return script
        if isinstance(script, Sequence):
            return script[min(nth, len(script) - 1)]
        step = script(question, nth)
        if not isinstance(step, Step):
            raise TypeError(f"the script gave {step!r}; allowed is a step")
        return step

    def _play(self, future: Future[Reply], asked: _Asked) -> None:
        now = asyncio.get_running_loop().time()
        try:
            message = asked.step.make(asked.question)
        except UpstreamError as error:
            self._fail(future, asked, error)
            return
        except Exception as fault:  # noqa: BLE001  the script's author has to see it
            if not future.done():
                future.set_exception(fault.with_traceback(None))
            return
        self.heard = now
        if future.done():
            return
        try:
            reply = conclude_in_full(
                asked.question, message, self.endpoint, asked.started, now,
                sends=asked.sends,
            )  # fmt: skip
        except UpstreamError as error:
            # The traceback holds this frame, which holds the future: a cycle.
            future.set_exception(error.with_traceback(None))
        else:
            future.set_result(reply)

    def _give_up(self, future: Future[Reply], asked: _Asked) -> None:
        self._fail(future, asked, QueryTimeout(f"no reply within {TIMEOUT:g} s"))

    def _fail(self, future: Future[Reply], asked: _Asked, error: UpstreamError) -> None:
        if future.done():
            return
        now = asyncio.get_running_loop().time()
        failed(error, self.endpoint, asked.started, now, sends=asked.sends)
        future.set_exception(error.with_traceback(None))

    def _done(self, future: Future[Reply]) -> None:
        if self._pending.pop(future, None) is not None and future.cancelled():
            self.cancelled += 1

    def __repr__(self) -> str:
        return f"<ScriptedUpstream {self.name} asked {self.count} times>"


@dataclass(slots=True)
class _Asked:
    """A question that waits for its step, and the packets sent for it."""

    question: Question
    step: Step
    started: float
    sends: int = 1


def _checked(script: Script) -> Script:
    """The script, as it is."""
    entries: list[object] = [script]
    if isinstance(script, Mapping):
        for key in script:
            try:
                dns.rdatatype.from_text([*_normal(key).split(), "A"][1])
            except (dns.exception.DNSException, ValueError) as error:
                raise ConfigurationError(
                    f"script key {key!r}: allowed are '*', names such as "
                    f"'www.example.com', and names with a type: {error}"
                ) from error
        entries = [*script.values()]
    elif callable(script):
        return script
    for steps in entries:
        several = list(steps) if isinstance(steps, Sequence) else [steps]
        if not several or not all(isinstance(step, Step) for step in several):
            raise ConfigurationError(
                f"script {steps!r}: allowed are steps, such as answer('192.0.2.1') or "
                "silent(), and lists of them"
            )
    return script


def _entry(script: Mapping[str, Steps], question: Question) -> tuple[str, Steps]:
    """The most specific entry of a mapping that speaks for a question."""
    full = str(question)
    entries = {_normal(key): steps for key, steps in script.items()}
    for key in (full, full.split(maxsplit=1)[0], "*"):
        if key in entries:
            return key, entries[key]
    return "", nxdomain()


def _normal(key: str) -> str:
    """A key of a mapping, written as `str(question)` or the name in it."""
    name, *rdtype = key.split()
    if name == "*":
        return name
    return " ".join([str(dns.name.from_text(name.lower())), *map(str.upper, rdtype)])
