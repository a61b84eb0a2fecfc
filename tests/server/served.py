"""`resolverkit serve` as child processes of a test."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

SERVE = [sys.executable, "-W", "error", "-m", "resolverkit", "serve"]
LIMIT = 60.0  # seconds for one process; some seconds are usual
ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])}


class Served:
    """A stub resolver in a process of its own.

    Args:
        arguments: of the command.
        environment: variables besides.
        prefix: a program that starts it, and its arguments.
        limit: seconds after which it is killed.
        options: of Popen.
    """

    def __init__(self, *arguments, environment=None, prefix=(), limit=LIMIT, **options):
        self.process = subprocess.Popen(
            [*prefix, *SERVE, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT | (environment or {}),
            **options,
        )
        self.lines = []
        self._heard = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self._limit = threading.Timer(limit, self.process.kill)
        self._limit.start()

    def __enter__(self):
        self.ready = self.process.stdout.readline()
        if not self.ready:
            self.end()
            raise AssertionError("\n".join(self.lines))
        return self

    def __exit__(self, *_):
        self.end()

    def _read(self):
        for line in self.process.stderr:
            with self._heard:
                self.lines.append(line.rstrip())
                self._heard.notify_all()

    @property
    def ports(self):
        """Those that the ready line tells, in order."""
        return [int(port) for port in re.findall(r":(\d+)(?=[ ,\n])", self.ready)]

    @property
    def port(self):
        return self.ports[0]

    def workers(self):
        """The processes of its workers."""
        told = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.process.pid)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return [int(pid) for pid in told.stdout.split()]

    def tell(self, number):
        """Send a signal."""
        self.process.send_signal(number)

    def logged(self, pattern, count=1):
        """Wait until so many lines of the log match."""

        def found():
            return len([x for x in self.lines if re.search(pattern, x)]) >= count

        with self._heard:
            assert self._heard.wait_for(found, LIMIT), self.lines

    def end(self, number=signal.SIGTERM):
        """End it, or with None wait for its end; gives its exit status."""
        if number is not None and self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait()
        self._limit.cancel()
        self._reader.join()
        self.process.stdout.close()
        self.process.stderr.close()
        return self.process.returncode


_HANDOVER = """\
import os, sys
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[1], sys.argv[1:])
"""


def handed_over(sockets, *arguments):
    """A stub that is given sockets, by name, as systemd does (sd_listen_fds(3))."""
    first, spare = 3, 43

    def hand_over():
        for i, (_, sock) in enumerate(sockets):
            os.dup2(sock.fileno(), spare + i)
        for i in range(len(sockets)):
            os.dup2(spare + i, first + i)

    names = ":".join(name for name, _ in sockets)
    return Served(
        *arguments,
        prefix=[sys.executable, "-c", _HANDOVER],
        environment={"LISTEN_FDS": str(len(sockets)), "LISTEN_FDNAMES": names},
        pass_fds=range(first, first + len(sockets)),
        preexec_fn=hand_over,
    )


def run(*arguments, prefix=(), **environment):
    """Run a command that must end at once."""
    return subprocess.run(
        [*prefix, *SERVE, *map(str, arguments)],
        capture_output=True, text=True, timeout=LIMIT, check=False,
        env=ENVIRONMENT | environment,
    )  # fmt: skip


def refused(*arguments, **environment):
    """Run a command that must fail at once: its status and what it complains of."""
    done = run(*arguments, **environment)
    assert "Traceback" not in done.stderr
    assert not done.stdout
    return done.returncode, done.stderr


def wait_for(condition):
    """Wait until something is so, in another process."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
