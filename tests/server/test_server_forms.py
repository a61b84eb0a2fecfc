"""What is read and told by slices is what is read and told in full, or nothing."""

from __future__ import annotations

import asyncio
import itertools
import struct

import dns.edns
import dns.flags
import dns.message
import pytest
from asking import WWW, Asked, query
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from virtual import upstreams

from resolverkit.entry import Entry
from resolverkit.errors import BadReply
from resolverkit.listener import Pending
from resolverkit.model import Attempt, Endpoint, Outcome
from resolverkit.server import forms as module
from resolverkit.server import reply as replies
from resolverkit.server.forms import find, learn
from resolverkit.server.query import Over, Query, read_query
from resolverkit.testing import Step, answer, run
from resolverkit.wire import read_reply

NAMES = [
    b"\3www\7example\3com\0",
    b"\1a\2BC\0",
    b"\0",
    (b"\x3f" + b"x" * 63) * 3 + b"\0",
]
FLAGS = [0x0100, 0x0120, 0x0110, 0x0130, 0x0180, 0x0000, 0x8100, 0x0900]
OPT = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"
TAILS = [
    b"", OPT, b"\0\0\x29\2\0\0\0\0\0\0\0", b"\0\0\x29\x10\0\0\0\x80\0\0\0",
    OPT[:-1] + b"\4\0\x0c\0\0", b"\0\0\x29\x04\xd0\0\1\0\0\0\0",
    b"\xc0\x0c" + OPT[1:], b"\xc0\x1c" + OPT[1:], b"\1x" + OPT, OPT + b"\0",
    b"\xc0\x0c\0\1\0\1" + bytes(6), b"\xc0\x1c\0\1\0\1" + bytes(6),
]  # fmt: skip


def raw(name, rdtype, rdclass, flags, tail, ident=1):
    additional = tail[:1] != b""
    head = struct.pack("!6H", ident, flags, 1, 0, 0, additional)
    return head + name + struct.pack("!HH", rdtype, rdclass) + tail


TYPES = [1, 28, 15, 65, 255, 41, 252]
QUERY = st.builds(
    raw,
    st.sampled_from(NAMES),
    st.sampled_from(TYPES),
    st.sampled_from([1, 1, 1, 3]),
    st.sampled_from(FLAGS),
    st.sampled_from(TAILS),
    st.integers(0, 65_535),
)


@pytest.fixture(scope="module")
def learnt():
    """Whatever there is to learn of queries for one name."""
    forms = {}
    for rdtype, flags, tail in itertools.product(TYPES, FLAGS, TAILS):
        read = read_query(raw(NAMES[0], rdtype, 1, flags, tail))
        if isinstance(read, Query):
            learn(forms, read)
    return forms


@settings(max_examples=1000)
@given(
    data=st.one_of(
        QUERY,
        st.tuples(QUERY, st.integers(0, 60), st.binary(max_size=3)).map(
            lambda x: x[0][: x[1]] + x[2] + x[0][x[1] + len(x[2]) :]
        ),
    ),
)
def test_a_form_says_what_reading_says(learnt, data):
    found = find(learnt, data)
    if found is not None:
        form, end = found
        read = read_query(data)
        assert form.query(data, end) == read
        assert end == read.end


def test_the_next_of_a_form_is_known():
    """Else the test before would prove nothing."""
    forms = {}
    learn(forms, read_query(query("a.example").to_wire()))
    assert find(forms, query("B.other.example").to_wire())
    for other in (
        query("b.example", "AAAA"),
        query("b.example", payload=512),
        query("b.example", edns=False),
        query("b.example", flags="RD CD"),
        query("b.example", want_dnssec=True),
    ):
        assert find(forms, other.to_wire()) is None


@pytest.mark.parametrize(
    "one",
    [
        raw(NAMES[0], 255, 1, 0x0100, b""),
        raw(NAMES[0], 1, 1, 0x0000, b""),
        raw(NAMES[0], 1, 1, 0x0100, b"\xc0\x1c" + OPT[1:]),
        query(options=[dns.edns.GenericOption(10, b"8" * 8)]).to_wire(),
    ],
    ids=["ANY", "no recursion", "the root by a pointer", "an option"],
)
def test_what_is_read_in_full_each_time(one):
    read = read_query(one)
    assert isinstance(read, Query)
    forms = {}
    learn(forms, read)
    assert find(forms, one) is None


@pytest.mark.parametrize(
    "name",
    [
        b"\x43ww\7example\3com\0",
        b"\3www\xc7example\3com\0",
        b"\4www\7example\3com\0",
        (b"\x3f" + b"x" * 63) * 4 + b"\0",
    ],
    ids=["a long label", "a pointer", "past the end", "a long name"],
)
def test_what_is_no_name_has_no_form(learnt, name):
    one = raw(name, 1, 1, 0x0100, b"")
    assert isinstance(read_query(one), bytes)
    assert find(learnt, one) is None


def test_forms_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "MAX_FORMS", 10)
    forms = {}
    for size in range(512, 550):
        learn(forms, read_query(query(payload=size).to_wire()))
        assert 1 <= len(forms) <= 10


# --- replies -------------------------------------------------------------------------

TTL = st.sampled_from([0, 1, 60, 255, 256, 3600, 604_800, 604_801, 1 << 31])


def message(asked, addresses, flags, edns):
    """An upstream's, of addresses alone."""
    size = 4 if asked.rdtype == 1 else 16
    head = struct.pack("!6H", 0, flags, 1, len(addresses), 0, edns)
    records = b"".join(
        struct.pack("!HHHIH", 0xC00C, asked.rdtype, 1, ttl, size)
        + bytes([i % 256]) * size
        for i, ttl in enumerate(addresses)
    )
    return head + asked.wire[12 : asked.end] + records + (OPT if edns else b"")


def entry_of(asked, wire, age=0):
    """What the cache has of it; by HTTP it may be some seconds old."""
    try:
        reply = read_reply(asked, wire)
    except BadReply:
        return None
    reply.ttl = max(0, reply.ttl - age)
    reply.winner = Attempt(Endpoint("a"), 0.0, 0.01, Outcome.DATA, 0)
    return Entry(asked, reply, 100.0)


PLAIN = st.builds(
    raw,
    st.sampled_from(NAMES),
    st.sampled_from([1, 28]),
    st.just(1),
    st.sampled_from([0x0100, 0x0120, 0x0110, 0x0130, 0x0180]),
    st.sampled_from(TAILS[:4]),
    st.integers(0, 65_535),
)


@given(
    data=PLAIN,
    ttls=st.lists(TTL, min_size=1, max_size=4) | st.lists(st.just(60), max_size=90),
    flags=st.sampled_from([0x8180, 0x81A0, 0x8580, 0x8100, 0x8190, 0x8080]),
    edns=st.booleans(),
    age=st.sampled_from([0, 0, 0, 10]),
)
def test_a_reply_is_what_it_would_be_in_full(data, ttls, flags, edns, age):
    read = read_query(data)
    forms = {}
    learn(forms, read)
    form, end = find(forms, data)
    asked = form.mould.question(read.name, b"")
    entry = entry_of(asked, message(asked, ttls, flags, edns), age)
    assume(entry is not None and entry.plain is not None)
    told = form.reply(data, end, entry.plain, entry.ttl)
    full = replies.fresh(read, Over.UDP, entry.reply, 0.0)
    assert told in {full, None}
    if len(set(ttls)) == 1 and ttls[0] <= 604_800 and not age and not full[2] & 2:
        assert told == full  # it is not silent for no reason
    if told is not None and len(told) > 512:
        assert read.edns


@pytest.mark.parametrize("count", [1, 3, 98])
@pytest.mark.parametrize("over", [Over.UDP, Over.TCP])
@pytest.mark.parametrize(
    "shape", [{}, {"edns": False}, {"flags": "RD AD"}, {"payload": 512}]
)
def test_the_reply_to_a_miss_is_the_same_by_both_ways(shape, over, count):
    async def main():
        step = Step(lambda asked: message(asked, [60] * count, 0x81A0, edns=False), 0)
        async with Asked(*upstreams(step)) as asked:
            one = query(WWW.upper(), ident=7, **shape).to_wire()
            full = await asked.wire(one, over)
            await asked.resolver.store.flush()
            assert find(asked.responder._forms, one)
            assert await asked.wire(one, over) == full
            assert asked.stats.upstream == 2

    run(main)


# --- those who wait ------------------------------------------------------------------


class Prompt:
    """An upstream that tells its listener at once, as our own transports do."""

    name = "prompt"

    def query(self, question):
        self.question = question
        self.asked = Pending(loop=asyncio.get_running_loop())
        return self.asked

    def answer(self):
        wire = message(self.question, [60], 0x8180, edns=False)
        self.asked.set_result(read_reply(self.question, wire))

    async def aclose(self):
        pass


def test_who_waits_is_told_when_the_flight_lands_and_not_a_turn_later():
    async def main():
        prompt = Prompt()
        async with Asked(prompt) as asked:
            told = []
            for _ in range(2):
                asked.responder.ask(query(ident=1).to_wire(), Over.UDP, told.append)
            assert asked.responder.in_flight == asked.stats.in_flight == 2
            prompt.answer()
            first, second = told
            assert first == second
            assert asked.responder.in_flight == asked.stats.in_flight == 0

    run(main)


def test_a_client_that_cannot_be_told_harms_no_other():
    async def main():
        async with Asked(*upstreams(answer("192.0.2.1", after=1.0))) as asked:
            loop, problems = asyncio.get_running_loop(), []
            loop.set_exception_handler(lambda _, told: problems.append(told))

            def broken(_):
                raise RuntimeError("no more")

            asked.responder.ask(query().to_wire(), Over.UDP, broken)
            reply = await asked()
            assert reply.answer
            (told,) = problems
            assert str(told["exception"]) == "no more"

    run(main)


def test_duplicates_wait_for_one_flight_each_with_its_own_case_and_id():
    async def main():
        (upstream,) = upstreams(answer("192.0.2.1", after=1.0))
        async with Asked(upstream) as asked:
            asked_for = [
                query(name, ident=i)
                for i, name in enumerate([WWW, WWW.upper(), "wWw.example.com"])
            ]
            done = await asyncio.gather(*map(asked.wire, asked_for))
            for one, wire in zip(asked_for, done, strict=True):
                reply = dns.message.from_wire(wire)
                assert reply.id == one.id
                assert str(reply.question[0].name) == str(one.question[0].name)
            assert upstream.count == 1

    run(main)
