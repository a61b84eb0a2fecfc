"""Where a server listens: addresses as they are written, and their sockets."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from typing import NamedTuple

from resolverkit.errors import ConfigurationError
from resolverkit.server import everywhere
from resolverkit.server.everywhere import is_here
from resolverkit.server.tcp import BACKLOG

PORT, TLS_PORT = 53, 853
"""Default ports (RFC 1035 section 4.2, RFC 7858 section 3.1)."""
_PORT_TRIES = 20  # for one that is free for UDP and TCP
_PRIVILEGED = 1024
_FIRST = 3  # descriptor that systemd hands over (sd_listen_fds(3))


class Address(NamedTuple):
    """An address to listen at; `str()` is as users write it."""

    host: str
    port: int

    def __str__(self) -> str:
        return (
            f"[{self.host}]:{self.port}"
            if ":" in self.host
            else f"{self.host}:{self.port}"
        )

    @property
    def loopback(self) -> bool:
        """Whether nobody but this machine can reach it."""
        return ipaddress.ip_address(self.host.partition("%")[0]).is_loopback

    @property
    def everywhere(self) -> bool:
        """Whether it stands for all addresses of its family."""
        return ipaddress.ip_address(self.host.partition("%")[0]).is_unspecified

    def covers(self, host: str, port: int) -> bool:
        """Whether what is sent there would come here."""
        if port != self.port:
            return False
        try:
            there, here = _reached(host), ipaddress.ip_address(self.host)
        except ValueError:  # a name, or none
            return False
        if there == here:
            return True
        alike = there.version == here.version
        return self.everywhere and alike and is_here(str(there))

    @property
    def family(self) -> socket.AddressFamily:
        """Of its sockets."""
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET


def _reached(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Where it arrives what is sent to an address.

    IPv4 in IPv6's clothes (RFC 4291 section 2.5.5.2) goes by IPv4; all addresses, as a
    destination, are this machine to Linux and others.

    Raises:
        ValueError: it is no address.
    """
    address = ipaddress.ip_address(host)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_unspecified:
        return ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    return address


def parse(text: str, port: int = PORT) -> Address:
    """An address with or without a port: ``127.0.0.1:5353``, ``[::1]``.

    Raises:
        ConfigurationError: it is none; or it stands for all addresses, and this system
            does not tell which of them was asked.
    """
    host, given = text, ""
    if text.startswith("["):
        host, end, given = text[1:].partition("]")
        given = given.removeprefix(":") if end else "none"
    elif text.count(":") == 1:
        host, _, given = text.partition(":")
    try:
        address = ipaddress.ip_address(host)
        number = int(given) if given else port
    except ValueError:
        address, number = None, -1
    if address is None or not 0 <= number <= 65_535:
        raise ConfigurationError(
            f"address {text!r}: allowed are 127.0.0.1, 127.0.0.1:5353, [::1]:5353"
        )
    found = Address(host, number)
    if found.everywhere and not everywhere.possible(found.family):
        raise ConfigurationError(
            f"address {text!r}: name the addresses one by one, as a reply has to come "
            "from the address that was asked, which this system does not tell"
        )
    return found


class Sockets(NamedTuple):
    """A pair at one address: for datagrams and connections, or for these alone.

    Attributes:
        tls: for DNS over TLS.
        https: for DNS over HTTPS.
    """

    address: Address
    udp: socket.socket | None
    tcp: socket.socket | None
    tls: bool = False
    https: bool = False

    @property
    def reached(self) -> list[Address]:
        """Where what comes here was sent to: ``[::]`` may stand for IPv4 as well.

        Ours never does, but one that systemd has opened (RFC 3493 section 5.3).
        """
        sock = self.udp or self.tcp
        if (
            sock is None
            or sock.family != socket.AF_INET6
            or not self.address.everywhere
            or sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        ):
            return [self.address]
        return [self.address, Address("0.0.0.0", self.address.port)]  # noqa: S104

    def close(self) -> None:
        """Let go of both."""
        for sock in (self.udp, self.tcp):
            if sock is not None:
                sock.close()


def bind(
    address: Address, *, tls: bool = False, https: bool = False, shared: bool = False
) -> Sockets:
    """Sockets at an address; port 0 takes one that is free for both.

    Args:
        address: where.
        tls: for connections alone, over TLS.
        https: likewise, for HTTP.
        shared: other processes will listen there as well.

    Raises:
        OSError: it is taken, or not an address of this machine.
    """
    for attempt in range(1, _PORT_TRIES + 1):
        tcp = _bound(address, socket.SOCK_STREAM, shared=shared)
        actual = Address(address.host, tcp.getsockname()[1])
        try:
            tcp.listen(BACKLOG)
            streams = tls or https
            udp = None if streams else _bound(actual, socket.SOCK_DGRAM, shared=shared)
        except OSError:
            tcp.close()
            if address.port or attempt == _PORT_TRIES:
                raise
        else:
            return Sockets(actual, udp, tcp, tls, https)
    raise AssertionError


def _bound(address: Address, kind: socket.SocketKind, *, shared: bool) -> socket.socket:
    sock = socket.socket(address.family, kind)
    try:
        if address.family is socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind is socket.SOCK_STREAM and os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((address.host, address.port))
    except OSError as error:
        sock.close()
        text = f"cannot listen at {address}: {error.strerror}"
        if isinstance(error, PermissionError) and address.port < _PRIVILEGED:
            text += (
                f"; ports below {_PRIVILEGED} need CAP_NET_BIND_SERVICE or a socket of "
                f"systemd, others none, such as {address._replace(port=5353)}"
            )
        raise OSError(error.errno, text) from None
    return sock


def inherited(environ: dict[str, str] | os._Environ[str]) -> list[Sockets]:
    """The sockets that systemd has opened for this process (sd_listen_fds(3)).

    One that is named ``tls`` (``FileDescriptorName=``) is for DNS over TLS, and one
    that is named ``https`` for DNS over HTTPS. Variables that tell of them are taken
    out of `environ`.

    Raises:
        ConfigurationError: one of them is no socket that DNS comes over.
    """
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    found = []
    for i in range(int(count)):
        os.set_inheritable(_FIRST + i, False)
        with contextlib.suppress(OSError):
            found.append(_adopt(_FIRST + i, names[i] if i < len(names) else ""))
            continue
        raise ConfigurationError(f"descriptor {_FIRST + i} of LISTEN_FDS is no socket")
    return found


def _adopt(descriptor: int, name: str) -> Sockets:
    sock = socket.socket(fileno=descriptor)
    if sock.family not in {socket.AF_INET, socket.AF_INET6}:
        raise ConfigurationError(f"descriptor {descriptor} is not for IPv4 or IPv6")
    address = parse(_written(sock.getsockname()))
    if sock.type == socket.SOCK_DGRAM:
        return Sockets(address, sock, None)
    return Sockets(address, None, sock, tls=name == "tls", https=name == "https")


def _written(name: tuple[str, int]) -> str:
    return f"[{name[0]}]:{name[1]}"
