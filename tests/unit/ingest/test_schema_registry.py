"""Framed values, against a registry that speaks the REST API over real HTTP."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from typing import Any

import fastavro
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from small_http import Answer, Asked

from ingest.decode import Decoder, DecoderConfig
from ingest.errors import DecodeError
from ingest.schema_registry import SchemaRegistry, SchemaRegistryConfig
from ingest.types import Batch, Record

METRIC = {"type": "record", "name": "Metric", "fields": [
    {"name": "timestamp", "type": "string"}, {"name": "value", "type": "string"}, {"name": "name", "type": "string"},
    {"name": "labels", "type": {"type": "map", "values": "string"}}]}
LEVEL = {"type": "enum", "name": "Level", "symbols": ["INFO", "ERROR"]}
LINE = {"type": "record", "name": "Line", "fields": [
    {"name": "service", "type": "string"}, {"name": "level", "type": "Level"}, {"name": "message", "type": "string"},
    {"name": "time", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "raw", "type": ["null", "bytes"], "default": None}]}


def _proto() -> descriptor_pb2.FileDescriptorProto:
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="line.proto", package="shop", syntax="proto3",
                                              dependency=["google/protobuf/timestamp.proto"])
    file.message_type.add(name="Other").field.add(name="x", number=1, type=kinds.TYPE_INT32, label=1)
    outer = file.message_type.add(name="Outer")
    line = outer.nested_type.add(name="Line")
    for number, name in enumerate(("service", "level", "message"), 1):
        line.field.add(name=name, number=number, type=kinds.TYPE_STRING, label=1)
    line.field.add(name="time", number=4, type=kinds.TYPE_MESSAGE, label=1, type_name=".google.protobuf.Timestamp")
    return file


def _serialized(file: descriptor_pb2.FileDescriptorProto) -> str:
    return base64.b64encode(file.SerializeToString()).decode()


def _otlp_file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="logs.proto", package="opentelemetry.proto.collector.logs.v1")
    file.message_type.add(name="ExportLogsServiceRequest")
    return file


SCHEMAS: dict[int, dict[str, Any]] = {
    1: {"schema": json.dumps(METRIC)},
    2: {"schema": json.dumps(LINE), "references": [{"name": "Level", "subject": "level", "version": 3}]},
    3: {"schema": '{"type": "object"}', "schemaType": "JSON"},
    4: {"schema": _serialized(_proto()), "schemaType": "PROTOBUF"},
    5: {"schema": 'syntax = "proto3"; message M {}', "schemaType": "PROTOBUF"},
    6: {"schema": "{", "schemaType": "AVRO"},
    7: {"schema": _serialized(_otlp_file()), "schemaType": "PROTOBUF"},
    8: {"schema": "x", "schemaType": "THRIFT"},
}


class Registry:
    """What it was asked; `is_ill`: it answers 503."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.is_ill = False

    def answer(self, asked: Asked) -> Answer:
        self.asked.append(asked.path)
        path = asked.path.partition("?")[0].strip("/").split("/")
        found: dict[str, Any] | None = None
        if path[:2] == ["schemas", "ids"]:
            found = SCHEMAS.get(int(path[2]))
        elif path == ["subjects", "level", "versions", "3"]:
            found = {"subject": "level", "version": 3, "id": 90, "schema": json.dumps(LEVEL)}
        status = 503 if self.is_ill else 200 if found else 404
        return Answer(found if status == 200 else {"error_code": status * 100 + 3, "message": "no"}, status,
                      {"content-type": "application/vnd.schemaregistry.v1+json"})


@pytest.fixture
def registry(serve_http: Callable[..., str]) -> tuple[str, Registry]:
    found = Registry()
    return serve_http(found.answer), found


def framed(schema_id: int, payload: bytes) -> bytes:
    return b"\x00" + schema_id.to_bytes(4, "big") + payload


def avro(schema: Any, entry: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), entry)
    return out.getvalue()


def decoded(url: str, *values: bytes) -> Batch:
    decoder = Decoder(DecoderConfig(schema_registry=SchemaRegistryConfig(url=url)))
    return decoder.decode([Record("t", 0, n, 1_790_000_000_000, v) for n, v in enumerate(values)])


SAMPLE = {"timestamp": "2026-08-22T10:00:00Z", "value": "7", "name": "up", "labels": {"__name__": "up", "job": "cart"}}


def test_without_a_registry_the_dead_letter_says_what_is_missing() -> None:
    batch = decoded("", framed(1, avro(METRIC, SAMPLE)))
    (letter,) = batch.dead_letters
    assert letter.reason == "schema_registry"
    assert "[ingest.schema_registry] url" in letter.detail
    assert "opsmend[registry]" in letter.detail
    assert letter.value == framed(1, avro(METRIC, SAMPLE))


def test_avro_is_routed_like_the_json_it_stands_for(registry: tuple[str, Registry]) -> None:
    url, handler = registry
    batch = decoded(url, *[framed(1, avro(METRIC, SAMPLE))] * 5)
    assert dict(batch.formats) == {"prometheus-kafka-adapter": 5}
    assert batch.metrics.series_table[0].service == "cart"
    assert batch.metrics.value.tolist() == [7.0] * 5
    assert len(handler.asked) == 1, "the schema is kept"


def test_avro_with_a_reference_and_logical_types(registry: tuple[str, Registry]) -> None:
    whole = {**LINE, "fields": [{**f, "type": LEVEL} if f["name"] == "level" else f for f in LINE["fields"]]}
    entry = {"service": "cart", "level": "ERROR", "message": "no stock", "time": 1_790_000_001_000, "raw": b"\xff"}
    batch = decoded(registry[0], framed(2, avro(whole, entry)))
    assert batch.dead_letters == ()
    assert batch.logs.text == ["no stock"]
    assert batch.logs.ts_ns.tolist() == [1_790_000_001 * 10**9]
    assert batch.logs.level.tolist() == [17]


def test_json_schema_is_the_json_behind_the_frame(registry: tuple[str, Registry]) -> None:
    batch = decoded(registry[0], framed(3, b'{"service": "cart", "message": "hello"}'))
    assert batch.logs.text == ["hello"]


def test_protobuf_nested_with_an_import(registry: tuple[str, Registry]) -> None:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(descriptor_pb2.FileDescriptorProto.FromString(
        timestamp_pb2.DESCRIPTOR.serialized_pb))
    pool.Add(_proto())
    line = message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Outer.Line"))(
        service="cart", level="warn", message="slow")
    line.time.seconds = 1_790_000_002
    batch = decoded(registry[0], framed(4, b"\x04\x02\x00" + line.SerializeToString()))
    assert batch.dead_letters == ()
    assert (batch.logs.text, batch.logs.ts_ns.tolist()) == (["slow"], [1_790_000_002 * 10**9])


def test_framed_otlp_is_otlp(registry: tuple[str, Registry]) -> None:
    request = logs_service_pb2.ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=1_790_000_000 * 10**9)
    record.body.string_value = "from a frame"
    batch = decoded(registry[0], framed(7, b"\x00" + request.SerializeToString()))
    assert dict(batch.formats) == {"otlp-proto": 1}
    assert batch.logs.text == ["from a frame"]


@pytest.mark.parametrize(("schema_id", "says"), [(5, "format=serialized"), (6, "not to be read"), (8, "THRIFT"),
                                                 (99, "no")])
def test_a_schema_that_is_not_there_or_no_use(registry: tuple[str, Registry], schema_id: int, says: str) -> None:
    url, handler = registry
    batch = decoded(url, *[framed(schema_id, b"payload")] * 3)
    assert [x.reason for x in batch.dead_letters] == ["schema_registry"] * 3
    assert says in batch.dead_letters[0].detail
    assert len(handler.asked) <= 2, "it is not asked for again and again"


def test_a_registry_that_is_ill_is_left_alone_and_comes_back(registry: tuple[str, Registry]) -> None:
    url, handler = registry
    now = 100.0
    schemas = SchemaRegistry(SchemaRegistryConfig(url=url), clock=lambda: now)
    handler.is_ill = True
    for schema_id in (1, 1, 3):
        with pytest.raises(DecodeError, match="does not answer"):
            schemas.unframe(framed(schema_id, b"{}"))
    assert len(handler.asked) == 1
    handler.is_ill = False
    now += 11
    assert schemas.unframe(framed(3, b"{}")) == b"{}"


def test_a_registry_that_hangs_costs_its_time_out_once() -> None:
    import socket
    import time

    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts and never answers
        config = SchemaRegistryConfig(url=f"http://127.0.0.1:{server.getsockname()[1]}", timeout_seconds=0.3)
        decoder = Decoder(DecoderConfig(schema_registry=config))
        began = time.monotonic()
        batch = decoder.decode([Record("t", 0, n, 0, framed(n + 1, b"payload")) for n in range(50)])
        assert time.monotonic() - began < 10
    assert len(batch.dead_letters) == 50


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(schema_id=st.sampled_from([1, 2, 3, 4, 7]), payload=st.binary(max_size=80))
def test_bytes_that_are_not_of_the_schema(registry: tuple[str, Registry], schema_id: int, payload: bytes) -> None:
    batch = decoded(registry[0], framed(schema_id, payload), b"fine")
    assert batch.records_in == 2 == sum(batch.formats.values()) + len(batch.dead_letters)


def test_the_password_is_not_shown() -> None:
    assert "s3cret" not in repr(SchemaRegistryConfig(url="http://x", username="me", password="s3cret"))
