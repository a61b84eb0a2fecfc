"""DNS over HTTPS with a certificate: real clients, HTTP/2 and 1.1, hostile ones."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess

import authority
import dns.message
import dns.query
import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import httpx
import pytest
from asking import query
from facing import LIMIT, Faced
from served import Served, handed_over, refused, wait_for

from resolverkit import Resolver
from resolverkit.server import http2, http_listener
from resolverkit.testing import Authority, Lab
from resolverkit.testing.certificates import Certificates

TYPE = "application/dns-message"


@pytest.fixture(scope="module")
def certificate():
    """A CA's file, and the file of a certificate and its key."""
    certificates = Certificates()
    path = certificates.ca_path.parent / "server.pem"
    certificates._certificate.private_key_and_cert_chain_pem.write_to_path(str(path))
    yield certificates.ca_path, path
    certificates.close()


def over_tls(certificate, **options):
    return Faced(pages=False, tls={"tls_cert": certificate[1]}, **options)


def run(main):
    async def bounded():
        async with asyncio.timeout(LIMIT):
            await main()

    asyncio.run(bounded())


# --- clients -------------------------------------------------------------------------


def test_the_librarys_own_upstream_asks_and_learns(certificate):
    ca, _ = certificate

    async def main():
        async with over_tls(certificate) as stub:
            port = stub.face.address.port
            url = f"https://localhost:{port}/dns-query?ca={ca}&address=127.0.0.1"
            async with Resolver([url], configure=False) as resolver:
                resolver.timeout = resolver.lifetime = LIMIT  # on a busy machine
                names = [f"n{i}.example.com" for i in range(50)]
                found = await asyncio.gather(*map(resolver.resolve, names))
                assert {str(answer[0]) for answer in found} == {"192.0.2.1"}
                assert found[0].path.transport == "doh"
            assert stub.server.stats.https == 50
            assert stub.server.stats.denied == 0

    run(main)


@pytest.mark.parametrize("http2", [True, False])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_both_versions_give_the_same(certificate, http2, method):
    """RFC 8484 section 5.2 recommends HTTP/2; either does."""

    async def main():
        async with over_tls(certificate) as stub:
            url = f"https://localhost:{stub.face.address.port}"
            context = ssl.create_default_context(cafile=certificate[0])
            async with httpx.AsyncClient(
                http1=not http2, http2=http2, verify=context, trust_env=False
            ) as client:
                asked = query().to_wire()
                options = {"content": asked, "headers": {"Content-Type": TYPE}}
                path = "/dns-query"
                if method != "POST":
                    from test_http import encoded

                    path, options = f"/dns-query?dns={encoded(asked)}", {}
                reply = await client.request(method, url + path, **options)
                assert reply.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
                assert reply.status_code == 200
                assert reply.headers["content-type"] == TYPE
                assert reply.headers["cache-control"] in {"max-age=60", "max-age=59"}
                if method == "HEAD":  # RFC 9110 section 9.3.2
                    assert int(reply.headers["content-length"]) > len(asked)
                    assert not reply.content
                else:
                    message = dns.message.from_wire(reply.content)
                    assert str(message.answer[0][0]) == "192.0.2.1"
                for path in ("/", "/metrics", "/api/status", "/api/explain"):
                    assert (await client.get(url + path)).status_code == 404
                big = await client.post(
                    url + "/dns-query",
                    content=bytes(65_536),
                    headers={"Content-Type": TYPE},
                )
                assert big.status_code == 413
                wrong = await client.post(url + "/dns-query", content=asked)
                assert wrong.status_code == 415
                packed = {"Content-Type": TYPE, "Content-Encoding": "gzip"}
                read = await client.post(
                    url + "/dns-query", content=bytes(20), headers=packed
                )  # as it is, whatever it is
                assert (read.status_code, read.content[3] & 15) == (200, 1)
                wrong = await client.put(url + "/dns-query", content=asked)
                assert wrong.status_code == 405
                assert "POST" in wrong.headers["allow"]
                assert (await client.get(url + "/dns-query")).status_code == 400

    run(main)


@pytest.mark.parametrize(
    "command",
    [
        ["kdig", "+https", "+tls-hostname=localhost"],
        ["kdig", "+https", "+https-get"],
        ["dig", "+https"],
        ["dig", "+https-get"],
    ],
    ids=" ".join,
)
def test_real_clients_ask(certificate, require, command):
    require([] if shutil.which(command[0]) else [command[0]])
    ca, _ = certificate
    if "+tls-hostname=localhost" in command:
        command = [*command, f"+tls-ca={ca}"]

    async def main():
        async with over_tls(certificate) as stub:
            done = await asyncio.to_thread(
                subprocess.run,
                [command[0], "@127.0.0.1", "-p", str(stub.face.address.port),
                 *command[1:], "www.example.com", "A"],
                capture_output=True, text=True, timeout=LIMIT, check=False,
            )  # fmt: skip
            assert "NOERROR" in done.stdout, done
            assert "192.0.2.1" in done.stdout

    run(main)


# --- hostile ones --------------------------------------------------------------------


class Client:
    """Speaks HTTP/2, frame by frame."""

    def __init__(self, certificate, stub):
        self._where = ("127.0.0.1", stub.face.address.port)
        self._context = ssl.create_default_context(cafile=certificate[0])
        self._context.set_alpn_protocols(["h2"])
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self.h2 = h2.connection.H2Connection(config)
        self.events = []

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection(
            *self._where, ssl=self._context, server_hostname="localhost"
        )
        self.h2.initiate_connection()
        return self

    async def __aexit__(self, *_):
        self.writer.close()

    def request(self, method="POST", path="/dns-query", *, end=False, **more):
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(
            stream,
            [(":method", method), (":path", path), (":scheme", "https"),
             (":authority", "localhost"), ("content-type", TYPE), *more.items()],
            end_stream=end,
        )  # fmt: skip
        return stream

    async def flush(self):
        self.writer.write(self.h2.data_to_send())
        await self.writer.drain()

    async def until(self, kind):
        """Read until there is such an event; None at the end."""
        while not any(isinstance(event, kind) for event in self.events):
            await self.flush()
            data = await self.reader.read(65_536)
            if not data:
                return None
            self.events += self.h2.receive_data(data)
        return next(event for event in self.events if isinstance(event, kind))


def test_who_takes_back_request_after_request_is_dropped(certificate):
    """RFC 9113 section 10.5; CVE-2023-44487."""

    async def main():
        async with over_tls(certificate) as stub, Client(certificate, stub) as client:
            with contextlib.suppress(ConnectionError):
                for _ in range(http2.MAX_RESETS + 10):
                    stream = client.request(end=True)
                    client.h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
                    await client.flush()
                    await asyncio.sleep(0)
            while stub.server.stats.closed < 1:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await stub.ask()  # it goes on

    run(main)


def test_a_body_without_end_is_not_kept(certificate):
    async def main():
        async with over_tls(certificate) as stub, Client(certificate, stub) as client:
            stream = client.request()
            for _ in range(40):
                while client.h2.local_flow_control_window(stream) < 8192:
                    client.events.clear()
                    await client.until(h2.events.WindowUpdated)
                client.h2.send_data(stream, bytes(8192))
                await client.flush()
            (connection,) = stub.face._listener.connections
            kept = connection._inner._requests[stream].body
            assert len(kept) <= 65_536 + 16_384
            client.h2.end_stream(stream)
            reply = await client.until(h2.events.ResponseReceived)
            assert dict(reply.headers)[":status"] == "413"

    run(main)


async def leave_open(client, octets):
    """Begin queries that never end, of so many octets in all."""
    while octets > 0:
        stream = client.request()
        for _ in range(4):
            while client.h2.local_flow_control_window(stream) < 8192:
                client.events.clear()
                if await client.until(h2.events.WindowUpdated) is None:
                    return
            client.h2.send_data(stream, bytes(8192))
            octets -= 8192
        await client.flush()


def test_bodies_that_never_end_are_kept_up_to_a_bound(certificate):
    async def main():
        async with over_tls(certificate) as stub, Client(certificate, stub) as client:
            with contextlib.suppress(ConnectionError):
                await leave_open(client, 3_000_000)
            while stub.server.stats.closed < 1:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert stub.face._listener.kept == 0
            await stub.ask()  # it goes on

    run(main)


def test_heads_of_queries_that_never_end_count_too(certificate, monkeypatch):
    monkeypatch.setattr(http2, "MAX_KEPT", 100_000)

    async def main():
        async with over_tls(certificate) as stub, Client(certificate, stub) as client:
            for _ in range(90):  # most of them are two octets: the table has them
                client.request(path="/" + "a" * 2000)
            with contextlib.suppress(ConnectionError):
                await client.flush()
            while stub.server.stats.closed < 1:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    run(main)


def test_replies_that_no_window_lets_out_are_kept_up_to_a_bound(
    certificate, monkeypatch
):
    monkeypatch.setattr(http2, "MAX_KEPT", 2000)

    async def main():
        async with over_tls(certificate) as stub, Client(certificate, stub) as client:
            client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
            await client.flush()
            for _ in range(90):
                client.h2.send_data(
                    client.request(), query().to_wire(), end_stream=True
                )
            with contextlib.suppress(ConnectionError):
                await client.flush()
            while stub.server.stats.closed < 1:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    run(main)


def test_of_many_clients_who_keeps_most_gives_way(certificate, monkeypatch):
    monkeypatch.setattr(http_listener, "MAX_KEPT", 200_000)

    async def main():
        async with (
            over_tls(certificate) as stub,
            Client(certificate, stub) as large,
            Client(certificate, stub) as small,
            Client(certificate, stub) as last,
        ):
            listener = stub.face._listener
            for client, octets in ((large, 98_304), (small, 32_768), (last, 65_536)):
                before = listener.kept
                await leave_open(client, octets)
                while listener.kept < before + octets:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            stream = small.request()
            small.h2.send_data(stream, bytes(8192))
            with contextlib.suppress(ConnectionError):
                await small.flush()
                assert await large.until(h2.events.ResponseReceived) is None
            assert stub.server.stats.closed == 1
            small.h2.send_data(small.request(), query().to_wire(), end_stream=True)
            assert await small.until(h2.events.ResponseReceived)
            assert listener.kept == sum(x.kept for x in listener.connections)

    run(main)


def test_what_is_no_http_2_ends_the_connection(certificate):
    async def main():
        async with over_tls(certificate) as stub:
            for junk in (b"GET / HTTP/1.1\r\n\r\n", bytes(100), b"PRI * HTTP/2.0\r\n"):
                async with Client(certificate, stub) as client:
                    client.h2.clear_outbound_data_buffer()
                    client.writer.write(junk + bytes(50))
                    assert await client.reader.read() is not None
            async with Client(certificate, stub) as client:
                client.request(path="/" + "a" * 20_000, end=True)
                assert await client.until(h2.events.ResponseReceived) is None
            while stub.server.stats.connections:  # noqa: ASYNC110 - within LIMIT
                await asyncio.sleep(0.01)

    run(main)


def test_waiting_requests_end_with_their_connection(certificate):
    async def main():
        from serving import Gated

        gated = Gated()
        async with (
            Faced(gated, pages=False, tls={"tls_cert": certificate[1]}) as stub,
            Client(certificate, stub) as client,
        ):
            stream = client.request()
            client.h2.send_data(stream, query().to_wire(), end_stream=True)
            await client.flush()
            while not gated.asked:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            (connection,) = stub.face._listener.connections
            assert connection.busy
            assert not connection.overdue(1e9)
            client.writer.transport.abort()
            while stub.face._listener.connections:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    run(main)


# --- resolverkit serve ---------------------------------------------------------------


def test_serve_has_a_page_and_https(certificate):
    ca, pem = certificate

    async def main():
        async with Lab(Authority(["www.example.com. 60 IN A 192.0.2.1"])) as lab:
            await asyncio.to_thread(watched, lab.urls[0])

    def watched(upstream):
        with Served(
            "--listen", "127.0.0.1:0", "-u", upstream, "--listen-https", "127.0.0.1:0",
            "--tls-cert", pem, "--http", "127.0.0.1:0",
        ) as served:  # fmt: skip
            assert ", over HTTPS at 127.0.0.1:" in served.ready
            assert ", page at http://127.0.0.1:" in served.ready
            _, https, http = served.ports
            context = ssl.create_default_context(cafile=ca)
            with httpx.Client(verify=context, trust_env=False) as client:
                asked = query().to_wire()
                reply = client.post(
                    f"https://localhost:{https}/dns-query",
                    content=asked, headers={"Content-Type": TYPE},
                )  # fmt: skip
                assert (
                    str(dns.message.from_wire(reply.content).answer[0][0])
                    == "192.0.2.1"
                )
                state = f"http://127.0.0.1:{http}/api/status"
                assert client.get(state).json()["answers"]["upstream"] == 1
                assert (
                    b"<!doctype html>"
                    in client.get(f"http://127.0.0.1:{http}/").content
                )

                served.tell(signal.SIGHUP)
                served.logged("reloaded")
                told = client.get(state).json()  # goes on, with another Resolver
                assert told["answers"]["upstream"] == 1
                wait_for(lambda: client.get(state).json()["upstreams"])
            assert served.end() == 0
            assert not [line for line in served.lines if "Traceback" in line]

    run(main)


def over_https(ca, port, name):
    """The address that one new connection is told."""
    context = ssl.create_default_context(cafile=ca)
    with httpx.Client(verify=context, trust_env=False, timeout=LIMIT) as client:
        reply = client.post(
            f"https://127.0.0.1:{port}/dns-query",
            content=query(name).to_wire(), headers={"Content-Type": TYPE},
        )  # fmt: skip
    return str(dns.message.from_wire(reply.content).answer[0][0])


def test_workers_share_https(certificate):
    ca, pem = certificate
    with authority.Authority() as server, Served(
        "--listen", "127.0.0.1:0", "-u", server.url, "--listen-https", "127.0.0.1:0",
        "--tls-cert", pem, "--workers", 2,
    ) as served:  # fmt: skip
        assert ", over HTTPS at 127.0.0.1:" in served.ready
        plain, https = served.ports
        for i in range(8):
            assert over_https(ca, https, f"n{i}.example.com") == "192.0.2.1"
        assert dns.query.udp(query(), "127.0.0.1", LIMIT, port=plain).answer
        served.logged(f"listening at 127.0.0.1:{https} for HTTP", 2)
        os.kill(served.workers()[0], signal.SIGKILL)
        served.logged("ended with -9")
        for i in range(8):  # its successor has its sockets
            assert over_https(ca, https, f"m{i}.example.com") == "192.0.2.1"
        assert served.end() == 0


def test_a_socket_for_https_may_be_handed_over(certificate):
    """`FileDescriptorName=https`."""
    ca, pem = certificate
    with (
        authority.Authority() as server,
        socket.create_server(("127.0.0.1", 0)) as sock,
        handed_over([("https", sock)], "-u", server.url, "--tls-cert", pem) as served,
    ):
        assert f"ready over HTTPS at 127.0.0.1:{sock.getsockname()[1]}" in served.ready
        assert over_https(ca, served.port, "n.example.com") == "192.0.2.1"
        assert served.end() == 0


def test_https_may_be_all_there_is(certificate, tmp_path):
    file = tmp_path / "stub.toml"
    file.write_text("listen = []\n")
    with Served(
        "--config", file, "-u", "192.0.2.1",
        "--listen-https", "127.0.0.1:0", "--tls-cert", certificate[1],
    ) as served:  # fmt: skip
        where = f"127.0.0.1:{served.port}"
        assert served.ready == f"resolverkit serve: ready over HTTPS at {where}\n"
        assert served.end() == 0


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--http", "nowhere"], "nowhere"),
        (["--http", "192.0.2.1:8053"], "say who may ask"),
        (["--http", "127.0.0.1:0", "--workers", "2"], "workers=2"),
        (["--http", "127.0.0.1:0", "--workers", "2"], "http allows 1"),
        (["--listen-https", "127.0.0.1:0"], "needs tls_cert"),
        (["--listen-https", "127.0.0.1:0", "--tls-cert", "/nowhere"], "/nowhere"),
    ],
)
def test_what_cannot_be_served_is_told(arguments, why):
    status, told = refused("--listen", "127.0.0.1:0", "-u", "192.0.2.1", *arguments)
    assert status == 2
    assert why in told


def test_it_is_not_its_own_upstream(certificate):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    status, told = refused(
        "--listen", "127.0.0.1:0", "-u", f"https://127.0.0.1:{port}/dns-query",
        "--listen-https", f"127.0.0.1:{port}", "--tls-cert", certificate[1],
    )  # fmt: skip
    assert status == 2
    assert "is this server itself" in told
