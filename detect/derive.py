"""From a closed bucket to one row of values: newest gauges, counters as rates, histograms as quantiles, what logs and
spans tell."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detect.buckets import Bucket, SeriesTable
from detect.histograms import Histograms
from detect.service_graph import ServiceGraphMetrics
from ingest.types import SeriesKey


class Derivation:
    """Keeps the last value of every counter, to make rates of them."""

    def __init__(self, table: SeriesTable, bucket_seconds: float) -> None:
        self._table = table
        self._seconds = bucket_seconds
        self._histograms = Histograms(table)
        self._service_graph = ServiceGraphMetrics(table)
        self.counters: dict[int, tuple[int, float]] = {}
        self.waits: dict[SeriesKey, float] = {}
        """Time on the way of calls, of the row that was made last: no detector judges it."""
        self._log_services: set[str] = set()

    def row(self, bucket: Bucket) -> NDArray[np.float64]:
        """[s] with NaN where nothing was reported."""
        found: dict[int, float] = {at: total / self._seconds for at, total in bucket.sums.items()}
        for at, (ts_ns, value) in bucket.points.items():
            if self._table.keys[at].kind != "counter":
                found[at] = value
                continue
            last = self.counters.get(at)
            self.counters[at] = (ts_ns, value)
            if last is not None and ts_ns > last[0]:
                # A counter that fell was reset: what it shows now is what it grew by.
                grown = value - last[1] if value >= last[1] else value
                found[at] = grown / ((ts_ns - last[0]) / 1e9)
        self._histograms.settle(found)
        self._spans(bucket, found)
        self.waits = self._service_graph.settle(found)
        self._logs(bucket, found)
        row = np.full(len(self._table.keys), np.nan)
        for at, value in found.items():
            row[at] = value
        return row

    def _logs(self, bucket: Bucket, found: dict[int, float]) -> None:
        self._log_services |= set(bucket.logs)
        for service in sorted(self._log_services):
            lines = sum(bucket.logs.get(service, {}).values())
            self._put(found, SeriesKey(service, "log.lines_per_second"), lines / self._seconds)
            self._put(found, SeriesKey(service, "log.error_lines_per_second"),
                      bucket.errors.get(service, 0) / self._seconds)

    def _spans(self, bucket: Bucket, found: dict[int, float]) -> None:
        """Rate, errors and latency from spans, where no metric of that name reports them."""
        reported = {(k.service, k.name, k.peer) for k in (self._table.keys[at] for at in found)}
        for name, spans in sorted(bucket.spans.items()):
            service, _, peer = name.partition("\x1f")
            prefix = "client" if peer else "http.server"
            if any((service, f"{prefix}.{what}", peer) in reported
                   for what in ("error_ratio", "requests_per_second", "latency_p95_seconds")):
                continue
            durations = np.array([d for d, _ in spans]) / 1e6
            failed = float(np.mean([f for _, f in spans]))
            for what, value in (("requests_per_second", len(spans) / self._seconds), ("error_ratio", failed),
                                ("latency_p95_seconds", float(np.quantile(durations, 0.95)))):
                labels = (("source", "spans"),)
                self._put(found, SeriesKey(service, f"{prefix}.{what}", peer=peer, labels=labels), value)

    def _put(self, found: dict[int, float], key: SeriesKey, value: float) -> None:
        at = self._table.index(key)
        if at >= 0:
            found[at] = value
