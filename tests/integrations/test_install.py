"""`install`: who is asked while it lasts, and that everything is put back."""

from __future__ import annotations

import asyncio
import http.client
import http.server
import os
import smtplib
import socket
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dns.resolver
import pytest

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))

from loopback_lab import lab_in_thread  # noqa: E402

import resolverkit  # noqa: E402
from resolverkit import blocking  # noqa: E402
from resolverkit.background import background  # noqa: E402
from resolverkit.testing import Fault  # noqa: E402

RECORDS = {
    "here.test.": "300 A 127.0.0.1",
    "alias.test.": "300 CNAME here.test.",
    "two.test.": ["300 A 127.0.0.2", "300 A 127.0.0.3"],
    "www.example.com.": ["300 A 192.0.2.1", "300 AAAA 2001:db8::1"],
}
REPLACED = [
    (socket, "getaddrinfo"),
    (socket, "gethostbyname"),
    (socket, "gethostbyname_ex"),
    (asyncio.BaseEventLoop, "getaddrinfo"),
]


@pytest.fixture(scope="module")
def shared():
    with lab_in_thread(RECORDS) as lab:
        yield lab


@pytest.fixture
def lab(shared):
    shared.upstreams[0].fault = Fault()
    return shared


@pytest.fixture
def resolver(lab):
    with blocking.Resolver(lab.urls, configure=False) as resolver:
        yield resolver


@pytest.fixture
def web():
    """The port of an HTTP server on 127.0.0.1."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.headers["Host"].encode())

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def attributes():
    return [vars(owner).get(name) for owner, name in REPLACED]


def unresolved():
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo("here.test", 80)


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request):
    """A function that runs a coroutine on one kind of loop."""
    factory = asyncio.new_event_loop
    if request.param == "uvloop":
        factory = pytest.importorskip("uvloop").new_event_loop

    def run(work):
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(work)

    return run


# --- sockets -------------------------------------------------------------------------


def test_blocking_functions_ask_it(resolver):
    with resolverkit.install(resolver) as installation:
        assert installation.resolver is resolver
        found = socket.getaddrinfo("here.test", "http", type=socket.SOCK_STREAM)
        assert [entry[4] for entry in found] == [("127.0.0.1", 80)]
        assert socket.gethostbyname("alias.test") == "127.0.0.1"
        name, aliases, addresses = socket.gethostbyname_ex("alias.test")
        assert (name, aliases, addresses) == (
            "here.test",
            ["alias.test"],
            ["127.0.0.1"],
        )
        with pytest.raises(socket.gaierror) as caught:
            socket.getaddrinfo("nosuch.test", 80)
        assert caught.value.errno == socket.EAI_NONAME
        with pytest.raises(socket.gaierror):
            socket.gethostbyname("nosuch.test")
    assert resolver.stats().misses >= 3


def test_what_is_no_name_is_as_before(resolver):
    numbers = ["127.0.0.1", "", "<broadcast>"]
    before = [socket.gethostbyname(number) for number in numbers]
    listed = [socket.gethostbyname_ex(number) for number in numbers[:1]]
    wild = socket.getaddrinfo(None, 80)
    with resolverkit.install(resolver):
        assert [socket.gethostbyname(number) for number in numbers] == before
        assert [socket.gethostbyname_ex(number) for number in numbers[:1]] == listed
        assert socket.getaddrinfo(None, 80) == wild
        with pytest.raises(socket.gaierror):
            socket.getaddrinfo("127.0.0.1", "nosuch service")
    assert resolver.stats().misses == 0


def test_programs_need_no_other_line(resolver, web):
    with resolverkit.install(resolver):
        connection = http.client.HTTPConnection("here.test", web, timeout=5)
        connection.request("GET", "/")
        assert connection.getresponse().read() == f"here.test:{web}".encode()
        connection.close()
        with pytest.raises(socket.gaierror):
            smtplib.SMTP("nosuch.test", 25, timeout=5)


def test_requests_and_urllib3(resolver, web):
    requests = pytest.importorskip("requests")
    with resolverkit.install(resolver):
        got = requests.get(f"http://here.test:{web}/", timeout=5)
    assert got.text == f"here.test:{web}"


# --- loops ---------------------------------------------------------------------------


def test_every_loops_getaddrinfo_asks_it(resolver, run):
    async def main():
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo("here.test", 80, type=socket.SOCK_STREAM)
        assert [entry[4] for entry in found] == [("127.0.0.1", 80)]
        assert await loop.getaddrinfo("::1", 80, type=socket.SOCK_STREAM)
        with pytest.raises(socket.gaierror):
            await loop.getaddrinfo("nosuch.test", 80)

    with resolverkit.install(resolver):
        run(main())
    assert resolver.stats().misses


def test_every_loop_connects_by_it(resolver, run, web):
    async def main():
        reader, writer = await asyncio.open_connection("alias.test", web)
        writer.write(b"GET / HTTP/1.0\r\nHost: me\r\n\r\n")
        assert (await reader.read()).endswith(b"me")
        writer.close()
        await writer.wait_closed()
        with pytest.raises(OSError, match=r"refused|failed"):
            await asyncio.open_connection("two.test", 1)
        with pytest.raises(socket.gaierror):
            await asyncio.open_connection("nosuch.test", web)
        _, writer = await asyncio.open_connection(
            "here.test", web, local_addr=("127.0.0.1", 0)
        )
        writer.close()
        await writer.wait_closed()

    with resolverkit.install(resolver):
        run(main())


def test_a_loop_goes_on_while_a_name_is_looked_up(lab, resolver, run):
    async def main():
        loop = asyncio.get_running_loop()
        work = asyncio.ensure_future(loop.getaddrinfo("here.test", 80))
        turns = 0
        while not work.done():
            await asyncio.sleep(0.01)
            turns += 1
        return turns

    lab.upstreams[0].fault = Fault(delay=0.2)
    with resolverkit.install(resolver):
        assert run(main()) > 3


@pytest.mark.untidy("the server's end of a handshake that failed")
def test_tls_is_for_the_name(resolver, run, tmp_path):
    trustme = pytest.importorskip("trustme")
    import ssl

    ca = trustme.CA()
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("here.test").configure_cert(server_side)
    trusting = ssl.create_default_context()
    ca.configure_trust(trusting)

    async def serve(_, writer):
        writer.write(b"hello")
        writer.close()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_side)
        port = server.sockets[0].getsockname()[1]
        async with server:
            reader, writer = await asyncio.open_connection(
                "here.test", port, ssl=trusting
            )
            assert await reader.read() == b"hello"
            writer.close()
            with pytest.raises(ssl.SSLCertVerificationError):
                await asyncio.open_connection("alias.test", port, ssl=trusting)

    with resolverkit.install(resolver):
        run(main())


# --- put back ------------------------------------------------------------------------


def test_everything_is_put_back(resolver):
    before = attributes()
    with resolverkit.install(resolver):
        during = attributes()
        assert all(a is not b for a, b in zip(before, during, strict=True))
    assert attributes() == before
    unresolved()
    installation = resolverkit.install(resolver)  # as a call
    assert socket.gethostbyname("here.test") == "127.0.0.1"
    installation.close()
    installation.close()
    assert attributes() == before
    with pytest.raises(ZeroDivisionError), resolverkit.install(resolver):
        _ = 1 / 0
    assert attributes() == before


def test_uvloop_is_as_before(resolver):
    loop = pytest.importorskip("uvloop").Loop
    before = loop.create_connection, loop.getaddrinfo
    with resolverkit.install(resolver):
        assert loop.create_connection is not before[0]
    assert (loop.create_connection, loop.getaddrinfo) == before
    assert "create_connection" not in vars(loop)


def test_connectors_of_aiohttp_are_as_before(resolver):
    pytest.importorskip("aiodns")
    from aiohttp import ThreadedResolver, connector

    before = connector.DefaultResolver
    with resolverkit.install(resolver):
        assert connector.DefaultResolver is ThreadedResolver
    assert connector.DefaultResolver is before is not ThreadedResolver


def test_the_latest_of_several_counts_in_whatever_order_they_end(lab):
    before = attributes()
    with (
        blocking.Resolver(lab.urls, configure=False) as one,
        blocking.Resolver(lab.urls, configure=False) as other,
    ):
        outer = resolverkit.install(one)
        inner = resolverkit.install(other)
        socket.gethostbyname("here.test")
        assert (one.stats().misses, other.stats().misses > 0) == (0, True)
        outer.close()
        assert socket.gethostbyname("here.test") == "127.0.0.1"
        assert one.stats().misses == 0
        inner.close()
    assert attributes() == before


def test_it_lives_beside_dnspythons_override(resolver):
    before = attributes()
    dns.resolver.override_system_resolver(resolver)
    with resolverkit.install(resolver):
        assert socket.gethostbyname("here.test") == "127.0.0.1"
    assert socket.gethostbyname("here.test") == "127.0.0.1"
    dns.resolver.restore_system_resolver()
    assert attributes() == before
    with resolverkit.install(resolver):
        ours = socket.getaddrinfo
        dns.resolver.override_system_resolver(resolver)
    dns.resolver.restore_system_resolver()
    assert attributes() == before
    with pytest.raises(socket.gaierror):  # somebody kept it
        ours("here.test", 80)


def test_an_asyncio_resolver_can_be_installed_unless_it_is_in_use(lab):
    with resolverkit.install(resolverkit.Resolver(lab.urls, configure=False)):
        assert socket.gethostbyname("here.test") == "127.0.0.1"

    async def main():
        async with resolverkit.Resolver(lab.urls, configure=False) as used:
            await used.resolve("here.test")
            with pytest.raises(resolverkit.ConfigurationError, match="blocking"):
                resolverkit.install(used)

    asyncio.run(main())


# --- threads, bootstrap, forks -------------------------------------------------------


def test_any_number_of_threads(resolver):
    names = ["here.test", "alias.test", "two.test"] * 30
    with resolverkit.install(resolver), ThreadPoolExecutor(30) as pool:
        found = set(pool.map(socket.gethostbyname, names))
    assert "127.0.0.1" in found
    assert found <= {"127.0.0.1", "127.0.0.2", "127.0.0.3"}


def test_100_threads_and_5_loops_at_once(resolver):
    """Of both kinds of loop: all ask the one background loop, and none waits for it."""
    loops = [asyncio.new_event_loop] * 3
    loops += [pytest.importorskip("uvloop").new_event_loop] * 2
    together = threading.Barrier(len(loops) + 100)
    names = ["here.test", "alias.test"] * 20

    async def connect():
        loop = asyncio.get_running_loop()
        found = await asyncio.gather(
            *(loop.getaddrinfo(name, 80, type=socket.SOCK_STREAM) for name in names)
        )
        return {entries[0][4][0] for entries in found}

    def in_a_loop(factory):
        together.wait(20)
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(connect())

    def in_a_thread(_):
        together.wait(20)
        return {socket.gethostbyname(name) for name in names}

    with (
        resolverkit.install(resolver),
        ThreadPoolExecutor(len(loops) + 100) as pool,
    ):
        work = [pool.submit(in_a_loop, factory) for factory in loops]
        work += [pool.submit(in_a_thread, number) for number in range(100)]
        found = [each.result(60) for each in work]
    assert found == [{"127.0.0.1"}] * (len(loops) + 100)


def test_bootstrap_never_goes_through_it(lab, monkeypatch):
    """What runs on the background loop asks the system, or it would ask itself."""
    asked = []
    system = socket.getaddrinfo

    def spy(host, *rest, **options):
        asked.append(host)
        return system("127.0.0.1", *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", spy)

    async def look_up():
        await asyncio.get_running_loop().getaddrinfo("redis.test", 6379)
        socket.getaddrinfo("store.test", 1)

    with (
        blocking.Resolver(lab.urls, configure=False) as resolver,
        resolverkit.install(resolver),
    ):
        socket.gethostbyname("here.test")
        background.run(look_up())
    assert asked == ["redis.test", "store.test"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_children_after_a_fork_have_it_too(lab):
    code = f"""
        import os, socket, sys, warnings
        import resolverkit
        warnings.filterwarnings("ignore", "This process .* is multi-threaded")
        resolverkit.install(resolverkit.Resolver({lab.urls!r}, configure=False))
        assert socket.gethostbyname("here.test") == "127.0.0.1"
        pid = os.fork()
        if not pid:
            socket.getaddrinfo("www.example.com", 80)
            sys.exit(socket.gethostbyname("alias.test") != "127.0.0.1")
        sys.exit(os.waitpid(pid, 0)[1])
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
