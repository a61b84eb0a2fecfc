"""The outage of 2021-10-04 on real servers: the authority says nothing for a minute.

Several Resolvers, each with its own strategy and transports, are asked for many names
all the time: before, during and after. Every question that leaves is counted where it
leaves, by a wrapper around each transport; in front of one vantage a relay counts the
packets themselves.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import statistics
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

import dns.name
from processes import LOOPBACK
from programs import NAMES

from resolverkit import Resolver
from resolverkit.model import Source
from resolverkit.policy import FAILURE_RECHECK, RESOLUTION_DEADLINE
from resolverkit.transports.do53 import MAX_SENDS
from resolverkit.transports.url import build, parse

WARM = {name: f"192.0.2.{i}" for i, name in enumerate(NAMES[:12])}
WARM |= {"www.facebook.com.": "157.240.20.35", "facebook.com.": "157.240.20.35"}
LONGEST_TTL = 5.0
LATE = 2.0  # seconds: what has come before the silence may be read in it
SILENCE = 60.0  # seconds
BEAT = 0.01  # seconds
ASK_EVERY = 0.25  # seconds, each name on each Resolver
PATIENCE = 20.0  # seconds until all is in memory, which is so within two
FRESH = {Source.UPSTREAM, Source.CACHE}

log = logging.getLogger(__name__)


class Counting:
    """A transport that notes when it is asked for what."""

    def __init__(self, url: str) -> None:
        self.transport = build(parse(url), timeout=2.0)
        self.asked: dict[str, list[float]] = defaultdict(list)

    def __getattr__(self, name):
        return getattr(self.transport, name)

    @property
    def name(self) -> str:
        return self.transport.name

    def query(self, question):
        self.asked[str(question)].append(time.monotonic())
        return self.transport.query(question)

    async def aclose(self) -> None:
        await self.transport.aclose()


class Packet(NamedTuple):
    when: float
    port: int  # of the sender
    ident: bytes
    name: str


class Relay(asyncio.DatagramProtocol):
    """Stands in front of a server's UDP port and notes each packet that comes in."""

    def __init__(self, port: int) -> None:
        self._server = (LOOPBACK, port)
        self._backs: dict[tuple[str, int], socket.socket] = {}
        self.packets: list[Packet] = []

    async def __aenter__(self) -> Relay:
        self._loop = asyncio.get_running_loop()
        self._front, _ = await self._loop.create_datagram_endpoint(
            lambda: self, local_addr=(LOOPBACK, 0)
        )
        self.port = self._front.get_extra_info("sockname")[1]
        return self

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        name = str(dns.name.from_wire(data, 12)[0])
        self.packets.append(Packet(time.monotonic(), addr[1], data[:2], name))
        if addr not in self._backs:
            self._backs[addr] = back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            back.setblocking(False)
            back.connect(self._server)
            self._loop.add_reader(back, self._pass_back, back, addr)
        self._backs[addr].send(data)

    def _pass_back(self, back: socket.socket, addr: tuple[str, int]) -> None:
        self._front.sendto(back.recv(4096), addr)

    async def __aexit__(self, *_: object) -> None:
        self._front.close()
        for back in self._backs.values():
            self._loop.remove_reader(back)
            back.close()


class Silence(NamedTuple):
    """While nothing can be fresh any more."""

    start: float
    end: float


class Beats:
    """Counts turns of the loop: a clock that stands where it gets no CPU."""

    def __init__(self) -> None:
        self.count = 0

    async def run(self) -> None:
        while True:
            await asyncio.sleep(BEAT)
            self.count += 1

    def seconds(self) -> float:
        return self.count * BEAT


class Sample(NamedTuple):
    when: float
    took: float
    waited: float  # the same, by the beats
    name: str
    source: Source
    stale_for: float


@dataclass
class Client:
    """One Resolver that is asked for every name all the time."""

    strategy: str
    upstreams: list[Counting]
    lifetime: float = 5.0
    beats: Beats = field(default_factory=Beats)
    samples: list[Sample] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    async def run(self, over: asyncio.Event) -> None:
        resolver = Resolver(self.upstreams, False, strategy=self.strategy)
        beating = asyncio.create_task(self.beats.run())
        async with resolver, asyncio.TaskGroup() as tasks:
            for name, address in WARM.items():
                tasks.create_task(self._ask(resolver, name, address, over))
        beating.cancel()

    async def _ask(
        self, resolver: Resolver, name: str, address: str, over: asyncio.Event
    ) -> None:
        await resolver.resolve(name, lifetime=20.0)  # cold; a busy machine takes time
        while not over.is_set():
            began, beat = time.monotonic(), self.beats.seconds()
            try:
                answer = await resolver.resolve(name, lifetime=self.lifetime)
                found = [rdata.address for rdata in answer]
            except Exception as error:  # noqa: BLE001 - each is told at the end
                self.failures.append(f"{name} at {began:.2f}: {error!r}")
            else:
                now, path = time.monotonic(), answer.path
                if found != [address]:
                    self.failures.append(f"{name}: {found}")
                took, waited = now - began, self.beats.seconds() - beat
                self.samples.append(
                    Sample(began, took, waited, name, path.source, path.stale_for)
                )
            await asyncio.sleep(ASK_EVERY)

    def within(self, time: Silence) -> list[Sample]:
        """What was asked and answered in that time."""
        return [s for s in self.samples if time.start <= s.when < time.end - s.took]

    async def warm(self) -> None:
        """Return when every name is in memory: what comes with TTL 0 is not."""
        async with asyncio.timeout(PATIENCE):
            while self._from(Source.CACHE) < WARM.keys():  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    def _from(self, source: Source) -> set[str]:
        return {s.name for s in self.samples if s.source is source}

    async def refreshed(self, since: float, limit: float) -> None:
        """Return when every name is fresh again, or at the limit."""
        while self.fresh_since(since) < WARM.keys() and time.monotonic() < limit:  # noqa: ASYNC110
            await asyncio.sleep(0.1)

    def fresh_since(self, start: float) -> set[str]:
        return {s.name for s in self.samples if s.when > start and s.source in FRESH}


def most_within(times: list[float], window: float) -> int:
    """The most events that fall in one window of so many seconds."""
    return max((sum(t <= u < t + window for u in times) for t in times), default=0)


def clients_of(vantages, relay: Relay) -> list[Client]:
    """Every strategy and transport, and with each at least one that recovers soon.

    Unbound does not: it remembers a silent authority for 15 minutes.
    """

    def upstreams(*urls: str) -> list[Counting]:
        return [Counting(url) for url in urls]

    unbound, knot, bind, recursor, dnsdist, http1 = vantages.values()
    return [
        Client(
            "hedge",
            upstreams(
                f"udp://{LOOPBACK}:{relay.port}?operator=bind",
                unbound.udp_url,
                recursor.udp_url,
                knot.udp_url,
            ),
        ),
        Client(
            "race",
            upstreams(unbound.tls_url, bind.https_url, knot.tcp_url, dnsdist.https_url),
        ),
        Client(
            "failover",
            upstreams(http1.https_url, dnsdist.tls_url),
            lifetime=1.0,  # shorter than the client response timer
        ),
        Client("hedge", upstreams(bind.udp_url)),
    ]


async def live_through(authority, vantages) -> None:
    async with Relay(vantages["bind"].ports["udp"]) as relay:
        clients = clients_of(vantages, relay)
        over = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for client in clients:
                tasks.create_task(client.run(over))
            await asyncio.sleep(2.0)
            for client in clients:
                await client.warm()
            authority.stop()
            stopped = time.monotonic()
            await asyncio.sleep(SILENCE)
            authority.cont()
            back = time.monotonic()
            limit = back + FAILURE_RECHECK + RESOLUTION_DEADLINE
            for client in clients:
                await client.refreshed(back, limit)
            log.info("all fresh %.1f s after SIGCONT", time.monotonic() - back)
            over.set()
    silent = Silence(stopped + LATE + LONGEST_TTL, back)
    for client in clients:
        tell(client, silent)
        check_answers(client, silent)
        check_load(client, silent)
        # The failure recheck timer brings fresh answers without anybody's doing.
        assert client.fresh_since(back) >= WARM.keys()
    check_packets(relay, silent)


def check_answers(client: Client, silent: Silence) -> None:
    """Nobody was left without an answer, and nearly nobody had to wait for it."""
    assert client.failures == []
    stale = client.within(silent)
    assert {s.source for s in stale} == {Source.STALE}
    assert {s.name for s in stale} == WARM.keys()
    assert min(s.stale_for for s in stale) > 0
    assert max(s.stale_for for s in stale) > SILENCE - LONGEST_TTL - 5
    # About one a tick for each name; less than half would mean that they waited.
    assert len(stale) > len(WARM) * (silent.end - silent.start) / ASK_EVERY / 2
    # Only the first to find a name expired waits, 0.95 s or 1.8 s.
    since = silent._replace(start=silent.start - LONGEST_TTL - LATE)
    slow = Counter(s.name for s in client.within(since) if s.waited > 0.8)
    assert max(slow.values(), default=0) <= 1
    assert statistics.median(s.took for s in stale) < 0.05  # measured: 0.0002


def check_load(client: Client, silent: Silence) -> None:
    """No name goes out to the same transport twice within the recheck timer."""
    for upstream in client.upstreams:
        for name, times in upstream.asked.items():
            during = [t for t in times if silent.start < t < silent.end]
            assert most_within(during, FAILURE_RECHECK) <= 1, (upstream.name, name)
    first = client.upstreams[0].asked
    assert any(silent.start < t < silent.end for times in first.values() for t in times)


def check_packets(relay: Relay, silent: Silence) -> None:
    """What leaves the machine is what the transports were asked, thrice at most."""
    during = [p for p in relay.packets if silent.start < p.when < silent.end]
    assert during
    copies = Counter((p.port, p.ident, p.name) for p in during)
    assert max(copies.values()) <= MAX_SENDS
    for name in WARM:
        times = [p.when for p in during if p.name == name]
        assert most_within(times, FAILURE_RECHECK) <= MAX_SENDS


def tell(client: Client, silent: Silence) -> None:
    """Figures for whoever runs it with --log-cli-level=INFO."""
    took = sorted(s.took * 1000 for s in client.within(silent))
    asked = [
        sum(silent.start < t < silent.end for ts in u.asked.values() for t in ts)
        for u in client.upstreams
    ]
    log.info(
        "%s: %d stale answers in %.2f ms (median), %.2f ms (p99), %.0f ms (max); "
        "questions for each transport: %s",
        client.strategy, len(took), statistics.median(took),
        took[len(took) * 99 // 100], took[-1], asked,
    )  # fmt: skip


def test_the_authority_is_silent_for_a_minute(authority, vantages):
    asyncio.run(live_through(authority, vantages))
