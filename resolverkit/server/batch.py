"""Many datagrams with one system call, where the system has recvmmsg and sendmmsg.

Each slot of one buffer takes a query, with the address that it came from, and then the
reply, which goes back there with the id that still stands in the slot. What the kernel
is told of that (an array of mmsghdr, see recvmmsg(2)) is laid out once; in between only
lengths change.
"""

from __future__ import annotations

import ctypes
import mmap
import socket
import struct
import sys
from array import array
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

SLOTS = 64
"""Datagrams at one call."""
SLOT = 1408
"""Octets of the largest query that is read, and more than the largest reply has."""

_NAME = 28  # octets of a sockaddr_in6, the longest that comes
_HEADER = struct.Struct("PIxxxxPNPNixxxxIxxxx")  # mmsghdr on 64-bit Linux
_VECTOR = struct.Struct("PN")  # iovec
_DONTWAIT = 0x40
_LENGTH = 14  # where msg_len stands in a header, in units of its fields

_LAID_OUT = _HEADER.size == 64 and ctypes.sizeof(ctypes.c_void_p) == 8


def _libc() -> Any:
    """The C library; None where it lacks the calls or lays them out otherwise."""
    if sys.platform != "linux" or not _LAID_OUT:
        return None
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "recvmmsg") or not hasattr(libc, "sendmmsg"):
        return None
    return libc


_LIBC = _libc()
AVAILABLE = _LIBC is not None
"""Whether there is such a thing here."""


class Batch:
    """Datagrams of one socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._descriptor = sock.fileno()
        self._family = sock.family
        # A map, whose slices are bytes at once: those of others are copied twice.
        self._data = data = mmap.mmap(-1, SLOTS * SLOT, mmap.MAP_PRIVATE)
        self._names = bytearray(SLOTS * _NAME)
        headers, vectors = bytearray(SLOTS * _HEADER.size), bytearray(SLOTS * 16)
        base, names, iov, first = map(_address, (data, self._names, vectors, headers))
        for i in range(SLOTS):
            at = base + i * SLOT
            name, vector = names + i * _NAME, iov + i * _VECTOR.size
            _VECTOR.pack_into(vectors, i * _VECTOR.size, at, SLOT)
            _HEADER.pack_into(
                headers, i * _HEADER.size, name, _NAME, vector, 1, 0, 0, 0, 0
            )
        self._places = [(at, at + 2) for at in range(0, SLOTS * SLOT, SLOT)]
        self._lengths = memoryview(headers).cast("I")[_LENGTH :: _HEADER.size // 4]
        self._sizes = memoryview(vectors).cast("Q")[1::2]
        self._full = array("Q", [SLOT] * SLOTS)
        self._first = first
        self._kept = headers, vectors  # where the kernel was told they are

    def receive(self) -> list[bytes]:
        """What is there without its ids, at most as many as there are slots."""
        self._sizes[:] = self._full
        count = _LIBC.recvmmsg(
            self._descriptor, ctypes.c_void_p(self._first), SLOTS, _DONTWAIT, None
        )
        if count <= 0:
            return []
        data = self._data
        return [
            data[after_id : at + length]
            for length, (at, after_id) in zip(
                self._lengths[:count].tolist(), self._places, strict=False
            )
        ]

    def query(self, slot: int) -> bytes:
        """The whole of what came, until a reply to it is sent."""
        at = slot * SLOT
        return self._data[at : at + self._lengths[slot]]

    def client(self, slot: int) -> Any:
        """Where it came from, as `socket.recvfrom` says it."""
        at = slot * _NAME
        port = int.from_bytes(self._names[at + 2 : at + 4], "big")
        if self._family == socket.AF_INET:
            packed = bytes(self._names[at + 4 : at + 8])
            return socket.inet_ntop(socket.AF_INET, packed), port
        packed = bytes(self._names[at + 8 : at + 24])
        flow, scope = struct.unpack_from("=4xI16xI", self._names, at)
        host = socket.inet_ntop(socket.AF_INET6, packed)
        return host, port, socket.ntohl(flow), scope

    def send(self, replies: Sequence[bytes | bytearray | None]) -> int:
        """Send replies to what was received last, with its ids.

        Args:
            replies: without ids; None for those that have none yet.

        Returns:
            How many the system did not take.
        """
        data = self._data
        sizes = array("Q", [2 + len(reply or b"") for reply in replies])
        self._sizes[: len(replies)] = sizes
        for reply, (_, after_id) in zip(replies, self._places, strict=False):
            if reply is not None:
                data[after_id : after_id + len(reply)] = reply
        start = unsent = 0
        if None in replies:
            for i, reply in enumerate(replies):
                if reply is None:
                    unsent += self._send(start, i)
                    start = i + 1
        return unsent + self._send(start, len(replies))

    def _send(self, start: int, stop: int) -> int:
        unsent = 0
        while start < stop:
            first = ctypes.c_void_p(self._first + start * _HEADER.size)
            count = _LIBC.sendmmsg(self._descriptor, first, stop - start, _DONTWAIT)
            if count <= 0:  # the first of them cannot be sent
                unsent += 1
                count = 1
            start += count
        return unsent


def _address(buffer: Any) -> int:
    return ctypes.addressof((ctypes.c_char * len(buffer)).from_buffer(buffer))
