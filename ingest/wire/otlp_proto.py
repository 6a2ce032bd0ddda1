"""OTLP in protobuf encoding: one export request of logs, metrics or traces, told apart by its shape."""

from __future__ import annotations

from typing import Any

from ingest.errors import DecodeError
from ingest.wire.last_parsed import LastParsed
from ingest.wire.otlp_logs import ScannedLogs, put_scanned, scan_logs
from ingest.wire.protobuf_shape import Shape, shape_of
from ingest.wire.rows import DecodeContext, Rows

NAME = "otlp-proto"


def recognise(value: bytes, context: DecodeContext) -> bool:
    """The shape of one of the three requests, and all of it can be read."""
    if value[:1] != b"\x0a":  # the requests have but one field, 1
        return False
    return _parsed.keep(value) is not None


def decode(value: bytes, context: DecodeContext, rows: Rows) -> None:
    """Raises DecodeError (reason "bad_otlp")."""
    from ingest.wire.otlp import put_logs, put_traces
    from ingest.wire.otlp_metrics import put_metrics

    found = _parsed.take(value)
    if isinstance(found, ScannedLogs):
        if put_scanned(found, context, rows):
            return
        found = _parse(value)
    if found is None:
        raise DecodeError("no OTLP request of logs, metrics or traces", reason="bad_otlp")
    shape, request = found
    if shape == "logs":
        put_logs(request.resource_logs, context, rows)
    elif shape == "metrics":
        put_metrics(request.resource_metrics, context, rows)
    else:
        put_traces(request.resource_spans, context, rows)


def _scan_or_parse(value: bytes) -> ScannedLogs | tuple[Shape, Any] | None:
    """Most requests are logs whose bodies are texts, and these need no objects."""
    return (scan_logs(value) if shape_of(value) == "logs" else None) or _parse(value)


def _parse(value: bytes) -> tuple[Shape, Any] | None:
    shape = shape_of(value)
    if shape not in ("logs", "metrics", "traces"):
        return None
    from google.protobuf.message import DecodeError as ProtobufError
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    messages: dict[str, Any] = {
        "logs": ExportLogsServiceRequest, "metrics": ExportMetricsServiceRequest, "traces": ExportTraceServiceRequest}
    request = messages[shape]()
    try:
        request.ParseFromString(value)
    except ProtobufError:
        return None
    return shape, request


_parsed: LastParsed[ScannedLogs | tuple[Shape, Any]] = LastParsed(_scan_or_parse)
