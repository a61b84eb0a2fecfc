"""special: what never leaves, what goes to private upstreams only, local answers."""

from __future__ import annotations

import dns.name
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolverkit import special, wire
from resolverkit.answer import Answer
from resolverkit.entry import Entry
from resolverkit.memory import Memory
from resolverkit.model import Kind, Source
from resolverkit.policy import StalePolicy
from resolverkit.special import Realm

V6_LOOPBACK = "1." + "0." * 31 + "ip6.arpa"

HERE = [
    "localhost", "LOCALHOST.", "www.localhost", "a.b.localhost", "invalid", "x.invalid",
    "onion", "x.onion", "local", "printer.local", "alt", "x.alt", "resolver.arpa",
    "_dns.resolver.arpa", "1.0.0.127.in-addr.arpa", V6_LOOPBACK,
]  # fmt: skip
PRIVATE = [
    "internal", "db.internal", "home.arpa", "nas.home.arpa", "1.0.0.10.in-addr.arpa",
    "10.in-addr.arpa", "16.172.in-addr.arpa", "9.9.31.172.in-addr.arpa",
    "1.1.168.192.in-addr.arpa", "64.100.in-addr.arpa", "127.100.in-addr.arpa",
    "1.1.254.169.in-addr.arpa", "2.0.0.127.in-addr.arpa", "0.in-addr.arpa",
    "255.255.255.255.in-addr.arpa", "1.2.0.192.in-addr.arpa", "x.d.f.ip6.arpa",
    "8.e.f.ip6.arpa", "b.e.f.ip6.arpa", "1.8.b.d.0.1.0.0.2.ip6.arpa",
    "0." * 32 + "ip6.arpa", "x." + V6_LOOPBACK,
]  # fmt: skip
PUBLIC = [
    ".", "com", "www.example.com", "example", "test", "localhost.example",
    "notlocalhost", "xlocal", "my.notonion", "arpa", "in-addr.arpa", "home.arpa.com",
    "15.172.in-addr.arpa", "32.172.in-addr.arpa", "63.100.in-addr.arpa",
    "128.100.in-addr.arpa", "11.in-addr.arpa", "1.1.1.1.in-addr.arpa",
    "110.in-addr.arpa", "7.e.f.ip6.arpa", "c.e.f.ip6.arpa", "xresolver.arpa",
    r"a\005local", r"a\009localhost", r"b\010onion.example", r"x\008internal",
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected"),
    [(n, Realm.HERE) for n in HERE]
    + [(n, Realm.PRIVATE) for n in PRIVATE]
    + [(n, Realm.PUBLIC) for n in PUBLIC],
)
def test_realm(name, expected):
    assert special.realm(wire.text_to_wire(name)) is expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("printer", Realm.PRIVATE),
        ("com", Realm.PRIVATE),
        ("localhost", Realm.HERE),
        ("local", Realm.HERE),
        ("internal", Realm.PRIVATE),
        (".", Realm.PUBLIC),
        ("www.example", Realm.PUBLIC),
        ("x.onion", Realm.HERE),
        ("x.internal", Realm.PRIVATE),
    ],
)
def test_a_single_label_without_the_final_dot_is_a_local_host(name, expected):
    assert special.realm(wire.text_to_wire(name), relative=True) is expected


@given(
    st.lists(st.binary(min_size=1, max_size=8), max_size=5),
    st.sampled_from([*HERE, *PRIVATE, "com", "example"]),
)
def test_what_is_below_a_zone_is_in_its_realm_and_nothing_else(labels, zone):
    """`realm` compares bytes; dnspython, which compares labels, is the reference."""
    name = dns.name.Name([*labels, *dns.name.from_text(zone).labels])

    def below(zones):
        return any(name.is_subdomain(dns.name.from_wire(z, 0)[0]) for z in zones)

    if name in {dns.name.from_wire(z, 0)[0] for z in special._LOOPBACK} or below(
        special._HERE
    ):
        expected = Realm.HERE
    else:
        expected = Realm.PRIVATE if below(special._PRIVATE) else Realm.PUBLIC
    assert special.realm(wire.name_to_wire(name)) is expected


@pytest.mark.parametrize(
    ("name", "rdtype", "expected"),
    [
        ("localhost", 1, "127.0.0.1"),
        ("localhost", 28, "::1"),
        ("www.localhost", 1, "127.0.0.1"),
        ("localhost", 15, Kind.NODATA),
        ("localhost", 5, Kind.NODATA),
        ("1.0.0.127.in-addr.arpa", 12, "localhost."),
        (V6_LOOPBACK, 12, "localhost."),
        (V6_LOOPBACK, 1, Kind.NODATA),
        ("invalid", 1, Kind.NXDOMAIN),
        ("x.onion", 28, Kind.NXDOMAIN),
        ("printer.local", 1, Kind.NXDOMAIN),
        ("_dns.resolver.arpa", 64, Kind.NXDOMAIN),
        ("x.alt", 16, Kind.NXDOMAIN),
    ],
)
@pytest.mark.parametrize("do", [False, True])
def test_local_replies(name, rdtype, expected, do):
    question = wire.make_question(wire.text_to_wire(name), rdtype, dnssec_ok=do)
    reply = special.local_reply(question)
    again = wire.read_reply(question, reply.wire)  # a valid message that says the same
    assert again.final == reply.final == question.wire_name
    assert (again.kind, again.rcode) == (reply.kind, reply.rcode)
    memory = Memory(lambda: 0.0, StalePolicy())
    answer = Answer(Entry(question, reply, 0.0), Source.LOCAL, memory)
    if isinstance(expected, Kind):
        assert reply.kind is expected
        assert (reply.soa, again.soa) == (True, True)
        assert answer.rrset is None
    else:
        assert reply.kind is Kind.DATA
        assert [rdata.to_text() for rdata in answer] == [expected]
        assert again.ttl == reply.ttl == answer.ttl == special.TTL


def test_localhost_has_no_address_in_another_class():
    for rdclass in (3, 4, 255):
        question = wire.make_question(wire.text_to_wire("localhost"), 1, rdclass)
        reply = special.local_reply(question)
        assert reply.kind is Kind.NXDOMAIN
        assert wire.read_reply(question, reply.wire).kind is Kind.NXDOMAIN
