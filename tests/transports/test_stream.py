"""DNS over TCP against servers that answer late, wrongly, in pieces or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import secrets
from contextvars import ContextVar

import pytest
from loopback import (
    PATIENCE,
    Server,
    answer,
    answer_all,
    ask,
    frame,
    read_query,
    run,
    skip,
    until,
)

from resolverkit.errors import BadReply, NetworkError, QueryTimeout, ServerFailure
from resolverkit.model import Endpoint, Outcome
from resolverkit.transports import reconnect, stream
from resolverkit.transports.stream import Frames, Tcp
from resolverkit.upstream import Upstream


def tcp(server: Server, timeout: float = PATIENCE, **options) -> Tcp:
    return Tcp(server.endpoint("tcp", "tcp"), timeout=timeout, **options)


async def hold(reader, writer, n):
    """Read and say nothing."""
    while await reader.read(4096):
        pass


def test_is_an_upstream_and_returns_a_future():
    async def main():
        async with Server(answer_all) as server:
            upstream = tcp(server)
            assert isinstance(upstream, Upstream)
            assert upstream.name == f"tcp://127.0.0.1:{server.port}"
            future = upstream.query(ask())
            assert isinstance(future, asyncio.Future)
            reply = await future
            assert reply.ttl == 300
            (attempt,) = reply.attempts
            assert (attempt.outcome, attempt.transport) == (Outcome.DATA, "tcp")
            assert (attempt.sends, attempt.dropped) == (1, 0)
            assert upstream.heard >= attempt.started > 0
            await upstream.aclose()

    run(main)


class Recorder:
    """The transport of a connection; keeps what is written, call by call."""

    def __init__(self, transport):
        self.transport = transport
        self.writes = []

    def write(self, data):
        self.writes.append(bytes(data))
        self.transport.write(data)

    def writelines(self, parts):
        self.writes += [bytes(part) for part in parts]
        self.transport.writelines(parts)

    def __getattr__(self, attr):
        return getattr(self.transport, attr)


def frames(data):
    """The messages in it, which must be whole."""
    found = []
    while data:
        end = 2 + int.from_bytes(data[:2], "big")
        assert len(data) >= end
        found.append(data[2:end])
        data = data[end:]
    return found


def test_the_length_is_in_the_same_write_as_its_message():
    """RFC 7766 section 8."""

    async def main():
        async with Server(answer_all) as server:
            upstream = tcp(server)
            await upstream.query(ask())
            link = upstream._channel
            link._transport = recorder = Recorder(link._transport)
            await upstream.query(ask())
            await asyncio.gather(*(upstream.query(ask()) for _ in range(3)))
            assert [len(frames(data)) for data in recorder.writes] == [1, 3]
            await upstream.aclose()

    run(main)


def test_one_connection_serves_one_question_after_another():
    """RFC 7766 section 6.2.1."""

    async def main():
        async with Server(answer_all) as server:
            upstream = tcp(server)
            for _ in range(5):
                await upstream.query(ask())
            assert server.connections == 1
            await upstream.aclose()

    run(main)


def test_the_next_question_does_not_wait_for_the_first_reply():
    """RFC 7766 section 6.2.1.1."""
    seen = []

    async def main():
        go = asyncio.Event()

        async def patient(reader, writer, n):
            seen.append(await read_query(reader))
            seen.append(await read_query(reader))
            await go.wait()
            writer.write(b"".join(frame(answer(query)) for query in seen))
            await reader.read()

        async with Server(patient) as server:
            upstream = tcp(server)
            first = upstream.query(ask("a.example"))
            await until(lambda: len(seen) == 1)
            second = upstream.query(ask("b.example"))
            await until(lambda: len(seen) == 2)
            assert not first.done()
            go.set()
            await asyncio.gather(first, second)
            assert server.connections == 1
            await upstream.aclose()

    run(main)


def test_200_questions_are_pipelined_and_answered_in_any_order():
    """RFC 7766 section 7: replies are matched by id and question."""
    ids = set()

    async def shuffled(reader, writer, n):
        queries = [await read_query(reader) for _ in range(200)]
        ids.update(query[:2] for query in queries)
        random.shuffle(queries)
        writer.write(b"".join(frame(answer(query)) for query in queries))
        await reader.read()

    async def main():
        async with Server(shuffled) as server:
            upstream = tcp(server)
            questions = [ask(f"host{i}.example") for i in range(200)]
            replies = await asyncio.gather(*map(upstream.query, questions))
            assert [r.final for r in replies] == [q.wire_name for q in questions]
            assert len(ids) == 200
            assert server.connections == 1
            await upstream.aclose()

    run(main)


def test_one_slow_reply_delays_no_other():
    async def main():
        others_are_there = asyncio.Event()

        async def slow_for_the_first(reader, writer, n):
            first = await read_query(reader)
            for _ in range(49):
                writer.write(frame(answer(await read_query(reader))))
            await others_are_there.wait()
            writer.write(frame(answer(first)))
            await reader.read()

        async with Server(slow_for_the_first) as server:
            upstream = tcp(server)
            questions = [ask(f"host{i}.example") for i in range(50)]
            slow, *others = map(upstream.query, questions)
            await asyncio.gather(*others)
            assert not slow.done()
            others_are_there.set()
            assert (await slow).final == questions[0].wire_name
            assert server.connections == 1
            await upstream.aclose()

    run(main)


def test_no_two_outstanding_questions_share_an_id(monkeypatch):
    drawn = [b"\0\7" * 256, b"\0\7" * 255 + b"\0\10"]
    seen = []

    async def two(reader, writer, n):
        queries = [await read_query(reader), await read_query(reader)]
        seen.extend(query[:2] for query in queries)
        writer.write(b"".join(frame(answer(query)) for query in queries))
        await reader.read()

    async def main():
        monkeypatch.setattr(secrets, "token_bytes", lambda _: drawn.pop(0))
        async with Server(two) as server:
            upstream = tcp(server)
            await asyncio.gather(upstream.query(ask()), upstream.query(ask()))
            assert sorted(seen) == [b"\0\7", b"\0\10"]
            await upstream.aclose()

    run(main)


def test_frames_that_do_not_fit_are_dropped_and_the_wait_goes_on():
    async def noisy(reader, writer, n):
        query = await read_query(reader)
        good = answer(query)
        other = bytes((query[0], query[1] ^ 1)) + good[2:]
        writer.write(frame(other))  # another id: nobody's, or a late one
        writer.write(frame(good.replace(b"\3www", b"\3xyz")))  # another question
        writer.write(frame(query))  # not a response
        writer.write(frame(good[:4] + b"\0\0" + good[6:]))  # QDCOUNT 0 (RFC 9619)
        writer.write(frame(good[:4] + b"\0\2" + good[6:]))
        writer.write(frame(good[:20]) + frame(b"") + frame(b"\0") + frame(good))
        await reader.read()

    async def main():
        async with Server(noisy) as server:
            upstream = tcp(server)
            reply = await upstream.query(ask())
            assert reply.attempts[0].dropped == 5
            await upstream.aclose()

    run(main)


def test_frames_may_be_split_at_every_octet():
    async def main():
        async with Server(hold) as server:
            upstream = tcp(server)
            first = upstream.query(ask())
            await until(lambda: first.under_way.sends)
            link = upstream._channel
            assert isinstance(link, Frames)
            for cut in range(140):
                asked = [upstream.query(ask(f"h{i}.example")) for i in range(3)]
                whole = b"".join(
                    frame(answer(a.under_way.tag + a.under_way.question.wire[2:]))
                    for a in asked
                )
                for part in (whole[:cut], whole[cut:]):
                    link.get_buffer(-1)[: len(part)] = part
                    link.buffer_updated(len(part))
                assert all(a.done() for a in asked)
                assert [(await a).final for a in asked] == [
                    a.under_way.question.wire_name for a in asked
                ]
            first.cancel()
            await upstream.aclose()

    run(main)


def test_the_largest_frame_fits_behind_a_partial_one():
    async def main():
        async with Server(hold) as server:
            upstream = tcp(server)
            asked = upstream.query(ask())
            await until(lambda: asked.under_way.sends)
            link = upstream._channel
            good = frame(
                answer(asked.under_way.tag + asked.under_way.question.wire[2:])
            )
            data = (frame(bytes(65_535)) * 3 + good)[:-1]
            while data:
                room = link.get_buffer(-1)
                assert len(room) > 0
                part, data = data[: len(room)], data[len(room) :]
                room[: len(part)] = part
                link.buffer_updated(len(part))
            link.get_buffer(-1)[:1] = good[-1:]
            link.buffer_updated(1)
            assert (await asked).ttl == 300
            await upstream.aclose()

    run(main)


def test_what_is_idle_is_closed_by_us(monkeypatch):
    """RFC 7766 section 6.2.3; and the next question makes a new connection."""
    monkeypatch.setattr(stream, "IDLE_TIMEOUT", 0.02)
    ended = []

    async def note(reader, writer, n):
        with contextlib.suppress(asyncio.IncompleteReadError):
            await answer_all(reader, writer, n)
        ended.append(n)

    async def main():
        async with Server(note) as server:
            upstream = tcp(server)
            for n in (1, 2):
                await upstream.query(ask())
                await until(lambda n=n: ended == [*range(1, n + 1)])
                assert upstream._channel is None
            await until(lambda: not upstream._channels)
            await upstream.aclose()

    run(main)


def test_what_is_in_use_is_not_idle(monkeypatch):
    monkeypatch.setattr(stream, "IDLE_TIMEOUT", 0.01)
    late = []

    async def main():
        async def slow(reader, writer, n):
            while True:
                late.append((await read_query(reader), writer))

        async with Server(slow) as server:
            upstream = tcp(server)
            asked = upstream.query(ask())
            await until(lambda: late)
            link = upstream._channel
            for _ in range(3):  # it is looked at, while the question waits
                timer = link._idle
                await until(lambda timer=timer: link._idle is not timer)
            query, writer = late.pop()
            writer.write(frame(answer(query)))
            await asked
            assert server.connections == 1
            await upstream.aclose()
            assert link._idle.cancelled()

    run(main)


def test_an_idle_close_costs_nothing():
    """RFC 7766 section 6.2.4: by the server."""

    async def once(reader, writer, n):
        writer.write(frame(answer(await read_query(reader))))

    async def main():
        async with Server(once) as server:
            upstream = tcp(server)
            for _ in range(5):
                assert (await upstream.query(ask())).ttl == 300
            assert server.connections == 5
            await upstream.aclose()

    run(main)


def test_a_close_in_mid_answer_is_asked_again_once():
    """RFC 7766 section 6.2.4."""

    async def half(reader, writer, n):
        query = await read_query(reader)
        reply = frame(answer(query))
        if n == 1:
            writer.write(reply[:20])
        else:
            writer.write(reply)
            await reader.read()

    async def main():
        async with Server(half) as server:
            upstream = tcp(server)
            reply = await upstream.query(ask())
            assert reply.attempts[0].sends == 2
            assert server.connections == 2
            await upstream.aclose()

    run(main)


def test_a_second_loss_fails():
    async def never(reader, writer, n):
        await read_query(reader)

    async def main():
        async with Server(never) as server:
            upstream = tcp(server)
            with pytest.raises(NetworkError, match="closed by the server") as caught:
                await upstream.query(ask())
            (attempt,) = caught.value.attempts
            assert (attempt.outcome, attempt.sends) == (Outcome.NETWORK, 2)
            assert not caught.value.local
            assert server.connections == 2
            await upstream.aclose()

    run(main)


def test_silence_times_out_and_the_stream_is_replaced():
    async def first_is_mute(reader, writer, n):
        await (hold if n == 1 else answer_all)(reader, writer, n)

    async def main():
        async with Server(first_is_mute) as server:
            upstream = tcp(server)
            old = upstream.query(ask("old.example"))
            skip(PATIENCE / 2)
            young = upstream.query(ask("young.example"))
            await until(lambda: young.under_way.sends)
            skip(PATIENCE / 2)
            with pytest.raises(QueryTimeout) as caught:
                await old
            assert caught.value.attempts[0].outcome is Outcome.TIMEOUT
            reply = await young  # on the new connection
            assert reply.attempts[0].sends == 2
            assert server.connections == 2
            await upstream.aclose()

    run(main)


def test_a_stream_that_still_talks_is_kept_after_a_timeout():
    async def ignores_one(reader, writer, n):
        while True:
            query = await read_query(reader)
            if b"\4mute" not in query:
                writer.write(frame(answer(query)))

    async def main():
        async with Server(ignores_one) as server:
            upstream = tcp(server)
            mute = upstream.query(ask("mute.example"))
            await upstream.query(ask())
            skip(PATIENCE)
            with pytest.raises(QueryTimeout):
                await mute
            await upstream.query(ask())
            assert server.connections == 1
            await upstream.aclose()

    run(main)


def test_cancelling_frees_the_slot_and_a_late_reply_is_ignored():
    queries = []
    release = None

    async def late(reader, writer, n):
        queries.append(await read_query(reader))
        queries.append(await read_query(reader))
        await release.wait()
        writer.write(b"".join(frame(answer(query)) for query in queries))
        await reader.read()

    async def main():
        nonlocal release
        release = asyncio.Event()
        async with Server(late) as server:
            upstream = tcp(server)
            doomed = upstream.query(ask("doomed.example"))
            task = asyncio.ensure_future(asyncio.wait_for(doomed, 5))
            kept = upstream.query(ask())
            await until(lambda: len(queries) >= 2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert doomed.cancelled()
            assert list(upstream._channel._pending.values()) == [kept.under_way]
            release.set()
            assert (await kept).attempts[0].dropped == 0
            await upstream.aclose()

    run(main)


def test_a_question_cancelled_while_connecting_is_never_sent():
    async def main():
        seen = []

        async def note(reader, writer, n):
            while True:
                seen.append(await read_query(reader))
                writer.write(frame(answer(seen[-1])))

        async with Server(note) as server:
            upstream = tcp(server)
            upstream.query(ask("doomed.example")).cancel()
            await upstream.query(ask())
            assert len(seen) == 1
            await upstream.aclose()

    run(main)


@pytest.mark.parametrize("seed", range(5))
def test_garbage_never_crashes(seed):
    async def rubbish(reader, writer, n):
        await read_query(reader)
        writer.write(random.Random(seed).randbytes(70_000))

    async def main():
        async with Server(rubbish) as server:
            upstream = tcp(server, timeout=1)
            with pytest.raises((NetworkError, QueryTimeout)):
                await upstream.query(ask())
            await upstream.aclose()

    run(main)


@pytest.mark.parametrize(
    ("flags", "error"),
    [(0x8380, BadReply), (0x8182, ServerFailure), (0x8185, ServerFailure)],
)
def test_truncation_and_failures_end_the_attempt(flags, error):
    async def refuse(reader, writer, n):
        while True:
            writer.write(frame(answer(await read_query(reader), flags=flags)))

    async def main():
        async with Server(refuse) as server:
            upstream = tcp(server)
            with pytest.raises(error) as caught:
                await upstream.query(ask())
            assert len(caught.value.attempts) == 1
            await upstream.aclose()

    run(main)


def test_a_server_that_does_not_read_is_not_flooded():
    async def main():
        go = asyncio.Event()

        async def slow(reader, writer, n):
            reader._transport.pause_reading()
            await go.wait()
            reader._transport.resume_reading()
            await answer_all(reader, writer, n)

        async with Server(slow) as server:
            upstream = tcp(server, timeout=8)
            asked = [upstream.query(ask())]
            await until(
                lambda: asked[0].under_way.sends and not upstream._channel._unsent
            )
            link = upstream._channel
            asked += [upstream.query(ask(f"{i}.example")) for i in range(1000)]
            link.pause_writing()
            await asyncio.sleep(0)
            assert len(link._unsent) == 1000
            assert link._transport.get_write_buffer_size() == 0
            asked[500].cancel()
            assert len(link._unsent) == 999
            link.resume_writing()
            go.set()
            replies = await asyncio.gather(*asked, return_exceptions=True)
            assert sum(not isinstance(r, BaseException) for r in replies) == 1000
            await upstream.aclose()

    run(main)


def test_too_many_questions_fail_clearly(monkeypatch):
    monkeypatch.setattr(reconnect, "MAX_OUTSTANDING", 3)
    monkeypatch.setattr(stream, "MAX_OUTSTANDING", 3)

    async def main():
        async with Server(hold) as server:
            upstream = tcp(server)
            waiting = [upstream.query(ask()) for _ in range(4)]
            with pytest.raises(NetworkError, match="outstanding") as caught:
                await waiting[3]
            assert caught.value.local
            await until(lambda: waiting[0].under_way.sends)
            with pytest.raises(NetworkError, match="outstanding"):
                await upstream.query(ask())
            waiting[0].cancel()
            again = upstream.query(ask())
            assert again.under_way.sends == 1
            await upstream.aclose()
            for future in (*waiting[1:3], again):
                with pytest.raises(NetworkError, match="closed"):
                    await future

    run(main)


def test_locate_gives_the_address_and_runs_in_an_empty_context():
    var = ContextVar("var", default="empty")
    seen = []

    async def main():
        async def locate() -> str:
            seen.append(var.get())
            return "127.0.0.1"

        var.set("the caller's")
        async with Server(answer_all) as server:
            endpoint = Endpoint("tcp://dns.example", "tcp", port=server.port)
            upstream = Tcp(endpoint, timeout=PATIENCE, locate=locate)
            reply = await upstream.query(ask())
            assert reply.attempts[0].address == "127.0.0.1"
            assert upstream.endpoint.address == "127.0.0.1"
            assert seen == ["empty"]
            await upstream.aclose()

    run(main)


def test_source_is_where_questions_come_from():
    peers = []

    async def note(reader, writer, n):
        peers.append(writer.get_extra_info("peername")[0])
        await answer_all(reader, writer, n)

    async def main():
        async with Server(note) as server:
            upstream = tcp(server, source="127.0.0.2")
            await upstream.query(ask())
            assert peers == ["127.0.0.2"]
            await upstream.aclose()

    run(main)


def test_aclose_fails_what_is_outstanding_and_is_idempotent():
    async def main():
        async with Server(hold) as server:
            upstream = tcp(server)
            asked = upstream.query(ask())
            await until(lambda: asked.under_way.sends)
            await upstream.aclose()
            await upstream.aclose()
            with pytest.raises(NetworkError, match="the transport is closed"):
                await asked
            with pytest.raises(NetworkError, match="the transport is closed"):
                await upstream.query(ask())
        await Tcp(Endpoint("tcp://192.0.2.1", "tcp")).aclose()  # never used

    run(main)


def test_queries_leave_no_reference_cycles():
    async def mixed(reader, writer, n):
        while True:
            query = await read_query(reader)
            failing = b"\4fail" in query
            writer.write(frame(answer(query, flags=0x8182 if failing else 0x8180)))

    async def main():
        async with Server(mixed) as server:
            upstream = tcp(server)

            async def some(count: int) -> None:
                for i in range(count):
                    await upstream.query(ask(f"{i}.example"))
                    with pytest.raises(ServerFailure):
                        await upstream.query(ask("fail.example"))
                    upstream.query(ask()).cancel()

            await some(10)
            gc.collect()
            gc.disable()
            gc.set_debug(gc.DEBUG_SAVEALL)
            try:
                await some(500)
                gc.collect()
                ours = [x for x in gc.garbage if "resolverkit" in type(x).__module__]
            finally:
                gc.set_debug(0)
                gc.garbage.clear()
                gc.enable()
            assert not ours
            await upstream.aclose()

    run(main)
