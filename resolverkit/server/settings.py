"""What a running stub is told: by options, or by a TOML file with the API's names."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from resolverkit.errors import ConfigurationError
from resolverkit.memory import MAX_BYTES
from resolverkit.policy import StalePolicy
from resolverkit.resolver import Resolver
from resolverkit.server import faces
from resolverkit.server.access import RATE
from resolverkit.server.responder import MAX_IN_FLIGHT
from resolverkit.server.stub import Server
from resolverkit.server.tcp import MAX_CONNECTIONS

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from resolverkit.hooks import Hook
    from resolverkit.server.addresses import Sockets

MAX_WORKERS = 64

_RESOLVER = (
    "strategy", "store", "cache_size", "on_block", "routes",
)  # fmt: skip
_SERVER = (
    "listen", "listen_tls", "tls_cert", "tls_key", "allow", "rate_limit", "explain",
    "max_in_flight", "max_connections",
)  # fmt: skip
_FIXED = (
    "listen", "listen_tls", "tls_cert", "tls_key", "workers", "store", "cache_size",
    "max_in_flight", "max_connections", "listen_https", "http",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that `resolverkit serve` can be told; names as in `Resolver` and `Server`.

    Attributes:
        upstreams: who to ask.
        ca: PEM file to trust for those that are encrypted and name none.
        stale: a table with `StalePolicy`'s names, or whether to serve stale at all.
        workers: processes that share the addresses.
        listen_https: addresses for DNS over HTTPS, with the certificate for TLS.
        http: the address of the page, the state and the metrics.
    """

    upstreams: Sequence[str] = ("system",)
    ca: str | None = None
    strategy: str = "hedge"
    stale: bool | Mapping[str, Any] = True
    store: str | None = None
    cache_size: int = MAX_BYTES
    on_block: str = "accept"
    routes: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
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
        for field in dataclasses.fields(self):
            _check(field.name, getattr(self, field.name), str(field.type))
        if not 1 <= self.workers <= MAX_WORKERS:
            raise ConfigurationError(
                f"workers={self.workers!r}: allowed are 1 to {MAX_WORKERS}"
            )
        for name in ("max_in_flight", "max_connections"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name}: allowed are numbers from 1")
        faces.check(self)

    @classmethod
    def load(
        cls, file: str | os.PathLike[str] | None, options: Mapping[str, Any]
    ) -> Settings:
        """Settings from a file, with options that take precedence.

        Raises:
            ConfigurationError: the file cannot be read, or has a name or a value in it
                that cannot be used.
        """
        told: dict[str, Any] = {}
        if file is not None:
            try:
                told = tomllib.loads(Path(file).read_text("utf-8"))
            except (OSError, ValueError) as error:
                raise ConfigurationError(f"{file}: {error}") from None
            known = [field.name for field in dataclasses.fields(cls)]
            for name in told:
                if name not in known:
                    allowed = ", ".join(known)
                    raise ConfigurationError(f"{file}: {name}: allowed are {allowed}")
        told.update({k: v for k, v in options.items() if v not in (None, [], ())})
        return cls(**told)

    def resolver(self, hook: Hook | None = None) -> Resolver:
        """The Resolver that they describe.

        Args:
            hook: is told of its events.

        Raises:
            ConfigurationError: they describe none.
        """
        stale: Any = self.stale
        if not isinstance(stale, bool):
            try:
                stale = StalePolicy(**stale)
            except TypeError:
                allowed = ", ".join(f.name for f in dataclasses.fields(StalePolicy))
                raise ConfigurationError(
                    f"stale={self.stale!r}: allowed are true, false, and a table of "
                    f"{allowed}"
                ) from None
        options = {name: getattr(self, name) for name in _RESOLVER}
        upstreams = [with_ca(url, self.ca) for url in self.upstreams]
        return Resolver(upstreams, stale=stale, hook=hook, **options)

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


def with_ca(url: str, ca: str | None) -> str:
    """The URL with a CA file, where it is encrypted and has none."""
    if ca is None or not url.startswith(("tls://", "https://")) or "ca=" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}ca={quote(ca)}"


def _check(name: str, value: Any, kind: str) -> None:
    """Raise ConfigurationError for a value of another type than TOML should have."""
    strings = isinstance(value, (list, tuple)) and all(
        isinstance(each, str) for each in value
    )
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    right = {
        "Sequence[str]": strings,
        "str": isinstance(value, str),
        "str | None": value is None or isinstance(value, str),
        "bool": isinstance(value, bool),
        "int": number and isinstance(value, int),
        "float": number,
        "bool | Mapping[str, Any]": isinstance(value, (bool, dict)),
        "Mapping[str, Sequence[str]]": isinstance(value, dict),
    }[kind]
    if not right:
        wanted = "a list of strings" if kind == "Sequence[str]" else kind
        raise ConfigurationError(f"{name}={value!r}: allowed is {wanted}")
