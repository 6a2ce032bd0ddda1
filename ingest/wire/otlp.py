"""OpenTelemetry OTLP, JSON and protobuf: logs, metrics, traces (opentelemetry-proto, docs/specification.md).

Histograms and summaries become series of their own: `<name>.count` and `<name>.sum` (same temporality) and,
from the buckets, `<name>.p95` of the interval for delta histograms.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

import msgspec
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import DecodeError as ProtobufError
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ingest.errors import DecodeError
from ingest.types import Level, SeriesKey
from ingest.wire.quantiles import explicit_quantile
from ingest.wire.rows import DecodeContext, Rows, level_of, number_level

_DELTA = 1
_NO_RECORDED_VALUE = 1  # flag of a data point: the series ended (Prometheus' staleness marker)
_NAN = float("nan")
_PEERS = ("peer.service", "server.address", "net.peer.name", "db.system.name", "db.system",
          "messaging.destination.name", "messaging.system")
_ID_FIELDS = frozenset({"traceId", "spanId", "parentSpanId"})


def any_value(value: Any) -> object:
    """A Python value of an AnyValue; bytes as base64 text, lists and maps as JSON-like."""
    which = value.WhichOneof("value")
    if which is None:
        return None
    if which == "array_value":
        return [any_value(v) for v in value.array_value.values]
    if which == "kvlist_value":
        return {kv.key: any_value(kv.value) for kv in value.kvlist_value.values}
    if which == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    return getattr(value, which)


def attributes(pairs: Iterable[Any]) -> dict[str, object]:
    return {pair.key: any_value(pair.value) for pair in pairs}


def as_text(value: object) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else msgspec.json.encode(value).decode()


def finite(value: float) -> float:
    """NaN, "no measurement", for what is infinite: one such point must not refuse the hundreds around it."""
    return float(value) if math.isfinite(value) else _NAN


def put_logs(request: Any, context: DecodeContext, rows: Rows) -> None:
    for resource_logs in request.resource_logs:
        resource = attributes(resource_logs.resource.attributes)
        service, instance = context.service_of(resource), as_text(resource.get("service.instance.id"))
        for scope in resource_logs.scope_logs:
            for record in scope.log_records:
                level = number_level(record.severity_number)
                if level is Level.UNSET:
                    level = level_of(record.severity_text)
                rows.log(_time(record.time_unix_nano or record.observed_time_unix_nano, context), service,
                         as_text(any_value(record.body)), instance=instance, level=level,
                         trace_id=record.trace_id.hex())


def put_metrics(request: Any, context: DecodeContext, rows: Rows) -> None:
    for resource_metrics in request.resource_metrics:
        resource = attributes(resource_metrics.resource.attributes)
        for scope in resource_metrics.scope_metrics:
            for metric in scope.metrics:
                _put_metric(metric, resource, context, rows)


def _put_metric(metric: Any, resource: Mapping[str, object], context: DecodeContext, rows: Rows) -> None:
    which = metric.WhichOneof("data")
    if which is None:
        return
    data = getattr(metric, which)
    is_delta = getattr(data, "aggregation_temporality", 0) == _DELTA
    cumulative = "delta" if is_delta else "counter"
    for point in data.data_points:
        own = attributes(point.attributes)
        ts_ns = _time(point.time_unix_nano, context)
        is_gap = bool(point.flags & _NO_RECORDED_VALUE)
        if which in ("gauge", "sum"):
            kind = "gauge" if which == "gauge" or not data.is_monotonic else cumulative
            value_of = point.WhichOneof("value")
            value = _NAN if value_of is None or is_gap else finite(getattr(point, value_of))
            rows.point(ts_ns, _key(metric.name, metric.unit, kind, resource, own, context), value)
            continue

        def key(name: str, unit: str, kind: str, own: Mapping[str, object] = own) -> SeriesKey:
            return _key(name, unit, kind, resource, own, context)

        rows.point(ts_ns, key(metric.name + ".count", "1", cumulative), _NAN if is_gap else float(point.count))
        if is_gap:
            continue
        if which == "summary" or point.HasField("sum"):  # a histogram of negative values has none
            rows.point(ts_ns, key(metric.name + ".sum", metric.unit, cumulative), finite(point.sum), is_extra=True)
        if which == "histogram" and is_delta and point.count and point.explicit_bounds:
            p95 = explicit_quantile(0.95, list(point.explicit_bounds), list(point.bucket_counts))
            rows.point(ts_ns, key(metric.name + ".p95", metric.unit, "gauge"), finite(p95), is_extra=True)
        if which == "summary":
            for quantile in point.quantile_values:
                if 0.0 <= quantile.quantile <= 1.0:
                    name = f"{metric.name}.p{round(quantile.quantile * 100):02d}"
                    rows.point(ts_ns, key(name, metric.unit, "gauge"), finite(quantile.value), is_extra=True)


def _key(name: str, unit: str, kind: str, resource: Mapping[str, object], own: Mapping[str, object],
         context: DecodeContext) -> SeriesKey:
    # A Prometheus receiver puts `job` and `instance` on the resource; an exporter's own label wins.
    service = context.service_of({**resource, **own})
    instance = as_text(resource.get("service.instance.id") or own.get("instance") or resource.get("host.name"))
    peer = next((as_text(own[p]) for p in ("peer", *_PEERS) if own.get(p)), "")
    labels = tuple(sorted((k, as_text(v)) for k, v in own.items() if k not in ("peer", "instance")))
    return SeriesKey(service, name, instance, peer if peer != service else "", unit, kind, labels)


def put_traces(request: Any, context: DecodeContext, rows: Rows) -> None:
    for resource_spans in request.resource_spans:
        resource = attributes(resource_spans.resource.attributes)
        service = context.service_of(resource)
        for scope in resource_spans.scope_spans:
            for span in scope.spans:
                own = attributes(span.attributes)
                peer = next((as_text(own[p]) for p in _PEERS if own.get(p)), "") if span.kind in (3, 4) else ""
                start = _time(span.start_time_unix_nano, context)
                rows.span(start, service, peer, max(0, (span.end_time_unix_nano - start) // 1000),
                          is_error=span.status.code == 2, kind=span.kind if 0 <= span.kind <= 5 else 0,
                          trace_id=span.trace_id.hex(), span_id=span.span_id.hex(),
                          parent_id=span.parent_span_id.hex())


def _time(nanoseconds: int, context: DecodeContext) -> int:
    return nanoseconds if 0 < nanoseconds < 2**63 else context.timestamp_ns


_Put = Callable[[Any, DecodeContext, Rows], None]
REQUESTS: dict[str, tuple[type[Message], _Put]] = {
    "resourceLogs": (ExportLogsServiceRequest, put_logs),
    "resourceMetrics": (ExportMetricsServiceRequest, put_metrics),
    "resourceSpans": (ExportTraceServiceRequest, put_traces),
}


def parse_json(document: Mapping[str, Any]) -> list[tuple[Message, _Put]]:
    """The requests in a JSON document. Trace and span ids are hex in OTLP/JSON, not base64."""
    parsed: list[tuple[Message, _Put]] = []
    for key, (message, put) in REQUESTS.items():
        if key in document:
            try:
                part = _ids_to_base64({key: document[key]})
                parsed.append((ParseDict(part, message(), ignore_unknown_fields=True, max_recursion_depth=64), put))
            except (ParseError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
                raise DecodeError(f"{key}: {str(error)[:200]}", reason="bad_otlp") from error
    return parsed


def _ids_to_base64(value: Any, depth: int = 0) -> Any:
    if depth > 64:
        raise ValueError("nested deeper than 64")
    if isinstance(value, dict):
        return {k: _hex_to_base64(v) if k in _ID_FIELDS and isinstance(v, str) else _ids_to_base64(v, depth + 1)
                for k, v in value.items()}
    if isinstance(value, list):
        return [_ids_to_base64(v, depth + 1) for v in value]
    return value


def _hex_to_base64(value: str) -> str:
    try:
        return base64.b64encode(bytes.fromhex(value)).decode()
    except (ValueError, binascii.Error) as error:
        raise ValueError(f"id {value[:40]!r} is not hexadecimal") from error


def parse_protobuf(value: bytes) -> tuple[Message, _Put]:
    """The one request type that the bytes are. All three share field 1, so what is inside decides.

    The signal types differ below `Scope*`: a wrong type leaves fields unset or unknown, so the type whose
    re-encoding gives back every byte wins.
    """
    best: tuple[int, Message, _Put] | None = None
    for message_type, put in REQUESTS.values():
        message = message_type()
        try:
            message.ParseFromString(value)
        except ProtobufError:
            continue
        score = known_bytes(message)
        if best is None or score > best[0]:
            best = (score, message, put)
    if best is None or best[0] <= 0:
        raise DecodeError("no OTLP request", reason="bad_otlp")
    return best[1], best[2]


def known_bytes(message: Message) -> int:
    """How many bytes of a message its schema knows."""
    clean = type(message)()
    clean.CopyFrom(message)
    total = clean.ByteSize()
    clean.DiscardUnknownFields()
    return int(clean.ByteSize()) * 2 - int(total)


@lru_cache(maxsize=4)
def by_path(path: str) -> tuple[type[Message], _Put] | None:
    """The request that an OTLP/HTTP path carries."""
    return {"/v1/logs": REQUESTS["resourceLogs"], "/v1/metrics": REQUESTS["resourceMetrics"],
            "/v1/traces": REQUESTS["resourceSpans"]}.get(path)
