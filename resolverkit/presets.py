"""Public resolvers by name: addresses, host names, operator, filtering. Data, no code.

Never contacted unless a user names one. What operators publish changes; each row is
what they, or the lists that others keep of them, said in 2026. Services that have ended
(dns0.eu) are not here, nor those whose addresses could not be confirmed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypedDict

from resolverkit.errors import ConfigurationError
from resolverkit.transports.url import UpstreamURL

if TYPE_CHECKING:
    from collections.abc import Iterator


class Preset(NamedTuple):
    """One service of one operator.

    Attributes:
        operator: who runs it; services of one operator are one vantage.
        addresses: IP addresses, the first one being the first choice.
        tls_host: the name in the certificate for DNS over TLS; empty without DoT.
        https: the URL for DNS over HTTPS; empty without DoH.
        https_address: where that is, if not at the first of `addresses`; empty where
            its name has to be looked up through other upstreams.
        filtering: what it blocks; empty where it blocks nothing.
        plain: it answers on port 53.
        unsigned_block: it blocks by an NXDOMAIN without SOA and RA.
    """

    operator: str
    addresses: tuple[str, ...]
    tls_host: str = ""
    https: str = ""
    https_address: str | None = None
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
        port, path, address = 53, "", self.addresses[0]
        if scheme == "https" and self.https:
            host, _, path = self.https.removeprefix("https://").partition("/")
            port, path = 443, "/" + path
            address = address if self.https_address is None else self.https_address
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
            f"{scheme}://{host}", scheme, host, port, path, address,
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


# fmt: off
PRESETS: dict[str, Preset] = {
    "adguard": Preset(
        "AdGuard",
        ("94.140.14.14", "94.140.15.15", "2a10:50c0::ad1:ff", "2a10:50c0::ad2:ff"),
        tls_host="dns.adguard-dns.com", https="https://dns.adguard-dns.com/dns-query",
        filtering="ads, trackers",
    ),
    "adguard-family": Preset(
        "AdGuard",
        ("94.140.14.15", "94.140.15.16", "2a10:50c0::bad1:ff", "2a10:50c0::bad2:ff"),
        tls_host="family.adguard-dns.com",
        https="https://family.adguard-dns.com/dns-query",
        filtering="ads, trackers, adult content",
    ),
    "adguard-unfiltered": Preset(
        "AdGuard",
        ("94.140.14.140", "94.140.14.141", "2a10:50c0::1:ff", "2a10:50c0::2:ff"),
        tls_host="unfiltered.adguard-dns.com",
        https="https://unfiltered.adguard-dns.com/dns-query",
    ),
    "cira": Preset(
        "CIRA",
        ("149.112.121.10", "149.112.122.10", "2620:10a:80bb::10", "2620:10a:80bc::10"),
        tls_host="private.canadianshield.cira.ca",
        https="https://private.canadianshield.cira.ca/dns-query",
    ),
    "cira-family": Preset(
        "CIRA",
        ("149.112.121.30", "149.112.122.30", "2620:10a:80bb::30", "2620:10a:80bc::30"),
        tls_host="family.canadianshield.cira.ca",
        https="https://family.canadianshield.cira.ca/dns-query",
        filtering="malware, phishing, adult content",
    ),
    "cira-protected": Preset(
        "CIRA",
        ("149.112.121.20", "149.112.122.20", "2620:10a:80bb::20", "2620:10a:80bc::20"),
        tls_host="protected.canadianshield.cira.ca",
        https="https://protected.canadianshield.cira.ca/dns-query",
        filtering="malware, phishing",
    ),
    # DoH has addresses of its own: a path that stayed when 1.1.1.0/24 was lost (2025).
    "cloudflare": Preset(
        "Cloudflare",
        ("1.1.1.1", "1.0.0.1", "2606:4700:4700::1111", "2606:4700:4700::1001"),
        tls_host="one.one.one.one", https="https://cloudflare-dns.com/dns-query",
        https_address="104.16.248.249",
    ),
    "cloudflare-family": Preset(
        "Cloudflare",
        ("1.1.1.3", "1.0.0.3", "2606:4700:4700::1113", "2606:4700:4700::1003"),
        tls_host="family.cloudflare-dns.com",
        https="https://family.cloudflare-dns.com/dns-query",
        filtering="malware, adult content",
    ),
    "cloudflare-malware": Preset(
        "Cloudflare",
        ("1.1.1.2", "1.0.0.2", "2606:4700:4700::1112", "2606:4700:4700::1002"),
        tls_host="security.cloudflare-dns.com",
        https="https://security.cloudflare-dns.com/dns-query", filtering="malware",
    ),
    "controld": Preset(
        "Control D", ("76.76.2.0", "76.76.10.0", "2606:1a40::", "2606:1a40:1::"),
        tls_host="p0.freedns.controld.com", https="https://freedns.controld.com/p0",
        https_address="76.76.2.11",
    ),
    "controld-ads": Preset(
        "Control D", ("76.76.2.2",),
        tls_host="p2.freedns.controld.com", https="https://freedns.controld.com/p2",
        https_address="76.76.2.11", filtering="malware, ads",
    ),
    "controld-malware": Preset(
        "Control D", ("76.76.2.1",),
        tls_host="p1.freedns.controld.com", https="https://freedns.controld.com/p1",
        https_address="76.76.2.11", filtering="malware",
    ),
    "controld-social": Preset(
        "Control D", ("76.76.2.3",),
        tls_host="p3.freedns.controld.com", https="https://freedns.controld.com/p3",
        https_address="76.76.2.11", filtering="malware, ads, social media",
    ),
    "cznic": Preset(
        "CZ.NIC",
        ("193.17.47.1", "185.43.135.1", "2001:148f:ffff::1", "2001:148f:fffe::1"),
        tls_host="odvr.nic.cz", https="https://odvr.nic.cz/doh",
    ),
    "digitale-gesellschaft": Preset(
        "Digitale Gesellschaft",
        ("185.95.218.43", "185.95.218.42", "2a05:fc84::43", "2a05:fc84::42"),
        tls_host="dns.digitale-gesellschaft.ch",
        https="https://dns.digitale-gesellschaft.ch/dns-query", plain=False,
    ),
    "dns4eu": Preset(
        "DNS4EU",
        (
            "86.54.11.1", "86.54.11.201", "2a13:1001::86:54:11:1",
            "2a13:1001::86:54:11:201",
        ),
        tls_host="protective.joindns4.eu",
        https="https://protective.joindns4.eu/dns-query", filtering="malware, phishing",
    ),
    "dns4eu-child": Preset(
        "DNS4EU",
        (
            "86.54.11.12", "86.54.11.212", "2a13:1001::86:54:11:12",
            "2a13:1001::86:54:11:212",
        ),
        tls_host="child.joindns4.eu", https="https://child.joindns4.eu/dns-query",
        filtering="malware, phishing, adult content",
    ),
    "dns4eu-child-noads": Preset(
        "DNS4EU",
        (
            "86.54.11.11", "86.54.11.211", "2a13:1001::86:54:11:11",
            "2a13:1001::86:54:11:211",
        ),
        tls_host="child-noads.joindns4.eu",
        https="https://child-noads.joindns4.eu/dns-query",
        filtering="malware, phishing, adult content, ads",
    ),
    "dns4eu-noads": Preset(
        "DNS4EU",
        (
            "86.54.11.13", "86.54.11.213", "2a13:1001::86:54:11:13",
            "2a13:1001::86:54:11:213",
        ),
        tls_host="noads.joindns4.eu", https="https://noads.joindns4.eu/dns-query",
        filtering="malware, phishing, ads",
    ),
    # From France even this one blocks some names, by order of a court (2026).
    "dns4eu-unfiltered": Preset(
        "DNS4EU", ("86.54.11.100", "86.54.11.200", "2a13:1001::86:54:11:100"),
        tls_host="unfiltered.joindns4.eu",
        https="https://unfiltered.joindns4.eu/dns-query",
    ),
    "dnssb": Preset(
        "DNS.SB", ("185.222.222.222", "45.11.45.11", "2a09::", "2a11::"),
        tls_host="dot.sb", https="https://doh.dns.sb/dns-query", https_address="",
    ),
    "google": Preset(
        "Google",
        ("8.8.8.8", "8.8.4.4", "2001:4860:4860::8888", "2001:4860:4860::8844"),
        tls_host="dns.google", https="https://dns.google/dns-query",
    ),
    "he": Preset(
        "Hurricane Electric", ("74.82.42.42", "2001:470:20::2"),
        tls_host="ordns.he.net", https="https://ordns.he.net/dns-query",
    ),
    "mullvad": Preset(
        "Mullvad", ("194.242.2.2", "2a07:e340::2"),
        tls_host="dns.mullvad.net", https="https://dns.mullvad.net/dns-query",
        plain=False,
    ),
    "mullvad-adblock": Preset(
        "Mullvad", ("194.242.2.3", "2a07:e340::3"),
        tls_host="adblock.dns.mullvad.net",
        https="https://adblock.dns.mullvad.net/dns-query", filtering="ads, trackers",
        plain=False,
    ),
    "mullvad-all": Preset(
        "Mullvad", ("194.242.2.9", "2a07:e340::9"),
        tls_host="all.dns.mullvad.net", https="https://all.dns.mullvad.net/dns-query",
        filtering="ads, trackers, malware, adult content, gambling, social media",
        plain=False,
    ),
    "mullvad-base": Preset(
        "Mullvad", ("194.242.2.4", "2a07:e340::4"),
        tls_host="base.dns.mullvad.net", https="https://base.dns.mullvad.net/dns-query",
        filtering="ads, trackers, malware", plain=False,
    ),
    "mullvad-extended": Preset(
        "Mullvad", ("194.242.2.5", "2a07:e340::5"),
        tls_host="extended.dns.mullvad.net",
        https="https://extended.dns.mullvad.net/dns-query",
        filtering="ads, trackers, malware, social media", plain=False,
    ),
    "mullvad-family": Preset(
        "Mullvad", ("194.242.2.6", "2a07:e340::6"),
        tls_host="family.dns.mullvad.net",
        https="https://family.dns.mullvad.net/dns-query",
        filtering="ads, trackers, malware, adult content, gambling", plain=False,
    ),
    "opendns": Preset(
        "OpenDNS",
        ("208.67.222.222", "208.67.220.220", "2620:119:35::35", "2620:119:53::53"),
        tls_host="dns.opendns.com", https="https://doh.opendns.com/dns-query",
        https_address="146.112.41.2", filtering="phishing",
    ),
    "opendns-sandbox": Preset(
        "OpenDNS", ("208.67.222.2", "208.67.220.2", "2620:0:ccc::2", "2620:0:ccd::2"),
        tls_host="sandbox.opendns.com",
        https="https://doh.sandbox.opendns.com/dns-query", https_address="",
    ),
    "quad9": Preset(
        "Quad9", ("9.9.9.9", "149.112.112.112", "2620:fe::fe", "2620:fe::9"),
        tls_host="dns.quad9.net", https="https://dns.quad9.net/dns-query",
        filtering="malware", unsigned_block=True,
    ),
    "quad9-ecs": Preset(
        "Quad9", ("9.9.9.11", "149.112.112.11", "2620:fe::11", "2620:fe::fe:11"),
        tls_host="dns11.quad9.net", https="https://dns11.quad9.net/dns-query",
        filtering="malware", unsigned_block=True,
    ),
    "quad9-unfiltered": Preset(
        "Quad9", ("9.9.9.10", "149.112.112.10", "2620:fe::10", "2620:fe::fe:10"),
        tls_host="dns10.quad9.net", https="https://dns10.quad9.net/dns-query",
    ),
    "quad9-unfiltered-ecs": Preset(
        "Quad9", ("9.9.9.12", "149.112.112.12", "2620:fe::12", "2620:fe::fe:12"),
        tls_host="dns12.quad9.net", https="https://dns12.quad9.net/dns-query",
    ),
    "switch": Preset(
        "SWITCH", ("130.59.31.248", "2001:620:0:ff::2"),
        tls_host="dns.switch.ch", https="https://dns.switch.ch/dns-query",
        filtering="malware",
    ),
    "wikimedia": Preset(
        "Wikimedia", ("185.71.138.138", "2001:67c:930::1"),
        tls_host="wikimedia-dns.org", https="https://wikimedia-dns.org/dns-query",
        plain=False,
    ),
}
# fmt: on


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
    return _BY_ADDRESS.get(address.lower())
