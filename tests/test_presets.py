"""presets: data that fits together."""

from __future__ import annotations

import asyncio
import ipaddress

import pytest

from resolverkit import Resolver
from resolverkit.errors import ConfigurationError
from resolverkit.presets import PRESETS, operator_of
from resolverkit.testing import ScriptedUpstream, answer, nodata, run
from resolverkit.transports.url import build, parse

ALL = pytest.mark.parametrize("name", sorted(PRESETS))


def test_names_and_addresses_are_unique():
    addresses = [a for preset in PRESETS.values() for a in preset.addresses]
    assert len(set(addresses)) == len(addresses)
    assert len({p.https for p in PRESETS.values()}) == len(PRESETS)
    assert list(PRESETS) == sorted(PRESETS)
    assert all(name == name.lower() for name in PRESETS)
    assert "system" not in PRESETS


@ALL
def test_addresses_are_public(name):
    preset = PRESETS[name]
    assert preset.addresses
    for address in preset.addresses:
        assert ipaddress.ip_address(address).is_global
        known = operator_of(address)
        assert known["operator"] == preset.operator
        assert known["filtering"] is bool(preset.filtering)
        assert known["unsigned_block"] is preset.unsigned_block


def address_for(preset, scheme):
    if scheme == "https" and preset.https_address is not None:
        return preset.https_address
    return preset.addresses[0]


@ALL
def test_every_scheme_has_a_url_that_builds(name):
    async def main():
        preset = PRESETS[name]
        for scheme in preset.schemes:
            (url,) = preset.urls(scheme)
            assert url.scheme == scheme
            assert url.operator == preset.operator
            assert url.address == address_for(preset, scheme)
            assert url.filtering is bool(preset.filtering)
            assert not url.private
            # What is shown is a URL for the same server.
            assert parse(url.endpoint.name).endpoint.name == url.endpoint.name
            await build(url, timeout=1.0).aclose()

    asyncio.run(main())


@ALL
def test_by_default_it_is_doh_and_dot(name):
    assert [url.scheme for url in PRESETS[name].urls()] == ["https", "tls"]


@ALL
def test_a_scheme_that_it_has_not_is_told(name):
    preset = PRESETS[name]
    allowed = "udp, tcp, tls, https" if preset.plain else "tls, https"
    with pytest.raises(ConfigurationError, match=rf"quic://.*allowed are {allowed}"):
        list(preset.urls("quic"))
    if not preset.plain:
        with pytest.raises(ConfigurationError, match=r"udp://.*allowed are tls, https"):
            list(preset.urls("udp"))


def test_doh_urls_carry_host_and_path():
    (url,) = PRESETS["google"].urls("https")
    assert (url.host, url.port, url.path) == ("dns.google", 443, "/dns-query")
    (url,) = PRESETS["quad9"].urls("tls")
    assert (url.host, url.port, url.path) == ("dns.quad9.net", 853, "")
    assert url.unsigned_block


def test_a_doh_service_without_a_known_address_is_looked_up_through_the_others():
    async def main():
        looked_up = []
        upstream = ScriptedUpstream("one", lambda q, _: asked(looked_up, q))
        with pytest.raises(ConfigurationError, match=r"doh.dns.sb; add \?address="):
            Resolver(["https://dnssb"], configure=False)
        async with Resolver(["https://dnssb", upstream], configure=False) as resolver:
            await resolver.resolve("www.example.com")
        assert "doh.dns.sb. A" in looked_up

    def asked(looked_up, question):
        looked_up.append(str(question))
        if str(question.name) == "doh.dns.sb.":
            return nodata()  # so that no packet leaves for it
        return answer("192.0.2.1", after=0.1)

    run(main())


def test_which_presets_filter():
    unfiltered = {name for name, preset in PRESETS.items() if not preset.filtering}
    assert unfiltered == {
        "adguard-unfiltered", "cira", "cloudflare", "controld", "cznic",
        "digitale-gesellschaft", "dns4eu-unfiltered", "dnssb", "google", "he",
        "mullvad", "opendns-sandbox", "quad9-unfiltered", "quad9-unfiltered-ecs",
        "wikimedia",
    }  # fmt: skip
    unsigned = {name for name, preset in PRESETS.items() if preset.unsigned_block}
    assert unsigned == {"quad9", "quad9-ecs"}


def test_services_that_have_ended_are_not_listed():
    assert not any("dns0" in name or "dns0" in p.https for name, p in PRESETS.items())


def test_nothing_is_known_of_other_addresses():
    assert operator_of("192.0.2.1") is None
