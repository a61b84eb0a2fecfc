"""Real programs connect by name before, during and after an outage.

Each of `clients.PROGRAMS` is a process that connects to a real server: a web server,
PostgreSQL, Redis. The authority of `services.example` says nothing meanwhile (SIGSTOP).
One outage is for all: what was said in it is recorded once, and judged program by
program.
"""

from __future__ import annotations

import http.server
import json
import select
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import clients
import dns.exception
import dns.resolver
import postgres
import pytest
from park import Park

from resolverkit.policy import FAILURE_RECHECK

SCRIPT = Path(clients.__file__)
VANTAGES = ("bind", "knot")
TTL = 2.0  # of services.example, seconds
PATIENCE = 60.0  # seconds that one connection may take on a busy machine


class Program:
    """One of the programs, which runs and waits to be told to connect."""

    def __init__(self, name: str, config: str, log: Path) -> None:
        self.name = name
        self._log = log
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", SCRIPT, name, config],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                bufsize=1,
            )

    def tell(self) -> None:
        with suppress(BrokenPipeError):  # `hear` says why
            self._process.stdin.write("connect\n")

    def hear(self):
        ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        line = self._process.stdout.readline() if ready else ""
        return json.loads(line) if line else self._log.read_text()

    def end(self) -> tuple[int, str]:
        """Exit status and what it complained of; it has nothing left to do."""
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            status = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._process.stdout.close()
        return status, self._log.read_text()


@contextmanager
def web_server():
    """Give the port of a web server that says hello."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def redis(program, root):
    park = Park(program, root)
    try:
        yield park().port
    finally:
        park.end()


def ask(programs):
    """Have all connect at once; what each says."""
    for program in programs:
        program.tell()
    return {program.name: program.hear() for program in programs}


def stale(said):
    """How many stale answers each program has had so far."""
    return {name: told["stale"] for name, told in said.items()}


def plainly(vantages):
    """What dnspython has to say of the name, without the library."""
    plain = dns.resolver.Resolver(configure=False)
    plain.nameservers = ["127.0.0.1"]
    plain.lifetime = 3.0
    said = set()
    for vantage in vantages:
        plain.port = vantage.ports["udp"]
        try:
            said.add(plain.resolve(clients.WEB)[0].address)
        except dns.exception.DNSException as error:
            said.add(type(error).__name__)
    return said


@pytest.fixture(scope="module")
def story(lab, require, redis_program, tmp_path_factory):
    """What each program said in each phase, and how it ended."""
    require(postgres.missing_programs())
    root = tmp_path_factory.mktemp("clients")
    asked = [lab.vantages[name] for name in VANTAGES]
    told = {}
    with ExitStack() as stack:
        ports = {
            "web": stack.enter_context(web_server()),
            "db": stack.enter_context(postgres.Postgres()).port,
            "cache": stack.enter_context(redis(redis_program, root)),
        }
        config = json.dumps({"upstreams": [v.udp_url for v in asked], **ports})
        programs = [
            Program(name, config, root / f"{number}.log")
            for number, name in enumerate(clients.PROGRAMS)
        ]
        try:
            told["ready"] = {program.name: program.hear() for program in programs}
            told["before"] = ask(programs)
            told["plain before"] = plainly(asked)
            lab.authority.stop()
            time.sleep(TTL + 1)
            told["during"] = ask(programs)
            told["again"] = ask(programs)
            told["plain during"] = plainly(asked)
            lab.authority.cont()
            told["after"] = ask(programs)
            time.sleep(FAILURE_RECHECK)
            told["later"] = ask(programs)
            told["at last"] = ask(programs)
            for _ in range(10):  # on a busy machine the name may still be refreshed
                if stale(told["later"]) == stale(told["at last"]):
                    break
                time.sleep(1)
                told["later"], told["at last"] = told["at last"], ask(programs)
        finally:
            told["end"] = {program.name: program.end() for program in programs}
    return told


def test_there_is_an_outage(story):
    assert story["plain before"] == {"127.0.0.1"}
    assert "127.0.0.1" not in story["plain during"]


@pytest.mark.parametrize("name", clients.PROGRAMS)
def test_it_connects_before_during_and_after(story, name):
    assert story["ready"][name] == "ready"
    phases = ("before", "during", "again", "after", "later", "at last")
    told = {phase: story[phase][name] for phase in phases}
    assert {phase: said["said"] for phase, said in told.items()} == dict.fromkeys(
        phases, "hello"
    )
    counts = [told[phase]["stale"] for phase in phases]
    assert counts[0] == 0
    assert counts[0] < counts[1] < counts[2]  # each time the last known good
    assert counts[4] == counts[5]  # and fresh again
    assert told["again"]["took"] < 10  # at once: some ms


@pytest.mark.parametrize("name", clients.PROGRAMS)
def test_it_ends_at_once_and_has_nothing_to_complain_of(story, name):
    assert story["end"][name] == (0, "")
