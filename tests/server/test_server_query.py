"""What comes from clients: a query, a refusal, or nothing; never an exception."""

from __future__ import annotations

import struct

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.tsig
import dns.tsigkeyring
import pytest
from asking import WWW, query
from hypothesis import given
from hypothesis import strategies as st

from resolverkit.server.query import Over, Query, read_query

NAME = b"\3www\7example\3com\0"
A = NAME + b"\0\1\0\1"
OPT = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"
TSIG = b"\3key\0\0\xfa\0\xff" + bytes(4) + b"\0\x15\3mac\0" + bytes(16)


def raw(body=A, *, flags=0x0100, counts=(1, 0, 0, 0), ident=0x1234):
    return struct.pack("!HHHHHH", ident, flags, *counts) + body


def refusal(data):
    """The reply that refuses a message, parsed."""
    read = read_query(data)
    assert isinstance(read, bytes)
    return dns.message.from_wire(read, keyring=False)


def rcode(data):
    return dns.rcode.to_text(refusal(data).rcode())


# --- what is a query -----------------------------------------------------------------


def test_a_query_is_read():
    read = read_query(raw(NAME.upper().replace(b"\3", b"\3") + b"\0\1\0\1"))
    assert isinstance(read, Query)
    assert (read.name, read.rdtype, read.rdclass) == (NAME, 1, 1)
    assert (read.rd, read.cd, read.do, read.edns, read.plain) == (
        True, False, False, False, True,
    )  # fmt: skip
    assert read.limit(Over.UDP) == 512
    assert read.limit(Over.TCP) == 65_535


@pytest.mark.parametrize(
    ("payload", "limit"), [(0, 512), (511, 512), (600, 600), (1232, 1232), (4096, 1232)]
)
def test_a_datagram_is_as_large_as_the_client_takes_and_at_most_1232(payload, limit):
    """RFC 6891 section 6.2.3: below 512 is 512; RFC 9715: not above what is safe."""
    read = read_query(query(payload=payload).to_wire())
    assert read.limit(Over.UDP) == limit


def test_options_are_read():
    options = [
        dns.edns.GenericOption(12, bytes(20)),
        dns.edns.GenericOption(11, b""),
        dns.edns.GenericOption(10, b"12345678"),
    ]
    read = read_query(query(options=options, want_dnssec=True).to_wire())
    assert (read.padding, read.keepalive, read.plain, read.do) == (
        True, True, False, True,
    )  # fmt: skip


# --- silence -------------------------------------------------------------------------


@pytest.mark.parametrize("size", range(12))
def test_what_has_no_header_is_not_answered(size):
    assert read_query(raw()[:size]) is None


def test_a_response_is_not_answered():
    """Or two servers would answer each other for ever."""
    assert read_query(raw(flags=0x8180)) is None


# --- refusals ------------------------------------------------------------------------


@pytest.mark.parametrize("opcode", [1, 2, 3, 4, 5, 6, 15])
def test_an_unknown_opcode_is_not_implemented(opcode):
    """RFC 8906 section 3.1.4."""
    reply = refusal(raw(flags=0x0100 | opcode << 11))
    assert reply.rcode() == dns.rcode.NOTIMP
    assert reply.opcode() == opcode
    assert reply.id == 0x1234


@pytest.mark.parametrize("count", [0, 2, 65_535])
def test_there_is_one_question(count):
    """RFC 9619 section 4."""
    assert rcode(raw(A * min(count, 2), counts=(count, 0, 0, 0))) == "FORMERR"


@pytest.mark.parametrize(
    ("body", "counts"),
    [
        (A[:-1], (1, 0, 0, 0)),
        (A + b"\0", (1, 0, 0, 0)),
        (b"\xc0\x0c\0\1\0\1", (1, 0, 0, 0)),
        (b"\x40" + bytes(70), (1, 0, 0, 0)),
        ((b"\x3f" + b"a" * 63) * 4 + b"\0\0\1\0\1", (1, 0, 0, 0)),
        (A + OPT + OPT, (1, 0, 0, 2)),
        (A + b"\1a" + OPT, (1, 0, 0, 1)),
        (A + OPT[:-1], (1, 0, 0, 1)),
        (A + OPT[:-2] + b"\0\4\0\x0c\0\1", (1, 0, 0, 1)),
        (A + NAME + b"\0\1\0\1\0\0\0\0\0\0", (1, 1, 0, 0)),
        (A + NAME + b"\0\1\0\1\0\0\0\0\0\0", (1, 0, 1, 0)),
        (NAME + b"\0\x29\0\1", (1, 0, 0, 0)),
    ],
    ids=[
        "short", "rest", "pointer", "label", "long name", "two OPT", "OPT not at root",
        "cut OPT", "cut option", "an answer", "an authority", "OPT asked for",
    ],
)  # fmt: skip
def test_what_is_malformed_is_told_so(body, counts):
    """RFC 1035 section 4.1.1, RFC 6891 section 6.1.1."""
    assert rcode(raw(body, counts=counts)) == "FORMERR"


@pytest.mark.parametrize("version", [1, 100, 255])
def test_another_version_of_edns_is_not_spoken(version):
    """RFC 6891 section 6.1.3."""
    reply = refusal(query(edns=version).to_wire())
    assert (reply.rcode(), reply.edns) == (dns.rcode.BADVERS, 0)


@pytest.mark.parametrize("rdtype", ["AXFR", "IXFR", "MAILB", "TKEY", "TSIG"])
def test_zones_are_not_transferred(rdtype):
    assert rcode(query(rdtype=rdtype).to_wire()) == "REFUSED"


@pytest.mark.parametrize("rdclass", ["CH", "HS", "NONE", "ANY"])
def test_no_class_but_in_is_answered(rdclass):
    """version.bind, in CHAOS, is nobody's business."""
    message = dns.message.make_query("version.bind", "TXT", rdclass)
    assert rcode(message.to_wire()) == "REFUSED"


def test_a_refusal_has_what_the_client_sent():
    reply = refusal(query("VeRsion.bind", "AXFR", flags="RD CD").to_wire())
    assert reply.question[0].name.to_text() == "VeRsion.bind."
    assert dns.flags.to_text(reply.flags) == "QR RD RA CD"
    assert (reply.edns, reply.payload) == (0, 1232)


def test_a_refusal_without_opt_for_a_query_without():
    """RFC 6891 section 6.1.1."""
    assert refusal(query(rdtype="AXFR", edns=False).to_wire()).edns == -1


# --- signatures ----------------------------------------------------------------------

SECRET = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IQ=="


def signed(name=WWW, key="key.example.net.", **options):
    message = query(name, **options)
    message.use_tsig(dns.tsigkeyring.from_text({key: SECRET}))
    return message


def body_of(message):
    """What follows the header of a signed query, without its TSIG, and that."""
    wire = message.to_wire()
    unsigned = dns.message.from_wire(wire, keyring=False)
    unsigned.tsig = None
    end = len(unsigned.to_wire())
    return wire[12:end], wire[end:]


@pytest.mark.parametrize("edns", [0, False])
def test_a_signed_query_is_told_that_its_key_is_not_known(edns):
    """RFC 8945 section 5.2.1: NOTAUTH, BADKEY, and the reply is not signed."""
    message = signed(edns=edns)
    read = read_query(message.to_wire())
    reply = dns.message.from_wire(read, keyring=False)
    assert dns.rcode.to_text(reply.rcode()) == "NOTAUTH"
    assert (reply.question, reply.edns) == (
        message.question,
        -1 if edns is False else 0,
    )
    ours, theirs = reply.tsig[0], message.tsig[0]
    assert reply.tsig.name == message.tsig.name
    assert (ours.error, ours.mac, ours.other) == (dns.rcode.BADKEY, b"", b"")
    assert ours.original_id == message.id
    assert (ours.algorithm, ours.time_signed, ours.fudge) == (
        theirs.algorithm, theirs.time_signed, theirs.fudge,
    )  # fmt: skip
    with pytest.raises(dns.tsig.PeerBadKey):  # what a client makes of it
        dns.message.from_wire(read, keyring=message.keyring, request_mac=message.mac)


@pytest.mark.parametrize(
    ("pointer", "key"),
    [(b"\xc0\x0c", WWW), (b"\3key\xc0\x10", f"key.{WWW[4:]}"), (b"\xc0\x1c", ".")],
)
def test_the_name_of_a_key_may_point_into_the_question(pointer, key):
    body, tsig = body_of(signed(key="key.", edns=False))
    data = raw(body + pointer + tsig[5:], counts=(1, 0, 0, 1))
    reply = dns.message.from_wire(read_query(data), keyring=False)
    assert reply.tsig.name == dns.name.from_text(key)


@pytest.mark.parametrize(
    "change",
    [
        lambda tsig: tsig + tsig,
        lambda tsig: tsig + OPT,
        lambda tsig: tsig[:-1],
        lambda tsig: tsig + b"\0",
        lambda tsig: b"\xc0\x0d" + tsig[5:],  # into the midst of a label
        lambda tsig: b"\xc0\x00" + tsig[5:],  # the header
        lambda tsig: b"\xc0\x1d" + tsig[5:],  # behind the question's name
        lambda tsig: b"\x80\x0c" + tsig[5:],
        lambda tsig: tsig[:7] + b"\0\1" + tsig[9:],  # class IN
        lambda tsig: tsig[:9] + b"\0\0\0\1" + tsig[13:],  # a TTL
        lambda tsig: tsig[:-6] + b"\0\0\0\0\0\1",  # other data that is not there
    ],
)
def test_a_signature_that_is_none_is_malformed(change):
    """RFC 8945 sections 4.2 and 5.1."""
    body, tsig = body_of(signed(key="key.", edns=False))
    data = body + change(tsig)
    for count in (1, 2):
        assert rcode(raw(data, counts=(1, 0, 0, count))) == "FORMERR"


def test_nothing_is_said_to_follow_a_signature():
    body, tsig = body_of(signed(edns=False))
    assert rcode(raw(body + tsig, counts=(1, 0, 0, 1))) == "NOTAUTH"
    assert rcode(raw(body + tsig, counts=(1, 0, 0, 2))) == "FORMERR"


# --- any bytes -----------------------------------------------------------------------


def check_any(data):
    read = read_query(data)
    if isinstance(read, bytes):
        reply = dns.message.from_wire(read, keyring=False)
        assert (reply.id, reply.flags & dns.flags.QR) == (
            int.from_bytes(data[:2], "big"), dns.flags.QR,
        )  # fmt: skip
        assert not reply.answer
        assert len(read) <= len(data) + 60
    elif isinstance(read, Query):
        parsed = dns.message.from_wire(
            data, ignore_trailing=False, continue_on_error=True
        )
        (asked,) = parsed.question
        assert read.rdtype == asked.rdtype
        assert read.name == asked.name.to_wire().lower()
    else:
        assert len(data) < 12 or data[2] & 0x80


@given(st.binary(max_size=600))
def test_any_bytes_are_a_query_a_refusal_or_silence(data):
    check_any(data)


@given(
    flags=st.integers(0, 0x7FFF),
    counts=st.tuples(*[st.integers(0, 2)] * 4),
    body=st.lists(
        st.sampled_from(
            [
                A,
                OPT,
                NAME,
                b"\0",
                b"\xc0\x0c",
                OPT[:-2] + b"\0\4\0\x0c\0\0",
                TSIG,
                b"\xc0\x10" + TSIG[5:],
            ]
        )
        | st.binary(max_size=12),
        max_size=4,
    ),
)
def test_nearly_right_messages_are_a_query_a_refusal_or_silence(flags, counts, body):
    check_any(raw(b"".join(body), flags=flags, counts=counts))


@given(st.data())
def test_a_query_that_was_changed_anywhere_is_one_or_refused(data):
    wire = bytearray(query(options=[dns.edns.GenericOption(12, bytes(9))]).to_wire())
    for _ in range(data.draw(st.integers(1, 3))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    check_any(bytes(wire))
