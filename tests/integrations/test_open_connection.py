"""`open_connection`: by name, by service record, with expired addresses."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time

import pytest
import trustme
from web import HERE, NOBODY, Names, lookups, run

import resolverkit
from resolverkit.testing import (
    ScriptedUpstream,
    answer,
    nodata,
    nxdomain,
    servfail,
    silent,
)


async def hello(_, writer):
    writer.write(b"hello")
    writer.close()


def script(**names):
    """Steps by name, with _ for the dot; what is not there is denied."""
    steps = {name.replace("_", "."): step for name, step in names.items()}

    def play(asked, _):
        name, rdtype = str(asked).split()
        step = steps.get(name.rstrip("."))
        if isinstance(step, dict):
            step = step.get(rdtype, nodata(after=0.001))
        return step or nxdomain(after=0.001)

    return ScriptedUpstream("a", play)


def connect(upstream, host="web.test", times=1, after=lambda: None, **options):
    """What the server said, or the error; and how often somebody was asked."""
    make = options.pop("make", {"configure": False})
    tls, serve = options.pop("tls", None), options.pop("serve", hello)

    async def main():
        server = await asyncio.start_server(serve, HERE, 0, ssl=tls)
        port = server.sockets[0].getsockname()[1]
        results = []
        async with server, resolverkit.Resolver(upstream, **make) as resolver:
            for _ in range(times):
                try:
                    reader, writer = await resolverkit.open_connection(
                        host, **{"port": port, "resolver": resolver, **options}
                    )
                    results.append((await reader.read()).decode())
                    writer.close()
                    await writer.wait_closed()
                except OSError as error:
                    results.append(error)
                after()
            await asyncio.sleep(0.02)
        return results

    return run(main)


def test_by_name():
    assert connect(script(web_test=answer(HERE, after=0.001))) == ["hello"]


def test_by_address_nobody_is_asked():
    upstream = script()
    assert connect(upstream, HERE) == ["hello"]
    assert upstream.count == 0


def test_the_next_address_is_tried():
    upstream = script(web_test=answer(NOBODY, HERE, after=0.001))
    assert connect(upstream) == ["hello"]


@pytest.mark.parametrize("service", ["", "test"], ids=["plain", "service"])
def test_one_family_alone_may_be_wanted(service):
    def play(asked, _):
        name, rdtype = str(asked).split()
        if name.endswith("._test.web.test."):
            return answer(f"1 nosuch.test. ipv4hint={HERE}", after=0.001)
        if name == "web.test." and rdtype in {"A", "AAAA"}:
            return answer(HERE, "::1", after=0.001)
        return nxdomain(after=0.001)

    def get(host, family):
        upstream = ScriptedUpstream("a", play)
        return connect(upstream, host, family=family, service=service)

    for host in ("web.test", HERE):
        (error,) = get(host, socket.AF_INET6)
        assert isinstance(error, OSError)
        assert get(host, socket.AF_INET) == ["hello"]


def test_the_local_address_may_be_said():
    async def tell(_, writer):
        writer.write(writer.get_extra_info("peername")[0].encode())
        writer.close()

    def get(at):
        upstream = script(web_test=answer(HERE, after=0.001))
        return connect(upstream, serve=tell, local_addr=at)

    assert get(("127.0.0.5", 0)) == ["127.0.0.5"]
    (error,) = get(("::1", 0))  # of a family that the host has not
    assert isinstance(error, OSError)


def test_errors_are_sockets():
    (error,) = connect(script(), "nosuch.test")
    assert isinstance(error, socket.gaierror)
    (error,) = connect(script(web_test=answer(NOBODY, after=0.001)))
    assert isinstance(error, ConnectionRefusedError)


def test_an_expired_address_that_does_not_connect_is_asked_for_again():
    names = Names(NOBODY)

    def move():
        names.expire()
        names.address = HERE

    refused, got = connect(names.upstream, times=2, after=move, make=names.options)
    assert isinstance(refused, ConnectionRefusedError)
    assert got == "hello"


@pytest.mark.parametrize("expired", [True, False])
def test_it_is_asked_for_again_once_and_only_if_expired(expired):
    names = Names(NOBODY)
    after = names.expire if expired else lambda: None
    with lookups() as asked:
        found = connect(names.upstream, times=2, after=after, make=names.options)
    assert [type(error) for error in found] == [ConnectionRefusedError] * 2
    assert asked == [False, False, True][: 2 + expired]


def test_tls_is_for_the_name():
    ca = trustme.CA()
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("web.test").configure_cert(server_side)
    context = ssl.create_default_context()
    ca.configure_trust(context)
    upstream = script(web_test=answer(HERE, after=0.001))
    assert connect(upstream, tls=server_side, ssl=context) == ["hello"]


# --- services (RFC 9460) -------------------------------------------------------------


def with_service(record, port=0, **names):
    """Connect to web.test on a port that nobody listens on, but by its record."""
    steps = {}

    async def main():
        server = await asyncio.start_server(hello, HERE, 0)
        there = server.sockets[0].getsockname()[1]
        service = answer(record.format(port=there), after=0.001)
        steps.update({"_1._https.web.test": {"HTTPS": service}, **names})
        upstream = ScriptedUpstream("a", play)
        async with server, resolverkit.Resolver(upstream, configure=False) as resolver:
            reader, writer = await resolverkit.open_connection(
                "web.test", 1, service="https", resolver=resolver
            )
            said = await reader.read()
            writer.close()
            await writer.wait_closed()
            return said

    def play(asked, _):
        name, rdtype = str(asked).split()
        step = steps.get(name.rstrip("."), nxdomain(after=0.001))
        if isinstance(step, dict):
            step = step.get(rdtype, nodata(after=0.001))
        return step

    steps["web.test"] = answer(NOBODY, after=0.001)
    return run(main)


def test_a_record_names_another_host_and_port():
    names = {"svc.test": answer(HERE, after=0.001)}
    assert with_service("1 svc.test. port={port}", **names) == b"hello"


def test_hints_serve_where_addresses_are_missing():
    record = f"1 svc.test. port={{port}} ipv4hint={HERE}"
    assert with_service(record) == b"hello"


def test_the_host_itself_comes_last():
    with pytest.raises(OSError, match=r"127\.0\.0\.9"):
        with_service("1 svc.test. port=1", **{"svc.test": answer(NOBODY, after=0.001)})


def test_an_alias_is_followed():
    names = {
        "pool.test": {
            "HTTPS": answer("1 . port=1", after=0.001),
            "A": answer(HERE, after=0.001),
        }
    }
    with pytest.raises(OSError, match="Connect call failed") as caught:
        with_service("0 pool.test.", **names)
    assert caught.value


@pytest.mark.parametrize("records", [nodata(), servfail()])
def test_an_alias_of_a_host_without_service_records_is_that_host(records):
    """RFC 9460 section 3: where an alias ends is tried before the host itself."""

    def play(asked, _):
        name, rdtype = str(asked).split()
        if name.endswith("._https.web.test."):
            return answer("0 pool.test.", after=0.001)
        if name == "pool.test." and rdtype == "HTTPS":
            return records
        if rdtype == "A":
            return answer(HERE if name == "pool.test." else NOBODY, after=0.001)
        return nodata(after=0.001)

    assert connect(ScriptedUpstream("a", play), service="https") == ["hello"]


def test_a_silent_service_record_costs_50_ms_at_most():
    upstream = script(
        web_test={"A": answer(HERE, after=0.001), "HTTPS": silent(60)},
    )
    loop_time = []

    async def main():
        server = await asyncio.start_server(hello, HERE, 0)
        port = server.sockets[0].getsockname()[1]
        async with server, resolverkit.Resolver(upstream, configure=False) as resolver:
            began = asyncio.get_running_loop().time()
            _, writer = await resolverkit.open_connection(
                "web.test", port, service="https", resolver=resolver
            )
            loop_time.append(asyncio.get_running_loop().time() - began)
            writer.close()
            await writer.wait_closed()

    run(main)
    assert loop_time[0] < 1  # 50 ms, on a machine at rest


def targets(*records, ends=None):
    """An upstream for web.test with service records, whose targets do not answer."""

    def play(asked, _):
        name = str(asked).split()[0]
        if name.endswith("._test.web.test."):
            return answer(*records, after=0.001)
        if name == "web.test.":
            return answer(ends or HERE, after=0.001)
        return answer(HERE, after=60)

    return ScriptedUpstream("a", play)


def test_targets_that_are_silent_cost_250_ms_each_at_most():
    upstream = targets(*(f"{n} s{n}.test." for n in range(1, 5)))
    began = time.monotonic()
    assert connect(upstream, service="test") == ["hello"]
    assert time.monotonic() - began < 10  # 1 s, on a machine at rest
    asked = [text.split()[0] for _, text in upstream.asked]
    assert {f"s{n}.test." for n in range(1, 5)} <= {*asked}


def test_hints_serve_where_a_target_is_silent():
    upstream = targets(f"1 s.test. ipv4hint={HERE}", ends=NOBODY)
    assert connect(upstream, service="test") == ["hello"]


def test_a_target_that_can_be_no_host_is_passed_over():
    upstream = targets("1 " + "\\255" * 20 + ".test.")
    assert connect(upstream, service="test") == ["hello"]


def test_a_name_that_no_service_record_can_have_does_without():
    """With the labels of a service before it, it would be too long."""
    host = ".".join(["a" * 60] * 4)
    upstream = script(**{host: answer(HERE, after=0.001)})
    assert connect(upstream, host, service="https") == ["hello"]
    (error,) = connect(script(), f"{host}.{host}", service="https")
    assert isinstance(error, socket.gaierror)
