"""opsmend's own NDJSON: one or more lines per record, each `{"type": "log|metric|span|change", ...}`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from ingest.errors import DecodeError
from ingest.types import PEER_KINDS, Change, Placement, SeriesKey
from ingest.wire.documents import documents
from ingest.wire.rows import DecodeContext, Rows, level_of
from ingest.wire.times import to_ns

NAME = "native"
LOG_FIELDS = (("message",), ("ts",), ("level",), ("instance",), ("trace_id",))
"""Which field of a log line is what."""
_KINDS = ("gauge", "counter", "delta")


def recognise(value: bytes, context: DecodeContext) -> bool:
    """The first line is an object whose `type` is one of ours."""
    head = value[:65536].lstrip()
    if not head.startswith(b"{"):
        return False
    found = documents(value.split(b"\n", 1)[0])
    if not found:
        return False
    first = found[0]
    if context.is_changes:
        return "service" in first and "kind" in first
    kind = first.get("type")
    return isinstance(kind, str) and kind in _TYPES


def decode(value: bytes, context: DecodeContext, rows: Rows) -> None:
    """Raises DecodeError; the caller drops what the record had added."""
    objects = documents(value)
    if objects is None:
        raise DecodeError("not NDJSON: a line is no JSON object", reason="bad_json")
    for entry in objects:
        kind = entry.get("type", "change" if context.is_changes else None)
        if not isinstance(kind, str) or kind not in _TYPES:
            raise DecodeError(f"unknown type {kind!r:.40}; one of log, metric, span, change", reason="unknown_type")
        _TYPES[kind](entry, context, rows)


def _log(entry: Mapping[str, Any], context: DecodeContext, rows: Rows) -> None:
    rows.log(to_ns(entry.get("ts"), context.timestamp_ns), context.service_of(entry),
             text(entry.get("message")), instance=text(entry.get("instance")), level=level_of(entry.get("level")),
             trace_id=text(entry.get("trace_id")))


def _metric(entry: Mapping[str, Any], context: DecodeContext, rows: Rows) -> None:
    name, value = entry.get("name"), entry.get("value")
    if not isinstance(name, str) or not name:
        raise DecodeError("metric without a name", reason="bad_metric")
    kind = entry.get("kind", "gauge")
    if kind not in _KINDS:
        raise DecodeError(f"metric kind {kind!r:.40}; one of {', '.join(_KINDS)}", reason="bad_metric")
    labels = entry.get("labels") or {}
    if not isinstance(labels, dict):
        raise DecodeError("labels are no object", reason="bad_metric")
    key = SeriesKey(context.service_of(entry), name, text(entry.get("instance")), text(entry.get("peer")),
                    text(entry.get("unit")), kind, tuple(sorted((str(k), str(v)) for k, v in labels.items())))
    rows.point(to_ns(entry.get("ts"), context.timestamp_ns), key, number(value))


def _span(entry: Mapping[str, Any], context: DecodeContext, rows: Rows) -> None:
    kind, duration = entry.get("kind", 0), number(entry.get("duration_us", 0))
    if math.isnan(duration):
        raise DecodeError("a span without a duration", reason="bad_number")
    service, instance, host, of = (context.service_of(entry), text(entry.get("instance")), text(entry.get("host")),
                                   entry.get("peer_kind"))
    if host:
        rows.placement(Placement(service, instance, host))
    rows.span(to_ns(entry.get("ts"), context.timestamp_ns), service, text(entry.get("peer")),
              int(min(max(duration, 0.0), 1e15)), is_error=entry.get("error") is True,
              kind=kind if isinstance(kind, int) and 0 <= kind <= 5 else 0, trace_id=text(entry.get("trace_id")),
              span_id=text(entry.get("span_id")), parent_id=text(entry.get("parent_id")), instance=instance,
              operation=text(entry.get("name"))[:200], peer_kind=PEER_KINDS.index(of) if of in PEER_KINDS else 0)


def _change(entry: Mapping[str, Any], context: DecodeContext, rows: Rows) -> None:
    kind = text(entry.get("kind"))
    if kind not in ("rollout", "config", "scale", "start", "exit", "action"):
        raise DecodeError(f"change kind {kind!r:.40}; one of rollout, config, scale, start, exit, action",
                          reason="bad_change")
    rows.changes.append(Change(
        to_ns(entry.get("ts"), context.timestamp_ns), context.service_of(entry), kind, text(entry.get("ref")),
        text(entry.get("old")), text(entry.get("actor")), text(entry.get("instance"))))


_TYPES = {"log": _log, "metric": _metric, "span": _span, "change": _change}


def text(value: object) -> str:
    """Text of a JSON scalar; "" for null. Objects and lists are written as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    return msgspec.json.encode(value).decode()


def number(value: object) -> float:
    """A float. NaN stays NaN ("series ended"); infinities and words are refused."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise DecodeError(f"value {value!r:.40} is no number", reason="bad_number")
    try:
        result = float(value)
    except (ValueError, OverflowError) as error:
        raise DecodeError(f"value {value!r:.40} is no number", reason="bad_number") from error
    if math.isinf(result):
        raise DecodeError("an infinite value can't be a measurement", reason="bad_number")
    return result
