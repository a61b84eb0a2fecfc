"""Records: what a store keeps, and what of it is believed when it comes back."""

from __future__ import annotations

import json
import math

import dns.message
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual import question

from resolverkit.entry import Entry
from resolverkit.errors import BadReply
from resolverkit.model import Attempt, Endpoint, Kind, Outcome
from resolverkit.record import (
    MAX_KEY,
    Record,
    Said,
    aged,
    check_key,
    record_of,
    reply_of,
    said_by,
)
from resolverkit.record_text import from_json, to_json, who_from
from resolverkit.wire import question_of

SAID = Said("tls://192.0.2.1", "dot", "example", "192.0.2.1", 853, 0.012)


def wire(*records, name="www.example.com"):
    query = dns.message.make_query(name, "A", id=7)
    reply = dns.message.make_response(query)
    for text in records or (f"{name}. 60 IN A 192.0.2.80",):
        owner, ttl, rdclass, rdtype, *rest = text.split()
        reply.answer.append(
            dns.rrset.from_text(owner, int(ttl), rdclass, rdtype, " ".join(rest))
        )
    return reply.to_wire()


def record(**changes):
    given = Record(question().key, wire(), 60, 5.0, None, SAID)
    return given._replace(**changes)


def test_a_record_gives_back_the_reply_and_who_said_it():
    reply = reply_of(record())
    assert reply.kind is Kind.DATA
    assert reply.ttl == 60
    assert reply.winner.upstream == "tls://192.0.2.1"
    assert reply.winner.elapsed == 0.012
    assert said_by(reply.winner) == SAID
    winner = reply.winner
    assert (winner.started, winner.rcode, winner.outcome) == (0.0, 0, Outcome.DATA)
    assert reply.attempts == (reply.winner,)


def test_a_record_says_that_vantages_disagreed():
    assert reply_of(record(disputed=True)).disputed
    assert not reply_of(record()).disputed
    assert not Record(b"", b"", 60, 0.0).disputed


def test_an_entry_is_a_record_and_comes_back():
    made = reply_of(record())
    entry = Entry(question(), made, 100.0)
    assert record_of(entry, 105.0) == record()
    entry.deny(103.0)
    assert record_of(entry, 105.0) == record(denied=2.0)
    made = reply_of(record(disputed=True))
    assert record_of(Entry(question(), made, 100.0), 105.0) == record(disputed=True)


def test_no_age_is_negative():
    entry = Entry(question(), reply_of(record()), 100.0)
    entry.deny(100.0)
    early = record_of(entry, 95.0)
    assert (early.age, early.denied) == (0.0, 0.0)


NAME = (b"\x3f" + b"a" * 63) * 3 + b"\x3d" + b"a" * 61 + b"\0"  # 255 octets
REST = b"\0\1\0\1\0"  # type, class, flags


@pytest.mark.parametrize(
    ("key", "right"),
    [
        (NAME + REST, True),
        (NAME.replace(b"\x3d", b"\x3ea") + REST, False),  # a longer name
        (b"\x40" + b"a" * 64 + b"\0" + REST, False),  # a longer label
        (b"\0" + REST, True),
        (b"\0" + REST[:-1], False),
        (b"\0" + REST[:-1] + b"\3", True),  # DO and CD
        (b"\0" + REST[:-1] + b"\4", False),
        (b"\0" + REST + bytes(MAX_KEY - 6), True),  # with a view
        (b"\0" + REST + bytes(MAX_KEY - 5), False),
    ],
)
def test_what_is_a_key(key, right):
    if right:
        check_key(key)
        return
    with pytest.raises(ValueError, match="a key"):
        check_key(key)


def test_a_record_is_fresh_for_no_longer_than_its_message_says():
    assert reply_of(record(ttl=86_400)).ttl == 60
    assert reply_of(record(ttl=10)).ttl == 10
    assert reply_of(record(ttl=-5)).ttl == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"wire": b""},
        {"wire": b"\0" * 40},
        {"wire": wire()[:-3]},
        {"key": question("other.example.com").key},
        {"key": b""},
        {"key": b"\x03www"},
        {"key": b"\x40" + b"a" * 64 + b"\0" + b"\0\1\0\1\0"},
        {"key": question().key.replace(b"www", b"WWW")},
    ],
)
def test_a_record_that_is_no_answer_to_its_key_is_refused(changes):
    with pytest.raises((BadReply, ValueError)):
        reply_of(record(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"wire": None},
        {"wire": bytearray(wire())},
        {"ttl": "60"},
        {"ttl": None},
        {"age": -1.0},
        {"age": math.nan},
        {"age": math.inf},
        {"age": None},
        {"denied": -1.0},
        {"denied": "long ago"},
        {"said": None},
        {"said": Said(upstream=5)},
        {"said": Said("udp://192.0.2.53", elapsed=math.nan)},
    ],
)
def test_a_record_with_fields_of_other_kinds_is_refused(changes):
    with pytest.raises(ValueError, match="fields that are none"):
        reply_of(record(**changes))


def test_a_record_of_a_denial_is_refused():
    message = dns.message.make_response(dns.message.make_query("www.example.com", "A"))
    with pytest.raises(ValueError, match="NODATA"):
        reply_of(record(wire=message.to_wire()))


@pytest.mark.parametrize(
    ("learnt", "age"),
    [(1000.0, 0.0), (990.0, 10.0), (1001.0, 60.0), (1e12, 60.0)],
)
def test_a_date_in_the_future_is_stale_and_no_age_is_negative(learnt, age):
    assert aged(learnt, 60, 1000.0) == age


def test_json_lines_go_there_and_back():
    line = json.dumps(to_json(record(denied=3.0, disputed=True), 1e9))
    assert "www.example.com." in line
    assert '"learnt": 999999995.0' in line
    back = from_json(json.loads(line), 1e9)
    assert back == record(denied=3.0, disputed=True)
    later = from_json(json.loads(line), 1e9 + 100)
    assert (later.age, later.denied) == (105, 103)
    before = from_json(json.loads(line), 0.0)  # a clock that jumped back
    assert (before.age, before.denied) == (60, 0)


def test_a_line_says_what_a_person_wants_to_read():
    line = to_json(record(), 1e9)
    assert (line.pop("key"), line.pop("wire")) != ("", "")
    assert line == {
        "name": "www.example.com.", "type": "A", "class": "IN", "ttl": 60,
        "learnt": 999_999_995.0, "denied": None, "disputed": False,
        "said": SAID._asdict(),
    }  # fmt: skip


WHO = ["tls://192.0.2.1", "dot", "example", "192.0.2.1", 65_535]


@pytest.mark.parametrize(
    "values", [WHO[:4], [*WHO, 1], tuple(WHO), "who", [*WHO[:4], 65_536], [7, *WHO[1:]]]
)
def test_what_does_not_say_who_is_refused(values):
    assert who_from(WHO) == tuple(WHO)
    with pytest.raises(ValueError, match=r"who gave|no port"):
        who_from(values)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"key": None}, "bytes"),
        ({"key": "%"}, "base64|ase64"),
        ({"wire": "%AAA"}, "base64|ase64"),
        ({"key": "A3d3dw=="}, "a key that is no question's"),
        ({"key": "A1dXVwAAAQABAA=="}, "not in lower case"),
        ({"ttl": 2**53}, "9007199254740992"),
        ({"ttl": -1}, "-1"),
        ({"ttl": True}, "True"),
        ({"ttl": 1.5}, "1.5"),
        ({"learnt": float("nan")}, "nan"),
        ({"learnt": "1"}, "'1'"),
        ({"denied": -1}, "-1"),
        ({"learnt": float("inf")}, "inf"),
        ({"ttl": 10**400}, "000"),
        ({"said": {"upstream": "x"}}, "'transport' is missing"),
        ({"said": [1]}, "list indices"),
        ({"said": {**SAID._asdict(), "port": 70_000}}, "70000"),
        ({"said": {**SAID._asdict(), "operator": 7}}, "who gave"),
    ],
)
def test_what_is_no_record_is_refused_with_the_reason(changes, why):
    with pytest.raises(ValueError, match=why):
        from_json({**to_json(record(), 1e9), **changes}, 0.0)


@pytest.mark.parametrize("value", [[], "x", None, 1])
def test_what_is_no_object_is_refused(value):
    with pytest.raises(ValueError, match="not an object"):
        from_json(value, 0.0)


def test_nobody_known_and_no_time_at_all_go_there_and_back():
    none = record(ttl=0, age=0.0, said=Said())
    assert from_json(to_json(none, 1e9), 1e9) == none


def test_the_largest_number_of_seconds_is_one():
    value = {**to_json(record(), 1e9), "ttl": 2**53 - 1}
    assert from_json(value, 0.0).ttl == 2**53 - 1


def test_a_field_that_is_missing_is_named():
    value = to_json(record(), 1e9)
    del value["ttl"]
    with pytest.raises(ValueError, match="'ttl' is missing"):
        from_json(value, 0.0)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.dictionaries(st.sampled_from([*to_json(record(), 1e9)]), JSON) | JSON)
def test_any_json_is_a_record_or_a_value_error(value):
    try:
        from_json(value, 0.0)
    except ValueError:
        return
    raise AssertionError(value)


@given(st.binary(max_size=300))
def test_any_key_is_one_or_a_value_error(key):
    try:
        check_key(key)
    except ValueError:
        return
    assert question_of(key).key == key


def test_nobody_known_said_it():
    assert said_by(None) == Said() == ("", "", "", "", 0, 0.0)
    assert reply_of(record(said=Said())).winner is None
    winner = Attempt(Endpoint("a"), 0.0, 0.5, Outcome.DATA)
    assert said_by(winner) == Said("a", "", "", "", 0, 0.5)
