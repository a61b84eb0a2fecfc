"""model: a path is one line for people, and JSON for machines."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolverkit import wire
from resolverkit.model import (
    AnswerPath,
    Attempt,
    Endpoint,
    Kind,
    Outcome,
    Reply,
    Source,
    ede_text,
    rcode_text,
)

QUAD9 = Endpoint("tls://dns.quad9.net", "dot", "Quad9", "9.9.9.9", 853, filtering=True)
PLAIN = Endpoint("udp://192.0.2.1", "udp", address="192.0.2.1", port=53)

WON = Attempt(QUAD9, 10.005, 0.0123, Outcome.DATA, 0, ((3, ""), (22, "at delegation")))
LOST = Attempt(
    PLAIN, 10.0, 2.0, Outcome.TIMEOUT, detail="", dropped=2, sends=3
)  # fmt: skip
FAILED = Attempt(PLAIN, 10.0, 0.0015, Outcome.FAILURE, 2, (), "SERVFAIL")


def test_an_attempt_tells():
    assert str(WON) == "tls://dns.quad9.net data after 12.3 ms"
    assert str(LOST) == "udp://192.0.2.1 timeout after 2000.0 ms"
    assert str(FAILED) == "udp://192.0.2.1 SERVFAIL after 1.5 ms"
    assert repr(FAILED) == f"<Attempt {FAILED}>"
    assert (WON.upstream, WON.transport) == ("tls://dns.quad9.net", "dot")
    assert (WON.operator, WON.address) == ("Quad9", "9.9.9.9")
    assert json.loads(json.dumps(WON.to_dict(since=10.0))) == {
        "upstream": "tls://dns.quad9.net",
        "transport": "dot",
        "operator": "Quad9",
        "address": "9.9.9.9",
        "started_ms": 5.0,
        "elapsed_ms": 12.3,
        "outcome": "data",
        "rcode": "NOERROR",
        "ede": [{"code": 3, "text": ""}, {"code": 22, "text": "at delegation"}],
        "detail": "",
        "dropped": 0,
        "sends": 1,
    }
    assert LOST.to_dict()["rcode"] is None
    assert (LOST.to_dict()["dropped"], LOST.to_dict()["sends"]) == (2, 3)


def clock():
    return 100.0


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (
            AnswerPath(Source.UPSTREAM, WON, (FAILED, WON), 60, 100, clock=clock),
            "upstream: tls://dns.quad9.net (Quad9) over dot in 12.3 ms; "  # noqa: ISC004
            "EDE 3 (Stale Answer); EDE 22 (No Reachable Authority): at delegation; "
            "also tried udp://192.0.2.1 SERVFAIL after 1.5 ms",
        ),
        (
            AnswerPath(Source.CACHE, None, (), 60, 58, clock=clock),
            "cache, 42 s old",
        ),
        (
            AnswerPath(Source.STALE, FAILED, (FAILED,), 60, 10, clock=clock),
            "stale, 90 s old, 30 s past its TTL: udp://192.0.2.1 over udp in 1.5 ms",
        ),
        (AnswerPath(Source.HELD, None, (), 60, 10, disputed=True, clock=clock),
         "held, 90 s old, 30 s past its TTL; disputed"),
        (AnswerPath(Source.CACHE, None, (), 60, 58, clock=clock, asked=3, agreed=2),
         "cache, 42 s old; 2 of 3 agree"),
        (AnswerPath(Source.UPSTREAM, FAILED, (FAILED,), disputed=True, asked=3),
         "upstream: udp://192.0.2.1 over udp in 1.5 ms; 0 of 3 agree; disputed"),
        (AnswerPath(Source.LOCAL, detail="RFC 6761"), "local; RFC 6761"),
        (AnswerPath(Source.UPSTREAM), "no upstream answered"),
        (
            AnswerPath(Source.UPSTREAM, None, (LOST, FAILED), detail="all failed"),
            "no upstream answered; all failed; tried "  # noqa: ISC004
            "udp://192.0.2.1 timeout after 2000.0 ms, "
            "udp://192.0.2.1 SERVFAIL after 1.5 ms",
        ),
    ],
)  # fmt: skip
def test_a_path_is_one_line(path, line):
    assert str(path) == line
    assert json.loads(json.dumps(path.to_dict()))["source"] == str(path.source)


def test_a_path_as_json():
    path = AnswerPath(Source.STALE, WON, (LOST, WON), 60, 10.5, clock=clock)
    told = json.loads(json.dumps(path.to_dict()))
    attempts = told.pop("attempts")
    assert told == {
        "source": "stale",
        "upstream": "tls://dns.quad9.net",
        "transport": "dot",
        "operator": "Quad9",
        "address": "9.9.9.9",
        "rtt_ms": 12.3,
        "age": 89.5,
        "stale_for": 29.5,
        "disputed": False,
        "asked": 0,
        "agreed": 0,
        "detail": "",
        "ede": [{"code": 3, "text": ""}, {"code": 22, "text": "at delegation"}],
    }
    assert [a["started_ms"] for a in attempts] == [0.0, 5.0]  # from the first one


def test_a_path_without_winner():
    path = AnswerPath(Source.UPSTREAM, None, (LOST,))
    assert (path.upstream, path.transport, path.operator) == (None, None, None)
    assert (path.address, path.rtt, path.ede) == (None, None, ())
    assert (path.age, path.stale_for) == (0, 0)
    assert path.to_dict()["rtt_ms"] is None


def test_the_winner_s_is_the_path_s():
    path = AnswerPath(Source.UPSTREAM, WON, (WON,))
    assert (path.upstream, path.transport, path.operator, path.address) == (
        WON.upstream, WON.transport, WON.operator, WON.address,
    )  # fmt: skip
    assert (path.rtt, path.ede) == (WON.elapsed, WON.ede)


def test_age_is_worked_out_when_read():
    now = [100.0]
    path = AnswerPath(Source.CACHE, ttl=60, learnt=90.0, clock=lambda: now[0])
    assert (path.age, path.stale_for) == (10, 0)
    now[0] = 160.0
    assert (path.age, path.stale_for) == (70, 10)
    now[0] = 80.0  # a clock that went back
    assert (path.age, path.stale_for) == (0, 0)


@given(st.integers(0, 65_535), st.text(max_size=20))
def test_any_ede_and_any_detail_is_one_printable_line(code, text):
    """They come from the network: no line breaks, no escape sequences in a log."""
    won = Attempt(QUAD9, 0, 0, Outcome.DATA, 0, ((code, text),))
    lost = Attempt(PLAIN, 0, 0, Outcome.NETWORK, detail=text)
    path = AnswerPath(Source.UPSTREAM, won, (won, lost), detail=text)
    line = str(path)
    assert len(line.splitlines()) == 1
    assert line.isprintable()
    assert str(lost).isprintable()
    assert ede_text((code, text)).startswith(str(code))
    assert json.loads(json.dumps(path.to_dict()))["ede"] == [
        {"code": code, "text": text}
    ]


@given(st.integers(0, 4095))
def test_every_rcode_has_a_text(rcode):
    assert rcode_text(rcode)


def test_what_travels():
    path = AnswerPath(Source.CACHE, WON, (LOST, WON), 60, 10, clock=clock)
    pickled = pickle.loads(pickle.dumps(path))  # noqa: S301 - our own
    for again in (pickled, copy.deepcopy(path)):
        assert str(again) == str(path)
        assert again.to_dict() == path.to_dict()


def test_values_cannot_be_changed_by_mistake():
    question = wire.make_question(b"\1a\0", 1)
    path = AnswerPath(Source.LOCAL)
    for value, attr in ((question, "key"), (path, "source"), (QUAD9, "name")):
        with pytest.raises(AttributeError):
            setattr(value, attr, None)
    for value in (WON, Reply(b"", Kind.DATA, 0, 0, b"\0")):
        with pytest.raises(AttributeError):
            value.no_such_attribute = 1


def test_a_reply_tells():
    reply = Reply(b"12345", Kind.NXDOMAIN, 3, 60, b"\0")
    assert repr(reply) == "<Reply NXDOMAIN ttl=60 5 bytes>"
    assert reply.denial
    assert not Reply(b"", Kind.DATA, 0, 60, b"\0").denial


def test_a_question_tells():
    question = wire.make_question(wire.text_to_wire("Www.Example"), 65_400)
    assert str(question) == "www.example. TYPE65400"
    assert question.wire_name == b"\3www\7example\0"
    assert question == wire.make_question(b"\3www\7example\0", 65_400)
    assert len({question, wire.make_question(b"\3www\7example\0", 65_400)}) == 1
