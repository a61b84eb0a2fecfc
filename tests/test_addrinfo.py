"""getaddrinfo: glibc's results for a table of calls, and what is not glibc's."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest
from virtual import ms, resolver

import resolverkit
from resolverkit import interfaces, lookup, testing
from resolverkit.hosts import HostsFile
from resolverkit.testing import (
    ScriptedUpstream,
    answer,
    nodata,
    nxdomain,
    run,
    servfail,
    silent,
)

LAB = Path(__file__).with_name("glibc_lab.py")

# Calls for which glibc says something that it does not say for others of their kind.
PECULIAR = {
    # An alias of a name without the data: no data, as it says for AF_UNSPEC.
    "('alias4.example.com', 80, 10, 1, 0, 0)",
    # SERVFAIL: temporary, as it says for AF_UNSPEC and AF_INET6.
    "('broken.example.com', 80, 2, 1, 0, 0)",
    # The question's spelling is the canonical name's; ours are in lower case.
    "('BOTH.example.com', 80, 0, 1, 0, <AddressInfo.AI_CANONNAME: 2>)",
}


def namespaces():
    """What is missing for a host of our own to run glibc on."""
    if sys.platform != "linux" or os.confstr("CS_GNU_LIBC_VERSION") is None:
        return ["glibc"]
    missing = [name for name in ("unshare", "ip", "mount") if not shutil.which(name)]
    missing += [
        f"/etc/{n}" for n in ("hosts", "gai.conf") if not Path("/etc", n).exists()
    ]
    if (
        not missing
        and subprocess.run(["unshare", "-mn", "true"], check=False).returncode
    ):
        missing = ["the right to make namespaces"]
    return missing


@pytest.fixture(scope="module")
def table(require):
    require(namespaces())
    done = subprocess.run(
        ["unshare", "-mn", sys.executable, str(LAB)],
        capture_output=True, text=True, check=True, timeout=100,
    )  # fmt: skip
    return json.loads(done.stdout)


def test_200_calls_give_what_glibc_gives(table):
    assert len(table) >= 200
    differ = {call for call, theirs, ours in table if theirs != ours}
    told = [row for row in table if row[0] in differ - PECULIAR]
    assert not told


def test_the_table_has_results_and_errors_of_every_kind(table):
    errors = {theirs[1] for _, theirs, _ in table if theirs and theirs[0] == "gaierror"}
    assert errors >= {
        socket.EAI_NONAME, socket.EAI_AGAIN, socket.EAI_NODATA, socket.EAI_BADFLAGS,
        socket.EAI_SERVICE, socket.EAI_SOCKTYPE, socket.EAI_FAMILY,
        socket.EAI_ADDRFAMILY,
    }  # fmt: skip
    assert sum(not theirs or theirs[0] != "gaierror" for _, theirs, _ in table) > 100


def test_a_deprecated_source_address_is_avoided(table):
    """RFC 6724 rule 3, with what the kernel says of the addresses of that host."""
    (row,) = [row for row in table if "old.example.com" in row[0]]
    addresses = [entry[4][0] for entry in row[2]]
    assert addresses == ["2001:db8:1::13", "192.0.2.13", "2001:db8:5::99"]


# --- in virtual time -----------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_hosts_file(monkeypatch, tmp_path):
    monkeypatch.setattr(lookup, "hosts", HostsFile(tmp_path / "hosts"))
    return tmp_path / "hosts"


def steps(v4, v6):
    return lambda asked, _: v4 if asked.rdtype == 1 else v6


def asked(script, host="www.example.com", *args, **options):
    """Addresses (or the error), and in how many ms."""
    upstream = ScriptedUpstream("a", script)

    async def main():
        async with resolver(upstream) as ours:
            try:
                found = await ours.getaddrinfo(
                    host, 80, *args, type=socket.SOCK_STREAM, **options
                )
            except OSError as error:
                return error, ms()
            return sorted(entry[4][0] for entry in found), ms()

    return run(main)


def test_both_families_are_asked_at_once():
    script = steps(answer("192.0.2.1", after=0.02), answer("2001:db8::1", after=0.03))
    assert asked(script) == (["192.0.2.1", "2001:db8::1"], 30)


def test_aaaa_has_50_ms_once_a_is_there():
    """RFC 8305 section 3."""
    script = steps(answer("192.0.2.1", after=0.02), answer("2001:db8::1", after=0.5))
    assert asked(script) == (["192.0.2.1"], 70)


def test_a_is_waited_for():
    script = steps(answer("192.0.2.1", after=0.5), answer("2001:db8::1", after=0.02))
    assert asked(script) == (["192.0.2.1", "2001:db8::1"], 500)


def test_aaaa_is_waited_for_where_there_is_no_a():
    script = steps(nodata(after=0.02), answer("2001:db8::1", after=0.5))
    assert asked(script) == (["2001:db8::1"], 500)


def test_a_dead_family_does_not_take_the_other_with_it():
    script = steps(answer("192.0.2.1", after=0.02), servfail(after=0.02))
    assert asked(script) == (["192.0.2.1"], 20)


@pytest.mark.parametrize(
    ("script", "code", "cause"),
    [
        (nxdomain(), socket.EAI_NONAME, resolverkit.NXDOMAIN),
        (nodata(), socket.EAI_NODATA, resolverkit.NoAnswer),
        (servfail(), socket.EAI_AGAIN, resolverkit.NoNameservers),
        (steps(nodata(), servfail()), socket.EAI_AGAIN, resolverkit.NoNameservers),
        (silent(), socket.EAI_AGAIN, (resolverkit.NoNameservers,
                                      resolverkit.LifetimeTimeout)),
    ],
)  # fmt: skip
def test_errors_carry_the_path_of_their_cause(script, code, cause):
    error, _ = asked(script)
    assert isinstance(error, socket.gaierror)
    assert error.errno == code
    assert isinstance(error.__cause__, cause)
    assert error.__cause__.path.attempts


def test_the_lifetime_is_that_of_all_candidates():
    async def main():
        async with resolver(ScriptedUpstream("a", silent(60))) as ours:
            ours.lifetime = 1.0
            with pytest.raises(socket.gaierror):
                await ours.getaddrinfo("www.example.com", 80)
            return ms()

    assert run(main) == 1000


def test_the_hosts_file_comes_first_and_is_read_again(no_hosts_file):
    no_hosts_file.write_text("192.0.2.77 www.example.com\n")
    assert asked(nxdomain()) == (["192.0.2.77"], 0)
    no_hosts_file.write_text("192.0.2.177 www.example.com\n")
    assert asked(nxdomain()) == (["192.0.2.177"], 0)
    # A family that it does not have is asked for.
    found = asked(answer("2001:db8::1"), family=socket.AF_INET6)
    assert found == (["2001:db8::1"], 10)


def test_a_single_label_stays_with_private_upstreams():
    """As in `resolve`: a public operator is not told of the hosts around here."""

    async def main():
        public = ScriptedUpstream("a", answer("192.0.2.1"))
        private = ScriptedUpstream("b", answer("192.0.2.2"), private=True)
        async with resolver(public, private) as ours:
            found = await ours.getaddrinfo("nas", 80, type=socket.SOCK_STREAM)
        return found[0][4][0], public.count

    assert run(main) == ("192.0.2.2", 0)


def test_mapped_addresses_where_there_are_no_others():
    found = asked(
        steps(answer("192.0.2.1"), nodata()),
        family=socket.AF_INET6, flags=socket.AI_V4MAPPED,
    )  # fmt: skip
    assert found == (["::ffff:192.0.2.1"], 10)


def test_no_packet_leaves_for_what_is_no_name():
    for host in ("fe80::1%nosuch", "1::2::3"):
        upstream = ScriptedUpstream("a", nxdomain())

        async def main(host=host, upstream=upstream):
            async with resolver(upstream) as ours:
                with pytest.raises(socket.gaierror):
                    await ours.getaddrinfo(host, 80)
            return upstream.count

        assert run(main) == 0


def test_a_cancelled_call_leaves_nothing_behind():
    async def main():
        async with resolver(ScriptedUpstream("a", answer("192.0.2.1"))) as ours:
            task = asyncio.ensure_future(ours.getaddrinfo("www.example.com", 80))
            await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0.02)  # the flight went on
            return ours.store.get("www.example.com").state

    assert run(main) == "fresh"


def test_source_addresses_are_the_systems():
    loopback = ip_address("127.0.0.1")
    assert interfaces.source_of(loopback) == loopback
    assert interfaces.source_of(ip_address("255.255.255.255")) is None


def test_what_it_gives_are_sockets_constants():
    async def main():
        async with resolver(ScriptedUpstream("a", testing.answer("192.0.2.1"))) as ours:
            return await ours.getaddrinfo("192.0.2.1", "http", type=1)

    ((family, kind, *_),) = run(main)
    assert (family, kind) == (socket.AF_INET, socket.SOCK_STREAM)
    assert isinstance(family, socket.AddressFamily)
