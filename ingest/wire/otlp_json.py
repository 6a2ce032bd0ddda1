"""OTLP in JSON encoding."""

from __future__ import annotations

import re

import msgspec

from ingest.errors import DecodeError
from ingest.wire.rows import DecodeContext, Rows

NAME = "otlp-json"
_BEGIN = re.compile(rb'\s*\{\s*"resource(Logs|Metrics|Spans)"\s*:')


def recognise(value: bytes, context: DecodeContext) -> bool:
    """An object whose first field is one of the three requests. Further in, the words may be anybody's."""
    return _BEGIN.match(value) is not None


def decode(value: bytes, context: DecodeContext, rows: Rows) -> None:
    from ingest.wire.otlp import parse_json

    try:
        document = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(f"not JSON: {error}", reason="bad_json") from error
    if not isinstance(document, dict):
        raise DecodeError("no JSON object", reason="bad_otlp")
    requests = parse_json(document)
    if not requests:
        raise DecodeError("none of resourceLogs, resourceMetrics, resourceSpans", reason="bad_otlp")
    for message, put in requests:
        put(message, context, rows)
