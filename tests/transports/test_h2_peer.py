"""Our half of HTTP/2 with h2's server as the other, which insists on the protocol."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace

import pytest
from h2 import events as on
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import StreamClosedError
from h2.settings import SettingCodes

from resolverkit.transports.h2_state import Session

HEADER = [(":status", "200"), ("content-type", "application/dns-message")]
SIZES = (0, 50, 50, 100, 1000, 4096, 9999)
WINDOWS = (0, 1, 10, 1000, 65_535, 1 << 20)
BODIES = (1, 128, 128, 300, 20_000, 70_000)
REPLIES = (0, 30, 60, 400, 30_000)


class Pair:
    """A session and a server, and what each has said to the other."""

    def __init__(self, random):
        self.random = random
        self.session = Session("dns.example", "/dns-query")
        self.server = H2Connection(H2Configuration(client_side=False))
        self.server.initiate_connection()
        self.asked = {}  # body by stream
        self.told = {}
        self.came = {}
        self.buffer = b""
        self.count = 0
        for _ in range(2):  # h2 takes an ACK for one of its latest settings
            self.exchange()

    def ask(self):
        room = self.session.room - len(self.session.streams)
        for _ in range(min(room, self.random.choice((1, 3, 30)))):
            asked, body = SimpleNamespace(), b""
            if self.random.random() < 0.15:
                long = self.random.choice((5, 50, 20_000))
                self.session.get(asked, "/dns-query?dns=" + "x" * long)
            else:
                body = self.random.randbytes(self.random.choice(BODIES))
                self.session.post(asked, body)
            self.asked[asked.tag] = body

    def give_up(self):
        if self.session.streams:
            number = self.random.choice(list(self.session.streams))
            self.session.cancel(number)
            del self.asked[number]

    def change(self):
        settings = {
            SettingCodes.INITIAL_WINDOW_SIZE: self.random.choice(WINDOWS),
            SettingCodes.HEADER_TABLE_SIZE: self.random.choice(SIZES),
            SettingCodes.MAX_CONCURRENT_STREAMS: self.random.choice((0, 1, 5, 100)),
        }
        self.server.update_settings(settings)

    def exchange(self):
        data = b"".join(self.session.out)
        self.session.out.clear()
        for event in self.server.receive_data(data):
            self.heard(event)
        self.buffer += self.server.data_to_send()
        part = self.random.randrange(len(self.buffer) + 1)  # as TCP may cut it
        for cut in (part, len(self.buffer)):
            used = self.session.receive(self.buffer[:cut])
            self.buffer = self.buffer[used:]
        for stream in self.session.ended:
            body = self.asked.pop(stream.number)
            assert stream.refused or self.came[stream.number] == body
            assert stream.refused or (stream.fault, stream.body) == (
                "",
                self.told[stream.number],
            )
            self.count += 1
        self.session.ended.clear()

    def heard(self, event):
        if isinstance(event, on.RequestReceived):
            self.came[event.stream_id] = b""
        elif isinstance(event, on.DataReceived):
            self.came[event.stream_id] += event.data
            size = event.flow_controlled_length
            self.server.acknowledge_received_data(size, event.stream_id)
        elif isinstance(event, on.StreamEnded):
            self.reply(event.stream_id)

    def reply(self, stream):
        body = self.random.randbytes(self.random.choice(REPLIES))
        fields = [*HEADER, ("age", str(self.random.randrange(5)))]
        if self.random.random() < 0.5:
            fields.append(("content-length", str(len(body))))
        if self.random.random() < 0.2:
            fields.append(("x-filler", "z" * self.random.randrange(3000)))
        try:
            if self.random.random() < 0.1:
                self.server.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
                return
            self.server.send_headers(stream, fields)
            self.told[stream] = body
            while len(body) > 16_000 or (body and self.random.random() < 0.4):
                cut = self.random.randrange(1, min(len(body), 16_000) + 1)
                self.server.send_data(stream, body[:cut])
                body = body[cut:]
            trailers = self.random.random() < 0.2
            self.server.send_data(stream, body, end_stream=not trailers)
            if trailers:
                self.server.send_headers(stream, [("x", "y")], end_stream=True)
        except StreamClosedError:  # given up meanwhile
            pass


@pytest.mark.parametrize("seed", range(10))
def test_a_server_that_insists_on_the_protocol_finds_no_fault(seed):
    random = Random(seed)
    pair = Pair(random)
    for _ in range(60):
        random.choice((pair.ask, pair.ask, pair.give_up, pair.change, list))()
        pair.exchange()
    pair.server.update_settings(
        {
            SettingCodes.INITIAL_WINDOW_SIZE: 1 << 20,
            SettingCodes.HEADER_TABLE_SIZE: 4096,
            SettingCodes.MAX_CONCURRENT_STREAMS: 100,
        }
    )
    for _ in range(200):
        pair.exchange()
    assert not pair.asked  # nothing hangs
    assert not pair.session.streams
    pair.ask()
    for _ in range(30):
        pair.exchange()
    assert not pair.asked
    assert pair.count
