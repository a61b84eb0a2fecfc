"""What the kernel knows of the way to an address, and of this machine's own."""

from __future__ import annotations

import socket
import struct
import time
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING

from resolverkit.addresses import Traits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from resolverkit.addresses import Address

IF_INET6 = Path("/proc/net/if_inet6")
"""Linux lists the IPv6 addresses of this machine there; other systems do not."""
KEEP = 1.0
"""Seconds for which what it says is kept: reading it takes a fifth of a millisecond."""

_ANY_PORT = 53  # where a source address is looked for; nothing is sent
_HOME, _DEPRECATED = 0x10, 0x20  # IFA_F_HOMEADDRESS, IFA_F_DEPRECATED: rtnetlink(7)
_HARDWARE = 0x8927  # SIOCGIFHWADDR: netdevice(7)
_TUNNELS = frozenset({768, 769, 776})  # ARPHRD_TUNNEL, ARPHRD_TUNNEL6, ARPHRD_SIT

_kept: tuple[float, Mapping[Address, Traits]] = (float("-inf"), {})  # until when


def source_of(address: Address) -> Address | None:
    """The source address that the system would use; None where there is no way."""
    if isinstance(address, IPv4Address):
        family, to = socket.AF_INET, (str(address), _ANY_PORT)
    else:
        scope = int(address.scope_id or 0)
        text = socket.inet_ntop(socket.AF_INET6, address.packed)
        family, to = socket.AF_INET6, (text, _ANY_PORT, 0, scope)  # type: ignore[assignment]
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(to)
            own = probe.getsockname()[0]
    except OSError:
        return None
    return IPv4Address(own) if family == socket.AF_INET else IPv6Address(own)


def traits() -> Mapping[Address, Traits]:
    """Of this machine's IPv6 addresses, where the system tells; else none."""
    global _kept  # noqa: PLW0603  the machine's, as the addresses are
    now = time.monotonic()
    if now >= _kept[0]:
        try:
            lines = IF_INET6.read_text("ascii").splitlines()
        except OSError:
            lines = []
        _kept = now + KEEP, _parse(lines)
    return _kept[1]


def _parse(lines: Sequence[str]) -> Mapping[Address, Traits]:
    native: dict[str, bool] = {}
    found: dict[Address, Traits] = {}
    for line in lines:
        text, _index, _length, _scope, flags, name = line.split()
        if name not in native:
            native[name] = not _is_tunnel(name)
        said = int(flags, 16)
        found[IPv6Address(bytes.fromhex(text))] = Traits(
            bool(said & _DEPRECATED), bool(said & _HOME), native[name]
        )
    return found


def _is_tunnel(name: str) -> bool:
    """Whether packets by this interface travel inside others."""
    import fcntl  # noqa: PLC0415  where /proc/net/if_inet6 is, it is too

    request = struct.pack("256s", name.encode()[:15])  # struct ifreq
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_one:
        told = fcntl.ioctl(any_one, _HARDWARE, request)
        return struct.unpack_from("H", told, 16)[0] in _TUNNELS
    return False
