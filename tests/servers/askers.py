"""Programs with a Resolver and a store (`asker.py`), as child processes of a test."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from processes import NURSERY, _die_with_parent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SCRIPT = Path(__file__).with_name("asker.py")
LIMIT = 60.0  # seconds for one process; some seconds are usual


class Asker:
    """A process with a Resolver on `store` that asks for names; see `asker.py`."""

    def __init__(self, store: str, upstreams: Sequence[str]) -> None:
        python = [sys.executable, "-X", "faulthandler", str(SCRIPT)]
        command = [*_die_with_parent(), *python, store, *upstreams]
        start = NURSERY.submit(
            lambda: subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        self._process = start.result()
        # It says where it hangs.
        abort = partial(self._process.send_signal, signal.SIGABRT)
        self._limit = threading.Timer(LIMIT, abort)
        self._limit.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def tell(self, names: Mapping[str, str], **more: Any) -> None:
        """Have it ask for names and say what came of it."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"names": names} | more) + "\n")
        self._process.stdin.flush()

    def report(self) -> dict[str, Any]:
        """What came of the job that was told first."""
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        line = self._process.stdout.readline()
        assert line, f"it ended: {self._process.stderr.read()}"
        told: dict[str, Any] = json.loads(line)
        return told

    def ask(self, names: Mapping[str, str], **more: Any) -> dict[str, Any]:
        """Both: have it ask, and wait for what came of it."""
        self.tell(names, **more)
        return self.report()

    def kill(self) -> None:
        """SIGKILL; idempotent."""
        self._process.kill()
        self._let_go()

    def end(self) -> None:
        """Let it finish, and see that it complains of nothing."""
        _, errors = self._process.communicate()
        self._let_go()
        assert (self._process.returncode, errors) == (0, "")

    def _let_go(self) -> None:
        self._limit.cancel()
        self._process.wait()
        for pipe in (
            self._process.stdin,
            self._process.stdout,
            self._process.stderr,
        ):
            assert pipe is not None
            pipe.close()
