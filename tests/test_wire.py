"""wire: what is sent parses, what is accepted dnspython reads alike, bytes never crash.

dnspython is the reference: messages are generated with it, and what `read_reply` says
of them must be what dnspython's own parse says, apart from the caps that are ours.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from unittest import mock

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.tsig
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from resolverkit import wire
from resolverkit.answer import Answer
from resolverkit.entry import Entry
from resolverkit.errors import BadReply
from resolverkit.memory import Memory
from resolverkit.model import Kind, Source, plain_reply
from resolverkit.policy import StalePolicy

NAMES = [
    "a.example.", "b.example.", "www.a.example.", "c.d.example.", "e.test.", "f.test.",
    "g.h.i.j.example.", "k.", "l.example.", "m.example.", "n.example.", "o.example.",
    "p.example.", r"q\.r.example.", r"\000\255.example.", "xn--bcher-kva.example.",
    "_443._tcp.s.example.",
]  # fmt: skip
TTLS = [0, 1, 60, 300, 301, 604_799, 604_800, 604_801, 2**31 - 1, 2**31, 2**32 - 1]

# Every type that dnspython has a class for, and one that it has none for.
RDATA = {
    "A": ["192.0.2.1", "192.0.2.2"],
    "AAAA": ["2001:db8::1", "2001:db8::2"],
    "AFSDB": ["0 afs.example."],
    "AMTRELAY": ["10 0 1 203.0.113.15", "10 1 3 relay.example."],
    "APL": ["1:192.168.32.0/21 !1:192.168.38.0/28 2:ff00::/8"],
    "AVC": ['"app-name:WOLFGANG|app-class:OAM"'],
    "BRID": ["aGVsbG8="],
    "CAA": ['0 issue "ca.example"'],
    "CDNSKEY": ["257 3 13 aGVsbG8="],
    "CDS": ["12345 13 2 " + "ab" * 32],
    "CERT": ["PKIX 1 RSASHA256 aGVsbG8="],
    "CNAME": ["target.example."],
    "CSYNC": ["66 3 A NS AAAA"],
    "DHCID": ["AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA="],
    "DLV": ["12345 13 2 " + "cd" * 32],
    "DNAME": ["other.example."],
    "DNSKEY": ["256 3 13 aGVsbG8="],
    "DS": ["12345 13 2 " + "ef" * 32],
    "DSYNC": ["CDS NOTIFY 5359 scanner.example."],
    "EUI48": ["00-00-5e-00-53-2a"],
    "EUI64": ["00-00-5e-ef-10-00-00-2a"],
    "GPOS": ["-32.6882 116.8652 10.0"],
    "HHIT": ["aGVsbG8="],
    "HINFO": ['"Generic PC" "NetBSD-1.4"'],
    "HIP": ["2 200100107B1A74DF365639CC39F1D578 AwEAAbdxyhNuSutc5EMzxTs9"],
    "HTTPS": ["1 . alpn=h2,h3 port=443 ipv4hint=192.0.2.1", "0 alias.example."],
    "IPSECKEY": ["10 1 2 192.0.2.38 aGVsbG8="],
    "ISDN": ['"150862028003217" "004"'],
    "KEY": ["512 255 1 aGVsbG8="],
    "KX": ["10 kx.example."],
    "L32": ["10 10.1.2.0"],
    "L64": ["10 2001:0db8:1140:1000"],
    "LOC": ["60 9 0.000 N 24 39 0.000 E 10.00m 20.00m 2000.00m 20.00m"],
    "LP": ["10 l64-subnet.example."],
    "MX": ["10 mail.example.", "0 ."],
    "NAPTR": ['0 0 "u" "E2U+sip" "!^.*$!sip:a@example!" .'],
    "NID": ["10 0014:4fff:ff20:ee64"],
    "NINFO": ['"foo"'],
    "NS": ["ns1.example.", "ns2.test."],
    "NSAP": ["0x47000580005a0000000001e133ffffff00016100"],
    "NSAP-PTR": ["host.example."],
    "NSEC": ["b.example. A MX RRSIG NSEC TYPE1234"],
    "NSEC3": ["1 1 12 aabbccdd 2t7b4g4vsa5smi47k61mv5bv1a22bojr MX A RRSIG"],
    "NSEC3PARAM": ["1 0 10 aabbccdd"],
    "OPENPGPKEY": ["aGVsbG8="],
    "PTR": ["host.example."],
    "PX": ["10 map822.example. mapx400.example."],
    "RESINFO": ['"qnamemin" "exterr=15-17"'],
    "RP": ["admin.example. txt.example."],
    "RRSIG": ["A 13 3 300 20300101000000 20200101000000 12345 example. aGVsbG8="],
    "RT": ["10 relay.example."],
    "SIG": ["A 13 3 300 20300101000000 20200101000000 12345 example. aGVsbG8="],
    "SMIMEA": ["3 1 1 " + "ab" * 32],
    "SOA": ["ns.example. admin.example. 1 7200 900 1209600 86400"],
    "SPF": ['"v=spf1 -all"'],
    "SRV": ["0 1 443 host.example."],
    "SSHFP": ["4 2 " + "ab" * 32],
    "SVCB": ["1 svc.example. alpn=dot", "0 alias.example."],
    "TLSA": ["3 1 1 " + "ab" * 32],
    "TXT": ['"one" "two"', r'"\000\255"', '"' + "x" * 255 + '"'],
    "URI": ['10 1 "ftp://ftp.example/public"'],
    "WALLET": ['"BTC" "1234"'],
    "WKS": ["192.0.2.1 6 25 80"],
    "X25": ['"311061700956"'],
    "ZONEMD": ["2018031900 1 1 " + "ab" * 48],
    "TYPE65400": [r"\# 4 0a000001", r"\# 0"],
}
TYPES = sorted(RDATA)
DATA = [t for t in TYPES if t not in {"RRSIG", "SIG"}]  # dnspython finds none of these


def ask(name: str = "a.example.", rdtype: str = "A", rdclass: int = 1, **options):
    rdtype = dns.rdatatype.from_text(rdtype)
    return wire.make_question(wire.text_to_wire(name), rdtype, rdclass, **options)


def rr(owner: str, ttl: int, rdtype: str, text: str, rdclass: str = "IN"):
    """One record as an RRset; a TTL above 2^31 - 1 is fine here."""
    found = dns.rrset.from_text(dns.name.from_text(owner), 0, rdclass, rdtype, text)
    found.ttl = ttl
    return found


def message(question, answer=(), authority=(), additional=(), *, rcode=0, options=None):
    """A reply in wire format; `options` None sends no OPT."""
    made = dns.message.QueryMessage(id=0)
    made.flags = dns.flags.QR | dns.flags.RD | dns.flags.RA
    asked = dns.rrset.RRset(question.name, question.rdclass, question.rdtype)
    made.question = [asked]
    made.answer, made.authority = list(answer), list(authority)
    made.additional = list(additional)
    if options is not None or rcode > 15:
        made.use_edns(0, payload=1232, options=options or [])
    made.set_rcode(rcode)
    return made.to_wire(max_size=65_535)


def read(question, *args, **options):
    return wire.read_reply(question, message(question, *args, **options))


def soa(owner="example.", ttl=3600, minimum=60):
    return rr(owner, ttl, "SOA", f"ns.example. admin.example. 1 2 3 4 {minimum}")


def read_all(question, reply):
    """Read all that an Answer has; nothing of it may raise."""
    memory = Memory(lambda: 1.0, StalePolicy())
    answer = Answer(Entry(question, reply, 0.0), Source.UPSTREAM, memory)
    for attr in (
        "qname", "rdtype", "rdclass", "rrset", "canonical_name", "response",
        "chaining_result", "expiration", "nameserver", "port", "path",
    ):  # fmt: skip
        getattr(answer, attr)
    assert list(answer) == list(answer.rrset or ())
    assert repr(answer)
    assert answer.response.to_text()
    assert answer.path.to_dict()
    assert "\n" not in str(answer.path)
    assert (answer.rrset is not None) == (
        reply.kind is Kind.DATA or (reply.kind > Kind.NXDOMAIN and bool(answer.rrset))
    )
    return answer


# --- names ---------------------------------------------------------------------------

TEXTS = st.one_of(
    st.text(max_size=30),
    st.text("abcXYZ019-_.\\@é", max_size=300),
    st.from_regex(r"([A-Za-z0-9_-]{1,63}\.){0,6}[A-Z0-9_-]{0,64}\.?", fullmatch=True),
    st.lists(
        st.one_of(
            st.text("aZ0-", min_size=1, max_size=64),
            st.text(st.characters(categories=["L"]), min_size=1, max_size=12),
            st.integers(0, 300).map(lambda n: f"\\{n:03}"),
        ),
        max_size=30,
    ).map(".".join),
)


@settings(max_examples=150)
@given(TEXTS)
@example("")
@example(".")
@example("@")
@example("a..b")
@example("a" * 64)
@example(".".join(["a" * 63] * 3 + ["a" * 61]))
@example(".".join(["a" * 63] * 3 + ["a" * 61]) + ".")
@example(".".join(["a" * 63] * 3 + ["a" * 62]))
@example("bücher.example")
@example("xn--a")
@example("www.example.com\n")
def test_text_to_wire_is_dnspython_s(text):
    try:
        expected = dns.name.from_text(text).to_wire().lower()
    except Exception as error:  # noqa: BLE001 - whatever it is, ours is the same
        with pytest.raises(type(error)):
            wire.text_to_wire(text)
    else:
        assert wire.text_to_wire(text) == expected


@pytest.mark.parametrize(
    ("name", "zone", "below"),
    [
        ("a.example", "example", True),
        ("example", "example", True),
        ("example", "a.example", False),
        ("example", ".", True),
        (".", ".", True),
        ("aexample", "example", False),
        (r"a\007example", "example", False),
    ],
)
def test_is_below(name, zone, below):
    name, zone = wire.text_to_wire(name), wire.text_to_wire(zone)
    assert wire.is_below(name, zone) is below


def test_the_root_is_its_own_parent():
    name = wire.text_to_wire("www.example")
    assert wire.parent(name) == wire.text_to_wire("example")
    assert wire.parent(wire.parent(name)) == b"\0"
    assert wire.parent(b"\0") == b"\0"


# --- queries -------------------------------------------------------------------------

QUESTIONS = st.builds(
    ask,
    st.sampled_from(NAMES),
    st.sampled_from(TYPES),
    st.sampled_from([1, 3, 4, 254, 255, 4096]),
    dnssec_ok=st.booleans(),
    checking_disabled=st.booleans(),
    view=st.binary(max_size=4),
)


@given(QUESTIONS)
def test_what_is_sent_is_what_dnspython_reads(question):
    do, cd = bool(question.wire[-4] & 0x80), bool(question.wire[3] & 0x10)
    padded, bare = wire.padded(question), wire.without_edns(question)
    assert len(padded) % wire.PADDING_BLOCK == 0
    assert padded[: question.end] == question.wire[: question.end]
    for data in (question.wire, padded, bare):
        query = dns.message.from_wire(data)
        assert query.id == 0
        assert query.opcode() == 0
        asked_for = dns.flags.RD | dns.flags.AD  # RFC 6840 section 5.7
        assert query.flags == asked_for | (dns.flags.CD if cd else 0)
        (asked,) = query.question
        assert asked.name == question.name
        assert asked.name.to_wire() == question.wire_name
        assert (asked.rdtype, asked.rdclass) == (question.rdtype, question.rdclass)
        if data is bare:
            assert query.edns == -1
            continue
        assert (query.edns, query.payload) == (0, 1232)
        assert query.ednsflags == (dns.flags.DO if do else 0)
        kinds = [option.otype for option in query.options]
        assert kinds == ([dns.edns.OptionType.PADDING] if data is padded else [])
    assert wire.may_drop_edns(question) is not do


def test_the_key_tells_apart_what_changes_the_answer():
    questions = [
        ask(), ask("b.example."), ask(rdtype="AAAA"), ask(rdclass=3),
        ask(dnssec_ok=True), ask(checking_disabled=True),
        ask(dnssec_ok=True, checking_disabled=True), ask(view=b"v"),
    ]  # fmt: skip
    assert len({q.key for q in questions}) == len(questions)
    assert ask("A.eXample.").key == ask().key
    assert str(ask("A.eXample")) == "a.example. A"


def test_a_query_of_the_caller_s_own_keeps_its_options_and_is_not_padded():
    query = dns.message.make_query(
        "A.Example.", "MX", options=[dns.edns.ECSOption("192.0.2.0", 24)]
    )
    question = wire.custom_question(query, b"view")
    assert not question.cacheable
    assert question.key != ask(rdtype="MX", view=b"view").key
    assert not wire.may_drop_edns(question)
    assert wire.padded(question) == question.wire
    again = dns.message.from_wire(question.wire)
    assert again.id == 0
    assert again.options == query.options
    assert question.wire_name == wire.text_to_wire("a.example")


def test_a_query_has_exactly_one_question_and_id_0():
    """RFC 9619 section 4; transports other than DoH put an id of their own there."""
    own = dns.message.make_query("a.example.", "A", use_edns=0, options=[])
    for question in (ask(), ask(dnssec_ok=True), wire.custom_question(own)):
        for data in (
            question.wire,
            wire.padded(question),
            wire.without_edns(question),
        ):
            assert data[:2] == b"\0\0"
            assert data[4:6] == b"\0\1"
            assert len(dns.message.from_wire(data).question) == 1


def test_rd_0_is_kept():
    query = dns.message.make_query("a.example.", "A", flags=0)
    question = wire.custom_question(query)
    assert dns.message.from_wire(question.wire).flags == 0
    assert not question.cacheable


KEY = dns.tsig.Key("key.example.", "aGVsbG8gd29ybGQgaGVsbG8gd29ybGQ=")


def signed(key=KEY):
    """A signed question, and a reply to it, signed or (`key` None) not."""
    query = dns.message.make_query("a.example.", "A")
    query.use_tsig({KEY.name: KEY})
    question = wire.custom_question(query)
    data = message(question, [rr("a.example.", 60, "A", "192.0.2.1")])
    if key:
        reply = dns.message.from_wire(data)
        reply.use_tsig(key)
        reply.request_mac = query.mac
        data = reply.to_wire()
    return question, data


def test_a_signed_query_takes_only_a_signed_reply():
    question, data = signed()
    reply = wire.read_reply(question, data)
    assert reply.kind is Kind.DATA
    assert reply.message.had_tsig
    assert read_all(question, reply)[0].address == "192.0.2.1"
    question, data = signed(None)
    with pytest.raises(BadReply, match="TSIG"):
        wire.read_reply(question, data)
    question, data = signed(dns.tsig.Key(KEY.name, b"another"))
    with pytest.raises(BadReply):
        wire.read_reply(question, data)


# --- replies: what dnspython says of them --------------------------------------------


def test_the_table_has_every_type_that_dnspython_has_a_class_for():
    classes = {
        dns.rdatatype.to_text(t)
        for t in dns.rdatatype.RdataType
        if dns.rdata.get_rdata_class(1, t) is not dns.rdata.GenericRdata
    }
    # What is never data: pseudo-records.
    assert classes - {"OPT", "TKEY", "TSIG"} == set(RDATA) - {"TYPE65400"}


@pytest.mark.parametrize("rdtype", TYPES)
def test_every_type_is_read(rdtype):
    question = ask("a.example.", rdtype)
    answer = [rr("a.example.", 60, rdtype, text) for text in RDATA[rdtype]]
    reply = read(question, answer)
    got = read_all(question, reply)
    if rdtype in {"RRSIG", "SIG"}:  # dnspython has them by the type they cover only
        assert reply.kind is Kind.NODATA
        return
    assert (reply.kind, reply.ttl, reply.final) == (Kind.DATA, 60, question.wire_name)
    expected = dns.rrset.from_text_list("a.example.", 60, "IN", rdtype, RDATA[rdtype])
    assert got.rrset == expected


def mangle(data: st.DataObject, text: str) -> str:
    """The name with some letters in upper case."""
    upper = data.draw(st.integers(0, 7))
    return "".join(c.upper() if upper >> i % 3 & 1 else c for i, c in enumerate(text))


OPTIONS = st.none() | st.lists(
    st.one_of(
        st.builds(
            dns.edns.EDEOption,
            st.integers(0, 65_535),
            st.none() | st.text(max_size=8).filter(lambda t: t.strip("\0")),
        ),
        st.builds(
            dns.edns.GenericOption,
            st.just(12) | st.integers(65_001, 65_534),  # padding; local use
            st.binary(max_size=8),
        ),
        st.just(dns.edns.NSIDOption(b"ns1")),
        st.just(dns.edns.ECSOption("192.0.2.0", 24, 0)),
        st.just(dns.edns.CookieOption(b"12345678", b"87654321")),
    ),
    max_size=3,
)


@st.composite
def messages(draw):
    """A question and the sections of a reply to it, as dnspython RRsets."""
    data = draw(st.data())
    names = draw(st.permutations(NAMES))
    links = draw(st.integers(0, 4) | st.integers(0, 13))
    rdtype = draw(st.sampled_from([*["A", "AAAA", "CNAME"] * 20, *DATA]))
    question = ask(names[0], rdtype)
    ttl = st.sampled_from(TTLS) | st.integers(0, 2**32 - 1)
    answer = [
        rr(mangle(data, owner), draw(ttl), "CNAME", mangle(data, target))
        for owner, target in pairwise(names[: links + 1])
    ]
    texts = st.sampled_from(RDATA[rdtype])
    if draw(st.booleans()):
        answer += [
            rr(mangle(data, names[links]), draw(ttl), rdtype, draw(texts))
            for _ in range(draw(st.integers(1, 3)))
        ]
    for _ in range(draw(st.integers(0, 3))):  # off the chain, or of another type
        other = draw(st.sampled_from(["A", "NS", "PTR", "TXT", "MX"]))
        rdclass = draw(st.sampled_from(["IN", "IN", "CH"]))
        if rdclass == "IN" or other not in {"A", "MX"}:
            owner = draw(st.sampled_from(names))
            text = draw(st.sampled_from(RDATA[other]))
            answer.append(rr(owner, draw(ttl), other, text, rdclass))
    if draw(st.integers(0, 9)) == 9:  # loops and more
        owner, target = draw(st.sampled_from(names)), draw(st.sampled_from(names))
        answer.append(rr(owner, draw(ttl), "CNAME", target))
    authority = []
    if draw(st.booleans()):
        zone = draw(st.sampled_from(["example.", "TEST.", ".", names[links]]))
        authority.append(soa(zone, draw(ttl), draw(ttl)))
    if draw(st.booleans()):
        authority.append(rr("example.", draw(ttl), "NS", "ns.example."))
    additional = []
    if draw(st.booleans()):
        additional.append(rr("ns.example.", draw(ttl), "A", "192.0.2.53"))
    sections = (draw(st.permutations(answer)), authority, additional)
    return question, sections, draw(st.sampled_from([0, 0, 0, 3, 3, 2, 5, 6, 16, 23]))


def capped(sections):
    """The same with TTLs cut to 7 days, since dnspython takes 2^31 and more for 0."""
    copies = [[rrset.copy() for rrset in section] for section in sections]
    for section in copies:
        for rrset in section:
            rrset.ttl = min(rrset.ttl, wire.MAX_TTL)
    return copies


@settings(max_examples=150)
@given(messages(), OPTIONS)
def test_a_reply_is_read_as_dnspython_reads_it(case, options):
    question, sections, rcode = case
    data = message(question, *sections, rcode=rcode, options=options)
    reference = dns.message.from_wire(
        message(question, *capped(sections), rcode=rcode, options=options)
    )
    try:
        chain = reference.resolve_chaining()
    except dns.exception.DNSException:
        chain = None
    if chain is None or len(chain.cnames) > wire.MAX_CHAIN:
        with pytest.raises(BadReply):
            wire.read_reply(question, data)
        return
    reply = wire.read_reply(question, data)
    assert reply.wire == data
    assert reply.rcode == rcode == reference.rcode()
    assert reply.final == chain.canonical_name.to_wire().lower()
    assert reply.ede == tuple(
        (int(o.code), o.text or "") for o in reference.options if o.otype == 15
    )
    zone = chain.canonical_name
    signed_off = any(
        zone.is_subdomain(s.name) for s in reference.authority if s.rdtype == 6
    )
    if rcode not in {0, 3}:
        expected = Kind.YXDOMAIN if rcode == 6 else Kind.FAILURE
        ttl = 0
    elif chain.answer is not None:
        expected, ttl = Kind.DATA, chain.minimum_ttl
    else:
        expected = Kind.NXDOMAIN if rcode == 3 else Kind.NODATA
        ttl = min(chain.minimum_ttl, wire.MAX_NEGATIVE_TTL) if signed_off else 0
        assert reply.soa is signed_off
        assert reply.denial
    assert (reply.kind, reply.ttl) == (expected, ttl)
    assert reply.ra
    assert not reply.ad
    answer = read_all(question, reply)
    assert answer.canonical_name == chain.canonical_name
    if chain.answer is not None:
        assert list(answer.rrset) == list(chain.answer)
        assert answer.rrset == answer.chaining_result.answer
        assert answer.ttl == answer.chaining_result.answer.ttl


@pytest.mark.parametrize("rdclass", ["CH", "HS", "CLASS4096"])
def test_other_classes_are_left_to_dnspython(rdclass):
    number = dns.rdataclass.from_text(rdclass)
    question = ask("version.bind.", "TXT", number)
    data = rr("version.bind.", 7, "TXT", '"9.20"', rdclass)
    reply = read(question, [data])
    assert (reply.kind, reply.ttl) == (Kind.DATA, 7)
    assert read_all(question, reply).rrset == data
    alias = [
        rr("b.example.", 7, "TXT", '"9.20"', rdclass),
        rr("version.bind.", 5, "CNAME", "B.example.", rdclass),
    ]
    reply = read(question, alias)
    assert (reply.kind, reply.ttl) == (Kind.DATA, 5)
    assert reply.final == wire.text_to_wire("b.example")
    # A record of another class answers nothing.
    assert read(question, [rr("version.bind.", 7, "TXT", '"x"')]).kind is Kind.NODATA
    assert read(ask("version.bind.", "TXT"), [data]).kind is Kind.NODATA


# --- replies: the rules --------------------------------------------------------------


@pytest.mark.parametrize(
    ("ttl", "expected"),
    [(0, 0), (604_801, 604_800), (2**31, 604_800), (2**32 - 1, 604_800)],
)
def test_a_ttl_above_seven_days_is_seven_days_top_bit_or_not(ttl, expected):
    """RFC 8767 section 4."""
    assert read(ask(), [rr("a.example.", ttl, "A", "192.0.2.1")]).ttl == expected


@pytest.mark.parametrize(
    ("ttl", "minimum", "expected"),
    [(3600, 60, 60), (60, 3600, 60), (3600, 3600, 300), (2**31, 2**31, 300), (0, 9, 0)],
)
@pytest.mark.parametrize("rcode", [0, 3])
def test_a_denial_is_believed_for_min_of_soa_ttl_and_minimum(
    rcode, ttl, minimum, expected
):
    """RFC 2308 section 5, capped at 300 s."""
    reply = read(ask(), [], [soa(ttl=ttl, minimum=minimum)], rcode=rcode)
    assert reply.kind is (Kind.NXDOMAIN if rcode else Kind.NODATA)
    assert (reply.soa, reply.ttl) == (True, expected)


@pytest.mark.parametrize("authority", [[], [soa("test.")], [soa("www.a.example.")]])
def test_a_denial_without_an_soa_of_the_zone_has_no_ttl(authority):
    reply = read(ask(), [], authority, rcode=3)
    assert (reply.kind, reply.soa, reply.ttl) == (Kind.NXDOMAIN, False, 0)


def test_the_soa_must_be_of_the_zone_at_the_end_of_the_chain():
    alias = rr("a.example.", 30, "CNAME", "b.test.")
    assert not read(ask(), [alias], [soa("example.")], rcode=3).soa
    reply = read(ask(), [alias], [soa("test.")], rcode=3)
    assert (reply.soa, reply.ttl, reply.final) == (True, 30, b"\1b\4test\0")


def test_an_soa_that_is_not_in_the_authority_section_is_no_proof():
    assert not read(ask(), [soa()], []).soa
    assert not read(ask(), [], [], [soa()]).soa


def chain(links, data=True):
    """Aliases n0 → n1 → …, last first, as one large resolver had it on 2026-01-08."""
    found = [
        rr(f"n{i}.example.", 100 - i, "CNAME", f"n{i + 1}.example.")
        for i in range(links)
    ]
    if data:
        found.append(rr(f"n{links}.example.", 300, "A", "192.0.2.1"))
    return found[::-1]


def test_a_chain_of_eleven_links_passes_in_any_order():
    """A graph and not a list (RFC 1034 section 3.6.2 promises no order)."""
    reply = read(ask("n0.example."), chain(11))
    assert (reply.kind, reply.ttl) == (Kind.DATA, 90)
    assert reply.final == wire.text_to_wire("n11.example")
    assert read(ask("n0.example."), chain(11, data=False)).kind is Kind.NODATA


@pytest.mark.parametrize("data", [True, False])
def test_a_chain_of_twelve_links_is_refused(data):
    with pytest.raises(BadReply, match="11 links"):
        read(ask("n0.example."), chain(12, data))


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("rcode", [0, 2, 3])
def test_a_cname_loop_is_refused(length, rcode):
    names = [f"n{i}.example." for i in range(length)]
    loop = [
        rr(owner, 60, "CNAME", names[(i + 1) % length]) for i, owner in enumerate(names)
    ]
    with pytest.raises(BadReply, match="loop"):
        read(ask("n0.example."), loop, rcode=rcode)


def test_records_off_the_chain_are_ignored():
    reply = read(ask(), [rr("b.example.", 1, "A", "192.0.2.66")], [soa()])
    assert (reply.kind, reply.ttl) == (Kind.NODATA, 60)
    mixed = [rr("b.example.", 1, "CNAME", "b.example."), *chain(2)]
    reply = read(ask("n0.example."), mixed)
    assert (reply.kind, reply.ttl) == (Kind.DATA, 99)


@pytest.mark.parametrize(
    ("ttls", "expected"), [((70, 50, 60), 50), ((70, 2**31, 60), 0), ((9,), 9)]
)
def test_the_ttl_of_addresses_is_the_least_as_dnspython_has_it(ttls, expected):
    records = [rr("A.example.", ttl, "A", f"192.0.2.{i}") for i, ttl in enumerate(ttls)]
    noise = [rr("b.example.", 1, "A", "192.0.2.66"), rr("a.example.", 2, "TXT", '"x"')]
    reply = read(ask(), [*records, noise[0]])
    found = wire.addresses(ask().wire_name, 1, reply.final, reply.wire)
    assert found == (expected, [bytes([192, 0, 2, i]) for i in range(len(ttls))])
    answer = read_all(ask(), reply)
    assert answer.ttl == answer.chaining_result.answer.ttl == expected
    assert read_all(ask(), read(ask(), [*noise, *records])).ttl == expected


def test_nxdomain_with_an_answer_is_refused():
    with pytest.raises(BadReply, match="NXDOMAIN with an answer"):
        read(ask(), [rr("a.example.", 60, "A", "192.0.2.1")], rcode=3)
    with pytest.raises(BadReply):
        read(ask(rdtype="TXT"), [rr("a.example.", 60, "TXT", '"x"')], rcode=3)


def test_several_ede_options_are_kept_in_order():
    """RFC 8914 section 3."""
    options = [
        dns.edns.EDEOption(22, "no reachable authority"),
        dns.edns.EDEOption(23),
        dns.edns.EDEOption(65_535, "ünknown"),
    ]
    reply = read(ask(), rcode=2, options=options)
    assert reply.ede == ((22, "no reachable authority"), (23, ""), (65_535, "ünknown"))
    assert reply.kind is Kind.FAILURE


def ede(*octets: bytes) -> bytes:
    """A SERVFAIL with an OPT that has these EDE options."""
    rdata = b"".join(struct.pack("!HH", 15, len(o)) + o for o in octets)
    return raw(ask(), additional=[opt(rdata)], rcode=2)


def test_ede_text_may_end_with_a_nul():
    reply = wire.read_reply(ask(), ede(b"\0\x16text\0", b"\0\x03"))
    assert reply.ede == ((22, "text"), (3, ""))


@pytest.mark.parametrize("octets", [b"", b"\0", b"\0\x16\xff\xfe"])
def test_a_broken_ede_option_is_refused(octets):
    with pytest.raises(BadReply):
        wire.read_reply(ask(), ede(octets))


def test_the_rcode_is_the_extended_one():
    """RFC 6891 section 6.1.3."""
    reply = read(ask(), rcode=16)
    assert (reply.kind, reply.rcode) == (Kind.FAILURE, dns.rcode.BADVERS)
    assert read(ask(), rcode=4095).rcode == 4095


def test_flags_are_told():
    data = bytearray(message(ask(), [rr("a.example.", 60, "A", "192.0.2.1")]))
    data[3] = 0xA0
    reply = wire.read_reply(ask(), bytes(data))
    assert (reply.ad, reply.ra) == (True, True)
    data[3] = 0
    reply = wire.read_reply(ask(), bytes(data))
    assert (reply.ad, reply.ra) == (False, False)


def test_a_question_in_another_case_is_the_same_question():
    question = ask()
    data = message(question, [rr("a.example.", 60, "A", "192.0.2.1")])
    mangled = data.replace(b"\1a\7example\0", b"\1A\7eXaMpLe\0")
    assert mangled != data
    reply = wire.read_reply(question, mangled)
    assert reply.final == question.wire_name
    assert read_all(question, reply)[0].address == "192.0.2.1"


# --- replies: what is refused --------------------------------------------------------


def record(rdtype, rdata, owner=b"\xc0\x0c", rdclass=1, ttl=60, rdlen=None):
    rdlen = len(rdata) if rdlen is None else rdlen
    return owner + struct.pack("!HHIH", rdtype, rdclass, ttl, rdlen) + rdata


def opt(rdata=b"", owner=b"\0", ttl=0):
    return record(41, rdata, owner, 1232, ttl)


def raw(
    question, answer=(), authority=(), additional=(), *, rcode=0, end=b"", counts=None
):
    """A reply made by hand, of records in wire format."""
    counts = counts or (1, len(answer), len(authority), len(additional))
    return (
        struct.pack("!HH", 0, 0x8180 | rcode)
        + struct.pack("!HHHH", *counts)
        + question.wire[12 : question.end]
        + b"".join([*answer, *authority, *additional])
        + end
    )


A = record(1, b"\xc0\0\2\1")
# After 16 octets of a record: a label, and a pointer to the octet before, which makes
# a label of the first octet here and ends with the second.
OVERLAPPING = b"\1\0" + struct.pack("!H", 0xC000 | (ask().end + 15))
SOA_RDATA = b"\0\0" + bytes(20)

REFUSED = {
    "no octet": b"",
    "a header": raw(ask())[:12],
    "a query": ask().wire,
    "truncated": raw(ask())[:2] + b"\x83" + raw(ask())[3:],
    "opcode 5": raw(ask())[:2] + b"\xa8" + raw(ask())[3:],
    "QDCOUNT 0": raw(ask(), counts=(0, 0, 0, 0)),
    "QDCOUNT 2": raw(ask(), counts=(2, 0, 0, 0), end=ask().wire[12 : ask().end]),
    "QDCOUNT 257": raw(ask(), counts=(257, 0, 0, 0)),
    "another name": raw(ask("b.example.")),
    "another type": raw(ask(rdtype="AAAA")),
    "another class": raw(ask(rdclass=3)),
    "one octet too many": raw(ask(), [A], end=b"\0"),
    "one octet missing": raw(ask(), [A])[:-1],
    "a record missing": raw(ask(), [A], counts=(1, 2, 0, 0)),
    "a record not counted": raw(ask(), [A, A], counts=(1, 1, 0, 0)),
    "A of 3 octets": raw(ask(), [record(1, b"abc")]),
    "A of 5 octets": raw(ask(), [record(1, b"abcde")]),
    "AAAA of 4 octets": raw(ask(), [record(28, b"abcd")]),
    "rdata past the end": raw(ask(), [record(1, b"abcd", rdlen=5)]),
    "CNAME of nothing": raw(ask(), [record(5, b"")]),
    "CNAME and more": raw(ask(), [record(5, b"\1b\0x")]),
    "CNAME past its rdata": raw(ask(), [record(5, b"\1b\0", rdlen=2)], end=b""),
    "SOA too short": raw(ask(), [], [record(6, SOA_RDATA[:-1])]),
    "SOA too long": raw(ask(), [], [record(6, SOA_RDATA + b"\0")]),
    "label type 01": raw(ask(), [record(1, b"abcd", b"\x41a\0")]),
    "label type 10": raw(ask(), [record(1, b"abcd", b"\x81a\0")]),
    "pointer to itself": raw(ask(), [record(1, b"abcd", b"\xc0" + bytes([ask().end]))]),
    "pointer forward": raw(ask(), [record(1, b"abcd", b"\xc0\x40"), A, A, A]),
    "pointer past the end": raw(ask(), [record(1, b"abcd", b"\xff\xff")]),
    "pointer of one octet": raw(ask(), end=b"\xc0", counts=(1, 1, 0, 0)),
    "pointer into its own name": raw(
        ask(), [record(1, b"abcd", b"\1a\1b\xc0" + bytes([ask().end]))]
    ),
    "pointer that overlaps": raw(
        ask(), [record(1, b"abcd", b"\1a\xc0" + bytes([ask().end]))]
    ),
    "label of 64 octets": raw(ask(), [record(1, b"abcd", b"\x40" + bytes(64) + b"\0")]),
    "pointer to what ends in its own name": raw(
        ask(),
        [record(1, b"abc\1"), record(1, b"abcd", OVERLAPPING)],
    ),
    "name of 256 octets": raw(
        ask(), [record(1, b"abcd", (b"\x3f" + b"a" * 63) * 3 + b"\x3e" + bytes(63))]
    ),
    "two OPTs": raw(ask(), additional=[opt(), opt()]),
    "OPT in the answer": raw(ask(), [opt()]),
    "OPT in the authority": raw(ask(), [], [opt()]),
    "OPT with a name": raw(ask(), additional=[opt(owner=b"\xc0\x0c")]),
    "option past its OPT": raw(ask(), additional=[opt(b"\0\x0c\0\1")]),
    "half an option": raw(ask(), additional=[opt(b"\0\x0c\0")]),
    "bad rdata of MX": raw(ask(), [record(15, b"\0")]),
    "bad client subnet": raw(ask(), additional=[opt(b"\0\x08\0\1\0")]),
    "TSIG nobody asked for": raw(
        ask(), additional=[record(250, bytes(16), b"\1k\0", 255, 0)]
    ),
}  # fmt: skip


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_refused(data):
    with pytest.raises(BadReply) as caught:
        wire.read_reply(ask(), data)
    assert str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("count", [0, 2, 257])
def test_a_reply_has_exactly_one_question(count):
    """RFC 9619 section 4."""
    question = ask()
    again = question.wire[12 : question.end] * max(0, min(count, 2) - 1)
    data = raw(question, [again, A], counts=(count, 1, 0, 0))
    assert wire.mismatch(question, data) == "not exactly one question"
    with pytest.raises(BadReply, match="not exactly one question"):
        wire.read_reply(question, data)


def test_what_a_truncated_reply_holds_is_not_read():
    """RFC 7766 section 5: it is asked for again, and nothing of it is kept."""
    data = bytearray(raw(ask(), [A]))
    assert wire.read_reply(ask(), bytes(data)).kind is Kind.DATA
    data[2] |= 2
    with pytest.raises(BadReply, match="truncated"):
        wire.read_reply(ask(), bytes(data))


def test_a_keepalive_option_in_a_reply_does_no_harm():
    """RFC 7828: we never ask for it, but a server may say it all the same."""
    data = raw(ask(), [A], additional=[opt(b"\0\x0b\0\2\0\x64")])
    assert wire.read_reply(ask(), data).kind is Kind.DATA


def test_what_the_refused_ones_were_made_from_is_accepted():
    assert wire.read_reply(ask(), raw(ask(), [A])).kind is Kind.DATA
    data = raw(ask(), [A], [record(6, SOA_RDATA)], [opt(b"\0\x0c\0\1\0")])
    assert wire.read_reply(ask(), data).kind is Kind.DATA
    longest = (b"\x3f" + b"a" * 63) * 3 + b"\x3d" + b"a" * 61 + b"\0"
    assert wire.read_reply(ask(), raw(ask(), [record(1, b"abcd", longest)]))


def test_sixteen_pointers_pass_and_seventeen_do_not():
    """As in dnspython; each of them leads to the one before."""

    def pointers(n):
        end, records = ask().end, [record(65_400, b"", b"\0")]
        at = [12]
        for _ in range(n):  # one pointer in the rdata of each record
            at.append(end + sum(map(len, records)) + 11)
            pointer = struct.pack("!H", 0xC000 | at[-2])
            records.append(record(65_400, pointer, b"\0"))
        owner = struct.pack("!H", 0xC000 | at[-1])
        return raw(ask(), [*records, record(1, b"abcd", owner)])

    assert wire.read_reply(ask(), pointers(15)).kind is Kind.DATA
    with pytest.raises(BadReply, match="pointer"):
        wire.read_reply(ask(), pointers(16))


def test_has_opt():
    assert wire.has_opt(raw(ask(), additional=[opt()], rcode=1), ask())
    assert not wire.has_opt(raw(ask(), rcode=1), ask())
    assert not wire.has_opt(raw(ask(), [A]), ask())


# --- replies: any bytes --------------------------------------------------------------


def check(question, data):
    """A Reply or a BadReply; and of a Reply everything can be read."""
    try:
        reply = wire.read_reply(question, data)
    except BadReply:
        return
    assert 0 <= reply.ttl <= wire.MAX_TTL
    assert reply.message is None or reply.message.question
    read_all(question, reply)
    reply.message = None  # what is not kept is parsed again: that must work as well
    if question.tsig is None:
        read_all(question, reply)


@settings(max_examples=150)
@given(st.binary(max_size=100))
def test_random_bytes_never_crash(data):
    check(ask(), data)
    check(ask(), raw(ask())[:12] + data)
    check(ask(), raw(ask(), counts=(1, 1, 0, 0)) + data)


@settings(max_examples=150)
@given(messages(), OPTIONS, st.data())
def test_mutated_messages_never_crash(case, options, data):
    question, sections, rcode = case
    octets = bytearray(message(question, *sections, rcode=rcode, options=options))
    start = question.end
    assume(len(octets) > start)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(start, max(start, len(octets) - 1)))
        match data.draw(st.integers(0, 5)):
            case 0:
                octets[at : at + 1] = data.draw(st.binary(min_size=1, max_size=1))
            case 1:
                del octets[at:]
            case 2:
                del octets[at : at + data.draw(st.integers(1, 20))]
            case 3:
                octets[at:at] = data.draw(st.binary(max_size=12))
            case 4:
                octets[at:at] = octets[at : at + data.draw(st.integers(1, 40))]
            case 5:
                field = data.draw(st.integers(2, 11))
                octets[field] = data.draw(st.sampled_from([0, 1, 2, 3, 128, 129, 131]))
    check(question, bytes(octets))


OWNERS = st.one_of(
    st.just(b"\xc0\x0c"),
    st.just(b"\0"),
    st.integers(0, 80).map(lambda n: struct.pack("!H", 0xC000 | n)),
    st.just(b"\1b\xc0\x0e"),
    st.binary(max_size=6).map(lambda b: b + b"\0"),
)
RECORDS = st.builds(
    record,
    st.sampled_from([1, 1, 2, 5, 5, 6, 12, 28, 41, 15, 16, 39, 46, 64, 250])
    | st.integers(0, 260),
    st.one_of(
        OWNERS,
        st.sampled_from([b"abcd", bytes(16), SOA_RDATA, b"\0\x0f\0\2\0\x16"]),
        st.binary(max_size=40),
    ),
    OWNERS,
    st.sampled_from([1, 1, 1, 3, 254, 255, 1232]),
    st.sampled_from(TTLS),
)


@settings(max_examples=150)
@given(
    st.sampled_from(["A", "AAAA", "CNAME", "NS", "TXT", "MX", "RRSIG", "ANY", "OPT"]),
    st.sampled_from([1, 1, 1, 3, 255]),
    st.lists(RECORDS, max_size=4),
    st.lists(RECORDS, max_size=2),
    st.lists(RECORDS, max_size=2) | st.just([opt()]),
    st.sampled_from([0, 0, 3, 2, 6]),
)
def test_made_up_records_never_crash(
    rdtype, rdclass, answer, authority, additional, rcode
):
    question = ask(rdtype=rdtype, rdclass=rdclass)
    check(question, raw(question, answer, authority, additional, rcode=rcode))


@settings(max_examples=150)
@given(st.sampled_from(sorted(set(TYPES))), st.data())
def test_any_rdata_of_any_type_never_crashes(rdtype, data):
    number = dns.rdatatype.from_text(rdtype)
    text = data.draw(st.sampled_from(RDATA[rdtype]))
    good = dns.rdata.from_text("IN", number, text).to_wire()
    cut = data.draw(st.integers(0, len(good)))
    rdata = good[:cut] + data.draw(st.binary(max_size=8)) + good[cut:]
    if data.draw(st.booleans()):
        rdata = good[:cut] + rdata[cut + 1 :]
    question = ask(rdtype=rdtype)
    check(question, raw(question, [record(number, rdata)]))


PLAIN = {"A": b"\xc0\0\2\1", "AAAA": bytes(range(16))}


@st.composite
def plain_replies(draw):
    """Addresses at the name asked for, as most replies are; now and then an octet off.

    That octet is outside the id, which is the transport's to match.
    """
    rdtype = draw(st.sampled_from(sorted(PLAIN)))
    question = ask("www.Example.", rdtype, draw(st.sampled_from([1, 1, 1, 3])))
    ttls = draw(st.lists(st.sampled_from(TTLS), max_size=4))
    with_opt = draw(st.booleans())
    head = struct.pack("!HBBHHHH", 0, 0x81, 0xA0, 1, len(ttls), 0, with_opt)
    rdata = PLAIN[rdtype]
    number = getattr(dns.rdatatype, rdtype)
    records = [record(number, rdata, ttl=ttl) for ttl in ttls]
    tail = opt() if with_opt else b""
    data = bytearray(head + question.wire[12 : question.end] + b"".join(records) + tail)
    for _ in range(draw(st.integers(0, 2))):
        data[draw(st.integers(2, len(data) - 1))] = draw(st.integers(0, 255))
    return question, bytes(data[: len(data) - draw(st.sampled_from([0, 0, 0, 1, 16]))])


@given(plain_replies())
def test_the_fast_lane_says_what_the_scanner_says(case):
    question, data = case
    ttl = wire.plain_ttl(question, data)
    if ttl < 0:
        return
    reply = plain_reply(data, ttl, question.end - 16).reply()
    assert wire.mismatch(question, data) == ""
    assert not data[2] & 2
    scanned = wire._scan(question, data)
    for field in {*type(reply).__slots__} - {"plain"}:
        assert getattr(reply, field, None) == getattr(scanned, field, None)
    assert dns.message.from_wire(data).resolve_chaining().answer is not None
    name, size = question.wire_name, {1: 4, 28: 16}[question.rdtype]
    ttl, found = wire.addresses(name, question.rdtype, reply.final, data)
    assert wire.plain_ttl_shown(len(name), size, data) == ttl
    assert wire.plain_addresses(len(name), size, data) == list(dict.fromkeys(found))


@pytest.mark.parametrize("rdtype", sorted(PLAIN))
@pytest.mark.parametrize("with_opt", [False, True])
def test_plain_replies_take_the_fast_lane(rdtype, with_opt):
    question = ask("www.example.", rdtype)
    number = getattr(dns.rdatatype, rdtype)
    records = b"".join(record(number, PLAIN[rdtype], ttl=ttl) for ttl in (60, 30, 90))
    head = struct.pack("!HHHHHH", 0, 0x8580, 1, 3, 0, with_opt)
    asked = question.wire[12 : question.end]
    tail = opt() if with_opt else b""
    data = head + asked + records + tail
    assert wire.plain_ttl(question, data) == 30
    reply = wire.read_reply(question, data)
    assert (reply.kind, reply.ttl, reply.ra, reply.ad) == (Kind.DATA, 30, True, False)


def test_the_usual_types_are_read_without_dnspython():
    """What the speed of a miss rests on."""
    usual = [
        rr("a.example.", 60, "CNAME", "b.example."),
        rr("b.example.", 60, "A", "192.0.2.1"),
    ]
    edes = [dns.edns.EDEOption(3, "stale"), dns.edns.GenericOption(12, bytes(8))]
    data = message(ask(), usual, [soa()], options=edes)
    with mock.patch("dns.message.from_wire", side_effect=AssertionError):
        assert wire.read_reply(ask(), data).kind is Kind.DATA
