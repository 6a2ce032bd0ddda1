"""OTLP: told by its shape whatever the order of its fields, and whatever else is on the topic; every kind of metric;
what liberal producers write."""

from __future__ import annotations

import gzip
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.metrics.v1 import metrics_pb2 as m

from ingest.decode import Decoder, DecoderConfig
from ingest.types import Batch, Level, Record
from ingest.wire.protobuf_shape import NoProtobuf, fields, shape_of
from ingest.wire.quantiles import explicit_quantile, exponential_quantile, within

T = 1_790_000_000 * 10**9
REQUESTS: dict[str, type[Message]] = {
    "logs": ExportLogsServiceRequest, "metrics": ExportMetricsServiceRequest, "traces": ExportTraceServiceRequest}
WIRE = Path(__file__).parent / "wire"
FUZZ = settings(max_examples=int(os.environ.get("OPSMEND_TEST_FUZZ_EXAMPLES", "150")), deadline=None,
                suppress_health_check=list(HealthCheck))


def batch_of(*values: bytes, fmt: str = "") -> Batch:
    decoder = Decoder(DecoderConfig(topic_formats={"t": fmt} if fmt else {}))
    batch = decoder.decode([Record("t", 0, n, T // 10**6 + 5, v) for n, v in enumerate(values)])
    assert batch.records_in == len(values) == sum(batch.formats.values()) + len(batch.dead_letters)
    return batch


def points(batch: Batch) -> dict[tuple[str, str, str], float]:
    """(name, kind, le) -> value"""
    table = batch.metrics.series_table
    return {(table[s].name, table[s].kind, dict(table[s].labels).get("le", "")): v
            for s, v in zip(batch.metrics.series.tolist(), batch.metrics.value.tolist(), strict=True)}


# random requests -----------------------------------------------------------------------------------------------

_IDS = {"trace_id": 16, "span_id": 8, "parent_span_id": 8}


@st.composite
def filled(draw: st.DrawFn, message: type[Message], depth: int = 0) -> Message:
    """A message with any of its fields set to anything that its type allows."""
    made = message()
    for field in made.DESCRIPTOR.fields:
        if depth > 7 or not draw(st.booleans()):
            continue
        for _ in range(draw(st.integers(1, 2)) if field.is_repeated else 1):
            value = draw(_value(field, depth))
            target = getattr(made, field.name)
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                (target.add() if field.is_repeated else target).CopyFrom(value)
            elif field.is_repeated:
                target.append(value)
            else:
                setattr(made, field.name, value)
    return made


def _value(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    kind = field.type
    if kind == FieldDescriptor.TYPE_MESSAGE:
        return filled(field.message_type._concrete_class, depth + 1)
    if kind == FieldDescriptor.TYPE_STRING:
        return st.text(max_size=12)
    if kind == FieldDescriptor.TYPE_BYTES:
        size = _IDS.get(field.name)
        return st.binary(max_size=10) if size is None else st.binary(min_size=size, max_size=size) | st.just(b"")
    if kind in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
        return st.floats()
    if kind == FieldDescriptor.TYPE_BOOL:
        return st.booleans()
    if kind == FieldDescriptor.TYPE_ENUM:
        return st.sampled_from([v.number for v in field.enum_type.values])
    if kind in (FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_FIXED32):
        return st.integers(0, 2**32 - 1)
    if kind in (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_SINT32):
        return st.integers(-(2**31), 2**31 - 1)
    if kind in (FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_FIXED64):
        return st.integers(0, 2**64 - 1)
    return st.integers(-(2**63), 2**63 - 1)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def backwards(value: bytes, kind: Descriptor) -> bytes:
    """The same message with the fields of every level in the opposite order, as the collector writes them."""
    parts = []
    for field in fields(value):
        head = _varint(field.number << 3 | field.wire)
        if field.wire == 0:
            parts.append(head + _varint(field.start))
            continue
        content = value[field.start:field.end]
        known = kind.fields_by_number.get(field.number)
        if known is not None and known.type == FieldDescriptor.TYPE_MESSAGE:
            content = backwards(content, known.message_type)
        parts.append(head + (_varint(len(content)) if field.wire == 2 else b"") + content)
    return b"".join(reversed(parts))


def inner_records(request: Any) -> list[Any]:
    found: list[Any] = []
    for name, scopes, records in (("resource_logs", "scope_logs", "log_records"),
                                  ("resource_metrics", "scope_metrics", "metrics"),
                                  ("resource_spans", "scope_spans", "spans")):
        for group in getattr(request, name, ()):
            for scope in getattr(group, scopes):
                found.extend(getattr(scope, records))
    return found


@pytest.mark.parametrize("kind", REQUESTS)
@FUZZ
@given(data=st.data())
def test_any_request_is_read_as_what_it_is(kind: str, data: st.DataObject) -> None:
    message: Any = data.draw(filled(REQUESTS[kind]))
    records = inner_records(message)
    for record in records:  # what every producer sets
        if kind == "metrics":
            record.name = record.name or "m"
            if record.WhichOneof("data") is None:
                record.gauge.data_points.add(as_int=1)
        elif kind == "traces":
            record.trace_id, record.start_time_unix_nano = bytes(range(1, 17)), record.start_time_unix_nano or 1
        else:
            record.observed_time_unix_nano = record.observed_time_unix_nano or 1
    value = message.SerializeToString()
    for order in (value, backwards(value, message.DESCRIPTOR)):
        if records:
            assert shape_of(order) == kind
        batch = batch_of(order)
        if records:
            assert dict(batch.formats) == {"otlp-proto": 1}, batch.dead_letters
        counted = {"logs": len(batch.logs), "traces": len(batch.traces), "metrics": batch.points_in}
        wanted = len(records) if kind != "metrics" else sum(
            len(getattr(r, r.WhichOneof("data")).data_points) for r in records)
        if records:
            assert counted == {**dict.fromkeys(counted, 0), kind: wanted}


def test_a_metric_that_could_be_a_span_is_a_metric() -> None:
    request = ExportMetricsServiceRequest()
    request.resource_metrics.add().scope_metrics.add().metrics.add(
        name="sixteen.letters.", description="eight ok", gauge=m.Gauge(data_points=[m.NumberDataPoint(
            time_unix_nano=int.from_bytes(b"ABCDEFGH", "little"), as_int=1)]))
    assert shape_of(request.SerializeToString()) == "metrics"


@FUZZ
@given(data=st.data())
def test_mixtures_of_requests_and_of_their_fragments(data: st.DataObject) -> None:
    """All that can be asked of fragments: no exception, nothing lost."""
    values = []
    for kind in ("logs", "metrics", "traces"):
        value = data.draw(filled(REQUESTS[kind])).SerializeToString()
        at = data.draw(st.integers(0, len(value)))
        values += [value, value[:at], value[at:], value[at:] + value[:at], gzip.compress(value)]
    batch_of(*values)
    batch_of(*values, fmt="otlp-proto")


@FUZZ
@given(value=st.binary(max_size=200))
def test_random_bytes_are_hardly_ever_a_request(value: bytes) -> None:
    batch_of(b"\x0a" + value)
    batch_of(b"\x0a" + bytes([min(len(value), 127)]) + value[:127], fmt="otlp-proto")
    try:
        list(fields(value))
    except NoProtobuf:
        assert shape_of(value) == ""


@pytest.mark.parametrize("text", ["\nTraceback (most recent call last):\n", "\n\n\n", "\n\x05hello", "\n{\"a\": 1}\n"])
def test_text_that_begins_with_a_line_feed_is_text(text: str) -> None:
    batch = batch_of(text.encode())
    assert "otlp-proto" not in batch.formats


@pytest.mark.skipif(not os.environ.get("OPSMEND_TEST_DATA"), reason="NOT TESTED against captures: OPSMEND_TEST_DATA")
def test_captures_in_the_other_order_are_the_same() -> None:
    from opsmend.commands.wire import read_capture

    for kind in REQUESTS:
        for record in read_capture(Path(os.environ["OPSMEND_TEST_DATA"], "wire", f"otlp-proto-{kind}.jsonl")):
            turned = backwards(record.value, REQUESTS[kind].DESCRIPTOR)
            assert turned != record.value
            assert shape_of(turned) == shape_of(record.value) == kind


# metrics -------------------------------------------------------------------------------------------------------


def metric(**parts: Any) -> bytes:
    request = ExportMetricsServiceRequest()
    request.resource_metrics.add().scope_metrics.add().metrics.add(name="x", **parts)
    return request.SerializeToString()


@pytest.mark.parametrize(("temporality", "is_monotonic", "kind"), [(1, True, "delta"), (2, True, "counter"),
                                                                   (1, False, "gauge"), (2, False, "gauge"),
                                                                   (0, True, "counter")])
def test_sums(temporality: int, is_monotonic: bool, kind: str) -> None:
    batch = batch_of(metric(sum=m.Sum(aggregation_temporality=temporality, is_monotonic=is_monotonic, data_points=[
        m.NumberDataPoint(time_unix_nano=T, as_int=-7)])))
    assert points(batch) == {("x", kind, ""): -7.0}


def test_a_cumulative_histogram_keeps_its_buckets_as_counters() -> None:
    batch = batch_of(metric(histogram=m.Histogram(aggregation_temporality=2, data_points=[m.HistogramDataPoint(
        time_unix_nano=T, count=20, sum=9.0, bucket_counts=[10, 8, 2], explicit_bounds=[0.1, 1.0])])))
    assert batch.points_in == 1
    assert points(batch) == {("x.count", "counter", ""): 20, ("x.sum", "counter", ""): 9,
                             ("x.bucket", "counter", "0.1"): 10, ("x.bucket", "counter", "1"): 18,
                             ("x.bucket", "counter", "+Inf"): 20}


def test_a_delta_histogram_gives_the_quantiles_of_its_interval() -> None:
    batch = batch_of(metric(histogram=m.Histogram(aggregation_temporality=1, data_points=[m.HistogramDataPoint(
        time_unix_nano=T, count=20, sum=9.0, bucket_counts=[10, 8, 2], explicit_bounds=[0.1, 1.0])])))
    assert points(batch) == {("x.count", "delta", ""): 20, ("x.sum", "delta", ""): 9, ("x.p50", "gauge", ""): 0.1,
                             ("x.p95", "gauge", ""): 1.0, ("x.p99", "gauge", ""): 1.0}


def test_a_series_that_ended_is_nan() -> None:
    batch = batch_of(metric(gauge=m.Gauge(data_points=[m.NumberDataPoint(time_unix_nano=T, as_double=3, flags=1)])),
                     metric(histogram=m.Histogram(aggregation_temporality=2, data_points=[
                         m.HistogramDataPoint(time_unix_nano=T, flags=1)])))
    assert all(math.isnan(v) for v in batch.metrics.value.tolist())
    assert batch.points_in == 2


@pytest.mark.parametrize("zero_threshold", [-1.0, float("nan"), float("inf"), 0.0])
def test_zeros_have_a_quantile_or_none_whatever_their_width_is_said_to_be(zero_threshold: float) -> None:
    found = exponential_quantile(0.5, 0, 2, zero_threshold, (0, []), (0, []))
    assert found == 0.0 or math.isnan(found)



@given(scale=st.integers(-20, 6), values=st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=50),
       q=st.sampled_from([0.0, 0.5, 0.95, 1.0]))
def test_exponential_quantiles_are_within_their_bucket(scale: int, values: list[float], q: float) -> None:
    where = [math.ceil(math.log2(v) * 2.0 ** scale) - 1 for v in values]
    offset = min(where)
    if max(where) - offset > 100_000:
        return
    counts = [0] * (max(where) - offset + 1)
    for i in where:
        counts[i - offset] += 1
    found = exponential_quantile(q, scale, 0, 0.0, (offset, counts), (0, []))
    exact = sorted(values)[max(0, math.ceil(q * len(values)) - 1)]
    if math.isfinite(found) and scale >= 0:
        assert exact / 2 ** 2.0 ** -scale * 0.999 <= found <= exact * 2 ** 2.0 ** -scale * 1.001
    mirrored = exponential_quantile(1 - q, scale, 0, 0.0, (0, []), (offset, counts))
    if q == 0.5 and len(values) == 1 and math.isfinite(found):
        assert mirrored == pytest.approx(-found)


@given(scale=st.integers(-(2**31), 2**31 - 1), offset=st.integers(-(2**31), 2**31 - 1), zeros=st.integers(0, 2**64 - 1),
       threshold=st.floats(), counts=st.lists(st.integers(0, 2**64 - 1), max_size=5), q=st.floats(0, 1))
def test_exponential_quantiles_of_nonsense_are_numbers(scale: int, offset: int, zeros: int, threshold: float,
                                                       counts: list[int], q: float) -> None:
    assert isinstance(exponential_quantile(q, scale, zeros, threshold, (offset, counts), (offset, counts)), float)
    assert isinstance(explicit_quantile(q, [float(c) for c in counts], [*counts, 1]), float)


def test_quantiles_never_leave_what_was_seen() -> None:
    assert (within(5.0, 1.0, 2.0), within(0.5, 1.0, 2.0), within(1.5, None, None)) == (2.0, 1.0, 1.5)


# JSON as producers write it ------------------------------------------------------------------------------------


def log_json(**record: Any) -> bytes:
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "cart"}}]}
    return json.dumps({"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [record]}]}]}).encode()


@pytest.mark.parametrize("when", [{"timeUnixNano": str(T)}, {"timeUnixNano": T}, {"observedTimeUnixNano": str(T)},
                                  {"timeUnixNano": "0", "observedTimeUnixNano": T}, {"timeUnixNano": float(T)}])
def test_times_as_text_and_as_number(when: dict[str, Any]) -> None:
    assert batch_of(log_json(body={"stringValue": "x"}, **when)).logs.ts_ns.tolist() == [T]


def test_no_time_at_all_is_the_records_own() -> None:
    assert batch_of(log_json(body={"stringValue": "x"}, timeUnixNano="0")).logs.ts_ns.tolist() == [T + 5_000_000]


@pytest.mark.parametrize(("record", "level"), [
    ({"severityNumber": 17}, Level.ERROR), ({"severityNumber": "SEVERITY_NUMBER_WARN2"}, Level.WARN),
    ({"severityText": "warning"}, Level.WARN), ({"severityNumber": 0, "severityText": "FATAL"}, Level.FATAL),
    ({"severityNumber": None}, Level.UNSET), ({"severityNumber": 24, "severityText": "info"}, Level.FATAL)])
def test_severity_by_number_else_by_text(record: dict[str, Any], level: Level) -> None:
    assert batch_of(log_json(body={"stringValue": "x"}, **record)).logs.level.tolist() == [int(level)]


@pytest.mark.parametrize(("body", "text"), [
    ({"stringValue": "x"}, "x"), ({"intValue": "7"}, "7"), ({"doubleValue": 1.5}, "1.5"), ({"boolValue": True}, "true"),
    ({"arrayValue": {"values": [{"intValue": 1}, {"stringValue": "b"}]}}, '[1,"b"]'),
    ({"bytesValue": "/wA="}, "/wA="), (None, ""), ({}, "")])
def test_bodies_of_every_type(body: Any, text: str) -> None:
    assert batch_of(log_json(body=body)).logs.text == [text]


def test_fields_nobody_knows_and_other_orders_are_no_trouble() -> None:
    request = json.loads(log_json(body={"stringValue": "x"}, futureField={"a": [1]}))
    for document in ({"future": 1, **request}, {**request, "schemaUrl": "x"}):
        batch = batch_of(json.dumps(document, indent=1).encode())
        assert dict(batch.formats) == {"otlp-json": 1}
        assert batch.logs.text == ["x"]
    lines = json.dumps(request).encode() + b"\n" + json.dumps(request).encode()
    assert batch_of(lines).logs.text == ["x", "x"]


@pytest.mark.parametrize(("written", "read"), [("5B8EFFF798038103D269B633813FC60C", "5b8efff798038103d269b633813fc60c"),
                                               ("W47/95gDgQPSabYzgT/GDA==", "5b8efff798038103d269b633813fc60c"),
                                               ("00000000000000000000000000000000", ""), ("", ""), (None, "")])
def test_trace_ids(written: str | None, read: str) -> None:
    assert batch_of(log_json(body={"stringValue": "x"}, traceId=written)).logs.trace_id == [read]


def test_spans_with_names_instead_of_numbers() -> None:
    span = {"name": "GET", "traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "kind":
            "SPAN_KIND_CLIENT", "startTimeUnixNano": str(T), "endTimeUnixNano": str(T + 10**9),
            "status": {"code": "STATUS_CODE_ERROR"},
            "attributes": [{"key": "db.system", "value": {"stringValue": "postgresql"}}]}
    batch = batch_of(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode())
    traces = batch.traces
    assert (traces.kind.tolist(), traces.is_error.tolist(), traces.duration_us.tolist()) == ([3], [True], [10**6])
    assert traces.vocab[traces.peer.tolist()[0]] == "postgresql"


@pytest.mark.parametrize("fmt", ["otlp-json", "otlp-proto"])
def test_ten_megabytes_of_body(fmt: str) -> None:
    long = "ten megabytes " * 750_000
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=T)
    record.body.string_value = long
    value = request.SerializeToString() if fmt == "otlp-proto" else log_json(body={"stringValue": long})
    batch = batch_of(value)
    assert dict(batch.formats) == {fmt: 1}
    assert len(batch.logs.text[0]) == len(long)


@FUZZ
@given(data=st.data())
def test_json_with_wrong_types_anywhere(data: st.DataObject) -> None:
    document = json.loads((WIRE / "otlp-json" / f"{data.draw(st.sampled_from(sorted(REQUESTS)))}.json").read_text())
    at: Any = document
    while True:
        key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        if not isinstance(at[key], (dict, list)) or not at[key] or data.draw(st.integers(0, 5)) == 0:
            break
        at = at[key]
    at[key] = data.draw(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
                        | st.just([]) | st.just({}) | st.just([[]]) | st.just({"a": {}}) | st.just(10**400))
    batch_of(json.dumps(document).encode())
