"""What a user writes, turned into upstreams: URLs, presets, name servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, get_args
from urllib.parse import parse_qsl, unquote, urlsplit

import dns.nameserver

from resolverkit.errors import ConfigurationError
from resolverkit.presets import PRESETS, operator_of
from resolverkit.transports.url import UpstreamURL, is_address, is_private, parse
from resolverkit.upstream import Store, Upstream

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Strategy: TypeAlias = Literal["hedge", "race", "failover", "quorum"]
"""How several upstreams are asked."""

Spec: TypeAlias = str | dns.nameserver.Nameserver | Upstream
"""One upstream as a user names it."""

Member: TypeAlias = UpstreamURL | dns.nameserver.Nameserver | Upstream
"""One upstream, understood."""

_REDIS = frozenset({"redis", "rediss", "unix", "redis+cluster", "rediss+cluster"})
_STORES = (
    "sqlite:///path, redis://host[:port][/database], rediss://…, unix:///path/of.sock, "
    "redis+cluster://host:port,…"
)

SYSTEM = "system"
"""Stands for the servers of resolv.conf, or of the registry on Windows."""


def check_strategy(strategy: str) -> None:
    """Raise ConfigurationError for a strategy that there is not."""
    if strategy not in get_args(Strategy):
        allowed = ", ".join(repr(s) for s in get_args(Strategy))
        raise ConfigurationError(f"strategy={strategy!r}: allowed are {allowed}")


def store_of(spec: str | Store) -> Store:
    """The store that a user means.

    Raises:
        ConfigurationError: the URL names none.
    """
    if not isinstance(spec, str):
        if isinstance(spec, Store):
            return spec
        raise ConfigurationError(f"store={spec!r}: allowed are {_STORES}, and a Store")
    scheme = spec.partition(":")[0]
    if scheme == "sqlite":
        return _sqlite(spec)
    if scheme in _REDIS:
        from resolverkit.stores.redis import RedisStore

        return RedisStore(spec)
    raise ConfigurationError(f"store={spec!r}: allowed are {_STORES}")


def _sqlite(spec: str) -> Store:
    from resolverkit.stores.sqlite import MAX_SIZE, SQLiteStore

    url = urlsplit(spec)
    given = dict(parse_qsl(url.query, keep_blank_values=True))
    size = given.pop("max_size", str(MAX_SIZE))
    if url.netloc or not url.path or given or not size.isdecimal():
        raise ConfigurationError(
            f"store={spec!r}: allowed are sqlite:///absolute/path and "
            "sqlite:relative/path, and ?max_size=BYTES"
        )
    try:
        return SQLiteStore(unquote(url.path), max_size=int(size))
    except ConfigurationError as error:
        raise ConfigurationError(f"store={spec!r}: {error}") from None


def check_timeout(name: str, value: float) -> None:
    """Raise ConfigurationError for a time that is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ConfigurationError(
            f"{name}={value!r}: allowed is a number of seconds > 0"
        )


def check_port(name: str, value: int, least: int = 1) -> int:
    """The port; raises ConfigurationError for a number that is none."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int)
        or not least <= value <= 65535
    ):
        raise ConfigurationError(f"{name}={value!r}: allowed are {least} to 65535")
    return value


def check_source(value: str | None) -> None:
    """Raise ConfigurationError for what is no address to send from."""
    if value and not (isinstance(value, str) and is_address(value)):
        raise ConfigurationError(f"source={value!r}: allowed is an IP address")


def members(
    specs: Iterable[Spec],
    *,
    system: Sequence[Spec],
    port: int = 53,
    ports: Mapping[str, int] | None = None,
) -> list[Member]:
    """Understand a list of upstreams.

    Args:
        specs: what the user wrote.
        system: what ``"system"`` stands for.
        port: the port of bare addresses, as `dns.resolver.Resolver.port`.
        ports: ports of single addresses, as ``nameserver_ports``.

    Raises:
        ConfigurationError: one of them cannot be understood.
    """
    found: list[Member] = []
    for spec in specs:
        if isinstance(spec, str):
            found += _from_text(spec, system, port, ports or {})
        elif isinstance(spec, (dns.nameserver.Nameserver, Upstream)):
            found.append(_from_nameserver(spec))
        else:
            raise ConfigurationError(
                f"upstream {spec!r}: allowed are strings, dns.nameserver.Nameserver "
                "and resolverkit.Upstream objects"
            )
    return [_with_what_is_known(member) for member in found]


def _from_text(
    text: str, system: Sequence[Spec], port: int, ports: Mapping[str, int]
) -> list[Member]:
    if text == SYSTEM:
        if not system:
            raise ConfigurationError("upstream 'system': no name server is configured")
        return [
            m._replace(private=True) if isinstance(m, UpstreamURL) else m
            for m in members(system, system=(), port=port, ports=ports)
        ]
    scheme, _, rest = text.rpartition("://")
    name, _, query = rest.partition("?")
    if preset := PRESETS.get(name.lower()):
        return [_with_parameters(u, query) for u in preset.urls(scheme.lower())]
    url = parse(text)
    if text.strip("[]") == url.address:  # bare, without a port of its own
        own = ports.get(url.address, port)
        url = url._replace(port=check_port(f"upstream {text!r}: port", own))
    return [url]


def _with_parameters(url: UpstreamURL, query: str) -> UpstreamURL:
    """A preset's URL with what the user has added to its name."""
    if not query:
        return url
    given = parse(f"{url.scheme}://{url.host}?{query}")
    return url._replace(
        address=given.address or url.address,
        ca=given.ca,
        pins=given.pins,
        source=given.source,
        private=given.private,
    )


def _with_what_is_known(member: Member) -> Member:
    """Operator and blocking of a public resolver's address, where it has no preset."""
    if not isinstance(member, UpstreamURL):
        return member
    known = operator_of(member.address)
    if known is None:
        return member
    return member._replace(
        operator=member.operator or known["operator"],
        filtering=member.filtering or known["filtering"],
        unsigned_block=known["unsigned_block"],
    )


def _from_nameserver(spec: dns.nameserver.Nameserver | Upstream) -> Member:
    """Our own transports for dnspython's kinds, as far as they can do the same."""
    if isinstance(spec, dns.nameserver.AddressAndPortNameserver):
        check_port(f"upstream {spec}: port", spec.port)
    if type(spec) is dns.nameserver.Do53Nameserver:
        return UpstreamURL(
            str(spec), "udp", spec.address, spec.port, address=spec.address,
            private=is_private(spec.address),
        )  # fmt: skip
    if type(spec) is dns.nameserver.DoTNameserver and spec.verify is not False:
        return UpstreamURL(
            str(spec), "tls", spec.hostname or spec.address, spec.port,
            address=spec.address, private=is_private(spec.address),
            ca=None if spec.verify is True else str(spec.verify),
        )  # fmt: skip
    if type(spec) is dns.nameserver.DoHNameserver and spec.verify is not False:
        url = parse(spec.url)
        address = spec.bootstrap_address or url.address
        return url._replace(
            address=address,
            private=url.private or (bool(address) and is_private(address)),
            ca=None if spec.verify is True else str(spec.verify),
        )
    return spec
