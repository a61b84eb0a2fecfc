"""The grammar of upstream URLs, and the transport that each of them names.

::

    9.9.9.9   9.9.9.9:5353   [2620:fe::fe]:53       UDP, and TCP for what is truncated
    udp://host[:port]   tcp://host[:port]           port 53
    tls://host[:port]                               DNS over TLS, port 853
    https://host[:port][/path]                      DNS over HTTPS, path /dns-query

Parameters, after ``?`` and joined by ``&``:

    address=9.9.9.9          where the host name is; may be given once
    ca=/path/ca.pem          certificates to trust instead of the system's (tls, https)
    pin=sha256/BASE64        the server's public key, SPKI; may be repeated (tls, https)
    source=192.0.2.7         the address to send from
    operator=NAME            who runs it
    private=1                private names may be sent there
    filtering=1              its blocks are wanted
"""

from __future__ import annotations

import base64
import ipaddress
import string
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from dns.exception import DNSException

from resolverkit.errors import ConfigurationError
from resolverkit.model import Endpoint
from resolverkit.wire import text_to_wire

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from resolverkit.upstream import Upstream

PORTS = {"udp": 53, "tcp": 53, "tls": 853, "https": 443}
"""Default ports: RFC 1035, RFC 7858 section 3.1, RFC 8484."""
_TRANSPORT = {"udp": "udp", "tcp": "tcp", "tls": "dot", "https": "doh"}
_ALLOWED = (
    "an IP address with or without a port (9.9.9.9, 9.9.9.9:5353, [2620:fe::fe]:53), "
    "udp://host, tcp://host, tls://host, https://host/path, 'system', or a preset"
)


class UpstreamURL(NamedTuple):
    """A parsed upstream URL.

    Attributes:
        text: as it was given.
        scheme: udp, tcp, tls or https.
        host: name or IP address; a name is also what a certificate must carry.
        port: the port.
        path: of the DoH resource.
        address: the IP address to connect to; empty where the name has to be resolved.
        ca: file of certificates to trust.
        pins: ``sha256/BASE64`` of public keys (SPKI).
        source: address to send from.
        operator: who runs it.
        private: private names may be sent there.
        filtering: its blocks are wanted.
        unsigned_block: it blocks by an NXDOMAIN without SOA and RA.
    """

    text: str
    scheme: str
    host: str
    port: int
    path: str = ""
    address: str = ""
    ca: str | None = None
    pins: tuple[str, ...] = ()
    source: str | None = None
    operator: str = ""
    private: bool = False
    filtering: bool = False
    unsigned_block: bool = False

    @property
    def endpoint(self) -> Endpoint:
        """What a path says about it."""
        return Endpoint(
            name=self._shown(),
            transport=_TRANSPORT[self.scheme],
            operator=self.operator,
            address=self.address,
            port=self.port,
            filtering=self.filtering,
            private=self.private,
            unsigned_block=self.unsigned_block,
        )

    def _shown(self) -> str:
        """The URL without parameters, in one form."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.path}"


def parse(text: str) -> UpstreamURL:
    """Parse an upstream URL.

    Args:
        text: as the module's grammar says.

    Raises:
        ConfigurationError: it does not fit; the message says what is allowed.
    """
    if (bare := _bare_address(text)) is not None:
        return _with_address(text, "udp", *bare, path="", parameters={}, pins=())
    scheme, separator, _ = text.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in PORTS:
        raise ConfigurationError(f"upstream {text!r}: allowed are {_ALLOWED}")
    try:
        parts = urlsplit(text.removesuffix("{?dns}"))  # the template of RFC 8484
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise ConfigurationError(f"upstream {text!r}: {error}") from None
    if not host:
        raise ConfigurationError(f"upstream {text!r}: there is no host in it")
    if not is_address(host):
        _check_host(text, host)
    if parts.username is not None or parts.fragment:
        raise ConfigurationError(f"upstream {text!r}: no user and no fragment, please")
    if port == 0:
        raise ConfigurationError(f"upstream {text!r}: ports are 1 to 65535")
    if scheme != "https" and parts.path not in {"", "/"}:
        raise ConfigurationError(f"upstream {text!r}: only https:// has a path")
    path = ""
    if scheme == "https":
        path = parts.path if parts.path not in {"", "/"} else "/dns-query"
        if not path.isascii() or not path.isprintable() or " " in path:
            raise ConfigurationError(f"upstream {text!r}: not a path: {path!r}")
    parameters, pins = _parameters(text, scheme, parts.query)
    return _with_address(
        text, scheme, host, port or PORTS[scheme],
        path=path, parameters=parameters, pins=pins,
    )  # fmt: skip


_BAD_IN_HOST = frozenset(string.whitespace + "\\%<>^`{|}\"'!$&()*+,;=[]:\x7f")


def _check_host(text: str, host: str) -> None:
    """What is no name is told here, and not when it is looked up."""
    try:
        text_to_wire(host)
    except DNSException as error:
        raise ConfigurationError(f"upstream {text!r}: {host!r}: {error}") from None
    last = host.rstrip(".").rpartition(".")[2]
    odd = not host.isprintable() or _BAD_IN_HOST & set(host)
    if odd or not last or last.isdecimal():
        raise ConfigurationError(
            f"upstream {text!r}: {host!r} is neither a host name nor an IP address"
        )


def _with_address(
    text: str,
    scheme: str,
    host: str,
    port: int,
    *,
    path: str,
    parameters: dict[str, str],
    pins: tuple[str, ...],
) -> UpstreamURL:
    address = parameters.get("address", "")
    if address and not is_address(address):
        raise ConfigurationError(
            f"upstream {text!r}: address={address} is no IP address"
        )
    if is_address(host):
        address = address or host
    source = parameters.get("source")
    if source is not None and not is_address(source):
        raise ConfigurationError(f"upstream {text!r}: source={source} is no IP address")
    private = _flag(text, parameters, "private")
    if private is None:
        private = bool(address) and is_private(address)
    return UpstreamURL(
        text, scheme, host, port, path, address,
        ca=parameters.get("ca"),
        pins=pins,
        source=source,
        operator=parameters.get("operator", ""),
        private=private,
        filtering=_flag(text, parameters, "filtering") or False,
    )  # fmt: skip


_KNOWN = {
    "udp": {"address", "source", "operator", "private", "filtering"},
    "tcp": {"address", "source", "operator", "private", "filtering"},
}
_KNOWN["tls"] = _KNOWN["https"] = _KNOWN["udp"] | {"ca", "pin"}


def _parameters(
    text: str, scheme: str, query: str
) -> tuple[dict[str, str], tuple[str, ...]]:
    found: dict[str, str] = {}
    pins = []
    # A plus is part of base64 here, not a space.
    for name, value in parse_qsl(query.replace("+", "%2B"), keep_blank_values=True):
        if name not in _KNOWN[scheme]:
            allowed = ", ".join(sorted(_KNOWN[scheme]))
            raise ConfigurationError(
                f"upstream {text!r}: unknown parameter {name!r}; {scheme}:// allows "
                f"{allowed}"
            )
        if not value:
            raise ConfigurationError(f"upstream {text!r}: {name}= needs a value")
        if name == "pin":
            pins.append(_pin(text, value))
        elif name in found:
            raise ConfigurationError(f"upstream {text!r}: {name}= is given twice")
        else:
            found[name] = value
    return found, tuple(pins)


def _pin(text: str, value: str) -> str:
    kind, _, digest = value.partition("/")
    try:
        good = kind == "sha256" and len(base64.b64decode(digest, validate=True)) == 32
    except ValueError:  # bad base64, or not ASCII
        good = False
    if not good:
        raise ConfigurationError(
            f"upstream {text!r}: pin={value} is not sha256/ and 44 characters of base64"
        )
    return value


def _flag(text: str, parameters: dict[str, str], name: str) -> bool | None:
    value = parameters.get(name)
    if value not in {None, "0", "1"}:
        raise ConfigurationError(f"upstream {text!r}: {name}={value}: allowed are 0, 1")
    return None if value is None else value == "1"


def _bare_address(text: str) -> tuple[str, int] | None:
    """An address with or without a port, as in resolv.conf; None for anything else."""
    if is_address(text):
        return text, 53
    host, separator, port = text.rpartition(":")
    if not separator:
        host, port = text, "53"
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif text.startswith("[") and text.endswith("]"):
        host, port = text[1:-1], "53"
    elif ":" in host:
        return None
    if not is_address(host) or not (port.isascii() and port.isdecimal()):
        return None
    if len(port) > 5 or not 0 < int(port) < 65536:
        raise ConfigurationError(f"upstream {text!r}: ports are 1 to 65535")
    return host, int(port)


def is_address(text: str) -> bool:
    """Whether it is an IP address, scoped or not."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_private(address: str) -> bool:
    """Whether an address is private, loopback or link-local."""
    ip = ipaddress.ip_address(address)
    return ip.is_private or ip.is_loopback or ip.is_link_local


def check(url: UpstreamURL) -> None:
    """Raise ConfigurationError where a CA file or a pin cannot be used."""
    if url.ca is not None or url.pins:
        from resolverkit.transports.tls import TlsOptions, make_context

        make_context(TlsOptions(url.host, url.ca, url.pins), ())


def build(
    url: UpstreamURL,
    *,
    timeout: float,
    source: str | None = None,
    source_port: int = 0,
    locate: Callable[[], Awaitable[str]] | None = None,
) -> Upstream:
    """The transport for a URL.

    Args:
        url: what to ask.
        timeout: seconds until an attempt has failed.
        source: address to send from, before the URL's own.
        source_port: port to send from; 0 for unpredictable ones.
        locate: gives the address of a host name.

    Raises:
        ConfigurationError: a CA file or a pin cannot be used.
    """
    common: dict[str, Any] = {
        "timeout": timeout,
        "source": source or url.source,
        "source_port": source_port,
        "locate": locate,
    }
    if url.scheme == "udp":
        from resolverkit.transports.do53 import Do53

        return Do53(url.endpoint, **common)
    if url.scheme == "tcp":
        from resolverkit.transports.stream import Tcp

        return Tcp(url.endpoint, **common)
    from resolverkit.transports.tls import TlsOptions

    tls = TlsOptions(hostname=url.host, ca=url.ca, pins=url.pins)
    if url.scheme == "tls":
        from resolverkit.transports.dot import Dot

        return Dot(url.endpoint, tls=tls, **common)
    from resolverkit.transports.doh import Doh

    return Doh(url.endpoint, tls=tls, **common)
