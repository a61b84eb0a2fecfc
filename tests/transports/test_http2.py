"""DNS over HTTP/2 against servers that use what the protocol allows, and more."""

from __future__ import annotations

import asyncio
import gc
import random

import pytest
from h2 import events as on
from h2.settings import SettingCodes
from hpack import Encoder
from loopback import (
    PATIENCE,
    Peer,
    Server,
    answer,
    ask,
    ca_file,
    h2_server,
    run,
    server_tls,
    skip,
    until,
)

from resolverkit.errors import BadReply, NetworkError, QueryTimeout, ServerFailure
from resolverkit.model import Endpoint
from resolverkit.transports import http2, reconnect
from resolverkit.transports.doh import Doh
from resolverkit.transports.h2_fields import Responses
from resolverkit.transports.h2_frames import (
    GOAWAY,
    MAX_NUMBER,
    PING,
    RST_STREAM,
    frame,
    pack_number,
)
from resolverkit.transports.tls import TlsOptions
from resolverkit.upstream import Upstream


@pytest.fixture
def doh(tmp_path):
    tls = TlsOptions("dns.example", ca_file(tmp_path))

    def make(server: Server, timeout: float = PATIENCE, **options) -> Doh:
        url = f"https://dns.example:{server.port}/dns-query"
        endpoint = Endpoint(url, "doh", address="127.0.0.1", port=server.port)
        return Doh(endpoint, tls=tls, timeout=timeout, **options)

    return make


def test_one_slow_reply_delays_no_other(doh):
    async def main():
        others_are_there = asyncio.Event()

        async def slow_for_the_first(peer, n):
            first, _, slow = await peer.request()
            for _ in range(49):
                stream, _, body = await peer.request()
                peer.respond(stream, answer(body))
            await others_are_there.wait()
            peer.respond(first, answer(slow))
            await peer.event()

        async with h2_server(slow_for_the_first) as server:
            upstream = doh(server)
            questions = [ask(f"host{i}.example") for i in range(50)]
            slow, *others = map(upstream.query, questions)
            await asyncio.gather(*others)
            assert not slow.done()
            others_are_there.set()
            assert (await slow).final == questions[0].wire_name
            assert server.connections == 1
            await upstream.aclose()

    run(main)


def test_questions_are_multiplexed_and_answered_in_any_order(doh):
    seen = []

    async def backwards(peer, n):
        requests = [await peer.request() for _ in range(50)]
        seen.extend(requests)
        for stream, _, body in reversed(requests):
            peer.respond(stream, answer(body))
        await peer.event()

    async def main():
        async with h2_server(backwards) as server:
            upstream = doh(server)
            assert isinstance(upstream, Upstream)
            questions = [ask(f"host{i}.example") for i in range(50)]
            replies = await asyncio.gather(*map(upstream.query, questions))
            assert [r.final for r in replies] == [q.wire_name for q in questions]
            assert (server.connections, server.alpn) == (1, ["h2"])
            assert upstream.alpn == "h2"
            await upstream.aclose()
        for _, header, body in seen:
            assert header == {
                ":method": "POST",
                ":path": "/dns-query",
                ":scheme": "https",
                ":authority": f"dns.example:{server.port}",
                "accept": "application/dns-message",
                "content-type": "application/dns-message",
                "content-length": "128",
            }
            assert len(body) == 128
            assert body[:2] == b"\0\0"

    run(main)


def test_push_is_switched_off(doh):
    """RFC 8484 section 5.3, by SETTINGS_ENABLE_PUSH (RFC 9113 section 6.5.2)."""
    allowed = []

    async def note(peer, n):
        stream, _, body = await peer.request()
        allowed.append(peer.h2.remote_settings.enable_push)
        peer.respond(stream, answer(body))
        await peer.event()

    async def main():
        async with h2_server(note) as server:
            upstream = doh(server)
            await upstream.query(ask())
            assert allowed == [0]
            await upstream.aclose()

    run(main)


def test_a_pushed_response_is_never_used(doh):
    """RFC 8484 section 5.3: who pushes all the same has broken the connection."""

    async def pushy(peer, n):
        stream, header, body = await peer.request()
        if n == 1:
            peer.h2.remote_settings[SettingCodes.ENABLE_PUSH] = 1
            peer.h2.remote_settings.acknowledge()
            asked = [(k, v) for k, v in header.items() if k[0] == ":"]
            peer.h2.push_stream(stream, 2, asked)
            peer.respond(2, answer(body, ttl=1))
            peer.flush()
            await peer.event()
        peer.respond(stream, answer(body))
        await peer.event()

    async def main():
        async with h2_server(pushy) as server:
            upstream = doh(server)
            assert (await upstream.query(ask())).ttl == 300
            assert server.connections == 2
            await upstream.aclose()

    run(main)


def test_no_more_streams_are_opened_than_the_server_allows(doh):
    async def two(peer, n):
        stream, _, body = await peer.request()
        peer.respond(stream, answer(body))
        while True:  # h2 ends the connection when there are more than two
            pair = [await peer.request(), await peer.request()]
            for stream, _, body in pair:
                peer.respond(stream, answer(body))

    async def main():
        limit = {SettingCodes.MAX_CONCURRENT_STREAMS: 2}
        async with h2_server(two, limit) as server:
            upstream = doh(server)
            await upstream.query(ask())  # its settings are known now
            asked = [upstream.query(ask(f"{i}.example")) for i in range(21)]
            asked.pop(10).cancel()  # while it is queued
            replies = await asyncio.gather(*asked)
            assert [r.attempts[0].sends for r in replies] == [1] * 20
            assert server.connections == 1
            await upstream.aclose()

    run(main)


def test_a_small_window_is_respected(doh):
    pieces = []

    async def narrow(peer, n):
        stream, _, body = await peer.request()
        peer.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 10})
        peer.flush()
        await peer.event(on.SettingsAcknowledged)
        peer.respond(stream, answer(body))
        requests = []
        while len(requests) < 3:
            event = await peer.event(on.DataReceived, on.StreamEnded)
            stream = event.stream_id
            if isinstance(event, on.StreamEnded):
                requests.append(stream)
            else:
                assert len(event.data) <= 10
                pieces.append(event.data)
                peer.h2.increment_flow_control_window(10, stream)
                peer.flush()
        for stream in requests:
            body = bytes(peer.open[stream][1])
            assert len(body) == 128
            peer.respond(stream, answer(body))
        await peer.event()

    async def main():
        async with h2_server(narrow) as server:
            upstream = doh(server)
            await upstream.query(ask())
            await asyncio.gather(*(upstream.query(ask()) for _ in range(3)))
            assert len(pieces) == 3 * 13
            assert server.connections == 1
            await upstream.aclose()

    run(main)


def test_large_replies_keep_the_connections_window_open(doh):
    async def large(peer, n):
        while True:
            stream, _, body = await peer.request()
            peer.open.pop(stream)
            reply = answer(body) + bytes(50_000)
            peer.h2.send_headers(
                stream,
                [(":status", "200"), ("content-type", "application/dns-message")],
            )
            while reply:
                room = min(
                    peer.h2.local_flow_control_window(stream),
                    peer.h2.max_outbound_frame_size,
                )
                if not room:
                    await peer.event(on.WindowUpdated)
                    continue
                part, reply = reply[:room], reply[room:]
                peer.h2.send_data(stream, part, end_stream=not reply)
                peer.flush()

    async def main():
        async with h2_server(large) as server:
            upstream = doh(server)
            for _ in range(60):  # 3 MB in all
                with pytest.raises(BadReply, match="left over"):
                    await upstream.query(ask())
            assert server.connections == 1
            await upstream.aclose()

    run(main)


def test_goaway_replays_what_was_not_processed(doh):
    left = []

    async def leaves(peer, n):
        if n > 1:
            await peer.answer_all()
        requests = [await peer.request() for _ in range(3)]
        peer.h2.close_connection(last_stream_id=requests[0][0])
        data = peer.h2.data_to_send()
        peer.h2.state_machine.state = type(peer.h2.state_machine.state).SERVER_OPEN
        stream, _, body = requests[0]
        peer.h2.send_headers(
            stream, [(":status", "200"), ("content-type", "application/dns-message")]
        )
        peer.h2.send_data(stream, answer(body), end_stream=True)
        peer.writer.write(data + peer.h2.data_to_send())  # in one segment
        await peer.reader.read()  # until the client closes
        left.append(n)

    async def main():
        async with h2_server(leaves) as server:
            upstream = doh(server)
            asked = [upstream.query(ask(f"{i}.example")) for i in range(3)]
            replies = await asyncio.gather(*asked)
            assert [r.attempts[0].sends for r in replies] == [1, 2, 2]
            assert server.connections == 2
            await until(lambda: left)
            await upstream.query(ask())
            assert server.connections == 2
            await upstream.aclose()

    run(main)


@pytest.mark.parametrize(("code", "sends"), [(2, 1), (7, 2)])
def test_a_reset_stream_fails_one_question_unless_it_was_refused(doh, code, sends):
    async def resets(peer, n):
        first, _, _ = await peer.request()
        peer.h2.reset_stream(first, code)
        peer.open.pop(first)
        await peer.answer_all()

    async def main():
        async with h2_server(resets) as server:
            upstream = doh(server)
            one, two = upstream.query(ask("one.example")), upstream.query(ask())
            if sends == 1:
                with pytest.raises(NetworkError, match="HTTP/2 stream reset, error 2"):
                    await one
            else:
                assert (await one).attempts[0].sends == 2
            await two
            assert server.connections == 1
            await upstream.aclose()

    run(main)


def test_idle_close_and_loss_in_mid_answer_are_asked_again_once(doh):
    async def second_is_rude(peer, n):
        stream, _, body = await peer.request()
        if n != 2:
            peer.respond(stream, answer(body))

    async def main():
        async with h2_server(second_is_rude) as server:
            upstream = doh(server)
            await upstream.query(ask())
            await until(lambda: upstream._channel is None)
            assert (await upstream.query(ask())).attempts[0].sends == 2
            assert server.connections == 3
            await upstream.aclose()

    async def never(peer, n):
        await peer.request()

    async def other():
        async with h2_server(never) as server:
            upstream = doh(server)
            with pytest.raises(NetworkError, match="closed by the server"):
                await upstream.query(ask())
            assert server.connections == 2
            await upstream.aclose()

    run(main)
    run(other)


def test_silence_times_out_and_the_connection_is_replaced(doh):
    async def first_is_mute(peer, n):
        if n == 1:
            stream, _, body = await peer.request()
            peer.respond(stream, answer(body))
            while await peer.reader.read(4096):
                pass  # not even a WINDOW_UPDATE
        await peer.answer_all()

    async def main():
        async with h2_server(first_is_mute) as server:
            upstream = doh(server)
            await upstream.query(ask())
            old = upstream.query(ask("old.example"))
            skip(PATIENCE / 2)
            young = upstream.query(ask())
            await until(lambda: young.under_way.sends)
            skip(PATIENCE / 2)
            with pytest.raises(QueryTimeout):
                await old
            assert (await young).attempts[0].sends == 2
            assert server.connections == 2
            await upstream.aclose()

    run(main)


def test_a_question_that_ends_gives_up_its_stream(doh):
    async def note(peer, n):
        await peer.request()
        peer.open.clear()
        reset = await peer.event(on.StreamReset)
        assert reset.error_code == 8
        late, _, _ = await peer.request()
        stream, _, body = await peer.request()
        peer.respond(stream, answer(body))
        assert (await peer.event(on.StreamReset)).stream_id == late
        await peer.answer_all()

    async def main():
        async with h2_server(note) as server:
            upstream = doh(server)
            asked = upstream.query(ask())
            await until(
                lambda: asked.under_way.sends and asked.under_way.tag is not None
            )
            asked.cancel()
            late = upstream.query(ask("late.example"))
            await upstream.query(ask())
            skip(PATIENCE)
            with pytest.raises(QueryTimeout):
                await late
            await upstream.query(ask())
            assert server.connections == 1
            await upstream.aclose()

    run(main)


def test_what_is_no_http2_fails_after_one_more_try(doh):
    async def rubbish(reader, writer, n):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)
        await reader.read()

    async def main():
        async with Server(rubbish, server_tls("h2")) as server:
            upstream = doh(server)
            with pytest.raises(NetworkError, match=r"^HTTP/2: "):
                await upstream.query(ask())
            assert server.connections == 2
            await upstream.aclose()

    run(main)


def test_an_endless_body_is_cut_off_and_the_connection_lives_on(doh):
    async def endless(peer, n):
        stream, _, _ = await peer.request()
        peer.open.clear()
        peer.h2.send_headers(
            stream, [(":status", "200"), ("content-type", "application/dns-message")]
        )
        for _ in range(7):
            peer.h2.send_data(stream, bytes(10_000))
        peer.flush()
        assert (await peer.event(on.StreamReset)).error_code == 8
        await peer.answer_all()

    async def main():
        async with h2_server(endless) as server:
            upstream = doh(server)
            with pytest.raises(BadReply, match="more than 65535"):
                await upstream.query(ask())
            await upstream.query(ask())
            assert server.connections == 1
            await upstream.aclose()

    run(main)


def test_informational_responses_trailers_and_early_ends(doh):
    async def odd(peer, n):
        stream, _, body = await peer.request()
        peer.h2.send_headers(stream, [(":status", "103"), ("link", "x")])
        fields = [(":status", "200"), ("content-type", "application/dns-message")]
        peer.h2.send_headers(stream, fields)
        peer.h2.send_data(stream, answer(body)[:20])
        peer.h2.send_data(stream, answer(body)[20:])
        peer.h2.send_headers(stream, [("x-trailer", "1")], end_stream=True)
        peer.flush()
        stream, _, body = await peer.request()
        peer.h2.send_headers(stream, fields, end_stream=True)
        peer.flush()
        await peer.event()

    async def main():
        async with h2_server(odd) as server:
            upstream = doh(server)
            assert (await upstream.query(ask())).ttl == 300
            with pytest.raises(BadReply):
                await upstream.query(ask())
            await upstream.aclose()

    run(main)


def test_headers_that_change_are_read_right(doh):
    """The codec remembers blocks; a changed table must make it forget."""

    async def dated(peer, n):
        i = 0
        while True:
            stream, _, body = await peer.request()
            i += 1
            peer.respond(stream, answer(body), age=str(i // 2))

    async def main():
        async with h2_server(dated) as server:
            upstream = doh(server)
            for i in range(1, 200):
                assert (await upstream.query(ask())).ttl == 300 - i // 2
            await upstream.aclose()

    run(main)


def test_a_block_is_decoded_anew_when_the_table_has_changed():
    encoder, responses = Encoder(), Responses()
    blocks = set()
    for value in (0, 0, 0, 1, 1, 0, 1):
        block = encoder.encode([(b":status", b"200"), (b"age", b"%d" % value)])
        blocks.add(block)
        assert responses.read(block).age == value
    assert len(blocks) == 4  # one octet string stood for two ages


def test_a_smaller_header_table_is_followed(doh):
    async def shrinks(peer, n):
        for i in range(20):
            stream, header, body = await peer.request()
            assert header["content-length"] == "128"
            peer.respond(stream, answer(body))
            if i % 5 == 0:
                size = {SettingCodes.HEADER_TABLE_SIZE: 4096 if i % 10 else 64}
                peer.h2.update_settings(size)
                peer.flush()

    async def main():
        async with h2_server(shrinks) as server:
            upstream = doh(server)
            for _ in range(20):
                await upstream.query(ask())
            assert server.connections == 1
            await upstream.aclose()

    run(main)


def test_too_many_questions_fail_clearly(doh, monkeypatch):
    monkeypatch.setattr(http2, "MAX_OUTSTANDING", 3)
    monkeypatch.setattr(reconnect, "MAX_OUTSTANDING", 1)

    async def main():
        async with h2_server(Peer.answer_all) as server:
            upstream = doh(server)
            await upstream.query(ask())
            asked = [upstream.query(ask()) for _ in range(4)]
            with pytest.raises(NetworkError, match="outstanding"):
                await asked[3]
            await asyncio.gather(*asked[:3])
            await upstream.aclose()

    run(main)


def test_queries_leave_no_reference_cycles(doh):
    async def mixed(peer, n):
        while True:
            stream, _, body = await peer.request()
            failing = b"\4fail" in body
            peer.respond(stream, answer(body, flags=0x8182 if failing else 0x8180))

    async def main():
        async with h2_server(mixed) as server:
            upstream = doh(server)

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
                await some(300)
                gc.collect()
                kinds = {type(x).__module__ for x in gc.garbage}
            finally:
                gc.set_debug(0)
                gc.garbage.clear()
                gc.enable()
            assert not [kind for kind in kinds if "resolverkit" in kind]
            await upstream.aclose()

    run(main)


def test_aclose_with_streams_open(doh):
    async def main():
        async with h2_server(Peer.event) as server:
            upstream = doh(server)
            asked = upstream.query(ask())
            await until(lambda: asked.under_way.sends)
            await asyncio.sleep(0)
            await upstream.aclose()
            await upstream.aclose()
            with pytest.raises(NetworkError, match="closed"):
                await asked

    run(main)


def test_garbage_after_a_good_beginning_ends_the_connection_and_no_more(doh):
    """Whatever comes, the question ends, and the next one is asked elsewhere."""
    told = []

    async def garbage(peer, n):
        await peer.request()
        seed = random.Random(n)
        for _ in range(20):
            kind, flags = seed.randrange(11), seed.choice((0, 1, 4, 5, 13))
            payload = seed.randbytes(seed.choice((0, 4, 5, 6, 8, 50)))
            peer.writer.write(frame(kind, flags, seed.randrange(4), payload))

    async def main():
        async with h2_server(garbage) as server:
            upstream = doh(server)
            for i in range(20):
                with pytest.raises(
                    NetworkError, match=r"HTTP/2|closed|reset"
                ) as caught:
                    await upstream.query(ask(f"{i}.example"))
                told.append(str(caught.value))
            assert server.connections >= 20
            await upstream.aclose()

    run(main)
    assert len(set(told)) > 5


def test_who_asks_much_and_reads_nothing_is_left(doh):
    async def main():
        paused = asyncio.Event()

        async def pings(peer, n):
            if n == 1:
                await peer.request()
                await paused.wait()
                peer.writer.write(frame(PING, 0, 0, bytes(8)) * 5_000)
                await peer.reader.read()
            await peer.answer_all()

        async with h2_server(pings) as server:
            upstream = doh(server)
            first = upstream.query(ask())
            await until(
                lambda: first.under_way.sends and first.under_way.tag is not None
            )
            upstream._channel.pause_writing()  # as asyncio does when it cannot send
            paused.set()
            assert (await first).attempts[0].sends == 2
            assert server.connections == 2
            await upstream.aclose()

    run(main)


def test_what_was_refused_before_an_error_is_asked_once_more(doh):
    async def refuses(peer, n):
        stream, _, body = await peer.request()
        if n == 1:
            peer.writer.write(frame(RST_STREAM, 0, stream, pack_number(7)))
            peer.writer.write(frame(PING, 0, 0, b"short"))  # in one record or two
            await peer.reader.read()
        peer.respond(stream, answer(body))
        await peer.event()

    async def main():
        async with h2_server(refuses) as server:
            upstream = doh(server)
            assert (await upstream.query(ask())).attempts[0].sends == 2
            assert server.connections == 2
            await upstream.aclose()

    run(main)


def test_a_connection_that_was_to_end_does_so_when_nobody_waits_any_more(doh):
    """A server that says GOAWAY, and then nothing, would keep one after another."""

    async def leaves(peer, n):
        await peer.request()
        peer.writer.write(frame(GOAWAY, 0, 0, pack_number(MAX_NUMBER) + bytes(4)))
        await peer.reader.read()  # until the client closes

    async def main():
        async with h2_server(leaves) as server:
            upstream = doh(server, timeout=5)
            for i in range(3):
                asked = upstream.query(ask())
                await until(lambda: upstream._channels and not upstream._channel)
                skip(5)
                with pytest.raises(QueryTimeout):
                    await asked
                await until(lambda: not upstream._channels)
                assert server.connections == i + 1
            await upstream.aclose()

    run(main)


def test_a_connection_without_numbers_for_streams_is_replaced(doh):
    """RFC 9113 section 5.1.1; what is outstanding there ends there."""

    async def main():
        held = asyncio.Event()

        async def hold(peer, n):
            stream, _, body = await peer.request()
            if n == 1:
                await held.wait()
            peer.respond(stream, answer(body))
            await peer.answer_all()

        async with h2_server(hold) as server:
            upstream = doh(server)
            old = upstream.query(ask("old.example"))
            await until(lambda: old.under_way.sends and old.under_way.tag is not None)
            channel = upstream._channel
            channel._session._number = (1 << 31) - 1
            assert (await upstream.query(ask())).attempts[0].sends == 2
            assert server.connections == 2
            held.set()
            assert (await old).attempts[0].sends == 1
            await until(lambda: channel not in upstream._channels)
            await upstream.aclose()

    run(main)
