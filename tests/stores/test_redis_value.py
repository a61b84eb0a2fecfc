"""What a Redis server keeps of a record: bytes that come back whole, or not at all."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolverkit.record import Record, Said
from resolverkit.stores.packed import micros, pack
from resolverkit.stores.redis_value import MAX_VALUE, learning, record_of

NOW = 1_700_000_000_000_000
KEY = b"\7example\0\0\1\0\1\0"
TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
SAIDS = st.just(Said()) | st.builds(
    Said, TEXT, TEXT, TEXT, TEXT, st.integers(0, 65_535), st.floats(0, 1e6)
)
RECORDS = st.builds(
    Record,
    st.just(KEY),
    st.binary(min_size=1, max_size=600),
    st.integers(0, 2**31 - 1),
    st.integers(0, 10**12).map(lambda age: age / 1e6),
    st.none() | st.integers(0, 10**12).map(lambda age: age / 1e6),
    SAIDS,
    st.booleans(),
)


def value(record, now=NOW):
    """As the script puts it together."""
    given = learning(record, 1)
    age, denied = int(given[16:32]), int(given[32:48])
    return b"%016d%016d" % (now - age, denied and now - denied + 1) + given[48:]


@given(RECORDS)
def test_what_is_packed_comes_back(record):
    found = record_of(KEY, value(record), NOW)
    assert found._replace(age=0, denied=None) == record._replace(age=0, denied=None)
    assert found.age == pytest.approx(record.age, abs=2e-6)
    assert (found.denied is None) == (record.denied is None)
    if record.denied is not None:
        assert found.denied == pytest.approx(record.denied, abs=2e-6)


@given(RECORDS, st.data())
def test_what_was_tampered_with_is_a_record_or_nothing(record, data):
    """Any record that comes out is one that packs to the same again."""
    whole = bytearray(value(record))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, min(len(whole), 120) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    for each in (bytes(whole), bytes(whole[:cut])):
        found = record_of(KEY, each, NOW)
        if found is not None:
            assert record_of(KEY, each[:32] + pack(found)[2], NOW) == found
            assert found.age >= 0
            assert found.denied is None or found.denied >= 0


@given(st.binary(max_size=200))
def test_any_bytes_are_a_record_or_nothing(data):
    for each in (data, b"0" * 32 + data, b"0" * 32 + b"\1\0" + data):
        found = record_of(KEY, each, NOW)
        assert found is None or record_of(KEY, each[:32] + pack(found)[2], NOW) == found


HEAD = struct.Struct(">BBIdH")


@pytest.mark.parametrize(
    "body",
    [
        HEAD.pack(0, 0, 60, 0.0, 0) + b"wire",
        HEAD.pack(1, 0, 60, 0.0, 0) + b"wire",
        HEAD.pack(2, 2, 60, 0.0, 0) + b"wire",
        HEAD.pack(2, 0, 2**31, 0.0, 0) + b"wire",
        HEAD.pack(2, 0, 60, -1.0, 0) + b"wire",
        HEAD.pack(2, 0, 60, float("nan"), 0) + b"wire",
        HEAD.pack(2, 0, 60, float("inf"), 0) + b"wire",
        HEAD.pack(2, 0, 60, 0.0, 0),
        HEAD.pack(2, 0, 60, 0.0, 9) + b"wire",
        HEAD.pack(2, 0, 60, 0.0, 2) + b"\xff\xffwire",
        HEAD.pack(2, 0, 60, 0.0, 2) + b"[]wire",
        HEAD.pack(2, 0, 60, 0.0, 4000) + b"[" * 4000 + b"wire",
        HEAD.pack(2, 0, 60, 0.0, 4000) + b'["","","","",' + b"9" * 3986 + b"]wire",
        HEAD.pack(2, 0, 60, 0.0, 4097) + b" " * 4077 + b'["x","","","",1]' + b"wire",
        HEAD.pack(2, 0, 60, 0.0, 0) + bytes(65_536),
        HEAD.pack(2, 0, 60, 0.0, 0)[:-1],
        b"",
    ],
)
def test_what_nobody_packs_is_nothing(body):
    assert record_of(KEY, b"%016d%016d" % (NOW, 0) + body, NOW) is None


@pytest.mark.parametrize(
    "dates", [b"+" + b"0" * 31, b" " * 32, b"0" * 31 + b"\n", "٠".encode() * 16]
)
def test_dates_are_digits(dates):
    body = pack(Record(KEY, b"wire", 60, 0.0))[2]
    assert record_of(KEY, b"0" * 32 + body, NOW) is not None
    assert record_of(KEY, dates + body, NOW) is None


def test_the_longest_fits_and_what_is_longer_is_left_out():
    said = Said("x" * 5000, "dot", "", "", 1, 0.0)
    longest = Record(KEY, bytes(65_535), 2**40, 0.0, None, Said("x" * 4000))
    assert len(value(longest)) <= MAX_VALUE
    assert record_of(KEY, value(longest), NOW) == longest._replace(ttl=2**31 - 1)
    assert pack(Record(KEY, bytes(65_536), 60, 0.0)) is None
    assert (
        record_of(KEY, value(Record(KEY, b"w", 60, 0.0, None, said)), NOW).said
        == Said()
    )


def test_ages_that_no_clock_has_are_thirty_years():
    assert micros(float("inf")) == micros(1e300) == 10**15
    assert micros(0.0) == 0


def test_dates_in_the_future_are_just_past_the_ttl():
    record = Record(KEY, b"wire", 60, 0.0, 0.0)
    found = record_of(KEY, value(record, NOW + 1), NOW)
    assert (found.age, found.denied) == (60.0, 0.0)
