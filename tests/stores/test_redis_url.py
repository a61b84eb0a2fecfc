"""The grammar of a Redis store's URL."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolverkit.errors import ConfigurationError
from resolverkit.stores.redis import RedisStore
from resolverkit.stores.redis_url import MAX_STALE, RedisURL, parse


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("redis://h", "redis://h", {"hosts": (("h", 6379),)}),
        ("redis://h:6379/0", "redis://h", {"hosts": (("h", 6379),)}),
        ("REDIS://h/", "redis://h", {"hosts": (("h", 6379),)}),
        ("redis://h:1/2", "redis://h:1/2", {"hosts": (("h", 1),), "database": 2}),
        ("redis://[::1]:7", "redis://[::1]:7", {"hosts": (("::1", 7),)}),
        (
            "redis://u:p%40%2F@h",
            "redis://h",
            {"hosts": (("h", 6379),), "user": "u", "password": "p@/"},
        ),
        (
            "redis://:a:b@c@h",
            "redis://h",
            {"hosts": (("h", 6379),), "password": "a:b@c"},
        ),
        (
            "rediss://192.0.2.1?ca=/x.pem",
            "rediss://192.0.2.1",
            {"hosts": (("192.0.2.1", 6379),), "tls": True, "ca": "/x.pem"},
        ),
        (
            "unix:///run/r%20s.sock",
            "unix:///run/r s.sock",
            {"path": "/run/r s.sock"},
        ),
        (
            "unix://u:p@/run/r.sock?db=3",
            "unix:///run/r.sock?db=3",
            {"path": "/run/r.sock", "user": "u", "password": "p", "database": 3},
        ),
        (
            "redis+cluster://:p@a,b:1,[::2]:3",
            "redis+cluster://a,b:1,[::2]:3",
            {
                "hosts": (("a", 6379), ("b", 1), ("::2", 3)),
                "password": "p",
                "cluster": True,
            },
        ),
        (
            "rediss://h?cluster=1",
            "rediss+cluster://h",
            {"hosts": (("h", 6379),), "tls": True, "cluster": True},
        ),
        ("redis://h?cluster=0", "redis://h", {"hosts": (("h", 6379),)}),
        (
            "redis://h?prefix=a%3Ab&max_stale=60",
            "redis://h",
            {"hosts": (("h", 6379),), "prefix": b"a:b", "max_stale": 60},
        ),
    ],
)
def test_what_a_url_says(text, name, expected):
    assert parse(text) == RedisURL(**expected)
    assert str(parse(text)) == name


def test_what_is_not_said():
    url = parse("redis://h")
    assert (url.prefix, url.max_stale) == (b"resolverkit:", MAX_STALE)
    assert MAX_STALE == 7 * 24 * 3600


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "allowed are redis://"),
        ("h", "allowed are redis://"),
        ("redis:h", "allowed are redis://"),
        ("http://h", "allowed are redis://"),
        ("unix+cluster:///h", "allowed are redis://"),
        ("redis://", "'' is not a host"),
        ("redis://h h", "is not a host"),
        ("redis://h:0", "port '0': allowed are 1 to 65535"),
        ("redis://h:65536", "port '65536'"),
        ("redis://h:x", "is not a host"),
        ("redis://[::1", "Invalid IPv6 URL"),
        ("redis://a,b", "several hosts are a cluster"),
        ("redis+cluster://a,,b", "'' is not a host"),
        ("redis+cluster://a/1", "a cluster has the database 0 only"),
        ("redis://h/x", "database 'x': allowed are 0 to"),
        ("redis://h/-1", "database '-1'"),
        ("redis://h/1/2", "database '1/2'"),
        ("redis://h/99999999999", "database '99999999999'"),
        ("unix://run/r.sock", "three slashes"),
        ("unix://", "three slashes"),
        ("unix:///", "three slashes"),
        ("redis://h#f", "no fragment"),
        ("redis://h?db=1", "unknown parameter 'db'; redis:// allows cluster, max_st"),
        ("redis://h?ca=/x", "unknown parameter 'ca'"),
        ("redis+cluster://h?cluster=1", "unknown parameter 'cluster'"),
        ("redis://h?cluster=2", "allowed are 0, 1"),
        ("redis://h?max_stale=0", "max_stale '0': allowed are 1 to"),
        ("redis://h?max_stale=1.5", "max_stale '1.5'"),
        ("redis://h?prefix=", "prefix= needs a value"),
        ("redis://h?prefix=a&prefix=b", "prefix= is given twice"),
    ],
)
def test_what_a_url_may_not_say_is_told(text, why):
    with pytest.raises(ConfigurationError) as told:
        RedisStore(text)
    assert str(told.value).startswith(f"store {text!r}: ")
    assert why in str(told.value)


@pytest.mark.parametrize(
    "text",
    [
        "redis://u:s3cret@h:x",
        "redis://:s3cret@h/x",
        "rredis://:s3cret@h",
        "redis://:s3/cret@h",
        "redis://:s3?cret=s3@h",
        "redis://:s3#s3cret@h",
        "redis://h?password=s3cret",
        "unix://:s3cret@run/r.sock",
        "redis:u:s3cret@h",
        "redis+cluster://:s3cret@h/1",
    ],
)
def test_no_error_tells_a_password(text):
    with pytest.raises(ConfigurationError) as told:
        parse(text)
    assert "s3" not in str(told.value)
    assert told.value.__cause__ is None


def test_nothing_shows_a_password():
    store = RedisStore("redis://user:s3cret@h")
    assert "s3cret" not in store.name + repr(store) + repr(store._url)


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_a_ca_file_that_cannot_be_used_is_told(tmp_path, content):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigurationError, match=rf"ca={path}: .*; allowed is a read"):
        RedisStore(f"rediss://h?ca={path}")


@given(st.text())
def test_any_text_is_a_url_or_a_configuration_error(text):
    for url in (text, f"redis://{text}", f"unix:///{text}", f"redis+cluster://{text}"):
        try:
            found = parse(url)
        except ConfigurationError:
            continue
        assert found.hosts or found.path
        str(found).encode()
