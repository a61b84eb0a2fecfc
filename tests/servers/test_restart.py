"""Programs that are killed amid an outage, and know on their return what they knew.

Real servers, real processes, kill -9, and one SQLite file.
"""

from __future__ import annotations

import logging
import random
import socket
import sqlite3
import time
from contextlib import ExitStack, closing, contextmanager, suppress

import dns.name
import pytest
from askers import Asker
from processes import LOOPBACK
from programs import FEW, MANY, MANY_TTL

log = logging.getLogger(__name__)

FOUR = ("unbound", "knot", "bind", "recursor")
PROCESSES = 8
KILLS = 6
LOAD = 3.0  # seconds


@pytest.fixture
def path(tmp_path):
    return tmp_path / "dns.db"


@pytest.fixture
def urls(vantages):
    return [vantages[name].udp_url for name in FOUR]


def expired():
    """Until nothing that was learnt before is fresh, here or in a vantage."""
    time.sleep(MANY_TTL + 1.1)  # Knot gives it for a second more, as TTL 0


def check_file(path):
    """It is whole, and none was set aside."""
    assert not list(path.parent.glob("*.corrupt-*"))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_killed_program_comes_back_amid_an_outage(path, urls, authority):
    store = f"sqlite://{path}"
    with Asker(store, urls) as first:
        told = first.ask(MANY, at_once=50, kept=True)
        first.kill()
    assert (told["failed"], told["log"]) == ([], [])
    assert told["store"]["written"] >= len(MANY)
    expired()
    authority.stop()
    with Asker(store, urls) as second:
        alone = second.ask(dict(list(MANY.items())[:1]))
        second.end()
    with Asker(store, urls) as third:
        told = third.ask(MANY)
        third.end()
    log.info(
        "after import: the one answer after %.3f s; of %d at once the first after "
        "%.3f s, the last after %.3f s",
        alone["first"], len(MANY), told["first"], told["all"],
    )  # fmt: skip
    assert (alone["failed"], alone["sources"]) == ([], {"stale": 1})
    assert alone["first"] < 2.0  # measured: 0.13
    assert (told["failed"], told["sources"]) == ([], {"stale": len(MANY)})
    assert told["first"] < 5.0  # measured: 0.3, for as long as a thousand begin
    assert told["all"] < 10.0  # measured: 0.5
    check_file(path)


def test_eight_programs_share_a_file_and_some_are_killed(path, urls, authority):
    """Nobody is told of a lock, nothing is lost, and a cold ninth knows it all."""
    store = f"sqlite://{path}"
    names = list(MANY.items())
    with ExitStack() as stack:
        programs = [
            Program(stack, store, urls, dict(names[i::PROCESSES]))
            for i in range(PROCESSES)
        ]
        for program in programs:
            program.start()
        for program in random.choices(programs, k=KILLS):
            time.sleep(LOAD / KILLS)
            program.asker.kill()
            program.start()
        for program in programs:
            program.finish()
        assert sum(program.answers for program in programs) > 2 * len(MANY)
        expired()
        authority.stop()
        ninth = stack.enter_context(Asker(store, urls))
        told = ninth.ask(MANY)
        ninth.end()
    assert (told["failed"], told["sources"]) == ([], {"stale": len(MANY)})
    assert told["log"] == []
    check_file(path)


class Program:
    """One of eight, which asks for its own names and for some that all ask for."""

    def __init__(self, stack, store, urls, names):
        self._stack = stack
        self._store = store
        self._urls = urls
        self._names = names | FEW
        self.answers = 0

    def start(self):
        """Begin, or begin again: ask for all, then for all the time."""
        self.asker = self._stack.enter_context(Asker(self._store, self._urls))
        self.asker.tell(self._names, at_once=25)
        self.asker.tell(self._names, at_once=25, seconds=LOAD, kept=True)

    def finish(self):
        for _ in range(2):
            told = self.asker.report()
            assert (told["failed"], told["log"]) == ([], [])
            self.answers += sum(told["sources"].values())
        self.asker.end()


def test_what_is_fresh_on_the_return_of_a_killed_program_costs_no_packet(path, urls):
    """But while the file is opened, which takes longer than a store's head start."""
    store = f"sqlite://{path}"
    with Asker(store, urls) as first:
        assert first.ask(FEW, kept=True)["sources"] == {"upstream": len(FEW)}
        first.kill()
    (one, address), *others = FEW.items()
    with silent() as upstream, Asker(store, [url_of(upstream)]) as second:
        assert second.ask({one: address})["sources"] == {"cache": 1}
        assert asked(upstream) <= {one}
        told = second.ask(dict(others), at_once=1)
        assert (told["failed"], told["sources"]) == ([], {"cache": len(others)})
        # None, but where the machine was busy for longer than the head start.
        assert len(asked(upstream)) < len(others) / 3
        assert second.ask(FEW)["sources"] == {"cache": len(FEW)}
        assert not asked(upstream)
        second.end()


@contextmanager
def silent():
    """A socket that takes questions and answers none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as upstream:
        upstream.bind((LOOPBACK, 0))
        upstream.setblocking(False)
        yield upstream


def url_of(upstream):
    return f"udp://{LOOPBACK}:{upstream.getsockname()[1]}"


def asked(upstream):
    """The names in the packets that came since this was called last."""
    names = set()
    with suppress(BlockingIOError):
        while True:
            names.add(str(dns.name.from_wire(upstream.recv(512), 12)[0]))
    return names
