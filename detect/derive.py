"""From a closed bucket to one row of values: newest gauges, counters as rates, histograms as quantiles, what logs and
spans tell.

Where a service or a call is measured twice, its own metrics count, and spans (which may be sampled) only for what no
metric tells: docs/service-graph.md, "Two sources of one figure".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detect.beginnings import Beginnings
from detect.buckets import Bucket, SeriesTable
from detect.histograms import Histograms
from detect.indicators import indicator_of
from detect.service_graph import ServiceGraphMetrics
from ingest.types import SeriesKey

_FROM_SPANS: Final = {"traffic": "requests_per_second", "errors": "error_ratio", "latency": "latency_p95_seconds"}
_LABELS: Final = (("source", "spans"),)
_OF_CALLS: Final = re.compile(r"(^|[._])client([._]|$)")
"""Without a peer such a metric says how others answer, not how the service does."""
_REMEMBERED_NS: Final = 180 * 10**9
"""Three times the 60 s in which OpenTelemetry's SDKs send metrics where nothing else is set."""


class Derivation:
    """Keeps the last value of every counter, to make rates of them."""

    def __init__(self, table: SeriesTable, bucket_seconds: float) -> None:
        self._table = table
        self._seconds = bucket_seconds
        self._histograms = Histograms(table)
        self._service_graph = ServiceGraphMetrics(table)
        self._beginnings = Beginnings(table)
        self.listening_ns = 0
        """When the first bucket began that was seen here; 0: none yet."""
        self.counters: dict[int, tuple[int, float]] = {}
        self.waits: dict[SeriesKey, float] = {}
        """Time on the way of calls, of the row that was made last: no detector judges it."""
        self._log_services: set[str] = set()
        self._told: dict[int, tuple[SeriesKey, str]] = {}
        self.counted: dict[tuple[str, str], int] = {}
        """(service, peer) whose traffic a metric told: when it last did, ns."""

    def row(self, bucket: Bucket, ts_ns: int) -> NDArray[np.float64]:
        """[s] with NaN where nothing was reported. `ts_ns`: when the bucket begins."""
        found: dict[int, float] = {at: total / self._seconds for at, total in bucket.sums.items()}
        self._count(bucket, found, ts_ns)
        self._histograms.settle(found)
        told = self._reported(found, ts_ns)
        self._spans(bucket, found, told)
        self.waits = self._service_graph.settle(found, told)
        self._logs(bucket, found)
        row = np.full(len(self._table.keys), np.nan)
        for at, value in found.items():
            row[at] = value
        return row

    def _count(self, bucket: Bucket, found: dict[int, float], ts_ns: int) -> None:
        """Newest gauges, and counters as rates since their last point, or since they began."""
        self.listening_ns = self.listening_ns or ts_ns
        new: dict[int, int] = {}
        going_on: list[tuple[int, int]] = []
        for at, (at_ns, value) in bucket.points.items():
            if self._table.keys[at].kind != "counter":
                found[at] = value
                continue
            last = self.counters.get(at)
            self.counters[at] = (at_ns, value)
            if last is None:
                new[at] = at_ns
            elif at_ns > last[0]:
                going_on.append((at, last[0]))
                # A counter that fell was reset: what it shows now is what it grew by.
                grown = value - last[1] if value >= last[1] else value
                found[at] = grown / ((at_ns - last[0]) / 1e9)
        if new:
            for at, since_ns in self._beginnings.since(new, going_on, bucket.begun, found, self.listening_ns).items():
                at_ns, value = bucket.points[at]
                # One that began a moment ago has not failed a thousand times a second.
                found[at] = value / max(self._seconds, (at_ns - since_ns) / 1e9)

    def _logs(self, bucket: Bucket, found: dict[int, float]) -> None:
        self._log_services |= set(bucket.logs)
        for service in sorted(self._log_services):
            lines = sum(bucket.logs.get(service, {}).values())
            self._put(found, SeriesKey(service, "log.lines_per_second"), lines / self._seconds)
            self._put(found, SeriesKey(service, "log.error_lines_per_second"),
                      bucket.errors.get(service, 0) / self._seconds)

    def _reported(self, found: Iterable[int], ts_ns: int) -> set[tuple[str, str, str]]:
        """(service, peer, indicator) of what metrics tell of services and calls themselves. Who has told traffic is
        waited for: it may come once a minute, and a rate of sampled spans in between would be another measure in the
        same place. Shares and quantiles are the same measure, and others may tell them meanwhile."""
        reported = set()
        for at in found:
            key = self._table.keys[at]
            known = self._told.get(at)
            if known is None or known[0] is not key:  # a restored table numbers its series anew
                is_own = not self._service_graph.has(at) and (key.peer or not _OF_CALLS.search(key.name))
                known = self._told[at] = (key, indicator_of(key) if is_own else "")
            if known[1] in _FROM_SPANS:
                reported.add((key.service, key.peer, known[1]))
        self.counted.update(((service, peer), ts_ns) for service, peer, what in reported if what == "traffic")
        self.counted = {pair: at_ns for pair, at_ns in self.counted.items() if at_ns > ts_ns - _REMEMBERED_NS}
        return reported | {(service, peer, "traffic") for service, peer in self.counted}

    def _spans(self, bucket: Bucket, found: dict[int, float], told: set[tuple[str, str, str]]) -> None:
        """Rate, errors and latency from spans, each where nobody has told it; then it is."""
        for name, spans in sorted(bucket.spans.items()):
            service, _, peer = name.partition("\x1f")
            prefix = "client" if peer else "http.server"
            values = {"traffic": len(spans) / self._seconds, "errors": float(np.mean([f for _, f in spans])),
                      "latency": float(np.quantile(np.array([d for d, _ in spans]) / 1e6, 0.95))}
            for what, value in values.items():
                if (service, peer, what) not in told:
                    told.add((service, peer, what))
                    self._put(found, SeriesKey(service, f"{prefix}.{_FROM_SPANS[what]}", peer=peer, labels=_LABELS), value)

    def _put(self, found: dict[int, float], key: SeriesKey, value: float) -> None:
        at = self._table.index(key)
        if at >= 0:
            found[at] = value
