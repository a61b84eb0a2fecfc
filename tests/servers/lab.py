"""The lab: an authority and the resolvers in front of it, all real, all on loopback.

    with Lab(directory) as lab:
        lab.authority.stop()
        lab.vantages["unbound"].udp_url

The tests get it from the fixtures in conftest.py.
"""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Self

import programs
import trustme
from processes import LOOPBACK, Authority, Daemon, Vantage, free_port

if TYPE_CHECKING:
    from pathlib import Path


class Lab:
    """One set of servers; starts them on entry and leaves none behind on exit."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ca = root / "ca.pem"
        self.certificate = root / "server.pem"
        self.key = root / "server.key"
        self.vantages: dict[str, Vantage] = {}
        self._taken: set[int] = set()
        self._certify()
        self.authority: Authority = programs.nsd(self)
        for make in programs.VANTAGES:
            vantage = make(self)
            self.vantages[vantage.name] = vantage

    def __enter__(self) -> Self:
        try:
            self._start([self.authority, *self.vantages.values()])
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def daemons(self) -> list[Daemon]:
        """All servers, those in front first."""
        return [*reversed(self.vantages.values()), self.authority]

    def settle(self) -> None:
        """After a test: whoever was stopped or killed begins afresh.

        A resolver that saw the authority silent remembers it for minutes (Unbound for
        15): with the authority disturbed, all are restarted.
        """
        disturbed = [d for d in self.daemons if d.disturbed]
        if self.authority.disturbed:
            disturbed = self.daemons
        for daemon in disturbed:
            daemon.end()
        self._start(disturbed[::-1])

    def close(self) -> None:
        """End every server."""
        for daemon in self.daemons:
            daemon.end()

    # What programs.py builds with.

    def directory(self, name: str) -> Path:
        path = self.root / name
        path.mkdir()
        return path

    def port(self) -> int:
        return free_port(self._taken)

    def ports(self, *transports: str) -> dict[str, int]:
        return {t: self.port() for t in transports}

    def vantage(
        self, name: str, command: list[str], directory: Path, ports: dict[str, int]
    ) -> Vantage:
        def probe() -> None:
            for transport in ports.keys() - {"udp"}:
                self._shake_hands(ports[transport])
            if "udp" in ports:
                programs.probe(ports["udp"])

        return Vantage(name, command, directory, probe, ports=ports, ca=self.ca)

    def _shake_hands(self, port: int) -> None:
        context = ssl.create_default_context(cafile=str(self.ca))
        address = (LOOPBACK, port)
        with (
            socket.create_connection(address, timeout=0.5) as sock,
            context.wrap_socket(sock, server_hostname="localhost"),
        ):
            pass

    def _certify(self) -> None:
        authority = trustme.CA()
        certificate = authority.issue_cert("localhost", LOOPBACK)
        authority.cert_pem.write_to_path(str(self.ca))
        certificate.private_key_pem.write_to_path(str(self.key))
        for blob in certificate.cert_chain_pems:
            blob.write_to_path(str(self.certificate), append=True)

    @staticmethod
    def _start(daemons: list[Daemon]) -> None:
        """Start them side by side, then wait for each."""
        for daemon in daemons:
            daemon.spawn()
        for daemon in daemons:
            daemon.wait_until_ready()
            daemon.disturbed = False
