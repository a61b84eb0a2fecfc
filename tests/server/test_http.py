"""HTTP: DNS over HTTPS, the state, the metrics, and who may ask for them."""

from __future__ import annotations

import asyncio
import base64
import re
import sys
from types import SimpleNamespace

import dns.message
import pytest
from asking import query
from facing import DATA, LIMIT, Faced

from resolverkit import Resolver
from resolverkit.errors import ConfigurationError
from resolverkit.server import Server, doh, http
from resolverkit.server.http import HttpFace
from resolverkit.server.http_listener import HttpListener
from resolverkit.testing import ScriptedUpstream, answer, nxdomain, servfail

TYPE = "application/dns-message"
POST = {"method": "POST", "headers": {"Content-Type": TYPE}}


def faced(*upstreams, **options):
    """Run a test with a stub that has a face."""

    def wrap(test):
        def runs():
            async def main():
                async with asyncio.timeout(LIMIT):
                    members = [each() for each in upstreams]
                    async with Faced(*members, **options) as stub:
                        await test(stub)

            asyncio.run(main())

        runs.__name__, runs.__doc__ = test.__name__, test.__doc__
        return runs

    return wrap


def encoded(message):
    data = message if isinstance(message, bytes) else message.to_wire()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


# --- RFC 8484 ------------------------------------------------------------------------


@faced(lambda: ScriptedUpstream("a", answer("192.0.2.1", ttl=60, after=0)))
async def test_get_and_post_give_the_same_reply(stub):
    """RFC 8484 section 4.1; section 5.1 for how long it may be kept."""
    asked = query()
    asked.id = 0
    get = await stub.get(f"/dns-query?dns={encoded(asked)}")
    post = await stub.get("/dns-query", data=asked.to_wire(), **POST)
    for status, headers, body in (get, post):
        assert status == 200
        assert headers["Content-Type"] == TYPE
        assert headers["Cache-Control"] in {"max-age=60", "max-age=59"}
        reply = dns.message.from_wire(body)
        assert asked.is_response(reply)
        assert str(reply.answer[0][0]) == "192.0.2.1"
    stub.clock.ahead += 20
    _, headers, _ = await stub.get("/dns-query", data=asked.to_wire(), **POST)
    assert headers["Cache-Control"] in {"max-age=40", "max-age=39"}
    assert stub.server.stats.https == 3


@faced(lambda: ScriptedUpstream("a", nxdomain(ttl=120, minimum=120)))
async def test_a_denial_is_kept_for_as_long_as_its_soa_says(stub):
    """RFC 8484 section 5.1: not longer than the MINIMUM of the SOA."""
    _, headers, _ = await stub.get("/dns-query", data=query().to_wire(), **POST)
    assert headers["Cache-Control"] in {"max-age=120", "max-age=119"}


@faced(lambda: ScriptedUpstream("a", servfail()))
async def test_a_failure_is_a_reply_that_nobody_keeps(stub):
    """RFC 8484 section 4.2.1: DNS errors are in the message, with 200."""
    status, headers, body = await stub.get("/dns-query", data=query().to_wire(), **POST)
    assert (status, headers["Cache-Control"]) == (200, "no-store")
    assert dns.message.from_wire(body).rcode() == 2


@faced(lambda: ScriptedUpstream("a", answer("192.0.2.1", ttl=60, after=0)))
async def test_stale_data_is_kept_for_30_s(stub):
    """RFC 8767 section 4."""
    await stub.ask()
    stub.upstreams[0].play(servfail())
    stub.clock.ahead += 120
    _, headers, _ = await stub.get("/dns-query", data=query().to_wire(), **POST)
    assert headers["Cache-Control"] == "max-age=30"


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ([], 400),
        ([""], 400),
        (["!"], 400),
        (["AAAA", "AAAA"], 400),
        (["AAAAA"], 400),  # no number of octets is that
        ([encoded(query()) + "="], 400),  # RFC 8484 section 6: no padding
        ([encoded(b"\0" * 11)], 400),
        ([encoded(b"\0\0\x80" + bytes(9))], 400),  # a response
        ([encoded(bytes(65_536))], 413),
    ],
)
def test_what_is_no_query_in_a_url_is_told(values, status):
    assert doh.read_get(values) == status


@faced()
async def test_what_cannot_be_answered_has_a_status_of_its_own(stub):
    """RFC 8484 section 4.1, RFC 9110 section 15.5."""
    wire = query().to_wire()
    for expected, path, options in (
        (400, "/dns-query", {}),
        (400, "/dns-query?dns=%00", {}),
        (400, "/dns-query", {**POST, "data": b""}),
        (415, "/dns-query", {"method": "POST", "data": wire}),
        (413, "/dns-query", {**POST, "data": bytes(65_536)}),
        (405, "/dns-query", {"method": "PUT", "data": wire}),
        (405, "/api/status", {"method": "POST"}),
        (404, "/dns-query/", {}),
        (404, "/../../etc/passwd", {}),
    ):
        status, headers, body = await stub.get(path, **options)
        assert status == expected, path
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert b"Traceback" not in body
        assert "Server" not in headers
        if status == 405:
            assert "GET" in headers["Allow"]
    longest = bytes(12) + bytes(65_523)  # 65,535 octets: read, and found malformed
    status, _, body = await stub.get("/dns-query", data=longest, **POST)
    assert status == 200
    assert body[3] & 15 == 1  # FORMERR


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nA: " + b"a" * 9000 + b"\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=["long", "not ASCII", "two hosts", "chunked"],
)
def test_what_is_no_request_is_told_to_the_client_alone(request_, caplog):
    """Who sends such things for ever does not fill the log."""

    async def main():
        async with Faced() as stub:
            reader, writer = await asyncio.open_connection(*stub.face.address)
            writer.write(request_)
            assert (await reader.read()).startswith(b"HTTP/1.0 400 ")
            writer.close()

    asyncio.run(main())
    assert not caplog.records


def test_what_goes_wrong_here_is_in_the_log(caplog, monkeypatch):
    async def main():
        async with Faced() as stub:
            monkeypatch.setattr(stub.face.status, "to_dict", lambda: 1 / 0)
            assert (await stub.get("/api/status"))[0] == 500

    asyncio.run(main())
    (record,) = caplog.records
    assert record.exc_info[0] is ZeroDivisionError


# --- who may ask ---------------------------------------------------------------------


@faced()
async def test_only_its_own_names_are_served(stub):
    """A site whose name points here has that name in Host (DNS rebinding)."""
    port = stub.face.address.port
    for host in (
        f"127.0.0.1:{port}", "127.0.0.1", f"localhost:{port}", "LOCALHOST.",
        "[::1]:9000", "127.5.5.5",
    ):  # fmt: skip
        assert (await stub.get("/", headers={"Host": host}))[0] == 200, host
    for host in (
        "evil.example",
        "localhost.evil.example",
        "192.0.2.1",
        "",
        "[::1",
        "a b",
    ):
        for path in ("/", "/api/status", "/dns-query", "/metrics"):
            status, _, body = await stub.get(path, headers={"Host": host})
            assert status in {400, 421}, (host, path)
            assert b"upstreams" not in body


def test_of_all_addresses_that_counts_which_was_asked():
    """A face at 0.0.0.0 is meant by the address that a connection came to."""

    def request(host, own="192.168.1.2"):
        transport = SimpleNamespace(get_extra_info=lambda _: (own, 8053))
        return SimpleNamespace(headers={"Host": host}, transport=transport)

    assert http._is_us(request("192.168.1.2:8053"))
    assert not http._is_us(request("192.168.1.3:8053"))
    assert http._is_us(request("[fe80::1]", "fe80::1%eth0"))
    gone = request("192.168.1.2")
    gone.transport = None
    assert not http._is_us(gone)


@faced()
async def test_other_sites_can_neither_ask_nor_read(stub):
    """Fetch Metadata: what a browser says of who asks; and no CORS."""
    for site in ("cross-site", "same-site"):
        headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"}
        for path in ("/", "/api/explain?name=a.example", "/api/status", "/dns-query"):
            assert (await stub.get(path, headers=headers))[0] == 403
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert (await stub.get("/", headers=headers))[0] == 200  # a link to the page
    assert (await stub.get("/api/status", headers=headers))[0] == 403
    assert stub.upstreams[0].asked == []
    headers = {"Origin": "https://evil.example"}
    for method in ("GET", "OPTIONS"):
        _, told, _ = await stub.get("/api/status", method, headers=headers)
        assert not [name for name in told if name.lower().startswith("access-control")]


def test_others_need_to_be_allowed():
    async def main():
        async with Resolver([ScriptedUpstream("a", DATA)], configure=False) as resolver:
            face = HttpFace(Server(resolver))
            with pytest.raises(ConfigurationError, match="say who may ask"):
                await face.start("192.0.2.1:0")
            with pytest.raises(ConfigurationError, match="say who may ask"):
                await face.start("0.0.0.0:0")
            with pytest.raises(ConfigurationError, match=r"^tls_cert='/nowhere': "):
                await face.start("127.0.0.1:0", tls_cert="/nowhere")
            await face.aclose()

    asyncio.run(main())


# --- limits --------------------------------------------------------------------------


@faced()
async def test_the_longest_idle_connection_gives_way(stub):
    stub.face._listener._max = 3
    host, port = stub.face.address
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    opened = []
    for _ in range(5):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(request)
        assert b"200" in await reader.readuntil(b"ok\n")
        opened.append((reader, writer))
    assert len(stub.face._listener.connections) == 3
    for reader, _ in opened[:2]:
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(1)
    opened[4][1].write(request)
    assert b"200" in await opened[4][0].readuntil(b"ok\n")
    assert stub.server.stats.closed == 2
    for _, writer in opened:
        writer.close()


@faced()
async def test_who_never_ends_a_request_is_dropped(stub):
    host, port = stub.face.address
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET /healthz HT")
    while not stub.face._listener.connections:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    (connection,) = stub.face._listener.connections
    now = asyncio.get_running_loop().time()
    assert not connection.overdue(now + 70)
    connection.since -= 80
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await reader.readexactly(1)  # by the next sweep
    writer.close()


def test_a_face_leaves_nothing_behind():
    async def main():
        async with Faced() as stub:
            host, port = stub.face.address
            _, writer = await asyncio.open_connection(host, port)
            assert isinstance(stub.face._listener, HttpListener)
            await stub.face.aclose()
            await stub.face.aclose()
            with pytest.raises(OSError, match=r"refused|Connect call failed"):
                await asyncio.open_connection(host, port)
            assert stub.server.stats.connections == 0
            writer.close()

    asyncio.run(main())


# --- state, metrics, explanations ----------------------------------------------------


@faced(lambda: ScriptedUpstream("udp://192.0.2.1", DATA, operator="Alpha"))
async def test_the_state_has_it_all(stub):
    await stub.ask()
    await stub.ask()
    status = await stub.json("/api/status")
    assert status["summary"] == "Upstreams answer"
    assert status["answers"] == {
        "upstream": 1, "cache": 1, "stale": 0, "held": 0, "failed": 0, "local": 0,
    }  # fmt: skip
    assert sum(map(sum, status["history"]["counts"])) == 2
    assert status["history"]["fields"] == [
        "upstream",
        "cache",
        "stale",
        "held",
        "failed",
    ]
    assert status["store"] is None
    assert status["flights"] == status["waiting"] == 0
    assert status["cache"]["entries"] == 1


@faced(lambda: ScriptedUpstream("udp://192.0.2.1", DATA, operator='Al"pha\n'))
async def test_metrics_are_prometheus_text(stub):
    from prometheus_client.parser import text_string_to_metric_families

    await stub.ask()
    await stub.ask()
    status, headers, body = await stub.get("/metrics")
    assert status == 200
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }
    who = ('Al"pha\n', "udp://192.0.2.1")
    assert samples["resolverkit_answers_total", "cache"] == 1
    assert samples["resolverkit_upstream_up", *who] == 1
    assert (
        samples["resolverkit_upstream_attempts_total", who[0], "answers", who[1]] == 1
    )
    assert samples["resolverkit_old_names",] == 0
    assert samples["process_resident_memory_bytes",] > 1e6


@faced()
async def test_health_is_that_of_the_process_alone(stub):
    stub.upstreams[0].play(servfail())
    await stub.ask()
    assert (await stub.get("/healthz"))[::2] == (200, b"ok\n")


@faced(
    lambda: ScriptedUpstream("udp://192.0.2.1", servfail()),
    lambda: ScriptedUpstream(
        "tls://192.0.2.2",
        {"www.example.com": answer("192.0.2.1"), "mx.example.com": answer("192.0.2.1")},
    ),
    strategy="failover",
)
async def test_a_name_is_explained_with_all_attempts(stub):
    told = await stub.json("/api/explain?name=www.example.com&type=a")
    assert (told["status"], told["type"]) == ("NOERROR", "A")
    assert told["records"][0]["data"] == "192.0.2.1"
    assert [each["outcome"] for each in told["path"]["attempts"]] == [
        "server failure", "data",
    ]  # fmt: skip
    assert (await stub.json("/api/explain?name=nosuch.example"))["status"] == "NXDOMAIN"
    assert (await stub.json("/api/explain?name=localhost"))["status"] == "NOERROR"
    told = await stub.json("/api/explain?name=mx.example.com&type=AAAA")
    assert (told["status"], told["records"]) == ("NODATA", [])
    stub.upstreams[1].play(servfail())
    assert (await stub.json("/api/explain?name=new.example"))["status"] == "FAILED"


@faced()
async def test_what_cannot_be_explained_is_told(stub):
    for asked, why in (
        ("", "1 to 1100"),
        ("name=" + "a" * 1101, "1 to 1100"),
        ("name=a..b", "is not a name"),
        ("name=" + "a" * 64, "is not a name"),
        ("name=%5C", "is not a name"),
        ("name=a&type=ANY", "cannot be looked up"),
        ("name=a&type=<script>", "allowed are record types"),
        ("name=a&type=TYPE65536", "allowed are record types"),
    ):
        told = await stub.json(f"/api/explain?{asked}")
        assert why in told["error"], asked
    status, _, _ = await stub.get("/api/explain?name=a..b")
    assert status == 400


@faced()
async def test_the_page_may_run_its_own_script_and_no_more(stub):
    status, headers, body = await stub.get("/")
    policy = headers["Content-Security-Policy"]
    assert status == 200
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}='(;|$)", policy)
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    text = body.decode()
    assert not re.search(r"https?://(?!www\.w3\.org)", text)  # no remote assets
    assert not re.search(r"innerHTML|insertAdjacent|document\.write|eval\(", text)


def test_without_the_extra_metrics_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "resolverkit.server.metrics", raising=False)
    monkeypatch.delattr("resolverkit.server.metrics", raising=False)

    async def main():
        async with Faced() as stub:
            status, _, body = await stub.get("/metrics")
            assert status == 501
            assert b"pip install 'resolverkit[server]'" in body

    asyncio.run(main())
