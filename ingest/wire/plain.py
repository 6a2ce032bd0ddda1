"""What nobody else claims: text is log lines; a JSON object is a log line or a set of numbers.

An object that one of the JSON formats claims is read by it, also where objects of several formats share a record.
Any other is, in this order:

1. a log line, if it has a message-like field (`line.MESSAGES`);
2. one point, if it has a name and a value that is a number (`{"metric": "cpu", "value": 0.5}`);
3. a log line, its text the whole object, if it has a level, a trace id, an HTTP request, or a text of more than 128
   characters: numbers in there are facts about one event, not measurements;
4. a set of numbers, if it holds any: a point per number, named by its path with dots, labelled by its texts;
5. a log line, its text the whole object.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ingest.errors import DecodeError
from ingest.types import Level
from ingest.wire.documents import documents, first, leaves, text_of
from ingest.wire.levels import level_in
from ingest.wire.line import LOG_FIELDS as LOG_FIELDS
from ingest.wire.line import YEAR_2000_NS as YEAR_2000_NS
from ingest.wire.line import Line, line_in, message_in, put_line, trace_in
from ingest.wire.numbers import is_number, put_named, put_numbers
from ingest.wire.rows import DecodeContext, Rows
from ingest.wire.traces import joined_traces

NAME = "plain"
_REQUEST = ("request", "method", "http.method", "http.request.method", "request_method", "url", "uri", "request_uri", "path",
            "url.path", "http.url", "user_agent", "status_code")
_LONG_CHARS = 128


def recognise(value: bytes, context: DecodeContext) -> bool:
    """Everything; it stands last in the registry."""
    return True


def decode(value: bytes, context: DecodeContext, rows: Rows) -> None:
    entries = documents(value)
    if entries is not None:
        for entry in entries:
            put_object(entry, context, rows)
        return
    whole = text_of(value)
    if whole is None:
        raise DecodeError("neither a known format nor text", reason="unknown_format")
    # By "\n" alone: a form feed or a U+2028 stands within a line.
    lines = [line.rstrip("\r") for line in whole.removeprefix("\ufeff").split("\n") if line.strip()]
    if not lines:
        raise DecodeError("empty", reason="empty")
    for line in joined_traces(lines):
        found = documents(line.encode(errors="replace")) if line.lstrip()[:1] == "{" else None
        if found:
            put_object(found[0], context, rows)
        else:
            put_line(Line(line), context, rows)


def put_object(entry: Mapping[str, Any], context: DecodeContext, rows: Rows) -> None:
    """One JSON object, by the format that claims it, else by the rules above."""
    from ingest.wire.routing import claiming

    if (put := claiming(entry)) is not None:
        put(entry, context, rows)
    else:
        put_unclaimed(entry, context, rows)


def put_unclaimed(entry: Mapping[str, Any], context: DecodeContext, rows: Rows, *, within: Line | None = None) -> None:
    """By the rules above. `within` is what an envelope knows: it counts where the object says nothing."""
    outer, entry = within or Line(""), _without_frame(entry)
    message = message_in(entry)
    if message is not None:
        put_line(line_in(entry, message, context).within(outer), context, rows)
        return
    if put_named(entry, context, rows):
        return
    if not is_event(entry) and put_numbers(entry, context, rows, ts_ns=outer.ts_ns, service=outer.service,
                                           instance=outer.instance):
        return
    put_line(line_in(entry, msgspec.json.encode(entry).decode(), context).within(outer), context, rows)


def _without_frame(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """The object that counts, where a library puts it into one of its own: loguru's `record`, Kafka Connect's
    `payload`."""
    record = entry.get("record")
    if isinstance(record, dict) and isinstance(record.get("message"), str) and "text" in entry:
        level, time, extra = record.get("level"), record.get("time"), record.get("extra")
        return {**(extra if isinstance(extra, dict) else {}), "message": record["message"],
                "level": level.get("name") if isinstance(level, dict) else level,
                "time": time.get("timestamp") if isinstance(time, dict) else time}
    if entry.keys() == {"schema", "payload"}:
        payload = entry["payload"]
        return payload if isinstance(payload, dict) else {"message": payload}
    return entry


def is_event(entry: Mapping[str, Any]) -> bool:
    """Whether numbers in an object without a message tell of one event, and measure nothing."""
    if level_in(entry) is not Level.UNSET or trace_in(entry) or first(entry, _REQUEST) is not None:
        return True
    return any(isinstance(value, str) and len(value) > _LONG_CHARS for _, value in leaves(entry)) or not any(
        is_number(value) for _, value in leaves(entry))
