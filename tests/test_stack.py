"""Upstreams that are given by name: their address comes from the others."""

import asyncio

import pytest

from resolverkit import ConfigurationError, NoNameservers, Resolver
from resolverkit.testing import Authority, Lab, LabUpstream

RECORDS = [
    "www.example.com. 60 IN A 192.0.2.1",
    "dns.example.net. 60 IN A 127.0.0.1",
]


def run(main):
    async def bounded():
        async with asyncio.timeout(20):
            return await main()

    return asyncio.run(bounded())


def test_an_upstream_by_name_is_found_through_the_others():
    async def main():
        authority = Authority(RECORDS)
        one, two = LabUpstream("udp"), LabUpstream("udp")
        async with Lab(authority, [one, two]):
            by_name = f"udp://dns.example.net:{two.port}"
            async with Resolver([one.url, by_name], False, strategy="race") as r:
                await r.resolve("www.example.com")
                await asyncio.sleep(0.2)  # the loser goes on to find its address
                await r.resolve("www.example.com", refresh=True)
                assert one.by_name["dns.example.net."] == 1
                assert two.by_name["dns.example.net."] == 0  # never through itself
                await one.stop()
                answer = await r.resolve("www.example.com", refresh=True)
                return answer.path, by_name

    path, by_name = run(main)
    assert (path.upstream, path.address) == (by_name, "127.0.0.1")


def test_where_its_address_cannot_be_found_the_others_answer():
    async def main():
        async with Lab(Authority(RECORDS), ["udp"]) as lab:
            upstreams = ["udp://nowhere.example.net", lab.urls[0]]
            async with Resolver(upstreams, False, strategy="failover") as r:
                answer = await r.resolve("www.example.com")
                return [str(attempt) for attempt in answer.path.attempts]

    first, second = run(main)
    assert "the address of nowhere.example.net is not known" in first
    assert "data" in second


def test_its_last_good_address_outlives_those_who_knew_it():
    """A connection that broke in the outage is made again without them."""

    async def main():
        authority = Authority(["localhost. 60 IN A 127.0.0.1", *RECORDS])
        one, two = LabUpstream("udp"), LabUpstream("dot")
        async with Lab(authority, [one, two]) as lab:
            by_name = f"tls://localhost:{two.port}?ca={lab.ca}"
            async with Resolver([one.url, by_name], False, strategy="race") as r:
                await r.resolve("www.example.com")
                await one.stop()
                await r.resolve("www.example.com", refresh=True)
                await two.stop()
                with pytest.raises(NoNameservers):
                    await r.resolve("nothing.example.org")
                await two.start()
                await asyncio.sleep(0.5)  # longer than the pause before connecting
                answer = await r.resolve("www.example.com", refresh=True)
                return answer.path, two.connections

    path, connections = run(main)
    assert path.transport == "dot"
    assert connections >= 2


@pytest.mark.parametrize("how", ["tcp://", "tcp=True", "tcp=True, with udp://"])
def test_tcp_is_used_without_trying_udp_first(how):
    """RFC 9210 section 4: a stub can do without UDP."""

    async def main():
        async with Lab(Authority(RECORDS), ["udp" if "udp" in how else "tcp"]) as lab:
            (upstream,) = lab.upstreams
            datagrams, receive = [], upstream.receive

            def note(data, send, *, datagram=False):
                datagrams.append(datagram)
                receive(data, send, datagram=datagram)

            upstream.receive = note
            async with Resolver(lab.urls, False) as r:
                await r.resolve("www.example.com", tcp="tcp=" in how)
            return datagrams, upstream.connections

    assert run(main) == ([False], 1)


def test_alone_it_is_refused_at_once():
    with pytest.raises(ConfigurationError, match=r"add \?address=IP"):
        Resolver(["https://dns.example.net/dns-query"], False)
