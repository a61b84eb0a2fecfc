"""DNS over UDP: what is believed, what is sent, and what is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import itertools
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import pytest
from loopback import (
    PATIENCE,
    Server,
    answer,
    answer_all,
    ask,
    read_query,
    run,
    skip,
    until,
)

from resolverkit import wire
from resolverkit.errors import NetworkError, QueryTimeout, ServerFailure
from resolverkit.model import Endpoint, Kind, Outcome
from resolverkit.policy import FAILURE_TTL
from resolverkit.transports import do53
from resolverkit.transports import ports as pool
from resolverkit.transports.do53 import MAX_SENDS, Do53
from resolverkit.transports.ports import MAX_PORTS, PORT_USES

HOST = "127.0.0.1"
DESCRIPTORS = Path("/proc/self/fd")


class Udp(asyncio.DatagramProtocol):
    """A server on loopback: calls `handle(query, send)` for each datagram."""

    def __init__(self, handle=None, host=HOST):
        self.handle = handle or (lambda query, send: send(answer(query)))
        self.host = host
        self.packets = []  # the port of the sender, and what it sent
        self.sources = set()

    async def __aenter__(self):
        self.sock = self._bound()
        self.port = self.sock.getsockname()[1]
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_datagram_endpoint(
            lambda: self, sock=self.sock
        )
        return self

    def _bound(self):
        """A socket at a port that is free for TCP, too: some have a server there."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        while True:
            found = socket.socket(family, socket.SOCK_DGRAM)
            found.bind((self.host, 0))
            with socket.socket(family, socket.SOCK_STREAM) as twin:
                try:
                    twin.bind(found.getsockname()[:2])
                except OSError:
                    found.close()
                else:
                    return found

    async def __aexit__(self, *_):
        self.transport.close()

    def datagram_received(self, data, addr):
        self.packets.append((addr[1], data))
        self.sources.add(addr[0])
        # Past asyncio, which sends no empty datagram before Python 3.12.
        self.handle(data, lambda reply: self.sock.sendto(reply, addr))

    def client(self, timeout=PATIENCE, **options):
        endpoint = Endpoint("udp://server", "udp", address=self.host, port=self.port)
        return Do53(endpoint, timeout=timeout, **options)

    async def received(self, count):
        await until(lambda: len(self.packets) >= count)

    @property
    def ids(self):
        return [int.from_bytes(data[:2], "big") for _, data in self.packets]


def silent(query, send):
    pass


def later(seconds, call, *args):
    asyncio.get_running_loop().call_later(seconds, call, *args)


def rcode(query, code, *, opt=False):
    """A reply without records, with or without OPT."""
    end = question_end(query)
    head = query[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, 0, 0, opt)
    return head + query[12:end] + (wire._OPTS[0] if opt else b"")


def truncated(query):
    end = question_end(query)
    return query[:2] + struct.pack("!HHHHH", 0x8380, 1, 0, 0, 0) + query[12:end]


def question_end(query):
    end = 12
    while query[end]:
        end += 1 + query[end]
    return end + 5


def with_type_and_class(reply, rdtype, rdclass):
    """The same reply to another question."""
    end = question_end(reply)
    return reply[: end - 4] + struct.pack("!HH", rdtype, rdclass) + reply[end:]


def has_opt(query):
    return len(query) > question_end(query)


def sockets():
    """Descriptors of this process that are sockets."""
    links = (link.readlink() for link in DESCRIPTORS.iterdir() if link.is_symlink())
    return sum(str(link).startswith("socket:") for link in links)


# --- what is believed: RFC 5452, and the lesson of TuDoor -----------------------------

FORGERIES = {
    "another id": lambda q: bytes((q[0] ^ 1,)) + answer(q)[1:],
    "another name": lambda q: answer(q).replace(b"\3www", b"\3wwx"),
    "another type": lambda q: with_type_and_class(answer(q), 28, 1),
    "another class": lambda q: with_type_and_class(answer(q), 1, 3),
    "no response": lambda q: q,
    "another opcode": lambda q: answer(q, flags=0xA180),
    "two questions": lambda q: answer(q)[:4] + b"\0\2" + answer(q)[6:],
    "no question": lambda q: answer(q)[:4] + b"\0\0" + answer(q)[6:],
    "FORMERR without question": lambda q: q[:2] + b"\x81\x81" + bytes(8),
    "SERVFAIL without question": lambda q: q[:2] + b"\x81\x82" + bytes(8),
    "truncated, another name": lambda q: truncated(q).replace(b"\3www", b"\3wwx"),
    "cut in the header": lambda q: answer(q)[:7],
    "cut in the question": lambda q: answer(q)[:20],
    "cut in the record": lambda q: answer(q)[:-2],
    "octets left over": lambda q: answer(q) + b"\0",
    "NXDOMAIN with an answer": lambda q: answer(q, flags=0x8183),
    "empty": lambda q: q[:0],
    "garbage": lambda q: q[:2] + random.Random(7).randbytes(300),
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_a_forged_datagram_is_dropped_and_the_real_one_awaited(forge):
    """RFC 5452 section 9.1: id, name, type and class are those of the question."""

    def handle(query, send):
        send(forge(query))
        later(0.02, send, answer(query))

    async def main():
        async with Udp(handle) as server:
            client = server.client()
            reply = await client.query(ask())
            assert reply.kind is Kind.DATA
            assert reply.attempts == (reply.winner,)
            assert reply.winner.dropped == client.dropped == 1
            assert len(server.packets) == 1
            await client.aclose()

    run(main)


def test_a_flood_of_forgeries_costs_a_question_nothing_but_the_counter():
    def handle(query, send):
        for forge in FORGERIES.values():
            send(forge(query))
        send(answer(query))

    async def main():
        async with Udp(handle) as server:
            client = server.client()
            reply = await client.query(ask())
            assert reply.winner.dropped == client.dropped == len(FORGERIES)
            await client.aclose()

    run(main)


def test_forgeries_alone_end_in_a_timeout_that_tells_of_them():
    def handle(query, send):
        send(FORGERIES["another id"](query))
        send(FORGERIES["cut in the record"](query))

    async def main():
        async with Udp(handle) as server:
            client = server.client()
            asked = client.query(ask())
            await until(lambda: client.dropped == 2)
            skip(PATIENCE)
            with pytest.raises(QueryTimeout) as caught:
                await asked
            (attempt,) = caught.value.attempts
            assert attempt.outcome is Outcome.TIMEOUT
            assert attempt.dropped == 2
            await client.aclose()

    run(main)


@pytest.mark.parametrize("host", [HOST, "127.0.0.2"], ids=["port", "address"])
def test_datagrams_from_elsewhere_never_reach_a_question(host):
    """RFC 5452 section 9.1: the source is who was asked. Connected sockets see to it:
    another port of the same host is somebody else."""

    async def main():
        async with Udp(silent) as server, Udp(silent, host) as stranger:
            client = server.client()
            asked = client.query(ask())
            await until(lambda: server.packets)
            port, query = server.packets[0]
            stranger.sock.sendto(answer(query), (HOST, port))
            skip(PATIENCE)  # what has come is read before
            with pytest.raises(QueryTimeout):
                await asked
            assert client.dropped == 0
            await client.aclose()

    run(main)


def test_a_reply_to_another_port_of_ours_is_no_reply():
    """RFC 5452 section 9.1: the destination is the port that the question came from."""

    async def main():
        async with Udp(silent) as server:
            client = server.client()
            asked = [client.query(ask(name)) for name in ("a.example", "b.example")]
            await server.received(2)
            (one, first), (two, second) = server.packets
            assert one != two
            server.sock.sendto(answer(first), (HOST, two))
            server.sock.sendto(answer(second), (HOST, one))
            await until(lambda: client.dropped == 2)
            skip(PATIENCE)
            for future in asked:
                with pytest.raises(QueryTimeout):
                    await future
            await client.aclose()

    run(main)


def test_after_five_forgeries_the_real_answer_is_given():
    """The lesson of TuDoor: "awaiting valid responses". Another id, another name,
    garbage and FORMERR without the question are counted; another port, the kernel's."""

    async def main():
        async with Udp(silent) as server, Udp(silent) as stranger:
            client = server.client()
            asked = client.query(ask())
            await until(lambda: server.packets)
            port, query = server.packets[0]
            stranger.sock.sendto(answer(query, ttl=1), (HOST, port))
            kinds = "another id", "another name", "FORMERR without question", "garbage"
            for kind in kinds:
                server.sock.sendto(FORGERIES[kind](query), (HOST, port))
            server.sock.sendto(answer(query), (HOST, port))
            reply = await asked
            assert reply.ttl == 300
            assert reply.winner.dropped == client.dropped == len(kinds)
            await client.aclose()

    run(main)


@pytest.mark.parametrize("count", [0, 2, 256])
def test_a_reply_without_exactly_one_question_is_ignored(count):
    """RFC 9619 section 4: QDCOUNT is 1, or the wait goes on."""

    def handle(query, send):
        good = answer(query)
        question = good[12 : question_end(good)]
        records = good[question_end(good) :]
        head = good[:4] + count.to_bytes(2, "big") + good[6:12]
        send(head + question * min(count, 2) + records)
        send(head + question + records)  # where the count alone is wrong
        send(answer(query, ttl=77))

    async def main():
        async with Udp(handle) as server:
            client = server.client()
            reply = await client.query(ask())
            assert (reply.ttl, reply.winner.dropped) == (77, 2)
            await client.aclose()

    run(main)


@pytest.mark.parametrize("how", ["cancelled", "timed out", "sent twice"])
def test_a_late_reply_is_no_forgery(how, monkeypatch):
    monkeypatch.setattr(pool, "MAX_PORTS", 1)
    held = []

    def handle(query, send):
        if b"late" in query:
            held.append(lambda: send(answer(query)))
            if how == "sent twice" and len(held) == 2:
                held.pop()()
        else:
            held.append(lambda: send(answer(query)))

    async def main():
        async with Udp(handle) as server:
            client = server.client()
            late = client.query(ask("late.example.com"))
            await until(lambda: held)
            if how == "cancelled":
                late.cancel()
            elif how == "timed out":
                skip(PATIENCE)
                with pytest.raises(QueryTimeout):
                    await late
            else:
                assert client.resend(late)
                await late
            asked = client.query(ask())
            await until(lambda: len(held) == 2)
            held[0]()  # to the same port, where a question is outstanding now
            held[1]()
            reply = await asked
            assert len({port for port, _ in server.packets}) == 1
            assert reply.winner.dropped == client.dropped == 0
            await client.aclose()

    run(main)


def test_each_late_reply_is_awaited_once():
    """What comes after it under the same id is a forgery like any other."""
    held = []

    def handle(query, send):
        held.append(lambda: send(answer(query)))

    async def main():
        async with Udp(handle) as server:
            client = server.client()
            late = client.query(ask("late.example.com"))
            await until(lambda: held)
            skip(PATIENCE)
            with pytest.raises(QueryTimeout):
                await late
            asked = client.query(ask())
            await until(lambda: len(held) == 2)
            held[0]()
            held[0]()
            held[1]()
            assert (await asked).winner.dropped == client.dropped == 1
            await client.aclose()

    run(main)


@pytest.mark.parametrize("code", [dns.rcode.SERVFAIL, dns.rcode.REFUSED])
def test_a_failure_with_the_question_is_believed_at_once(code):
    async def main():
        async with Udp(lambda q, send: send(rcode(q, code))) as server:
            client = server.client()
            with pytest.raises(ServerFailure) as caught:
                await client.query(ask())
            assert caught.value.rcode == code
            (attempt,) = caught.value.attempts
            assert (attempt.outcome, attempt.rcode) == (Outcome.FAILURE, code)
            await client.aclose()

    run(main)


# --- TCP for what is truncated --------------------------------------------------------


def test_a_truncated_reply_is_asked_for_again_over_tcp():
    """RFC 7766 section 5."""

    async def main():
        async with (
            Udp(lambda q, send: send(truncated(q))) as server,
            Server(answer_all, port=server.port) as tcp,
        ):
            client = server.client()
            for _ in range(2):
                reply = await client.query(ask())
                first, second = reply.attempts
                assert (first.transport, first.outcome) == ("udp", Outcome.TRUNCATED)
                assert (second.transport, second.outcome) == ("tcp", Outcome.DATA)
                assert reply.winner is second
            assert tcp.connections == 1
            await client.aclose()

    run(main)


def test_what_a_truncated_reply_holds_is_no_answer():
    """TC: its records are never given, and so never kept, even where TCP fails."""

    def handle(query, send):
        reply = answer(query, ttl=1)
        send(reply[:2] + b"\x83" + reply[3:])

    async def main():
        async with Udp(handle) as server:
            client = server.client()
            with pytest.raises(NetworkError, match="refused"):
                await client.query(ask())
            await client.aclose()

    run(main)


def test_where_tcp_fails_the_truncated_attempt_is_told_too():
    async def main():
        async with Udp(lambda q, send: send(truncated(q))) as server:
            client = server.client()
            with pytest.raises(NetworkError, match="refused") as caught:
                await client.query(ask())
            outcomes = [a.outcome for a in caught.value.attempts]
            assert outcomes == [Outcome.TRUNCATED, Outcome.NETWORK]
            await client.aclose()

    run(main)


def test_a_question_that_went_on_over_tcp_can_be_cancelled():
    reached = asyncio.Event()

    async def hang(reader, writer, n):
        await read_query(reader)
        reached.set()
        await reader.read()

    async def main():
        async with (
            Udp(lambda q, send: send(truncated(q))) as server,
            Server(hang, port=server.port),
        ):
            client = server.client()
            asked = client.query(ask())
            await reached.wait()
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            await client.aclose()

    run(main)


def test_what_goes_on_over_tcp_is_not_sent_again_under_an_id_that_is_another_s():
    reached = asyncio.Event()

    async def hang(reader, writer, n):
        await read_query(reader)
        reached.set()
        await reader.read()

    def handle(query, send):
        if b"truncated" in query:
            send(truncated(query))

    async def main():
        async with Udp(handle) as server, Server(hang, port=server.port):
            client = server.client()
            first = client.query(ask("truncated.example.com"))
            asked = first.under_way
            await reached.wait()
            client._ports._draws = [(0, asked.ident)]
            second = client.query(ask())
            assert second.under_way.port is asked.port
            assert client.resend(second)
            assert not client.resend(first)
            await client.aclose()
            assert second.cancelled()
            with pytest.raises(NetworkError, match="closed"):
                await first

    run(main)


def test_the_late_reply_of_a_cancelled_question_starts_no_tcp():
    held = []

    async def main():
        async with (
            Udp(lambda q, send: held.append((q, send))) as server,
            Server(answer_all, port=server.port) as tcp,
        ):
            client = server.client()
            asked = client.query(ask())
            await until(lambda: held)
            asked.cancel()
            query, send = held[0]
            send(truncated(query))
            await until(lambda: client.heard > 0)
            assert tcp.connections == 0
            await client.aclose()

    run(main)


# --- sending again --------------------------------------------------------------------


def test_a_question_is_sent_again_with_the_same_port_and_id_and_thrice_at_most():
    """RFC 9520 section 3.1."""

    async def main():
        async with Udp(silent) as server:
            client = server.client()
            asked = client.query(ask())
            sent = [client.resend(asked) for _ in range(4)]
            assert sent == [True, True, False, False]
            await server.received(3)
            skip(PATIENCE)
            with pytest.raises(QueryTimeout) as caught:
                await asked
            assert caught.value.attempts[0].sends == MAX_SENDS == 3
            assert len(server.packets) == 3
            assert len(set(server.packets)) == 1
            assert not client.resend(asked)
            await client.aclose()

    run(main)


def test_without_edns_is_no_fourth_packet():
    """RFC 9520 section 3.1: three packets, whatever the reason for each."""
    held = []

    async def main():
        async with Udp(lambda q, send: held.append((q, send))) as server:
            client = server.client()
            asked = client.query(ask())
            assert client.resend(asked)
            assert client.resend(asked)
            await until(lambda: len(held) == 3)
            query, send = held[0]
            send(rcode(query, dns.rcode.FORMERR))
            with pytest.raises(ServerFailure, match="FORMERR"):
                await asked
            await client.aclose()
            assert len(server.packets) == 3

    run(main)


def test_what_is_answered_by_the_second_packet_says_so():
    def handle(query, send):
        if len(server.packets) == 2:
            send(answer(query))

    server = Udp(handle)

    async def main():
        async with server:
            client = server.client()
            asked = client.query(ask())
            client.resend(asked)
            assert (await asked).winner.sends == 2
            assert not client.resend(asked)
            await client.aclose()

    run(main)


def test_a_foreign_future_is_not_sent_again():
    async def main():
        async with Udp() as server:
            client = server.client()
            foreign = asyncio.get_running_loop().create_future()
            assert not client.resend(foreign)
            foreign.cancel()

    run(main)


# --- EDNS -----------------------------------------------------------------------------


def old_server(query, send):
    """It answers FORMERR, without OPT, to whatever has OPT."""
    send(rcode(query, dns.rcode.FORMERR) if has_opt(query) else answer(query))


def test_a_server_without_edns_is_asked_without_it_for_an_hour(monkeypatch):
    async def main():
        async with Udp(old_server) as server:
            client = server.client()
            reply = await client.query(ask())
            assert reply.kind is Kind.DATA
            assert reply.winner.sends == 2
            assert len(set(server.ids)) == 1
            for _ in range(3):
                assert (await client.query(ask())).winner.sends == 1
            assert [has_opt(q) for _, q in server.packets] == [True] + [False] * 4
            await client.aclose()

    assert do53.EDNS_RETRY == 3600
    run(main)


def test_after_that_hour_edns_is_tried_again_however_much_was_asked(monkeypatch):
    monkeypatch.setattr(do53, "EDNS_RETRY", 0.1)

    async def main():
        async with Udp(old_server) as server:
            client = server.client()
            await client.query(ask())
            for _ in range(8):
                await asyncio.sleep(0.025)
                await client.query(ask())
            assert sum(has_opt(q) for _, q in server.packets) >= 2
            await client.aclose()

    run(main)


def test_edns_is_never_dropped_where_dnssec_is_asked_for():
    signed = wire.make_question(wire.text_to_wire("www.example.com"), 1, dnssec_ok=True)

    async def main():
        async with Udp(old_server) as server:
            client = server.client()
            with pytest.raises(ServerFailure, match="FORMERR"):
                await client.query(signed)
            await client.query(ask())
            with pytest.raises(ServerFailure, match="FORMERR"):
                await client.query(signed)
            assert [has_opt(q) for _, q in server.packets] == [True, True, False, True]
            await client.aclose()

    run(main)


@pytest.mark.parametrize("always", [True, False], ids=["to all", "with OPT"])
def test_a_formerr_that_is_not_about_edns_is_a_failure(always):
    """One comes with an OPT of its own; the other to the plain query just the same."""

    async def main():
        def handle(query, send):
            send(rcode(query, dns.rcode.FORMERR, opt=not always))

        async with Udp(handle) as server:
            client = server.client()
            for _ in range(2):
                with pytest.raises(ServerFailure, match="FORMERR"):
                    await client.query(ask())
            per_question = [True, False] if always else [True]
            assert [has_opt(q) for _, q in server.packets] == per_question * 2
            await client.aclose()

    run(main)


# --- ports and ids --------------------------------------------------------------------


def test_simultaneous_questions_leave_from_different_ports():
    """RFC 5452 section 9.2: for as long as there are ports for all."""

    async def main():
        async with Udp(silent) as server:
            client = server.client()
            for _ in range(64):
                client.query(ask())
            await server.received(64)
            assert len({port for port, _ in server.packets}) == 64
            await client.aclose()

    run(main)


def test_no_two_outstanding_questions_share_port_and_id():
    count = 3000

    async def main():
        async with Udp(silent) as server:
            client = server.client()
            asked = []
            for _ in range(count // 100):
                asked += [client.query(ask()) for _ in range(100)]
                await server.received(len(asked))
            pairs = {(port, data[:2]) for port, data in server.packets}
            assert len(pairs) == count
            ports = Counter(port for port, _ in server.packets)
            assert len(ports) >= MAX_PORTS
            assert max(ports.values()) <= PORT_USES
            await client.aclose()
            assert all(future.cancelled() for future in asked)

    run(main)


def test_no_two_outstanding_questions_share_an_id_where_there_is_one_port():
    async def main():
        async with Udp(silent) as server:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.bind((HOST, 0))
                port = probe.getsockname()[1]
            client = server.client(source_port=port)
            client.query(ask())
            bad = [(server.ids or [1])[0], 1, 1, 2, 2, 3]  # ids as bad as can be
            draws = [(0, ident.to_bytes(2, "big")) for ident in bad]
            client._ports._draws = draws[::-1]
            for _ in range(3):
                client.query(ask())
            await until(lambda: len(server.packets) == 4)
            assert sorted(server.ids)[:3] == [1, 2, 3]
            assert len(set(server.ids)) == 4
            assert {p for p, _ in server.packets} == {port}
            await client.aclose()

    run(main)


def test_a_question_that_finds_no_id_on_the_only_port_fails_at_once():
    async def main():
        async with Udp(silent) as server:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.bind((HOST, 0))
                port = probe.getsockname()[1]
            client = server.client(source_port=port)
            first = client.query(ask())
            (only,) = client._ports
            held = first.under_way
            idents = (number.to_bytes(2, "big") for number in range(65536))
            only.asked.update(dict.fromkeys(idents, held))
            with pytest.raises(NetworkError, match="outstanding on one port") as told:
                await client.query(ask())
            assert told.value.local
            only.asked.clear()
            await client.aclose()

    run(main)


def test_a_port_is_given_up_after_some_uses():
    async def main():
        async with Udp() as server:
            client = server.client()
            before = sockets()
            for _ in range(5 * PORT_USES):
                await client.query(ask())
            assert sockets() - before == 1
            ports = Counter(port for port, _ in server.packets)
            assert len(ports) == 5
            assert set(ports.values()) == {PORT_USES}
            await client.aclose()
            assert sockets() == before

    run(main)


def test_a_port_with_questions_outstanding_is_closed_after_the_last(monkeypatch):
    monkeypatch.setattr(pool, "PORT_USES", 2)
    monkeypatch.setattr(pool, "MAX_PORTS", 1)
    held = []

    def handle(query, send):
        held.append(lambda: send(answer(query)))

    async def main():
        async with Udp(handle) as server:
            client = server.client()
            before = sockets()
            asked = [client.query(ask()) for _ in range(6)]
            await until(lambda: len(held) == 6)
            assert len({port for port, _ in server.packets}) == 3
            assert sockets() - before == 3
            for reply in held:
                reply()
            await asyncio.gather(*asked)
            assert sockets() - before == 1
            await client.aclose()

    run(main)


def chi_squared(values, bins):
    counts = Counter(values)
    expected = len(values) / bins
    return sum((counts[i] - expected) ** 2 / expected for i in range(bins))


def test_ids_and_ports_look_uniform():
    """RFC 5452 section 9.2: unpredictable, from the largest range that there is.

    Statistics with bounds that chance misses once in some 10^12 runs.
    """
    count = 6400

    async def main():
        async with Udp() as server:
            client = server.client()
            for _ in range(count // 64):
                await asyncio.gather(*(client.query(ask()) for _ in range(64)))
            ids = server.ids
            steps = [(b - a) & 0xFFFF for a, b in itertools.pairwise(ids)]
            for values in (ids, steps):
                # 255 degrees of freedom: mean 255, standard deviation 22.6
                assert chi_squared([v >> 8 for v in values], 256) < 255 + 8 * 22.6
                assert chi_squared([v & 255 for v in values], 256) < 255 + 8 * 22.6
            ports = {port for port, _ in server.packets}
            assert len(ports) >= count / PORT_USES
            assert len({port >> 12 for port in ports}) >= 10  # of 16 parts of the range
            assert min(ports) >= 1024
            await client.aclose()

    run(main)


def test_five_hundred_at_once():
    held = []

    def handle(query, send):
        held.append(lambda: send(answer(query)))
        if len(held) == 500:
            random.Random(1).shuffle(held)
            for reply in held:
                reply()

    async def main():
        async with Udp(handle) as server:
            client = server.client()
            questions = [ask(f"n{i}.example.com") for i in range(500)]
            asked = []
            for i in range(0, 500, 100):  # as many as the server's buffer holds
                asked += map(client.query, questions[i : i + 100])
                await server.received(len(asked))
            replies = await asyncio.gather(*asked)
            for question, reply in zip(questions, replies, strict=True):
                assert not wire.mismatch(question, reply.wire)
                assert reply.winner.dropped == 0
            assert len(server.packets) == 500
            await client.aclose()

    run(main)


# --- the network ----------------------------------------------------------------------


def closed_port(host=HOST):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        return sock.getsockname()[1]


def test_a_refused_port_is_an_error_at_once():
    async def main():
        port = closed_port()
        gone = Endpoint("udp://gone", "udp", address=HOST, port=port)
        client = Do53(gone, timeout=PATIENCE)
        for _ in range(3):
            began = asyncio.get_running_loop().time()
            with pytest.raises(NetworkError, match="refused") as caught:
                await client.query(ask())
            assert asyncio.get_running_loop().time() - began < PATIENCE / 2
            assert not caught.value.local
            (attempt,) = caught.value.attempts
            assert attempt.outcome is Outcome.NETWORK
            assert attempt.detail == "connection refused"
        await client.aclose()

    run(main)


def test_all_that_is_outstanding_on_a_port_is_refused_with_it():
    async def main():
        port = closed_port()
        gone = Endpoint("udp://gone", "udp", address=HOST, port=port)
        client = Do53(gone, timeout=PATIENCE)
        asked = [client.query(ask()) for _ in range(200)]
        errors = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(error, NetworkError) for error in errors)
        await client.aclose()

    run(main)


def test_silence_is_a_timeout_after_the_transports_own_time():
    async def main():
        async with Udp(silent) as server:
            client = server.client()
            asked = client.query(ask())
            await server.received(1)
            skip(PATIENCE / 2)
            await asyncio.sleep(0.01)
            assert not asked.done()
            skip(PATIENCE / 2)
            with pytest.raises(QueryTimeout, match=r"no reply within 20 s") as caught:
                await asked
            (attempt,) = caught.value.attempts
            assert (attempt.outcome, attempt.sends) == (Outcome.TIMEOUT, 1)
            await client.aclose()

    run(main)


def test_an_address_that_is_not_ours_is_a_local_error():
    async def main():
        async with Udp() as server:
            client = server.client(source="192.0.2.77")
            with pytest.raises(NetworkError, match="no socket") as caught:
                await client.query(ask())
            assert caught.value.local
            assert caught.value.attempts[0].outcome is Outcome.NETWORK
            await client.aclose()

    run(main)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE])
def test_no_descriptor_left_is_a_local_error(monkeypatch, code):
    def full(*_):
        raise OSError(code, "too many open files")

    async def main():
        async with Udp() as server:
            client = server.client()
            with monkeypatch.context() as patch:
                patch.setattr(pool.socket, "socket", full)
                with pytest.raises(NetworkError, match="no socket") as caught:
                    await client.query(ask())
            assert caught.value.local
            assert (await client.query(ask())).kind is Kind.DATA
            await client.aclose()

    run(main)


class Faulty(socket.socket):
    """A socket whose first `send` fails."""

    error = OSError()

    def send(self, *args):
        error, Faulty.error = Faulty.error, None
        if error:
            raise error
        return super().send(*args)


@pytest.mark.parametrize(
    ("code", "local"),
    [(errno.ENETUNREACH, True), (errno.EPERM, True), (errno.EHOSTUNREACH, False)],
)
def test_what_cannot_be_sent_is_told_at_once(monkeypatch, code, local):
    monkeypatch.setattr(Faulty, "error", OSError(code, "No Way"))

    async def main():
        async with Udp() as server:
            client = server.client()
            with monkeypatch.context() as patch:
                patch.setattr(pool.socket, "socket", Faulty)
                with pytest.raises(NetworkError, match=r"[a-z]") as caught:
                    await client.query(ask())
            assert caught.value.local is local
            assert caught.value.attempts[0].sends == 1
            await client.aclose()

    run(main)


def test_a_full_buffer_is_a_lost_packet_and_a_stale_icmp_error_none(monkeypatch):
    async def main():
        async with Udp() as server:
            client = server.client()
            with monkeypatch.context() as patch:
                patch.setattr(pool.socket, "socket", Faulty)
                Faulty.error = BlockingIOError()
                asked = client.query(ask())
                await asyncio.sleep(0.02)
                assert server.packets == []
                assert client.resend(asked)
                await asked
                Faulty.error = ConnectionRefusedError(errno.ECONNREFUSED, "refused")
                await client.query(ask())
            assert len(server.packets) == 2
            await client.aclose()

    run(main)


def test_source_and_source_port():
    port = closed_port("127.0.0.2")

    async def main():
        async with Udp() as server:
            client = server.client(source="127.0.0.2", source_port=port)
            for _ in range(PORT_USES + 10):
                await client.query(ask())
            await asyncio.gather(*(client.query(ask()) for _ in range(20)))
            assert server.sources == {"127.0.0.2"}
            assert {p for p, _ in server.packets} == {port}
            await client.aclose()
            client = server.client(source="127.0.0.2")
            await client.query(ask())
            assert server.sources == {"127.0.0.2"}
            await client.aclose()

    run(main)


def test_one_source_port_serves_two_servers_at_once():
    port = closed_port()

    async def main():
        async with Udp() as one, Udp() as other:
            clients = [s.client(source_port=port) for s in (one, other)]
            asked = [client.query(ask()) for client in clients for _ in range(3)]
            await asyncio.gather(*asked)
            for server in (one, other):
                assert [p for p, _ in server.packets] == [port] * 3
            for client in clients:
                await client.aclose()

    run(main)


def test_ipv6():
    async def main():
        async with Udp(host="::1") as server:
            client = server.client()
            reply = await client.query(ask())
            assert reply.winner.address == "::1"
            await client.aclose()

    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no ::1")
    run(main)


SCOPED = """
import asyncio, socket
from loopback import answer, ask
from resolverkit.model import Endpoint
from resolverkit.transports.do53 import Do53

async def main():
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server:
        server.bind(("fe80::1", 0, 0, socket.if_nametoindex("lo")))

        def reply():
            query, sender = server.recvfrom(4096)
            print(sender[0].partition("%")[0], end=" ")
            server.sendto(answer(query), sender)

        asyncio.get_running_loop().add_reader(server, reply)
        port = server.getsockname()[1]
        for zone, source in (
            ("lo", None), (socket.if_nametoindex("lo"), "fe80::2%lo"), ("none", None)
        ):
            client = Do53(
                Endpoint("", "udp", address=f"fe80::1%{zone}", port=port), source=source
            )
            try:
                print(await client.query(ask()))
            except Exception as error:
                print(error, error.local)
            await client.aclose()
        asyncio.get_running_loop().remove_reader(server)

asyncio.run(main())
"""


@pytest.mark.skipif(
    not shutil.which("unshare") or os.geteuid() != 0,
    reason="needs the right to make namespaces",
)
def test_a_link_local_address_has_a_zone():
    """As routers announce them, and resolv.conf has them then."""
    network = "ip link set lo up"
    for address in ("fe80::1", "fe80::2"):
        network += f" && ip addr add {address}/64 dev lo nodad"
    done = subprocess.run(
        ["unshare", "-n", "sh", "-c", f'{network} && exec {sys.executable} -c "$0"',
         SCOPED],
        capture_output=True, text=True, check=False, timeout=60,
        cwd=Path(__file__).parent,
    )  # fmt: skip
    assert done.stderr == ""
    *told, unknown = done.stdout.splitlines()
    assert told == [
        "fe80::1 <Reply DATA ttl=300 49 bytes>",
        "fe80::2 <Reply DATA ttl=300 49 bytes>",
    ]
    assert unknown.startswith("no socket: ")
    assert unknown.endswith(" True")


# --- a server that is known by name ---------------------------------------------------


def test_the_address_of_a_host_name_is_located_first():
    calls = []

    async def main():
        async with Udp() as server:

            async def locate():
                calls.append(1)
                return HOST

            endpoint = Endpoint("udp://dns.example", "udp", port=server.port)
            client = Do53(endpoint, timeout=PATIENCE, locate=locate)
            reply = await client.query(ask())
            assert reply.winner.address == client.endpoint.address == HOST
            assert reply.winner.upstream == "udp://dns.example"
            await client.query(ask())
            assert len(calls) == 1
            await client.aclose()

    run(main)


def test_a_host_name_that_cannot_be_located():
    async def main():
        endpoint = Endpoint("udp://dns.example", "udp", port=53)
        with pytest.raises(NetworkError, match=r"address of udp://dns\.example is not"):
            await Do53(endpoint).query(ask())

        async def nowhere():
            raise NetworkError("the address of dns.example is not known")

        client = Do53(endpoint, locate=nowhere)
        asked = client.query(ask())
        assert not client.resend(asked)
        with pytest.raises(NetworkError, match="not known"):
            await asked
        await client.aclose()

    run(main)


@pytest.mark.parametrize("here", [False, True])
def test_a_host_name_that_cannot_be_located_is_not_asked_for_at_once(here):
    """RFC 9520 section 3.2 holds for the names of upstreams as well."""
    tries = []

    async def nowhere():
        tries.append(1)
        raise NetworkError("the address of dns.example is not known", local=here)

    async def main():
        endpoint = Endpoint("udp://dns.example", "udp", port=53)
        client = Do53(endpoint, locate=nowhere)
        for _ in range(3):
            with pytest.raises(NetworkError, match="not known"):
                await client.query(ask())
        assert len(tries) == (3 if here else 1)  # this machine's faults are not kept
        client._locate_after -= FAILURE_TTL
        with pytest.raises(NetworkError, match="not known"):
            await client.query(ask())
        assert len(tries) == (4 if here else 2)
        await client.aclose()

    run(main)


# --- lifetime -------------------------------------------------------------------------


def test_cancelling_a_question_frees_it_for_others():
    async def main():
        async with Udp() as server:
            client = server.client()
            task = asyncio.ensure_future(client.query(ask()))
            others = [client.query(ask()) for _ in range(5)]
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert all(r.kind is Kind.DATA for r in await asyncio.gather(*others))
            await client.aclose()

    run(main)


def test_aclose_leaves_no_socket_and_cancels_what_is_outstanding():
    async def main():
        async with Udp(silent) as server:
            before = sockets()
            client = server.client()
            asked = [client.query(ask()) for _ in range(300)]
            assert sockets() > before
            await client.aclose()
            assert sockets() == before
            assert all(future.cancelled() for future in asked)
            await client.aclose()

    run(main)


def test_aclose_closes_ports_that_were_given_up_too(monkeypatch):
    monkeypatch.setattr(pool, "PORT_USES", 2)
    monkeypatch.setattr(pool, "MAX_PORTS", 1)

    async def main():
        async with Udp(silent) as server:
            before = sockets()
            client = server.client()
            asked = [client.query(ask()) for _ in range(6)]
            assert sockets() - before == 3
            await client.aclose()
            assert sockets() == before
            assert all(future.cancelled() for future in asked)

    run(main)


def test_a_closed_transport_opens_nothing_more():
    async def main():
        async with Udp() as server:
            client = server.client()
            await client.query(ask())
            await client.aclose()
            before = sockets()
            with pytest.raises(NetworkError, match="closed") as caught:
                await client.query(ask())
            assert caught.value.local
            assert sockets() == before

    run(main)


def test_aclose_before_the_first_question():
    async def main():
        async with Udp() as server:
            await server.client().aclose()

    run(main)


def test_a_thousand_misses_leave_nothing_for_the_collector():
    """Answers, failures and errors alike: reference counting frees them all."""

    def handle(query, send):
        if b"failing" in query:
            send(rcode(query, dns.rcode.SERVFAIL))
        elif b"forged" in query:
            send(answer(query)[:-2])
            send(answer(query))
        else:
            send(answer(query))

    async def misses(client, name, count):
        for _ in range(count):
            with contextlib.suppress(ServerFailure, NetworkError):
                await client.query(ask(name))

    async def main():
        async with Udp(handle) as server:
            client = server.client()
            dead = Do53(replace(client.endpoint, port=closed_port()), timeout=PATIENCE)
            await misses(client, "www.example.com", 3)
            await misses(dead, "www.example.com", 3)
            gc.collect()
            gc.disable()
            try:
                await misses(client, "www.example.com", 600)
                await misses(client, "failing.example.com", 200)
                await misses(client, "forged.example.com", 200)
                await misses(dead, "www.example.com", 50)
                assert gc.collect() == 0
            finally:
                gc.enable()
            await client.aclose()
            await dead.aclose()

    run(main)


def test_timeouts_and_tcp_leave_nothing_for_the_collector_either():
    async def main():
        async with (
            Udp(lambda q, send: send(truncated(q))) as server,
            Server(answer_all, port=server.port),
            Udp(silent) as deaf,
        ):
            client, slow = server.client(), deaf.client(timeout=0.01)
            await client.query(ask())
            gc.collect()
            gc.disable()
            try:
                for _ in range(20):
                    await client.query(ask())
                    with contextlib.suppress(QueryTimeout):
                        await slow.query(ask())
                assert gc.collect() == 0
            finally:
                gc.enable()
            await client.aclose()
            await slow.aclose()

    run(main)


def test_names_and_representation():
    client = Do53(Endpoint("udp://9.9.9.9", "udp", address="9.9.9.9", port=53))
    assert client.name == "udp://9.9.9.9"
    assert repr(client) == "<Do53 udp://9.9.9.9>"
