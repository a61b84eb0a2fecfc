"""What systemd is told of a service's state (sd_notify(3))."""

from __future__ import annotations

import contextlib
import os
import socket
import time


def notify(state: str) -> None:
    """Tell whoever has started this process, if they want to know.

    Args:
        state: lines such as ``READY=1``.
    """
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path or not hasattr(socket, "AF_UNIX"):
        return
    if path.startswith("@"):  # in the abstract name space
        path = "\0" + path[1:]
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock,
    ):
        sock.connect(path)
        sock.sendall(state.encode())


def reloading() -> None:
    """Say that the configuration is read again (``Type=notify-reload``)."""
    microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notify(f"RELOADING=1\nMONOTONIC_USEC={microseconds}")
