"""Files of `resolverkit serve`: what is wrong in them, and where."""

from __future__ import annotations

from dataclasses import fields

import pytest

from resolverkit.errors import ConfigurationError
from resolverkit.server.settings import Settings


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("upstream = ['quad9']", 1, "upstream: allowed are upstreams"),
        ("upstreams = 'quad9'", 1, "upstreams='quad9': allowed is a list of strings"),
        ("upstreams = [\n 'quad9',\n 'ftp://x']", 3, "upstream 'ftp://x': allowed"),
        ("upstreams = [\n 'system',\n 'nine']", 3, "upstream 'nine': allowed are"),
        ("ca = ''\nstrategy = 'hope'", 2, "strategy='hope'"),
        ("upstreams = []", 1, "at least one"),
        ("listen = [53]", 1, "list of strings"),
        ("listen = []", 1, "at least one"),
        ("# listen = ['x']\nlisten = ['x']", 2, "address 'x': allowed are 127.0.0.1"),
        ("http = 'nowhere'", 1, "address 'nowhere'"),
        ("listen = ['192.0.2.1']", 1, "say who may ask"),
        ("explain = 1", 1, "true or false"),
        ("listen = ['127.0.0.1:0']\nworkers = '2'", 2, "a whole number"),
        ("workers = 2\nhttp = '127.0.0.1:0'", 1, "http allows 1"),
        ("workers = 0", 1, "workers=0: allowed are 1 to 64"),
        ("workers = 65", 1, "workers=65: allowed are 1 to 64"),
        ("stale = {for = 1}", 1, "for=1: allowed in stale are max_stale"),
        ("[stale]\nttl = 30\nmax_stale = 'x'", 3, "max_stale='x': allowed in stale"),
        ("[stale]\nttl = 30\nmax_stale = -1", 3, "max_stale=-1: allowed are 0 to"),
        ("stale = 'yes'", 1, "true, false or a table"),
        ("routes = {'corp.example' = []}", 1, "corp.example"),
        ("[routes]\n'corp.example' = '10.0.0.1'", 2, "table of lists of strings"),
        ("[routes]\n'corp.example' = [\n'ftp://x']", 3, "upstream 'ftp://x': allowed"),
        ("[routes]\n'a..b' = ['10.0.0.1']", 2, "routes['a..b']: allowed are names"),
        ("max_in_flight = 0", 1, "max_in_flight"),
        ("ca = ''\nstore = 'sqlite:x?max_size=1'", 2, "max_size is 1; at least"),
        ("ca = '/nowhere'\nupstreams = ['tls://192.0.2.1']", 1, "ca=/nowhere"),
        (
            "listen_https = ['127.0.0.1']\ntls_cert = '/nowhere'",
            2,
            "tls_cert='/nowhere': [Errno 2]",
        ),
        ("\n= 1", 2, "Invalid statement"),
    ],
)
def test_what_is_wrong_in_a_file_is_told(tmp_path, text, line, told):
    file = tmp_path / "stub.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as error:
        Settings.load(file, {})
    complaint = str(error.value)
    assert told in complaint
    assert f"line {line}" in complaint
    assert complaint.startswith(str(file))


def test_what_is_written_in_another_way_is_told_without_a_line(tmp_path):
    file = tmp_path / "stub.toml"
    file.write_text('\n\nupstreams = ["ftp:\\u002f/x"]')
    with pytest.raises(ConfigurationError) as error:
        Settings.load(file, {})
    assert str(error.value).startswith(f"{file}: upstream 'ftp://x': allowed")


def test_the_least_and_the_most_are_allowed():
    for workers in (1, 64):
        assert Settings(workers=workers).workers == workers
    least = Settings(max_in_flight=1, max_connections=1)
    assert (least.max_in_flight, least.max_connections) == (1, 1)
    assert Settings(listen=(), listen_tls=("127.0.0.1",)).listen == ()
    https = {"listen_https": ("127.0.0.1",), "tls_cert": "here.pem"}
    assert Settings(listen=(), **https).listen == ()


def test_nothing_is_on_that_was_not_asked_for():
    settings = Settings()
    assert (settings.explain, settings.workers, settings.http) == (False, 1, None)


AT_ONCE = {
    "allow": ["192.0.2.0/24"], "rate_limit": 0, "explain": True, "upstreams": ["quad9"],
    "strategy": "race", "on_block": "next", "stale": False, "ca": "ca.pem",
    "routes": {"corp.example": ["10.0.0.53"]},
}  # fmt: skip
AFTER_A_RESTART = {
    "listen": ["127.0.0.1:54"], "listen_tls": ["127.0.0.1"], "tls_cert": "a.pem",
    "tls_key": "b.pem", "workers": 2, "store": "sqlite:dns.db", "cache_size": 1,
    "max_in_flight": 1, "max_connections": 1, "http": "127.0.0.1:1",
}  # fmt: skip


def test_what_cannot_change_at_once_is_known():
    before = Settings()
    for name, value in AT_ONCE.items():
        assert before.needs_restart(Settings(**{name: value})) == []
    for name, value in AFTER_A_RESTART.items():
        assert before.needs_restart(Settings(**{name: value})) == [name]
    https = Settings(listen_https=("127.0.0.1",), tls_cert="a.pem")
    assert before.needs_restart(https) == ["tls_cert", "listen_https"]
    told = {*AT_ONCE, *AFTER_A_RESTART, "listen_https"}
    assert told == {field.name for field in fields(Settings)} - {"source"}


def test_a_mistake_in_an_option_is_not_told_of_the_file(tmp_path):
    file = tmp_path / "stub.toml"
    file.write_text('strategy = "race"\n')
    with pytest.raises(ConfigurationError, match="strategy='hope'") as error:
        Settings.load(file, {"strategy": "hope"})
    assert "line" not in str(error.value)


def test_options_take_precedence_over_what_is_wrong(tmp_path):
    file = tmp_path / "stub.toml"
    file.write_text('strategy = "hope"\nworkers = 2\n')
    settings = Settings.load(file, {"strategy": "race", "listen": [], "http": None})
    assert (settings.strategy, settings.workers) == ("race", 2)
    assert settings.listen == ("127.0.0.1:53",)


def test_a_file_that_is_not_there_is_told():
    with pytest.raises(ConfigurationError, match=r"/nowhere\.toml: No such file"):
        Settings.load("/nowhere.toml", {})
