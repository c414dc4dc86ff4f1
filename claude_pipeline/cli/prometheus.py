"""The ledger as Prometheus metrics, computed at each scrape: nothing is counted in memory, so no restart loses any.

Counters are totals since the ledger began. The README lists all names with their units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from claude_pipeline.catalog import UNITS_PER_USD
from claude_pipeline.errors import ClaudePipelineError
from claude_pipeline.ledger import Ledger
from claude_pipeline.stage.rate import rates

PREFIX = "claude_pipeline"
LANE_LABELS = ["workload", "model", "lane"]


def registry_over(ledger: Ledger, clock: Callable[[], datetime]) -> CollectorRegistry:
    """A registry whose one collector reads the ledger."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(LedgerCollector(ledger, clock))
    return registry


class LedgerCollector(Collector):
    """All metrics; `claude_pipeline_up` alone where the ledger cannot be read."""

    def __init__(self, ledger: Ledger, clock: Callable[[], datetime]) -> None:
        self._ledger, self._clock = ledger, clock

    def collect(self) -> Iterator[Metric]:
        now = self._clock()
        try:
            found = [*self._billed(), *self._chunks(), *self._batches(now), *self._now(now), *self._standing(now)]
        except ClaudePipelineError:
            found = []
        yield _gauge("up", "1 where the ledger could be read", [], [([], bool(found))])
        yield from found

    def _billed(self) -> Iterator[Metric]:
        rows = self._ledger.billed()
        requests = _counter("billed_requests", "Requests that were answered and billed", LANE_LABELS)
        tokens = _counter(
            "input_tokens", "Input tokens billed, by how the prompt cache met them", [*LANE_LABELS, "cache"]
        )
        output = _counter("output_tokens", "Output tokens billed", LANE_LABELS)
        cost = _counter("cost_usd", "US dollars billed", LANE_LABELS)
        for row in rows:
            lane = [row.workload, row.model, row.lane]
            requests.add_metric(lane, row.requests)
            for cache, count in (
                ("none", row.input_tokens),
                ("write", row.cache_write_tokens),
                ("read", row.cache_read_tokens),
            ):
                tokens.add_metric([*lane, cache], count)
            output.add_metric(lane, row.output_tokens)
            cost.add_metric(lane, row.cost_units / UNITS_PER_USD)
        yield from (requests, tokens, output, cost)

    def _chunks(self) -> Iterator[Metric]:
        rows, labels = self._ledger.chunk_counts(), ["workload", "state"]
        counts = [([row.workload, row.state.value], row.chunks) for row in rows]
        yield _gauge("chunks", "Chunks of requests, by state", labels, counts)
        requests = [([row.workload, row.state.value], row.requests) for row in rows]
        yield _gauge("chunk_requests", "Requests in chunks, by the chunk's state", labels, requests)
        newest = {s.workload: s for s in self._ledger.snapshots() if s.merged_at is not None}
        for name, what in (("succeeded", "answered"), ("dead", "dead letters"), ("rejected", "never sent")):
            rows_of = [([w], getattr(s, name) or 0) for w, s in newest.items()]
            yield _gauge(
                f"records_{name}", f"Records of the newest merged snapshot that are {what}", ["workload"], rows_of
            )

    def _batches(self, now: datetime) -> Iterator[Metric]:
        flying = [b for b in self._ledger.watched(self._ledger.workloads(), since=now) if b.ended_at is None]
        by_workload: dict[str, list[tuple[float, float | None]]] = {}
        for batch in flying:
            left = (batch.expires_at - now).total_seconds() if batch.expires_at else None
            by_workload.setdefault(batch.workload, []).append(((now - batch.created_at).total_seconds(), left))
        flights = sorted(by_workload.items())
        yield _gauge("batches_in_flight", "Batches at the API", ["workload"], [([w], len(of)) for w, of in flights])
        oldest = [([w], max(age for age, _ in of)) for w, of in flights]
        yield _gauge("oldest_batch_age_seconds", "Age of the oldest batch at the API", ["workload"], oldest)
        least = [([w], min(known)) for w, of in flights if (known := [left for _, left in of if left is not None])]
        yield _gauge("least_sla_left_seconds", "Least time that a batch has left of its 24 h", ["workload"], least)

    def _now(self, now: datetime) -> Iterator[Metric]:
        found = rates(self._ledger, now)
        where = "; batches: estimated over what ended within the last hour"
        for name, what in (
            ("requests", "Requests"),
            ("input_tokens", "Input tokens"),
            ("output_tokens", "Output tokens"),
        ):
            values = [([r.workload, r.model, r.lane], float(getattr(r, name))) for r in found]
            yield _gauge(f"{name}_per_minute", f"{what} answered per minute now{where}", LANE_LABELS, values)
        asking = [([row.workload], row.in_flight) for row in self._ledger.asking(at=now)]
        yield _gauge("realtime_in_flight", "Requests in flight in real time", ["workload"], asking)

    def _standing(self, now: datetime) -> Iterator[Metric]:
        doubts, twice = len(self._ledger.unsettled_intents()), len(self._ledger.paid_twice())
        stopped = self._ledger.stop() is not None
        yield _gauge("account_stopped", "1 while nothing is sent because of the account", [], [([], stopped)])
        yield _gauge("creates_in_doubt", "Creates of batches without a clear answer", [], [([], doubts)])
        yield _gauge("batches_paid_twice", "Batches accepted after their chunk was sent again", [], [([], twice)])
        alerts = _counter("alerts", "Alerts noted, by kind", ["kind"])
        for kind, count in self._ledger.alert_counts().items():
            alerts.add_metric([kind], count)
        yield alerts
        published = self._ledger.last_publication()
        since: list[tuple[list[str], float]] = [([], published[1].timestamp())] if published else []
        yield _gauge("warehouse_published_timestamp_seconds", "When the warehouse was last published", [], since)


def _gauge(name: str, what: str, labels: list[str], values: Sequence[tuple[list[str], float]]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"{PREFIX}_{name}", f"{what}.", labels=labels)
    for key, value in values:
        family.add_metric(key, float(value))
    return family


def _counter(name: str, what: str, labels: list[str]) -> CounterMetricFamily:
    return CounterMetricFamily(f"{PREFIX}_{name}", f"{what}, since the ledger began.", labels=labels)
