"""OTLP in JSON encoding."""

from __future__ import annotations

import msgspec

from ingest.errors import DecodeError
from ingest.wire.rows import DecodeContext, Rows

NAME = "otlp-json"
_KEYS = (b'"resourceLogs"', b'"resourceMetrics"', b'"resourceSpans"')


def recognise(value: bytes, context: DecodeContext) -> bool:
    """An object with one of the three request fields near its beginning."""
    return value[:64].lstrip().startswith(b"{") and any(key in value[:4096] for key in _KEYS)


def decode(value: bytes, context: DecodeContext, rows: Rows) -> None:
    from ingest.wire.otlp import parse_json

    try:
        document = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(f"not JSON: {error}", reason="bad_json") from error
    if not isinstance(document, dict):
        raise DecodeError("no JSON object", reason="bad_otlp")
    for message, put in parse_json(document):
        put(message, context, rows)
