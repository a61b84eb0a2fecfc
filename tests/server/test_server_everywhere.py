"""Listening at all addresses: replies leave from the one that was asked."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import dns.flags
import dns.message
import pytest
from asking import query
from serving import Stream, exchange, received, serving

from resolverkit import Resolver
from resolverkit.errors import ConfigurationError
from resolverkit.server import Server, addresses, everywhere, udp
from resolverkit.server.addresses import Address, Sockets, parse
from resolverkit.server.everywhere import is_here

WWW = "www.example.com"
ALLOW = ["192.0.2.0/24"]


def in_loop(test):
    """Run a test in an event loop of its own."""

    def runs():
        asyncio.run(test())

    runs.__name__, runs.__doc__ = test.__name__, test.__doc__
    return runs


@contextlib.contextmanager
def client_of(host, port):
    """A client that takes replies from that address alone, as all should."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect((host, port))
        yield sock


@in_loop
async def test_a_reply_comes_from_the_address_that_was_asked():
    """From memory, from upstreams, and when it is cut."""
    async with serving(listen=["0.0.0.0:0"], allow=ALLOW) as server:
        port = server.addresses[0].port
        for host in ("127.0.0.1", "127.0.0.2", "127.9.9.9"):
            with client_of(host, port) as sock:
                for name in (WWW, f"{host}.example.com"):
                    for _ in range(3):
                        assert (await exchange(sock, query(name))).answer
            async with await Stream.open(Address(host, port)) as stream:
                stream.send(query(WWW))
                assert (await stream.receive()).answer
        assert server.stats.fast >= 3
        assert server.stats.unsent == 0


@in_loop
async def test_the_same_for_ipv6():
    if not is_here("::1"):
        pytest.skip("no IPv6 here")
    async with serving(listen=["[::]:0"], allow=ALLOW) as server:
        with client_of("::1", server.addresses[0].port) as sock:
            for _ in range(3):
                assert (await exchange(sock, query(WWW))).answer


@in_loop
async def test_a_socket_of_systemd_may_be_for_both_families():
    """ListenDatagram=53 is [::]:53, to which IPv4 comes as ::ffff:127.0.0.2."""
    if not is_here("::1"):
        pytest.skip("no IPv6 here")
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(("::", 0))
    port = sock.getsockname()[1]
    given = [Sockets(Address("::", port), sock, None)]
    async with serving(allow=ALLOW, sockets=given):
        for host in ("127.0.0.1", "127.0.0.2", "::1"):
            with client_of(host, port) as sock:
                assert (await exchange(sock, query(WWW))).answer


@in_loop
async def test_a_client_above_its_rate_is_told_so_from_there_too():
    async with serving(listen=["0.0.0.0:0"], allow=ALLOW) as server:
        (listener,) = server._udp
        rulings = iter([udp.Ruling.TRUNCATE])
        listener.access.rule = lambda *_, **__: next(rulings)
        with client_of("127.0.0.2", server.addresses[0].port) as sock:
            sock.send(query(WWW).to_wire())
            reply = dns.message.from_wire(await received(sock))
            assert reply.flags & dns.flags.TC


@in_loop
async def test_no_query_comes_from_the_server_itself():
    """A forged origin would have it talk to itself."""
    async with serving(listen=["0.0.0.0:0"], allow=ALLOW) as server:
        (listener,) = server._udp
        port = server.addresses[0].port
        listener.socket.sendto(query(WWW).to_wire(), ("127.0.0.1", port))
        with client_of("127.0.0.1", port) as sock:
            await exchange(sock, query("b.example.com"))
        assert server.stats.ignored == 1
        assert server.resolver.store.get(WWW) is None


@in_loop
async def test_no_address_of_this_machine_may_be_an_upstream_at_that_port():
    async with serving(listen=["0.0.0.0:0"], allow=ALLOW) as server:
        port = server.addresses[0].port
        for url in (f"127.0.0.1:{port}", f"tcp://127.0.0.3:{port}"):
            async with Resolver(["192.0.2.1", url], configure=False) as looped:
                with pytest.raises(ConfigurationError, match=f"{port}.*itself"):
                    server.check_upstreams(looped)
        others = ["192.0.2.1", f"192.0.2.1:{port}", f"[::1]:{port}", "127.0.0.1:9"]
        async with Resolver(others, configure=False) as resolver:
            server.check_upstreams(resolver)


@pytest.mark.parametrize("listen", ["0.0.0.0:53", "[::]:53"])
def test_somebody_has_to_be_allowed(listen):
    with pytest.raises(ConfigurationError, match="--allow"):
        Server(Resolver(["192.0.2.1"], configure=False), [listen])


@pytest.mark.parametrize("listen", ["0.0.0.0:53", "[::]:53"])
def test_where_the_system_does_not_tell_addresses_have_to_be_named(listen, monkeypatch):
    monkeypatch.setattr(everywhere, "_SPACE", 0)
    with pytest.raises(ConfigurationError, match="one by one"):
        Server(Resolver(["192.0.2.1"], configure=False), [listen], allow=ALLOW)


def test_what_is_here():
    assert is_here("127.0.0.1")
    assert not is_here("192.0.2.1")
    assert not Address("0.0.0.0", 53).covers("", 53)  # a host name, not looked up yet


@pytest.mark.parametrize(
    ("listen", "upstream"),
    [
        ("[0:0:0:0:0:0:0:1]:53", "::1"),
        ("[2001:DB8::A]:53", "2001:db8::a"),
        ("127.0.0.1:53", "::ffff:127.0.0.1"),
        ("127.0.0.1:53", "0.0.0.0"),
        ("[::1]:53", "::"),
        ("0.0.0.0:53", "::ffff:127.0.0.1"),
    ],
)
def test_an_address_is_its_own_however_it_is_written(listen, upstream):
    address = parse(listen)
    assert address.covers(upstream, 53)
    assert not address.covers(upstream, 54)
    assert not address.covers("192.0.2.1", 53)
    assert not address.covers("2001:db8::1", 53)


@contextlib.contextmanager
def sockets_of_systemd(*, only):
    """Those for ``[::]`` and any port, with or without ``BindIPv6Only=ipv6-only``."""
    if not is_here("::1"):
        pytest.skip("no IPv6 here")
    with contextlib.ExitStack() as stack:
        found = []
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            sock = stack.enter_context(socket.socket(socket.AF_INET6, kind))
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
            sock.bind(("::", found[0].getsockname()[1] if found else 0))
            found.append(sock)
        found[0].listen()
        yield [addresses._adopt(sock.detach(), "") for sock in found]


@pytest.mark.parametrize("only", [False, True])
def test_a_socket_for_both_families_is_at_every_address_of_both(only):
    """Of systemd, which does not set IPV6_V6ONLY if it is not told to."""

    async def main():
        with sockets_of_systemd(only=only) as given:
            async with serving(sockets=given, allow=ALLOW) as server:
                port = server.addresses[0].port
                for url in (f"127.0.0.1:{port}", f"tcp://127.0.0.3:{port}"):
                    async with Resolver([url], configure=False) as looped:
                        if only:
                            server.check_upstreams(looped)
                            continue
                        with pytest.raises(ConfigurationError, match="itself"):
                            server.check_upstreams(looped)
                with client_of("::1" if only else "127.0.0.2", port) as sock:
                    assert (await exchange(sock, query(WWW))).answer

    asyncio.run(main())


@in_loop
async def test_nor_does_a_query_come_from_such_a_socket():
    with sockets_of_systemd(only=False) as given:
        async with serving(sockets=given, allow=ALLOW) as server:
            (listener,) = server._udp
            port = server.addresses[0].port
            asked = query(WWW).to_wire()
            listener.socket.sendto(asked, ("::ffff:127.0.0.1", port))
            with client_of("127.0.0.1", port) as sock:
                await exchange(sock, query("b.example.com"))
            assert server.stats.ignored == 1
            assert server.resolver.store.get(WWW) is None


@pytest.mark.parametrize(("host", "count"), [("::", 2), ("::1", 1)])
def test_one_for_both_families_is_one_for_all_addresses(host, count):
    if not is_here("::1"):
        pytest.skip("no IPv6 here")
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((host, 0))
        address = Address(host, sock.getsockname()[1])
        assert len(Sockets(address, sock, None).reached) == count
