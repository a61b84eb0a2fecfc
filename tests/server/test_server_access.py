"""Who may ask, and how often: decided by address and time alone."""

from __future__ import annotations

import pytest

from resolverkit import ConfigurationError
from resolverkit.server import access as rules
from resolverkit.server.access import BURST, Access, Ruling

INSIDE, OUTSIDE = "192.168.7.7", "203.0.113.5"


def ruled(access, client=INSIDE, now=0.0, count=1, *, datagram=True):
    return [access.rule(client, now, datagram=datagram) for _ in range(count)]


@pytest.mark.parametrize(
    "client", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"]
)
def test_this_machine_may_ask(client):
    assert Access().admits(client)


@pytest.mark.parametrize("client", [INSIDE, OUTSIDE, "2001:db8::1", "fe80::1%eth0"])
def test_nobody_else_may_unless_it_is_said(client):
    assert ruled(Access(), client) == [Ruling.DENY]


def test_networks_that_are_named_may():
    access = Access(["192.168.0.0/16", "2001:db8::/32"])
    assert [access.admits(c) for c in (INSIDE, "2001:db8:1::1", OUTSIDE)] == [
        True, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["192.168.0.1/16", "all", "", "10.0.0.0/33", 5])
def test_what_is_no_network_is_told(text):
    with pytest.raises(ConfigurationError, match=r"192\.168\.0\.0/16"):
        Access([text])


@pytest.mark.parametrize("rate", [-1, float("nan"), "many"])
def test_what_is_no_rate_is_told(rate):
    with pytest.raises(ConfigurationError, match="rate_limit"):
        Access((), rate)


def test_above_its_rate_a_client_gets_every_second_reply_empty():
    access = Access(["192.168.0.0/16"], rate=10)
    assert set(ruled(access, count=10 * BURST)) == {Ruling.ANSWER}
    assert ruled(access, count=4) == [Ruling.DROP, Ruling.TRUNCATE] * 2
    assert ruled(access, now=0.1) == [Ruling.ANSWER]
    assert ruled(access, now=0.1) == [Ruling.DROP]
    assert set(ruled(access, now=100, count=10 * BURST)) == {Ruling.ANSWER}


def test_connections_and_this_machine_have_no_limit():
    access = Access(["192.168.0.0/16"], rate=1)
    assert set(ruled(access, count=100, datagram=False)) == {Ruling.ANSWER}
    assert set(ruled(access, "127.0.0.1", count=100)) == {Ruling.ANSWER}


def test_no_limit_is_one_too():
    access = Access(["192.168.0.0/16"], rate=0)
    assert set(ruled(access, count=100_000)) == {Ruling.ANSWER}


def test_a_subscriber_is_one_client_with_all_its_addresses():
    """RFC 6177: a site has at least a /64."""
    access = Access(["2001:db8::/32"], rate=1)
    first = [access.rule(f"2001:db8::{i:x}", 0.0, datagram=True) for i in range(8)]
    assert first.count(Ruling.ANSWER) == BURST
    assert ruled(access, "2001:db8:0:1::1") == [Ruling.ANSWER]


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(rules, "MAX_CLIENTS", 100)
    access = Access(["10.0.0.0/8"], rate=1)
    for i in range(1000):
        access.rule(f"10.0.{i >> 8}.{i & 255}", 0.0, datagram=True)
    assert (len(access._known), len(access._buckets)) == (100, 100)
