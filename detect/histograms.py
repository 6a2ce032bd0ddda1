"""Quantiles from the buckets of cumulative histograms (Prometheus' `_bucket`, OTLP's `.bucket`, label `le`).

A bucket's counter says nothing by itself, and there are a dozen per histogram: they are taken out of the row, and three
quantiles of what was added since the last interval take their place: p50, p95, p99.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from detect.buckets import SeriesTable
from ingest.types import SeriesKey

_QUANTILES: Final = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
_SUFFIXES: Final = ("_bucket", ".bucket")
_UNITS: Final = (("seconds", "s"), ("bytes", "By"))


class Histograms:
    """Finds the buckets among the series once, and what they tell in every interval."""

    def __init__(self, table: SeriesTable) -> None:
        self._table = table
        self._bounds: dict[int, tuple[SeriesKey, tuple[SeriesKey, float] | None]] = {}

    def bound(self, at: int) -> tuple[SeriesKey, float] | None:
        """The histogram (its series without `le`) that a series is a bucket of, and the upper bound; None if it is
        none. Costs a lookup after the first time."""
        key = self._table.keys[at]
        known = self._bounds.get(at)
        if known is None or known[0] is not key:  # a restored table numbers its series anew
            known = self._bounds[at] = (key, _bound(key))
        return known[1]

    def settle(self, found: dict[int, float]) -> None:
        """Replace the rates of buckets in `found` (series -> value) by the quantiles of their histograms."""
        grown: dict[SeriesKey, dict[float, float]] = {}
        for at in list(found):
            bucket = self.bound(at)
            if bucket is not None:
                grown.setdefault(bucket[0], {})[bucket[1]] = found.pop(at)
        for histogram, buckets in grown.items():
            for q, what in _QUANTILES:
                value = quantile(q, buckets)
                at = self._table.index(_named(histogram, what)) if math.isfinite(value) else -1
                if at >= 0:
                    found[at] = value


def _bound(key: SeriesKey) -> tuple[SeriesKey, float] | None:
    if key.kind != "counter" or not key.name.endswith(_SUFFIXES):
        return None
    for label, value in key.labels:
        if label == "le":
            try:
                bound = float(value)
            except ValueError:
                return None
            rest = tuple(pair for pair in key.labels if pair[0] != "le")
            return SeriesKey(key.service, key.name, key.instance, key.peer, "", "gauge", rest), bound
    return None


def _named(histogram: SeriesKey, what: str) -> SeriesKey:
    """`http_request_duration_seconds_bucket` becomes `http_request_duration_seconds_p95`."""
    name = histogram.name
    base, separator = name[:-len("_bucket")], name[-len("_bucket")]
    unit = next((unit for word, unit in _UNITS if base.endswith(word)), "")
    return SeriesKey(histogram.service, f"{base}{separator}{what}", histogram.instance, histogram.peer, unit, "gauge",
                     histogram.labels)


def quantile(q: float, buckets: Mapping[float, float]) -> float:
    """The q-quantile of cumulative buckets (upper bound -> what lies at or below it), linear within a bucket, as
    Prometheus' histogram_quantile. What lies beyond the last finite bound counts as that bound. NaN where nothing was
    added, or where there is no finite bound.

    >>> quantile(0.5, {0.1: 10.0, 1.0: 18.0, float("inf"): 20.0})
    0.1
    """
    bounds = sorted(buckets)
    total = max(buckets.values(), default=0.0)
    if total <= 0 or not bounds or not math.isfinite(bounds[0]):
        return math.nan
    rank, below, low = q * total, 0.0, min(0.0, bounds[0])
    for bound in bounds:
        here = max(buckets[bound], below)  # counters read a moment apart may cross
        if here >= rank and here > below:
            return low + (bound - low) * (rank - below) / (here - below) if math.isfinite(bound) else low
        below, low = here, bound
    return max(b for b in bounds if math.isfinite(b))
