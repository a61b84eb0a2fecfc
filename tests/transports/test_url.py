"""transports.url: every form of the grammar, and what is told of the rest."""

from __future__ import annotations

import asyncio
import base64
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from resolverkit.errors import ConfigurationError
from resolverkit.transports.url import UpstreamURL, build, is_private, parse
from resolverkit.upstream import Upstream

PIN = "sha256/" + base64.b64encode(bytes(range(219, 251))).decode()
assert "+" in PIN


@pytest.mark.parametrize(
    ("text", "scheme", "host", "port", "address", "shown"),
    [
        ("9.9.9.9", "udp", "9.9.9.9", 53, "9.9.9.9", "udp://9.9.9.9"),
        ("9.9.9.9:5353", "udp", "9.9.9.9", 5353, "9.9.9.9", "udp://9.9.9.9:5353"),
        ("9.9.9.9:53", "udp", "9.9.9.9", 53, "9.9.9.9", "udp://9.9.9.9"),
        ("2620:fe::fe", "udp", "2620:fe::fe", 53, "2620:fe::fe", "udp://[2620:fe::fe]"),
        ("[2620:fe::fe]", "udp", "2620:fe::fe", 53, "2620:fe::fe", "udp://[2620:fe::fe]"),
        ("[::1]:54", "udp", "::1", 54, "::1", "udp://[::1]:54"),
        ("fe80::1%lo", "udp", "fe80::1%lo", 53, "fe80::1%lo", "udp://[fe80::1%lo]"),
        ("udp://9.9.9.9", "udp", "9.9.9.9", 53, "9.9.9.9", "udp://9.9.9.9"),
        ("udp://[::1]:54", "udp", "::1", 54, "::1", "udp://[::1]:54"),
        ("tcp://ns.example:54", "tcp", "ns.example", 54, "", "tcp://ns.example:54"),
        ("TLS://Dns.Example", "tls", "dns.example", 853, "", "tls://dns.example"),
        ("tls://1.1.1.1/", "tls", "1.1.1.1", 853, "1.1.1.1", "tls://1.1.1.1"),
        ("tls://[::1]", "tls", "::1", 853, "::1", "tls://[::1]"),
        ("tls://bücher.example", "tls", "bücher.example", 853, "", "tls://bücher.example"),
        ("tls://x_y.example.", "tls", "x_y.example.", 853, "", "tls://x_y.example."),
        ("https://h.example", "https", "h.example", 443, "", "https://h.example/dns-query"),
        ("https://h.example:8443/", "https", "h.example", 8443, "",
         "https://h.example:8443/dns-query"),
        ("https://h.example/a/b", "https", "h.example", 443, "", "https://h.example/a/b"),
        ("https://h.example/a%2Fb", "https", "h.example", 443, "",
         "https://h.example/a%2Fb"),
        ("https://h.example/q{?dns}", "https", "h.example", 443, "",
         "https://h.example/q"),
        ("https://8.8.8.8/q", "https", "8.8.8.8", 443, "8.8.8.8", "https://8.8.8.8/q"),
    ],
)  # fmt: skip
def test_forms(text, scheme, host, port, address, shown):
    url = parse(text)
    assert url.text == text
    assert (url.scheme, url.host, url.port) == (scheme, host, port)
    assert url.address == address
    assert url.path == urlsplit(shown).path
    end = url.endpoint
    assert (end.name, end.address, end.port) == (shown, address, port)
    kinds = {"udp": "udp", "tcp": "tcp", "tls": "dot", "https": "doh"}
    assert end.transport == kinds[scheme]
    assert parse(shown).endpoint == end  # what is shown is a URL for the same


def test_parameters():
    url = parse(
        "https://h.example/q?address=192.0.2.9&ca=/path/ca%20x.pem&source=192.0.2.7"
        f"&operator=An%20Op&private=1&filtering=1&pin={PIN}&pin={PIN}"
    )
    assert url.address == url.endpoint.address == "192.0.2.9"
    assert url.host == "h.example"
    assert (url.ca, url.source, url.operator) == (
        "/path/ca x.pem", "192.0.2.7", "An Op",
    )  # fmt: skip
    assert (url.private, url.filtering) == (True, True)
    assert url.pins == (PIN, PIN)
    assert url.endpoint.name == "https://h.example/q"
    assert (url.endpoint.private, url.endpoint.filtering) == (True, True)
    assert url.endpoint.operator == "An Op"


def test_no_parameters():
    url = parse("tls://h.example")
    assert (url.ca, url.pins, url.source, url.operator) == (None, (), None, "")
    assert (url.private, url.filtering, url.unsigned_block) == (False, False, False)


@pytest.mark.parametrize(
    ("text", "private"),
    [
        ("10.0.0.1", True), ("192.168.1.1:5353", True), ("172.31.0.1", True),
        ("127.0.0.1", True), ("[::1]:53", True), ("fe80::1%eth0", True),
        ("fd00::1", True), ("169.254.1.1", True), ("9.9.9.9", False),
        ("2620:fe::fe", False), ("tls://ns.example", False),
        ("tls://ns.example?address=10.0.0.1", True),
        ("tls://ns.example?private=1", True), ("10.0.0.1:53", True),
        ("udp://10.0.0.1?private=0", False), ("udp://9.9.9.9?private=1", True),
    ],
)  # fmt: skip
def test_private_upstreams(text, private):
    assert parse(text).private is private


def test_is_private():
    assert is_private("fe80::1%eth0")
    assert not is_private("1.1.1.1")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "allowed are an IP address"),
        ("9.9.9", "allowed are"),
        ("9.9.9.9:", "allowed are"),
        ("9.9.9.9:dns", "allowed are"),
        ("9.9.9.9:5\N{FULLWIDTH DIGIT THREE}", "allowed are"),
        ("9.9.9.9:0", "ports are 1 to 65535"),
        ("9.9.9.9:65536", "ports are 1 to 65535"),
        ("9.9.9.9:" + "9" * 5000, "ports are 1 to 65535"),
        ("dns.example", "allowed are"),
        ("dns.example:53", "allowed are"),
        ("::1:53:53:53:53:53:53:53:53", "allowed are"),
        ("[::1", "allowed are"),
        ("quic://9.9.9.9", "allowed are"),
        ("http://h.example/dns-query", "allowed are"),
        ("://9.9.9.9", "allowed are"),
        ("udp://", "no host"),
        ("https:///dns-query", "no host"),
        ("udp://9.9.9.9:0", "ports are 1 to 65535"),
        ("udp://9.9.9.9:65536", "ort"),
        ("udp://9.9.9.9:x", "ort"),
        ("tls://[::1", "IPv6"),
        ("tls://[::g]", "::g"),
        ("tls://user@h.example", "no user"),
        ("tls://u:p@h.example", "no user"),
        ("tls://h.example#x", "no fragment"),
        ("tls://h.example/path", "only https:// has a path"),
        ("https://h.example/a b", "not a path"),
        ("https://h.example/é", "not a path"),
        ("tls://a..example", "label is empty"),
        ("tls://.", "neither a host name nor an IP address"),
        (f"tls://{'a' * 64}.example", "> 63"),
        (f"tls://{'a.' * 128}example", "> 255"),
        ("tls://a b.example", "neither a host name nor an IP address"),
        ("tls://a%2eb.example", "neither a host name nor an IP address"),
        ("tls://9.9.9", "neither a host name nor an IP address"),
        ("udp://999.9.9.9", "neither a host name nor an IP address"),
        ("tls://h.example?adress=::1", "'adress'; tls:// allows address, ca,"),
        ("udp://9.9.9.9?ca=/x", "'ca'; udp:// allows address, filtering,"),
        ("9.9.9.9?private=1", "allowed are"),
        ("tls://h.example?address", "address= needs a value"),
        ("tls://h.example?ca=", "ca= needs a value"),
        ("tls://h.example?address=ns.example", "address=ns.example is no IP address"),
        ("tls://h.example?address=1.1.1.1&address=1.0.0.1", "address= is given twice"),
        ("udp://9.9.9.9?source=eth0", "source=eth0 is no IP address"),
        ("tls://h.example?private=yes", "private=yes: allowed are 0, 1"),
        ("tls://h.example?filtering=2", "filtering=2: allowed are 0, 1"),
        ("tls://h.example?pin=abc", "pin=abc is not sha256/"),
        ("tls://h.example?pin=sha256/abc", "is not sha256/"),
        ("tls://h.example?pin=sha256/" + "é" * 44, "is not sha256/"),
        ("tls://h.example?pin=sha1/" + PIN[7:], "is not sha256/"),
    ],
)  # fmt: skip
def test_refused(text, told):
    with pytest.raises(ConfigurationError) as caught:
        parse(text)
    assert str(caught.value).startswith(f"upstream {text!r}: ")
    assert told in str(caught.value)
    assert isinstance(caught.value, ValueError)


PIECES = st.sampled_from(
    ["udp", "tcp", "tls", "https", "://", ":", "/", "//", "?", "&", "=", "#", "@", "[",
     "]", "%", "9.9.9.9", "::1", "h.example", "53", "address", "pin", "ca", "private",
     "sha256/", "1", "{?dns}", " ", "\n", "é", "..", "\0", "\uff0f"]
)  # fmt: skip


@settings(max_examples=300)
@given(st.text(max_size=40) | st.lists(PIECES, max_size=9).map("".join))
@example("tls://[::1%0]:53")
def test_any_text_gives_a_url_or_an_error_that_names_it(text):
    try:
        url = parse(text)
    except ConfigurationError as error:
        assert repr(text) in str(error)  # noqa: PT017 - either is fine
    else:
        assert isinstance(url, UpstreamURL)
        assert url.text == text
        assert 0 < url.port < 65_536
        assert url.host
        assert url.endpoint.name.startswith(f"{url.scheme}://")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("127.0.0.1:1", "Do53"),
        ("tcp://127.0.0.1:1", "Tcp"),
        ("tls://127.0.0.1:1", "Dot"),
        ("https://127.0.0.1:1/x", "Doh"),
        (f"tls://127.0.0.1:1?pin={PIN}", "Dot"),
    ],
)
def test_build(text, name):
    async def main():
        url = parse(text)
        upstream = build(url, timeout=1.0, source="127.0.0.1")
        assert type(upstream).__name__ == name
        assert isinstance(upstream, Upstream)
        assert upstream.name == url.endpoint.name
        await upstream.aclose()
        await upstream.aclose()

    asyncio.run(main())


def test_a_ca_file_that_is_none_is_told_at_once(tmp_path):
    for path in (tmp_path / "missing.pem", tmp_path):
        with pytest.raises(ConfigurationError, match="ca="):
            build(parse(f"tls://127.0.0.1?ca={path}"), timeout=1.0)
