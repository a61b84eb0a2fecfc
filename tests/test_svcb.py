"""SVCB and HTTPS records: which are of use, in which order (RFC 9460)."""

from __future__ import annotations

import dns.name
import dns.rdata
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolverkit.svcb import alias, alternatives, owner

HOST = dns.name.from_text("www.example.com")


def records(*texts):
    return [dns.rdata.from_text("IN", "HTTPS", text) for text in texts]


def told(*texts):
    return [
        (str(a.target), a.port, [str(hint) for hint in a.hints])
        for a in alternatives(records(*texts), HOST)
    ]


def test_the_best_priority_comes_first():
    """Section 2.4.1."""
    assert told("2 b.example.net.", "1 a.example.net. port=8443") == [
        ("a.example.net.", 8443, []),
        ("b.example.net.", None, []),
    ]


def test_a_dot_is_the_owner():
    """Section 2.5.2."""
    assert told("1 .") == [("www.example.com.", None, [])]


def test_hints_of_both_families():
    """Section 7.3."""
    assert told("1 . ipv4hint=192.0.2.1,192.0.2.2 ipv6hint=2001:db8::1") == [
        ("www.example.com.", None, ["2001:db8::1", "192.0.2.1", "192.0.2.2"])
    ]


def test_a_record_with_something_mandatory_that_is_not_understood_is_refused():
    """Section 8."""
    assert told("1 . mandatory=key65000 key65000=x", "2 . mandatory=port port=1") == [
        ("www.example.com.", 1, [])
    ]
    assert told("1 . key65000=x") != []  # it may be ignored unless it is mandatory


@pytest.mark.parametrize(
    ("params", "usable"),
    [
        ("alpn=h3", True),  # and the default, http/1.1
        ("alpn=h2,h3 no-default-alpn", True),
        ("alpn=h3 no-default-alpn", False),
    ],
)
def test_a_service_over_quic_alone_is_none_for_streams(params, usable):
    """Section 7.1.2."""
    assert bool(told(f"1 . {params}")) == usable


def test_aliases():
    """Section 2.4.2; a target of ``.`` says that there is no service (2.5.1)."""
    assert str(alias(records("0 svc.example.net."))) == "svc.example.net."
    assert alias(records("0 .")) is None
    assert alias(records("1 .")) is None
    assert alternatives(records("0 svc.example.net."), HOST) == ()


def test_where_the_records_are():
    """Sections 2.3 and 9.1."""
    assert owner(HOST, 443, "https") == HOST
    assert str(owner(HOST, 8443, "https")) == "_8443._https.www.example.com."
    assert str(owner(HOST, 853, "dns")) == "_853._dns.www.example.com."


@given(st.binary(max_size=60))
def test_any_record_that_dnspython_reads_can_be_weighed(data):
    try:
        record = dns.rdata.from_wire("IN", "HTTPS", data, 0, len(data))
    except Exception:  # noqa: BLE001
        return
    alias([record])
    alternatives([record], HOST)
