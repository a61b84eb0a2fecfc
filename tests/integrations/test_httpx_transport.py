"""httpx by a Resolver, sync and async: names, TLS, expired addresses."""

from __future__ import annotations

import asyncio
import ssl
import time

import pytest
from web import HERE, NOBODY, Names, lookups, run, web_server

import resolverkit
from resolverkit import blocking
from resolverkit.testing import ScriptedUpstream, answer, nodata, silent

httpx = pytest.importorskip("httpx", reason="extra `httpx`")

from resolverkit.integrations.httpx import (  # noqa: E402
    AsyncBackend,
    AsyncHTTPTransport,
    Backend,
    HTTPTransport,
)


class Sync:
    """A client that blocks."""

    def __init__(self, names, **options):
        self.resolver = blocking.Resolver(names.upstream, **names.options)
        transport = HTTPTransport(self.resolver, **options)
        self.client = httpx.Client(transport=transport, timeout=5)

    def get(self, *urls, after=lambda: None):
        """The text, or the error, for each."""
        results = []
        with self.resolver, self.client:
            for url in urls:
                try:
                    headers = {"Connection": "close"}
                    results.append(self.client.get(url, headers=headers).text)
                except httpx.HTTPError as error:
                    results.append(error)
                after()
        return results


class Async:
    """One that does not."""

    def __init__(self, names, **options):
        self.names, self.options = names, options

    def get(self, *urls, after=lambda: None):
        async def main():
            results = []
            options = self.names.options
            async with resolverkit.Resolver(self.names.upstream, **options) as inner:
                transport = AsyncHTTPTransport(inner, **self.options)
                async with httpx.AsyncClient(transport=transport, timeout=5) as client:
                    for url in urls:
                        try:
                            headers = {"Connection": "close"}
                            got = await client.get(url, headers=headers)
                            results.append(got.text)
                        except httpx.HTTPError as error:
                            results.append(error)
                        after()
                await asyncio.sleep(0.02)
            return results

        return run(main)


BOTH = pytest.mark.parametrize("kind", [Sync, Async])


@pytest.fixture
def names():
    return Names()


@pytest.fixture
def port():
    with web_server() as (port, _):
        yield port


@BOTH
def test_requests_by_name(kind, names, port):
    url = f"http://web.test:{port}/"
    assert kind(names).get(url, url) == [f"web.test:{port}"] * 2
    assert names.upstream.count == 2


@BOTH
def test_tls_is_for_the_name(kind, names):
    with web_server(["web.test"]) as (port, ca):
        context = ssl.create_default_context()
        ca.configure_trust(context)
        url = f"https://web.test:{port}/"
        assert kind(names, verify=context).get(url) == [f"web.test:{port}"]
    assert web_server.indicated == ["web.test"]  # SNI: RFC 6066 section 3
    with web_server(["other.test"]) as (port, ca):
        context = ssl.create_default_context()
        ca.configure_trust(context)
        (error,) = kind(Names(), verify=context).get(f"https://web.test:{port}/")
        assert "Hostname mismatch" in str(error)


@BOTH
def test_an_expired_address_that_does_not_connect_is_asked_for_again(kind, names, port):
    def move():
        names.expire()
        names.address = HERE

    names.address = NOBODY
    url = f"http://web.test:{port}/"
    refused, got = kind(names).get(url, url, after=move)
    assert isinstance(refused, httpx.ConnectError)
    assert got == f"web.test:{port}"


@BOTH
def test_an_expired_address_that_is_still_the_one_fails(kind, names):
    names.address = NOBODY
    url = "http://web.test:1/"
    with lookups() as asked:
        results = kind(names).get(url, url, after=names.expire)
    assert [type(result) for result in results] == [httpx.ConnectError] * 2
    assert asked == [False, False, True]


@BOTH
def test_a_fresh_address_is_not_asked_for_again(kind, names):
    names.address = NOBODY
    url = "http://web.test:1/"
    with lookups() as asked:
        results = kind(names).get(url, url)
    assert [type(result) for result in results] == [httpx.ConnectError] * 2
    assert asked == [False, False]


@BOTH
def test_errors_of_the_name_are_httpxs(kind, names):
    (error,) = kind(names).get("http://nosuch.test/")
    assert isinstance(error, httpx.ConnectError)


@BOTH
def test_numeric_hosts_need_no_resolver(kind, names, port):
    assert kind(names).get(f"http://{HERE}:{port}/") == [f"{HERE}:{port}"]
    assert names.upstream.count == 0


def test_the_backends_serve_httpcore_too(names, port):
    import httpcore

    url = f"http://web.test:{port}/"
    with (
        blocking.Resolver(names.upstream, **names.options) as resolver,
        httpcore.ConnectionPool(network_backend=Backend(resolver)) as pool,
    ):
        assert pool.request("GET", url).status == 200

    async def main():
        options = names.options
        async with resolverkit.Resolver(names.upstream, **options) as inner:
            backend = AsyncBackend(inner)
            async with httpcore.AsyncConnectionPool(network_backend=backend) as pool:
                return (await pool.request("GET", url)).status

    names.upstream = Names().upstream
    assert run(main) == 200


def test_the_timeout_holds_for_looking_up_the_name(names):
    import httpcore

    names.upstream.play(silent())

    async def main():
        async with resolverkit.Resolver(names.upstream, **names.options) as inner:
            with pytest.raises(httpcore.ConnectTimeout, match=r"web\.test"):
                await AsyncBackend(inner).connect_tcp("web.test", 1, timeout=0.1)

    run(main)
    names.upstream = ScriptedUpstream("a", silent())
    with (
        blocking.Resolver(names.upstream, **names.options) as resolver,
        pytest.raises(httpcore.ConnectTimeout, match=r"web\.test"),
    ):
        Backend(resolver).connect_tcp("web.test", 1, timeout=0.1)


def test_the_timeout_holds_for_looking_up_the_name_once_more(names):
    import httpcore

    names.address = NOBODY
    with blocking.Resolver(names.upstream, **names.options) as resolver:
        resolver.lifetime = 60
        resolver.getaddrinfo("web.test", 1)
        names.expire()
        names.upstream.play(answer(NOBODY, after=60))
        with pytest.raises(httpcore.ConnectError, match="refused"):
            Backend(resolver).connect_tcp("web.test", 1, timeout=0.5)
        # The questions still wait for a reply, which they do for 10 s.
        assert names.upstream.cancelled == 0


def test_the_timeout_holds_for_all_addresses(names):
    import httpcore

    class Deaf:
        def connect_tcp(self, host, port, timeout, *_):
            given.append(timeout)
            time.sleep(timeout)
            raise httpcore.ConnectTimeout

    def two(asked, _):
        return answer("192.0.2.1", "192.0.2.2") if asked.rdtype == 1 else nodata()

    names.upstream, given = ScriptedUpstream("a", two), []

    with (
        blocking.Resolver(names.upstream, **names.options) as resolver,
        pytest.raises(httpcore.ConnectTimeout),
    ):
        Backend(resolver, Deaf()).connect_tcp("web.test", 80, timeout=0.1)
    assert sum(given) <= 0.1  # each has its share of what is left
