"""What a running stub is told: by options, or by a TOML file with the API's names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from resolverkit import settings
from resolverkit.errors import ConfigurationError
from resolverkit.resolver import Resolver
from resolverkit.server import faces
from resolverkit.server.access import RATE
from resolverkit.server.certificate import Certificate
from resolverkit.server.responder import MAX_IN_FLIGHT
from resolverkit.server.stub import Server
from resolverkit.server.tcp import MAX_CONNECTIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolverkit.hooks import Hook
    from resolverkit.server.addresses import Sockets

MAX_WORKERS = 64

_SERVER = (
    "listen", "listen_tls", "tls_cert", "tls_key", "allow", "rate_limit", "explain",
    "max_in_flight", "max_connections",
)  # fmt: skip
_FIXED = (
    "listen", "listen_tls", "tls_cert", "tls_key", "workers", "store", "cache_size",
    "max_in_flight", "max_connections", "listen_https", "http",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(settings.Settings):
    """All that `resolverkit serve` can be told; names as in `Resolver` and `Server`.

    Attributes:
        workers: processes that share the addresses.
        listen_https: addresses for DNS over HTTPS, with the certificate for TLS.
        http: the address of the page, the state and the metrics.
    """

    listen: Sequence[str] = ("127.0.0.1:53",)
    listen_tls: Sequence[str] = ()
    tls_cert: str | None = None
    tls_key: str | None = None
    allow: Sequence[str] = ()
    rate_limit: float = RATE
    explain: bool = False
    max_in_flight: int = MAX_IN_FLIGHT
    max_connections: int = MAX_CONNECTIONS
    workers: int = 1
    listen_https: Sequence[str] = ()
    http: str | None = None

    def __post_init__(self) -> None:
        super(Settings, self).__post_init__()  # not of the class before its slots
        if not 1 <= self.workers <= MAX_WORKERS:
            raise ConfigurationError(
                f"workers={self.workers!r}: allowed are 1 to {MAX_WORKERS}"
            )
        for name in ("max_in_flight", "max_connections"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name}: allowed are numbers from 1")
        if not (self.listen or self.listen_tls or self.listen_https):
            raise ConfigurationError("listen=[]: name at least one address")
        faces.check(self)

    def check(self) -> None:
        """Raise ConfigurationError where no Server can be made from them."""
        self.server(self.resolver())
        if self.tls_cert is not None:  # for HTTPS no server has looked at it
            Certificate(self.tls_cert, self.tls_key, [])

    def resolver(self, hook: Hook | None = None) -> Resolver:
        """The Resolver that they describe.

        Args:
            hook: is told of its events.

        Raises:
            ConfigurationError: they describe none.
        """
        return self.make(Resolver, hook=hook)

    def server(
        self, resolver: Resolver, sockets: Sequence[Sockets] | None = None
    ) -> Server:
        """The Server that they describe.

        Raises:
            ConfigurationError: they describe none.
        """
        options = {name: getattr(self, name) for name in _SERVER}
        return Server(resolver, sockets=sockets, **options)

    def needs_restart(self, newer: Settings) -> list[str]:
        """Which of its names differ in `newer`, and cannot change at once."""
        return [n for n in _FIXED if getattr(self, n) != getattr(newer, n)]
