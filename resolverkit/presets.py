"""Public resolvers by name: addresses, host names, operator, filtering. Data, no code.

Never contacted unless a user names one. What operators publish changes; each row is
what their own pages said in 2026.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from resolverkit.errors import ConfigurationError
from resolverkit.transports.url import UpstreamURL

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Preset:
    """One service of one operator.

    Attributes:
        operator: who runs it; services of one operator are one vantage.
        addresses: IP addresses, the first one being the first choice.
        tls_host: the name in the certificate for DNS over TLS; empty without DoT.
        https: the URL for DNS over HTTPS; empty without DoH.
        filtering: what it blocks; empty where it blocks nothing.
        plain: it answers on port 53.
        unsigned_block: it blocks by an NXDOMAIN without SOA and RA.
    """

    operator: str
    addresses: tuple[str, ...]
    tls_host: str = ""
    https: str = ""
    filtering: str = ""
    plain: bool = True
    unsigned_block: bool = False

    def urls(self, scheme: str = "") -> Iterator[UpstreamURL]:
        """The upstreams that the preset stands for.

        Args:
            scheme: udp, tcp, tls or https; without it DoH and DoT, which are two paths
                to one operator and cannot be read or changed on the way.
        """
        wanted = (scheme,) if scheme else ("https", "tls")
        for one in wanted:
            yield self._url(one)

    def _url(self, scheme: str) -> UpstreamURL:
        port, path = 53, ""
        if scheme == "https" and self.https:
            host, _, path = self.https.removeprefix("https://").partition("/")
            port, path = 443, "/" + path
        elif scheme == "tls" and self.tls_host:
            host, port = self.tls_host, 853
        elif scheme in {"udp", "tcp"} and self.plain:
            host = self.addresses[0]
        else:
            raise ConfigurationError(
                f"{self.operator} has no {scheme or 'plain'}:// service; "
                f"allowed are {', '.join(self.schemes)}"
            )
        return UpstreamURL(
            f"{scheme}://{host}", scheme, host, port, path, self.addresses[0],
            operator=self.operator,
            filtering=bool(self.filtering),
            unsigned_block=self.unsigned_block,
        )  # fmt: skip

    @property
    def schemes(self) -> list[str]:
        """The schemes that it can be asked by."""
        plain = ["udp", "tcp"] if self.plain else []
        tls = ["tls"] if self.tls_host else []
        return plain + tls + (["https"] if self.https else [])


PRESETS: dict[str, Preset] = {
    "cloudflare": Preset(
        "Cloudflare",
        ("1.1.1.1", "1.0.0.1", "2606:4700:4700::1111", "2606:4700:4700::1001"),
        tls_host="one.one.one.one",
        https="https://cloudflare-dns.com/dns-query",
    ),
    "google": Preset(
        "Google",
        ("8.8.8.8", "8.8.4.4", "2001:4860:4860::8888", "2001:4860:4860::8844"),
        tls_host="dns.google",
        https="https://dns.google/dns-query",
    ),
    "quad9": Preset(
        "Quad9",
        ("9.9.9.9", "149.112.112.112", "2620:fe::fe", "2620:fe::9"),
        tls_host="dns.quad9.net",
        https="https://dns.quad9.net/dns-query",
        filtering="malware",
        unsigned_block=True,
    ),
}


class _Known(TypedDict):
    operator: str
    filtering: bool
    unsigned_block: bool


_BY_ADDRESS = {
    address: _Known(
        operator=preset.operator,
        filtering=bool(preset.filtering),
        unsigned_block=preset.unsigned_block,
    )
    for preset in PRESETS.values()
    for address in preset.addresses
}


def operator_of(address: str) -> _Known | None:
    """What is known of a public resolver's address."""
    return _BY_ADDRESS.get(address)
