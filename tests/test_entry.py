"""entry: what is packed comes out as it went in, and is charged while it is kept."""

from __future__ import annotations

import struct

import pytest
from virtual import data, denial, question

from resolverkit import wire
from resolverkit.entry import Entry
from resolverkit.memory import Memory
from resolverkit.model import Attempt, Endpoint, Kind, Outcome, Reply
from resolverkit.policy import StalePolicy

WHO = Endpoint("udp://192.0.2.1", "udp", "A", "192.0.2.1", 53)
FIELDS = [
    field
    for field in (*Reply.__slots__, "attempts", "quorum")
    if not field.startswith("_") and field not in {"winner", "attempts"}
]


def reply(asked=None, *, ttl=60, aa=False, **winner):
    asked = asked or question()
    made = bytearray(data(asked, ttl))
    if aa:
        made[2] |= 4
        made[3] = 0x20  # AD, and no RA
    found = wire.read_reply(asked, bytes(made))
    told = {"rcode": 0, "started": 5.25, "elapsed": 0.0101, "outcome": Outcome.DATA}
    found.winner = Attempt(WHO, **{**told, **winner})
    return found


def same(one, other):
    assert {f: getattr(one, f) for f in FIELDS} == {
        f: getattr(other, f) for f in FIELDS
    }
    told = [[getattr(a, f) for f in Attempt.__slots__] for a in one.attempts]
    assert told == [[getattr(a, f) for f in Attempt.__slots__] for a in other.attempts]
    assert other.winner is None or other.winner in other.attempts


def contested(found):
    found.attempts = (Attempt(WHO, 1.0, 0.5, Outcome.OVERTAKEN), found.winner)


def changed(field, value):
    def change(found):
        setattr(found, field, value)

    return change


@pytest.mark.parametrize(
    "change",
    [
        contested,
        changed("plain", False),
        changed("disputed", True),
        changed("quorum", (3, 2)),
        changed("winner", None),
    ],
)
def test_a_reply_with_more_to_it_is_kept_whole(change):
    found = reply()
    change(found)
    entry = Entry(question(), found, 100.0)
    assert entry.reply is found
    assert entry.plain is None


@pytest.mark.parametrize(
    "winner",
    [
        {"sends": 2},
        {"dropped": 1},
        {"detail": "why"},
        {"rcode": None},
        {"outcome": Outcome.NODATA},
    ],
)
def test_so_is_one_with_more_to_its_attempt(winner):
    found = reply(**winner)
    assert Entry(question(), found, 100.0).reply is found


@pytest.mark.parametrize("ttl", [0, 1, 3600, 604_800])
@pytest.mark.parametrize("asked", [question(), question("."), question(view=b"route")])
@pytest.mark.parametrize("aa", [False, True])
def test_what_most_replies_say_is_packed_and_made_again(ttl, asked, aa):
    found = reply(asked, ttl=ttl, aa=aa)
    entry = Entry(asked, found, 100.5)
    same(found, entry.reply)
    assert entry.reply is not found  # it can be let go of
    assert entry.plain == found.wire
    assert (entry.kind, entry.learnt, entry.ttl) == (Kind.DATA, 100.5, ttl)
    assert entry.expires == 100.5 + ttl
    assert (entry.name, entry.rdtype) == (asked.wire_name, 1)
    assert entry.question == asked


@pytest.mark.parametrize("ttl", [30.5, -1])
def test_a_users_own_upstream_may_say_any_seconds(ttl):
    found = reply()
    found.ttl = ttl
    entry = Entry(question(), found, 100.0)
    assert (entry.ttl, entry.reply.ttl) == (int(ttl), int(ttl))


def test_a_denial():
    asked = question()
    found = wire.read_reply(asked, denial(asked))
    entry = Entry(asked, found, 100.0)
    assert entry.reply is found
    assert entry.kind is Kind.NXDOMAIN
    assert (entry.ttl, entry.expires) == (300, 400.0)


def memory(max_bytes=1_000_000):
    return Memory(lambda: 100.0, StalePolicy(), max_bytes)


def test_what_failed_is_forgotten_before_what_is_good():
    kept = memory(20_000)
    entries = []
    while kept.size < 19_000:
        entries.append(kept.learn(question(f"n{len(entries)}.example"), reply(), 1.0))
    failed = Attempt(WHO, 1.0, 2.0, Outcome.TIMEOUT)
    for entry in entries:
        kept.failed(entry, 2.0, (failed,) * 2)
    assert kept.size > 20_000  # in an outage nothing is learnt that would make room
    kept.learn(question("new.example"), reply(), 3.0)
    assert (kept.evictions, len(kept)) == (0, len(entries) + 1)
    assert kept.size <= 20_000
    assert [entry.failed_at for entry in entries[:-1]] == [None] * (len(entries) - 1)
    assert charged(kept)[0] == kept.size


def charged(kept):
    """What entries say they take, and what the memory says, which is the same."""
    return sum(entry.size for entry in kept.entries()), kept.size


def test_what_becomes_of_an_entry_is_charged():
    kept = memory()
    entry = kept.learn(question(), reply(), 100.0)
    sizes = [entry.size]
    for change in (
        lambda: kept.remember(entry, kept.hot.setdefault(1, {}), "www.example.com"),
        lambda: kept.remember(entry, kept.hot[1], (b"www", b"example", b"com", b"")),
        lambda: kept.failed(entry, 101.0, (Attempt(WHO, 1.0, 2.0, Outcome.TIMEOUT),)),
    ):
        change()
        sizes.append(entry.size)
        assert charged(kept) == (entry.size, entry.size)
    assert sizes == sorted(set(sizes))
    assert set(kept.hot[1].values()) == {entry}
    kept.drop(entry)
    assert (kept.size, kept.hot[1]) == (0, {})


def test_a_newer_reply_takes_the_place_of_an_entry():
    kept = memory()
    old = kept.learn(question(), reply(), 100.0)
    kept.remember(old, kept.hot.setdefault(1, {}), "www.example.com")
    new = kept.learn(question(), reply(ttl=70), 120.0)
    assert new is not old
    assert kept.find(question()) is new
    assert old.refresh_at < 0  # for who still has it at hand
    assert kept.hot[1] == {}
    assert charged(kept) == (new.size, new.size)


def test_an_entry_of_another_table_stays_where_hits_find_it():
    kept = memory()
    entry = kept.learn(question(), reply(), 100.0)
    other = Entry(question(), reply(), 100.0)
    kept.remember(entry, kept.hot.setdefault(1, {}), "www.example.com")
    kept.hot[1]["www.example.com"] = other
    kept.drop(entry)
    assert kept.hot[1] == {"www.example.com": other}


def test_what_was_parsed_first_is_forgotten_first():
    """A sixteenth of the bytes is for it; callers keep what they have."""

    class Answer:
        def __init__(self, entry):
            self.entry = entry

    kept = memory(160_000)
    answers = []
    for i in range(20):
        asked = question(f"n{i}.example.com")
        entry = kept.learn(asked, reply(asked), 100.0)
        entry.answer = Answer(entry)
        answers.append(entry.answer)
        kept.charge(entry.answer, 1_000)
    still = [answer.entry.answer is answer for answer in answers]
    assert still == [False] * 10 + [True] * 10
    sizes, size = charged(kept)
    assert size == sizes + 10_000
    kept.charge(Answer(answers[0].entry), 1_000)  # one that no hit shares
    assert kept.size == size
    kept.clear()
    assert (kept.size, answers[-1].entry.answer) == (0, None)


def test_so_is_a_message_that_was_parsed_to_be_judged():
    kept = memory(160_000)
    entries = []
    for i in range(4):
        asked = question(f"n{i}.example.com", 16)
        header = struct.pack("!HHHHHH", 0, 0x8180, 1, 1, 0, 0)
        record = struct.pack("!HHHIH2s", 0xC00C, 16, 1, 60, 2, b"\1x")
        wired = header + asked.wire[12 : asked.end] + record
        entries.append(kept.learn(asked, wire.read_reply(asked, wired), 100.0))
    assert [entry.message is not None for entry in entries] == [False] * 2 + [True] * 2
