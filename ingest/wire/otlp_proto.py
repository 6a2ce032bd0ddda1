"""OTLP in protobuf encoding: one export request of logs, metrics or traces."""

from __future__ import annotations

from ingest.errors import DecodeError
from ingest.wire.rows import DecodeContext, Rows

NAME = "otlp-proto"


def recognise(value: bytes, context: DecodeContext) -> bool:
    """Field 1, length-delimited, and the bytes are a request that its schema knows."""
    if value[:1] != b"\x0a":
        return False
    from ingest.wire.otlp import parse_protobuf

    try:
        parse_protobuf(value)
    except DecodeError:
        return False
    return True


def decode(value: bytes, context: DecodeContext, rows: Rows) -> None:
    from ingest.wire.otlp import parse_protobuf

    message, put = parse_protobuf(value)
    put(message, context, rows)
