"""The state of a running stub as JSON-ready values: what a person asks in an outage.

Which upstreams are alive, how answers came by lately, which names are on stale data and
since when. Looked at by the page, `resolverkit top` and the metrics.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from resolverkit.model import Source
from resolverkit.server.history import History
from resolverkit.transports.url import UpstreamURL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolverkit.groups.racing import Child
    from resolverkit.resolver import Resolver
    from resolverkit.server.stub import Server
    from resolverkit.server.watch import OldName, Watch

SOURCES = ("upstream", "cache", "stale", "held", "failed")
"""How answers come by; what is local says nothing of an outage."""
SHOWN_NAMES = 100
"""Names on stale data that are listed; the others are counted."""
SHARE_SLOTS = 30
"""Slots that the share of successes is worked out from: five minutes."""
RECENT_SLOTS = 6
"""Slots in which an upstream fails if most attempts did: a minute."""


@dataclass(slots=True)
class UpstreamStatus:
    """How an upstream does, in all the groups that it is a member of.

    Attributes:
        name: its URL.
        operator: who runs it.
        state: ``"up"``; ``"failing"`` when its last attempt was, or most attempts of
            the last minute; ``"down"`` while its
            breaker is open; ``"probing"`` when it is to be asked again; ``"unknown"``
            before it has been asked.
        down_for: seconds since it went down.
        probe_in: seconds until it is asked again.
        rtt_ms: smoothed round-trip time.
        success: share of attempts that were answered in the last five minutes; None
            where there was none.
        answers: conclusive replies since it was first asked.
        errors: attempts that failed since then.
        overtaken: attempts that another upstream was faster than.
        error: what its last error was.
        error_age: seconds since then.
    """

    name: str
    operator: str
    state: str = "unknown"
    down_for: float | None = None
    probe_in: float | None = None
    rtt_ms: float | None = None
    success: float | None = None
    answers: int = 0
    errors: int = 0
    overtaken: int = 0
    error: str | None = None
    error_age: float | None = None


class Status:
    """Reads a Server; `tick` has to be called now and then, once a second or so.

    Args:
        server: whose state it is. Its Resolver may change.
        watch: the hook of its Resolvers.
    """

    def __init__(self, server: Server, watch: Watch) -> None:
        self.server = server
        self.watch = watch
        self.started: float = watch.clock()
        self.history: History = History(SOURCES)
        self._version = version("resolverkit")
        self._shares: dict[str, History] = {}
        self.tick()

    def tick(self) -> None:
        """Take counters down for the history."""
        now = self.watch.clock()
        answered = self.answered()
        self.history.add(now, [answered[source] for source in SOURCES])
        shares = {}
        for upstream in self._upstreams():
            share = self._shares.get(upstream.name)
            if share is None:
                share = History(("answers", "errors"), SHARE_SLOTS)
                share.add(now, (0, 0))
            share.add(now, (upstream.answers, upstream.errors))
            shares[upstream.name] = share
        self._shares = shares

    def answered(self) -> dict[str, int]:
        """Queries that were answered since the beginning, by source."""
        stats = self.server.stats
        return {
            "upstream": stats.upstream,
            "cache": stats.cache + stats.fast,
            "stale": stats.stale,
            "held": stats.held,
            "failed": stats.failed,
            "local": stats.local,
        }

    def upstreams(self) -> list[UpstreamStatus]:
        """All upstreams, those that were not asked yet included."""
        now = self.watch.clock()
        found = self._upstreams()
        for upstream in found:
            if (share := self._shares.get(upstream.name)) is not None:
                _weigh(upstream, share, now)
            if (trouble := self.watch.trouble(upstream.name)) is not None:
                upstream.error = trouble.text
                upstream.error_age = round(now - trouble.at, 1)
        return found

    def old_names(self) -> list[OldName]:
        """The names that the cache would serve with stale or held data now."""
        resolver = self.server.resolver
        cache, stale, now = resolver._store, resolver._stale, resolver._clock()

        def still(name: OldName) -> bool:
            if name.source is Source.HELD:
                return cache.held(name.question, now, stale) is not None
            entry = cache.find(name.question)
            return (
                entry is not None and entry.expires <= now and entry.usable(now, stale)
            )

        return self.watch.names(still)

    def to_dict(self) -> dict[str, Any]:
        """Everything."""
        now = self.watch.clock()
        resolver, stats = self.server.resolver, self.server.stats
        upstreams, names = self.upstreams(), self.old_names()
        counts = resolver.stats()
        return {
            "version": self._version,
            "time": round(time.time(), 3),
            "uptime": round(now - self.started, 1),
            "summary": summary(upstreams, len(names)),
            "upstreams": [asdict(upstream) for upstream in upstreams],
            "answers": self.answered(),
            "history": {
                "slot": self.history.slot,
                "fields": list(SOURCES),
                "counts": self.history.counts(now),
            },
            "old": {
                "total": len(names),
                "names": [_told(name, now) for name in names[:SHOWN_NAMES]],
            },
            "changes": [
                {
                    "age": round(now - change.at, 1),
                    "upstream": change.upstream,
                    "up": change.up,
                }
                for change in reversed(self.watch.changes)
            ],
            "store": None if counts.store is None else asdict(counts.store),
            "flights": len(resolver._store._flights),
            "waiting": self.server._responder.in_flight,
            "connections": stats.connections,
            "cache": {
                "entries": counts.entries,
                "bytes": counts.size,
                "evictions": counts.evictions,
            },
            "queries": {
                "udp": stats.udp,
                "tcp": stats.tcp,
                "tls": stats.tls,
                "https": stats.https,
            },
        }

    def _upstreams(self) -> list[UpstreamStatus]:
        """Upstreams by name: one may be a member of several groups."""
        resolver = self.server.resolver
        found: dict[str, UpstreamStatus] = {}
        stack = resolver._stack
        for group in [] if stack is None else stack.groups:
            for child in group.children:
                name = child.upstream.name
                status = found.setdefault(
                    name, UpstreamStatus(name, child.endpoint.operator)
                )
                _add(status, child, stack.loop.time() if stack else 0.0)
        for name, operator in _configured(resolver):
            found.setdefault(name, UpstreamStatus(name, operator))
        return list(found.values())


def _add(status: UpstreamStatus, child: Child, now: float) -> None:
    """Add what one group knows; `now` is the loop's time."""
    health = child.health
    asked = health.answers + health.errors + health.overtakes
    status.answers += health.answers
    status.errors += health.errors
    status.overtaken += health.overtakes
    if health.srtt is not None:
        rtt = round(health.srtt * 1000, 1)
        status.rtt_ms = rtt if status.rtt_ms is None else min(status.rtt_ms, rtt)
    if health.retry_at is not None:
        status.state = "probing" if health.probe_due(now) else "down"
        status.down_for = round(now - child.down_since, 1)
        status.probe_in = round(max(0.0, health.retry_at - now), 1)
    elif asked and status.state in {"unknown", "up"}:
        status.state = "failing" if health.failures or health.losses else "up"


def _weigh(status: UpstreamStatus, share: History, now: float) -> None:
    """Add how it has done lately."""
    counts = share.total(now)
    if attempts := counts["answers"] + counts["errors"]:
        status.success = round(counts["answers"] / attempts, 4)
    lately = share.total(now, RECENT_SLOTS)
    if status.state == "up" and lately["errors"] > lately["answers"]:
        status.state = "failing"  # it speaks, such as to say SERVFAIL


def _configured(resolver: Resolver) -> Iterator[tuple[str, str]]:
    """Names and operators of the upstreams that any name may be asked of."""
    stack = resolver._bind(None)
    for view in (stack._default, *(view for _, view in stack._routes)):
        for member in view.members:
            if isinstance(member, UpstreamURL):
                yield member.endpoint.name, member.endpoint.operator
            elif endpoint := getattr(member, "endpoint", None):
                yield endpoint.name, endpoint.operator


def summary(upstreams: list[UpstreamStatus], old: int) -> str:
    """The state in one line."""
    down = sum(upstream.state in {"down", "probing"} for upstream in upstreams)
    asked = sum(upstream.state != "unknown" for upstream in upstreams)
    if not asked:
        text = "No upstream has been asked yet"
    elif down == len(upstreams):
        text = "No upstream answers"
    elif down:
        text = f"{down} of {len(upstreams)} upstreams down"
    elif failing := sum(upstream.state == "failing" for upstream in upstreams):
        text = f"{failing} of {len(upstreams)} upstreams failing"
    else:
        text = "Upstreams answer"
    if old:
        text += f"; {old} {'name' if old == 1 else 'names'} on old data"
    return text


def _told(name: OldName, now: float) -> dict[str, Any]:
    name.text = name.text or str(name.question)  # takes longer than all the rest
    owner, _, rdtype = name.text.rpartition(" ")
    return {
        "name": owner,
        "type": rdtype,
        "source": str(name.source),
        "since": round(now - name.since, 1),
        "age": round(now - name.learnt, 1),
        "asked": round(now - name.asked, 1),
        "served": name.served,
        "error": name.error,
    }
