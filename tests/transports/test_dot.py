"""DNS over TLS: padding, ALPN, and servers that are not who they should be."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import sys

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from loopback import (
    PATIENCE,
    Server,
    answer,
    answer_all,
    ask,
    ca_file,
    certificate,
    frame,
    read_query,
    run,
    server_tls,
)
from test_stream import Recorder, frames

from resolverkit.errors import ConfigurationError, NetworkError
from resolverkit.transports.dot import Dot
from resolverkit.transports.tls import TlsOptions, make_context


def dot(server: Server, hostname="dns.example", ca=None, pins=(), **options) -> Dot:
    tls = TlsOptions(hostname, ca, pins)
    options.setdefault("timeout", PATIENCE)
    return Dot(server.endpoint("tls", "dot"), tls=tls, **options)


def pin_of(host: str = "dns.example", ca: str = "ours") -> str:
    pem = certificate(host, ca).cert_chain_pems[0].bytes()
    key = x509.load_pem_x509_certificate(pem).public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return "sha256/" + base64.b64encode(hashlib.sha256(spki).digest()).decode()


async def refused(upstream: Dot) -> str:
    with pytest.raises(NetworkError) as caught:
        await upstream.query(ask())
    assert not caught.value.local
    await upstream.aclose()
    return str(caught.value)


def test_queries_are_padded_pipelined_and_offer_alpn_dot(tmp_path):
    sizes = set()

    async def backwards(reader, writer, n):
        queries = [await read_query(reader) for _ in range(50)]
        sizes.update(map(len, queries))
        writer.write(b"".join(frame(answer(q)) for q in reversed(queries)))
        await reader.read()

    async def main():
        async with Server(backwards, server_tls("other", "dot")) as server:
            upstream = dot(server, ca=ca_file(tmp_path))
            questions = [ask(f"host{i}.example") for i in range(50)]
            replies = await asyncio.gather(*map(upstream.query, questions))
            assert [r.final for r in replies] == [q.wire_name for q in questions]
            assert replies[0].attempts[0].transport == "dot"
            assert sizes == {128}
            assert server.alpn == ["dot"]
            await upstream.aclose()

    run(main)


def test_one_session_serves_one_question_after_another(tmp_path):
    """RFC 7858 section 3.4."""

    async def main():
        async with Server(answer_all, server_tls("dot")) as server:
            upstream = dot(server, ca=ca_file(tmp_path))
            for _ in range(5):
                await upstream.query(ask())
            assert server.connections == 1
            await upstream.aclose()

    run(main)


def test_lengths_leave_with_their_messages_and_the_last_by_itself(tmp_path):
    """RFC 7766 section 8, which RFC 7858 section 3.3 refers to; two records."""

    async def main():
        async with Server(answer_all, server_tls("dot")) as server:
            upstream = dot(server, ca=ca_file(tmp_path))
            await upstream.query(ask())
            link = upstream._channel
            link._transport = recorder = Recorder(link._transport)
            await asyncio.gather(*(upstream.query(ask()) for _ in range(3)))
            assert [len(frames(data)) for data in recorder.writes] == [2, 1]
            await upstream.aclose()

    run(main)


def test_a_server_without_alpn_will_do(tmp_path):
    async def main():
        async with Server(answer_all, server_tls()) as server:
            upstream = dot(server, ca=ca_file(tmp_path))
            await upstream.query(ask())
            assert server.alpn == [None]
            await upstream.aclose()

    run(main)


def test_a_certificate_for_the_ip_address_will_do(tmp_path):
    async def main():
        async with Server(answer_all, server_tls(host="127.0.0.1")) as server:
            upstream = dot(server, "127.0.0.1", ca_file(tmp_path))
            await upstream.query(ask())
            await upstream.aclose()

    run(main)


def test_a_close_in_mid_answer_is_asked_again(tmp_path):
    async def second_time(reader, writer, n):
        query = await read_query(reader)
        if n == 1:
            writer.write(b"\0")
            return
        writer.write(frame(answer(query)))
        await reader.read()

    async def main():
        async with Server(second_time, server_tls()) as server:
            upstream = dot(server, ca=ca_file(tmp_path))
            assert (await upstream.query(ask())).attempts[0].sends == 2
            await upstream.aclose()

    run(main)


def test_an_unknown_authority_is_refused():
    async def main():
        async with Server(answer_all, server_tls()) as server:
            why = await refused(dot(server))
            assert why.startswith("TLS: certificate verify failed: ")

    run(main)


def test_the_wrong_host_name_is_refused(tmp_path):
    async def main():
        async with Server(answer_all, server_tls()) as server:
            why = await refused(dot(server, "dns.invalid", ca_file(tmp_path)))
            assert why.startswith("TLS: certificate verify failed: Hostname mismatch")

    run(main)


def test_clear_text_is_refused(tmp_path):
    async def shouts(reader, writer, n):
        writer.write(b"220 mail.example ESMTP\r\n" * 10)
        await reader.read()

    async def main():
        async with Server(shouts) as server:
            why = await refused(dot(server, ca=ca_file(tmp_path)))
            assert why.startswith("TLS: ")

    run(main)


@pytest.mark.parametrize("how", ["hangs up", "clear text", "another certificate"])
def test_clear_text_is_never_tried_where_tls_fails(tmp_path, how):
    """RFC 8310 section 5: strict means that it fails closed. RFC 7858 section 3.1: nor
    is a question sent in clear text on that port after a handshake that failed."""
    got = []

    async def note(reader, writer, n):
        got.append(await reader.read(4096))
        if how == "clear text":
            writer.write(frame(answer(b"\0\0" + ask().wire[2:])))

    async def main():
        bad = server_tls(ca="other") if how == "another certificate" else None
        async with Server(note, bad) as server:
            datagrams = []
            loop = asyncio.get_running_loop()
            udp, _ = await loop.create_datagram_endpoint(
                lambda: Datagrams(datagrams), local_addr=("127.0.0.1", server.port)
            )
            upstream = dot(server, ca=ca_file(tmp_path))
            for _ in range(3):
                with pytest.raises(NetworkError) as caught:
                    await upstream.query(ask())
                assert not caught.value.local
            await upstream.aclose()
            udp.close()
            if bad is None:
                assert got
                assert all(data.startswith(b"\x16\x03") for data in got)  # ClientHello
            assert not any(b"\7example" in data for data in got)
            assert not datagrams

    run(main)


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, received):
        self.received = received

    def datagram_received(self, data, addr):
        self.received.append(data)


def test_tls_before_1_2_is_not_offered():
    context = make_context(TlsOptions("dns.example"), ("dot",))
    assert context.minimum_version == context.minimum_version.TLSv1_2
    assert context is make_context(TlsOptions("other.example"), ("dot",))


@pytest.mark.parametrize("with_ca", [False, True])
def test_the_right_pin_is_accepted(tmp_path, with_ca):
    async def main():
        async with Server(answer_all, server_tls()) as server:
            # Without a CA file the pin replaces the chain and the name.
            name, ca = (
                ("dns.example", ca_file(tmp_path)) if with_ca else ("x.test", None)
            )
            upstream = dot(server, name, ca, (pin_of(ca="other"), pin_of()))
            await upstream.query(ask())
            await upstream.aclose()

    run(main)


@pytest.mark.parametrize("with_ca", [False, True])
def test_the_wrong_pin_is_refused_before_a_question_leaves(tmp_path, with_ca):
    got = []

    async def note(reader, writer, n):
        got.append(await reader.read())

    async def main():
        async with Server(note, server_tls()) as server:
            ca = ca_file(tmp_path) if with_ca else None
            why = await refused(dot(server, ca=ca, pins=(pin_of(ca="other"),)))
            assert why == (
                "TLS: certificate verify failed: no pin matches the server's key"
            )
            assert not any(got)

    run(main)


def test_with_a_ca_file_the_pin_alone_is_not_enough(tmp_path):
    async def main():
        async with Server(answer_all, server_tls()) as server:
            pins = (pin_of(),)
            for name, ca in (("dns.example", "other"), ("dns.invalid", "ours")):
                why = await refused(dot(server, name, ca_file(tmp_path, ca), pins))
                assert why.startswith("TLS: certificate verify failed")
                assert "pin" not in why

    run(main)


def test_a_bad_ca_file_is_named(tmp_path):
    missing = str(tmp_path / "missing.pem")
    with pytest.raises(ConfigurationError, match=r"missing\.pem.*PEM"):
        make_context(TlsOptions("dns.example", missing), ("dot",))
    for content in (b"not a certificate", b"", b"\xff\xfe"):
        bad = tmp_path / "bad.pem"
        bad.write_bytes(content)
        with pytest.raises(ConfigurationError, match=r"bad\.pem.*PEM"):
            make_context(TlsOptions("dns.example", str(bad)), ("dot",))


@pytest.mark.parametrize("pin", ["sha256/AAAA", "sha1/" + "A" * 44, "sha256/?", ""])
def test_a_bad_pin_is_named(pin):
    with pytest.raises(ConfigurationError, match="sha256/ and the BASE64"):
        make_context(TlsOptions("dns.example", None, (pin,)), ("dot",))


def test_pins_without_cryptography_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'resolverkit\[pin\]'"):
        make_context(TlsOptions("dns.example", None, (pin_of(),)), ("dot",))
