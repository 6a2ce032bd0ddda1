"""Makes the golden inputs of OTLP and of the native format, OTLP with the messages of opentelemetry-proto.

    python tests/contract/wire/make.py
    OPSMEND_TEST_UPDATE_GOLDEN=1 python -m pytest tests/contract/test_wire_formats.py    (then read the diff)

The others are captures: Alertmanager 0.25 (webhook, firing, resolved, two alerts of a group), the OpenTelemetry
Collector 0.155 (`collector.gz`: OTLP over HTTP, compressed), rsyslog 8.2302 (`rsyslog`, `rsyslog-json`).
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.metrics.v1 import metrics_pb2 as m

HERE = Path(__file__).parent
T = 1_790_000_000_123_456_789
DELTA, CUMULATIVE = 1, 2


def attribute(key: str, value: Any) -> KeyValue:
    if isinstance(value, bool):
        return KeyValue(key=key, value=AnyValue(bool_value=value))
    if isinstance(value, int):
        return KeyValue(key=key, value=AnyValue(int_value=value))
    return KeyValue(key=key, value=AnyValue(string_value=value))


def resource(service: str) -> list[KeyValue]:
    return [attribute("service.name", service), attribute("service.instance.id", f"{service}-1"),
            attribute("host.name", "node-7")]


def logs() -> ExportLogsServiceRequest:
    request = ExportLogsServiceRequest()
    group = request.resource_logs.add()
    group.resource.attributes.extend(resource("checkout"))
    scope = group.scope_logs.add()
    scope.log_records.add(time_unix_nano=T, severity_number=17, body=AnyValue(string_value="payment refused: ünknown ☃"),
                          trace_id=bytes(range(16)), span_id=bytes(range(8)))
    scope.log_records.add(observed_time_unix_nano=T + 1, severity_text="Warning", body=AnyValue(int_value=2**62))
    scope.log_records.add(time_unix_nano=T + 2, severity_number=99, body=AnyValue(kvlist_value=KeyValueList(values=[
        attribute("retry", True), KeyValue(key="codes", value=AnyValue(array_value=ArrayValue(
            values=[AnyValue(double_value=1.5), AnyValue(bytes_value=b"\xff\x00")])))])))
    scope.log_records.add()  # nothing at all: the record's own time, an empty line
    nameless = request.resource_logs.add().scope_logs.add()
    nameless.log_records.add(time_unix_nano=T, body=AnyValue(string_value="who am I"))
    return request


def metrics() -> ExportMetricsServiceRequest:
    request = ExportMetricsServiceRequest()
    group = request.resource_metrics.add()
    group.resource.attributes.extend(resource("checkout"))
    put = group.scope_metrics.add().metrics.add
    at = {"time_unix_nano": T}
    put(name="queue.depth", unit="{item}", gauge=m.Gauge(data_points=[
        m.NumberDataPoint(**at, as_int=7, attributes=[attribute("queue", "mail")]),
        m.NumberDataPoint(**at, as_double=float("nan"), attributes=[attribute("queue", "nan")]),
        m.NumberDataPoint(**at, as_double=float("inf"), attributes=[attribute("queue", "infinite")]),
        m.NumberDataPoint(**at, as_double=0.0, flags=1, attributes=[attribute("queue", "ended")]),
        m.NumberDataPoint(**at, attributes=[attribute("queue", "no value")])]))
    put(name="http.requests", unit="1", sum=m.Sum(
        aggregation_temporality=CUMULATIVE, is_monotonic=True,
        data_points=[m.NumberDataPoint(**at, as_int=2**60, attributes=[attribute("peer.service", "payments")])]))
    put(name="orders.placed", sum=m.Sum(aggregation_temporality=DELTA, is_monotonic=True, data_points=[
        m.NumberDataPoint(**at, as_double=2.5)]))
    put(name="connections.in.use", sum=m.Sum(aggregation_temporality=CUMULATIVE, data_points=[
        m.NumberDataPoint(**at, as_int=-3)]))
    put(name="latency", unit="s", histogram=m.Histogram(aggregation_temporality=DELTA, data_points=[
        m.HistogramDataPoint(**at, count=20, sum=9.0, bucket_counts=[10, 8, 2], explicit_bounds=[0.1, 1.0])]))
    put(name="latency.total", unit="s", histogram=m.Histogram(aggregation_temporality=CUMULATIVE, data_points=[
        m.HistogramDataPoint(**at, count=20, bucket_counts=[20], explicit_bounds=[]),
        m.HistogramDataPoint(**at, count=0, flags=1, attributes=[attribute("ended", True)])]))
    put(name="size", unit="By", exponential_histogram=m.ExponentialHistogram(
        aggregation_temporality=DELTA, data_points=[m.ExponentialHistogramDataPoint(
            **at, count=3, sum=12.0, scale=1,
            positive=m.ExponentialHistogramDataPoint.Buckets(offset=1, bucket_counts=[1, 2]))]))
    put(name="size.total", unit="By", exponential_histogram=m.ExponentialHistogram(
        aggregation_temporality=CUMULATIVE, data_points=[m.ExponentialHistogramDataPoint(
            **at, count=6, sum=-1.0, scale=0, zero_count=2,
            positive=m.ExponentialHistogramDataPoint.Buckets(offset=-1, bucket_counts=[1, 1]),
            negative=m.ExponentialHistogramDataPoint.Buckets(offset=0, bucket_counts=[2]))]))
    put(name="drift", unit="s", exponential_histogram=m.ExponentialHistogram(
        aggregation_temporality=DELTA, data_points=[m.ExponentialHistogramDataPoint(
            **at, count=6, scale=0, zero_count=2, min=-1.5, max=1.25,
            positive=m.ExponentialHistogramDataPoint.Buckets(offset=-1, bucket_counts=[1, 1]),
            negative=m.ExponentialHistogramDataPoint.Buckets(offset=0, bucket_counts=[2]))]))
    put(name="latency.since.start", unit="s", histogram=m.Histogram(
        aggregation_temporality=CUMULATIVE, data_points=[m.HistogramDataPoint(
            **at, count=20, sum=9.0, bucket_counts=[10, 8, 2], explicit_bounds=[0.1, 1.0],
            attributes=[attribute("http.route", "/pay"), attribute("http.response.status_code", 200)])]))
    put(name="latency.narrow", unit="s", histogram=m.Histogram(aggregation_temporality=DELTA, data_points=[
        m.HistogramDataPoint(**at, count=4, sum=1.0, min=0.24, max=0.26, bucket_counts=[0, 4, 0],
                             explicit_bounds=[0.1, 1.0])]))
    put(name="gc", unit="s", summary=m.Summary(data_points=[m.SummaryDataPoint(**at, count=4, sum=0.5, quantile_values=[
        m.SummaryDataPoint.ValueAtQuantile(quantile=0.5, value=0.1),
        m.SummaryDataPoint.ValueAtQuantile(quantile=0.99, value=float("nan")),
        m.SummaryDataPoint.ValueAtQuantile(quantile=0.999, value=0.2),
        m.SummaryDataPoint.ValueAtQuantile(quantile=7.0, value=1.0)])]))
    put(name="nothing.in.it")
    return request


def traces() -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    caller, callee = request.resource_spans.add(), request.resource_spans.add()
    caller.resource.attributes.extend(resource("checkout"))
    callee.resource.attributes.extend(resource("payments"))
    trace = bytes(range(16))
    span = caller.scope_spans.add().spans.add(
        name="POST /pay", trace_id=trace, span_id=b"\x00\x00\x00\x00\x00\x00\x00\x01", kind=3,
        start_time_unix_nano=T, end_time_unix_nano=T + 250_000_000,
        attributes=[attribute("peer.service", "payments"), attribute("http.response.status_code", 500)])
    span.status.code = 2
    callee.scope_spans.add().spans.add(
        name="/pay", trace_id=trace, span_id=b"\x00\x00\x00\x00\x00\x00\x00\x02", parent_span_id=span.span_id, kind=2,
        start_time_unix_nano=T + 1_000_000, end_time_unix_nano=T)  # a clock that went backwards
    return request


def as_otlp_json(message: Message) -> str:
    """OTLP's JSON is protobuf's but for the ids, which are hexadecimal, and enums, which are numbers."""
    def ids_in_hex(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: base64.b64decode(v).hex() if k in ("traceId", "spanId", "parentSpanId") else ids_in_hex(v)
                    for k, v in value.items()}
        return [ids_in_hex(v) for v in value] if isinstance(value, list) else value
    return json.dumps(ids_in_hex(MessageToDict(message, use_integers_for_enums=True)), indent=1, ensure_ascii=False)


def native() -> str:
    rows: list[dict[str, Any]] = [
        {"type": "log", "ts": 1790000000, "service": "checkout", "instance": "checkout-1", "level": "error",
         "message": "payment refused", "trace_id": "abc"},
        {"type": "log", "ts": 1790000000123, "service": "checkout", "level": 13, "message": {"code": 7}},
        {"type": "log", "ts": 1790000000123456, "service": "checkout"},
        {"type": "log", "ts": 1790000000123456789, "service.name": "by.otel", "service": "by.word", "message": ""},
        {"type": "log", "ts": "2026-09-21T14:13:20.123456789+02:00", "app": "legacy", "message": "no time zone trouble"},
        {"type": "log", "message": "no time, no name"},
        {"type": "metric", "ts": 1790000000.25, "service": "checkout", "name": "queue.depth", "value": 7, "unit": "1",
         "labels": {"queue": "mail", "shard": 3}},
        {"type": "metric", "ts": 1790000000, "service": "checkout", "name": "requests", "value": "12.5",
         "kind": "counter", "peer": "payments"},
        {"type": "metric", "ts": 1790000000, "service": "checkout", "name": "gone", "value": "NaN"},
        {"type": "span", "ts": 1790000000, "service": "checkout", "peer": "payments", "duration_us": 250000.5,
         "error": True, "kind": 3, "trace_id": "t", "span_id": "s", "parent_id": ""},
        {"type": "change", "ts": 1790000000, "service": "checkout", "kind": "rollout", "ref": "v2", "old": "v1",
         "actor": "ci"},
    ]
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n"


def main() -> None:
    for name, message in (("logs", logs()), ("metrics", metrics()), ("traces", traces())):
        (HERE / "otlp-proto" / f"{name}.bin").write_bytes(message.SerializeToString(deterministic=True))
        (HERE / "otlp-json" / f"{name}.json").write_text(as_otlp_json(message) + "\n")
    (HERE / "native" / "every-type.ndjson").write_text(native())
    (HERE / "plain" / "lines.txt").write_bytes(
        "first line\r\n\n  second\u2028line with a form feed \x0c in it\n"
        '{"message": "json log", "level": "WARN", "time": "2026-09-21T12:13:20Z", "service": "cart", "host": "n1"}\n'
        '{"msg": "a time of the house", "time": "21/09/2026 12:13", "app": "old"}\n'
        '{"service": "cart", "cpu": 0.5, "threads": 7, "zone": "a", "time": 1790000000}\n'
        '{"broken json": \n'.encode())


if __name__ == "__main__":
    main()
