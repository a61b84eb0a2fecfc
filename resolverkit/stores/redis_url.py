"""The grammar of a Redis store's URL.

::

    redis://[user:password@]host[:port][/database]      port 6379, database 0
    rediss://…                                          the same over TLS, verified
    unix://[user:password@]/path/of/redis.sock
    redis+cluster://[user:password@]host:port,host:port,…
    rediss+cluster://…

Parameters, after ``?`` and joined by ``&``:

    prefix=resolverkit:      what keys begin with
    max_stale=604800         seconds past its TTL that a record is kept
    ca=/path/ca.pem          certificates to trust instead of the system's (rediss)
    db=0                     the database (unix)
    cluster=1                the host is a node of a cluster (redis, rediss)

User and password are percent-encoded where they have ``/``, ``?``, ``#``, ``%`` or (the
user) ``:`` in them, and so is any ``@`` elsewhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from resolverkit.errors import ConfigurationError
from resolverkit.policy import MAX_STALE_LIMIT

PORT = 6379
PREFIX = "resolverkit:"
MAX_STALE = int(MAX_STALE_LIMIT)
"""Seconds: whatever a resolver may ask for."""
_MAX_SECONDS = 2**31 - 1
_MAX_DATABASE = 2**31 - 1

_SCHEMES = ("redis", "rediss", "unix", "redis+cluster", "rediss+cluster")
_ALLOWED = (
    "redis://[user:password@]host[:port][/database], rediss://…, "
    "unix:///path/redis.sock, redis+cluster://host:port,… and rediss+cluster://…"
)


@dataclass(frozen=True, slots=True)
class RedisURL:
    """A parsed URL.

    Attributes:
        hosts: names or addresses with ports; empty where there is a path.
        path: of a Unix socket.
        user: who logs in.
        password: how.
        database: its number.
        tls: whether the server is spoken to over TLS.
        cluster: whether the hosts are nodes of a cluster.
        ca: file of certificates to trust.
        prefix: what keys begin with.
        max_stale: seconds past its TTL that a record is kept.
    """

    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int = 0
    tls: bool = False
    cluster: bool = False
    ca: str | None = None
    prefix: bytes = PREFIX.encode()
    max_stale: int = MAX_STALE

    def __str__(self) -> str:
        """The URL without user, password and parameters, in one form."""
        if self.path:
            database = f"?db={self.database}" if self.database else ""
            return f"unix://{self.path}{database}"
        scheme = ("rediss" if self.tls else "redis") + "+cluster" * self.cluster
        hosts = ",".join(_shown(host, port) for host, port in self.hosts)
        return f"{scheme}://{hosts}" + (f"/{self.database}" if self.database else "")


def parse(text: str) -> RedisURL:
    """Parse a URL.

    Raises:
        ConfigurationError: it does not fit; the message says what is allowed.
    """
    try:
        return _parse(text)
    except ValueError as error:
        raise ConfigurationError(f"store {_hidden(text)!r}: {error}") from None


def _parse(text: str) -> RedisURL:
    parts = urlsplit(text)
    if parts.scheme not in _SCHEMES or "://" not in text:
        raise ValueError(f"allowed are {_ALLOWED}")
    if parts.fragment:
        raise ValueError("no fragment, please (# is written %23)")
    if "@" in parts.path + parts.query:
        raise ValueError("user and password are to be percent-encoded, and any other @")
    given = _parameters(parts)
    login, _, where = parts.netloc.rpartition("@")
    user, _, password = (unquote(part) for part in login.partition(":"))
    tls = parts.scheme.startswith("rediss")
    cluster = parts.scheme.endswith("+cluster") or _cluster(given.get("cluster"))
    hosts: tuple[tuple[str, int], ...] = ()
    path = ""
    if parts.scheme == "unix":
        path = unquote(parts.path)
        if where or not path.strip("/"):
            raise ValueError("a Unix socket is unix:///path, with three slashes")
        database = given.get("db", "0")
    else:
        hosts = tuple(_host(each) for each in where.split(","))
        database = parts.path.removeprefix("/") or "0"
    if len(hosts) > 1 and not cluster:
        raise ValueError("several hosts are a cluster: redis+cluster://")
    if cluster and _number("database", database, 0, _MAX_DATABASE):
        raise ValueError("a cluster has the database 0 only")
    return RedisURL(
        hosts, path, user or None, password or None,
        _number("database", database, 0, _MAX_DATABASE),
        tls, cluster, given.get("ca"),
        given.get("prefix", PREFIX).encode(),
        _number("max_stale", given.get("max_stale", str(MAX_STALE)), 1, _MAX_SECONDS),
    )  # fmt: skip


def _known(scheme: str) -> set[str]:
    known = {"prefix", "max_stale"}
    if scheme == "unix":
        known.add("db")
    elif not scheme.endswith("+cluster"):
        known.add("cluster")
    if scheme.startswith("rediss"):
        known.add("ca")
    return known


def _parameters(parts: SplitResult) -> dict[str, str]:
    found: dict[str, str] = {}
    known = _known(parts.scheme)
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in known:
            allowed = ", ".join(sorted(known))
            raise ValueError(
                f"unknown parameter {name!r}; {parts.scheme}:// allows {allowed}"
            )
        if not value:
            raise ValueError(f"{name}= needs a value")
        if name in found:
            raise ValueError(f"{name}= is given twice")
        found[name] = value
    return found


def _cluster(value: str | None) -> bool:
    if value not in {None, "0", "1"}:
        raise ValueError(f"cluster={value}: allowed are 0, 1")
    return value == "1"


def _number(what: str, text: str, least: int, most: int) -> int:
    good = text.isascii() and text.isdecimal() and len(text) <= 10
    if not good or not least <= int(text) <= most:
        raise ValueError(f"{what} {text!r}: allowed are {least} to {most}")
    return int(text)


_HOST = re.compile(r"(?:\[([0-9a-fA-F:.%]+)\]|([\w.-]+))(?::(\d+))?", re.ASCII)


def _host(text: str) -> tuple[str, int]:
    found = _HOST.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a host, or a host and a port")
    port = _number("port", found[3] or str(PORT), 1, 65_535)
    return found[1] or found[2], port


def _shown(host: str, port: int) -> str:
    host = f"[{host}]" if ":" in host else host
    return host if port == PORT else f"{host}:{port}"


def _hidden(text: str) -> str:
    """A URL that may be wrong anywhere, without what may be its password."""
    text = re.sub(r":(//)?.*@", r":\1***@", text, flags=re.DOTALL)
    return re.sub(r"((?:pass|auth)[^=&]*=)[^&]*", r"\1***", text, flags=re.IGNORECASE)
