"""Several processes that share addresses: the kernel deals queries out among them.

Each has sockets of its own at the same addresses (SO_REUSEPORT), all of which are made
before the first fork, so that a worker that ends leaves none behind that nobody reads:
its successor takes them over, with what has come meanwhile.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from resolverkit.server.notify import notify, reloading

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

PAUSE = 1.0
"""Seconds at least between two starts of one worker."""

_FORWARDED = (signal.SIGTERM, signal.SIGINT)

_log = logging.getLogger("resolverkit.server")


class Workers:
    """A parent that keeps a number of children at work.

    Args:
        count: how many.
        work: what each does, in a process of its own; called with its number.
        ready: called once when all have been started.
    """

    def __init__(
        self, count: int, work: Callable[[int], None], ready: Callable[[], None]
    ) -> None:
        self._work = work
        self._ready = ready
        self._count = count
        self._pids: dict[int, int] = {}  # process to number
        self._began: dict[int, float] = {}
        self._ending = False

    def run(self) -> int:
        """Start them, and wait for their end.

        Returns:
            The exit status: 0 once all have ended as they were told.
        """
        for number in _FORWARDED:
            signal.signal(number, self._end)
        signal.signal(signal.SIGHUP, self._reload)
        for i in range(self._count):
            if not self._ending:
                self._start(i)
        self._ready()
        code = self._keep()
        # Told once more while Python tidies up, it ends the same.
        signal.pthread_sigmask(signal.SIG_BLOCK, {*_FORWARDED, signal.SIGHUP})
        return code

    def _keep(self) -> int:
        while self._pids:
            pid, status = os.wait()
            i = self._pids.pop(pid, -1)
            if i < 0 or self._ending:
                continue
            code = os.waitstatus_to_exitcode(status)
            _log.error("worker %d (process %d) ended with %d", i, pid, code)
            if code == 2:  # it cannot be told what to do: nor can the next one
                self._end(signal.SIGTERM, None)
                return 2
            time.sleep(max(0.0, self._began[i] + PAUSE - time.monotonic()))
            if not self._ending:
                self._start(i)
        return 0

    def _start(self, i: int) -> None:
        self._began[i] = time.monotonic()
        held = {*_FORWARDED, signal.SIGHUP}
        signal.pthread_sigmask(signal.SIG_BLOCK, held)  # until the child is known
        pid = os.fork()
        if pid:
            self._pids[pid] = i
            signal.pthread_sigmask(signal.SIG_UNBLOCK, held)
            return
        status = 1
        try:
            for number in held:
                signal.signal(number, signal.SIG_DFL)
            # SIGHUP stays held until the work heeds it: it would be the end.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
            self._work(i)
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except BaseException:  # noqa: BLE001 - the parent's stack is not the child's
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            os._exit(status)

    def _end(self, number: int, frame: FrameType | None) -> None:
        self._ending = True
        self._pass_on(signal.SIGTERM, frame)

    def _reload(self, number: int, frame: FrameType | None) -> None:
        reloading()
        self._pass_on(number, frame)
        notify("READY=1")  # queries are answered all the while

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        for pid in list(self._pids):
            with contextlib.suppress(ProcessLookupError):  # it has just been waited for
                os.kill(pid, number)
