"""The order of addresses: the examples of RFC 6724 section 10, and what is ours."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolverkit.addresses import Traits, order

# Destinations as they are to come out, each with its source. RFC 6724 section 10.2.
EXAMPLES = {
    "prefer matching scope": [
        ("2001:db8:1::1", "2001:db8:1::2"), ("198.51.100.121", "169.254.13.78"),
    ],
    "prefer matching scope, IPv4": [
        ("198.51.100.121", "198.51.100.117"), ("2001:db8:1::1", "fe80::1"),
    ],
    "prefer higher precedence": [
        ("2001:db8:1::1", "2001:db8:1::2"), ("10.1.2.3", "10.1.2.4"),
    ],
    "prefer smaller scope": [
        ("fe80::1", "fe80::2"), ("2001:db8:1::1", "2001:db8:1::2"),
    ],
    "prefer matching label": [
        ("2002:c633:6401::1", "2002:c633:6401::2"),
        ("2001:db8:1::1", "2002:c633:6401::2"),
    ],
    "prefer higher precedence, 6to4": [
        ("2001:db8:1::1", "2001:db8:1::2"), ("2002:c633:6401::1", "2002:c633:6401::2"),
    ],
    "avoid unusable destinations": [
        ("192.0.2.1", "192.0.2.9"), ("2001:db8::1", None),
    ],
    "IPv4 before unique local": [("192.0.2.1", "192.0.2.9"), ("fd00::1", "fd00::2")],
    "longest matching prefix": [
        ("2001:db8:1::1", "2001:db8:1::2"), ("2001:db8:3ffe::1", "2001:db8:1::2"),
    ],
    "loopback first": [("::1", "::1"), ("127.0.0.1", "127.0.0.1")],
}  # fmt: skip


def ordered(addresses, sources):
    texts = {ip_address(text): text for text in addresses}
    found = order(texts, lambda a: sources[texts[a]] and ip_address(sources[texts[a]]))
    return [texts[address] for address in found]


@pytest.mark.parametrize("rule", EXAMPLES)
def test_the_examples_of_rfc_6724(rule):
    sources = dict(EXAMPLES[rule])
    wanted = list(sources)
    assert ordered(wanted, sources) == wanted
    assert ordered(wanted[::-1], sources) == wanted


@pytest.mark.parametrize(
    ("traits", "rule"),
    [
        (Traits(deprecated=True), "3: avoid deprecated addresses"),
        (Traits(native=False), "7: prefer native transport"),
    ],
)
def test_what_the_kernel_knows_of_a_source_address(traits, rule):
    good, bad = ip_address("2001:db8:1::1"), ip_address("2001:db8:2::1")
    sources = {good: ip_address("2001:db8:1::2"), bad: ip_address("2001:db8:2::2")}
    for addresses in ([good, bad], [bad, good]):
        found = order(addresses, sources.get, {sources[bad]: traits})
        assert found == [good, bad], rule
    assert order([bad, good], sources.get) == [bad, good]


def test_rule_4_home_addresses_are_preferred():
    good, bad = ip_address("2001:db8:1::1"), ip_address("2001:db8:2::1")
    sources = {good: ip_address("2001:db8:1::2"), bad: ip_address("2001:db8:2::2")}
    home = {sources[good]: Traits(home=True)}
    assert order([bad, good], sources.get, home) == [good, bad]


def test_in_which_order_those_rules_stand():
    """A deprecated address of the right label, or a plain one of another; and so on."""
    native, tunnel = ip_address("2001:db8::1"), ip_address("2002:c000:201::1")
    sources = {
        native: ip_address("2001:db8::2"),
        tunnel: ip_address("2002:c000:202::1"),
    }

    def found(**traits):
        known = {sources[native]: Traits(**traits)}
        return order([native, tunnel], sources.get, known)

    assert found(deprecated=True) == [tunnel, native]  # 3 before 6
    assert found(native=False) == [native, tunnel]  # 6 before 7
    home = {sources[tunnel]: Traits(home=True), sources[native]: Traits()}
    assert order([native, tunnel], sources.get, home) == [tunnel, native]  # 4 before 6
    both = {sources[tunnel]: Traits(home=True, deprecated=True)}
    assert order([native, tunnel], sources.get, both) == [native, tunnel]  # 3 before 4
    unreachable = {native: None, tunnel: sources[tunnel]}
    assert order([native, tunnel], unreachable.get, both) == [tunnel, native]  # 1


def test_ipv4_addresses_keep_the_order_of_the_answer():
    """Rule 9 would undo the rotation by which servers share load."""
    sources = dict.fromkeys(["192.0.2.200", "192.0.2.9", "203.0.113.1"], "192.0.2.8")
    assert ordered(sources, sources) == list(sources)


def test_interface_identifiers_do_not_count():
    """RFC 6724 section 2.2: up to the length of the source's prefix."""
    sources = dict.fromkeys(["2001:db8::f000", "2001:db8::3"], "2001:db8::2")
    assert ordered(sources, sources) == list(sources)


def test_mapped_and_multicast_addresses_have_a_scope():
    sources = {"ff05::1": "2001:db8::2", "::ffff:192.0.2.1": None, "fec0::1": None}
    assert ordered(sources, sources) == ["ff05::1", "::ffff:192.0.2.1", "fec0::1"]


@given(st.lists(st.ip_addresses(), max_size=8), st.ip_addresses())
def test_nothing_is_lost_and_the_order_settles(addresses, source):
    def source_of(address):
        return source if source.version == address.version else None

    once = order(addresses, source_of)
    assert sorted(map(str, once)) == sorted(map(str, addresses))
    assert order(once, source_of) == once
