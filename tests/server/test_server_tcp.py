"""Connections on loopback: RFC 7766, RFC 7858, and clients that mean no good."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import resource
import socket
import ssl
import struct
from functools import partial

import dns.message
import dns.rcode
import pytest
from asking import query
from serving import ADDRESS, Gated, Stream, client, exchange, serving, until, warm

from resolverkit import ConfigurationError, Resolver
from resolverkit.server import Server, connection, tcp
from resolverkit.testing import ScriptedUpstream, answer
from resolverkit.testing.certificates import Certificates

WWW = "www.example.com"
BIG = ScriptedUpstream("big", answer(*(f"192.0.2.{i}" for i in range(250)), after=0))


def in_loop(test):
    """Run a test in an event loop of its own."""

    def runs(monkeypatch):
        asyncio.run(test(monkeypatch))

    runs.__name__, runs.__doc__ = test.__name__, test.__doc__
    return runs


@in_loop
async def test_queries_follow_each_other_on_one_connection(monkeypatch):
    """RFC 7766 section 6.2.1."""
    async with serving() as server, await Stream.open(server.addresses[0]) as stream:
        for _ in range(3):
            messages = [query(f"n{i}.example.com", ident=i) for i in range(300)]
            stream.send(*messages)
            replies = {
                reply.id: reply for reply in [await stream.receive() for _ in messages]
            }
            for message in messages:
                assert message.is_response(replies[message.id])
                assert replies[message.id].answer[0][0].address == ADDRESS
        assert server.stats.tcp == 900
        assert server.stats.fast >= 300


@in_loop
async def test_replies_come_out_of_order(monkeypatch):
    """RFC 7766 section 6.2.1.1: none waits for the one before it."""
    gated = Gated()
    quick = ScriptedUpstream("quick", answer(ADDRESS, after=0))
    async with (
        Resolver(
            [quick], configure=False, routes={"slow.example": [gated]}
        ) as resolver,
        Server(resolver, ["127.0.0.1:0"]) as server,
        await Stream.open(server.addresses[0]) as stream,
    ):
        first, second = query("a.slow.example"), query(WWW)
        stream.send(first, second)
        assert second.is_response(await stream.receive())
        gated.open()
        assert first.is_response(await stream.receive())


@in_loop
async def test_a_query_may_come_octet_by_octet(monkeypatch):
    """RFC 7766 section 8: clients should not, but may."""
    async with serving() as server, await Stream.open(server.addresses[0]) as stream:
        wire = query(WWW).to_wire()
        for octet in len(wire).to_bytes(2, "big") + wire:
            stream.writer.write(bytes((octet,)))
            await stream.writer.drain()
            await asyncio.sleep(0)
        assert (await stream.receive()).answer


@in_loop
async def test_a_client_that_has_said_all_still_gets_its_replies(monkeypatch):
    gated = Gated()
    async with serving(gated) as server:
        async with await Stream.open(server.addresses[0]) as stream:
            stream.send(query(WWW))
            stream.writer.write_eof()
            await until(lambda: gated.count)
            gated.open()
            assert (await stream.receive()).answer
            assert await stream.ended()
        await until(lambda: not server.stats.connections)


@in_loop
async def test_what_is_too_short_for_a_query_ends_the_connection(monkeypatch):
    async with serving() as server, await Stream.open(server.addresses[0]) as stream:
        stream.writer.write(b"\0\3abc")
        assert await stream.ended()


@in_loop
async def test_rubbish_is_told_so(monkeypatch):
    async with serving() as server, await Stream.open(server.addresses[0]) as stream:
        stream.writer.write(b"\0\x0c" + struct.pack("!HHHHHH", 9, 0, 0, 0, 0, 0))
        assert (await stream.receive()).rcode() == dns.rcode.FORMERR


@in_loop
async def test_who_is_idle_is_sent_away(monkeypatch):
    """RFC 7766 section 6.2.3."""
    monkeypatch.setattr(connection, "IDLE", 0.2)
    monkeypatch.setattr(tcp, "_SWEEP", 0.02)
    async with serving() as server, await Stream.open(server.addresses[0]) as stream:
        stream.send(query(WWW))
        assert (await stream.receive()).answer
        assert await stream.ended()


@in_loop
async def test_who_takes_too_long_for_a_query_is_sent_away(monkeypatch):
    """Octets that come one by one do not help."""
    monkeypatch.setattr(connection, "PATIENCE", 0.3)
    monkeypatch.setattr(tcp, "_SWEEP", 0.02)
    async with serving() as server, await Stream.open(server.addresses[0]) as stream:
        stream.writer.write(b"\0\x40")

        async def dribble():
            while True:
                stream.writer.write(b"x")
                await asyncio.sleep(0.05)

        task = asyncio.create_task(dribble())
        assert await stream.ended()
        task.cancel()
        assert server.stats.closed == 1


@in_loop
async def test_who_waits_for_a_reply_is_not_idle(monkeypatch):
    monkeypatch.setattr(tcp, "_SWEEP", 0.01)
    gated = Gated()
    async with (
        serving(gated) as server,
        await Stream.open(server.addresses[0]) as stream,
    ):
        stream.send(query(WWW))
        await until(lambda: gated.count)
        monkeypatch.setattr(connection, "IDLE", 0.01)
        await asyncio.sleep(0.1)  # some sweeps
        (only,) = server._tcp[0].connections
        assert not only.overdue(only._since + 1)
        gated.open()
        assert (await stream.receive()).answer


@in_loop
async def test_who_does_not_read_is_not_read_and_then_sent_away(monkeypatch):
    monkeypatch.setattr(connection, "PATIENCE", 0.5)
    monkeypatch.setattr(tcp, "_SWEEP", 0.05)
    async with serving(BIG) as server:
        address = server.addresses[0]
        with client(server) as other, socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect((address.host, address.port))
            sock.setblocking(False)
            wire = query(WWW).to_wire()
            flood = (len(wire).to_bytes(2, "big") + wire) * 200
            sent = 0
            while not server.stats.closed:
                try:
                    sent += sock.send(flood)
                except BlockingIOError:
                    pass
                except ConnectionError:
                    break
                for each in server._tcp[0].connections:
                    assert each._transport.get_write_buffer_size() < 1 << 20
                await exchange(other, query("other.example.com", "TXT"))
            assert sent < 50 << 20
        await until(lambda: server.stats.closed == 1)


@in_loop
async def test_no_more_queries_of_one_connection_wait_than_may(monkeypatch):
    monkeypatch.setattr(connection, "MAX_QUERIES", 10)
    gated = Gated()
    async with (
        serving(gated) as server,
        await Stream.open(server.addresses[0]) as stream,
    ):
        messages = [query(f"n{i}.example.com", ident=i) for i in range(45)]
        stream.send(*messages)
        for seen in (10, 20, 30, 40, 45):
            await until(partial(lambda count: gated.count >= count, seen))
            assert gated.count == seen
            assert server._responder.in_flight <= 10
            gated.open()
        assert len({(await stream.receive()).id for _ in messages}) == 45


@in_loop
async def test_who_asks_much_at_once_does_not_keep_others_waiting(monkeypatch):
    """Queries of one connection are answered a few at a time, and all in the end."""
    monkeypatch.setattr(tcp, "PORTION", 0)
    async with serving() as server:
        with client(server) as sock:
            await warm(sock, WWW)
            async with await Stream.open(server.addresses[0]) as stream:
                stream.send(*[query(WWW)] * 4000)
                while not server.stats.tcp:  # noqa: ASYNC110 - at the very first
                    await asyncio.sleep(0)
                await exchange(sock, query(WWW))
                assert server.stats.tcp < 2000
                stream.writer.write_eof()  # what was asked before is still answered
                for _ in range(4000):
                    assert (await stream.receive_wire())[7] == 1
                assert await stream.ended()


@in_loop
async def test_what_waits_for_its_turn_is_answered_before_the_end(monkeypatch):
    monkeypatch.setattr(tcp, "PORTION", 0)
    async with serving() as server:
        with client(server) as sock:
            await warm(sock, WWW)
        async with await Stream.open(server.addresses[0]) as stream:
            stream.send(*[query(WWW)] * 400)
            while not server.stats.tcp:  # noqa: ASYNC110 - at the very first
                await asyncio.sleep(0)
            before = server.stats.tcp
            drained = asyncio.ensure_future(server.drain())
            count = 0
            with contextlib.suppress(asyncio.IncompleteReadError):
                while True:
                    assert (await stream.receive_wire())[7] == 1
                    count += 1
            await drained
            assert before < count == server.stats.tcp == 400


@in_loop
async def test_the_longest_idle_gives_way_when_all_connections_are_taken(monkeypatch):
    """RFC 7766 section 6.2.3."""
    async with serving(max_connections=3) as server:
        streams = [await Stream.open(server.addresses[0]) for _ in range(3)]
        await until(lambda: server.stats.connections == 3)
        streams[0].send(query(WWW))  # it is the latest heard now
        await streams[0].receive()
        async with await Stream.open(server.addresses[0]) as latest:
            latest.send(query(WWW))
            assert (await latest.receive()).answer
            assert await streams[1].ended()
            streams[0].send(query(WWW))
            assert (await streams[0].receive()).answer
            assert (server.stats.connections, server.stats.closed) == (3, 1)
        for stream in streams:
            async with stream:
                pass


@in_loop
async def test_strangers_are_not_let_in(monkeypatch):
    async with serving() as server:
        (listener,) = server._tcp
        ours, theirs = socket.socketpair()
        with theirs:
            from resolverkit.server.access import Access

            listener.access = Access()
            listener._welcome(ours, ("203.0.113.4", 4242))
            assert theirs.recv(1) == b""
        assert server.stats.denied == 1


@in_loop
async def test_no_descriptor_left_is_survived(monkeypatch):
    monkeypatch.setattr(tcp, "_PAUSE", 0.01)
    async with serving() as server:
        (listener,) = server._tcp

        class Exhausted:
            tries = 0

            def accept(self):
                self.tries += 1
                raise OSError(24, "Too many open files")

            def fileno(self):
                return real.fileno()

        real, listener.socket = listener.socket, Exhausted()
        async with await Stream.open(server.addresses[0]) as stream:
            stream.send(query(WWW))
            await until(lambda: listener.socket.tries >= 2)
            listener.socket = real
            assert (await stream.receive()).answer


def connect_idly(port, count, ready, end):
    """A child process with connections that say nothing."""
    held = []
    for _ in range(count):
        sock = socket.socket()
        sock.connect(("127.0.0.1", port))
        held.append(sock)
    ready.set()
    end.wait(60)


def test_10000_idle_connections_are_survived():
    wanted = 10_000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted + 100:
        pytest.skip(f"{hard} descriptors are not enough")

    async def main():
        spawn = multiprocessing.get_context("spawn")
        ready, end = spawn.Event(), spawn.Event()
        async with serving() as server:
            port = server.addresses[0].port
            child = spawn.Process(target=connect_idly, args=(port, wanted, ready, end))
            child.start()
            try:
                with client(server) as sock:
                    await warm(sock, WWW)
                    hits = 0
                    while not ready.is_set():
                        assert (await exchange(sock, query(WWW))).answer
                        hits += 1
                        assert child.exitcode is None
                    assert server.stats.connections <= tcp.MAX_CONNECTIONS
                    assert hits > 100
                    async with await Stream.open(server.addresses[0]) as stream:
                        stream.send(query(WWW))
                        assert (await stream.receive()).answer
            finally:
                end.set()
                child.join()

    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted + 100), hard))
    try:
        asyncio.run(main())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# --- TLS -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A CA, and PEM files of a certificate by it: ca, cert, key."""
    made = Certificates()
    directory = tmp_path_factory.mktemp("tls")
    made._certificate.private_key_pem.write_to_path(str(directory / "key.pem"))
    for blob in made._certificate.cert_chain_pems:
        blob.write_to_path(str(directory / "cert.pem"), append=True)
    yield made.ca_path, directory / "cert.pem", directory / "key.pem"
    made.close()


def over_tls(certificates):
    ca, cert, key = certificates
    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols(["dot"])
    return {"listen_tls": ["127.0.0.1:0"], "tls_cert": cert, "tls_key": key}, context


def test_a_name_is_answered_over_tls(certificates):
    async def main():
        options, context = over_tls(certificates)
        async with (
            serving(**options) as server,
            await Stream.open(
                server.tls_addresses[0], ssl=context, server_hostname="localhost"
            ) as stream,
        ):
            tls = stream.writer.get_extra_info("ssl_object")
            assert tls.selected_alpn_protocol() == "dot"  # RFC 7858 section 3.2
            for _ in range(4):
                stream.send(query(WWW))
                assert (await stream.receive()).answer
            assert (server.stats.tls, server.stats.fast) == (4, 2)

    asyncio.run(main())


def test_our_own_transport_can_ask_it(certificates):
    async def main():
        options, _ = over_tls(certificates)
        async with serving(**options) as server:
            url = f"tls://{server.tls_addresses[0]}?ca={certificates[0]}"
            async with Resolver([url], configure=False) as resolver:
                assert (await resolver.resolve(WWW))[0].address == ADDRESS

    asyncio.run(main())


def test_half_open_handshakes_end_with_the_server(certificates):
    async def main():
        options, _ = over_tls(certificates)
        async with serving(max_connections=20, **options) as server:
            address = server.tls_addresses[0]
            silent = [await Stream.open(address) for _ in range(25)]
            await until(lambda: len(server._tcp[1]._joining) == 20)
            with client(server) as sock:
                assert (await exchange(sock, query(WWW))).answer
        for stream in silent:
            assert await stream.ended()
            async with stream:
                pass

    asyncio.run(main())


def test_half_open_handshakes_shut_nobody_out(certificates):
    """Whoever shakes hands has its turn, and who did before keeps the connection."""

    async def main():
        options, context = over_tls(certificates)
        tls = {"ssl": context, "server_hostname": "localhost"}
        async with serving(max_connections=20, **options) as server:
            address, listener = server.tls_addresses[0], server._tcp[1]
            async with await Stream.open(address, **tls) as first:
                silent = [await Stream.open(address) for _ in range(25)]
                await until(lambda: server.stats.closed == 6)
                assert len(listener._joining) == 19
                async with await Stream.open(address, **tls) as last:
                    for stream in (first, last):
                        stream.send(query(WWW))
                        assert (await stream.receive()).answer
                assert all([await stream.ended() for stream in silent[:7]])
        for stream in silent:
            async with stream:
                pass

    asyncio.run(main())


def test_who_distrusts_the_certificate_leaves_nothing_behind(certificates):
    async def main():
        options, _ = over_tls(certificates)
        async with serving(**options) as server:
            with pytest.raises(ssl.SSLError):
                await Stream.open(
                    server.tls_addresses[0],
                    ssl=ssl.create_default_context(),
                    server_hostname="localhost",
                )
            await until(lambda: not server._tcp[1]._joining)
            assert server.stats.connections == 0

    asyncio.run(main())


def test_a_certificate_that_cannot_be_used_is_told(certificates, tmp_path):
    _, cert, key = certificates
    resolver = Resolver(["192.0.2.1"], configure=False)
    for files in (
        {},
        {"tls_cert": tmp_path / "none"},
        {"tls_cert": key, "tls_key": cert},
    ):
        with pytest.raises(ConfigurationError, match="tls_cert"):
            Server(resolver, [], listen_tls=["127.0.0.1"], **files)
