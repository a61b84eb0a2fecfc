"""The mini-internet on loopback: what it says, how it fails, and what it leaves."""

import asyncio
import base64
import builtins
import gc
import socket
import ssl
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiohttp
import dns.asyncquery
import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import h2.config
import h2.connection
import h2.events
import pytest

from resolverkit.errors import ConfigurationError
from resolverkit.testing import Authority, Fault, Lab, LabUpstream
from resolverkit.testing.doh_request import read_request
from resolverkit.testing.forwarder import Forwarder

WWW = "www.facebook.com."
DESCRIPTORS = Path("/proc/self/fd")
TEXTS = [f'"{letter * 250}"' for letter in "abcdefgh"]
LIMIT = 20.0  # seconds for what takes some ms
RECORDS = [
    f"{WWW} 3600 IN CNAME star-mini.c10r.facebook.com.",
    "star-mini.c10r.facebook.com. 60 IN A 157.240.20.35",
    *[f"big.facebook.com. 60 IN TXT {text}" for text in TEXTS],
    "short.facebook.com. 1 IN A 192.0.2.1",
    "example.org. 900 IN SOA ns.example.org. mail.example.org. 1 2 3 4 30",
    "www.deep.example.org. 60 IN A 192.0.2.2",
]


@pytest.fixture
def authority():
    return Authority(RECORDS)


def query(name=WWW, rdtype="A", **options):
    return dns.message.make_query(name, rdtype, **options)


async def udp(upstream, message=None, wait=LIMIT):
    return await dns.asyncquery.udp(
        message or query(), "127.0.0.1", port=upstream.port, timeout=wait
    )


async def until(condition):
    async with asyncio.timeout(LIMIT):
        while not condition():  # noqa: ASYNC110  the lab has counters, not events
            await asyncio.sleep(0.01)


async def silent_to(upstream):
    with pytest.raises(dns.exception.Timeout):
        await udp(upstream, wait=0.1)


def trusting(lab, alpn):
    context = ssl.create_default_context(cafile=lab.ca)
    context.set_alpn_protocols([alpn])
    return context


@asynccontextmanager
async def http1(lab):
    """A client's session, with one TLS context: aiohttp keeps connections by it."""
    connector = aiohttp.TCPConnector(ssl=trusting(lab, "http/1.1"))
    headers = {"content-type": "application/dns-message"}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        yield session


def post(upstream, session, **options):
    url = upstream.url.split("?", maxsplit=1)[0]
    return session.post(url, data=query().to_wire(), **options)


class H2Client:
    """As much of an HTTP/2 client as the lab's server needs for a test."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(header_encoding="utf-8")
        )
        self.h2.initiate_connection()
        self.replies = {}
        self.terminated = False

    @classmethod
    @asynccontextmanager
    async def connect(cls, lab, index=0):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1",
            lab.upstreams[index].port,
            ssl=trusting(lab, "h2"),
            server_hostname="localhost",
        )
        try:
            yield cls(reader, writer)
        finally:
            writer.transport.abort()
            await asyncio.sleep(0.01)

    def post(self, message, path="/dns-query"):
        stream = self.h2.get_next_available_stream_id()
        headers = {
            ":method": "POST",
            ":scheme": "https",
            ":authority": "localhost",
            ":path": path,
            "content-type": "application/dns-message",
        }
        self.h2.send_headers(stream, list(headers.items()))
        self.h2.send_data(stream, message.to_wire(), end_stream=True)
        self.replies[stream] = [0, b"", False]
        return stream

    async def read(self, until):
        """Read until `until()` holds or the server closes."""
        self.writer.write(self.h2.data_to_send())
        while not until() and (data := await self.reader.read(65_536)):
            for event in self.h2.receive_data(data):
                self.take(event)
            self.writer.write(self.h2.data_to_send())

    def take(self, event):
        if isinstance(event, h2.events.ResponseReceived):
            self.replies[event.stream_id][0] = int(dict(event.headers)[":status"])
        elif isinstance(event, h2.events.DataReceived):
            self.replies[event.stream_id][1] += event.data
            self.h2.acknowledge_received_data(
                event.flow_controlled_length, event.stream_id
            )
        elif isinstance(event, h2.events.StreamEnded):
            self.replies[event.stream_id][2] = True
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.terminated = True

    async def get(self, *streams):
        """The (status, body) of each stream, once all have ended."""
        await self.read(lambda: all(self.replies[stream][2] for stream in streams))
        return [tuple(self.replies[stream][:2]) for stream in streams]


# --- the authority ----------------------------------------------------------------


def ask(authority, name, rdtype="A"):
    return authority.ask(dns.name.from_text(name), dns.rdatatype.from_text(rdtype))


def test_the_authority_follows_aliases(authority):
    found = ask(authority, WWW)
    assert [str(x.rdtype) for x in found.answer] == ["5", "1"]
    assert found.ttl == 60
    assert authority.queries == 1


@pytest.mark.parametrize(
    ("name", "rcode", "zone", "ttl"),
    [
        ("nothing.facebook.com", dns.rcode.NXDOMAIN, "facebook.com.", 60),
        ("c10r.facebook.com", dns.rcode.NOERROR, "facebook.com.", 60),
        ("short.facebook.com", dns.rcode.NOERROR, "facebook.com.", 60),
        ("deep.example.org", dns.rcode.NOERROR, "example.org.", 30),
        ("x.deep.example.org", dns.rcode.NXDOMAIN, "example.org.", 30),
        ("www.example.net", dns.rcode.NXDOMAIN, ".", 60),
    ],
)
def test_denials_carry_their_zone(authority, name, rcode, zone, ttl):
    found = ask(authority, name, "AAAA")
    assert found.rcode == rcode
    assert not found.answer
    assert [(str(x.name), x.ttl) for x in found.authority] == [(zone, ttl)]
    assert found.ttl == ttl


def test_an_authority_vanishes_and_comes_back(authority):
    authority.vanish()
    assert not authority.present
    assert ask(authority, WWW) is None
    authority.restore()
    assert ask(authority, WWW).answer


def test_records_change(authority):
    authority.change("www.new.example", "A", "192.0.2.9", ttl=5)
    assert ask(authority, "www.new.example").ttl == 5
    assert str(ask(authority, "x.new.example").authority[0].name) == "new.example."
    authority.remove("www.new.example", "A")
    assert ask(authority, "www.new.example").rcode == dns.rcode.NXDOMAIN
    authority.remove(WWW)
    assert ask(authority, WWW).rcode == dns.rcode.NXDOMAIN
    authority.remove("facebook.com")
    assert str(ask(authority, WWW).authority[0].name) == "facebook.com."


def test_other_ways_to_write_records():
    by_name = Authority(
        {"a.example.": "5 A 192.0.2.1", "b.example.": ["5 A 192.0.2.2"]}
    )
    as_text = Authority("a.example. 5 A 192.0.2.1\nb.example. 5 A 192.0.2.2")
    for authority in (by_name, as_text):
        assert ask(authority, "a.example").answer
        assert ask(authority, "b.example").answer
    with pytest.raises(ConfigurationError, match=r"'a\.example\. A 192\.0\.2\.1'"):
        Authority(["a.example. A 192.0.2.1"])


def test_a_loop_of_aliases_is_a_failure():
    looping = Authority(
        ["a.example. 5 CNAME b.example.", "b.example. 5 CNAME a.example."]
    )
    assert ask(looping, "a.example").rcode == dns.rcode.SERVFAIL


# --- the forwarder ----------------------------------------------------------------


def test_ttls_count_down_and_run_out(authority):
    forwarder = Forwarder(authority, "servfail", (22, "gone"), 0)

    def at(now):
        asked = query(use_edns=0)
        (wire,) = forwarder.messages(asked, Fault(), now, datagram=True)
        return dns.message.from_wire(wire)

    assert [x.ttl for x in at(0).answer] == [3600, 60]
    authority.vanish()
    assert [x.ttl for x in at(59.9).answer] == [3541, 1]
    failed = at(60)
    assert failed.rcode() == dns.rcode.SERVFAIL
    assert failed.options[0].code == 22
    authority.restore()
    assert [x.ttl for x in at(61).answer] == [3600, 60]
    forwarder.forget()
    authority.vanish()
    assert at(62).rcode() == dns.rcode.SERVFAIL


# --- over UDP and TCP ---------------------------------------------------------------


def test_udp_and_tcp_on_one_port(authority):
    async def main():
        async with Lab(authority, ["udp", LabUpstream("tcp", operator="A & B")]) as lab:
            one, two = lab.upstreams
            assert one.url == f"udp://127.0.0.1:{one.port}"
            assert two.url == f"tcp://127.0.0.1:{two.port}?operator=A%20%26%20B"
            assert lab.ca is None
            for ask in (dns.asyncquery.udp, dns.asyncquery.tcp):
                reply = await ask(query(), "127.0.0.1", port=one.port, timeout=LIMIT)
                assert reply.answer[1][0].address == "157.240.20.35"
            assert (one.queries, one.by_name, one.connections) == (2, {WWW: 2}, 1)
            assert [entry[1:] for entry in one.log] == [(WWW, "A")] * 2
            assert one.log[0][0] <= asyncio.get_running_loop().time()
            assert authority.queries == 1  # the second came from the cache
            assert str(one.port) in repr(one)

    asyncio.run(main())


def test_replies_echo_the_question_and_have_opt_only_when_asked(authority):
    async def main():
        async with Lab(authority) as lab:
            (upstream,) = lab.upstreams
            asked = query("wWw.FaceBook.com", use_edns=False)
            asked.flags |= dns.flags.CD
            reply = await udp(upstream, asked)
            assert reply.to_wire()[12:34] == asked.to_wire()[12:34]
            assert reply.id == asked.id
            assert reply.edns == -1
            assert reply.flags & dns.flags.RA
            assert reply.flags & dns.flags.CD
            assert (await udp(upstream, query(use_edns=0))).edns == 0

    asyncio.run(main())


def test_what_does_not_fit_is_truncated(authority):
    async def main():
        async with Lab(authority) as lab:
            big = query("big.facebook.com", "TXT", use_edns=0, payload=1232)
            reply = await udp(lab.upstreams[0], big)
            assert reply.flags & dns.flags.TC
            where = {"port": lab.upstreams[0].port, "timeout": LIMIT}
            reply, tcp = await dns.asyncquery.udp_with_fallback(
                big, "127.0.0.1", **where
            )
            assert tcp
            assert len(reply.answer[0]) == len(TEXTS)

    asyncio.run(main())


def test_the_outage_of_2021_10_04(authority):
    async def main():
        upstreams = [
            LabUpstream(ede=22),
            LabUpstream(outage="silent"),
        ]
        async with Lab(authority, upstreams):
            for upstream in upstreams:
                assert (await udp(upstream, query("short.facebook.com"))).answer
            authority.vanish()
            await asyncio.sleep(1.05)
            failed = await udp(upstreams[0], query("short.facebook.com", use_edns=0))
            assert failed.rcode() == dns.rcode.SERVFAIL
            assert isinstance(failed.options[0], dns.edns.EDEOption)
            await silent_to(upstreams[1])
            authority.restore()
            assert (await udp(upstreams[0])).answer
            assert (await udp(upstreams[1])).answer

    asyncio.run(main())


# --- faults -------------------------------------------------------------------------


def test_faults_can_be_set_at_any_time(authority):
    async def main():
        async with Lab(authority) as lab:
            (upstream,) = lab.upstreams
            upstream.fault = Fault(silent=True)
            await silent_to(upstream)
            upstream.fault = Fault(rcode=5, ede=18)
            refused = await udp(upstream, query(use_edns=0))
            assert (refused.rcode(), refused.options[0].code) == (5, 18)
            upstream.fault = Fault(lame=True)
            lame = await udp(upstream)
            assert (lame.rcode(), lame.answer, lame.authority) == (0, [], [])
            upstream.fault = Fault(no_edns=True)
            assert (await udp(upstream, query(use_edns=0))).rcode() == dns.rcode.FORMERR
            assert (await udp(upstream, query(use_edns=False))).answer
            upstream.fault = Fault(truncated=True)
            reply = await udp(upstream)
            assert reply.flags & dns.flags.TC
            assert not reply.answer
            where = {"port": upstream.port, "timeout": LIMIT}
            assert (await dns.asyncquery.tcp(query(), "127.0.0.1", **where)).answer
            upstream.fault = Fault()
            assert (await udp(upstream)).answer
            assert upstream.queries == 8  # lost ones included

    asyncio.run(main())


def test_delay(authority):
    async def main():
        loop = asyncio.get_running_loop()
        async with Lab(authority) as lab:
            lab.upstreams[0].fault = Fault(delay=0.1)
            began = loop.time()
            await asyncio.gather(*[udp(lab.upstreams[0]) for _ in range(5)])
            assert loop.time() - began >= 0.1
            asyncio.create_task(udp(lab.upstreams[0])).cancel()

    asyncio.run(main())


def test_loss_is_the_same_each_time(authority):
    def losses(seed):
        forwarder = Forwarder(authority, "servfail", None, seed)
        fault = Fault(loss=0.5)
        return [
            not list(forwarder.messages(query(), fault, 0, datagram=True))
            for _ in range(100)
        ]

    assert losses(1) == losses(1) != losses(2)
    assert 30 < sum(losses(1)) < 70


def test_forgeries_come_first(authority):
    async def main():
        loop = asyncio.get_running_loop()
        async with Lab(authority) as lab:
            lab.upstreams[0].fault = Fault(garbage=True, wrong_id=True)
            asked = query()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, ("127.0.0.1", lab.upstreams[0].port))
                await loop.sock_sendall(sock, asked.to_wire())
                got = [await loop.sock_recv(sock, 4096) for _ in range(3)]
            assert len(got[0]) == 64
            assert got[1][:2] != asked.to_wire()[:2]
            assert asked.is_response(dns.message.from_wire(got[2]))

    asyncio.run(main())


@pytest.mark.parametrize("transport", ["tcp", "dot"])
def test_connections_are_closed_after_so_many_replies(authority, transport):
    async def main():
        async with Lab(authority, [transport]) as lab:
            (upstream,) = lab.upstreams
            upstream.fault = Fault(close_after=2)
            options = {}
            if transport == "dot":
                options = {"ssl": trusting(lab, "dot"), "server_hostname": "localhost"}
            for expected in (2, 0):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", upstream.port, **options
                )
                wire = query().to_wire()
                framed = len(wire).to_bytes(2, "big") + wire
                writer.write(framed[:5])
                await asyncio.sleep(0.01)
                writer.write(framed[5:] + framed + framed)
                replies = await reader.read()
                size = 2 + int.from_bytes(replies[:2], "big")
                assert len(replies) == expected * size or not replies
                assert len(replies) > 0 or not expected
                upstream.fault = Fault(close_after=0)
                writer.transport.abort()
            assert upstream.connections == 2

    asyncio.run(main())


def test_a_stopped_upstream_refuses_and_comes_back_on_its_port(authority):
    async def main():
        async with Lab(authority, ["tcp"]) as lab:
            (upstream,) = lab.upstreams
            where = {"port": upstream.port, "timeout": LIMIT}
            await dns.asyncquery.tcp(query(), "127.0.0.1", **where)
            await upstream.stop()
            with pytest.raises(OSError, match=r"[Cc]onnect"):
                await dns.asyncquery.tcp(query(), "127.0.0.1", **where)
            await upstream.start()
            assert (await dns.asyncquery.tcp(query(), "127.0.0.1", **where)).answer
            assert authority.queries == 2  # its cache was empty

    asyncio.run(main())


def test_noise_gets_no_reply(authority):
    async def main():
        async with Lab(authority) as lab:
            (upstream,) = lab.upstreams
            sent = []
            upstream.receive(b"noise", sent.append)
            upstream.receive(bytes(12), sent.append)
            update = dns.message.make_query(WWW, "A")
            update.set_opcode(5)
            upstream.receive(update.to_wire(), sent.append)
            response = dns.message.make_response(query())
            upstream.receive(response.to_wire(), sent.append)
            assert sent == []

    asyncio.run(main())


NOERROR, FORMERR, NOTIMP, BADVERS = map(
    dns.rcode.from_text, ("NOERROR", "FORMERR", "NOTIMP", "BADVERS")
)


def with_opcode(code):
    made = query()
    made.set_opcode(code)
    return made


def with_two_questions():
    made = query()
    made.question *= 2
    return made


def with_flag_z():
    made = query()
    made.flags |= 0x40
    return made


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (query(rdtype="TYPE65400"), NOERROR),
        *[(with_opcode(code), NOTIMP) for code in (1, 2, 4, 6, 15)],
        (query(use_edns=0, options=[dns.edns.GenericOption(65_001, b"x")]), NOERROR),
        (query(use_edns=0, ednsflags=0x4000), NOERROR),
        (query(use_edns=1), BADVERS),
        (with_flag_z(), NOERROR),
        (with_two_questions(), FORMERR),
    ],
    ids=[
        "unknown type", *[f"opcode {code}" for code in (1, 2, 4, 6, 15)],
        "unknown option", "unknown EDNS flag", "EDNS version 1", "flag Z",
        "two questions",
    ],
)  # fmt: skip
def test_what_is_unknown_is_answered_and_not_dropped(authority, message, code):
    """RFC 8906 section 3, and for two questions RFC 9619 section 4: FORMERR."""

    async def main():
        async with Lab(authority) as lab:
            sent = []
            lab.upstreams[0].receive(message.to_wire(), sent.append, datagram=True)
            (reply,) = map(dns.message.from_wire, sent)
            assert reply.rcode() == code
            assert (reply.id, reply.opcode()) == (message.id, message.opcode())
            assert reply.question == message.question[:1]
            assert not reply.flags & 0x40
            assert reply.edns == (0 if message.edns >= 0 else -1)
            assert not reply.options
            assert bool(reply.answer) is (code == NOERROR)

    asyncio.run(main())


# --- over TLS -----------------------------------------------------------------------


def test_dot(authority):
    async def main():
        async with Lab(authority, [LabUpstream("dot", operator="Beta")]) as lab:
            (upstream,) = lab.upstreams
            url = urlsplit(upstream.url)
            assert (url.scheme, url.port) == ("tls", upstream.port)
            assert parse_qs(url.query) == {"ca": [str(lab.ca)], "operator": ["Beta"]}
            for name in ("localhost", "127.0.0.1"):
                reply = await dns.asyncquery.tls(
                    query(),
                    "127.0.0.1",
                    port=upstream.port,
                    timeout=LIMIT,
                    ssl_context=trusting(lab, "dot"),
                    server_hostname=name,
                )
                assert reply.answer
            assert upstream.connections == 2

    asyncio.run(main())


def test_a_client_that_distrusts_the_certificate_harms_nobody(authority):
    async def main():
        async with Lab(authority, ["dot"]) as lab:
            with pytest.raises(ssl.SSLCertVerificationError):
                await asyncio.open_connection(
                    "127.0.0.1",
                    lab.upstreams[0].port,
                    ssl=ssl.create_default_context(),
                    server_hostname="localhost",
                )
            assert lab.upstreams[0].connections == 0

    asyncio.run(main())


def test_tls_needs_trustme(authority, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "trustme":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    async def main():
        monkeypatch.setattr(builtins, "__import__", without)
        async with Lab(authority, ["udp", "doh"]):
            pass

    with pytest.raises(ConfigurationError, match=r"resolverkit\[testing\]"):
        asyncio.run(main())


# --- over HTTPS ---------------------------------------------------------------------


def test_doh_over_http2_is_multiplexed(authority):
    async def main():
        async with Lab(authority, ["doh"]) as lab:
            assert lab.urls[0].startswith("https://localhost:")
            assert parse_qs(urlsplit(lab.urls[0]).query)["address"] == ["127.0.0.1"]
            async with H2Client.connect(lab) as client:
                tls = client.writer.get_extra_info("ssl_object")
                assert tls.selected_alpn_protocol() == "h2"
                lost = client.post(query(), path="/other")
                streams = [client.post(query()) for _ in range(100)]
                for status, body in await client.get(*streams):
                    assert status == 200
                    assert dns.message.from_wire(body).answer
                assert await client.get(lost) == [(404, b"")]
            assert (lab.upstreams[0].queries, lab.upstreams[0].connections) == (100, 1)

    asyncio.run(main())


def test_doh_over_http2_minds_the_windows(authority):
    async def main():
        big = query("big.facebook.com", "TXT")
        async with Lab(authority, ["doh"]) as lab, H2Client.connect(lab) as client:
            streams = [client.post(big) for _ in range(90)]
            replies = await client.get(*streams)
            assert sum(len(body) for _, body in replies) > 2 * 65_535
            assert all(dns.message.from_wire(body).answer for _, body in replies)

    asyncio.run(main())


def test_doh_over_http2_faults(authority):
    async def main():
        async with Lab(authority, ["doh"]) as lab:
            (upstream,) = lab.upstreams
            async with H2Client.connect(lab) as client:
                upstream.fault = Fault(status=503, headers={"age": "3"})
                ((status, _),) = await client.get(client.post(query()))
                assert status == 503
                upstream.fault = Fault(refuse_post=True)
                assert await client.get(client.post(query())) == [(400, b"")]
                upstream.fault = Fault(garbage=True)
                ((status, body),) = await client.get(client.post(query()))
                assert (status, len(body)) == (200, 64)
                upstream.fault = Fault(delay=0.05)
                reset, kept = client.post(query()), client.post(query())
                client.h2.reset_stream(reset)
                ((status, _),) = await client.get(kept)
                assert status == 200
                upstream.fault = Fault(close_after=0)
                client.post(query())
                await client.read(lambda: False)
                assert client.terminated

    asyncio.run(main())


def test_a_request_that_is_taken_back_at_once_harms_no_other(authority):
    async def main():
        async with Lab(authority, ["doh"]) as lab, H2Client.connect(lab) as client:
            client.h2.reset_stream(client.post(query()))
            ((status, _),) = await client.get(client.post(query()))
            assert status == 200

    asyncio.run(main())


@pytest.mark.parametrize("last", [b"PRI * HTTP/2.0\r\n", b"\0" * 40])
def test_what_is_no_http2_is_hung_up_on(authority, last):
    async def main():
        async with Lab(authority, ["doh"]) as lab, H2Client.connect(lab) as client:
            client.writer.write(b"GET / HTTP/1.1\r\n\r\n" + last)
            await client.reader.read()  # the server's settings, then the end

    asyncio.run(main())


def test_doh_over_http1(authority):
    async def main():
        upstream = LabUpstream("doh", http="http/1.1")
        async with Lab(authority, [upstream]) as lab, http1(lab) as session:
            for _ in range(3):
                async with post(upstream, session) as response:
                    assert response.version == aiohttp.HttpVersion11
                    assert response.content_type == "application/dns-message"
                    assert dns.message.from_wire(await response.read()).answer
            text = base64.urlsafe_b64encode(query().to_wire()).decode().rstrip("=")
            url = upstream.url.split("?", maxsplit=1)[0]
            async with session.get(f"{url}?dns={text}") as response:
                assert dns.message.from_wire(await response.read()).answer
            upstream.fault = Fault(status=302, headers={"location": "/"})
            async with post(upstream, session, allow_redirects=False) as response:
                assert response.status == 302
            upstream.fault = Fault(refuse_post=True)
            async with post(upstream, session) as response:
                assert response.status == 400
            assert upstream.connections == 1

    asyncio.run(main())


def test_http1_connections_are_closed_too(authority):
    async def main():
        upstream = LabUpstream("doh", http="http/1.1")
        async with Lab(authority, [upstream]) as lab, http1(lab) as session:
            upstream.fault = Fault(close_after=2, garbage=True)
            for _ in range(4):
                async with post(upstream, session) as response:
                    assert len(await response.read()) == 64
            assert upstream.connections == 2
            upstream.fault = Fault(close_after=0)
            with pytest.raises(aiohttp.ClientError):
                await post(upstream, session)

    asyncio.run(main())


def test_alpn_chooses_where_both_are_offered(authority):
    async def main():
        upstream = LabUpstream("doh", http="both")
        async with Lab(authority, [upstream]) as lab:
            async with H2Client.connect(lab) as client:
                ((status, _),) = await client.get(client.post(query()))
                assert status == 200
            async with http1(lab) as session, post(upstream, session) as response:
                assert response.version == aiohttp.HttpVersion11
                assert response.status == 200

    asyncio.run(main())


@pytest.mark.parametrize(
    ("method", "target", "content_type", "expected"),
    [
        ("POST", "/dns-query", "application/dns-message", b"body"),
        ("POST", "/dns-query", "text/plain", 415),
        ("POST", "/", "application/dns-message", 404),
        ("PUT", "/dns-query", "application/dns-message", 405),
        ("GET", "/dns-query?dns=Ym9keQ", "", b"body"),
        ("GET", "/dns-query?dns=%21", "", 400),
        ("GET", "/dns-query", "", 400),
    ],
)
def test_requests(method, target, content_type, expected):
    found = read_request(method, target, content_type, b"body", refuse_post=False)
    assert found == expected


# --- what is left -------------------------------------------------------------------


def test_bad_options_are_named():
    for options in ({"transport": "doq"}, {"outage": "x"}, {"http": "h3"}):
        with pytest.raises(ConfigurationError, match="is none of"):
            LabUpstream(**options)
    with pytest.raises(RuntimeError):
        asyncio.run(LabUpstream().start())


@pytest.mark.parametrize(
    "fault",
    [
        {"rcode": "SERVFAIL"},
        {"rcode": 4096},
        {"delay": -1},
        {"delay": "1"},
        {"loss": 2},
        {"names": "www.example.com"},
    ],
)
def test_a_fault_that_cannot_be_played_is_told_where_it_is_written(fault):
    ((name, _),) = fault.items()
    with pytest.raises(ConfigurationError, match=f"^{name}=.*: allowed"):
        Fault(**fault)


@pytest.mark.parametrize(
    "line",
    [
        "www.example.com. 60 IN A 300.1.1.1",
        "www.example.com. 60 IN FOO x",
        "a..b. 60 IN A 192.0.2.1",
    ],
)
def test_a_record_that_is_none_is_named(line):
    with pytest.raises(ConfigurationError, match=f"^record '{line}': "):
        Authority([line])


def test_records_in_place_of_an_authority_are_told():
    for records in (["www.example.com. 60 IN A 192.0.2.1"], {}):
        with pytest.raises(ConfigurationError, match="allowed is an Authority"):
            Lab(records)


@pytest.mark.parametrize("name", ["www.facebook.com", "WWW.facebook.com."])
def test_a_fault_for_some_names_knows_them_however_they_are_written(authority, name):
    async def main():
        async with Lab(authority) as lab:
            (upstream,) = lab.upstreams
            upstream.fault = Fault(rcode=5, names=[name])
            assert (await udp(upstream)).rcode() == dns.rcode.REFUSED

    asyncio.run(main())


def open_sockets():
    found = set()
    for entry in DESCRIPTORS.iterdir():
        with suppress(FileNotFoundError):  # the descriptor that reads the directory
            found.add(str(entry.readlink()))
    return {target for target in found if "socket" in target}


async def in_the_middle_of_something(upstreams, lab, ready):
    """Clients of every kind, none of which ever gets a reply."""
    for upstream in upstreams:
        upstream.fault = Fault(delay=60)
    idle = [
        await asyncio.open_connection("127.0.0.1", upstream.port)
        for upstream in upstreams  # TCP, and TLS handshakes that never begin
    ]
    try:
        async with H2Client.connect(lab, 2) as client, http1(lab) as session:
            client.post(query())
            waiting = asyncio.create_task(client.read(lambda: False))
            hanging = asyncio.create_task(post(upstreams[3], session)._coro)
            await until(lambda: upstreams[2].queries and upstreams[3].queries)
            ready.set()
            await asyncio.wait([waiting, hanging])
            hanging.exception()
    finally:
        for _, writer in idle:
            writer.transport.abort()


@pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="needs /proc")
@pytest.mark.parametrize("times", [0, 1, 2])
def test_nothing_is_left(authority, times):
    """Not even with clients in the middle of something, nor after Ctrl-C, or two."""
    upstreams = [
        LabUpstream("udp"),
        LabUpstream("dot"),
        LabUpstream("doh"),
        LabUpstream("doh", http="http/1.1"),
    ]
    found = {}

    async def inside(ready):
        async with Lab(authority, upstreams) as lab:
            found["ca"] = lab.ca
            assert lab.ca.exists()
            clients = asyncio.create_task(
                in_the_middle_of_something(upstreams, lab, ready)
            )
            found["clients"] = clients
            await ready.wait()
            if times:
                await asyncio.sleep(60)

    async def main():
        ready = asyncio.Event()
        task = asyncio.create_task(inside(ready))
        await ready.wait()
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0)  # it is being closed
        await asyncio.wait([task])
        assert task.cancelled() is bool(times)
        if times > 1:  # nobody has waited for what was broken off
            await until(lambda: not of_servers())
        assert not of_servers()
        await found["clients"]  # which the end of the lab has ended
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert not found["ca"].parent.exists()

    def of_servers():
        servers = ("resolverkit/", "aiohttp/web_")  # all others are the clients'
        left = [repr(each) for each in asyncio.all_tasks()]
        return [each for each in left if any(part in each for part in servers)]

    gc.collect()
    before = open_sockets()
    asyncio.run(main())
    gc.collect()
    assert open_sockets() <= before


def test_what_is_heavy_is_loaded_on_first_use():
    code = "import sys, resolverkit.testing; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "resolverkit.testing.lab" in loaded
    assert not {"aiohttp", "h2", "trustme", "cryptography"} & set(loaded)


@pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="needs /proc")
def test_connections_that_are_being_closed_are_broken_off_too(authority):
    """A client that does not read never confirms the end of TLS."""

    def ask(lab):
        sock = socket.create_connection(("127.0.0.1", lab.upstreams[0].port))
        secure = trusting(lab, "dot").wrap_socket(sock, server_hostname="localhost")
        wire = query().to_wire()
        secure.sendall(len(wire).to_bytes(2, "big") + wire)
        return secure

    async def main():
        async with Lab(authority, ["dot"]) as lab:
            lab.upstreams[0].fault = Fault(close_after=1)
            with await asyncio.to_thread(ask, lab) as client:
                await until(lambda: lab.upstreams[0].queries)
                assert len(open_sockets() - before) == 5
                await lab.aclose()
                # The client, and the pair by which the loop is woken.
                assert len(open_sockets() - before) == 3
                assert client.fileno() >= 0

    before = open_sockets()
    asyncio.run(main())


def test_a_lab_that_cannot_start_leaves_nothing(authority):
    async def main():
        blocked, other = LabUpstream("dot"), LabUpstream("udp")
        blocked._make_server = lambda _: 1 / 0
        lab = Lab(authority, [other, blocked])
        with pytest.raises(ZeroDivisionError):
            await lab.__aenter__()
        assert lab.ca is None
        with pytest.raises(OSError, match=r"[Cc]onnect"):
            await asyncio.open_connection("127.0.0.1", other.port)

    asyncio.run(main())
