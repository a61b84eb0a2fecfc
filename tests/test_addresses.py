"""The order of addresses: the examples of RFC 6724 section 10, and what is ours."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolverkit.addresses import order

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
