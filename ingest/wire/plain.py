"""What nobody else claims: plain text is log lines; a JSON object is a log line or a set of numbers.

A JSON object with a message-like field is a log line. One without, but with numbers, is one metric point
per number (`<key>`), labelled by its text fields. Anything else is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ingest.errors import DecodeError
from ingest.types import SeriesKey
from ingest.wire.native import number, text
from ingest.wire.rows import DecodeContext, Rows, level_of
from ingest.wire.times import to_ns

NAME = "plain"
_MESSAGES = ("message", "msg", "log", "text", "body", "short_message")
YEAR_2000_NS = 946_684_800 * 10**9
_TIMES = ("@timestamp", "timestamp", "time", "ts", "datetime")
_LEVELS = ("level", "severity", "lvl", "log.level", "severity_text")
_INSTANCES = ("instance", "host")
_TRACES = ("trace_id", "trace.id", "traceId")
LOG_FIELDS = (_MESSAGES, _TIMES, _LEVELS, _INSTANCES, _TRACES)
"""Which field of a log line is what; the first that is there and not empty wins."""


def recognise(value: bytes, context: DecodeContext) -> bool:
    """Everything; it stands last in the registry."""
    return True


def decode(value: bytes, context: DecodeContext, rows: Rows) -> None:
    try:
        whole = value.decode()
    except UnicodeDecodeError as error:
        raise DecodeError(f"neither a known format nor UTF-8 text: {error.reason} at byte {error.start}",
                          reason="unknown_format") from error
    if "\x00" in whole:
        raise DecodeError("neither a known format nor text: it holds NUL bytes", reason="unknown_format")
    # By "\n" alone: a form feed or a U+2028 stands within a line.
    lines = [line.rstrip("\r") for line in whole.split("\n") if line.strip()]
    if not lines:
        raise DecodeError("empty", reason="empty")
    for line in lines:
        entry = _object(line)
        if entry is None:
            rows.log(context.timestamp_ns, context.service_of(_headers(context)), line)
        else:
            _put_object(entry, line, context, rows)


def _headers(context: DecodeContext) -> dict[str, object]:
    return {name: raw.decode(errors="replace") for name, raw in context.headers.items()}


def _object(line: str) -> dict[str, Any] | None:
    if not line.lstrip().startswith("{"):
        return None
    try:
        entry = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def _first(entry: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((entry[n] for n in names if entry.get(n) not in (None, "")), None)


def _time(entry: Mapping[str, Any], context: DecodeContext) -> int:
    """The first field that is a time. Nobody promised one here: "12.5" may as well be a duration, and a log line
    is not refused for a date in the style of the house."""
    for name in _TIMES:
        try:
            ts_ns = to_ns(entry.get(name), 0)
        except DecodeError:
            continue
        if ts_ns > YEAR_2000_NS:
            return ts_ns
    return context.timestamp_ns


def _put_object(entry: Mapping[str, Any], line: str, context: DecodeContext, rows: Rows) -> None:
    service = context.service_of({**_headers(context), **entry})
    ts_ns = _time(entry, context)
    message = _first(entry, _MESSAGES)
    numbers = {k: v for k, v in entry.items() if isinstance(v, (int, float)) and not isinstance(v, bool)
               and k not in _TIMES}
    if message is None and numbers:
        labels = tuple(sorted((k, v) for k, v in entry.items() if isinstance(v, str) and k not in _TIMES))
        for name, value in numbers.items():
            rows.point(ts_ns, SeriesKey(service, name, labels=labels), number(value))
        return
    rows.log(ts_ns, service, line if message is None else text(message), instance=text(_first(entry, _INSTANCES)),
             level=level_of(_first(entry, _LEVELS)), trace_id=text(_first(entry, _TRACES)))
