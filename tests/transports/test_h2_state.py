"""What a hostile server may send over HTTP/2, frame by frame (RFC 9113)."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st

from resolverkit.transports import h2_frames as h2
from resolverkit.transports.h2_blocks import MAX_LIST
from resolverkit.transports.h2_frames import Http2Error, frame, pack_number
from resolverkit.transports.h2_send import (
    CONNECTION_WINDOW,
    MAX_STREAMS,
    STREAM_WINDOW,
)
from resolverkit.transports.h2_state import MAX_CHANGES, MAX_FRAGMENTS, Session

BODY = bytes(128)
TYPE = (b"content-type", b"application/dns-message")
OK = [(b":status", b"200"), TYPE]


def settings(**values: int) -> bytes:
    pairs = (h2.pack_setting(getattr(h2, k), v) for k, v in values.items())
    return frame(h2.SETTINGS, 0, 0, b"".join(pairs))


def header(*fields, flags: int = h2.END_HEADERS, stream: int = 1) -> bytes:
    return frame(h2.HEADERS, flags, stream, block(*fields))


def block(*fields) -> bytes:
    """Fields that no table keeps."""
    return Encoder().encode([(*field, True) for field in fields])


def data(body: bytes, flags: int = h2.END_STREAM, stream: int = 1) -> bytes:
    return frame(h2.DATA, flags, stream, body)


def session(streams: int = 1, *, begun: bool = True, **values: int) -> Session:
    """A connection on which stream 1, and 3, … have been opened."""
    made = Session("dns.example", "/dns-query")
    if begun:
        made.receive(settings(**values))
    for _ in range(streams):
        made.post(SimpleNamespace(), BODY)
    made.out.clear()
    return made


def frames(out: list[bytes]) -> list[tuple[int, int, int, bytes]]:
    """Type, flags, stream and payload of each frame."""
    text, found = b"".join(out), []
    while text:
        high, low, what, stream = h2.read_head(text)
        stop = 9 + (high << 8 | low)
        found.append((what >> 8, what & 255, stream, text[9:stop]))
        text = text[stop:]
    return found


LONG = 1 << 24
CONNECTION_ERRORS = {
    "no settings first": (h2.PROTOCOL_ERROR, header(*OK)),
    "an acknowledgement first": (h2.PROTOCOL_ERROR, frame(h2.SETTINGS, h2.ACK, 0)),
    "an unknown frame first": (h2.PROTOCOL_ERROR, frame(0xBE, 0, 0)),
    "text": (h2.FRAME_SIZE_ERROR, b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "a long frame, by its head": (h2.FRAME_SIZE_ERROR, b"\0\x40\x01\0\0\0\0\0\1"),
}
LATER_ERRORS = {
    "data on stream 0": (h2.PROTOCOL_ERROR, data(b"x", stream=0)),
    "data on an idle stream": (h2.PROTOCOL_ERROR, data(b"x", stream=3)),
    "data on a server's stream": (h2.PROTOCOL_ERROR, data(b"x", stream=2)),
    "data all padding": (h2.PROTOCOL_ERROR, data(b"\3xx", h2.PADDED)),
    "data of padding without its length": (h2.PROTOCOL_ERROR, data(b"", h2.PADDED)),
    "header on stream 0": (h2.PROTOCOL_ERROR, header(*OK, stream=0)),
    "header on an idle stream": (h2.PROTOCOL_ERROR, header(*OK, stream=5)),
    "header on a pushed stream": (h2.PROTOCOL_ERROR, header(*OK, stream=2)),
    "header all padding": (h2.PROTOCOL_ERROR, frame(h2.HEADERS, 12, 1, b"\5abc")),
    "header too short for a priority": (
        h2.FRAME_SIZE_ERROR,
        frame(h2.HEADERS, 36, 1, b"abcd"),
    ),
    "an index that is not there": (h2.COMPRESSION_ERROR, frame(1, 4, 1, b"\xff\x7f")),
    "a table that is too large": (
        h2.COMPRESSION_ERROR,
        frame(1, 4, 1, b"\x3f\xff\xff\x7f"),
    ),
    "a literal that breaks off": (h2.COMPRESSION_ERROR, frame(1, 4, 1, b"\x40\x0axx")),
    "bad Huffman": (h2.COMPRESSION_ERROR, frame(1, 4, 1, b"\x00\x84\xff\xff\xff\xff")),
    "a header that bursts": (
        h2.COMPRESSION_ERROR,
        header(*OK, *[(b"x", b"a" * 4000)] * 5),
    ),
    "a frame between those of a header": (
        h2.PROTOCOL_ERROR,
        header(*OK, flags=0) + frame(h2.PING, 0, 0, bytes(8)),
    ),
    "an unknown frame between those of a header": (
        h2.PROTOCOL_ERROR,
        header(*OK, flags=0) + frame(0xBE, 0, 0),
    ),
    "a continuation of another stream": (
        h2.PROTOCOL_ERROR,
        header(*OK, flags=0) + frame(h2.CONTINUATION, 4, 3),
    ),
    "a continuation of nothing": (h2.PROTOCOL_ERROR, frame(h2.CONTINUATION, 4, 1)),
    "continuations for ever": (
        h2.ENHANCE_YOUR_CALM,
        header(*OK, flags=0) + frame(h2.CONTINUATION, 0, 1) * MAX_FRAGMENTS,
    ),
    "a reset of stream 0": (h2.PROTOCOL_ERROR, frame(h2.RST_STREAM, 0, 0, bytes(4))),
    "a reset of an idle stream": (
        h2.PROTOCOL_ERROR,
        frame(h2.RST_STREAM, 0, 7, bytes(4)),
    ),
    "a reset of five octets": (
        h2.FRAME_SIZE_ERROR,
        frame(h2.RST_STREAM, 0, 1, bytes(5)),
    ),
    "a priority of stream 0": (h2.PROTOCOL_ERROR, frame(h2.PRIORITY, 0, 0, bytes(5))),
    "settings of a stream": (h2.PROTOCOL_ERROR, frame(h2.SETTINGS, 0, 1)),
    "half a setting": (h2.FRAME_SIZE_ERROR, frame(h2.SETTINGS, 0, 0, bytes(5))),
    "an acknowledgement that says something": (
        h2.FRAME_SIZE_ERROR,
        frame(h2.SETTINGS, h2.ACK, 0, bytes(6)),
    ),
    "push switched on": (h2.PROTOCOL_ERROR, settings(ENABLE_PUSH=1)),
    "a setting of push that is none": (h2.PROTOCOL_ERROR, settings(ENABLE_PUSH=2)),
    "small frames": (h2.PROTOCOL_ERROR, settings(MAX_FRAME_SIZE=16_383)),
    "large frames": (h2.PROTOCOL_ERROR, settings(MAX_FRAME_SIZE=1 << 24)),
    "a window too large": (
        h2.FLOW_CONTROL_ERROR,
        settings(INITIAL_WINDOW_SIZE=1 << 31),
    ),
    "a window too large for an open stream": (
        h2.FLOW_CONTROL_ERROR,
        frame(h2.WINDOW_UPDATE, 0, 1, pack_number(1 << 20))
        + settings(INITIAL_WINDOW_SIZE=h2.MAX_NUMBER),
    ),
    "a push": (h2.PROTOCOL_ERROR, frame(h2.PUSH_PROMISE, 4, 1, bytes(4) + b"\x88")),
    "a ping on a stream": (h2.PROTOCOL_ERROR, frame(h2.PING, 0, 1, bytes(8))),
    "a ping of seven octets": (h2.FRAME_SIZE_ERROR, frame(h2.PING, 0, 0, bytes(7))),
    "goaway on a stream": (h2.PROTOCOL_ERROR, frame(h2.GOAWAY, 0, 1, bytes(8))),
    "goaway of seven octets": (h2.FRAME_SIZE_ERROR, frame(h2.GOAWAY, 0, 0, bytes(7))),
    "an update of three octets": (
        h2.FRAME_SIZE_ERROR,
        frame(h2.WINDOW_UPDATE, 0, 0, bytes(3)),
    ),
    "an update of nothing": (
        h2.PROTOCOL_ERROR,
        frame(h2.WINDOW_UPDATE, 0, 0, bytes(4)),
    ),
    "an update too large": (
        h2.FLOW_CONTROL_ERROR,
        frame(h2.WINDOW_UPDATE, 0, 0, pack_number(h2.MAX_NUMBER)),
    ),
    "an update of an idle stream": (
        h2.PROTOCOL_ERROR,
        frame(h2.WINDOW_UPDATE, 0, 9, pack_number(1)),
    ),
}


@pytest.mark.parametrize("case", CONNECTION_ERRORS)
def test_a_connection_that_begins_wrongly_ends(case):
    code, text = CONNECTION_ERRORS[case]
    with pytest.raises(Http2Error) as caught:
        session(begun=False).receive(text)
    assert caught.value.code == code


@pytest.mark.parametrize("case", LATER_ERRORS)
def test_what_breaks_the_protocol_for_all_ends_the_connection(case):
    code, text = LATER_ERRORS[case]
    with pytest.raises(Http2Error) as caught:
        session().receive(text)
    assert caught.value.code == code


START = header(*OK)
STREAM_ERRORS = {
    "a body first": (h2.PROTOCOL_ERROR, data(b"x")),
    "an empty body first": (h2.PROTOCOL_ERROR, data(b"")),
    "a body after 103": (h2.PROTOCOL_ERROR, header((b":status", b"103")) + data(b"x")),
    "103 and no more": (h2.PROTOCOL_ERROR, header((b":status", b"103"), flags=5)),
    "no status": (h2.PROTOCOL_ERROR, header(TYPE)),
    "no status at the end": (h2.PROTOCOL_ERROR, header(TYPE, flags=5)),
    "two of them": (h2.PROTOCOL_ERROR, header((b":status", b"200"), *OK)),
    "a status of two digits": (h2.PROTOCOL_ERROR, header((b":status", b"20"), TYPE)),
    "a status of letters": (h2.PROTOCOL_ERROR, header((b":status", b"2OO"), TYPE)),
    "a late status": (h2.PROTOCOL_ERROR, header(TYPE, (b":status", b"200"))),
    "a method": (h2.PROTOCOL_ERROR, header(*OK, (b":method", b"GET"))),
    "capitals": (h2.PROTOCOL_ERROR, header(*OK, (b"Age", b"3"))),
    "a field without a name": (h2.PROTOCOL_ERROR, header(*OK, (b"", b"3"))),
    "another connection": (h2.PROTOCOL_ERROR, header(*OK, (b"connection", b"close"))),
    "chunks": (h2.PROTOCOL_ERROR, header(*OK, (b"transfer-encoding", b"chunked"))),
    "two lengths": (
        h2.PROTOCOL_ERROR,
        header(*OK, (b"content-length", b"3"), (b"content-length", b"4")),
    ),
    "a length below 0": (h2.PROTOCOL_ERROR, header(*OK, (b"content-length", b"-3"))),
    "a second header": (h2.PROTOCOL_ERROR, START + header(*OK)),
    "a second header at the end": (h2.PROTOCOL_ERROR, START + header(*OK, flags=5)),
    "trailers that do not end": (h2.PROTOCOL_ERROR, START + header((b"x", b"y"))),
    "trailers with a path": (
        h2.PROTOCOL_ERROR,
        START + header((b":path", b"/"), flags=5),
    ),
    "more than its window": (
        h2.FLOW_CONTROL_ERROR,
        START + data(b"\xfe" + bytes(255), h2.PADDED) * (STREAM_WINDOW // 256 + 1),
    ),
    "a window no octet wider": (
        h2.PROTOCOL_ERROR,
        frame(h2.WINDOW_UPDATE, 0, 1, bytes(4)),
    ),
    "a window too large": (
        h2.FLOW_CONTROL_ERROR,
        frame(h2.WINDOW_UPDATE, 0, 1, pack_number(h2.MAX_NUMBER)),
    ),
}


@pytest.mark.parametrize("case", STREAM_ERRORS)
def test_what_breaks_it_for_one_stream_ends_that_stream(case):
    code, text = STREAM_ERRORS[case]
    one = session(2)
    assert one.receive(text) == len(text)
    (ended,) = one.ended
    assert ended.number == 1
    assert ended.fault
    assert list(one.streams) == [3]
    assert frames(one.out)[0] == (h2.RST_STREAM, 0, 1, pack_number(code))
    one.ended.clear()
    late = header(*OK) + data(b"late", 0) + data(b"", 1)  # of the stream that is over
    one.receive(late + header(*OK, stream=3) + data(b"reply", stream=3))
    assert [(x.number, x.fault, x.body) for x in one.ended] == [(3, "", b"reply")]


GOOD = {
    "one frame each": START + data(b"reply"),
    "padded": frame(1, 12, 1, b"\3" + block(*OK) + bytes(3))
    + data(b"\2reply\0\0", h2.PADDED | h2.END_STREAM),
    "with a priority": frame(1, 36, 1, bytes(5) + block(*OK)) + data(b"reply"),
    "a header in pieces": b"".join(
        frame(1 if not i else 9, 4 * (i == 6), 1, block(*OK)[i * 5 : i * 5 + 5])
        for i in range(7)
    )
    + data(b"reply"),
    "a body in pieces": START + data(b"re", 0) + data(b"", 0) + data(b"ply"),
    "an end of its own": START + data(b"reply", 0) + data(b""),
    "trailers": START + data(b"reply", 0) + header((b"x", b"y"), flags=5),
    "after 103": header((b":status", b"103"), (b"link", b"x")) + START + data(b"reply"),
    "a length": header(*OK, (b"content-length", b"5")) + data(b"reply"),
    "a length twice": header(*OK, *[(b"content-length", b"5")] * 2) + data(b"reply"),
    "between other frames": frame(0xBE, 255, 7, b"x")
    + START
    + frame(h2.PRIORITY, 0, 1, bytes(5))
    + frame(h2.SETTINGS, h2.ACK, 0)
    + frame(h2.PING, h2.ACK, 0, bytes(8))
    + data(b"reply"),
    "reserved bits": START[:5]
    + b"\x80"
    + START[6:]
    + data(b"reply")[:5]
    + b"\x80"
    + data(b"reply")[6:],
}


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("case", GOOD)
def test_what_the_protocol_allows_is_a_response(case, warm):
    one = session()
    if warm:  # the header is known: it is read another way
        one.post(SimpleNamespace(), BODY)
        one.receive(header(*OK, stream=3) + data(b"first", stream=3))
        one.ended.clear()
        one.out.clear()
    text = b""
    for i in range(len(GOOD[case])):  # octet by octet, as they may come
        text += GOOD[case][i : i + 1]
        text = text[one.receive(text) :]
    (ended,) = one.ended
    assert (ended.number, ended.fault, ended.body) == (1, "", b"reply")
    assert not ended.head.refusal
    assert not one.streams
    assert one.out == []


@pytest.mark.parametrize("last", [True, False])
def test_a_body_of_another_length_than_was_said_is_none(last):
    for _ in range(2):  # the second header is known
        one = session()
        one.receive(header(*OK, (b"content-length", b"9")))
        one.receive(data(b"reply") if last else data(b"reply", 0) + data(b""))
        assert [x.fault for x in one.ended] == ["body of 5 octets in place of 9"]


def test_an_error_has_no_body_to_wait_for():
    one = session(2)
    one.receive(header((b":status", b"503"), (b"content-length", b"900")))
    one.receive(
        header((b":status", b"503"), (b"content-length", b"9"), flags=5, stream=3)
    )
    assert [(x.fault, x.head.refusal) for x in one.ended] == [
        ("", "HTTP status 503")
    ] * 2
    assert frames(one.out) == [(h2.RST_STREAM, 0, 1, pack_number(h2.CANCEL))]


def test_a_body_is_not_kept_beyond_a_message():
    one = session()
    one.receive(START + data(bytes(16_384), 0) * 5)
    (ended,) = one.ended
    assert len(ended.body) == 65_536
    assert frames(one.out) == [(h2.RST_STREAM, 0, 1, pack_number(h2.CANCEL))]


def test_what_was_received_is_given_back_whoever_it_was_for():
    """Padding counts, and so does what comes for streams that are over (6.9.1)."""
    one = session()
    one.cancel(1)
    one.out.clear()
    padded = data(b"\xff" + bytes(16_383), h2.PADDED)
    for _ in range(CONNECTION_WINDOW // 2 // 16_384 + 1):
        assert one.out == []
        one.receive(padded)
    (update,) = frames(one.out)
    assert update[:3] == (h2.WINDOW_UPDATE, 0, 0)
    assert h2.number_in(update[3]) == CONNECTION_WINDOW // 2 + 16_384


def test_what_known_responses_take_is_given_back_too():
    one = session(0)
    body = bytes(10_000)
    for stream in range(1, 2 * (CONNECTION_WINDOW // 2 // 10_000 + 2), 2):
        one.post(SimpleNamespace(), b"x")
        one.receive(header(*OK, stream=stream) + data(body, stream=stream))
    updates = [x for x in frames(one.out) if x[0] == h2.WINDOW_UPDATE]
    assert len(updates) == 1


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (START + data(b"reply"), h2.CANCEL),
        (data(b"reply"), h2.PROTOCOL_ERROR),
        (frame(h2.RST_STREAM, 0, 1, bytes(4)), None),
        (frame(h2.GOAWAY, 0, 0, bytes(8)), None),
    ],
)
def test_a_request_that_ends_before_it_was_sent_is_given_up_once(text, code):
    one = session(1, INITIAL_WINDOW_SIZE=10)
    one.receive(text)
    assert len(one.ended) == 1
    resets = [] if code is None else [(h2.RST_STREAM, 0, 1, pack_number(code))]
    assert frames(one.out) == resets


def test_pings_and_settings_are_acknowledged():
    one = session()
    one.receive(frame(h2.PING, 0, 0, b"12345678") + settings(MAX_FRAME_SIZE=20_000))
    assert frames(one.out) == [
        (h2.PING, h2.ACK, 0, b"12345678"),
        (h2.SETTINGS, h2.ACK, 0, b""),
    ]


def test_a_limit_of_streams_holds_until_another_is_said():
    one = session(0)
    assert one.room == MAX_STREAMS  # a server that says nothing allows any number
    one.receive(settings(MAX_CONCURRENT_STREAMS=3))
    one.receive(settings(INITIAL_WINDOW_SIZE=100))
    assert one.room == 3
    one.receive(settings(MAX_CONCURRENT_STREAMS=1 << 31))
    assert one.room == MAX_STREAMS
    one.receive(settings(MAX_CONCURRENT_STREAMS=0))
    assert one.room == 0


def sent_body(one: Session) -> tuple[int, bool]:
    """Octets of DATA, and whether the last of them ended the stream."""
    found = [x for x in frames(one.out) if x[0] == h2.DATA]
    one.out.clear()
    return sum(len(x[3]) for x in found), bool(found and found[-1][1] & h2.END_STREAM)


def test_bodies_wait_for_both_windows():
    one = session(0, INITIAL_WINDOW_SIZE=50)
    one.post(SimpleNamespace(), BODY)
    assert sent_body(one) == (50, False)
    one.receive(settings(INITIAL_WINDOW_SIZE=10))  # it is 40 below 0 now (6.9.2)
    one.receive(frame(h2.WINDOW_UPDATE, 0, 1, pack_number(40)))
    assert sent_body(one) == (0, False)
    one.receive(frame(h2.WINDOW_UPDATE, 0, 1, pack_number(8)))
    assert sent_body(one) == (8, False)
    one.receive(settings(INITIAL_WINDOW_SIZE=1000))
    assert sent_body(one) == (70, True)


def test_the_window_of_the_connection_is_shared():
    one = session(h2.WINDOW // 128)  # 127 octets are left
    one.post(SimpleNamespace(), BODY)
    assert sent_body(one) == (127, False)
    one.post(SimpleNamespace(), BODY)
    assert sent_body(one) == (0, False)
    one.receive(frame(h2.WINDOW_UPDATE, 0, 0, pack_number(129)))
    assert sent_body(one) == (129, True)
    assert not [x for x in one.streams.values() if x.unsent]


def test_large_bodies_are_cut_into_frames_that_are_taken():
    one = session(0)
    one.post(SimpleNamespace(), bytes(40_000))
    assert [len(x[3]) for x in frames(one.out)[1:]] == [16_384, 16_384, 7_232]
    one.out.clear()
    one.receive(settings(MAX_FRAME_SIZE=30_000))
    one.post(SimpleNamespace(), bytes(25_000))
    assert [len(x[3]) for x in frames(one.out)[2:]] == [25_000]


def test_a_long_header_is_cut_into_frames_that_are_taken():
    one = session(0)
    target = "/dns-query?dns=" + "~" * 40_000
    one.get(SimpleNamespace(), target)
    first, *rest = frames(one.out)
    assert first[:3] == (h2.HEADERS, h2.END_STREAM, 1)
    assert [x[:2] for x in rest[:-1]] == [(h2.CONTINUATION, 0)] * (len(rest) - 1)
    assert rest[-1][:2] == (h2.CONTINUATION, h2.END_HEADERS)
    assert max(len(x[3]) for x in [first, *rest]) <= 16_384
    fields = Decoder(1 << 17).decode(b"".join(x[3] for x in [first, *rest]))
    assert dict(fields)[":path"] == target


def test_goaway_tells_which_streams_were_not_processed():
    one = session(3)
    one.receive(frame(h2.GOAWAY, 0, 0, pack_number(3) + pack_number(11) + b"bye"))
    assert one.leaving == 11
    assert [(x.number, x.refused) for x in one.ended] == [(5, True)]
    one.receive(frame(h2.GOAWAY, 0, 0, pack_number(1) + pack_number(0)))
    assert [(x.number, x.refused) for x in one.ended] == [(5, True), (3, True)]
    one.receive(START + data(b"reply"))
    assert one.ended[-1].body == b"reply"


def test_many_updates_are_not_work_for_each_stream_each(monkeypatch):
    """Else 10,000 of them, 128 KiB, take seconds while 1,000 bodies wait."""
    one = session(1000, INITIAL_WINDOW_SIZE=0)
    calls, send = [], one._send_body

    def counted(stream):
        calls.append(stream)
        send(stream)

    monkeypatch.setattr(one, "_send_body", counted)
    one.receive(frame(h2.WINDOW_UPDATE, 0, 0, pack_number(1)) * 10_000)
    one.receive(frame(h2.WINDOW_UPDATE, 0, 3, pack_number(1)) * 200)
    assert len(calls) <= 2 * 1000
    assert sent_body(one) == (128, True)


def test_windows_do_not_change_for_ever():
    one = session(1)
    pair = settings(INITIAL_WINDOW_SIZE=1) + settings(INITIAL_WINDOW_SIZE=2)
    one.receive(pair * (MAX_CHANGES // 2 - 1))
    one.receive(settings(INITIAL_WINDOW_SIZE=2) * MAX_CHANGES)  # which changes nothing
    with pytest.raises(Http2Error, match="for ever") as caught:
        one.receive(pair * 2)
    assert caught.value.code == h2.ENHANCE_YOUR_CALM


def test_of_many_sizes_of_the_table_two_are_told():
    """RFC 7541 section 4.2: the smallest, and the last."""
    one = session(1)
    one.receive(b"".join(settings(HEADER_TABLE_SIZE=9 + i % 99) for i in range(5000)))
    one.out.clear()
    one.post(SimpleNamespace(), BODY)
    last = 9 + 4999 % 99
    assert frames(one.out)[0][3].startswith(b"\x29\x3f" + bytes((last - 31,)))


@pytest.mark.parametrize("between", [True, False])
def test_a_size_of_the_table_that_is_said_twice_is_told(between):
    one, decoder = session(0), Decoder()
    for size in (4096, 100, 100):
        one.receive(settings(HEADER_TABLE_SIZE=size))
        decoder.max_allowed_table_size = size  # it insists that this be followed
        if size == 4096 or between:
            one.out.clear()
            one.post(SimpleNamespace(), BODY)
            assert dict(decoder.decode(frames(one.out)[0][3]))[":method"] == "POST"
    one.out.clear()
    one.post(SimpleNamespace(), BODY)
    assert dict(decoder.decode(frames(one.out)[0][3]))[":method"] == "POST"


@pytest.mark.parametrize("sizes", [(0,), (64,), (4096,), (1 << 31,), (64, 4096, 0)])
def test_requests_keep_to_the_table_that_the_server_allows(sizes):
    """Its decoder, h2's, refuses a block that does not."""
    server = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
    server.initiate_connection()
    one = Session("dns.example", "/dns-query")

    def exchange() -> list[dict[str, str]]:
        found = server.receive_data(b"".join(one.out))
        one.out.clear()
        one.receive(server.data_to_send())
        return [dict(x.headers) for x in found if type(x).__name__ == "RequestReceived"]

    exchange()
    for size in (4096, *sizes):
        server.update_settings({h2.HEADER_TABLE_SIZE: size})
        one.receive(server.data_to_send())
        for length in (128, 128, 256, 128, 128):
            one.post(SimpleNamespace(), bytes(length))
            one.get(SimpleNamespace(), f"/dns-query?dns={length}")
            post, get = exchange()
            assert post == {
                ":method": "POST",
                ":path": "/dns-query",
                ":scheme": "https",
                ":authority": "dns.example",
                "accept": "application/dns-message",
                "content-type": "application/dns-message",
                "content-length": str(length),
            }
            assert get[":path"] == f"/dns-query?dns={length}"


FRAMES = st.builds(
    frame,
    st.one_of(st.integers(0, 10), st.integers(0, 255)),
    st.one_of(st.sampled_from([0, 1, 4, 5, 8, 12, 13, 36]), st.integers(0, 255)),
    st.one_of(st.integers(0, 9), st.integers(0, (1 << 32) - 1)),
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from([block(*OK), b"\x88", bytes(4), bytes(5), bytes(8), b"reply"]),
    ),
)


@given(st.lists(st.one_of(FRAMES, st.just(START), st.binary(max_size=20)), max_size=25))
def test_whatever_comes_is_taken_in_or_ends_the_connection(sent):
    one = session(4)
    streams = dict(one.streams)
    text = b""
    with contextlib.suppress(Http2Error):
        for part in sent:
            text += part
            text = text[one.receive(text) :]
    # Each stream is open or has ended, and not both; what is kept is bounded.
    ended = [x.number for x in one.ended]
    assert sorted([*ended, *one.streams]) == sorted(streams)
    assert all(x.head is not None or x.fault for x in one.ended)
    assert len(text) < 9 + h2.LEAST_FRAME
    frames(one.out)


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_any_block_is_a_header_or_ends_the_connection(blocks):
    one = session(len(blocks))
    with contextlib.suppress(Http2Error):
        for i, text in enumerate(blocks):
            one.receive(frame(h2.HEADERS, 4, 2 * i + 1, text))


def test_a_header_list_is_bounded():
    fields = [(b"x", b"")] * (MAX_LIST // 33)
    one = session(1)
    text = block(*OK, *fields)
    with pytest.raises(Http2Error, match="header"):
        one.receive(frame(h2.HEADERS, 4, 1, text))
