"""What a fake upstream does in outages: to part of the names, part of the way."""

import dns.flags
import dns.message
import dns.rcode
import pytest

from resolverkit.testing import Authority, Fault
from resolverkit.testing.forwarder import Forwarder

WWW, FTP = "www.example.org", "ftp.example.org"
RECORDS = [f"{WWW}. 60 IN A 192.0.2.1", f"{FTP}. 60 IN A 192.0.2.2"]


@pytest.fixture
def authority():
    return Authority(RECORDS)


def reply(forwarder, name=WWW, fault=None, now=0.0, **options):
    query = dns.message.make_query(name, "A", **options)
    (wire,) = forwarder.messages(query, fault or Fault(), now, datagram=False)
    return dns.message.from_wire(wire)


def test_a_code_can_be_for_some_names_only(authority):
    forwarder = Forwarder(authority, "servfail", None, 0)
    fault = Fault(rcode=dns.rcode.SERVFAIL, names=(WWW,))
    assert reply(forwarder, WWW.upper(), fault).rcode() == dns.rcode.SERVFAIL
    assert reply(forwarder, FTP, fault).answer


@pytest.mark.parametrize("code", [dns.rcode.NXDOMAIN, dns.rcode.NOERROR])
def test_a_wrong_denial_can_look_like_a_real_one(authority, code):
    forwarder = Forwarder(authority, "servfail", None, 0)
    denied = reply(forwarder, fault=Fault(rcode=code, soa=True))
    assert (denied.rcode(), denied.answer) == (code, [])
    assert denied.authority[0].name.to_text() == "example.org."
    assert not reply(forwarder, fault=Fault(rcode=code)).authority


def test_who_is_cut_off_has_its_cache_until_that_runs_out(authority):
    forwarder = Forwarder(authority, "servfail", 22, 0)
    reply(forwarder, WWW)
    cut_off = Fault(cut_off=True)
    assert reply(forwarder, WWW, cut_off, now=59).answer
    assert reply(forwarder, WWW, cut_off, now=60).rcode() == dns.rcode.SERVFAIL
    assert reply(forwarder, FTP, cut_off).rcode() == dns.rcode.SERVFAIL
    assert authority.present


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, False),
        ({"want_dnssec": True}, True),
        ({"flags": dns.flags.RD | dns.flags.AD}, True),
    ],
)
def test_who_validates_says_so_to_those_who_ask(authority, options, told):
    """RFC 6840 section 5.8."""
    forwarder = Forwarder(authority, "servfail", None, 0, validates=True)
    assert bool(reply(forwarder, **options).flags & dns.flags.AD) is told
    assert not reply(forwarder, "no.example.org", **options).flags & dns.flags.AD
    other = Forwarder(authority, "servfail", None, 0)
    assert not reply(other, **options).flags & dns.flags.AD


def test_all_data_can_be_replaced(authority):
    authority.replace([f"{FTP}. 60 IN A 192.0.2.9"])
    forwarder = Forwarder(authority, "servfail", None, 0)
    assert reply(forwarder, WWW).rcode() == dns.rcode.NXDOMAIN
    assert reply(forwarder, FTP).answer[0][0].address == "192.0.2.9"
