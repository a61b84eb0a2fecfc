"""The hosts file: names and addresses that are known without asking anybody."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resolverkit.addresses import Address

HOSTS = Path("/etc/hosts")
"""Where the system has its own."""
if sys.platform == "win32":
    HOSTS = Path(os.environ["SYSTEMROOT"], "System32", "drivers", "etc", "hosts")


_LOOPBACK = IPv6Address("::1")


@dataclass(slots=True)
class Host:
    """What a hosts file says of one name.

    Attributes:
        name: the first name of the first line, which is the canonical one.
        aliases: the other names of those lines.
        addresses: in the order of the lines.
    """

    name: str
    aliases: list[str] = field(default_factory=list)
    addresses: list[Address] = field(default_factory=list)

    def of(self, version: int, *, alone: bool = False) -> list[Address]:
        """The addresses for IPv4 (4) or IPv6 (6).

        Args:
            version: of IP.
            alone: nobody asks for the other one. As in glibc, ``::1`` stands for
                127.0.0.1 then: who knows only IPv4 means this machine.
        """
        found: list[Address] = []
        for address in self.addresses:
            if address.version == version:
                found.append(address)
            elif version == 4 and alone and address == _LOOPBACK:
                found.append(IPv4Address("127.0.0.1"))
        return found


def parse(lines: Iterable[str]) -> dict[str, Host]:
    """Read a hosts file.

    Args:
        lines: of the file; what cannot be understood says nothing.

    Returns:
        What it says, by names in lower case.
    """
    found: dict[str, Host] = {}
    for line in lines:
        text, *names = line.partition("#")[0].split() or [""]
        try:
            address = ip_address(text)
        except ValueError:
            continue
        for name in dict.fromkeys(name.lower() for name in names):
            host = found.setdefault(name, Host(names[0]))
            host.addresses.append(address)
            host.aliases += [
                other
                for other in names
                if other not in host.aliases and other != host.name
            ]
    return found


class HostsFile:
    """A hosts file, read again whenever it has changed.

    Args:
        path: where it is; one that cannot be read says nothing.
    """

    def __init__(self, path: Path = HOSTS) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._hosts: dict[str, Host] = {}

    def find(self, name: str) -> Host | None:
        """What it says of a name now."""
        try:
            stat = self._path.stat()
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if seen != self._seen:
                text = self._path.read_text("utf-8", errors="replace")
                self._hosts, self._seen = parse(text.splitlines()), seen
        except OSError:
            self._hosts, self._seen = {}, None
        return self._hosts.get(name.lower())
