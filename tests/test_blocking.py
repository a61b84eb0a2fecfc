"""The blocking face: one loop behind all threads, past forks, to the end."""

from __future__ import annotations

import asyncio
import copy
import io
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dns.name
import dns.rdatatype
import dns.resolver
import pytest
from loopback_lab import lab_in_thread

import resolverkit
from resolverkit import Hook, blocking
from resolverkit.background import background
from resolverkit.system import LOOK_EVERY
from resolverkit.testing import Fault, ScriptedUpstream, answer

WWW = "www.example.com"
DEV = ("-X", "dev")
RECORDS = {
    "www.example.com.": ["300 A 192.0.2.1", "300 AAAA 2001:db8::1"],
    "alias.example.com.": "300 CNAME www.example.com.",
    "1.2.0.192.in-addr.arpa.": "300 PTR www.example.com.",
    **{f"n{i}.example.com.": f"300 A 192.0.2.{i}" for i in range(50)},
}


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


def program(lab, text, *options):
    """Run a program that has `url` and `blocking`; gives what became of it."""
    begin = f"from resolverkit import blocking\nurl = {lab.urls[0]!r}\n"
    return subprocess.run(
        [sys.executable, "-W", "error", *options, "-c", begin + textwrap.dedent(text)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def went_well(done):
    """It says nothing on stderr, but for asyncio's remark that a machine is slow."""
    told = [
        line
        for line in done.stderr.splitlines()
        if not re.fullmatch(r"Executing .* took [\d.]+ seconds", line)
    ]
    return done.returncode == 0 and not told


# --- as dns.resolver -----------------------------------------------------------------


def test_it_is_a_resolver_of_dnspythons(resolver):
    assert isinstance(resolver, dns.resolver.Resolver)
    found = resolver.resolve(WWW, "A")
    assert isinstance(found, dns.resolver.Answer)
    assert [rdata.address for rdata in found] == ["192.0.2.1"]
    assert found.path.source == "upstream"
    assert resolver.resolve(WWW).path.source == "cache"


def test_the_other_ways_to_ask(resolver):
    names = resolver.resolve_name(WWW)
    assert sorted(names.addresses()) == ["192.0.2.1", "2001:db8::1"]
    (pointer,) = resolver.resolve_address("192.0.2.1")
    assert str(pointer) == "www.example.com."
    assert str(resolver.canonical_name("alias.example.com")) == "www.example.com."
    assert resolver.survey(WWW).answered


def test_errors_are_those_of_the_asyncio_face(resolver):
    with pytest.raises(dns.resolver.NXDOMAIN) as caught:
        resolver.resolve("nosuch.example.com")
    assert isinstance(caught.value, resolverkit.NXDOMAIN)
    assert caught.value.path.source == "upstream"
    with pytest.raises(dns.resolver.NoAnswer):
        resolver.resolve(WWW, "MX")
    assert resolver.resolve(WWW, "MX", raise_on_no_answer=False).rrset is None
    with pytest.raises(dns.resolver.NoMetaqueries):
        resolver.resolve(WWW, "ANY")
    with pytest.raises(resolverkit.ConfigurationError):
        blocking.Resolver(["nonsense://"])


def test_options_may_be_set_at_any_time_in_any_order(lab):
    resolver = blocking.Resolver(configure=False)
    resolver.port = lab.upstreams[0].port
    resolver.lifetime = 3.0
    resolver.nameservers = ["127.0.0.1"]
    with resolver:
        assert resolver.resolve(WWW)[0].address == "192.0.2.1"
        resolver.search = [dns.name.from_text("example.com")]
        resolver.ndots = 2
        resolver.use_search_by_default = True
        found = resolver.resolve("n1", "A")
        assert str(found.qname) == "n1.example.com."
        assert (resolver.lifetime, resolver.ndots, resolver.timeout) == (3.0, 2, 2.0)
        with pytest.raises(resolverkit.ConfigurationError):
            resolver.nameservers = "127.0.0.1"
        resolver.use_edns(0, dns.flags.DO, 1232)
        assert resolver.ednsflags == dns.flags.DO
        resolver.reset()
        assert resolver.lifetime == 5.0
        assert resolver.nameservers == []
    with pytest.raises(AttributeError, match="no attribute 'aclose'"):
        _ = resolver.aclose


def test_the_cache_can_be_looked_at_and_switched_off(resolver):
    resolver.resolve(WWW)
    key = (dns.name.from_text(WWW), dns.rdatatype.A, 1)
    assert resolver.cache.get(key)[0].address == "192.0.2.1"
    assert resolver.cache.misses() == 1
    resolver.cache.reset_statistics()
    assert resolver.cache.misses() == 0
    resolver.cache.flush(key)
    assert resolver.cache.get(key) is None
    resolver.cache = None
    assert resolver.cache is None
    resolver.resolve(WWW)
    assert resolver.resolve(WWW).path.source == "upstream"
    resolver.cache = dns.resolver.LRUCache(100)
    resolver.resolve(WWW)
    assert resolver.resolve(WWW).path.source == "cache"


def test_what_is_kept_is_in_the_users_hands(resolver):
    resolver.resolve(WWW)
    store = resolver.store
    assert len(store) == 1
    assert [kept.name for kept in store] == ["www.example.com."]
    assert store.get(WWW).state == "fresh"
    file = io.StringIO()
    assert store.export(file) == 1
    assert store.flush(WWW) == 1
    assert store.get(WWW) is None
    assert store.load(file.getvalue().splitlines()) == 1
    assert resolver.resolve(WWW).path.source == "cache"
    assert resolver.stats().entries == 1


def test_a_store_keeps_answers_past_close(lab, tmp_path):
    url = f"sqlite://{tmp_path}/dns.db"
    with blocking.Resolver(lab.urls, configure=False, store=url) as resolver:
        resolver.resolve(WWW)
    lab.upstreams[0].fault = Fault(silent=True)
    with blocking.Resolver(lab.urls, configure=False, store=url) as resolver:
        assert resolver.resolve(WWW).path.source == "cache"


def test_the_system_resolver_is_overridden_and_restored(resolver):
    before = socket.getaddrinfo
    dns.resolver.override_system_resolver(resolver)
    try:
        found = socket.getaddrinfo(WWW, 80, type=socket.SOCK_STREAM)
        assert {entry[4][0] for entry in found} == {"192.0.2.1", "2001:db8::1"}
        assert socket.gethostbyname("alias.example.com") == "192.0.2.1"
        with pytest.raises(socket.gaierror):
            socket.getaddrinfo("nosuch.example.com", 80)
    finally:
        dns.resolver.restore_system_resolver()
    assert socket.getaddrinfo is before


def test_the_modules_functions_share_one_resolver(lab, monkeypatch, tmp_path):
    conf = tmp_path / "resolv.conf"
    conf.write_text("nameserver 127.0.0.1\n")
    kwdefaults = blocking.Resolver.__init__.__kwdefaults__
    monkeypatch.setitem(kwdefaults, "filename", str(conf))
    monkeypatch.setattr(blocking, "_default", None)
    with blocking.get_default_resolver() as default:
        default.port = lab.upstreams[0].port
        assert blocking.resolve(WWW, "A")[0].address == "192.0.2.1"
        assert set(blocking.resolve_name(WWW).addresses()) > {"192.0.2.1"}
        assert blocking.resolve_address("192.0.2.1")[0].target
        assert str(blocking.canonical_name("alias.example.com"))[:3] == "www"
        with ThreadPoolExecutor(1) as other:
            assert other.submit(blocking.get_default_resolver).result() is default


def test_other_servers_of_the_system_are_followed(lab, tmp_path):
    conf = tmp_path / "resolv.conf"
    conf.write_text("nameserver 127.0.0.9\n")  # where nobody answers
    with blocking.Resolver(filename=conf) as resolver:
        resolver.port = lab.upstreams[0].port
        with pytest.raises(dns.resolver.NoNameservers):
            resolver.resolve(WWW)
        conf.write_text("nameserver 127.0.0.1\n")
        time.sleep(LOOK_EVERY)
        assert resolver.resolve(WWW)[0].address == "192.0.2.1"
        assert resolver.nameservers == ["127.0.0.1"]


def test_an_asyncio_resolver_takes_a_blocking_face(lab):
    inner = resolverkit.Resolver(lab.urls, configure=False)
    with blocking.Resolver.over(inner) as resolver:
        assert resolver.resolve(WWW)[0].address == "192.0.2.1"
        with pytest.raises(RuntimeError, match=r"resolverkit\.blocking"):
            asyncio.run(inner.resolve("n1.example.com"))


def test_answers_can_be_copied(resolver):
    found = copy.deepcopy(resolver.resolve(WWW))
    assert found[0].address == "192.0.2.1"


# --- threads and loops ---------------------------------------------------------------


def test_500_threads_and_5_loops_share_one_resolver(lab):
    names = [f"n{i}.example.com" for i in range(50)]
    wrong = []
    with blocking.Resolver(lab.urls, configure=False, cache_size=2**14) as resolver:
        resolver.timeout = resolver.lifetime = 30.0  # on a busy machine

        def ask(number):
            try:
                for name in (names + names)[number % 50 :][:20]:
                    found = resolver.resolve(name)
                    assert found[0].address == f"192.0.2.{name[1:].split('.')[0]}"
                    assert found.response.answer
            except BaseException as error:  # noqa: BLE001
                wrong.append(error)

        def ask_in_a_loop(number):
            async def main():
                ask(number)

            asyncio.run(main())

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(500)]
        threads += [threading.Thread(target=ask_in_a_loop, args=(i,)) for i in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        stats = resolver.stats()
    assert not wrong
    assert stats.hits + stats.misses == 505 * 20


def test_one_flight_serves_all_threads(lab):
    lab.upstreams[0].fault = Fault(delay=0.2)
    asked = lab.upstreams[0].by_name["n7.example.com."]
    with blocking.Resolver(lab.urls, configure=False) as resolver:
        with ThreadPoolExecutor(50) as pool:
            list(pool.map(resolver.resolve, ["n7.example.com"] * 50))
        assert resolver.stats().misses >= 1
    # A question that waits may be sent once more; it is one flight all the same.
    assert lab.upstreams[0].by_name["n7.example.com."] - asked <= 3


def test_it_works_inside_a_running_loop(resolver):
    async def main():
        return resolver.resolve(WWW)

    assert asyncio.run(main())[0].address == "192.0.2.1"


def test_a_hook_that_blocks_is_told_so_in_place_of_a_deadlock(lab):
    class Blocks(Hook):
        def answered(self, question, path):
            try:
                resolver.resolve("n2.example.com")
            except RuntimeError as error:
                told.append(str(error))
            told.append(resolver.stats().misses)  # needs no waiting

    told = []
    with blocking.Resolver(lab.urls, configure=False, hook=Blocks()) as resolver:
        resolver.resolve(WWW)
    assert "would wait for itself" in told[0]
    assert told[1] == 1


@pytest.mark.untidy("the loop ends amid a call")
def test_a_loop_that_ended_is_replaced_and_the_cache_stays(resolver):
    resolver.resolve(WWW)
    background.end()
    assert resolver.resolve(WWW).path.source == "cache"
    assert resolver.resolve("n3.example.com").path.source == "upstream"


def test_a_resolver_that_is_dropped_closes_its_sockets(lab):
    def sockets():
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    def use():
        blocking.Resolver(lab.urls, configure=False).resolve(WWW)

    use()
    time.sleep(0.1)
    before = sockets()
    for _ in range(20):
        use()
    until = time.monotonic() + 10
    while sockets() > before and time.monotonic() < until:
        time.sleep(0.02)
    assert sockets() <= before


# --- interruption --------------------------------------------------------------------


def test_the_lifetime_ends_the_wait(lab):
    lab.upstreams[0].fault = Fault(silent=True)
    with blocking.Resolver(lab.urls, configure=False) as resolver:
        began = time.monotonic()
        with pytest.raises(dns.resolver.LifetimeTimeout):
            resolver.resolve(WWW, lifetime=0.2)
        assert 0.2 <= time.monotonic() - began < 2


def test_ctrl_c_interrupts_the_wait_and_the_flight_goes_on(lab):
    lab.upstreams[0].fault = Fault(delay=1.5)
    told = []

    def interrupt():
        told.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    with blocking.Resolver(lab.urls, configure=False) as resolver:
        timer = threading.Timer(0.2, interrupt)
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            resolver.resolve(WWW)
        assert time.monotonic() - told[0] < 1.0  # some ms, on a machine at rest
        until = time.monotonic() + 10
        while not resolver.store.get(WWW) and time.monotonic() < until:
            time.sleep(0.02)
        assert resolver.resolve(WWW).path.source == "cache"
        timer.join()


# --- forks ---------------------------------------------------------------------------

FORK = """
    import os, sys, warnings
    warnings.filterwarnings("ignore", "This process .* is multi-threaded")
    resolver = blocking.Resolver([url], configure=False)
    assert resolver.resolve("n1.example.com").path.source == "upstream"
    children = []
    for number in range(5):
        pid = os.fork()
        if not pid:
            assert resolver.resolve("n1.example.com").path.source == "cache"
            found = resolver.resolve(f"n{10 + number}.example.com")
            assert found.path.source == "upstream"
            resolver.resolve_name("www.example.com")
            sys.exit(int(found[0].address.rpartition(".")[2]))
        children.append(pid)
        found = resolver.resolve(f"n{20 + number}.example.com")
        assert found.path.source == "upstream"
    print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_children_go_on_with_the_cache_and_the_parent_is_not_disturbed(lab):
    done = program(lab, FORK, *DEV)
    assert went_well(done), done.stderr
    assert done.stdout == "[10, 11, 12, 13, 14]\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_amid_the_work_of_others_is_safe(lab):
    done = program(lab, """
        import itertools, os, sys, threading, warnings
        warnings.filterwarnings("ignore", "This process .* is multi-threaded")
        resolver = blocking.Resolver([url], configure=False, cache_size=2**14)
        over = threading.Event()

        def ask():
            for number in itertools.cycle(range(50)):
                resolver.resolve(f"n{number}.example.com")
                if over.is_set():
                    break

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        codes = []
        for _ in range(20):
            pid = os.fork()
            if not pid:
                for number in range(50):
                    resolver.resolve(f"n{number}.example.com")
                os._exit(0)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        over.set()
        print(codes)
    """, *DEV)  # fmt: skip
    assert went_well(done), done.stderr
    assert done.stdout == f"{[0] * 20}\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_prefork_after_use_with_a_store(lab, tmp_path):
    done = program(lab, f"""
        import os, sys, warnings
        warnings.filterwarnings("ignore", "This process .* is multi-threaded")
        store = "sqlite://{tmp_path}/dns.db"
        resolver = blocking.Resolver([url], configure=False, store=store)
        resolver.resolve("n1.example.com")
        pids = []
        for number in range(3):
            pid = os.fork()
            if not pid:
                resolver.resolve(f"n{{10 + number}}.example.com")
                sys.exit()
            pids.append(pid)
        print([os.waitpid(pid, 0)[1] for pid in pids])
        resolver.resolve("n2.example.com")
    """, *DEV)  # fmt: skip
    assert went_well(done), done.stderr
    assert done.stdout == "[0, 0, 0]\n"
    lab.upstreams[0].fault = Fault(silent=True)
    url = f"sqlite://{tmp_path}/dns.db"
    with blocking.Resolver(lab.urls, configure=False, store=url) as resolver:
        for number in (1, 2, 10, 11, 12):
            found = resolver.resolve(f"n{number}.example.com")
            assert found.path.source == "cache"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_what_a_child_does_not_use_stays_the_parents(lab, tmp_path):
    done = program(lab, f"""
        import gc, os, sys, warnings
        warnings.filterwarnings("ignore", "This process .* is multi-threaded")
        store = "sqlite://{tmp_path}/dns.db"
        used = blocking.Resolver([url], configure=False)
        kept = blocking.Resolver([url], configure=False, store=store)
        dropped = blocking.Resolver([url], configure=False)
        for resolver in (used, kept, dropped):
            resolver.resolve("n1.example.com")
        pid = os.fork()
        if not pid:
            used.resolve("n2.example.com")
            del dropped
            gc.collect()
            kept.close()
            sys.exit()
        assert os.waitpid(pid, 0)[1] == 0
        for resolver in (used, kept, dropped):
            resolver.resolve("n3.example.com", lifetime=2)
    """, *DEV)  # fmt: skip
    assert went_well(done), done.stderr


# --- the end of the program ----------------------------------------------------------


def test_the_last_answers_are_in_the_store_when_the_program_ends(lab, tmp_path):
    url = f"sqlite://{tmp_path}/dns.db"
    done = program(lab, f"""
        resolver = blocking.Resolver([url], configure=False, store={url!r})
        print(resolver.resolve("n1.example.com").path.source)
    """, *DEV)  # fmt: skip
    assert went_well(done), done.stderr
    lab.upstreams[0].fault = Fault(silent=True)
    with blocking.Resolver(lab.urls, configure=False, store=url) as resolver:
        assert resolver.resolve("n1.example.com").path.source == "cache"


ENDS = {
    "plain": "",
    "amid a flight": """
        import concurrent.futures, contextlib, threading
        def ask():
            with contextlib.suppress(concurrent.futures.CancelledError):
                resolver.resolve("n5.example.com")
        threading.Thread(target=ask, daemon=True).start()
    """,
    "a thread that outlives the main one": """
        import threading, time
        def ask():
            time.sleep(0.05)
            resolver.resolve("n6.example.com")
        threading.Thread(target=ask).start()
    """,
    "atexit": """
        import atexit
        atexit.register(lambda: resolver.resolve("n7.example.com"))
    """,
    "sys.exit": "import sys; sys.exit(0)",
    "closed": "resolver.close()",
    "never used": "blocking.Resolver([url], configure=False)",
}


@pytest.mark.parametrize("end", ENDS)
def test_programs_end_at_once_and_without_a_warning(lab, end):
    begin = "resolver = blocking.Resolver([url], configure=False)\n"
    begin += "resolver.resolve('n1.example.com')\n"
    done = program(lab, begin + textwrap.dedent(ENDS[end]), *DEV)
    assert went_well(done), done.stderr


def test_a_hundred_programs_end_without_hanging(lab):
    text = """
        import threading
        resolver = blocking.Resolver([url], configure=False)
        threads = [
            threading.Thread(target=resolver.resolve, args=(f"n{i}.example.com",))
            for i in range(5)
        ]
        for thread in threads:
            thread.start()
        resolver.resolve("n1.example.com")
    """
    with ThreadPoolExecutor(4) as pool:
        ended = list(pool.map(lambda _: program(lab, text), range(100)))
    assert [done.stderr for done in ended if not went_well(done)] == []


def test_nothing_starts_before_the_first_question():
    code = """
import threading
from resolverkit import blocking

blocking.Resolver(["192.0.2.1"], configure=False)
print(threading.active_count())
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_a_scripted_upstream_serves_as_well():
    upstream = ScriptedUpstream("a", [answer("192.0.2.9")])
    with blocking.Resolver(upstream, configure=False) as resolver:
        assert resolver.resolve(WWW)[0].address == "192.0.2.9"
