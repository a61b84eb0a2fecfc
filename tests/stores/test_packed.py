"""A record as a body of bytes: who gave it, and what is no body."""

from __future__ import annotations

import pytest

from resolverkit.record import Record, Said
from resolverkit.stores.packed import micros, pack, unpack

KEY = b"\7example\0\0\1\0\1\0"


def kept(said):
    """A record given by `said` that a store has had."""
    record = Record(KEY, b"wire", 60, 0.0, None, said)
    return unpack(KEY, pack(record)[2], 0.0, None)


@pytest.mark.parametrize(
    "said",
    [
        Said("tls://192.0.2.1", "dot", "example", "192.0.2.1", 853, 0.012),
        Said('a"],', "dot", "\u00e9,\n", "", 0, 1e-9),
        Said("", "", "", "", 65_535, 0.5),
        Said(elapsed=0.5),
    ],
)
def test_who_said_it_goes_there_and_back(said):
    assert kept(said).said == said


def test_what_is_no_text_is_replaced():
    assert kept(Said("\ud800x")).said == Said("?x")


@pytest.mark.parametrize(
    "who",
    ["", "[]", "{}", "null", "[" * 3000, "[1,2,3,4,5]", '["","","","",65536]',
     '["","","","",-1]', '["","","","",1.5]', '["","","",""]', '["","","","",1,2]'],
)  # fmt: skip
def test_who_nobody_is_makes_no_record(who):
    whole = pack(Record(KEY, b"wire", 60, 0.0, None, Said("u")))[2]
    head, said = whole[:16], b'["u","","","",0]'
    assert whole == head + said + b"wire"
    given = head[:14] + len(who).to_bytes(2, "big") + who.encode() + b"wire"
    found = unpack(KEY, given, 0.0, None)
    assert (found is None) == (who != "")


def test_ages_and_the_ttl_are_in_bounds():
    assert pack(Record(KEY, b"wire", 60, 1.5, 0.25))[:2] == (1_500_000, 250_001)
    assert pack(Record(KEY, b"wire", 60, 0.0))[:2] == (0, 0)
    assert micros(float("inf")) == micros(1e300) == micros(1e9) == 10**15
    for given, ttl in ((-1, 0), (0, 0), (2**31 - 1, 2**31 - 1), (2**40, 2**31 - 1)):
        record = Record(KEY, b"wire", given, 0.0)
        assert unpack(KEY, pack(record)[2], 0.0, None).ttl == ttl
