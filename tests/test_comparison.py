"""comparison: when replies agree, and what a comparison of them comes to."""

from __future__ import annotations

from dataclasses import replace

import dns.message
import dns.rdata
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual import question

from resolverkit import testing
from resolverkit.comparison import Comparison, Verdict, agree, compare
from resolverkit.model import Attempt, Endpoint, Outcome
from resolverkit.wire import read_reply

AGREE, DIFFER, UNKNOWN = Verdict.AGREE, Verdict.DIFFER, Verdict.UNKNOWN
DENIES, FILTERS, LIES = Verdict.DENIES, Verdict.FILTERS, Verdict.LIES
A, AAAA = question(), question(rdtype=28)


def reply(step, asked=A, operator="", **known):
    """What a scripted step says, with who said it if that matters."""
    got = read_reply(asked, step.make(asked))
    if operator:
        endpoint = replace(Endpoint(f"udp://{operator}", operator=operator), **known)
        got.winner = Attempt(endpoint, 0.0, 0.01, Outcome[got.kind.name])
    return got


def data(*values, cname=(), **options):
    return testing.answer(*values, cname=cname, **options)


ONE, TWO, LIE = data("192.0.2.1"), data("203.0.113.9"), data("198.51.100.6")
NXDOMAIN, NODATA = testing.nxdomain(), testing.nodata()

# --- two replies ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "agreed"),
    [
        (ONE, ONE, True),
        (ONE, TWO, False),
        (data("192.0.2.1", "192.0.2.2"), data("192.0.2.2", "203.0.113.1"), True),
        (ONE, data("192.0.2.254"), True),  # one /24
        (ONE, data("192.0.3.1"), False),  # the next
        (data("192.0.2.1", "203.0.113.7"), TWO, True),
        (ONE, data("203.0.113.1", cname=["x.example."]), False),
        (
            data("192.0.2.1", cname=["x.cdn.example."]),
            data("203.0.113.1", cname=["y.example.", "X.cdn.example."]),
            True,  # both end at one name
        ),
        (
            data("192.0.2.1", cname=["x.cdn.example."]),
            data("203.0.113.1", cname=["y.cdn.example."]),
            False,
        ),
        (NXDOMAIN, NXDOMAIN, True),
        (NODATA, NODATA, True),
        (NXDOMAIN, NODATA, False),
        (NXDOMAIN, ONE, False),
        (NXDOMAIN, testing.nxdomain(soa=False), True),
        (
            testing.nodata(cname=["x.cdn.example."]),
            data("192.0.2.1", cname=["x.cdn.example."]),
            False,  # the same alias, but one has data
        ),
    ],
)
def test_agreement(a, b, agreed):
    a, b = reply(a), reply(b)
    assert agree(A, a, b) is agreed
    assert agree(A, b, a) is agreed
    assert agree(A, a, a)


@pytest.mark.parametrize(
    ("a", "b", "agreed"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:ffff::1", True),  # one /48
        ("2001:db8:1::1", "2001:db8:2::1", False),
    ],
)
def test_agreement_of_ipv6_addresses(a, b, agreed):
    assert agree(AAAA, *(reply(data(x), AAAA) for x in (a, b))) is agreed


@pytest.mark.parametrize(
    ("rdtype", "a", "b", "agreed"),
    [
        (15, ["10 a.example."], ["10 A.example."], True),
        (15, ["10 a.example."], ["20 a.example."], False),
        (15, ["10 a.example.", "20 b.example."], ["20 b.example."], True),
        (16, ['"v=1"', '"x"'], ['"x"', '"y"'], True),
        (16, ['"v=1"'], ['"v=2"'], False),
        (2, ["ns1.example."], ["NS1.example."], True),
        (5, ["x.example."], ["x.example."], True),
        (5, ["x.example."], ["y.example."], False),
        (6, ["a. b. 1 2 3 4 5"], ["A. b. 9 8 7 6 5"], True),  # secondaries lag behind
        (6, ["a. b. 1 2 3 4 5"], ["c. b. 1 2 3 4 5"], False),
        (65, ["1 . ech=AARhYmNk"], ["1 . ech=AARlZmdo"], True),  # keys are replaced
        (65, ["1 . alpn=h2"], ["1 svc.example. alpn=h2"], False),
        (64, ["1 . ech=AARhYmNk"], ["1 . ech=AARlZmdo"], True),
        (64, ["1 . alpn=h2"], ["2 . alpn=h2"], False),
    ],
)
def test_agreement_of_other_types(rdtype, a, b, agreed):
    asked = question(rdtype=rdtype)
    replies = [reply(data(*values), asked) for values in (a, b)]
    assert agree(asked, *replies) is agreed
    assert agree(asked, *reversed(replies)) is agreed


@pytest.mark.parametrize("rdtype", [64, 65])
def test_of_another_class_records_are_octets(rdtype):
    asked = question(rdtype=rdtype, rdclass=3)

    def says(octets):
        query = dns.message.make_query("www.example.com", rdtype, 3, id=0)
        message = dns.message.make_response(query)
        rdata = dns.rdata.GenericRdata(3, rdtype, octets)
        owner = query.question[0].name
        message.answer.append(dns.rrset.from_rdata(owner, 60, rdata))
        return read_reply(asked, message.to_wire())

    one, other = says(b"\0\1\0"), says(b"\0\2\0")
    assert agree(asked, one, says(b"\0\1\0"))
    assert not agree(asked, one, other)


# --- many -----------------------------------------------------------------------------


def replies(*steps, operators="ABCDEFGH", asked=A):
    return [
        None if step is None else reply(step, asked, operator)
        for step, operator in zip(steps, operators, strict=False)
    ]


@pytest.mark.parametrize(
    ("steps", "verdict", "each"),
    [
        ([ONE, ONE], AGREE, [AGREE, AGREE]),
        ([ONE, ONE, None], AGREE, [AGREE, AGREE, UNKNOWN]),
        ([NXDOMAIN] * 3, AGREE, [AGREE] * 3),
        ([NODATA] * 2, AGREE, [AGREE] * 2),
        ([], UNKNOWN, []),
        ([None, None], UNKNOWN, [UNKNOWN, UNKNOWN]),
        ([ONE], UNKNOWN, [UNKNOWN]),
        ([ONE, None], UNKNOWN, [UNKNOWN, UNKNOWN]),
        # Content networks.
        ([ONE, data("192.0.9.9")], DIFFER, [DIFFER] * 2),  # one /16
        (
            [
                data("192.0.2.1", cname=["x.cdn.example."]),
                data("203.0.113.9", cname=["x.cdn.example."]),
                data("198.51.100.6", cname=["x.cdn.example."]),
            ],
            DIFFER,
            [DIFFER] * 3,
        ),
        (
            [
                data("192.0.2.1", cname=["eu.cdn.example."]),
                data("203.0.113.9", cname=["us.cdn.example."]),
                data("198.51.100.6", cname=["a.b.ap.cdn.example."]),
            ],
            DIFFER,  # geo-CNAMEs
            [DIFFER] * 3,
        ),
        (
            [
                data("192.0.2.1", "198.51.100.1"),
                data("198.51.100.1", "203.0.113.1"),
                data("203.0.113.1", "198.18.0.1"),
            ],
            AGREE,  # sets that rotate overlap, if not each with each
            [AGREE] * 3,
        ),
        (
            [
                data("192.0.2.1", cname=["eu.cdn.example."]),
                data("203.0.113.9", cname=["us.cdn.example."]),
            ],
            DIFFER,
            [DIFFER] * 2,
        ),
        (
            [
                data("192.0.2.1", cname=["x.eu.cdn.example."]),
                data("203.0.113.9", cname=["cdn.example."]),
            ],
            UNKNOWN,  # one is no name below another's parent
            [UNKNOWN] * 2,
        ),
        (
            [
                data("192.0.2.1", cname=["cdn.example."]),
                data("203.0.113.9", cname=["eu.cdn.example."]),
            ],
            UNKNOWN,
            [UNKNOWN] * 2,
        ),
        (
            [
                data("192.0.2.1", cname=["x.one.example."]),
                data("203.0.113.9", cname=["x.two.example."]),
            ],
            UNKNOWN,
            [UNKNOWN] * 2,
        ),
        # Nobody can tell.
        ([ONE, TWO], UNKNOWN, [UNKNOWN] * 2),
        ([ONE, TWO, LIE], UNKNOWN, [UNKNOWN] * 3),
        ([ONE, ONE, LIE, LIE], UNKNOWN, [AGREE] * 4),
        ([ONE, ONE, TWO, LIE], UNKNOWN, [AGREE, AGREE, UNKNOWN, UNKNOWN]),
        (
            [
                data("192.0.2.1", cname=["a.example."]),
                data("203.0.113.9", cname=["b."]),
            ],
            UNKNOWN,
            [UNKNOWN] * 2,
        ),
        # One lies alone.
        ([ONE, ONE, LIE], LIES, [AGREE, AGREE, LIES]),
        ([LIE, ONE, ONE, ONE], LIES, [LIES, AGREE, AGREE, AGREE]),
        ([ONE, data("192.0.9.9"), LIE], UNKNOWN, [DIFFER, DIFFER, UNKNOWN]),
        (
            [
                data("192.0.2.1", cname=["x.cdn.example."]),
                data("203.0.113.9", cname=["x.cdn.example."]),
                LIE,
            ],
            LIES,
            [DIFFER, DIFFER, LIES],
        ),
        (
            [ONE, ONE, data("198.51.100.6", cname=["www.evil.example."])],
            LIES,
            [AGREE, AGREE, LIES],
        ),
        # One denies.
        ([ONE, ONE, NXDOMAIN], DENIES, [AGREE, AGREE, DENIES]),
        ([ONE, NXDOMAIN], DENIES, [UNKNOWN, DENIES]),
        ([ONE, NODATA, NXDOMAIN], DENIES, [UNKNOWN, DENIES, DENIES]),
        ([NODATA, NODATA, NXDOMAIN], DENIES, [AGREE, AGREE, DENIES]),
        # One filters.
        ([ONE, ONE, data("0.0.0.0")], FILTERS, [AGREE, AGREE, FILTERS]),
        ([ONE, ONE, data("127.0.0.1")], FILTERS, [AGREE, AGREE, FILTERS]),
        ([ONE, ONE, data("192.0.2.1", ede=15)], FILTERS, [AGREE, AGREE, FILTERS]),
        (
            [ONE, ONE, testing.nxdomain(soa=False, ede=(17, "adult"))],
            FILTERS,
            [AGREE, AGREE, FILTERS],
        ),
        ([testing.nxdomain(ede=16)] * 2, FILTERS, [FILTERS] * 2),
        ([data("127.0.0.1")] * 2, AGREE, [AGREE] * 2),  # as localtest.me
        ([data("127.0.0.1"), NXDOMAIN], DENIES, [UNKNOWN, DENIES]),
        # The gravest counts.
        (
            [ONE, ONE, LIE, NXDOMAIN, data("0.0.0.0")],
            LIES,
            [AGREE, AGREE, LIES, DENIES, FILTERS],
        ),
    ],
)
def test_comparison(steps, verdict, each):
    assert compare(A, replies(*steps)) == Comparison(verdict, tuple(each))


@pytest.mark.parametrize(
    ("address", "verdict"), [("::", FILTERS), ("::1", FILTERS), ("::2", LIES)]
)
def test_sinkholes_of_ipv6(address, verdict):
    real = data("2001:db8::1")
    got = compare(AAAA, replies(real, real, data(address), asked=AAAA))
    assert got.each[2] is verdict


@pytest.mark.parametrize(
    ("other", "verdict"), [("2001:db8:900::1", DIFFER), ("2001:db9::1", UNKNOWN)]
)
def test_kin_of_ipv6_addresses(other, verdict):
    """One /32."""
    said = replies(data("2001:db8::1"), data(other), asked=AAAA)
    assert compare(AAAA, said).verdict is verdict


def test_a_presets_signature_of_a_block_is_one_from_it_alone():
    signature = testing.nxdomain(soa=False, ra=False)
    one, two = replies(ONE, ONE)
    known = reply(signature, operator="Q", unsigned_block=True)
    other = reply(signature, operator="O")
    assert compare(A, [one, two, known]).each[2] is FILTERS
    assert compare(A, [one, two, other]).each[2] is DENIES


@pytest.mark.parametrize(
    ("steps", "operators", "verdict", "each"),
    [
        ([ONE, ONE], "AA", UNKNOWN, [UNKNOWN] * 2),
        ([ONE, LIE], "AA", UNKNOWN, [UNKNOWN] * 2),
        ([ONE, NXDOMAIN], "AA", UNKNOWN, [UNKNOWN] * 2),
        ([LIE, LIE, ONE, ONE], "AABC", LIES, [LIES, LIES, AGREE, AGREE]),
        # Its UDP was tampered with on the way, its DoT was not.
        ([LIE, ONE, ONE], "AAB", LIES, [LIES, AGREE, AGREE]),
        # Two addresses of one operator are not two who agree.
        ([ONE, ONE, LIE], "AAB", UNKNOWN, [UNKNOWN] * 3),
    ],
)
def test_two_addresses_of_one_operator_are_one_vantage(steps, operators, verdict, each):
    got = compare(A, replies(*steps, operators=operators))
    assert got == Comparison(verdict, tuple(each))


def test_replies_of_which_nobody_knows_who_sent_them_are_of_different_operators():
    assert compare(A, [reply(ONE), reply(ONE)]).verdict is AGREE
    named = [reply(ONE, operator=letter) for letter in "AB"]
    for each in named:
        each.winner.endpoint = replace(each.winner.endpoint, operator="")
    assert compare(A, named).verdict is AGREE  # nor who runs them


def test_what_a_vantage_says_in_several_rounds_is_merged():
    """A rotating set overlaps sooner or later; a liar's does not."""
    first = replies(data("192.0.2.1"), data("192.0.2.2"), data("203.0.113.3"))
    again = replies(data("203.0.113.4"), data("192.0.2.9"), data("198.18.0.3"))
    assert compare(A, first).verdict is LIES
    assert compare(A, first, again).verdict is AGREE
    lies = replies(data("192.0.2.1"), data("192.0.2.2"), LIE)
    assert compare(A, lies, lies).verdict is LIES


def test_a_vantage_that_answers_once_of_twice_counts():
    first = replies(ONE, ONE, None)
    again = replies(ONE, None, LIE)
    assert compare(A, first, again).each == (AGREE, AGREE, LIES)
    denied = compare(A, replies(ONE, ONE), replies(NXDOMAIN, ONE))
    assert denied.verdict is AGREE  # it had the data
    denied = compare(A, replies(NXDOMAIN, ONE), replies(ONE, ONE))
    assert denied.verdict is AGREE  # or has it by now


@pytest.mark.parametrize(
    ("rdtype", "first", "again", "verdict"),
    [
        (15, [["10 a."], ["10 b."]], [["10 b."], ["10 c."]], AGREE),  # data
        (1, [["192.0.2.1"], ["203.0.9.1"]], [["203.0.7.1"], ["198.18.0.1"]], DIFFER),
    ],
)
def test_what_was_said_at_any_time_is_compared(rdtype, first, again, verdict):
    asked = question(rdtype=rdtype)
    rounds = [replies(*(data(*x) for x in r), asked=asked) for r in (first, again)]
    assert compare(asked, *rounds).verdict is verdict
    assert compare(asked, rounds[0]).verdict is UNKNOWN


def test_so_are_aliases():
    first = [data("192.0.2.1"), data("198.51.100.1", cname=["x.cdn.example."])]
    again = [data("203.0.113.1", cname=["x.cdn.example."]), data("198.18.0.1")]
    assert compare(A, replies(*first), replies(*again)).verdict is DIFFER


def test_who_gives_a_real_address_too_does_not_filter():
    first, again = replies(ONE, ONE, data("0.0.0.0")), replies(ONE, ONE, ONE)
    assert compare(A, first).each[2] is FILTERS
    assert compare(A, first, again).each[2] is AGREE


def test_who_filters_in_two_ways_filters():
    blocked, denied = replies(ONE, ONE, data("0.0.0.0")), replies(ONE, ONE, NXDOMAIN)
    assert compare(A, blocked, denied).each[2] is FILTERS
    assert compare(A, denied, blocked).each[2] is FILTERS


def test_a_block_that_was_signed_once_is_one():
    blocked, open_ = replies(ONE, ONE, data("192.0.2.1", ede=15)), replies(*[ONE] * 3)
    assert compare(A, open_, blocked).each[2] is FILTERS


# --- any replies ----------------------------------------------------------------------

HOSTS = st.sampled_from(
    ["192.0.2.1", "192.0.2.2", "192.0.9.1", "198.51.100.6", "0.0.0.0"]
)
NAMES = st.sampled_from(["x.cdn.example.", "y.cdn.example.", "z.example."])
STEPS = st.one_of(
    st.builds(
        lambda hosts, names: data(*hosts, cname=names),
        st.lists(HOSTS, min_size=1, max_size=3),
        st.lists(NAMES, max_size=2, unique=True),
    ),
    st.sampled_from([NXDOMAIN, NODATA, testing.nxdomain(ede=15)]),
)


@given(STEPS, STEPS)
def test_agreement_is_symmetric_and_reflexive(a, b):
    a, b = reply(a), reply(b)
    assert agree(A, a, b) is agree(A, b, a)
    assert agree(A, a, a)
    assert agree(A, b, b)


@given(st.lists(st.tuples(STEPS, st.sampled_from("ABCD")), max_size=6), st.randoms())
def test_a_comparison_does_not_depend_on_the_order(said, random):
    given_ = [reply(step, operator=operator) for step, operator in said]
    order = list(range(len(given_)))
    random.shuffle(order)
    straight = compare(A, given_)
    shuffled = compare(A, [given_[i] for i in order])
    assert shuffled.verdict is straight.verdict
    assert list(shuffled.each) == [straight.each[i] for i in order]


@given(st.lists(STEPS, min_size=2, max_size=6))
def test_whoever_is_alone_has_nothing_in_common_with_anybody(steps):
    said = replies(*steps)
    got = compare(A, said)
    liars = [x for x, verdict in zip(said, got.each, strict=True) if verdict is LIES]
    assert len(liars) <= 1
    for liar in liars:
        assert sum(agree(A, liar, other) for other in said) == 1  # itself
        honest = [other for other in said if other is not liar]
        assert any(agree(A, a, b) for i, a in enumerate(honest) for b in honest[:i])
