"""JSON objects that hold measurements and no text: which of their fields become points, and what the series are called."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from ingest.types import SeriesKey
from ingest.wire.documents import dig, leaves
from ingest.wire.line import INSTANCES, SERVICES, TIMES, first_time, instance_in, service_in
from ingest.wire.rows import UNKNOWN_SERVICE, DecodeContext, Rows

_NAMES = ("metric", "metric_name", "metricName", "name", "__name__", "measurement")
_VALUES = ("value", "metric_value", "val")
_LABELS = ("labels", "tags", "dimensions", "attributes")
_KINDS = {"gauge": "gauge", "counter": "counter", "delta": "delta", "sum": "counter", "count": "delta", "rate": "gauge"}
_MAX_LABELS = 32
_MAX_LABEL_CHARS = 128
_NOT_LABELS = frozenset((*TIMES, *INSTANCES, *SERVICES))


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def measured(value: object) -> float:
    """A number, a boolean as 0 or 1, a text that is a number ("12.5", "NaN"). NaN for what is too large to be one or
    infinite, which no measurement is; raises ValueError for any other text or type."""
    if not isinstance(value, (int, float, str)):
        raise ValueError(f"{value!r:.40} is no number")
    try:
        found = float(value)
    except OverflowError:
        return math.nan
    return found if math.isfinite(found) else math.nan


def label_pairs(entry: Mapping[str, Any], left_out: Iterable[str] = ()) -> tuple[tuple[str, str], ...]:
    """Labels of a series: the texts and booleans of an object, at most 32, sorted. A list (Vector's tags) is joined by
    commas; a text longer than 128 characters is no label."""
    skipped = frozenset(left_out)
    found = []
    for key, value in entry.items():
        if key in skipped or value is None or isinstance(value, dict):
            continue
        if isinstance(value, list):
            value = ",".join(str(v) for v in value if isinstance(v, (str, int, float)))
        text = value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
        if len(text) <= _MAX_LABEL_CHARS:
            found.append((key, text))
    return tuple(sorted(found)[:_MAX_LABELS])


def kind_of(word: object, name: str) -> str:
    """gauge, counter or delta, by the producer's word, else by the suffix that Prometheus' convention gives counters."""
    if isinstance(word, str) and word.lower() in _KINDS:
        return _KINDS[word.lower()]
    return "counter" if name.endswith("_total") else "gauge"


def put_named(entry: Mapping[str, Any], context: DecodeContext, rows: Rows) -> bool:
    """An object with a name and a value is one point of that name. False if it is none."""
    name = next((n for key in _NAMES if isinstance(n := entry.get(key), str) and n), "")
    value = next((entry[key] for key in _VALUES if key in entry), None)
    if not name or value is None or isinstance(value, bool):
        return False
    try:
        number = measured(value)
    except ValueError:
        return False
    labels = {k: v for k in _LABELS if isinstance(inner := entry.get(k), dict) for k, v in inner.items()}
    beside = {k: v for k, v in entry.items() if isinstance(v, str) and k not in (*_NAMES, *_VALUES, "unit", "type", "kind")}
    whole = {**beside, **labels}
    unit = entry.get("unit")
    key = SeriesKey(service_in(whole, context) or UNKNOWN_SERVICE, name, instance_in(whole), "",
                    unit if isinstance(unit, str) else "", kind_of(entry.get("kind") or entry.get("type"), name),
                    label_pairs(whole, {*_NOT_LABELS, *context.entity_from}))
    rows.point(first_time(entry) or context.timestamp_ns, key, number)
    return True


def put_numbers(entry: Mapping[str, Any], context: DecodeContext, rows: Rows, *, ts_ns: int = 0, service: str = "",
                instance: str = "") -> int:
    """A point per number, named by its path with dots; texts are labels of all. How many there were."""
    times = {name for name in TIMES if is_number(dig(entry, name))}
    numbers, texts = {}, {}
    for name, value in leaves(entry):
        if is_number(value):
            if name not in times:
                numbers[name] = value
        elif isinstance(value, str):
            texts[name] = value
    if not numbers:
        return 0
    ts_ns = ts_ns or first_time(entry) or context.timestamp_ns
    service = service or service_in(entry, context) or UNKNOWN_SERVICE
    instance = instance or instance_in(entry)
    labels = label_pairs(texts, {*_NOT_LABELS, *context.entity_from})
    for name, value in numbers.items():
        rows.point(ts_ns, SeriesKey(service, name, instance, kind=kind_of(None, name), labels=labels), measured(value))
    return len(numbers)
