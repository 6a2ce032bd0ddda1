"""CloudEvents 1.0: structured JSON, batches of it, and binary mode, where the attributes are headers.

`data` is read as whatever format it is, once; what no format claims is a log line or a set of numbers by the rules of
`plain`. The event's time, and its source for a service, count where the data names none.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from ingest.errors import DecodeError
from ingest.wire.documents import documents, first_text
from ingest.wire.line import Line, put_line, service_in, time_in
from ingest.wire.native import text
from ingest.wire.rows import DecodeContext, Rows

NAME = "cloudevents"
_VERSIONS = ("ce_specversion", "ce-specversion")


def claims(entry: Mapping[str, Any]) -> bool:
    """`specversion`, `type` and `source`."""
    return isinstance(entry.get("specversion"), str) and "type" in entry and "source" in entry


def recognise(value: bytes, context: DecodeContext) -> bool:
    if any(name.lower() in _VERSIONS for name in context.headers):
        return True
    found = documents(value)
    return found is not None and all(map(claims, found))


def decode(value: bytes, context: DecodeContext, rows: Rows) -> None:
    headers = {name.lower().replace("-", "_"): raw for name, raw in context.headers.items()}
    if "ce_specversion" in headers:
        attributes = {name[3:]: raw.decode(errors="replace") for name, raw in headers.items() if name.startswith("ce_")}
        _put_data(value, attributes, replace(context, headers={k: v for k, v in context.headers.items()
                                                               if k.lower() not in _VERSIONS}), rows)
        return
    entries = documents(value)
    if entries is None:
        raise DecodeError("no JSON object, array of objects, or object a line", reason="bad_json")
    for entry in entries:
        put(entry, context, rows)


def put(entry: Mapping[str, Any], context: DecodeContext, rows: Rows) -> None:
    """Raises DecodeError (reason "bad_cloudevent") for data that is not the base64 it should be."""
    if not claims(entry):
        raise DecodeError("no specversion, type and source", reason="bad_cloudevent")
    if "data_base64" in entry:
        try:
            data = base64.b64decode(text(entry["data_base64"]), validate=True)
        except (binascii.Error, ValueError) as error:
            raise DecodeError(f"data_base64: {error}", reason="bad_cloudevent") from error
    else:
        data = _bytes_of(entry.get("data"))
    _put_data(data, entry, context, rows)


def _bytes_of(data: Any) -> bytes:
    if data is None or isinstance(data, str):
        return (data or "").encode(errors="replace")
    if isinstance(data, dict) and isinstance(parts := data.get("attachments"), list) and isinstance(data.get("text"), str):
        # K8sGPT's reports: a headline, and what was found in attachments, as chat systems take them.
        details = [part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)]
        return msgspec.json.encode({**data, "text": ": ".join([data["text"], *details])})
    return msgspec.json.encode(data)


def _put_data(data: bytes, attributes: Mapping[str, Any], context: DecodeContext, rows: Rows) -> None:
    from ingest.wire.registry import FORMATS

    source = text(attributes.get("source")).rstrip("/").rpartition("/")[2]
    service = service_in(attributes, context, ()) or source
    event_ns = time_in(attributes.get("time")) or context.timestamp_ns
    inner = replace(context, timestamp_ns=event_ns, headers={
        **context.headers, **({context.entity_from[0]: service.encode()} if service and context.entity_from else {})})
    if data.strip():
        mark = rows.mark()
        try:
            found = next(f for f in FORMATS.values() if f.NAME != NAME and f.recognise(data, inner))
            found.decode(data, inner, rows)
            return
        except DecodeError:
            rows.cut(mark)
    words = [first_text(attributes, ("type",)), first_text(attributes, ("subject",)), data.decode(errors="replace").strip()]
    put_line(Line(" ".join(filter(None, words)), event_ns, service), inner, rows)
