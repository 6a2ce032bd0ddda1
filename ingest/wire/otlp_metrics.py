"""OTLP metrics: which rows a data point becomes. `Batch.points_in` counts it once, however many these are.

| point | rows |
|---|---|
| gauge; sum that is not monotonic | the value, a gauge |
| monotonic sum | the value, "counter" if cumulative, "delta" if delta |
| histogram, exponential histogram | `<name>.count`, `<name>.sum` (counter or delta) |
| ... delta | also `<name>.p50`, `.p95`, `.p99` of the interval |
| ... cumulative, explicit bounds | also `<name>.bucket` per bound, label `le`, a counter with all below it |
| summary | `<name>.count`, `<name>.sum` (counters), `<name>.pNN` as it says |

Quantiles of an interval of a *cumulative* histogram need the difference to the interval before: that is state, which
a decoder has none of, or a replay after a restart would give other rows. The buckets are handed on instead, as
Prometheus does it, and `detect.histograms` makes quantiles of them. An exponential histogram changes its buckets as it
grows; a cumulative one gives count and sum.

Whose a point is, its resource says, or an attribute of its own where the resource has none of that name. What the
Collector's Prometheus receiver has scraped is another matter: there `service.name` is the name of the scrape job, behind
which many services may be. Such a series is of the service that it would be of if Prometheus had sent it
(`prometheus_labels.service_of`): its own labels first, then the job.

A point flagged "no recorded value" is NaN: the series ended. Exemplars are ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ingest.types import SeriesKey
from ingest.wire import prometheus_labels
from ingest.wire.otlp import NAN, attributes, attributes_of, finite, number, time_of
from ingest.wire.otlp_resource import PEERS, as_text, instance_of, placement_of
from ingest.wire.quantiles import cumulated, explicit_quantile, exponential_quantile, within
from ingest.wire.rows import DecodeContext, Rows
from ingest.wire.service_graph import call_of, without_ends

_DELTA: Final = 1
_NO_RECORDED_VALUE: Final = 1  # flag of a data point (Prometheus' staleness marker)
_QUANTILES: Final = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
_MAX_BUCKETS: Final = 200
_PEERS: Final = ("peer", *PEERS)
_SCRAPER: Final = "/prometheusreceiver"
"""How the name of the scope ends that the receiver gives to what it scrapes."""


def put_metrics(groups: Iterable[Any] | None, context: DecodeContext, rows: Rows) -> None:
    for group in groups or ():
        resource = attributes_of(group.resource)
        rows.placement(placement_of(resource, context.service_of(resource), instance_of(resource)))
        for scope in group.scope_metrics or ():
            is_scraped = scope.scope is not None and (scope.scope.name or "").endswith(_SCRAPER)
            for metric in scope.metrics or ():
                which = metric.WhichOneof("data")
                if which is not None:
                    _Metric(metric, which, resource, context, rows, is_scraped=is_scraped).put()


class _Metric:
    """One metric on its way into the rows."""

    def __init__(self, metric: Any, which: str, resource: Mapping[str, object], context: DecodeContext, rows: Rows, *,
                 is_scraped: bool) -> None:
        self.name: str = metric.name or ""
        self.unit: str = metric.unit or ""
        self.data = getattr(metric, which)
        self.which = which
        self.is_delta = which != "summary" and number(getattr(self.data, "aggregation_temporality", 0)) == _DELTA
        self.grows = "delta" if self.is_delta else "counter"
        self.resource = resource
        self.instance = instance_of(resource)
        self.service = context.service_of(resource)
        self.is_scraped = is_scraped
        self.context = context
        self.rows = rows

    def put(self) -> None:
        put = self._put_number if self.which in ("gauge", "sum") else self._put_distribution
        for point in self.data.data_points or ():
            put(point, time_of(self.context, point.time_unix_nano), bool((point.flags or 0) & _NO_RECORDED_VALUE))

    def _start_of(self, point: Any) -> int:
        """Since when a counter counts; 0 for what is none, or does not say. A scraper makes one up of its first scrape."""
        start_ns = point.start_time_unix_nano or 0
        is_told = self.grows == "counter" and self.which != "gauge" and not self.is_scraped
        return int(start_ns) if is_told and 0 < start_ns < 2**63 else 0

    def _key(self, own: Mapping[str, object]) -> tuple[str, str, str, tuple[tuple[str, str], ...]]:
        """Service, instance, peer, labels. A Prometheus receiver puts `job` and `instance` on the resource; an
        exporter's own label wins."""
        if not own:
            return self.service, self.instance, "", ()
        call = call_of(self.name, own)
        if call is not None:
            rest = without_ends({k: as_text(v) for k, v in own.items()})
            return call[0], "", call[1], tuple(sorted(rest.items()))
        service = self._service_of(own)
        instance = as_text(self.resource.get("service.instance.id") or own.get("instance")) or self.instance
        peer = next((as_text(own[p]) for p in _PEERS if own.get(p)), "")
        labels = tuple(sorted((k, as_text(v)) for k, v in own.items() if k not in ("peer", "instance")))
        return service, instance, peer if peer != service else "", labels

    def _service_of(self, own: Mapping[str, object]) -> str:
        if not self.is_scraped:
            return self.context.service_of({**self.resource, **own})
        said = {name: as_text(value) for name, value in own.items()}
        return prometheus_labels.service_of({"job": self.service, **said}, self.context)

    def _put_number(self, point: Any, ts_ns: int, is_gap: bool) -> None:
        kind = "gauge" if self.which == "gauge" or not self.data.is_monotonic else self.grows
        which = point.WhichOneof("value")
        value = NAN if which is None or is_gap else finite(getattr(point, which))
        service, instance, peer, labels = self._key(attributes(point.attributes))
        self.rows.point(ts_ns, SeriesKey(service, self.name, instance, peer, self.unit, kind, labels), value,
                        start_ns=self._start_of(point))

    def _put_distribution(self, point: Any, ts_ns: int, is_gap: bool) -> None:
        service, instance, peer, labels = self._key(attributes(point.attributes))
        start_ns = self._start_of(point)

        def put(what: str, unit: str, kind: str, value: float, le: str = "") -> None:
            own = tuple(sorted((*labels, ("le", le)))) if le else labels
            key = SeriesKey(service, self.name + what, instance, peer, unit, kind, own)
            self.rows.point(ts_ns, key, value, is_extra=what != ".count", start_ns=start_ns if kind == "counter" else 0)

        put(".count", "1", self.grows, NAN if is_gap else float(point.count or 0))
        if is_gap:
            return
        if self.which == "summary" or point.HasField("sum"):  # a histogram of negative values has none
            put(".sum", self.unit, self.grows, finite(point.sum if isinstance(point.sum, (int, float)) else 0.0))
        if self.which == "summary":
            for entry in point.quantile_values or ():
                quantile = entry.quantile or 0.0
                if 0.0 <= quantile <= 1.0:
                    put(f".{quantile_name(quantile)}", self.unit, "gauge",
                        finite(0.0 if entry.value is None else entry.value))
        elif self.is_delta and point.count:
            for what, value in _quantiles(self.which, point):
                put(f".{what}", self.unit, "gauge", finite(value))
        elif self.which == "histogram" and len(point.explicit_bounds or ()) <= _MAX_BUCKETS:
            for bound, below in zip(point.explicit_bounds or (), cumulated(point.bucket_counts or ()), strict=False):
                put(".bucket", "1", "counter", float(below), f"{bound:.12g}")
            if point.explicit_bounds:
                put(".bucket", "1", "counter", float(point.count or 0), "+Inf")


def _quantiles(which: str, point: Any) -> list[tuple[str, float]]:
    """The quantiles of a delta histogram; none without buckets."""
    low = point.min if point.HasField("min") else None
    high = point.max if point.HasField("max") else None
    if which == "exponential_histogram":
        sides = [(side.offset or 0, list(side.bucket_counts or ())) if side is not None else (0, [])
                 for side in (point.positive, point.negative)]
        threshold = finite(point.zero_threshold or 0.0)
        return [(name, within(exponential_quantile(
            q, point.scale or 0, point.zero_count or 0, threshold, sides[0], sides[1]), low, high))
            for q, name in _QUANTILES]
    bounds, counts = list(point.explicit_bounds or ()), list(point.bucket_counts or ())
    if not bounds:
        return []
    return [(name, within(explicit_quantile(q, bounds, counts), low, high)) for q, name in _QUANTILES]


def quantile_name(quantile: float) -> str:
    """p50, p99, p99.9: as people write it.

    >>> quantile_name(0.999), quantile_name(0.05)
    ('p99.9', 'p05')
    """
    whole, _, rest = f"{quantile * 100:.6g}".partition(".")
    return f"p{whole:0>2}" + (f".{rest}" if rest else "")
