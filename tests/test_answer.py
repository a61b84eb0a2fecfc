"""answer: dnspython's Answer, parsed when it is read, with a path."""

from __future__ import annotations

import copy
import pickle
import time
from unittest import mock

import dns.flags
import dns.message
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.resolver
import dns.rrset
import pytest

from resolverkit import wire
from resolverkit.answer import Answer, _make_a, _make_aaaa
from resolverkit.entry import Entry
from resolverkit.model import Attempt, Endpoint, Outcome, Source, name_from_wire

DOH = Endpoint("https://dns.example/q", "doh", "Example", "192.0.2.53", 443)
UDP = Endpoint("udp://192.0.2.1:54", "udp", "", "192.0.2.1", 54)
FAILED = Attempt(UDP, 5.0, 2.0, Outcome.TIMEOUT)

RECORDS = [
    "www.example. 300 IN CNAME a.example.",
    "a.example. 60 IN A 192.0.2.10",
    "a.example. 60 IN A 192.0.2.20",
    "a.example. 60 IN A 192.0.2.30",
]
SOA = "example. 3600 IN SOA ns.example. admin.example. 1 2 3 4 30"


def clock():
    return 107.0


class Keeper:
    """What an Answer needs of the memory."""

    def __init__(self, clock=clock, parsed=lambda *_: None):
        self.clock = clock
        self.parsed = parsed


def make(
    records=RECORDS,
    source=Source.UPSTREAM,
    endpoint=UDP,
    *,
    rdtype="A",
    authority=(),
    learnt=100.0,
    since=(),
    disputed=False,
    clock=clock,
    on_parse=lambda *_: None,
    **options,
):
    number = dns.rdatatype.from_text(rdtype)
    question = wire.make_question(wire.text_to_wire("www.example"), number)
    lines = ["id 0", "flags QR RD RA", ";QUESTION", f"www.example. IN {rdtype}"]
    lines += [";ANSWER", *records, ";AUTHORITY", *authority]
    text = "\n".join(lines)
    reply = wire.read_reply(question, dns.message.from_text(text).to_wire())
    if endpoint is not None:
        reply.winner = Attempt(endpoint, 5.0, 0.01, Outcome.DATA, 0)
        reply.attempts = (reply.winner,)
    reply.disputed = disputed
    entry = Entry(question, reply, learnt)
    if since:
        entry.failed(None, since)
    return Answer(entry, source, Keeper(clock, on_parse), **options)


def pickled(answer):
    return pickle.loads(pickle.dumps(answer))  # noqa: S301 - our own


def test_it_is_dnspython_s():
    answer = make()
    assert isinstance(answer, dns.resolver.Answer)
    theirs = dns.resolver.Answer(
        dns.name.from_text("www.example"),
        dns.rdatatype.A,
        dns.rdataclass.IN,
        answer.response,
        "192.0.2.1",
        54,
    )
    for attr in (
        "qname", "rdtype", "rdclass", "response", "nameserver", "port", "rrset",
        "canonical_name", "name", "ttl", "covers",
    ):  # fmt: skip
        assert getattr(answer, attr) == getattr(theirs, attr), attr
    assert answer.chaining_result.minimum_ttl == theirs.chaining_result.minimum_ttl
    assert list(answer) == list(theirs)
    assert len(answer) == len(theirs) == 3
    for key in (0, -1, slice(1, None), slice(0, 3, 2)):
        assert answer[key] == theirs[key]
    with pytest.raises(IndexError):
        answer[3]
    assert sorted(rdata.address for rdata in answer) == [
        "192.0.2.10", "192.0.2.20", "192.0.2.30",
    ]  # fmt: skip
    assert answer[0] in list(answer)
    assert isinstance(answer.rdtype, dns.rdatatype.RdataType)
    assert repr(answer) == f"<Answer upstream: {answer.rrset}>"


def plain(*last_octets):
    """The Answer of a reply with addresses alone, which an entry packs."""
    question = wire.make_question(wire.text_to_wire("www.example"), 1)
    records = [
        b"\xc0\x0c\0\1\0\1\0\0\0" + bytes([60 + i]) + b"\0\4\xc0\0\2" + bytes([octet])
        for i, octet in enumerate(last_octets)
    ]
    counts = b"\0\1\0" + bytes([len(records)]) + bytes(4)
    asked = question.wire[12 : question.end]
    data = b"\0\0\x81\x80" + counts + asked + b"".join(records)
    reply = wire.read_reply(question, data)
    reply.winner = Attempt(UDP, 5.0, 0.01, Outcome.DATA, 0)
    entry = Entry(question, reply, 0.0)
    assert entry.plain == data
    return Answer(entry, Source.UPSTREAM, Keeper(clock, lambda *_: None))


@pytest.mark.parametrize("octets", [(1,), (3, 1, 2), (1, 1), (2, 1, 2)])
def test_addresses_are_the_same_before_and_after_the_rrset_is_read(octets):
    answer = plain(*octets)
    before = [answer[0], *answer, *answer[:1], len(answer)]
    assert [rdata.address for rdata in answer] == [
        f"192.0.2.{octet}" for octet in dict.fromkeys(octets)
    ]
    assert answer.ttl == 60
    assert [answer[0], *answer, *answer[:1], len(answer)] == before
    assert answer[0] is before[0]
    assert list(answer.rrset) == list(answer) == list(plain(*octets).rrset)
    assert list(answer.response.answer[0]) == list(answer)


def test_another_rrset_takes_the_place_of_what_was_read():
    answer = plain(1, 2)
    assert len(answer) == 2
    answer.rrset = dns.rrset.from_text("www.example.", 5, "IN", "A", "192.0.2.77")
    assert (len(answer), answer[0].address) == (1, "192.0.2.77")
    assert [rdata.address for rdata in answer] == ["192.0.2.77"]


def test_addresses_are_charged_for_and_then_the_rrset():
    charged = []
    answer = plain(1)
    answer._memory.parsed = lambda _, cost: charged.append(cost)
    answer[0], answer[0], len(answer)
    assert len(charged) == 1
    assert answer.rrset is not None
    assert len(charged) == 2


def test_a_record_can_be_deleted_as_in_dnspython():
    answer = make()
    rest = list(answer)[1:]
    del answer[0]
    assert list(answer) == rest


def test_it_is_parsed_once_and_only_when_read():
    charged = []
    answer = make(on_parse=lambda *told: charged.append(told[1]))
    with mock.patch.object(
        dns.message, "from_wire", side_effect=dns.message.from_wire
    ) as from_wire:
        assert answer.qname == dns.name.from_text("www.example")
        assert (answer.rdtype, answer.rdclass) == (1, 1)
        assert (answer.nameserver, answer.port) == ("192.0.2.1", 54)
        assert answer.expiration > time.time()
        assert str(answer.path)
        assert not charged
        assert answer.rrset.ttl == 60  # addresses are read without the message
        assert list(answer) == list(answer)
        assert answer.canonical_name == dns.name.from_text("a.example")
        assert not from_wire.called
        assert len(charged) == 1
        assert answer.response is answer.response
        assert answer.chaining_result
        assert from_wire.call_count == 1
    assert len(charged) == 2
    assert all(cost > 0 for cost in charged)


def test_addresses_are_those_of_the_message():
    """Read by hand they are what dnspython makes of them: set, order, TTL, name."""
    records = [
        "A.example. 70 IN A 192.0.2.1",
        "b.example. 5 IN A 192.0.2.66",
        "a.EXAMPLE. 50 IN A 192.0.2.2",
        "www.example. 300 IN CNAME a.example.",
        "a.example. 60 IN A 192.0.2.1",
        "a.example. 5 IN AAAA 2001:db8::1",
    ]
    by_hand, parsed = make(records), make(records)
    assert parsed.response  # from here on
    assert by_hand.rrset == by_hand.chaining_result.answer
    for answer in (by_hand, parsed):
        assert answer.ttl == 50
        assert answer.name == dns.name.from_text("a.example")
        assert {r.address for r in answer} == {"192.0.2.1", "192.0.2.2"}
        assert len(answer) == 2


def test_unusual_types_are_parsed_already():
    called = []
    answer = make(
        ['www.example. 60 IN TXT "x"'],
        rdtype="TXT",
        on_parse=lambda *_: called.append(1),
    )
    assert answer[0].strings == (b"x",)
    assert not called  # nothing more was taken


def test_no_data():
    answer = make([], authority=[SOA])
    assert answer.rrset is None
    assert list(answer) == []
    assert len(answer) == 0
    assert answer.canonical_name == answer.qname
    assert answer.chaining_result.answer is None
    with pytest.raises(IndexError):
        answer[0]
    for attr in ("ttl", "name", "covers", "no_such_attribute"):
        with pytest.raises(AttributeError):
            getattr(answer, attr)
    assert not hasattr(answer, "__wrapped__")
    assert answer.path.ttl == 30


def test_the_aliases_are_told():
    answer = make()
    assert answer.canonical_name == dns.name.from_text("a.example")
    assert [c.name.to_text() for c in answer.chaining_result.cnames] == ["www.example."]


def test_expiration_is_learnt_plus_ttl_in_wall_time():
    answer = make()  # learnt 7 s ago, with a TTL of 60 s
    assert answer.expiration == pytest.approx(time.time() + 53, abs=2)
    assert answer.expiration == answer.expiration


def test_a_stale_answer_has_ttl_30_and_its_response_as_received():
    """RFC 8767 section 4."""
    answer = make(source=Source.STALE, learnt=-900.0, stale_ttl=30, since=(FAILED,))
    assert (answer.ttl, answer.rrset.ttl) == (30, 30)
    assert answer.expiration == pytest.approx(time.time() + 30, abs=2)
    assert answer.expiration == answer.expiration
    assert {rrset.ttl for rrset in answer.response.answer} == {300, 60}
    assert answer.chaining_result.answer.ttl == 60
    assert list(answer.rrset) == list(answer.chaining_result.answer)
    assert answer.path.source is Source.STALE
    assert answer.path.stale_for == 1007 - 60
    assert answer.path.attempts[-1] is FAILED
    assert answer.path.winner is answer.path.attempts[0]


def test_what_dnspython_parsed_is_shared_with_the_response():
    answer = make()
    assert answer.response
    assert answer.rrset is answer.response.answer[1]


def test_stale_and_fresh_answers_of_one_reply_do_not_disturb_each_other():
    fresh = make()
    stale = Answer(fresh.entry, Source.STALE, Keeper(), stale_ttl=30)
    assert (stale.ttl, fresh.ttl, stale.ttl) == (30, 60, 30)
    assert stale.response == fresh.response


@pytest.mark.parametrize(
    ("endpoint", "nameserver", "port"),
    [(UDP, "192.0.2.1", 54), (DOH, "https://dns.example/q", 443), (None, None, None)],
)
def test_nameserver_and_port(endpoint, nameserver, port):
    answer = make(endpoint=endpoint)
    assert (answer.nameserver, answer.port) == (nameserver, port)


def test_the_path():
    answer = make(detail="why")
    assert answer.path is answer.path
    assert answer.path.source is Source.UPSTREAM
    assert answer.path.winner.endpoint is UDP
    assert (answer.path.ttl, answer.path.age) == (60, 7)
    assert answer.path.detail == "why"
    assert not answer.path.disputed
    assert make(disputed=True).path.disputed


def test_the_age_of_a_shared_answer_grows():
    now = [100.0]
    answer = make(source=Source.CACHE, clock=lambda: now[0])
    path = answer.path
    ages = []
    for now[0] in (100.0, 101.5, 170.0):
        assert answer.path is path
        ages.append((path.age, path.stale_for))
    assert ages == [(0, 0), (1.5, 0), (70, 10)]


@pytest.mark.parametrize(
    "again",
    [
        copy.copy,
        copy.deepcopy,
        pickled,
        lambda answer: pickled(copy.copy(answer)),
    ],
    ids=["copy", "deepcopy", "pickle", "pickle of a copy"],
)
@pytest.mark.parametrize("kind", ["data", "no data", "stale"])
@pytest.mark.parametrize("read", [True, False])
def test_copies(again, kind, read):
    options = {
        "data": {},
        "no data": {"records": [], "authority": [SOA]},
        "stale": {"source": Source.STALE, "stale_ttl": 30, "since": (FAILED,)},
    }[kind]
    # Neither a clock nor a callback of the cache's can be pickled.
    answer = make(**options, clock=lambda: 107.0, on_parse=lambda *_: None)
    if read:
        assert answer.response
        assert answer.path
    twin = again(answer)
    assert type(twin) is Answer
    assert twin is not answer
    for attr in (
        "qname", "rdtype", "rdclass", "response", "rrset", "canonical_name",
        "nameserver", "port", "expiration",
    ):  # fmt: skip
        assert getattr(twin, attr) == getattr(answer, attr), attr
    assert list(twin) == list(answer)
    assert len(twin) == len(answer)
    if kind != "no data":
        assert twin.ttl == answer.ttl
    assert str(twin.path) == str(answer.path)
    assert twin.path.to_dict() == answer.path.to_dict()
    assert repr(twin) == repr(answer)
    assert str(copy.copy(twin).path) == str(answer.path)


def test_a_copy_stays_as_old_as_it_was():
    now = [107.0]
    answer = make(clock=lambda: now[0])
    twin = copy.copy(answer)
    now[0] = 200.0
    assert (twin.path.age, answer.path.age) == (7, 100)


def test_the_message_is_freed_with_its_readers():
    """Nothing in an Answer refers back to it: no collector is needed."""
    import gc
    import weakref

    gc.disable()
    try:
        answer = make()
        assert list(answer)
        assert answer.path
        gone = weakref.ref(answer)
        del answer
        assert gone() is None
    finally:
        gc.enable()


ADDRESS_OCTETS = [bytes(16), bytes(range(16)), b"\x20\1\x0d\xb8" + bytes(11) + b"\1"]


@pytest.mark.parametrize("octets", ADDRESS_OCTETS)
@pytest.mark.parametrize("rdtype", ["A", "AAAA"])
def test_addresses_made_by_hand_are_what_their_class_makes(rdtype, octets):
    """dnspython's constructors are passed by: nothing that they set may be missing."""
    by_hand = {"A": _make_a, "AAAA": _make_aaaa}[rdtype]
    rdata = octets[-4:] if rdtype == "A" else octets
    made = by_hand(rdata)
    number = dns.rdatatype.from_text(rdtype)
    theirs = dns.rdata.from_wire(dns.rdataclass.IN, number, rdata, 0, len(rdata))
    assert type(made) is type(theirs)
    assert made == theirs
    assert hash(made) == hash(theirs)
    for slot in theirs._get_all_slots():
        assert getattr(made, slot) == getattr(theirs, slot)
    assert pickle.loads(pickle.dumps(made)) == theirs  # noqa: S301 - our own
    assert made.replace(rdcomment="x").rdcomment == "x"
    with pytest.raises(TypeError, match="assignment"):
        made.address = "192.0.2.1"


@pytest.mark.parametrize("text", [".", "example.", r"a\.b.\000\255.Example."])
def test_names_made_by_hand_are_what_their_class_makes(text):
    theirs = dns.name.from_text(text)
    made = name_from_wire(theirs.to_wire())
    assert made == theirs
    assert made.labels == theirs.labels
    assert hash(made) == hash(theirs)
    assert pickle.loads(pickle.dumps(made)) == theirs  # noqa: S301 - our own
    with pytest.raises(TypeError, match="assignment"):
        made.labels = ()
