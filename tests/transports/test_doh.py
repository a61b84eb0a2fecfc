"""What HTTP responses mean for DNS, over HTTP/2 and over HTTP/1.1."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import struct
from typing import Any

import pytest
from aiohttp import web
from loopback import (
    LIMIT,
    PATIENCE,
    Peer,
    Server,
    answer,
    ask,
    authority,
    ca_file,
    certificate,
    h2_server,
    run,
    server_tls,
    skip,
    until,
)
from test_dot import pin_of

from resolverkit import wire
from resolverkit.errors import (
    BadReply,
    ConfigurationError,
    NetworkError,
    QueryTimeout,
    ServerFailure,
)
from resolverkit.model import Endpoint
from resolverkit.transports.doh import Doh
from resolverkit.transports.http2 import Http2
from resolverkit.transports.tls import TlsOptions
from resolverkit.upstream import Upstream

DNS = {"content-type": "application/dns-message"}


class Web:
    """A web server that speaks one version of HTTP and keeps what it was asked."""

    def __init__(self, version: str, respond, tls=None) -> None:
        self.version = version
        self.respond = respond
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.peers: set[Any] = set()
        self.tls = tls

    async def __aenter__(self) -> Web:
        self._stack = contextlib.AsyncExitStack()
        if self.version == "h2":
            server = await self._stack.enter_async_context(h2_server(self._h2))
            self.port = server.port
            return self
        runner = web.ServerRunner(web.Server(self._h1), shutdown_timeout=0.1)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        tls = self.tls or server_tls("http/1.1")
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _h2(self, peer, n) -> None:
        self.peers.add(n)
        while True:
            stream, header, body = await peer.request()
            method, path = header[":method"], header[":path"]
            self.requests.append((method, path, header, body))
            status, fields, data = self.respond(method, path, body)
            fields = {
                "content_type": "",
                **{k.replace("-", "_"): v for k, v in fields.items()},
            }
            if len(data) > 16_384:
                fields = {k.replace("_", "-"): v for k, v in fields.items() if v}
                peer.open.pop(stream)
                peer.h2.send_headers(
                    stream, [(":status", str(status)), *fields.items()]
                )
                for i in range(0, len(data), 16_384):
                    if peer.h2.local_flow_control_window(stream) < 16_384:
                        break
                    part = data[i : i + 16_384]
                    last = i + len(part) == len(data)
                    peer.h2.send_data(stream, part, end_stream=last)
                peer.flush()
            else:
                peer.respond(stream, data, status, **fields)

    async def _h1(self, request) -> web.StreamResponse:
        self.peers.add(request.transport.get_extra_info("peername"))
        body = await request.read()
        path = request.raw_path
        self.requests.append((request.method, path, dict(request.headers), body))
        status, fields, data = self.respond(request.method, path, body)
        response = web.Response(status=status, headers=fields, body=data or None)
        if not fields.get("content-type"):
            response.headers.pop("content-type", None)
        return response


@pytest.fixture(params=["h2", "http/1.1"])
def version(request) -> str:
    return request.param


@pytest.fixture
def doh(tmp_path):
    tls = TlsOptions("dns.example", ca_file(tmp_path))

    def make(server, *, path="/dns-query", tls=tls, timeout=PATIENCE, **options) -> Doh:
        url = f"https://dns.example:{server.port}{path}"
        endpoint = Endpoint(url, "doh", address="127.0.0.1", port=server.port)
        return Doh(endpoint, tls=tls, timeout=timeout, **options)

    return make


def good(method, path, body):
    return 200, DNS, answer(body)


def always(status=200, fields=DNS, data=None):
    def respond(method, path, body):
        return status, fields, answer(body) if data is None else data

    return respond


async def failure(upstream: Doh, error=NetworkError) -> str:
    with pytest.raises(error) as caught:
        await upstream.query(ask())
    assert len(caught.value.attempts) == 1
    return str(caught.value)


def test_alpn_chooses_the_version_and_it_is_remembered(doh, version):
    async def main():
        async with Web(version, good) as server:
            upstream = doh(server)
            assert isinstance(upstream, Upstream)
            assert upstream.alpn is None
            for _ in range(3):
                reply = await upstream.query(ask())
            assert upstream.alpn == version
            assert reply.attempts[0].transport == "doh"
            assert len(server.peers) == 1
            assert upstream.heard > 0
            await upstream.aclose()
        fields = {k.lower() for _, _, header, _ in server.requests for k in header}
        assert not fields & {"user-agent", "cookie", "accept-encoding"}
        for method, path, header, body in server.requests:
            lower = {k.lower(): v for k, v in header.items()}
            assert (method, path) == ("POST", "/dns-query")
            assert lower["accept"] == lower["content-type"] == DNS["content-type"]
            where = lower.get("host") or lower[":authority"]
            assert where == f"dns.example:{server.port}"
            assert len(body) == 128
            assert body[:2] == b"\0\0"

    run(main)


@pytest.mark.parametrize("by_get", [False, True], ids=["POST", "GET"])
def test_a_request_has_id_0_and_accepts_dns_messages(doh, version, by_get):
    """RFC 8484 section 4.1."""

    def respond(method, path, body):
        if method == "GET":
            text = path.partition("dns=")[2]
            body = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        elif by_get:
            return 405, {}, b""
        queries.append(body)
        return 200, DNS, answer(body)

    async def main():
        async with Web(version, respond) as server:
            upstream = doh(server)
            await asyncio.gather(*(upstream.query(ask()) for _ in range(3)))
            await upstream.aclose()
            for method, _, header, body in server.requests:
                lower = {k.lower(): v for k, v in header.items()}
                assert lower["accept"] == "application/dns-message"
                if method == "POST":
                    assert lower["content-type"] == "application/dns-message"
                    assert body[12:29] == ask().wire[12:29]  # as it is, not in base64
                else:
                    assert "content-type" not in lower
                    assert not body
        assert len(queries) == 3
        assert {query[:2] for query in queries} == {b"\0\0"}
        assert by_get is ("GET" in {request[0] for request in server.requests})

    queries = []
    run(main)


@pytest.mark.parametrize("name", ["a.example", "\\255\\254.\\251\\239\\190.example"])
def test_get_carries_the_query_in_base64url_without_padding(doh, version, name):
    """RFC 8484 sections 4.1 and 6: "-" and "_" for "+" and "/", and no "="."""
    seen = []

    def respond(method, path, body):
        if method == "POST":
            return 405, {}, b""
        seen.append(path.partition("?dns=")[2])
        return 200, DNS, answer(base64.urlsafe_b64decode(seen[-1] + "=="))

    async def main():
        async with Web(version, respond) as server:
            upstream = doh(server)
            await upstream.query(ask(name))
            await upstream.aclose()
        (text,) = seen
        expected = base64.b64encode(wire.padded(ask(name))).decode()
        assert expected.endswith("=")
        assert text == expected.rstrip("=").replace("+", "-").replace("/", "_")
        assert ("_" in text) is (name != "a.example")

    run(main)


@pytest.mark.parametrize("rcode", [0, 2, 3, 5])
def test_any_response_code_of_dns_comes_with_status_200(doh, version, rcode):
    """RFC 8484 section 4.2.1: HTTP says nothing of what DNS says."""

    def respond(method, path, body):
        reply = answer(body, flags=0x8180 | rcode)
        if rcode:  # without the record
            reply = reply[:6] + b"\0\0" + reply[8:-16]
        return 200, DNS, reply

    async def main():
        async with Web(version, respond) as server:
            upstream = doh(server)
            if rcode in (2, 5):
                with pytest.raises(ServerFailure) as caught:
                    await upstream.query(ask())
                assert caught.value.rcode == rcode
            else:
                assert (await upstream.query(ask())).rcode == rcode
            await upstream.aclose()

    run(main)


def test_a_message_of_65535_octets_is_read(doh, version):
    """RFC 8484 section 6: whatever payload size the query's EDNS says."""

    def respond(method, path, body):
        reply = bytearray(answer(body))
        reply[10:12] = b"\0\1"
        room = 65_535 - len(reply) - 11 - 4
        padding = struct.pack("!HH", 12, room) + bytes(room)
        reply += struct.pack("!BHHIH", 0, 41, 1232, 0, len(padding)) + padding
        assert len(reply) == 65_535
        return 200, DNS, bytes(reply)

    async def main():
        async with Web(version, respond) as server:
            upstream = doh(server)
            assert len((await upstream.query(ask())).wire) == 65_535
            await upstream.aclose()

    run(main)


def test_http_2_is_offered_first(doh):
    """RFC 8484 section 5.2: it is the least that is recommended."""
    hello = []

    async def note(reader, writer, n):
        hello.append(await reader.read(4096))

    async def main():
        async with Server(note) as server:
            upstream = doh(server)
            await failure(upstream)
            await upstream.aclose()
        assert b"\2h2\10http/1.1" in hello[0]

    run(main)


def test_a_server_without_alpn_gets_http_1_1(doh):
    async def main():
        async with Web("http/1.1", good, server_tls()) as server:
            upstream = doh(server)
            assert (await upstream.query(ask())).ttl == 300
            assert upstream.alpn is None
            await upstream.aclose()

    run(main)


def test_many_at_once(doh, version):
    async def main():
        async with Web(version, good) as server:
            upstream = doh(server)
            questions = [ask(f"host{i}.example") for i in range(100)]
            replies = await asyncio.gather(*map(upstream.query, questions))
            assert [r.final for r in replies] == [q.wire_name for q in questions]
            assert len(server.peers) <= 16
            await upstream.aclose()

    run(main)


@pytest.mark.parametrize(
    ("status", "fields", "text"),
    [
        (503, DNS, "HTTP status 503"),
        (401, DNS, "HTTP status 401"),
        (429, {}, "HTTP status 429"),
        (406, DNS, "HTTP status 406"),
        (302, {"location": "/elsewhere", **DNS}, "HTTP status 302"),
        (200, {"content-type": "text/html"}, "content type text/html"),
        (
            200,
            {"content-type": "application/dns-json"},
            "content type application/dns-",
        ),
    ],
)
def test_only_2xx_with_the_media_type_is_a_reply(doh, version, status, fields, text):
    """RFC 8484 section 4.2.1; the bodies here are good replies, but for the header."""

    async def main():
        async with Web(version, always(status, fields)) as server:
            upstream = doh(server)
            assert (await failure(upstream)).startswith(text)
            assert len(server.requests) == 1  # no redirect was followed
            server.respond = good
            await upstream.query(ask())  # and the connection still serves
            assert len(server.peers) == 1
            await upstream.aclose()

    run(main)


def test_parameters_of_the_media_type_and_servfail_are_accepted(doh, version):
    fields = {"content-type": "Application/DNS-Message; charset=x"}

    def servfail(method, path, body):
        return 200, fields, answer(body, flags=0x8182)

    async def main():
        async with Web(version, always(203, fields)) as server:
            upstream = doh(server)
            await upstream.query(ask())
            server.respond = servfail
            await failure(upstream, ServerFailure)
            await upstream.aclose()

    run(main)


def test_cookies_are_not_returned(doh, version):
    """RFC 8484 section 8.2."""

    async def main():
        fields = {"set-cookie": "id=7; Path=/", **DNS}
        async with Web(version, always(200, fields)) as server:
            upstream = doh(server)
            await upstream.query(ask())
            await upstream.query(ask())
            assert all("cookie" not in str(r[2]).lower() for r in server.requests)
            await upstream.aclose()

    run(main)


@pytest.mark.parametrize(
    ("age", "ttl"),
    [("250", 50), ("0", 300), ("900", 0), ("-1", 300), ("x", 300), ("9" * 50, 0)],
)
def test_age_is_subtracted(doh, version, age, ttl):
    """RFC 8484 section 5.1."""

    async def main():
        async with Web(version, always(200, {"age": age, **DNS})) as server:
            upstream = doh(server)
            assert (await upstream.query(ask())).ttl == ttl
            await upstream.aclose()

    run(main)


@pytest.mark.parametrize("refusal", [400, 405, 415, 501])
def test_a_server_that_refuses_post_is_asked_by_get(doh, version, refusal):
    def get_only(method, path, body):
        if method != "GET":
            return refusal, {}, b""
        text = path.partition("dns=")[2]
        assert "=" not in text
        query = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        assert len(query) == 128
        return 200, DNS, answer(query)

    async def main():
        for path, start in (("/q{?dns}", "/q?dns="), ("/q?a=b", "/q?a=b&dns=")):
            async with Web(version, get_only) as server:
                upstream = doh(server, path=path)
                reply = await upstream.query(ask())
                assert reply.attempts[0].sends == 2
                reply = await upstream.query(ask("other.example"))
                assert reply.attempts[0].sends == 1
                assert [r[0] for r in server.requests] == ["POST", "GET", "GET"]
                assert all(r[1].startswith(start) for r in server.requests[1:])
                assert upstream.by_get
                server.respond = lambda method, path, body: (
                    good(method, path, body) if method == "POST" else (405, {}, b"")
                )
                assert await failure(upstream) == "HTTP status 405"
                await upstream.query(ask())  # by POST again
                await upstream.aclose()

    run(main)


def test_get_is_tried_once_and_not_remembered_when_it_fails(doh, version):
    async def main():
        async with Web(version, always(400, {}, b"")) as server:
            upstream = doh(server)
            assert await failure(upstream) == "HTTP status 400"
            server.respond = good
            await upstream.query(ask())
            assert [r[0] for r in server.requests] == ["POST", "GET", "POST"]
            await upstream.aclose()

    run(main)


def test_a_question_is_sent_three_times_at_most(doh):
    """RFC 9520 section 3.1, whatever a server refuses and however often it goes away:
    by POST, by GET, and by GET once more; aiohttp's own retries are switched off."""
    sent = []

    async def rude(reader, writer, n):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            sent.append(head[:4].strip())
            if head.startswith(b"GET"):
                return
            await reader.readexactly(128)
            writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    async def main():
        async with Server(rude, server_tls("http/1.1")) as server:
            upstream = doh(server)
            with pytest.raises(NetworkError, match="closed by the server") as caught:
                await upstream.query(ask())
            assert sent == [b"POST", b"GET", b"GET"]
            assert caught.value.attempts[0].sends == 3
            await upstream.aclose()

    run(main)


def test_a_question_is_sent_three_times_at_most_over_http_2_too(doh):
    """RFC 9520 section 3.1."""
    sent = []

    async def rude(peer, n):
        while True:
            stream, header, _ = await peer.request()
            sent.append(header[":method"])
            if len(sent) == 2:
                peer.respond(stream, b"", 400)
            else:  # not processed: try again
                peer.h2.reset_stream(stream, 7)
                peer.flush()

    async def main():
        async with h2_server(rude) as server:
            upstream = doh(server)
            with pytest.raises(NetworkError, match="reset") as caught:
                await upstream.query(ask())
            assert sent == ["POST", "POST", "GET"]
            assert caught.value.attempts[0].sends == 3
            await upstream.aclose()

    run(main)


@pytest.mark.parametrize("size", [65_536, 200_000])
def test_bodies_are_capped(doh, version, size):
    async def main():
        async with Web(version, always(200, DNS, bytes(size))) as server:
            upstream = doh(server)
            assert "more than 65535" in await failure(upstream, BadReply)
            await upstream.aclose()

    run(main)


def test_an_endless_http_1_1_body_is_cut_off(doh):
    ended = []

    async def endless(reader, writer, n):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/dns-message\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        try:
            while True:
                writer.write(b"1000\r\n" + bytes(0x1000) + b"\r\n")
                await writer.drain()
                await asyncio.sleep(0)
        finally:
            ended.append(n)

    async def main():
        async with Server(endless, server_tls("http/1.1")) as server:
            upstream = doh(server)
            assert "more than 65535" in await failure(upstream, BadReply)
            await until(lambda: ended)
            await upstream.aclose()

    run(main)


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\7" + bytes(40), bytes(40)])
def test_what_is_no_reply_is_a_bad_reply(doh, version, data):
    async def main():
        async with Web(version, always(200, DNS, data)) as server:
            upstream = doh(server)
            await failure(upstream, BadReply)
            server.respond = always(200, DNS, answer(b"\0\7" + ask().wire[2:]))
            assert await failure(upstream, BadReply) == "another id"
            await upstream.aclose()

    run(main)


def test_http_1_1_asks_again_once_when_a_connection_is_lost(doh):
    async def rude(reader, writer, n):
        await reader.readuntil(b"\r\n\r\n")
        query = await reader.readexactly(128)
        if n == 2:
            return
        reply = answer(query)
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/dns-message\r\n"
            b"Content-Length: %d\r\n\r\n" % len(reply) + reply
        )

    async def main():
        async with Server(rude, server_tls("http/1.1")) as server:
            upstream = doh(server)
            for _ in range(3):
                reply = await upstream.query(ask())
            assert reply.ttl == 300
            assert server.alpn == ["http/1.1"] * server.connections
            await upstream.aclose()

    async def never(reader, writer, n):
        await reader.readuntil(b"\r\n\r\n")

    async def other():
        async with Server(never, server_tls("http/1.1")) as server:
            upstream = doh(server)
            assert await failure(upstream) == "connection closed by the server"
            assert server.connections == 3
            await upstream.aclose()

    run(main)
    run(other)


@pytest.mark.parametrize("chunked", [False, True])
def test_http_1_1_broken_off_in_mid_answer_is_asked_again_once(doh, chunked):
    sent = []

    async def half(reader, writer, n):
        while True:
            await reader.readuntil(b"\r\n\r\n")
            reply = answer(await reader.readexactly(128))
            sent.append(n)
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/dns-message\r\n"
            if chunked:
                head += b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(reply)
                tail = b"\r\n0\r\n\r\n"
            else:
                head += b"Content-Length: %d\r\n\r\n" % len(reply)
                tail = b""
            if len(sent) in {1, 3, 4}:
                writer.write(head + reply[:20])
                return
            writer.write(head + reply + tail)

    async def main():
        async with Server(half, server_tls("http/1.1")) as server:
            upstream = doh(server)
            assert (await upstream.query(ask())).attempts[0].sends == 2
            assert await failure(upstream) == "connection closed by the server"
            assert len(sent) == 4
            await upstream.aclose()

    run(main)


def test_garbage_in_place_of_http_1_1(doh):
    async def rubbish(reader, writer, n):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\0\1\2 nonsense\r\n\r\n")

    async def main():
        async with Server(rubbish, server_tls("http/1.1")) as server:
            upstream = doh(server)
            assert (await failure(upstream)).startswith("HTTP/1.1: ")
            await upstream.aclose()

    run(main)


def test_http_1_1_timeout_and_cancellation_end_the_request(doh):
    ended = []

    async def mute(reader, writer, n):
        await reader.read()
        ended.append(n)

    async def main():
        async with Server(mute, server_tls("http/1.1")) as server:
            upstream = doh(server)
            asked = upstream.query(ask())
            await until(lambda: server.connections >= 2)  # the first told its version
            skip(PATIENCE)
            with pytest.raises(QueryTimeout):
                await asked
            asked = upstream.query(ask())
            await until(lambda: server.connections >= 3)
            asked.cancel()
            await until(lambda: len(ended) >= 3)
            assert not upstream._channel._tasks
            await upstream.aclose()

    run(main)


def test_a_server_that_comes_back_is_asked_for_its_version_anew(doh):
    async def main():
        async with Web("http/1.1", good) as server:
            upstream = doh(server)
            await upstream.query(ask())
            assert upstream.alpn == "http/1.1"
            port = server.port
        with pytest.raises(NetworkError, match="connection refused"):
            await upstream.query(ask())
        later = h2_server(Peer.answer_all)
        later.port = port
        async with later:
            async with asyncio.timeout(LIMIT):
                while True:
                    with contextlib.suppress(NetworkError):
                        await upstream.query(ask())
                        break
                    await asyncio.sleep(0.01)
            assert upstream.alpn == "h2"
        await upstream.aclose()

    run(main)


def test_pins_hold_for_both_versions(doh, version):
    async def main():
        for pin, fine in ((pin_of(), True), (pin_of(ca="other"), False)):
            async with Web(version, good) as server:
                tls = TlsOptions("dns.example", None, (pin,))
                upstream = doh(server, tls=tls)
                if fine:
                    await upstream.query(ask())
                else:
                    assert "no pin matches" in await failure(upstream)
                    assert not server.requests
                await upstream.aclose()

    run(main)


def test_certificates_are_checked(doh, version, tmp_path):
    ours = ca_file(tmp_path)

    async def main():
        async with Web(version, good) as server:
            for tls in (TlsOptions("dns.invalid", ours), TlsOptions("dns.example")):
                upstream = doh(server, tls=tls)
                told = await failure(upstream)
                assert told.startswith("TLS: certificate verify failed")
                await upstream.aclose()
            assert not server.requests

    run(main)


def test_a_certificate_that_changes_under_http_1_1_is_noticed(doh):
    async def main():
        tls = server_tls("http/1.1")
        async with Web(
            "http/1.1", always(200, {"connection": "close", **DNS}), tls
        ) as s:
            upstream = doh(s)
            await upstream.query(ask())
            certificate("dns.example", "other").configure_cert(tls)
            assert authority("other") is not authority()
            told = await failure(upstream)
            assert told.startswith("TLS: certificate verify failed")
            await upstream.aclose()

    run(main)


@pytest.mark.parametrize(
    "url", ["http://dns.example/q", "https:///q", "https://x/{path}", "https://[x", "q"]
)
def test_a_bad_url_is_named(url):
    with pytest.raises(ConfigurationError, match="allowed is https://"):
        Doh(Endpoint("doh", "doh"), url=url)


@pytest.mark.parametrize(
    ("url", "where", "target"),
    [
        ("https://dns.example", "dns.example", "/"),
        ("https://dns.example:443/dns-query{?dns}", "dns.example", "/dns-query"),
        ("https://[2620:fe::fe]:8443/q?a=b", "[2620:fe::fe]:8443", "/q?a=b"),
    ],
)
def test_the_url_says_host_and_path(url, where, target):
    upstream = Doh(Endpoint(url, "doh", address="192.0.2.1", port=443))
    assert (upstream.authority, upstream.target) == (where, target)
    text = upstream.get_target(ask()).rpartition("dns=")[2]
    query = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    assert query == wire.padded(ask())
    assert upstream.tls.hostname == ("2620:fe::fe" if "[" in url else "dns.example")


def test_aclose_with_requests_running(doh, version):
    async def mute(reader, writer, n):
        await reader.read()

    async def main():
        async with Server(mute, server_tls(version)) as server:
            upstream = doh(server)
            asked = upstream.query(ask())
            await until(lambda: server.connections >= (1 if version == "h2" else 2))
            await upstream.aclose()
            await upstream.aclose()
            with pytest.raises(NetworkError, match="closed"):
                await asked

    run(main)


def test_aclose_in_any_turn_of_a_connect_leaves_nothing_open(doh, monkeypatch, version):
    made: list[Http2] = []
    connected = Http2.connection_made

    def note(self, transport):
        made.append(self)
        connected(self, transport)

    monkeypatch.setattr(Http2, "connection_made", note)

    async def silent(reader, writer, n):
        await reader.read()

    async def main():
        async with Server(silent, server_tls(version)) as server:
            for turns in range(25):
                upstream = doh(server)
                asked = upstream.query(ask())
                for _ in range(turns):
                    await asyncio.sleep(0)
                await upstream.aclose()
                assert all(link._closed.done() for link in made), turns
                with pytest.raises(NetworkError):
                    await asked

    run(main)
    assert made
