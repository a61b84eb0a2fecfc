"""The lab itself, proved with dnspython, ssl and a few lines of h2: no resolverkit.

What the other tests take for granted holds: every server answers over each of its
transports, negotiates what its kind does, stays silent while it is stopped, and nothing
of it is left at the end.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import dns.exception
import dns.message
import dns.query
import dns.rcode
import h2.config
import h2.connection
import h2.events
import pytest
from processes import LOOPBACK, StartError, threads_of
from programs import NAMES, PROBE_NAME, missing_programs

DO53 = ("unbound", "knot", "bind", "recursor", "dnsdist")
DOT = ("unbound", "knot", "bind", "dnsdist")
DOH2 = ("unbound", "knot", "bind", "dnsdist")
MEDIA_TYPE = "application/dns-message"


def addresses(reply):
    return [r.address for s in reply.answer if s.rdtype == 1 for r in s]


def connect(vantage, transport, *alpn):
    """A TLS connection that offers these protocols."""
    context = ssl.create_default_context(cafile=str(vantage.ca))
    context.set_alpn_protocols(alpn)
    sock = socket.create_connection((LOOPBACK, vantage.ports[transport]), timeout=5)
    return context.wrap_socket(sock, server_hostname="localhost")


def post_h2(vantage, query):
    """The status and body of one POST over HTTP/2."""
    config = h2.config.H2Configuration(header_encoding="ascii")
    wire = h2.connection.H2Connection(config)
    wire.initiate_connection()
    body = query.to_wire()
    wire.send_headers(
        1,
        [
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", "/dns-query"),
            ("accept", MEDIA_TYPE),
            ("content-type", MEDIA_TYPE),
            ("content-length", str(len(body))),  # BIND answers 400 without
        ],
    )
    wire.send_data(1, body, end_stream=True)
    status, reply = "", b""
    with connect(vantage, "https", "h2") as sock:
        while True:
            sock.sendall(wire.data_to_send())
            for event in wire.receive_data(sock.recv(65_536)):
                if isinstance(event, h2.events.ResponseReceived):
                    status = dict(event.headers)[":status"]
                elif isinstance(event, h2.events.DataReceived):
                    reply += event.data
                elif isinstance(event, h2.events.StreamEnded):
                    return status, dns.message.from_wire(reply)


def post_http1(vantage, query):
    """The status and body of one POST over HTTP/1.1."""
    context = ssl.create_default_context(cafile=str(vantage.ca))
    port = vantage.ports["https"]
    headers = {"content-type": MEDIA_TYPE}
    with closing(
        http.client.HTTPSConnection(LOOPBACK, port, timeout=5, context=context)
    ) as client:
        client.request("POST", "/dns-query", query.to_wire(), headers)
        response = client.getresponse()
        return response.status, dns.message.from_wire(response.read())


def ask(vantage, name, timeout=5.0):
    """The addresses that a server gives over UDP: none too when it keeps silent."""
    query = dns.message.make_query(name, "A")
    try:
        reply = dns.query.udp(query, LOOPBACK, timeout, port=vantage.ports["udp"])
    except dns.exception.Timeout:
        return []
    return addresses(reply)


def ask_all(vantages, name, timeout=5.0):
    """What each server with Do53 says, all asked at once."""
    with ThreadPoolExecutor(len(DO53)) as pool:
        asked = {n: pool.submit(ask, vantages[n], name, timeout) for n in DO53}
    return {n: future.result() for n, future in asked.items()}


@pytest.mark.parametrize("name", DO53)
def test_do53(vantages, name):
    where = LOOPBACK, 5.0, vantages[name].ports["udp"]
    query = dns.message.make_query("www.facebook.com.", "A")
    for over in (dns.query.udp, dns.query.tcp):
        reply = over(query, *where)
        assert addresses(reply) == ["157.240.20.35"]
        assert max(s.ttl for s in reply.answer) <= 5


@pytest.mark.parametrize("name", DO53)
def test_a_large_answer_is_truncated_over_udp(vantages, name):
    query = dns.message.make_query("big.names.example.", "TXT", use_edns=0)
    reply, used_tcp = dns.query.udp_with_fallback(
        query, LOOPBACK, 5.0, vantages[name].ports["udp"]
    )
    assert used_tcp
    assert len(reply.answer[0]) == 16


@pytest.mark.parametrize("name", DO53)
def test_denials_come_with_their_soa(vantages, name):
    for question, rdtype, rcode in (
        ("missing.names.example.", "A", dns.rcode.NXDOMAIN),
        ("only4.names.example.", "AAAA", dns.rcode.NOERROR),
    ):
        query = dns.message.make_query(question, rdtype)
        reply = dns.query.udp(query, LOOPBACK, 5.0, vantages[name].ports["udp"])
        assert reply.rcode() == rcode
        assert not reply.answer
        assert [s.rdtype.name for s in reply.authority] == ["SOA"]


@pytest.mark.parametrize("name", DO53)
def test_a_name_of_the_outside_is_refused_here(vantages, name):
    query = dns.message.make_query("www.example.org.", "A")
    reply = dns.query.udp(query, LOOPBACK, 5.0, vantages[name].ports["udp"])
    assert reply.rcode() in {dns.rcode.REFUSED, dns.rcode.SERVFAIL}


@pytest.mark.parametrize("name", DOT)
def test_dot(vantages, name):
    vantage = vantages[name]
    context = ssl.create_default_context(cafile=str(vantage.ca))
    reply = dns.query.tls(
        dns.message.make_query("www.facebook.com.", "A"),
        LOOPBACK,
        5.0,
        vantage.ports["tls"],
        ssl_context=context,
        server_hostname="localhost",
    )
    assert addresses(reply) == ["157.240.20.35"]


@pytest.mark.parametrize("name", DOH2)
def test_doh_over_http2(vantages, name):
    query = dns.message.make_query("www.facebook.com.", "A", id=0)
    status, reply = post_h2(vantages[name], query)
    assert status == "200"
    assert addresses(reply) == ["157.240.20.35"]


@pytest.mark.parametrize("name", ["http1", "dnsdist"])
def test_doh_over_http1(vantages, name):
    query = dns.message.make_query("www.facebook.com.", "A", id=0)
    status, reply = post_http1(vantages[name], query)
    assert status == 200
    assert addresses(reply) == ["157.240.20.35"]


@pytest.mark.parametrize("name", [*DOH2, "http1"])
def test_alpn_of_doh(vantages, name):
    with connect(vantages[name], "https", "h2", "http/1.1") as sock:
        expected = "http/1.1" if name == "http1" else "h2"
        assert sock.selected_alpn_protocol() == expected


def test_http1_has_no_h2_to_offer(vantages):
    with connect(vantages["http1"], "https", "h2") as sock:
        assert sock.selected_alpn_protocol() is None


@pytest.mark.parametrize("name", ["unbound", "bind"])
def test_some_speak_h2_only(vantages, name):
    """Knot breaks off in the handshake; these two hang up on the request."""
    query = dns.message.make_query("www.facebook.com.", "A", id=0)
    with pytest.raises((OSError, http.client.HTTPException)):
        post_http1(vantages[name], query)


def test_knot_refuses_a_handshake_without_h2(vantages):
    with pytest.raises(ssl.SSLError, match="no application protocol"):
        connect(vantages["knot"], "https", "http/1.1")


def test_resolvers_under_a_silent_authority(authority, vantages):
    """What is cached they give; what has run out nobody has, until it speaks again."""
    short, held, fresh = NAMES[0], "slow.names.example.", NAMES[1]
    assert all(ask_all(vantages, short).values())
    assert all(ask_all(vantages, held).values())
    authority.stop()
    time.sleep(4)  # the TTL of `short` is 2 s, and they count in whole seconds
    assert not any(ask_all(vantages, short, timeout=1.0).values())
    assert all(ask_all(vantages, held).values())
    authority.cont()
    deadline = time.monotonic() + 20
    missing = set(DO53)
    while missing and time.monotonic() < deadline:
        missing -= {n for n, got in ask_all(vantages, fresh, 1.0).items() if got}
    assert not missing


def test_after_a_test_everything_runs_again(authority, vantages):
    """Unbound and Knot remember a silent server; `settle()` gave them a fresh start."""
    assert not authority.disturbed
    assert all(v.running for v in vantages.values())
    assert all(ask_all(vantages, NAMES[2], timeout=2.0).values())


def test_a_stopped_vantage_is_silent_and_goes_on(vantages):
    vantage = vantages["bind"]
    vantage.stop()
    assert threads_of(vantage.pid) == {"T"}
    assert ask(vantage, NAMES[0], timeout=0.5) == []
    assert ask(vantages["unbound"], NAMES[0])
    vantage.cont()
    assert ask(vantage, NAMES[0])


def test_a_killed_vantage_closes_its_port_and_comes_back(vantages):
    vantage = vantages["unbound"]
    vantage.kill()
    with pytest.raises(ConnectionRefusedError):
        connect(vantage, "tls")
    url = vantage.tls_url
    vantage.restart()
    assert vantage.tls_url == url
    connect(vantage, "tls").close()


def test_a_lab_of_ones_own_leaves_no_process_behind(own_lab):
    assert ask(own_lab.vantages["knot"], PROBE_NAME)
    groups = [d.pid for d in own_lab.daemons]
    assert all(map(threads_of, groups))
    own_lab.vantages["bind"].stop()
    own_lab.vantages["recursor"].kill()
    own_lab.close()
    assert not any(map(threads_of, groups))


def test_a_server_that_does_not_come_up_shows_its_log(own_lab):
    vantage = own_lab.vantages["unbound"]
    (vantage.directory / "unbound.conf").write_text("server:\n  no-such-option: 1\n")
    with pytest.raises(StartError, match="no-such-option"):
        vantage.restart()


def test_urls_say_where_and_whom_to_trust(vantages):
    urls = vantages["unbound"].urls
    ports = vantages["unbound"].ports
    ca = vantages["unbound"].ca
    assert urls == {
        "udp": f"udp://127.0.0.1:{ports['udp']}?operator=unbound",
        "tcp": f"tcp://127.0.0.1:{ports['udp']}?operator=unbound",
        "tls": f"tls://127.0.0.1:{ports['tls']}?operator=unbound&ca={ca}",
        "https": f"https://localhost:{ports['https']}/dns-query"
        f"?operator=unbound&ca={ca}&address=127.0.0.1",
    }
    assert vantages["bind"].url("udp", private=1).endswith("?operator=bind&private=1")
    with pytest.raises(LookupError, match="recursor speaks udp"):
        vantages["recursor"].tls_url  # noqa: B018


def test_a_missing_program_is_found_missing(monkeypatch):
    monkeypatch.setattr("programs.find_program", lambda _: None)
    assert "kresd" in missing_programs()
