"""The hosts file: names and addresses that are known without asking anybody."""

from __future__ import annotations

import os
import sys
from functools import lru_cache
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


class Host:
    """What a hosts file says of one name.

    Args:
        lines: those that have it: an address, and the names beside it.
    """

    __slots__ = ("lines",)

    def __init__(self, lines: list[tuple[Address, list[str]]]) -> None:
        self.lines: list[tuple[Address, list[str]]] = lines

    @property
    def name(self) -> str:
        """The first name of the first line, which is the canonical one."""
        return self.lines[0][1][0]

    @property
    def aliases(self) -> list[str]:
        """The other names of those lines."""
        names = dict.fromkeys(name for _, names in self.lines for name in names)
        del names[self.name]
        return list(names)

    @property
    def addresses(self) -> list[Address]:
        """In the order of the lines."""
        return [address for address, _ in self.lines]

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
            said = (_address(text), names)
        except ValueError:
            continue
        for name in dict.fromkeys(map(str.lower, names)):
            host = found.get(name)
            if host is None:
                found[name] = Host([said])
            else:
                host.lines.append(said)
    return found


@lru_cache(maxsize=64)
def _address(text: str) -> Address:
    """An address, which in a list of blocked names is the same for all."""
    return ip_address(text)


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
