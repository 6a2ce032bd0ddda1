"""OTLP in JSON encoding: an object with `resourceLogs`, `resourceMetrics` or `resourceSpans`, or one such a line."""

from __future__ import annotations

import re

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from ingest.errors import DecodeError
from ingest.wire.rows import DecodeContext, Rows

NAME = "otlp-json"
_BEGIN = re.compile(rb'(?:\xef\xbb\xbf)?\s*\{\s*"resource(Logs|Metrics|Spans)"\s*:')
_KEYS = (b'"resourceLogs"', b'"resourceMetrics"', b'"resourceSpans"')


class _Top(Struct, rename="camel"):
    resource_logs: Raw | UnsetType = UNSET
    resource_metrics: Raw | UnsetType = UNSET
    resource_spans: Raw | UnsetType = UNSET


_top = msgspec.json.Decoder(_Top).decode


def recognise(value: bytes, context: DecodeContext) -> bool:
    """An object that has one of the three as a field of its own. Further in, the words may be anybody's."""
    if value[:1] not in b"{ \r\n\t\xef":
        return False
    if _BEGIN.match(value) is not None:
        return True
    if not any(key in value for key in _KEYS):
        return False
    try:
        top = _top(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return not top.resource_logs is top.resource_metrics is top.resource_spans is UNSET


def decode(value: bytes, context: DecodeContext, rows: Rows) -> None:
    """Raises DecodeError: "bad_json" for what is no JSON, "bad_otlp" for what is no OTLP."""
    from ingest.wire import otlp_documents
    from ingest.wire.documents import documents
    from ingest.wire.otlp import put_logs, put_traces
    from ingest.wire.otlp_metrics import put_metrics

    try:
        try:
            requests = [otlp_documents.parse(value)]
        except msgspec.ValidationError:
            raise
        except (msgspec.DecodeError, UnicodeDecodeError) as error:  # several lines, NaN as Python writes it, ...
            found = documents(value)
            if found is None:
                raise DecodeError(f"not JSON: {error}", reason="bad_json") from error
            requests = [otlp_documents.converted(document) for document in found]
    except msgspec.ValidationError as error:
        raise DecodeError(f"no OTLP: {error}", reason="bad_otlp") from error
    except RecursionError as error:
        raise DecodeError("nested too deeply", reason="bad_json") from error
    for request in requests:
        parts = (request.resource_logs, request.resource_metrics, request.resource_spans)
        if all(part is UNSET for part in parts):
            raise DecodeError("none of resourceLogs, resourceMetrics, resourceSpans", reason="bad_otlp")
        logs, metrics, spans = (part or () for part in parts)  # UNSET is false
        put_logs(logs, context, rows)
        put_metrics(metrics, context, rows)
        put_traces(spans, context, rows)
