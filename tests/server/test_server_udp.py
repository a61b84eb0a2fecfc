"""Datagrams on loopback: hits first, whatever else comes."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct

import dns.flags
import dns.message
import dns.rcode
import pytest
from asking import query
from serving import ADDRESS, Gated, client, exchange, received, serving, until, warm

from resolverkit import ConfigurationError, Resolver
from resolverkit.server import Server, batch, udp
from resolverkit.server.access import Access
from resolverkit.server.udp import truncated
from resolverkit.testing import ScriptedUpstream, answer, nxdomain

WWW = "www.example.com"


def in_loop(test):
    """Run a test in an event loop of its own."""

    def runs():
        asyncio.run(test())

    runs.__name__, runs.__doc__ = test.__name__, test.__doc__
    return runs


WAYS = {
    "as it comes": (True, udp.FEW, udp.LONE),
    "batches": (True, 0, 0),
    "one by one": (False, 0, 0),
}


@pytest.fixture(autouse=True, params=WAYS.values(), ids=WAYS)
def batches(request, monkeypatch):
    """With recvmmsg and sendmmsg, and as where there are none: all holds for both."""
    many, few, lone = request.param
    if many and not batch.AVAILABLE:
        pytest.skip("no recvmmsg here")
    monkeypatch.setattr(batch, "AVAILABLE", many)
    monkeypatch.setattr(udp, "FEW", few)
    monkeypatch.setattr(udp, "LONE", lone)


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


@in_loop
async def test_a_name_is_answered():
    async with serving() as server:
        with client(server) as sock:
            for _ in range(4):
                reply = await exchange(sock, query(WWW))
                assert reply.answer[0][0].address == ADDRESS
        assert (server.stats.udp, server.stats.upstream, server.stats.cache) == (
            4,
            1,
            1,
        )
        assert server.stats.fast == 2


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
def test_several_addresses_of_both_families():
    async def main():
        listen = ["127.0.0.1:0", "[::1]:0", "127.0.0.2:0"]
        async with serving(listen=listen) as server:
            assert [a.host for a in server.addresses] == [
                "127.0.0.1",
                "::1",
                "127.0.0.2",
            ]
            for index in range(3):
                with client(
                    server, index
                ) as sock:  # connected: from there, or not heard
                    assert (await exchange(sock, query(WWW))).answer

    asyncio.run(main())


@in_loop
async def test_a_loop_without_readers_has_a_transport():
    """As the proactor loop of Windows."""
    loop = asyncio.get_running_loop()
    real = loop.add_reader

    def add_reader(*_):
        raise NotImplementedError

    loop.add_reader = add_reader
    async with serving() as server:
        loop.add_reader = real
        with client(server) as sock:
            for _ in range(3):
                assert (await exchange(sock, query(WWW))).answer
        assert server.stats.fast == 1


@in_loop
async def test_responses_and_rubbish_get_silence():
    async with serving() as server:
        with client(server) as sock:
            for data in (
                b"",
                b"\0",
                bytes(11),
                query(WWW).to_wire()[:2] + b"\x81\x80" * 9,
            ):
                sock.send(data)
            reply = await exchange(sock, query(WWW))  # and this is the first that comes
            assert reply.answer
        assert server.stats.ignored == 4


@in_loop
async def test_a_query_from_the_servers_own_address_is_not_answered():
    """A forged origin would have it talk to itself, or to port 53 of another."""
    async with serving(listen=["127.0.0.1:0", "127.0.0.2:0"]) as server:
        one, other = server._udp
        other.socket.sendto(
            query("loop.example.com").to_wire(), one.socket.getsockname()
        )
        with client(server) as sock:
            await exchange(sock, query(WWW))
        one.take(query("loop.example.com").to_wire(), other.socket.getsockname())
        assert server.stats.ignored == 2
        assert server.resolver.store.get("loop.example.com") is None


def caught(listener, monkeypatch):
    """What a listener sends from now on, in place of sending it."""
    taken = []
    monkeypatch.setattr(listener, "sendto", lambda reply, _: taken.append(reply))
    return taken


@in_loop
async def test_100000_random_datagrams_and_hits_are_answered_meanwhile():
    rng = random.Random(5)
    async with serving() as server:
        with client(server) as sock, client(server) as noise:
            await warm(sock, WWW)
            sent = answered = 0
            head = query(WWW).to_wire()[:12]
            while sent < 100_000:
                for _ in range(100):
                    data = rng.randbytes(rng.randrange(60))
                    if sent % 3 == 0:  # a query, but for what is asked
                        data = head + data
                    try:
                        noise.send(data)
                    except BlockingIOError:
                        break
                    sent += 1
                await exchange(sock, query(WWW))
                answered += 1
            assert answered >= 1000
            stats = server.stats
            assert stats.ignored > 0
            assert stats.refused > 0
            assert stats.fast >= answered
        assert all(len(listener._queue) <= udp.QUEUE for listener in server._udp)


@in_loop
async def test_a_flood_of_misses_does_not_starve_hits():
    """Misses that wait are bounded, and the oldest give way, counted."""
    gated = Gated()
    routes = {"cold.example": [gated]}
    async with (
        Resolver(
            [ScriptedUpstream("warm", answer(ADDRESS, ttl=3600, after=0))],
            configure=False,
            routes=routes,
        ) as resolver,
        Server(resolver, ["127.0.0.1:0"], max_in_flight=50) as server,
    ):
        with client(server) as sock, client(server) as flood:
            await warm(sock, WWW)
            for i in range(2000):
                flood.send(query(f"n{i}.cold.example").to_wire())
                if i % 20 == 0:
                    assert (await exchange(sock, query(WWW))).answer
            await until(lambda: server.stats.dropped >= 1900)
            assert server._responder.in_flight <= 50
            assert len(resolver._store._flights) <= 50
            gated.open()
            assert (await received(flood))[3] & 15 == 0


def test_strangers_are_not_answered(monkeypatch):
    async def main():
        async with serving() as server:
            (listener,) = server._udp
            listener.access = Access()
            taken = caught(listener, monkeypatch)
            listener.take(query(WWW).to_wire(), ("203.0.113.9", 4242))
            assert not taken
            assert server.stats.denied == 1

    asyncio.run(main())


def test_above_the_rate_replies_are_empty_and_say_tcp(monkeypatch):
    async def main():
        async with serving() as server:
            with client(server) as sock:
                await warm(sock, WWW)
            (listener,) = server._udp
            listener.access = Access(["203.0.113.0/24"], rate=1)
            taken = caught(listener, monkeypatch)
            message = query(WWW)
            for _ in range(12):
                listener.take(message.to_wire(), ("203.0.113.9", 4242))
            replies = [dns.message.from_wire(reply) for reply in taken]
            cut = [bool(reply.flags & dns.flags.TC) for reply in replies]
            assert cut == [False] * 4 + [True] * 4
            assert all(message.is_response(reply) for reply in replies)
            assert server.stats.limited == 8

    asyncio.run(main())


@pytest.mark.parametrize(
    "body", [b"", b"\3www", b"\xc0\x0c\0\1\0\1", b"\0\0\1\0\1x", b"\0\0"]
)
def test_an_empty_reply_can_be_read_whatever_was_asked(body):
    data = struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + body
    reply = dns.message.from_wire(truncated(data))
    assert (reply.id, bool(reply.flags & dns.flags.TC)) == (7, True)


@in_loop
async def test_a_burst_is_answered_to_the_last_query():
    async with serving() as server, contextlib.AsyncExitStack() as stack:
        socks = [stack.enter_context(client(server)) for _ in range(3)]
        await warm(socks[0], WWW)
        for i in range(100):  # hits and misses, of several clients, in one drain
            for n, sock in enumerate(socks):
                name = WWW if i % (n + 2) else f"n{i}-{n}.example.com"
                sock.send(query(name, ident=i).to_wire())
        for sock in socks:
            replies = [dns.message.from_wire(await received(sock)) for _ in range(100)]
            assert {reply.id for reply in replies} == set(range(100))
            assert all(reply.answer[0][0].address == ADDRESS for reply in replies)
        assert server.stats.unsent == 0


@in_loop
async def test_what_cannot_be_sent_is_counted_and_the_rest_is_sent():
    async with serving() as server:
        if not batch.AVAILABLE:
            return
        with client(server) as sock:
            await warm(sock, WWW)
            many = batch.Batch(server._udp[0].socket)
            server._udp[0].pause()
            for i in range(3):
                sock.send(query(WWW, ident=i).to_wire())
            queries = []
            await until(lambda: queries.extend(many.receive()) or len(queries) == 3)
            many._names[30:32] = b"\0\0"  # nothing can be sent to port 0
            assert many.send([b"one", b"two", b"three"]) == 1
            replies = [await received(sock) for _ in range(2)]
            assert replies == [b"\0\0one", b"\0\2three"]  # with their ids


# --- what cannot be listened at ------------------------------------------------------


@pytest.mark.parametrize(
    "listen", ["127.0.0.1:x", "localhost", "127.0.0.1:70000", "", "[::1", "1.2.3"]
)
def test_what_is_no_address_is_told(listen):
    with pytest.raises(ConfigurationError, match=r"127\.0\.0\.1:5353"):
        Server(Resolver(["192.0.2.1"], configure=False), [listen])


def test_beyond_loopback_somebody_has_to_be_allowed():
    """Never an open resolver (RFC 5358)."""
    resolver = Resolver(["192.0.2.1"], configure=False)
    with pytest.raises(ConfigurationError, match="--allow"):
        Server(resolver, ["192.168.0.1"])
    Server(resolver, ["192.168.0.1"], allow=["192.168.0.0/16"])


@in_loop
async def test_it_is_no_upstream_of_its_own():
    async with serving() as server:
        port = server.addresses[0].port
        for url in (f"127.0.0.1:{port}", f"tcp://127.0.0.1:{port}"):
            async with Resolver(["192.0.2.1", url], configure=False) as looped:
                with pytest.raises(ConfigurationError, match=f"{port}.*itself"):
                    server.change(looped)
        with client(server) as sock:
            assert (await exchange(sock, query(WWW))).answer


@in_loop
async def test_an_address_that_is_taken_is_told():
    async with serving() as server:
        other = Server(server.resolver, [str(server.addresses[0])])
        with pytest.raises(OSError, match=str(server.addresses[0].port)):
            await other.start()


# --- change, and end -----------------------------------------------------------------


@in_loop
async def test_another_resolver_goes_on_with_the_cache():
    async with serving() as server:
        with client(server) as sock:
            await warm(sock, WWW)
            other = Resolver(
                [ScriptedUpstream("other", nxdomain(after=0))], configure=False
            )
            server.change(other, explain=True)
            assert server.resolver is other
            reply = await exchange(sock, query(WWW))
            assert reply.answer
            assert reply.extended_errors()
            reply = await exchange(sock, query("new.example.com"))
            assert reply.rcode() == dns.rcode.NXDOMAIN
        await other.aclose()


@in_loop
async def test_what_is_under_way_is_answered_before_the_end():
    gated = Gated()
    async with serving(gated) as server:
        with client(server) as sock:
            sock.send(query(WWW).to_wire())
            await until(lambda: gated.count)
            draining = asyncio.create_task(server.drain())
            await asyncio.sleep(0)
            assert not draining.done()
            gated.open()
            await draining
            assert (await received(sock))[7] == 1


@in_loop
async def test_answers_for_other_ways_to_ask():
    """What the DoH listener asks."""
    async with serving() as server:
        message = query(WWW)
        for _ in range(2):
            wire = await server.answer(message.to_wire(), client="127.0.0.1")
            assert message.is_response(dns.message.from_wire(wire))
        assert await server.answer(message.to_wire(), client="203.0.113.1") is None
        assert await server.answer(b"", client="::1") is None
        assert (server.stats.https, server.stats.denied) == (4, 1)
