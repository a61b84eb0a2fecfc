"""`resolverkit serve`, run as anybody runs it: signals, files, workers, systemd."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import pytest
from asking import ede, query
from authority import Authority
from served import (
    ENVIRONMENT,
    LIMIT,
    Served,
    handed_over,
    refused,
    run,
    wait_for,
)

WWW = "www.example.com"
posix = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


@pytest.fixture
def authority():
    with Authority() as authority:
        yield authority


def ask(port, name=WWW, *, tcp=False, **options):
    ask = dns.query.tcp if tcp else dns.query.udp
    return ask(query(name, **options), "127.0.0.1", timeout=LIMIT, port=port)


def address(reply):
    return reply.answer[0][0].address


def serve(authority, *arguments, **options):
    return Served("--listen", "127.0.0.1:0", "-u", authority.url, *arguments, **options)


# --- running -------------------------------------------------------------------------


def test_it_says_where_it_listens_and_answers(authority):
    with serve(authority, "--explain") as served:
        assert served.ready == f"resolverkit serve: ready at 127.0.0.1:{served.port}\n"
        reply = ask(served.port)
        assert address(reply) == "192.0.2.1"
        assert ede(reply)[0][1].startswith(f"upstream: udp://{authority.url}")
        assert address(ask(served.port, tcp=True)) == "192.0.2.1"
        assert served.end() == 0
        assert served.lines
        assert all(line.startswith("time=") for line in served.lines)


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_answers_what_is_under_way_and_ends(authority, number):
    with serve(authority) as served:
        authority.gate.clear()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(LIMIT)
            sock.connect(("127.0.0.1", served.port))
            sock.send(query(WWW).to_wire())
            wait_for(lambda: authority.count)
            served.tell(number)
            authority.gate.set()
            assert address(dns.message.from_wire(sock.recv(4096))) == "192.0.2.1"
        assert served.end(None) == 0  # it was told to


@posix
@pytest.mark.parametrize("workers", [1, 3])
def test_ctrl_c_leaves_nothing(authority, tmp_path, workers):
    """A terminal tells all of a group at once; what was learnt is kept, though."""
    store = f"sqlite://{tmp_path}/dns.db"
    options = ["--workers", workers, "--store", store]
    with serve(authority, *options, start_new_session=True) as served:
        group = served.process.pid
        assert address(ask(served.port)) == "192.0.2.1"
        for _ in range(2):
            os.killpg(group, signal.SIGINT)
        assert served.end(None) == 0
        assert not [line for line in served.lines if "Traceback" in line]
        with pytest.raises(ProcessLookupError):
            os.killpg(group, 0)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", served.port))  # nobody is there any more
    with serve(Dead(), "--store", store) as again:
        assert address(ask(again.port)) == "192.0.2.1"


@posix
def test_a_second_ctrl_c_does_not_break_off_the_writing(authority, tmp_path):
    path = tmp_path / "dns.db"
    with serve(authority, "--store", f"sqlite://{path}") as served:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as busy:
            busy.execute("BEGIN IMMEDIATE")  # nobody else can write
            assert address(ask(served.port)) == "192.0.2.1"
            served.tell(signal.SIGINT)
            wait_for(lambda: refuses(served.port))
            served.tell(signal.SIGINT)
            time.sleep(0.1)
            busy.execute("COMMIT")
        assert served.end(None) == 0
    with serve(Dead(), "--store", f"sqlite://{path}") as again:
        assert address(ask(again.port)) == "192.0.2.1"


def refuses(port):
    with contextlib.suppress(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port)).close()
        return False
    return True


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", [1, 2])
def test_who_is_told_again_until_it_has_ended_ends_the_same(authority, number, workers):
    with serve(authority, "--workers", workers) as served:
        while served.process.poll() is None:
            served.tell(number)
            time.sleep(0.001)
        assert served.end(None) == 0
        assert not [line for line in served.lines if "Traceback" in line]


@posix
def test_sighup_has_it_read_its_file_again(authority, tmp_path):
    file = tmp_path / "stub.toml"
    text = 'listen = ["127.0.0.1:0"]\nupstreams = ["{}"]\nexplain = {}\n{}'
    with Authority("192.0.2.2") as other:
        file.write_text(text.format(authority.url, "false", ""))
        with Served("--config", file) as served:
            assert address(ask(served.port)) == "192.0.2.1"
            file.write_text(text.format(other.url, "true", ""))
            served.tell(signal.SIGHUP)
            served.logged("message=.reloaded")
            reply = ask(served.port)  # what was learnt before is still there
            assert (address(reply), len(ede(reply))) == ("192.0.2.1", 1)
            assert address(ask(served.port, "new.example.com")) == "192.0.2.2"

            file.write_text(text.format(authority.url, "maybe", ""))
            served.tell(signal.SIGHUP)
            served.logged("not reloaded: .*stub.toml")
            assert address(ask(served.port, "newer.example.com")) == "192.0.2.2"

            file.write_text(text.format(f"127.0.0.1:{served.port}", "false", ""))
            served.tell(signal.SIGHUP)
            served.logged("not reloaded: .*itself")
            assert address(ask(served.port, "newest.example.com")) == "192.0.2.2"

            file.write_text(text.format(other.url, "true", "workers = 3\n"))
            served.tell(signal.SIGHUP)
            served.logged("not before a restart: workers")
            assert served.end() == 0


def test_a_system_without_servers_is_told_when_it_reads_again(authority, tmp_path):
    """It goes on as before; by a resolv.conf in a mount name space."""
    unshare = ["unshare", "--map-root-user", "--mount"]
    in_one = [*unshare, "true"]
    if not shutil.which("unshare") or subprocess.run(in_one, check=False).returncode:
        pytest.skip("no mount name space can be made here")
    resolv_conf, file = tmp_path / "resolv.conf", tmp_path / "stub.toml"
    resolv_conf.write_text("nameserver 192.0.2.1\n")
    file.write_text(f"listen = ['127.0.0.1:0']\nupstreams = ['{authority.url}']")
    script = f'mount --bind {resolv_conf} /etc/resolv.conf && exec "$@"'
    with Served(
        "--config", file, prefix=[*unshare, "sh", "-c", script, "sh"]
    ) as served:
        resolv_conf.write_text("# none at the moment\n")
        file.write_text("listen = ['127.0.0.1:0']\nupstreams = ['system']")
        served.tell(signal.SIGHUP)
        served.logged("not reloaded: no nameservers")
        assert address(ask(served.port)) == "192.0.2.1"
        assert served.end() == 0


@posix
def test_workers_share_an_address_and_a_store(authority, tmp_path):
    store = f"sqlite://{tmp_path}/dns.db"
    with serve(authority, "--workers", 3, "--store", store) as served:
        wait_for(lambda: len(served.workers()) == 3)
        pids = served.workers()
        for i in range(30):
            assert (
                address(ask(served.port, f"n{i}.example.com", tcp=i % 2)) == "192.0.2.1"
            )
        os.kill(pids[0], signal.SIGKILL)  # and another takes its place and its socket
        served.logged("worker . .*ended with -9")
        wait_for(lambda: len(served.workers()) == 3)
        for i in range(30):
            assert address(ask(served.port, f"m{i}.example.com")) == "192.0.2.1"
        served.tell(signal.SIGHUP)
        served.logged("message=.reloaded", 3)
        assert served.end() == 0
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    with serve(Dead(), "--store", store) as again:
        assert address(ask(again.port, "m7.example.com")) == "192.0.2.1"


class Dead:
    url = "127.0.0.1:1"


@posix
def test_workers_end_with_their_parent(authority):
    with serve(authority, "--workers", 2) as served:
        wait_for(lambda: len(served.workers()) == 2)
        pids = served.workers()
        assert ask(served.port).answer  # they have got over their beginning
        assert ask(served.port, tcp=True).answer
        assert served.end(signal.SIGKILL) == -9
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


# --- systemd -------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("workers", [1, 2])
def test_sockets_may_be_handed_over(authority, workers):
    """sd_listen_fds(3): descriptors from 3 on, whose address nobody else tells."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.create_server(("127.0.0.1", 0)) as tcp,
    ):
        port = tcp.getsockname()[1]
        udp.bind(("127.0.0.1", port))

        sockets = [("dns", udp), ("dns", tcp)]
        options = ["-u", authority.url, "--workers", workers]
        with handed_over(sockets, *options) as served:
            assert set(served.ports) == {port}
            assert address(ask(port)) == "192.0.2.1"
            assert address(ask(port, tcp=True)) == "192.0.2.1"
            assert served.end() == 0


@posix
@pytest.mark.parametrize("workers", [1, 2])
def test_systemd_is_told_of_its_state(authority, tmp_path, workers):
    """sd_notify(3), by the one process that systemd listens to."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path)
        sock.settimeout(LIMIT)
        told = {"NOTIFY_SOCKET": path}
        with serve(authority, "--workers", workers, environment=told) as served:
            assert sock.recv(4096) == b"READY=1"
            wait_for(lambda: len(served.workers()) == workers * (workers > 1))
            served.tell(signal.SIGHUP)
            assert sock.recv(4096).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
            assert sock.recv(4096) == b"READY=1"
            served.logged("message=.reloaded", workers)
            assert served.end() == 0
            assert sock.recv(4096) == b"STOPPING=1"
            sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                sock.recv(4096)


# --- loops ---------------------------------------------------------------------------


@pytest.mark.parametrize("installed", [True, False], ids=["uvloop", "asyncio"])
def test_uvloop_is_used_where_it_is_installed(authority, installed, tmp_path):
    if installed:
        pytest.importorskip("uvloop")
    else:
        (tmp_path / "uvloop.py").write_text("raise ImportError('not here')")
    path = f"{tmp_path}{os.pathsep}{ENVIRONMENT['PYTHONPATH']}"
    with serve(authority, environment={"PYTHONPATH": path}) as served:
        assert address(ask(served.port)) == "192.0.2.1"
        maps = Path(f"/proc/{served.process.pid}/maps")
        if maps.exists():
            assert ("uvloop" in maps.read_text()) is installed
        assert served.end() == 0


def test_ones_own_loop_may_be_uvloop():
    uvloop = pytest.importorskip("uvloop")
    from serving import client, exchange, serving, warm

    async def main():
        async with serving() as server:
            with client(server) as sock:
                await warm(sock, WWW)
                assert (await exchange(sock, query(WWW))).answer

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


# --- mistakes ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--listen", "localhost"], r"127.0.0.1:5353"),
        (["--listen", "192.0.2.9:0"], "--allow"),
        (["--listen", "127.0.0.1:0", "-u", "ftp://x"], "ftp://x"),
        (["--listen", "127.0.0.1:0", "--allow", "everybody"], "everybody"),
        (["--listen", "127.0.0.1:0", "--strategy", "hope"], "hope"),
        (["--listen", "127.0.0.1:0", "--workers", "0"], "workers"),
        (["--listen", "127.0.0.1:0", "--log-level", "loud"], "loud"),
        (["--listen-tls", "127.0.0.1:0"], "tls_cert"),
        (["--config", "/nonexistent.toml"], "/nonexistent.toml"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)  # fmt: skip
def test_a_mistake_is_told(arguments, told):
    status, complaint = refused(*arguments)
    assert status == 2
    assert told in complaint


def test_it_is_no_upstream_of_its_own():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    where = f"127.0.0.1:{port}"
    status, complaint = refused("--listen", where, "-u", where)
    assert (status, where in complaint, "itself" in complaint) == (2, True, True)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_address_that_is_taken_is_told(workers):
    with socket.create_server(("127.0.0.1", 0)) as sock:
        where = f"127.0.0.1:{sock.getsockname()[1]}"
        status, complaint = refused(
            "--listen", where, "-u", "192.0.2.1", "--workers", workers
        )
    assert (status, where in complaint) == (3, True)


# --- files ---------------------------------------------------------------------------

FILE = """\
listen = ["127.0.0.1:5353", "[::1]:5353"]
upstreams = ["quad9", "https://dns.google/dns-query"]
strategy = "quorum"
cache_size = 1_000_000
on_block = "next"
allow = ["192.168.0.0/16"]
rate_limit = 200
explain = true
max_in_flight = 100
max_connections = 50
workers = 2

[stale]
max_stale = 3600
on_denial = "hold"

[routes]
"corp.example." = ["10.0.0.53", "10.0.0.54"]
"""


def check(path):
    return subprocess.run(
        [sys.executable, "-m", "resolverkit", "config", "check", path],
        capture_output=True, text=True, timeout=LIMIT, check=False, env=ENVIRONMENT,
    )  # fmt: skip


def test_a_file_can_be_checked(tmp_path):
    file = tmp_path / "stub.toml"
    file.write_text(FILE)
    done = check(file)
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        f"{file}: can be used\n",
        "",
    )


def test_a_store_is_looked_at_when_a_file_is_checked(tmp_path):
    """No file is made, nobody is asked, and `serve` could do without."""
    file, other = tmp_path / "stub.toml", tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE own (x)")
    (tmp_path / "empty.db").touch()
    for url, told in (
        (f"sqlite://{tmp_path}/new.db", ""),
        (f"sqlite://{tmp_path}/empty.db", ""),
        ("redis://127.0.0.1:1", ""),
        (f"sqlite://{tmp_path}/none/dns.db", f"{tmp_path}/none is no directory"),
        (f"sqlite://{tmp_path}", f"{tmp_path} is not a file"),
        (f"sqlite://{other}", f"{other} is another program's database"),
    ):
        file.write_text(f"store = '{url}'\nupstreams = ['192.0.2.1']\n")
        done = check(file)
        assert (done.returncode, done.stdout) == (0, f"{file}: can be used\n")
        if told:
            assert done.stderr.startswith(f"resolverkit: {file}: store={url!r}: {told}")
        else:
            assert not done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "empty.db", "other.db", "stub.toml",
    ]  # fmt: skip


def test_what_is_wrong_in_a_file_is_told(tmp_path):
    file = tmp_path / "stub.toml"
    file.write_text("workers = 1\nexplain = 1\n")
    for done in (check(file), run("--config", file)):
        assert (done.returncode, done.stdout) == (2, "")
        expected = f"resolverkit: {file}, line 2: explain=1: allowed is true or false\n"
        assert done.stderr == expected


def test_a_port_that_is_not_for_everybody_is_told():
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0 or setpriv is None:
        pytest.skip("needs root and setpriv(1), to do without a capability")
    done = run(
        "--listen", "127.0.0.1:88", "-u", "192.0.2.1",
        prefix=[setpriv, "--bounding-set=-net_bind_service"],
    )  # fmt: skip
    assert done.returncode == 3
    assert "cannot listen at 127.0.0.1:88: Permission denied" in done.stderr
    assert "CAP_NET_BIND_SERVICE" in done.stderr
    assert "127.0.0.1:5353" in done.stderr


def test_options_take_precedence(authority, tmp_path):
    file = tmp_path / "stub.toml"
    file.write_text('listen = ["127.0.0.1:1"]\nupstreams = ["192.0.2.1"]\n')
    with serve(authority, "--config", file) as served:
        assert address(ask(served.port)) == "192.0.2.1"
