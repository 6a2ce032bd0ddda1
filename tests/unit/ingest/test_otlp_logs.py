"""Log requests by the compiled loop give what protobuf's objects give."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from ingest.decode import Decoder
from ingest.types import Batch, Record
from ingest.wire import otlp_logs, otlp_proto
from ingest.wire.otlp_logs import scan_logs

pytestmark = pytest.mark.skipif(not hasattr(otlp_logs.scan, "py_func"), reason="without numba there is no compiled loop")
TEXTS = st.text(min_size=1, max_size=30) | st.sampled_from(
    ["user 17 paid", "ERROR cannot", 'level=warn msg="x"', '{"msg": "y"}'])
ODD_BODIES = st.sampled_from([AnyValue(int_value=4), AnyValue(string_value=""), AnyValue()])
BODIES = st.integers(0, 19).flatmap(lambda n: st.builds(lambda t: AnyValue(string_value=t), TEXTS) if n else ODD_BODIES)
KEYS = st.sampled_from(["service.name", "k8s.pod.name", "other", ""])
PAIRS = st.lists(st.builds(lambda k, v: KeyValue(key=k, value=AnyValue(string_value=v)), KEYS, st.text(max_size=5)), max_size=3)
IDS = st.sampled_from([b"", bytes(16), bytes(range(16)), b"\xff" * 16])
TIMES = st.sampled_from([0, 1, 1_790_000_000_123_456_789, 2**63 - 1, 2**63, 2**64 - 1])
RECORDS = st.builds(LogRecord, time_unix_nano=TIMES, observed_time_unix_nano=TIMES, severity_number=st.integers(0, 24),
                    severity_text=st.sampled_from(["", "INFO", "warning", "odd"]), body=BODIES, attributes=PAIRS, trace_id=IDS,
                    flags=st.integers(0, 3), dropped_attributes_count=st.integers(0, 2))
SCOPES = st.builds(ScopeLogs, scope=st.builds(InstrumentationScope, name=st.text(max_size=3)), schema_url=st.text(max_size=3),
                   log_records=st.lists(RECORDS, max_size=4))
GROUPS = st.builds(ResourceLogs, resource=st.builds(Resource, attributes=PAIRS), scope_logs=st.lists(SCOPES, max_size=2))
REQUESTS = st.builds(ExportLogsServiceRequest, resource_logs=st.lists(GROUPS, min_size=1, max_size=3))


def decoded(value: bytes, *, by_objects: bool) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        if by_objects:
            patch.setattr(otlp_proto, "scan_logs", lambda value: None)
        return told(Decoder().decode([Record("t", 0, 0, 1_790_000_000_000, value)]))


def told(batch: Batch) -> Any:
    logs, names = batch.logs, batch.logs.vocab
    return (list(logs.text), logs.ts_ns.tolist(), [names[i] if i >= 0 else "" for i in logs.service], logs.level.tolist(),
            [names[i] if i >= 0 else "" for i in logs.instance], list(logs.trace_id), dict(batch.formats),
            [d.reason for d in batch.dead_letters])


def reordered(value: bytes, dice: random.Random) -> bytes:
    """The same message with the fields of each level shuffled, as some producers write them; those that repeat stay
    in order."""
    from ingest.wire.protobuf_shape import NoProtobuf, fields

    def varint(number: int) -> bytes:
        return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)

    def shuffle(data: bytes, depth: int) -> bytes:
        found = []
        for f in fields(data):
            content = varint(f.start) if f.wire == 0 else data[f.start:f.end]
            nested = (depth, f.number) in ((0, 1), (1, 2), (2, 2))
            if nested:
                content = shuffle(content, depth + 1)
            found.append((f.number, varint(f.number << 3 | f.wire) + (varint(len(content)) if f.wire == 2 else b"") + content))
        numbers = sorted({number for number, _ in found}, key=lambda _: dice.random())
        return b"".join(part for wanted in numbers for number, part in found if number == wanted)

    try:
        return shuffle(value, 0)
    except NoProtobuf:
        return value


@settings(deadline=None, max_examples=400)
@given(request=REQUESTS, seed=st.integers(0, 100))
def test_requests(request: ExportLogsServiceRequest, seed: int) -> None:
    for value in (request.SerializeToString(), reordered(request.SerializeToString(), random.Random(seed))):
        event("scanned" if scan_logs(value) is not None else "left to protobuf")
        assert decoded(value, by_objects=False) == decoded(value, by_objects=True)


@settings(deadline=None, max_examples=400)
@given(request=REQUESTS, data=st.data())
def test_broken_requests_raise_nothing_and_are_counted(request: ExportLogsServiceRequest, data: st.DataObject) -> None:
    value = bytearray(request.SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        if value:
            value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
    value = value[:data.draw(st.integers(0, len(value)))] if data.draw(st.booleans()) else value
    batch = Decoder().decode([Record("t", 0, 0, 1_790_000_000_000, bytes(value))])
    assert sum(batch.formats.values()) + len(batch.dead_letters) == 1
    list(batch.logs.text)


def test_a_collectors_batch_is_read_by_the_block() -> None:
    records = [LogRecord(time_unix_nano=10**18 + i, severity_number=9, body=AnyValue(string_value=f"order {i} paid"),
                         trace_id=bytes(range(16))) for i in range(500)]
    request = ExportLogsServiceRequest(resource_logs=[ResourceLogs(
        resource=Resource(attributes=[KeyValue(key="service.name", value=AnyValue(string_value="cart"))]),
        scope_logs=[ScopeLogs(log_records=records)])])
    found = scan_logs(request.SerializeToString())
    assert found is not None
    assert found.text[499] == "order 499 paid"
