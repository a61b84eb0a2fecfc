"""The system's servers change: a laptop joins another network, a VPN comes up.

In virtual time, with upstreams that are played: whoever a resolv.conf names is a
`ScriptedUpstream`.
"""

from __future__ import annotations

import asyncio
import io
import logging
import os
import sys
from types import SimpleNamespace

import dns.name
import dns.resolver
import pytest
from stored import FakeStore
from virtual import WWW, call, question, resolver, upstreams

from resolverkit import NXDOMAIN, Hook, Resolver, StalePolicy, stack, system, wire
from resolverkit.cache import Cache
from resolverkit.record import Record
from resolverkit.server import Server
from resolverkit.testing import (
    ScriptedUpstream,
    VirtualLoop,
    answer,
    nxdomain,
    run,
    servfail,
    silent,
)

HOME, OFFICE, VPN = "192.168.0.1", "10.0.0.1", "10.8.0.1"
ANSWERS = {
    HOME: answer("192.0.2.1", ttl=300),
    OFFICE: answer("192.0.2.2", ttl=300),
    VPN: answer("192.0.2.3", ttl=300),
}


@pytest.fixture
def conf(tmp_path):
    path = tmp_path / "resolv.conf"
    path.write_text(f"nameserver {HOME}\nsearch home.example\n")
    return path


@pytest.fixture
def network(monkeypatch):
    """The upstreams that were made, by address; what they do can be changed first."""
    scripts = dict(ANSWERS)
    made = {}

    def build(url, **_):
        made[url.address] = ScriptedUpstream(url.text, scripts[url.address])
        return made[url.address]

    monkeypatch.setattr(stack, "build", build)
    return SimpleNamespace(made=made, scripts=scripts)


@pytest.fixture
def stats(monkeypatch):
    """The paths that were looked at."""
    looked = []
    real = os.stat

    def stat(path, *args, **kwargs):
        looked.append(str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", stat)
    return lambda path: looked.count(str(path))


class Told(Hook):
    def __init__(self):
        self.servers = []

    def servers_changed(self, servers):
        self.servers.append(servers)


def configured(conf, upstreams=None, **options):
    clock = VirtualLoop.running().clock
    return Resolver(upstreams, filename=conf, clock=clock, **options)


async def later(seconds=system.LOOK_EVERY):
    await asyncio.sleep(seconds)


# --- it is noticed -------------------------------------------------------------------


def test_other_servers_are_asked_once_the_file_names_them(conf, network):
    async def main():
        async with configured(conf) as r:
            first = await call(r)
            conf.write_text(f"nameserver {OFFICE}\nnameserver {VPN}\n")
            await later()
            second = await call(r, "other.example.com")
            return first.what, second.what, list(r.nameservers)

    assert run(main) == ("192.0.2.1", "192.0.2.2", [OFFICE, VPN])


def test_a_file_that_is_replaced_is_a_file_that_changes(conf, network, tmp_path):
    """As by a rename, with the same size and date, or a symbolic link that moves."""

    async def main():
        async with configured(conf) as r:
            await call(r)
            new, date = tmp_path / "new", conf.stat()
            new.write_text(conf.read_text().replace(HOME, "192.168.0.2"))
            os.utime(new, ns=(date.st_atime_ns, date.st_mtime_ns))
            new.rename(conf)
            network.scripts["192.168.0.2"] = answer("192.0.2.9")
            await later()
            found = [(await call(r, "other.example.com")).what]
            elsewhere = tmp_path / "elsewhere"
            elsewhere.write_text(f"nameserver {VPN}\n")
            conf.unlink()
            conf.symlink_to(elsewhere)
            await later()
            return [*found, (await call(r, "third.example.com")).what]

    assert run(main) == ["192.0.2.9", "192.0.2.3"]


def test_it_is_looked_at_on_misses_only_and_once_in_a_while(
    conf, network, stats, monkeypatch
):
    def read(_):
        raise AssertionError("it has not changed")

    monkeypatch.setattr(system, "_read", read)

    async def main():
        async with configured(conf) as r:
            await call(r)
            begun = stats(conf)
            for _ in range(50):
                await call(r)
            await later()
            for _ in range(50):
                await call(r)
            hits = stats(conf) - begun
            for number in range(50):
                await call(r, f"n{number}.example.com")  # 10 ms each
            misses = stats(conf) - begun
            await later(20 * system.LOOK_EVERY)
            return hits, misses, stats(conf) - begun - misses

    assert run(main) == (0, 1, 0)


def test_who_is_told(conf, network, caplog):
    caplog.set_level(logging.INFO, "resolverkit.resolver")

    async def main():
        hook = Told()
        async with configured(conf, hook=hook) as r:
            await call(r)
            conf.write_text(f"nameserver {OFFICE}\n")
            await later()
            await call(r, "other.example.com")
            conf.write_text(f"nameserver {OFFICE}\nsearch office.example\n")
            await later()
            await call(r, "third.example.com")
        return hook.servers

    assert run(main) == [(OFFICE,)]
    told = [r.getMessage() for r in caplog.records if "system" in r.getMessage()]
    assert told == [f"the system's servers are {OFFICE}, and were {HOME}"]


# --- what stays ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, ""),
        ("", "no nameservers"),
        ("# NetworkManager is about to write this\n", "no nameservers"),
        ("nameserver nonsense\n", "nonsense"),
        ("nameserver \udcff\udcfe\n", "no server's address"),
    ],
    ids=["vanished", "empty", "comment", "no address", "no text"],
)
def test_a_file_that_cannot_be_used_changes_nothing(conf, network, caplog, text, says):
    async def main():
        async with configured(conf) as r:
            await call(r)
            conf.unlink()
            if text is not None:
                conf.write_text(text, encoding="utf-8", errors="surrogateescape")
            found = []
            for number in range(3):
                await later()
                found.append((await call(r, f"n{number}.example.com")).what)
            fresh = await call(r)
            conf.write_text(f"nameserver {OFFICE}\n")
            await later()
            found.append((await call(r, "last.example.com")).what)
            return found, fresh.source

    assert run(main) == (["192.0.2.1"] * 3 + ["192.0.2.2"], "cache")
    told = [r.getMessage() for r in caplog.records if "stay" in r.getMessage()]
    assert len(told) == bool(says)  # once
    assert all(says in text for text in told)


def test_explicit_upstreams_are_not_touched_and_private_names_follow(conf, network):
    async def main():
        (own,) = upstreams(answer("192.0.2.77", ttl=300))
        async with configured(conf, [own]) as r:
            await call(r)
            await call(r, "nas.home.example")
            conf.write_text(f"nameserver {OFFICE}\nsearch office.example\n")
            await later()
            public = await call(r, "other.example.com")
            private = await call(r, "nas.office.example")
            no_more = await call(r, "nas2.home.example")
            kept = await call(r)
            return (
                public.what, private.what, no_more.what, kept.source,
                r.nameservers == [own],
            )  # fmt: skip

    assert run(main) == ("192.0.2.77", "192.0.2.2", "192.0.2.77", "cache", True)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_private_names_go_to_the_systems_however_many_others_there_are(
    conf, network, count
):
    async def main():
        others = upstreams(*[answer("192.0.2.77")] * count)
        async with configured(conf, others) as r:
            await call(r, "db.internal")
            await call(r, "nas")
        return [upstream.count for upstream in others], network.made[HOME].count

    assert run(main) == ([0] * count, 2)


def test_system_among_the_upstreams_is_what_it_is_now(conf, network):
    async def main():
        (own,) = upstreams(servfail())
        async with configured(conf, [own, "system"], strategy="failover") as r:
            first = await call(r)
            conf.write_text(f"nameserver {OFFICE}\n")
            await later()
            return first.what, (await call(r, "other.example.com")).what

    assert run(main) == ("192.0.2.1", "192.0.2.2")


def test_what_a_user_has_set_stays(conf, network):
    async def main():
        async with (
            configured(conf) as r,
            configured(conf) as in_place,
            configured(conf, [HOME]) as same,
        ):
            r.nameservers = [VPN]
            await call(same)
            r.search = [dns.name.from_text("mine.example")]
            in_place.nameservers.append(VPN)
            await call(r)
            await call(in_place)
            conf.write_text(f"nameserver {OFFICE}\nsearch a.example\noptions ndots:3\n")
            await later()
            await call(r, "other.example.com")
            await call(in_place, "other.example.com")
            await call(same, "other.example.com")
            servers = r.nameservers, in_place.nameservers, same.nameservers
            return servers, r.search, r.ndots

    mine = [dns.name.from_text("mine.example")]
    assert run(main) == (([VPN], [HOME, VPN], [HOME]), mine, 3)


def test_search_list_and_options_follow(conf, network):
    async def main():
        network.scripts[HOME] = nxdomain()
        network.scripts[OFFICE] = {
            "printer.office.example": answer("10.0.0.9"),
        }
        async with configured(conf) as r:
            r.use_search_by_default = True
            await call(r, "printer")
            conf.write_text(
                f"nameserver {OFFICE}\nsearch office.example\noptions timeout:1\n"
            )
            await later()
            return (await call(r, "printer")).what, r.timeout

    assert run(main) == ("10.0.0.9", 1)


def test_without_configure_no_file_is_read(conf, network, stats):
    async def main():
        async with resolver(*upstreams(answer("192.0.2.1")), filename=conf) as r:
            await call(r)
            await later()
            await call(r, "other.example.com")
        return stats(conf)

    assert run(main) == 1  # where a Resolver is made


def test_an_open_file_is_read_once(network):
    async def main():
        file = io.StringIO(f"nameserver {HOME}\n")
        async with configured(file) as r:
            await call(r)
            await later()
            return (await call(r, "other.example.com")).what

    assert run(main) == "192.0.2.1"


# --- what cannot be used -------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nameserver nonsense\n", "nameserver 'nonsense': that is no server's address"),
        ("nameserver 300.1.1.1\nnameserver ::x\n", "'300.1.1.1': that is no"),
        ("nameserver system\n", "'system': that is no server's address"),
        (
            "search a..b " + "x" * 64 + "\n",
            "'a..b': that is no domain name, and 1 more",
        ),
        ("domain .x\n", "domain '.x': that is no domain name"),
        ("# caf\udce9\n\x00\x01 \udcff\n", None),
        ("nameserver\nsearch\noptions\noptions timeout: ndots:x\n\r\n", None),
    ],
)
def test_lines_that_say_nothing_usable_are_read_past(conf, caplog, text, says):
    conf.write_text(
        f"{text}nameserver {HOME}\n", encoding="utf-8", errors="surrogateescape"
    )
    r = Resolver(filename=conf)
    assert (r.nameservers, r.search, r.timeout) == ([HOME], [], 2)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == (says is not None)
    assert all(text.startswith(str(conf)) and says in text for text in told)


def test_good_suffixes_beside_bad_ones_are_kept(conf):
    conf.write_text(f"search a..b good.example\r\nnameserver {HOME}\r\n")
    assert Resolver(filename=conf).search == [dns.name.from_text("good.example")]


@pytest.mark.parametrize(
    ("text", "timeout", "ndots"),
    [
        ("timeout:0 ndots:99", 1, 15),
        ("timeout:-1 attempts:0", 1, None),
        ("timeout:99 attempts:-5", 30, None),
        ("timeout:" + "9" * 400, 30, None),
        ("timeout:3 ndots:0", 3, 0),
    ],
)
def test_times_are_those_that_the_c_library_allows(conf, text, timeout, ndots):
    conf.write_text(f"nameserver {HOME}\noptions {text}\n")
    r = Resolver(filename=conf)
    assert (r.timeout, r.ndots) == (timeout, ndots)


def test_a_timeout_of_ones_own_stays_where_a_file_says_nothing_of_it(conf):
    r = Resolver([HOME], configure=False)
    r.timeout = 0.5
    r.read_resolv_conf(conf)
    assert r.timeout == 0.5


def test_where_no_server_is_usable_the_error_says_why(conf):
    conf.write_text("nameserver nonsense\n")
    with pytest.raises(dns.resolver.NoResolverConfiguration, match="'nonsense': that"):
        Resolver(filename=conf)
    conf.write_text("")
    advice = f"no nameservers; name upstreams, or see to {conf}"
    for asked in (None, ["system", VPN]):
        with pytest.raises(dns.resolver.NoResolverConfiguration, match=advice):
            Resolver(asked, filename=conf)
    assert Resolver([VPN], filename=conf).nameservers == [VPN]


# --- what was learnt elsewhere -------------------------------------------------------


def test_what_was_learnt_elsewhere_is_asked_for_again(conf, network):
    """An intranet's address is none outside, and what was denied outside is there."""

    async def main():
        network.scripts[HOME] = {
            WWW: answer("192.0.2.1"),
            "wiki.example.com": nxdomain(),
        }
        async with configured(conf) as r:
            before = [await call(r), await call(r, "wiki.example.com")]
            conf.write_text(f"nameserver {OFFICE}\n")
            await later()
            await call(r, "other.example.com")
            after = [await call(r), await call(r, "wiki.example.com"), await call(r)]
            return [got.what for got in before], [(g.what, g.source) for g in after]

    before, after = run(main)
    assert before == ["192.0.2.1", "NXDOMAIN"]
    assert after == [("192.0.2.2", "upstream")] * 2 + [("192.0.2.2", "cache")]


def test_it_is_last_known_good_where_the_new_servers_fail(conf, network):
    async def main():
        network.scripts[OFFICE] = servfail()
        async with configured(conf) as r:
            await call(r)
            conf.write_text(f"nameserver {OFFICE}\n")
            await later()
            got = await call(r)
            return got.what, got.source, got.path.stale_for

    assert run(main) == ("192.0.2.1", "stale", 0.0)


def test_routes_keep_what_is_theirs(conf, network):
    async def main():
        (own,) = upstreams(answer("10.9.9.9", ttl=300))
        async with configured(conf, routes={"corp.example": [own]}) as r:
            await call(r, "db.corp.example")
            conf.write_text(f"nameserver {OFFICE}\n")
            await later()
            await call(r, "other.example.com")
            return (await call(r, "db.corp.example")).source

    assert run(main) == "cache"


def test_a_flight_under_way_goes_to_the_new_servers(conf, network):
    """Who waited for servers that cannot be reached any more need not wait longer."""

    async def main():
        network.scripts[HOME] = silent(60)
        async with configured(conf) as r:
            waiting = asyncio.ensure_future(call(r, lifetime=9))
            await later(2.5)
            conf.write_text(f"nameserver {OFFICE}\n")
            await call(r, "other.example.com")
            got = await waiting
            return got.what, got.source, got.took

    assert run(main) == ("192.0.2.2", "upstream", 2510)


def test_so_does_one_that_waits_for_a_store(conf, network):
    async def main():
        async with configured(conf, store=FakeStore(budget=9, after=0.05)) as r:
            waiting = asyncio.ensure_future(call(r))  # 100 ms to open the store
            await asyncio.sleep(0.001)
            conf.write_text(f"nameserver {OFFICE}\n")
            r._look_at = 0.0  # as if its time had come
            other = await call(r, "other.example.com")
            return other.what, (await waiting).what

    assert run(main) == ("192.0.2.2", "192.0.2.2")


def test_the_failure_of_the_old_servers_does_not_end_it(conf, network):
    """They have failed while the store was looked into; the new ones are asked."""

    async def main():
        network.scripts[HOME] = servfail()
        network.scripts[OFFICE] = answer("192.0.2.2", after=0.3)
        async with configured(conf, store=FakeStore(budget=9, after=0.2)) as r:
            waiting = asyncio.ensure_future(call(r))
            await asyncio.sleep(0.15)
            conf.write_text(f"nameserver {OFFICE}\n")
            r._look_at = 0.0
            other = await call(r, "other.example.com")
            return other.what, (await waiting).what

    assert run(main) == ("192.0.2.2", "192.0.2.2")


def test_failures_of_the_old_servers_say_nothing(conf, network):
    async def main():
        network.scripts[HOME] = servfail()
        async with configured(conf) as r:
            before = await call(r)
            conf.write_text(f"nameserver {OFFICE}\n")
            await later()
            return before.what, (await call(r)).what

    assert run(main) == ("NoNameservers", "192.0.2.2")


def test_a_store_does_not_bring_it_back_as_fresh():
    now = [1000.0]
    cache = Cache(lambda: now[0], StalePolicy())
    asked = question()
    reply = wire.read_reply(asked, answer("192.0.2.1", ttl=300).make(asked))
    record = Record(asked.key, reply.wire, 300, 10.0)
    cache.moved({b"private"})
    assert cache.adopt(record, reply, now[0]).expires == 1290
    cache.clear()
    now[0] += 1
    cache.moved({b""})
    assert cache.adopt(record, reply, now[0]).expires == 1001
    cache.clear()
    now[0] += 20  # by now others have learnt it on this network
    assert cache.adopt(record, reply, now[0]).expires == 1311


# --- systemd-resolved ----------------------------------------------------------------


@pytest.fixture
def resolved(conf, network, monkeypatch, tmp_path):
    """Where systemd-resolved writes whom it asks; resolv.conf names itself alone."""
    uplinks = tmp_path / "uplinks"
    monkeypatch.setattr(system, "UPLINKS", uplinks)
    conf.write_text("nameserver 127.0.0.53\noptions edns0 trust-ad\n")
    uplinks.write_text(f"nameserver {HOME}\n")
    network.scripts["127.0.0.53"] = answer("192.0.2.1", ttl=300)
    return uplinks


def test_the_servers_behind_systemd_resolved_are_followed(conf, network, resolved):
    async def main():
        hook = Told()
        async with configured(conf, hook=hook) as r:
            found = [(await call(r)).source]
            await later()
            await call(r, "other.example.com")
            found.append((await call(r)).source)
            network.scripts["127.0.0.53"] = answer("192.0.2.2", ttl=300)
            resolved.write_text(f"nameserver {OFFICE}\n")
            await later()
            await call(r, "third.example.com")
            got = await call(r)
            resolved.write_text("")  # about to be written
            await later()
            await call(r, "fourth.example.com")
            found += [got.source, got.what, (await call(r)).source]
            return found, hook.servers

    found, told = run(main)
    assert found == ["upstream", "cache", "upstream", "192.0.2.2", "cache"]
    assert told == [(OFFICE,)]


def test_whom_resolved_asks_does_not_matter_to_upstreams_of_ones_own(
    conf, network, resolved
):
    async def main():
        (own,) = upstreams(answer("192.0.2.77", ttl=300))
        async with configured(conf, [own]) as r:
            await call(r)
            await call(r, "db.internal")
            resolved.write_text(f"nameserver {OFFICE}\n")
            await later()
            await call(r, "other.example.com")
            return (await call(r)).source, (await call(r, "db.internal")).source

    assert run(main) == ("cache", "upstream")


# --- systems -------------------------------------------------------------------------


@pytest.fixture
def windows(monkeypatch):
    """What dnspython reads from the registry, and how often it was read."""
    info = SimpleNamespace(
        domain=dns.name.from_text("home.example"), nameservers=[HOME], search=[], read=0
    )

    def get_dns_info():
        info.read += 1
        return info

    win32util = SimpleNamespace(get_dns_info=get_dns_info)
    monkeypatch.setattr(dns, "win32util", win32util, raising=False)
    monkeypatch.setattr(sys, "platform", "win32")
    return info


def test_windows_is_read_by_dnspython_from_the_registry(network, windows):
    async def main():
        async with configured("/nonexistent") as r:
            found = [(await call(r)).what]
            windows.nameservers, windows.search = [OFFICE], [dns.name.from_text("o.")]
            await later(system.LOOK_EVERY_ON_WINDOWS)
            found.append((await call(r, "other.example.com")).what)
            windows.nameservers = []  # no network
            await later(system.LOOK_EVERY_ON_WINDOWS)
            found.append((await call(r, "third.example.com")).what)
            read = windows.read
            await call(r, "fourth.example.com")
            return found, windows.read - read, r.search

    found, read, search = run(main)
    assert found == ["192.0.2.1", "192.0.2.2", "192.0.2.2"]
    assert (read, search) == (0, [dns.name.from_text("o.")])


def test_macos_is_read_by_dnspython_from_the_file_that_the_system_keeps(
    conf, network, monkeypatch
):
    monkeypatch.setattr(sys, "platform", "darwin")
    test_other_servers_are_asked_once_the_file_names_them(conf, network)


# --- a stub --------------------------------------------------------------------------


def test_a_stub_does_not_follow_the_system_to_itself(conf, monkeypatch, caplog):
    """Its host was told to ask it, after it had begun with the servers before."""

    async def main():
        async with Resolver(filename=conf) as r:
            r.port = 1
            async with Server(r, ["127.0.0.1:0"]) as server:
                host, r.port = server.addresses[0]
                conf.write_text(f"nameserver {host}\n")
                r._look_at = float("-inf")
                r._bind(None)
                return list(r.nameservers)

    assert asyncio.run(main()) == [HOME]
    assert "is this server itself" in caplog.text


def test_a_stub_whose_host_asks_it_starts_again_with_upstreams_of_its_own(conf):
    async def main():
        conf.write_text("nameserver 127.0.0.1\n")
        others = upstreams(answer("192.0.2.1"), answer("192.0.2.1"))
        async with Resolver(others, filename=conf) as r:
            async with Server(r, ["127.0.0.1:0"]) as first:
                port = first.addresses[0].port
            r.port = port
            async with Server(r, [f"127.0.0.1:{port}"]):
                with pytest.raises(NXDOMAIN) as caught:
                    await r.resolve("db.internal")
                assert caught.value.path.source == "local"
                return (await r.resolve(WWW))[0].address

    assert asyncio.run(main()) == "192.0.2.1"
