"""Datagrams at all addresses of a machine: a reply leaves from the one that was asked.

Else the system picks the source by its routes, and a client that asked another address
takes the reply for a forged one. Which address was asked comes with the datagram, as
IP_PKTINFO (ip(7)) or IPV6_PKTINFO (RFC 3542 section 6), and goes back with the reply.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

IP_PKTINFO = 8  # of Linux; the module `socket` has had it since Python 3.13

_v4 = struct.Struct("@i4s4s")  # in_pktinfo: interface, our address, the header's
_v6 = struct.Struct("@16sI")  # in6_pktinfo: the address, interface
_SPACE = socket.CMSG_SPACE(_v6.size) if hasattr(socket, "CMSG_SPACE") else 0


def possible(family: socket.AddressFamily) -> bool:
    """Whether this system tells which address was asked."""
    if not _SPACE:
        return False
    if family is socket.AF_INET:
        return sys.platform == "linux"
    return hasattr(socket, "IPV6_RECVPKTINFO")


def is_here(host: str) -> bool:
    """Whether an address is one of this machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        return True
    return False


class Everywhere:
    """A datagram socket that is bound to all addresses.

    It stands in a socket's place. What it calls a client is where a datagram came from,
    as `socket.recvfrom` says it, followed by what the system told of where it went.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._port = sock.getsockname()[1]
        if sock.family is socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)

    def recvfrom(self, size: int) -> tuple[bytes, Any]:
        """The next datagram, and its client."""
        data, told, _, address = self._sock.recvmsg(size, _SPACE)
        return data, (*address, _as_source(told))

    def sendto(self, data: bytes, client: Any) -> None:
        """Send to a client, from the address that it has asked."""
        *address, source = client
        self._sock.sendmsg([data], source, 0, tuple(address))

    def __contains__(self, client: Any) -> bool:
        """Whether that is this socket itself: no query can come from there."""
        host, port, source = client[0], client[1], client[-1]
        return port == self._port and any(_address(info) == host for *_, info in source)


def _as_source(told: Iterable[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """What was told of a query's way, as a reply's is asked for: by any interface."""
    source = []
    for level, kind, info in told:
        if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO):
            _, ours, _ = _v4.unpack(info)
            source.append((level, kind, _v4.pack(0, ours, bytes(4))))
        elif (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            source.append((level, kind, info))
    return source


def _address(info: bytes) -> str:
    if len(info) == _v4.size:
        return socket.inet_ntoa(_v4.unpack(info)[1])
    return socket.inet_ntop(socket.AF_INET6, _v6.unpack(info)[0])
