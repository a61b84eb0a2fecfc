"""The state of a running stub as Prometheus wants it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client.metrics_core import Metric

    from resolverkit.server.status import Status, UpstreamStatus

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The text format, which every Prometheus reads."""

_PREFIX = "resolverkit_"


class Metrics:
    """Makes the text for ``/metrics``.

    Args:
        status: what it tells of.
    """

    def __init__(self, status: Status) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Stub(status))
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """All metrics, in the text format."""
        return generate_latest(self._registry)


class _Stub(Collector):
    """Reads counters when it is asked, so that they cost nothing where they count."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        stats = self._status.server.stats
        transports = {n: getattr(stats, n) for n in ("udp", "tcp", "tls", "https")}
        yield _counter("queries", "Queries by transport.", "transport", transports)
        answered = self._status.answered()
        yield _counter("answers", "Answers by source.", "source", answered)
        rejected = {
            name: getattr(stats, name)
            for name in (
                "refused", "ignored", "denied", "limited", "dropped", "unsent",
            )
        }  # fmt: skip
        yield _counter("rejected", "Queries that got no answer.", "why", rejected)
        yield from self._gauges()
        yield from _of_upstreams(self._status.upstreams())

    def _gauges(self) -> Iterator[Metric]:
        resolver = self._status.server.resolver
        stats = resolver.stats()
        values = {
            "waiting": ("Queries that wait.", self._status.server._responder.in_flight),
            "connections": ("Connections.", self._status.server.stats.connections),
            "flights": ("Questions that are asked now.", len(resolver._store._flights)),
            "old_names": ("Names on stale data.", len(self._status.old_names())),
            "cache_entries": ("Answers in memory.", stats.entries),
            "cache_bytes": ("What they are charged with.", stats.size),
        }
        if stats.store is not None:
            usable = not stats.store.problem
            values["store_usable"] = ("Whether the store can be used.", usable)
            values["store_waiting"] = ("Changes to be written.", stats.store.waiting)
        for name, (told, value) in values.items():
            yield GaugeMetricFamily(_PREFIX + name, told, value=value)
        yield CounterMetricFamily(
            _PREFIX + "evictions", "Answers that went for space.", value=stats.evictions
        )


def _counter(name: str, told: str, label: str, by: Mapping[str, int]) -> Metric:
    metric = CounterMetricFamily(_PREFIX + name, told, labels=[label])
    for value, count in by.items():
        metric.add_metric([value], count)
    return metric


def _of_upstreams(upstreams: list[UpstreamStatus]) -> Iterator[Metric]:
    labels = ["upstream", "operator"]
    up = GaugeMetricFamily(
        _PREFIX + "upstream_up", "Whether it answers.", labels=labels
    )
    rtt = GaugeMetricFamily(
        _PREFIX + "upstream_rtt_seconds", "Smoothed round-trip time.", labels=labels
    )
    attempts = CounterMetricFamily(
        _PREFIX + "upstream_attempts",
        "Attempts by outcome.",
        labels=[*labels, "outcome"],
    )
    for each in upstreams:
        who = [each.name, each.operator]
        if each.state != "unknown":
            up.add_metric(who, each.state in {"up", "failing"})
        if each.rtt_ms is not None:
            rtt.add_metric(who, each.rtt_ms / 1000)
        for outcome in ("answers", "errors", "overtaken"):
            attempts.add_metric([*who, outcome], getattr(each, outcome))
    yield from (up, rtt, attempts)
