"""Scripted upstreams: what they say, when, and what they remember."""

import asyncio
import gc

import pytest

from resolverkit import wire as wire_format
from resolverkit.errors import (
    BadReply,
    ConfigurationError,
    NetworkError,
    QueryTimeout,
    ServerFailure,
)
from resolverkit.model import Kind, Outcome
from resolverkit.testing import (
    ScriptedUpstream,
    VirtualLoop,
    answer,
    bad_reply,
    lost,
    network_error,
    nodata,
    nxdomain,
    rcode,
    refused,
    run,
    servfail,
    silent,
    wire,
)
from resolverkit.upstream import Upstream


def question(name="www.example.com", rdtype=1):
    return wire_format.make_question(wire_format.text_to_wire(name), rdtype)


def play(script, *questions, **options):
    """What a script makes of questions asked one after another, and the upstream."""
    upstream = ScriptedUpstream("one", script, **options)

    async def main():
        ends = []
        for asked in questions or (question(),):
            try:
                ends.append(await upstream.query(asked))
            except Exception as error:  # noqa: BLE001
                ends.append(error)
        ends.append(VirtualLoop.running().time())
        return ends

    return *run(main), upstream


def test_it_is_an_upstream():
    upstream = ScriptedUpstream("one", answer("192.0.2.1"), operator="Alpha")
    assert isinstance(upstream, Upstream)
    assert upstream.endpoint.operator == "Alpha"
    assert "one" in repr(upstream)


def test_data_comes_after_its_time_with_one_attempt():
    reply, ended, upstream = play(
        answer("192.0.2.1", "192.0.2.2", ttl=77, after=0.25, ad=True, ede=(3, "old")),
        operator="Alpha",
    )
    assert (reply.kind, reply.ttl, reply.ad) == (Kind.DATA, 77, True)
    assert reply.ede == ((3, "old"),)
    assert ended == upstream.heard == 1000.25
    (attempt,) = reply.attempts
    assert attempt.outcome is Outcome.DATA
    assert (attempt.operator, attempt.started, attempt.elapsed) == ("Alpha", 1000, 0.25)
    assert upstream.asked == [(1000.0, "www.example.com. A")]
    assert upstream.count == 1


def test_aliases_lead_to_the_data():
    reply, *_ = play(answer("192.0.2.1", ttl=60, cname=["a.example", "b.example"]))
    assert reply.kind is Kind.DATA
    assert reply.final == b"\1b\7example\0"
    reply, *_ = play(answer("192.0.2.1", ttl=60, cname=["a.example"], cname_ttl=5))
    assert reply.ttl == 5


def test_an_address_answers_only_its_own_family():
    v4, v6, svcb, *_ = play(
        answer("192.0.2.1"), question(), question(rdtype=28), question(rdtype=65)
    )
    assert v4.kind is Kind.DATA
    assert v6.kind is svcb.kind is Kind.NODATA
    assert v6.soa


@pytest.mark.parametrize(
    ("step", "kind", "soa", "ttl"),
    [
        (nxdomain(ttl=600, minimum=40), Kind.NXDOMAIN, True, 40),
        (nxdomain(soa=False), Kind.NXDOMAIN, False, 0),
        (nxdomain(cname=["gone.example"]), Kind.NXDOMAIN, True, 300),
        (nodata(ttl=20, minimum=40), Kind.NODATA, True, 20),
        (nodata(soa=False), Kind.NODATA, False, 0),
        (rcode(6), Kind.YXDOMAIN, False, 0),
    ],
)
def test_denials(step, kind, soa, ttl):
    reply, *_ = play(step)
    assert (reply.kind, reply.soa, reply.ttl, reply.ra) == (kind, soa, ttl, True)


def test_a_block_as_quad9_says_it():
    reply, *_ = play(nxdomain(soa=False, ra=False, ede=15))
    assert (reply.soa, reply.ra, reply.ede) == (False, False, ((15, ""),))


@pytest.mark.parametrize(
    ("step", "error", "outcome", "ended"),
    [
        (servfail(ede=22), ServerFailure, Outcome.FAILURE, 1000.01),
        (refused(after=0.5), ServerFailure, Outcome.FAILURE, 1000.5),
        (rcode(23), ServerFailure, Outcome.FAILURE, 1000.01),
        (silent(), QueryTimeout, Outcome.TIMEOUT, 1002.0),
        (network_error("no route"), NetworkError, Outcome.NETWORK, 1000.001),
        (bad_reply(), BadReply, Outcome.BAD_REPLY, 1000.01),
        (wire(b"\0" * 12), BadReply, Outcome.BAD_REPLY, 1000.01),
        (lost(answer("192.0.2.1")), QueryTimeout, Outcome.TIMEOUT, 1002.0),
    ],
)
def test_failures(step, error, outcome, ended):
    failure, when, upstream = play(step)
    assert type(failure) is error
    assert when == pytest.approx(ended)
    (attempt,) = failure.attempts
    assert attempt.outcome is outcome
    assert attempt.upstream == "one"
    assert attempt.elapsed == pytest.approx(ended - 1000)
    heard = outcome is Outcome.FAILURE or step.make.__name__ == "<lambda>"
    assert upstream.heard == pytest.approx(ended if heard else 0.0)


def test_a_failure_tells_its_rcode_and_ede():
    failure, *_ = play(rcode(23, ede=(22, "no reach")))
    assert (failure.rcode, failure.ede) == (23, ((22, "no reach"),))
    failure, *_ = play(network_error("no route", local=True))
    assert failure.local
    assert "no route" in str(failure)


def test_a_list_is_played_and_its_last_step_repeats():
    ends = play([servfail(), answer("192.0.2.1")], *[question()] * 3)
    assert [type(end).__name__ for end in ends[:3]] == [
        "ServerFailure",
        "Reply",
        "Reply",
    ]


def test_a_function_decides_for_each_question():
    asked = []

    def script(what, nth):
        asked.append((str(what), nth))
        return servfail() if nth else answer("192.0.2.1")

    first, second, *_ = play(script, question(), question("b.example"))
    assert first.kind is Kind.DATA
    assert isinstance(second, ServerFailure)
    assert asked == [("www.example.com. A", 0), ("b.example. A", 1)]


def test_a_mapping_prefers_its_most_specific_entry():
    script = {
        "*": refused(),
        "WWW.example.com.": [answer("192.0.2.1"), nodata()],
        "www.example.com aaaa": answer("2001:db8::1"),
    }
    ends = play(
        script,
        question(), question(rdtype=28), question(), question("other.example"),
    )  # fmt: skip
    assert [getattr(end, "kind", end) for end in ends[:3]] == [
        Kind.DATA,
        Kind.DATA,
        Kind.NODATA,
    ]
    assert ends[3].rcode == 5
    missing, *_ = play({"a.example": answer("192.0.2.1")}, question())
    assert missing.kind is Kind.NXDOMAIN


def test_another_script_starts_at_its_first_step():
    async def main():
        upstream = ScriptedUpstream("one", [answer("192.0.2.1"), servfail()])
        await upstream.query(question())
        upstream.play([nodata(), servfail()])
        return await upstream.query(question())

    assert run(main).kind is Kind.NODATA


@pytest.mark.parametrize(
    "script",
    [
        [],
        "192.0.2.1",
        ["192.0.2.1"],
        [silent],  # without the call
        {"www.example.com": "192.0.2.1"},
        {"www.example.com FOO": silent()},
        {"a..b": silent()},
    ],
)
def test_a_script_that_is_none_is_told_where_it_is_written(script):
    upstream = ScriptedUpstream("one", silent())
    for take in (lambda script: ScriptedUpstream("one", script), upstream.play):
        with pytest.raises(ConfigurationError, match="allowed are"):
            take(script)


def test_a_function_that_gives_no_step_is_told():
    failure, *_ = play(lambda _question, _nth: None)
    assert isinstance(failure, TypeError)
    assert "allowed is a step" in str(failure)


def test_a_fault_of_the_script_reaches_whoever_waits():
    failure, *_ = play(answer("not an address"))
    assert not isinstance(failure, (BadReply, ServerFailure))
    failure, _, upstream = play(lambda _question, _nth: 1 / 0)
    assert isinstance(failure, ZeroDivisionError)
    assert upstream.count == 0


def test_cancelling_counts_and_a_late_reply_is_heard():
    async def main():
        upstream = ScriptedUpstream("slow", answer("192.0.2.1", after=0.5))
        future = upstream.query(question())
        await asyncio.sleep(0.1)
        future.cancel()
        await asyncio.sleep(0.1)
        assert (upstream.cancelled, upstream.heard) == (1, 0.0)
        assert not upstream.resend(future)
        await asyncio.sleep(1)
        assert (upstream.cancelled, upstream.heard) == (1, 1000.5)

    run(main)


def test_resending_stops_at_three_packets():
    async def main():
        upstream = ScriptedUpstream("lossy", silent())
        future = upstream.query(question())
        await asyncio.sleep(0.1)
        sent = [upstream.resend(future) for _ in range(3)]
        with pytest.raises(QueryTimeout) as caught:
            await future
        assert VirtualLoop.running().time() == 1002
        assert caught.value.attempts[0].sends == 3
        assert not upstream.resend(future)
        return sent, upstream.resent

    sent, resent = run(main)
    assert sent == [True, True, False]
    assert resent == [(1000.1, "www.example.com. A")] * 2


def test_a_lost_packet_is_made_good_by_the_next():
    async def main():
        upstream = ScriptedUpstream("lossy", lost(answer("192.0.2.1", after=0.02), 2))
        future = upstream.query(question())
        await asyncio.sleep(0.1)
        assert upstream.resend(future)
        await asyncio.sleep(0.1)
        assert upstream.resend(future)
        reply = await future
        return reply.attempts[0].sends, VirtualLoop.running().time()

    sends, ended = run(main)
    assert sends == 3
    assert ended == pytest.approx(1000.22)


def test_closing_cancels_what_is_pending():
    async def main():
        upstream = ScriptedUpstream("one", silent())
        future = upstream.query(question())
        await upstream.aclose()
        await upstream.aclose()
        with pytest.raises(asyncio.CancelledError):
            await future
        assert (upstream.closed, upstream.cancelled) == (True, 0)
        with pytest.raises(NetworkError, match="closed") as caught:
            await upstream.query(question())
        assert caught.value.local
        assert caught.value.attempts

    run(main)


def test_it_leaves_no_cycle():
    async def main():
        upstream = ScriptedUpstream("one", [answer("192.0.2.1"), servfail(), silent()])
        gc.collect()
        gc.disable()
        try:
            for _ in range(30):
                future = upstream.query(question())
                await asyncio.wait([future])
                future.exception()
                del future
            return gc.collect()
        finally:
            gc.enable()

    assert run(main) == 0
