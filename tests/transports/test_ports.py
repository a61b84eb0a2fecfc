"""Sockets on a loop that cannot watch them, as Windows' default loop."""

import asyncio
import gc
import socket
import struct

import pytest
from loopback import LIMIT, PATIENCE

from resolverkit.errors import NetworkError
from resolverkit.model import Endpoint, Kind
from resolverkit.transports.do53 import Do53
from resolverkit.transports.ports import PORT_USES
from resolverkit.wire import make_question, text_to_wire

HOST = "127.0.0.1"
QUESTION = make_question(text_to_wire("www.example.com"), 1)


class NoReaders(asyncio.SelectorEventLoop):
    """Has datagram endpoints, and nothing beneath them."""

    def add_reader(self, *args):
        raise NotImplementedError


def run(main):
    async def bounded():
        async with asyncio.timeout(LIMIT):
            return await main()

    with asyncio.Runner(loop_factory=NoReaders) as runner:
        return runner.run(bounded())


class Server(asyncio.DatagramProtocol):
    def __init__(self):
        self.packets = []
        self.replying = True
        self.came = asyncio.Event()

    async def __aenter__(self):
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=(HOST, 0)
        )
        self.port = self.transport.get_extra_info("sockname")[1]
        return self

    async def __aexit__(self, *_):
        self.transport.close()

    def datagram_received(self, data, addr):
        self.packets.append((addr[1], data))
        self.came.set()
        if self.replying:
            head = data[:2] + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0)
            record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\1"
            self.transport.sendto(head + data[12 : QUESTION.end] + record, addr)

    def client(self):
        endpoint = Endpoint("udp://server", "udp", address=HOST, port=self.port)
        return Do53(endpoint, timeout=PATIENCE)


def test_questions_are_answered_and_nothing_is_left():
    async def main():
        async with Server() as server:
            client = server.client()
            replies = await asyncio.gather(*(client.query(QUESTION) for _ in range(80)))
            assert {reply.kind for reply in replies} == {Kind.DATA}
            for _ in range(2 * PORT_USES):  # ports are given up here, too
                await client.query(QUESTION)
            assert len({port for port, _ in server.packets}) > 1
            await client.aclose()
            await asyncio.sleep(0)
            gc.collect()  # an unclosed socket would warn

    run(main)


def test_a_question_is_sent_again_from_the_same_port():
    async def main():
        async with Server() as server:
            server.replying = False
            client = server.client()
            asked = client.query(QUESTION)
            await server.came.wait()
            server.replying = True
            assert client.resend(asked)
            await asked
            assert len(set(server.packets)) == 1
            await client.aclose()

    run(main)


def test_an_icmp_error_is_told_at_once():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]

    async def main():
        client = Do53(
            Endpoint("udp://gone", "udp", address=HOST, port=port), timeout=PATIENCE
        )
        with pytest.raises(NetworkError, match="refused"):
            await client.query(QUESTION)
        await client.aclose()

    run(main)


def test_closing_while_the_endpoint_opens_leaves_nothing():
    async def main():
        async with Server() as server:
            client = server.client()
            asked = client.query(QUESTION)
            await client.aclose()
            assert asked.cancelled()
            for _ in range(10):
                await asyncio.sleep(0)
            assert len(asyncio.all_tasks()) == 1
            assert server.packets == []

    run(main)
