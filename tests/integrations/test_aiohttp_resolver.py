"""aiohttp by a Resolver: TTLs, paths, and expired addresses that do not connect."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import asynccontextmanager

import aiohttp
import pytest
from web import HERE, NOBODY, Names, lookups, run, web_server

import resolverkit
from resolverkit.integrations.aiohttp import Resolver


@pytest.fixture
def names():
    return Names()


@pytest.fixture
def port():
    with web_server() as (port, _):
        yield port


@asynccontextmanager
async def session(names, **options):
    """Give a client, and the Resolver that it looks up names by."""
    async with resolverkit.Resolver(names.upstream, **names.options) as inner:
        resolver = Resolver(inner)
        connector = aiohttp.TCPConnector(
            resolver=resolver, use_dns_cache=False, force_close=True
        )
        async with aiohttp.ClientSession(
            connector=connector, middlewares=[resolver.try_again], **options
        ) as client:
            yield client, resolver


async def get(client, port, host="web.test"):
    async with client.get(f"http://{host}:{port}/") as response:
        return await response.text()


def test_a_request_by_name_with_its_path(names, port):
    told = []

    async def ended(session, context, params):
        told.extend(resolver.paths(params.host))

    trace = aiohttp.TraceConfig()
    trace.on_dns_resolvehost_end.append(ended)

    async def main():
        nonlocal resolver
        async with session(names, trace_configs=[trace]) as (client, resolver):
            assert await get(client, port) == f"web.test:{port}"
            names.now += 50
            await get(client, port)
            assert names.upstream.count == 2  # A and AAAA
            names.expire()
            await get(client, port)
            await asyncio.sleep(0.05)
            assert names.upstream.count == 3  # by its TTL, and not the connector's

    resolver = None
    run(main)
    assert [str(path.source) for path in told] == ["upstream", "cache", "stale"]
    assert resolver.paths("nosuch.test") == ()


def test_an_expired_address_that_does_not_connect_is_asked_for_again(names, port):
    async def main():
        async with session(names) as (client, _):
            names.address = NOBODY
            with pytest.raises(aiohttp.ClientConnectorError):
                await get(client, port)
            names.expire()
            names.address = HERE  # it has moved meanwhile
            assert await get(client, port) == f"web.test:{port}"

    run(main)


def test_an_expired_address_that_is_still_the_one_fails_once(names):
    async def main():
        async with session(names) as (client, _):
            names.address = NOBODY
            for _ in range(2):
                with pytest.raises(aiohttp.ClientConnectorError):
                    await get(client, 1)
                names.expire()
            await asyncio.sleep(0.05)

    with lookups() as asked:
        run(main)
    assert asked == [False, False, True]


def test_a_fresh_address_is_not_asked_for_again(names):
    async def main():
        async with session(names) as (client, _):
            names.address = NOBODY
            with pytest.raises(aiohttp.ClientConnectorError):
                await get(client, 1)
        return names.upstream.count

    assert run(main) == 2


def test_errors_of_the_name_are_aiohttps(names):
    async def main():
        async with session(names) as (client, _):
            with pytest.raises(aiohttp.ClientConnectorDNSError) as caught:
                await get(client, 1, "nosuch.test")
        cause = caught.value.__cause__
        assert isinstance(cause, socket.gaierror)
        assert isinstance(cause.__cause__, resolverkit.NXDOMAIN)

    run(main)


def test_tls_is_for_the_name(names):
    with web_server(["web.test"]) as (port, ca):
        context = ssl.create_default_context()
        ca.configure_trust(context)

        async def main():
            async with session(names) as (client, _):
                url = f"https://web.test:{port}/"
                async with client.get(url, ssl=context) as response:
                    return await response.text()

        assert run(main) == f"web.test:{port}"


def test_both_families_as_the_connector_wants_them(names):
    async def main():
        async with resolverkit.Resolver(names.upstream, **names.options) as inner:
            resolver = Resolver(inner)
            (found,) = await resolver.resolve("web.test", 80, socket.AF_UNSPEC)
            assert found["host"] == HERE
            assert found["hostname"] == "web.test"
            (scoped,) = await resolver.resolve("fe80::1%lo", 80, socket.AF_INET6)
            assert scoped["host"] == f"fe80::1%{socket.if_nametoindex('lo')}"
            await resolver.close()
            await inner.resolve("web.test")  # and the Resolver is open still

    run(main)
