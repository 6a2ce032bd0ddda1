"""OpenTelemetry OTLP, from protobuf messages and JSON documents alike: what both have in common, logs and traces.

Source: opentelemetry-proto, docs/specification.md. A log's time is its own, else when it was observed, else the
record's. The service comes from the resource; a log body that is a map, a list or bytes becomes JSON text.
"""

from __future__ import annotations

import base64
import contextlib
import math
from collections.abc import Iterable
from typing import Any, Final

from ingest.types import Level
from ingest.wire.line import Line, put_line
from ingest.wire.otlp_resource import NAME_PEERS, QUEUE, as_text, instance_of, peer_of, placement_of
from ingest.wire.rows import DecodeContext, Rows, level_of, number_level
from ingest.wire.unwrap import may_unwrap

NAN: Final = float("nan")
_MAX_NAME: Final = 200
_CONSUMER: Final = 5
_CALLS: Final = (3, 4, _CONSUMER)  # client, producer, consumer: spans that may name the other side
_ERROR = 2
_NAMES: Final = {"SPAN_KIND_INTERNAL": 1, "SPAN_KIND_SERVER": 2, "SPAN_KIND_CLIENT": 3, "SPAN_KIND_PRODUCER": 4,
                 "SPAN_KIND_CONSUMER": 5, "STATUS_CODE_OK": 1, "STATUS_CODE_ERROR": 2,
                 "AGGREGATION_TEMPORALITY_DELTA": 1, "AGGREGATION_TEMPORALITY_CUMULATIVE": 2}


def any_value(value: Any) -> object:
    """A Python value of an AnyValue; bytes as base64 text, lists and maps as JSON-like."""
    which = value.WhichOneof("value") if value is not None else None
    if which is None:
        return None
    found = getattr(value, which)
    if which == "array_value":
        return [any_value(v) for v in found.values or ()]
    if which == "kvlist_value":
        return {kv.key or "": any_value(kv.value) for kv in found.values or ()}
    if which == "bytes_value" and isinstance(found, bytes):
        return base64.b64encode(found).decode()
    return found


def attributes(pairs: Iterable[Any] | None) -> dict[str, object]:
    """Key -> value; of a key that comes twice the last."""
    return {pair.key or "": any_value(pair.value) for pair in pairs or ()}


def _some(pairs: Iterable[Any] | None, wanted: frozenset[str]) -> dict[str, object]:
    """The same of the wanted keys alone: spans have many attributes, and reading a value is what costs."""
    return {key: any_value(pair.value) for pair in pairs or () if (key := pair.key) in wanted}


def attributes_of(resource: Any) -> dict[str, object]:
    return attributes(resource.attributes) if resource is not None else {}


def finite(value: float) -> float:
    """NaN, "no measurement", for what is infinite: one such point must not refuse the hundreds around it."""
    return float(value) if math.isfinite(value) else NAN


def number(value: int | str | None) -> int:
    """An enum's number; producers that don't keep to the specification write its name."""
    return value if isinstance(value, int) else _NAMES.get(value or "", 0)


def identity(value: bytes | str | None) -> str:
    """A trace or span id in hexadecimal, lower case; "" for none and for all zeros, which mean none."""
    if isinstance(value, bytes):
        return value.hex() if value.strip(b"\x00") else ""
    if not value:
        return ""
    if len(value) in (12, 24):  # protobuf's own JSON mapping writes base64
        with contextlib.suppress(ValueError):
            value = base64.b64decode(value, validate=True).hex()
    return value.lower() if value.strip("0") else ""


def time_of(context: DecodeContext, *nanoseconds: float | None) -> int:
    """The first that is set and within 1970..2262, else the record's time."""
    for at in nanoseconds:
        if at and 0 < at < 2**63:
            return int(at)
    return context.timestamp_ns


def put_logs(groups: Iterable[Any] | None, context: DecodeContext, rows: Rows) -> None:
    for group in groups or ():
        resource = attributes_of(group.resource)
        service, instance = context.service_of(resource), instance_of(resource)
        rows.placement(placement_of(resource, service, instance))
        for scope in group.scope_logs or ():
            for record in scope.log_records or ():
                text = as_text(any_value(record.body)) or getattr(record, "event_name", "") or ""
                ts_ns = time_of(context, record.time_unix_nano, record.observed_time_unix_nano)
                level = _level(record.severity_number, record.severity_text)
                trace_id = identity(record.trace_id)
                if may_unwrap(text):
                    put_line(Line(text, ts_ns, service, instance, level, trace_id), context, rows)
                else:
                    rows.log(ts_ns, service, text, instance=instance, level=level, trace_id=trace_id)


def _level(severity: int | str | None, text: str | None) -> Level:
    if isinstance(severity, str):  # SEVERITY_NUMBER_WARN2
        return level_of(severity.rpartition("_")[2].rstrip("234")) or level_of(text)
    return number_level(severity or 0) or level_of(text)


def put_traces(groups: Iterable[Any] | None, context: DecodeContext, rows: Rows) -> None:
    for group in groups or ():
        resource = attributes_of(group.resource)
        service, instance = context.service_of(resource), instance_of(resource)
        rows.placement(placement_of(resource, service, instance))
        for scope in group.scope_spans or ():
            for span in scope.spans or ():
                kind = number(span.kind)
                peer, of = peer_of(_some(span.attributes, NAME_PEERS)) if kind in _CALLS else ("", 0)
                if kind == _CONSUMER and of != QUEUE:  # it depends on its queue, not on who wrote there
                    peer = ""
                start = time_of(context, span.start_time_unix_nano)
                end = time_of(context, span.end_time_unix_nano) if span.end_time_unix_nano else start
                rows.span(start, service, peer if peer != service else "", max(0, (end - start) // 1000),
                          is_error=span.status is not None and number(span.status.code) == _ERROR,
                          kind=kind if 0 <= kind <= 5 else 0, trace_id=identity(span.trace_id),
                          span_id=identity(span.span_id), parent_id=identity(span.parent_span_id), instance=instance,
                          operation=(span.name or "")[:_MAX_NAME], peer_kind=of)
