"""From a schema in the registry to a function that reads its values (extra `registry`).

Protobuf needs a registry that hands out compiled schemas (`format=serialized`: Confluent's, Karapace).
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import struct
from functools import lru_cache
from typing import Any, Final

import fastavro
import httpx
import msgspec
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError as ProtobufError

from ingest.errors import DecodeError
from ingest.schema_registry import SchemaRegistryConfig, ToJson

_READ_AS_THEY_ARE: Final = ("opentelemetry.proto.", "prometheus.")
_MAX_DEPTH: Final = 20
# What a reader of Avro raises on bytes that don't fit: it checks nothing beforehand.
_MISFITS: Final = (EOFError, struct.error, LookupError, ValueError, TypeError, ArithmeticError, RecursionError)


class NoAnswer(Exception):
    """The registry can't be reached, or is in trouble."""


class Unusable(Exception):
    """The registry has no such schema, or one that can't be used here."""


def reader_of(config: SchemaRegistryConfig, schema_id: int) -> ToJson:
    """Raises NoAnswer and Unusable."""
    try:
        schema = _client(config, False).get_schema(schema_id)
        kind = (schema.schema_type or "AVRO").upper()
        if kind == "AVRO":
            return _avro(config, schema)
        if kind == "JSON":
            return lambda payload: payload
        if kind == "PROTOBUF":
            return _protobuf(config, schema_id)
    except SchemaRegistryError as error:
        if error.http_status_code >= 500 or error.http_status_code in (408, 429):
            raise NoAnswer(str(error)[:200]) from error
        raise Unusable(str(error)[:200]) from error
    except (httpx.HTTPError, OSError) as error:
        raise NoAnswer(f"{type(error).__name__} {error}"[:200]) from error
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError,
            fastavro.schema.SchemaParseException, ProtobufError) as error:
        raise Unusable(f"not to be read: {type(error).__name__} {error}"[:200]) from error
    raise Unusable(f"of the unknown type {kind}"[:200])


@lru_cache(maxsize=8)
def _client(config: SchemaRegistryConfig, is_serialized: bool) -> SchemaRegistryClient:
    """The client keeps what it fetched whatever the format, so each format has its own."""
    settings: dict[str, Any] = {"url": config.url, "timeout": config.timeout_seconds, "max.retries": 0}
    if config.username:
        settings["basic.auth.user.info"] = f"{config.username}:{config.password}"
    if config.ca:
        settings["ssl.ca.location"] = config.ca
    return SchemaRegistryClient(settings)


def _avro(config: SchemaRegistryConfig, schema: Any) -> ToJson:
    named: dict[str, Any] = {}
    _parse_references(config, schema, named, 0)
    parsed = fastavro.parse_schema(json.loads(schema.schema_str), named_schemas=named)

    def read(payload: bytes) -> bytes:
        try:
            return _as_bytes(fastavro.schemaless_reader(io.BytesIO(payload), parsed, None))
        except _MISFITS as error:
            raise DecodeError(f"bytes that are not of their Avro schema: {type(error).__name__} {error}"[:300],
                              reason="bad_framed") from error

    return read


def _parse_references(config: SchemaRegistryConfig, schema: Any, named: dict[str, Any], depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise ValueError("references nested too deeply")
    for reference in schema.references or ():
        found = _client(config, False).get_version(reference.subject, reference.version).schema
        _parse_references(config, found, named, depth + 1)
        fastavro.parse_schema(json.loads(found.schema_str), named_schemas=named)


def _as_bytes(entry: object) -> bytes:
    """Times, decimals and UUIDs become text, bytes become base64."""
    if isinstance(entry, str):
        return entry.encode()
    return entry if isinstance(entry, bytes) else msgspec.json.encode(entry, enc_hook=repr)


def _protobuf(config: SchemaRegistryConfig, schema_id: int) -> ToJson:
    client = _client(config, True)
    schema = client.get_schema(schema_id, fmt="serialized")
    pool = descriptor_pool.DescriptorPool()
    _add_file(client, pool, schema, f"schema-{schema_id}.proto", 0)
    file = pool.FindFileByName(f"schema-{schema_id}.proto")

    def read(payload: bytes) -> bytes:
        try:
            path, start = _message_path(payload)
            kind: Any = list(file.message_types_by_name.values())[path[0]]
            for index in path[1:]:
                kind = kind.nested_types[index]
            if kind.full_name.startswith(_READ_AS_THEY_ARE):
                return payload[start:]
            message = message_factory.GetMessageClass(kind)()
            message.ParseFromString(payload[start:])
            return _as_bytes(MessageToDict(message, preserving_proto_field_name=True))
        except (ProtobufError, *_MISFITS) as error:
            raise DecodeError(f"bytes that are not of their Protobuf schema: {type(error).__name__} {error}"[:300],
                              reason="bad_framed") from error

    return read


def _add_file(client: SchemaRegistryClient, pool: Any, schema: Any, name: str, depth: int) -> None:
    """Put a compiled schema and all that it imports into the pool."""
    if depth > _MAX_DEPTH:
        raise ValueError("imports nested too deeply")
    try:
        file = descriptor_pb2.FileDescriptorProto.FromString(base64.b64decode(schema.schema_str, validate=True))
    except (binascii.Error, ValueError, ProtobufError) as error:
        raise Unusable("the registry has the Protobuf schema as source only; it must serve format=serialized") from error
    references = {r.name: r for r in schema.references or ()}
    for imported in file.dependency:
        if _is_there(pool, imported):
            continue
        if imported in references:
            at = references[imported]
            found = client.get_version(at.subject, at.version, fmt="serialized").schema
            _add_file(client, pool, found, imported, depth + 1)
        else:  # google/protobuf/timestamp.proto and its like
            _add_known(pool, imported)
    file.name = name
    pool.Add(file)


def _is_there(pool: Any, name: str) -> bool:
    try:
        pool.FindFileByName(name)
    except KeyError:
        return False
    return True


def _add_known(pool: Any, name: str) -> None:
    # They are in the default pool once their modules are imported.
    from google.protobuf import any_pb2, duration_pb2, field_mask_pb2, struct_pb2, timestamp_pb2, wrappers_pb2

    for module in (any_pb2, duration_pb2, field_mask_pb2, struct_pb2, timestamp_pb2, wrappers_pb2):
        if module.DESCRIPTOR.name == name:
            pool.Add(descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb))
            return
    raise Unusable(f"it imports {name[:100]}, which is not among its references")


def _message_path(payload: bytes) -> tuple[list[int], int]:
    """Which message of the file it is, and where it begins: a count and so many indexes, as zigzag numbers; a single
    zero for the first message."""
    count, at = _zigzag(payload, 0)
    if count == 0:
        return [0], at
    if not 0 < count <= _MAX_DEPTH:
        raise ValueError(f"{count} message indexes")
    path = []
    for _ in range(count):
        index, at = _zigzag(payload, at)
        path.append(index)
    if min(path) < 0:
        raise ValueError("a negative message index")
    return path, at


def _zigzag(payload: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = payload[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return (number >> 1) ^ -(number & 1), at
        if shift > 63:
            raise ValueError("a number without an end")


__all__: Final = ["NoAnswer", "Unusable", "reader_of"]
