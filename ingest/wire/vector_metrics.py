"""Vector's metric events: what each kind of value becomes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ingest.errors import DecodeError
from ingest.types import SeriesKey
from ingest.wire.documents import first_text
from ingest.wire.line import SERVICES, header_service, service_in, time_in
from ingest.wire.numbers import label_pairs, measured
from ingest.wire.quantiles import explicit_quantile
from ingest.wire.rows import UNKNOWN_SERVICE, DecodeContext, Rows

_SCALARS = ("counter", "gauge")
_VALUES = (*_SCALARS, "set", "distribution", "aggregated_histogram", "aggregated_summary", "sketch")
_INSTANCES = ("instance", "pod_name", "host", "hostname")
_QUANTILES = (0.5, 0.95, 0.99)


def is_metric(entry: Mapping[str, Any]) -> bool:
    """A name, a `kind`, and one of the values."""
    return isinstance(entry.get("name"), str) and entry.get("kind") in ("absolute", "incremental") and any(
        isinstance(entry.get(value), dict) for value in _VALUES)


def put_metric(entry: Mapping[str, Any], context: DecodeContext, rows: Rows) -> None:
    """Raises DecodeError (reason "bad_metric") for a value of another shape."""
    which = next(value for value in _VALUES if isinstance(entry.get(value), dict))
    body: Mapping[str, Any] = entry[which]
    is_delta = entry["kind"] == "incremental"
    series = _Series(entry, context, rows, "delta" if is_delta else "counter")
    try:
        if which in _SCALARS:
            kind = "gauge" if which == "gauge" and not is_delta else series.counting
            series.point("", kind, measured(body["value"]))
        elif which == "set":
            series.point("", "gauge", float(len(body["values"])))
        elif which == "distribution":
            _put_distribution(series, body["samples"])
        elif which == "aggregated_histogram":
            _put_histogram(series, body, is_delta=is_delta)
        elif which == "aggregated_summary":
            _put_summary(series, body)
        else:
            sketch = body.get("sketch", body)
            sketch = sketch.get("AgentDDSketch", sketch)
            series.point(".count", series.counting, measured(sketch["count"]))
            series.point(".sum", series.counting, measured(sketch["sum"]), is_extra=True)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DecodeError(f"{which} of a shape that is not Vector's: {error}", reason="bad_metric") from error


class _Series:
    """The series of one metric event; `counting` is the kind of its counts and sums."""

    def __init__(self, entry: Mapping[str, Any], context: DecodeContext, rows: Rows, counting: str) -> None:
        found = entry.get("tags")
        tags = {k: v[-1] if isinstance(v, list) and len(v) == 1 else v for k, v in found.items()} if isinstance(
            found, dict) else {}
        namespace = entry.get("namespace")
        self.counting = counting
        self._name = f"{namespace}_{entry['name']}" if isinstance(namespace, str) and namespace else entry["name"]
        self._service = service_in(tags, context, SERVICES) or header_service(context) or UNKNOWN_SERVICE
        self._instance = first_text(tags, _INSTANCES)
        self._labels = label_pairs(tags, {*_INSTANCES, *SERVICES, *context.entity_from})
        self._ts_ns = time_in(entry.get("timestamp")) or context.timestamp_ns
        self._rows = rows

    def point(self, suffix: str, kind: str, value: float, *, is_extra: bool = False) -> None:
        key = SeriesKey(self._service, self._name + suffix, self._instance, kind=kind, labels=self._labels)
        self._rows.point(self._ts_ns, key, value, is_extra=is_extra)


def _put_distribution(series: _Series, samples: Sequence[Mapping[str, Any]]) -> None:
    pairs = sorted((measured(sample["value"]), measured(sample.get("rate", 1))) for sample in samples)
    count = sum(rate for _, rate in pairs)
    series.point(".count", "delta", count)
    if not pairs:
        return
    series.point(".sum", "delta", sum(value * rate for value, rate in pairs), is_extra=True)
    for q in _QUANTILES:
        below, chosen = 0.0, pairs[-1][0]
        for value, rate in pairs:
            below += rate
            if below >= q * count:
                chosen = value
                break
        series.point(f".p{round(q * 100)}", "gauge", chosen, is_extra=True)


def _put_histogram(series: _Series, body: Mapping[str, Any], *, is_delta: bool) -> None:
    """The quantiles of an absolute histogram would be of all time since the start: it has none."""
    series.point(".count", series.counting, measured(body["count"]))
    series.point(".sum", series.counting, measured(body["sum"]), is_extra=True)
    if not is_delta:
        return
    bounds, counts = [], []
    last = 0
    for bucket in body["buckets"]:
        limit = bucket.get("upper_limit")
        bound = math.nan if limit is None else measured(limit)
        if math.isnan(bound):  # infinite, which JSON writes as null
            last += int(bucket["count"])
        else:
            bounds.append(bound)
            counts.append(int(bucket["count"]))
    if bounds and sum(counts) + last:
        for q in _QUANTILES:
            series.point(f".p{round(q * 100)}", "gauge", explicit_quantile(q, bounds, [*counts, last]), is_extra=True)


def _put_summary(series: _Series, body: Mapping[str, Any]) -> None:
    series.point(".count", series.counting, measured(body["count"]))
    series.point(".sum", series.counting, measured(body["sum"]), is_extra=True)
    for entry in body["quantiles"]:
        q = measured(entry["quantile"])
        if 0.0 <= q <= 1.0:
            series.point(f".p{round(q * 100):02d}", "gauge", measured(entry["value"]), is_extra=True)
