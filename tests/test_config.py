"""config: what a user may write for an upstream, and what is told of the rest."""

from __future__ import annotations

import dns.nameserver
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolverkit import config
from resolverkit.errors import ConfigurationError
from resolverkit.presets import PRESETS
from resolverkit.transports.url import UpstreamURL


def one(spec, **options):
    (member,) = config.members([spec], **{"system": (), **options})
    return member


class Own:
    """A user's own upstream."""

    name = "own"

    def query(self, question):
        raise NotImplementedError

    async def aclose(self):
        pass


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("192.0.2.1", 5353), ("192.0.2.2", 5454), ("192.0.2.1:99", 99),
        ("192.0.2.2:53", 53), ("2001:db8::1", 5353), ("2001:db8::2", 5555),
        ("[2001:db8::1]", 5353), ("[2001:db8::2]", 5555), ("[2001:db8::1]:53", 53),
        ("udp://192.0.2.1", 53), ("tls://192.0.2.1", 853), ("tcp://192.0.2.2", 53),
    ],
)  # fmt: skip
def test_a_bare_address_takes_port_and_nameserver_ports(text, port):
    ports = {"192.0.2.2": 5454, "2001:db8::2": 5555}
    assert one(text, port=5353, ports=ports).port == port


@pytest.mark.parametrize("port", [0, -1, 65536, "53", 53.0, True, None])
def test_a_port_that_is_none_is_told_by_its_upstream(port):
    given = [
        {"port": port},
        {"ports": {"192.0.2.1": port}},
    ]
    for options in given:
        with pytest.raises(ConfigurationError) as caught:
            one("192.0.2.1", **options)
        assert str(caught.value) == (
            f"upstream '192.0.2.1': port={port!r}: allowed are 1 to 65535"
        )
    with pytest.raises(ConfigurationError, match="allowed are 1 to 65535"):
        one(dns.nameserver.Do53Nameserver("192.0.2.1", port))


def test_the_port_is_53_by_default():
    assert one("192.0.2.1").port == 53


@pytest.mark.parametrize(
    "text",
    ["9.9.9.9", "9.9.9.9:5353", "tls://9.9.9.9", "tls://x.example?address=9.9.9.9"],
)
def test_the_operator_of_a_public_address_is_known(text):
    url = one(text)
    assert (url.operator, url.filtering, url.unsigned_block) == ("Quad9", True, True)
    assert one("udp://9.9.9.9?operator=me").operator == "me"
    assert one("192.0.2.1").operator == ""


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets(name):
    assert config.members([name.upper()], system=()) == list(PRESETS[name].urls())
    if PRESETS[name].plain:
        assert one(f"udp://{name}") == next(PRESETS[name].urls("udp"))
    assert one(f"HTTPS://{name}") == next(PRESETS[name].urls("https"))
    with pytest.raises(ConfigurationError, match="quic"):
        one(f"quic://{name}")


def test_system_stands_for_its_servers_which_are_private():
    third = dns.nameserver.Do53Nameserver("1.0.0.1", 54)
    system = ["8.8.8.8", "2620:fe::fe", third]
    found = config.members(["system", "9.9.9.9"], system=system, port=5353)
    assert [(m.address, m.port, m.private) for m in found] == [
        ("8.8.8.8", 5353, True),
        ("2620:fe::fe", 5353, True),
        ("1.0.0.1", 54, True),
        ("9.9.9.9", 5353, False),
    ]


@pytest.mark.parametrize("system", [(), ("system",)])
def test_no_system_servers(system):
    with pytest.raises(ConfigurationError, match="no name server is configured"):
        config.members(["system"], system=system)


@pytest.mark.parametrize(
    ("spec", "scheme", "host", "port", "address", "private", "ca"),
    [
        (dns.nameserver.Do53Nameserver("192.168.0.1"),
         "udp", "192.168.0.1", 53, "192.168.0.1", True, None),
        (dns.nameserver.Do53Nameserver("2001:db8::53", 54),
         "udp", "2001:db8::53", 54, "2001:db8::53", True, None),
        (dns.nameserver.DoTNameserver("1.1.1.1"),
         "tls", "1.1.1.1", 853, "1.1.1.1", False, None),
        (dns.nameserver.DoTNameserver("1.1.1.1", 8853, "one.example", "/ca.pem"),
         "tls", "one.example", 8853, "1.1.1.1", False, "/ca.pem"),
        (dns.nameserver.DoHNameserver("https://dns.example/q"),
         "https", "dns.example", 443, "", False, None),
        (dns.nameserver.DoHNameserver("https://dns.example:44/", "10.0.0.1", "/c.pem"),
         "https", "dns.example", 44, "10.0.0.1", True, "/c.pem"),
    ],
    ids=str,
)  # fmt: skip
def test_name_server_objects(spec, scheme, host, port, address, private, ca):
    url = one(spec, port=5353)
    assert isinstance(url, UpstreamURL)
    assert (url.scheme, url.host, url.port) == (scheme, host, port)
    assert (url.address, url.private, url.ca) == (address, private, ca)


@pytest.mark.parametrize(
    "spec",
    [
        dns.nameserver.DoTNameserver("1.1.1.1", verify=False),
        dns.nameserver.DoHNameserver("https://1.1.1.1/q", verify=False),
        dns.nameserver.DoQNameserver("1.1.1.1"),
        type("Mine", (dns.nameserver.Do53Nameserver,), {})("192.0.2.1"),
        Own(),
    ],
)
def test_what_only_its_own_code_can_do_is_left_as_it_is(spec):
    assert one(spec) is spec


@pytest.mark.parametrize("spec", [None, 53, b"9.9.9.9", object(), ["9.9.9.9"]])
def test_unknown_things_are_named(spec):
    with pytest.raises(ConfigurationError) as caught:
        one(spec)
    assert repr(spec) in str(caught.value)
    assert "allowed are strings, dns.nameserver.Nameserver" in str(caught.value)


@pytest.mark.parametrize("text", ["", "quad10", "9.9.9.9.9", "tls://"])
def test_unknown_texts_are_named(text):
    with pytest.raises(ConfigurationError, match="upstream") as caught:
        one(text)
    assert repr(text) in str(caught.value)


@given(st.text(max_size=30))
def test_any_text_is_understood_or_refused(text):
    try:
        found = config.members([text], system=["192.0.2.1"])
    except ConfigurationError:
        return
    assert all(isinstance(m, UpstreamURL) for m in found)


def test_order_is_kept():
    own = Own()
    found = config.members(["9.9.9.9", own, "google"], system=())
    assert found[1] is own
    assert [m.host for m in (found[0], *found[2:])] == [
        "9.9.9.9", "dns.google", "dns.google",
    ]  # fmt: skip


def test_strategies():
    for strategy in ("hedge", "race", "failover", "quorum"):
        config.check_strategy(strategy)
    with pytest.raises(ConfigurationError) as caught:
        config.check_strategy("fastest")
    assert str(caught.value) == (
        "strategy='fastest': allowed are 'hedge', 'race', 'failover', 'quorum'"
    )


@pytest.mark.parametrize("value", [1, 0.001, 5.0, float("inf")])
def test_timeouts(value):
    config.check_timeout("timeout", value)


@pytest.mark.parametrize("value", [0, -1, float("nan"), True, None, "5", 1j])
def test_timeouts_that_are_none(value):
    with pytest.raises(ConfigurationError) as caught:
        config.check_timeout("lifetime", value)
    assert str(caught.value) == (
        f"lifetime={value!r}: allowed is a number of seconds > 0"
    )


def test_a_preset_takes_parameters():
    (url,) = config.members(["tls://quad9?source=192.0.2.7&ca=/ca.pem"], system=())
    assert (url.host, url.operator) == ("dns.quad9.net", "Quad9")
    assert (url.source, url.ca, url.unsigned_block) == ("192.0.2.7", "/ca.pem", True)
    with pytest.raises(ConfigurationError, match="unknown parameter 'x'"):
        config.members(["quad9?x=1"], system=())


def test_a_name_server_object_of_a_public_resolver_is_known_too():
    (url,) = config.members([dns.nameserver.Do53Nameserver("9.9.9.9")], system=())
    assert (url.operator, url.filtering) == ("Quad9", True)
    (url,) = config.members(["2620:FE::FE"], system=())
    assert url.operator == "Quad9"
