"""A PostgreSQL server for tests: a cluster and a port of its own, on loopback.

It refuses to run as root: then it runs as the user that Debian's package has made.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import struct
import subprocess
import tempfile
from pathlib import Path

from processes import LOOPBACK, Daemon, find_program, free_port

USER = "postgres"
_DEBIAN = Path("/usr/lib/postgresql")


def program(name: str) -> str | None:
    """Where a program of the newest PostgreSQL is, which Debian has in no PATH."""
    versions = [p for p in _DEBIAN.glob(f"*/bin/{name}") if p.exists()]
    if versions:
        return str(max(versions, key=lambda p: int(p.parts[4])))
    return find_program(name)


def missing_programs() -> list[str]:
    return [name for name in ("initdb", "postgres") if program(name) is None]


class Postgres:
    """The server; whoever comes over loopback is trusted."""

    def __init__(self) -> None:
        self.port = free_port(set())
        # Not below pytest's directory, which other users may not enter.
        self._root = Path(tempfile.mkdtemp(prefix="postgres-"))
        data = self._root / "data"
        if os.geteuid() == 0:
            shutil.chown(self._root, USER, USER)
        initdb = ["initdb", "--auth=trust", "--no-sync", "--encoding=UTF8"]
        initdb += ["--username", USER]
        subprocess.run(
            [*_as_user(), *_at(initdb), "-D", data],
            check=True, capture_output=True, cwd=self._root, env=_plain(),
        )  # fmt: skip
        options = {
            "listen_addresses": LOOPBACK, "port": self.port, "fsync": "off",
            "unix_socket_directories": "", "logging_collector": "off",
        }  # fmt: skip
        command = [*_as_user(), *_at(["postgres"]), "-D", str(data)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        log = self._root / "log"
        log.mkdir()
        self.daemon = Daemon("postgres", command, log, self._probe)

    def __enter__(self) -> Postgres:
        try:
            self.daemon.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.daemon.end()
        shutil.rmtree(self._root)

    def _probe(self) -> None:
        """Raise until it accepts sessions: `R` is its answer to a StartupMessage."""
        words = f"user\0{USER}\0database\0postgres\0\0".encode()
        startup = struct.pack("!ii", 8 + len(words), 3 << 16) + words
        with socket.create_connection((LOOPBACK, self.port), timeout=0.5) as sock:
            sock.sendall(startup)
            assert sock.recv(1) == b"R"
            sock.sendall(b"X\0\0\0\x04")  # Terminate


def _at(command: list[str]) -> list[str]:
    path = program(command[0])
    assert path is not None
    return [path, *command[1:]]


def _as_user() -> list[str]:
    """A prefix by which a command runs as somebody who is not root."""
    if os.geteuid() != 0:
        return []
    setpriv = find_program("setpriv")
    assert setpriv is not None
    return [setpriv, "--reuid", USER, "--regid", USER, "--clear-groups", "--"]


def _plain() -> dict[str, str]:
    """The environment without what would lead libpq or initdb elsewhere."""
    return {k: v for k, v in os.environ.items() if not re.match(r"PG|LC_|LANG", k)}
