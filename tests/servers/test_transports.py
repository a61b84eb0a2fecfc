"""Every transport of every real server, alone, hedged and raced."""

from __future__ import annotations

import asyncio

import dns.rdatatype
import pytest
from processes import LOOPBACK
from programs import NAMES

from resolverkit import NXDOMAIN, NoAnswer, NoNameservers, Resolver
from resolverkit.model import Outcome, Source
from resolverkit.transports.url import build, parse
from resolverkit.wire import make_question, text_to_wire

DO53 = ("unbound", "knot", "bind", "recursor", "dnsdist")
DOT = ("unbound", "knot", "bind", "dnsdist")
DOH2 = ("unbound", "knot", "bind", "dnsdist")
SPOKEN = [
    *[(name, over) for over in ("udp", "tcp") for name in DO53],
    *[(name, "tls") for name in DOT],
    *[(name, "https") for name in (*DOH2, "http1")],
]
TRANSPORT = {"udp": "udp", "tcp": "tcp", "tls": "dot", "https": "doh"}
WWW = "www.facebook.com."
FACEBOOK = "157.240.20.35"
each = pytest.mark.parametrize(("name", "over"), SPOKEN)


def alone(url, **options):
    return Resolver([url], False, **options)


def addresses(answer):
    return [rdata.address for rdata in answer]


@each
def test_each_transport_of_each_server(vantages, name, over):
    vantage = vantages[name]

    async def main():
        async with alone(vantage.url(over)) as resolver:
            answer = await resolver.resolve(WWW)
            again = await resolver.resolve(WWW)
        assert addresses(answer) == addresses(again) == [FACEBOOK]
        path = answer.path
        assert path.source is Source.UPSTREAM
        assert path.transport == TRANSPORT[over]
        assert path.operator == name
        assert path.address == LOOPBACK
        assert path.upstream == vantage.url(over).partition("?")[0]
        assert path.attempts == (path.winner,)
        assert (
            path.winner.endpoint.port == vantage.ports["udp" if over == "tcp" else over]
        )
        assert path.winner.outcome is Outcome.DATA
        assert path.winner.dropped == 0
        if path.ttl:  # else the server had counted it down to 0
            assert again.path.source is Source.CACHE
            assert again.path.winner is path.winner

    asyncio.run(main())


@each
def test_an_alias_leads_to_its_target(vantages, name, over):
    async def main():
        async with alone(vantages[name].url(over)) as resolver:
            answer = await resolver.resolve(WWW, "AAAA")
            target = await resolver.canonical_name(WWW)
        assert str(answer.canonical_name) == "star-mini.c10r.facebook.com."
        assert target == answer.canonical_name
        assert addresses(answer) == ["2a03:2880:f100:83:face:b00c:0:25de"]
        assert answer.rrset.ttl <= 2
        kinds = [rrset.rdtype for rrset in answer.response.answer]
        assert kinds == [dns.rdatatype.CNAME, dns.rdatatype.AAAA]

    asyncio.run(main())


@each
def test_denials_are_dnspythons_exceptions_and_tell_their_path(vantages, name, over):
    async def main():
        async with alone(vantages[name].url(over)) as resolver:
            with pytest.raises(NXDOMAIN) as missing:
                await resolver.resolve("missing.names.example.", "A")
            with pytest.raises(NoAnswer) as empty:
                await resolver.resolve("only4.names.example.", "AAAA")
            with pytest.raises(NXDOMAIN) as again:
                await resolver.resolve("missing.names.example.", "TXT")
        for caught, outcome in ((missing, Outcome.NXDOMAIN), (empty, Outcome.NODATA)):
            path = caught.value.path
            assert path.source is Source.UPSTREAM
            assert (path.operator, path.transport) == (name, TRANSPORT[over])
            assert [a.outcome for a in path.attempts] == [outcome]
        # NXDOMAIN holds for every type, as long as its SOA lets it.
        ttl = missing.value.responses()[missing.value.qnames()[0]].authority[0].ttl
        assert again.value.path.source is Source.CACHE or ttl == 0

    asyncio.run(main())


@pytest.mark.parametrize("name", DO53)
def test_what_does_not_fit_in_a_datagram_comes_over_tcp(vantages, name):
    async def main():
        async with alone(vantages[name].udp_url) as resolver:
            answer = await resolver.resolve("big.names.example.", "TXT")
        assert len(answer) == 16
        first, second = answer.path.attempts
        assert (first.transport, first.outcome) == ("udp", Outcome.TRUNCATED)
        assert (second.transport, second.outcome) == ("tcp", Outcome.DATA)
        assert answer.path.winner is second
        assert first.upstream == second.upstream
        assert first.address == second.address == LOOPBACK

    asyncio.run(main())


@pytest.mark.parametrize(
    ("name", "over"), [s for s in SPOKEN if s[1] != "udp" and s[0] != "http1"]
)
def test_what_is_large_comes_in_one_over_a_stream(vantages, name, over):
    async def main():
        async with alone(vantages[name].url(over)) as resolver:
            answer = await resolver.resolve("big.names.example.", "TXT")
        assert len(answer) == 16
        assert [a.outcome for a in answer.path.attempts] == [Outcome.DATA]

    asyncio.run(main())


def test_a_truncated_reply_over_https_is_none_and_the_next_vantage_answers(vantages):
    """The proxy asks Unbound over UDP alone, and hands on what it gets."""
    urls = [vantages["http1"].https_url, vantages["knot"].tls_url]

    async def main():
        async with Resolver(urls, False, strategy="failover") as resolver:
            answer = await resolver.resolve("big.names.example.", "TXT")
        assert len(answer) == 16
        first, second = answer.path.attempts
        assert (first.outcome, first.detail) == (Outcome.BAD_REPLY, "truncated")
        assert second is answer.path.winner

    asyncio.run(main())


@pytest.mark.parametrize("name", [*DOH2, "http1"])
def test_alpn_of_doh(vantages, name):
    async def main():
        doh = build(parse(vantages[name].https_url), timeout=5.0)
        question = make_question(text_to_wire(WWW), 1)
        for _ in range(2):
            reply = await doh.query(question)
            assert reply.winner.outcome is Outcome.DATA
        assert doh.alpn == ("http/1.1" if name == "http1" else "h2")
        await doh.aclose()

    asyncio.run(main())


@each
def test_many_questions_at_once(vantages, name, over):
    expected = {host: f"192.0.2.{i}" for i, host in enumerate(NAMES)}

    async def main():
        async with alone(vantages[name].url(over)) as resolver:
            answers = await asyncio.gather(*map(resolver.resolve, expected))
        found = {str(a.qname): a[0].address for a in answers}
        assert found == expected
        assert {a.path.transport for a in answers} == {TRANSPORT[over]}

    asyncio.run(main())


# --- all together ---------------------------------------------------------------------


def all_urls(vantages):
    return [url for vantage in vantages.values() for url in vantage.urls.values()]


@pytest.mark.parametrize("strategy", ["hedge", "race", "failover"])
def test_all_of_them_together(vantages, strategy):
    urls = all_urls(vantages)
    assert len(urls) == len(SPOKEN)

    async def main():
        async with Resolver(urls, False, strategy=strategy) as resolver:
            hosts = NAMES[:20]
            answers = await asyncio.gather(*map(resolver.resolve, hosts))
            assert [a[0].address for a in answers] == [
                f"192.0.2.{i}" for i in range(20)
            ]
            for answer in answers:
                check_told(answer.path, strategy)

    def check_told(path, strategy):
        assert path.winner in path.attempts
        assert path.winner.outcome is Outcome.DATA
        others = [a.outcome for a in path.attempts if a is not path.winner]
        assert set(others) <= {Outcome.OVERTAKEN}
        if strategy == "race":
            assert len(path.attempts) == len(urls)
            assert {a.transport for a in path.attempts} == set(TRANSPORT.values())
        elif strategy == "failover":
            assert others == []

    asyncio.run(main())


def test_a_hedge_asks_another_operator_next(vantages):
    """The first one is frozen: what is asked next belongs to somebody else."""
    unbound, bind = vantages["unbound"], vantages["bind"]
    urls = [unbound.udp_url, unbound.tls_url, unbound.https_url, bind.https_url]

    async def main():
        async with Resolver(urls, False) as resolver:
            unbound.stop()
            answer = await resolver.resolve(NAMES[3])
        assert answer.path.operator == "bind"
        assert [a.operator for a in answer.path.attempts] == ["unbound", "bind"]

    asyncio.run(main())


# --- strict TLS -----------------------------------------------------------------------


def strangers(lab):
    """URLs over TLS at which no question may be asked, and what is told of each."""
    other = lab.root / "other.pem"
    if not other.exists():
        import trustme

        trustme.CA().cert_pem.write_to_path(str(other))
    for name in DOT:
        vantage = lab.vantages[name]
        for over in ("tls", "https"):
            yield vantage.url(over, ca=other), "certificate verify failed"
        where = f"{vantage.ports['tls']}?ca={lab.ca}&address={LOOPBACK}"
        yield f"tls://dns.example:{where}", "ostname mismatch"
        where = f"{vantage.ports['https']}/dns-query?ca={lab.ca}&address={LOOPBACK}"
        yield f"https://dns.example:{where}", "ostname mismatch"
    http1 = lab.vantages["http1"]
    yield http1.url("https", ca=other), "certificate verify failed"


def test_a_stranger_is_asked_nothing_and_the_next_vantage_answers(lab):
    async def main():
        for url, words in strangers(lab):
            last = lab.vantages["recursor"].udp_url
            async with Resolver([url, last], False, strategy="failover") as resolver:
                answer = await resolver.resolve(NAMES[7])
            assert addresses(answer) == ["192.0.2.7"], url
            assert answer.path.operator == "recursor"
            first, second = answer.path.attempts
            assert first.outcome is Outcome.NETWORK
            assert words in first.detail, url
            assert first.detail in str(answer.path)
            assert second is answer.path.winner

    asyncio.run(main())


def test_with_nobody_else_to_ask_a_stranger_is_an_error_and_never_clear_text(lab):
    async def main():
        for url, words in strangers(lab):
            async with alone(url) as resolver:
                with pytest.raises(NoNameservers) as caught:
                    await resolver.resolve(NAMES[7])
            assert {a.transport for a in caught.value.path.attempts} <= {"dot", "doh"}
            assert words in str(caught.value.path)
            assert words in str(caught.value)

    asyncio.run(main())


@pytest.mark.parametrize("scheme", ["tls", "https"])
def test_clear_text_is_never_tried_where_tls_fails(scheme):
    """A server that speaks no TLS sees a ClientHello and not one octet of a name."""
    seen = bytearray()

    async def serve(reader, writer):
        seen.extend(await reader.read(4096))
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def main():
        server = await asyncio.start_server(serve, LOOPBACK, 0)
        port = server.sockets[0].getsockname()[1]
        async with alone(f"{scheme}://{LOOPBACK}:{port}") as resolver:
            with pytest.raises(NoNameservers, match="TLS"):
                await resolver.resolve("secret.names.example.")
        server.close()
        await server.wait_closed()

    asyncio.run(main())
    assert seen[0] == 0x16  # a TLS handshake record
    assert b"secret" not in seen


def test_connections_are_kept(vantages):
    """Fifty questions one after another: one connection each over TCP, DoT and DoH."""
    vantage = vantages["unbound"]

    async def main():
        for over in ("tcp", "tls", "https"):
            transport = build(parse(vantage.url(over)), timeout=5.0)
            made = set()
            for host in NAMES:
                await transport.query(make_question(text_to_wire(host), 1))
                made |= set(map(id, transport._channels))
            assert len(made) == 1
            await transport.aclose()

    asyncio.run(main())


def test_a_broken_connection_is_made_anew(vantages):
    """The server restarts between two questions; nobody notices but the server."""
    vantage = vantages["bind"]

    async def main():
        for over in ("tcp", "tls", "https"):
            async with alone(vantage.url(over)) as resolver:
                first = await resolver.resolve(NAMES[1])
                await asyncio.to_thread(vantage.restart)
                second = await resolver.resolve(NAMES[2])
            assert first.path.transport == second.path.transport == TRANSPORT[over]
            assert addresses(second) == ["192.0.2.2"]

    asyncio.run(main())


@pytest.mark.parametrize("over", ["udp", "tcp", "tls", "https"])
def test_an_upstream_that_is_known_by_name_is_found_by_the_others(vantages, over):
    """`ns.facebook.com` is at 127.0.0.1, as an authority is in its own zone."""
    bind = vantages["bind"]
    port = bind.ports["udp" if over == "tcp" else over]
    ca = f"?ca={bind.ca}" if over in {"tls", "https"} else ""
    by_name = f"{over}://a.ns.facebook.com:{port}{ca}"

    async def main():
        urls = [by_name, vantages["unbound"].udp_url]
        async with Resolver(urls, False, strategy="failover") as resolver:
            answer = await resolver.resolve(NAMES[4])
        first = answer.path.attempts[0]
        assert first.transport == TRANSPORT[over]
        if ca:  # it was reached, and its certificate is for another name
            assert "ostname mismatch" in first.detail
            assert answer.path.operator == "unbound"
        else:
            assert answer.path.winner is first
            assert answer.path.address == LOOPBACK

    asyncio.run(main())
