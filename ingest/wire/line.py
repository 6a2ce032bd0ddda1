"""One log line on its way into the rows: what its envelope says, what it says itself, and which of both counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from ingest.errors import DecodeError
from ingest.types import Attributes, Level
from ingest.wire.documents import Paths, dig, first_text
from ingest.wire.levels import LEVEL_FIELDS, level_in
from ingest.wire.rows import UNKNOWN_SERVICE, DecodeContext, Rows
from ingest.wire.times import to_ns

YEAR_2000_NS = 946_684_800 * 10**9
MESSAGES = ("message", "msg", "log", "text", "body", "short_message", "event", "@message", "@m", "@mt", "Message",
            "MESSAGE", "RenderedMessage", "renderedMessage", "line", "_raw")
TIMES = ("@timestamp", "timestamp", "time", "ts", "datetime", "date", "@t", "Timestamp", "eventTime", "asctime",
         "timeMillis", "instant", "created", "t")
INSTANCES = ("instance", "host", "hostname", "host.name", "pod", "pod_name", "kubernetes.pod_name", "k8s.pod.name",
             "service.instance.id", "container_id")
_TRACES = ("trace_id", "trace.id", "traceId", "traceID", "TraceId", "@tr")
_FRAMED_TRACES = ("otelTraceID", "dd.trace_id", "trace", "logging.googleapis.com/trace", "traceparent")
SERVICES = ("service_name", "serviceName", "application", "app_name", "appname", "application_name",
            "k8s.container.name", "container_name")
"""Where a line names its service if none of the configured fields is there."""
LOG_FIELDS = (MESSAGES, TIMES, LEVEL_FIELDS, INSTANCES, _TRACES)
"""Which field of a JSON log line is what; the first that is there and not empty wins."""


@dataclass(frozen=True)
class Line:
    """A log line. What it does not name is empty: 0, "", UNSET."""

    text: str
    ts_ns: int = 0
    service: str = ""
    instance: str = ""
    level: Level = Level.UNSET
    trace_id: str = ""
    envelope: Attributes = ()

    def within(self, outer: Line) -> Line:
        """This line, found inside the text of another one: its own time, level, service and trace id win, what it
        does not name is the outer one's. The instance is the outer one's where that has one: the shipper knows the
        pod or host, the program inside mostly only its container's id. What loses stays as `envelope`."""
        found = Line(self.text, self.ts_ns or outer.ts_ns, self.service or outer.service,
                     outer.instance or self.instance, self.level or outer.level, self.trace_id or outer.trace_id)
        said = (("time_unix_nano", outer.ts_ns, found.ts_ns), ("service", outer.service, found.service),
                ("severity", outer.level.name if outer.level else "", found.level.name),
                ("trace_id", outer.trace_id, found.trace_id), ("instance", self.instance, found.instance))
        lost = tuple((name, str(loser)) for name, loser, winner in said if loser and loser != winner)
        return replace(found, envelope=(*outer.envelope, *lost)) if lost or outer.envelope else found


def put_line(line: Line, context: DecodeContext, rows: Rows) -> None:
    """Append the line, unwrapped once. What is still unknown comes from the record: its time, its headers."""
    from ingest.wire.unwrap import level_word, unwrap  # it reads objects by the rules of this module

    inner = unwrap(line.text, context)
    found = line if inner is None else inner.within(line)
    rows.log(found.ts_ns or context.timestamp_ns, found.service or header_service(context) or UNKNOWN_SERVICE, found.text,
             instance=found.instance, level=found.level or level_word(found.text), trace_id=found.trace_id,
             envelope=found.envelope)


def header_service(context: DecodeContext) -> str:
    """The service that the record's headers name, "" if they don't."""
    if not context.headers:
        return ""
    found = context.service_of({name: raw.decode(errors="replace") for name, raw in context.headers.items()})
    return "" if found == UNKNOWN_SERVICE else found


def service_in(entry: Mapping[str, Any], context: DecodeContext, otherwise: tuple[str, ...] = SERVICES) -> str:
    """The service that an object names, by the configured fields, then by these; "" if it doesn't."""
    found = context.service_of(Paths(entry))
    return first_text(entry, otherwise) if found == UNKNOWN_SERVICE else found


def time_in(value: object) -> int:
    """Nanoseconds; 0 for what is no time after 2000: "12.5" may as well be a duration, and no line is refused for a
    date in the style of the house."""
    if isinstance(value, dict):  # log4j: {"epochSecond": s, "nanoOfSecond": ns}; MongoDB: {"$date": ...}
        seconds, nanos = value.get("epochSecond", value.get("seconds")), value.get("nanoOfSecond", value.get("nanos", 0))
        if isinstance(seconds, int) and isinstance(nanos, int) and 0 <= nanos < 10**9 and 0 < seconds < 9 * 10**9:
            return seconds * 10**9 + nanos
        value = value.get("$date")
    if isinstance(value, str):
        value = value.strip()
        if "," in value:
            value = value.replace(",", ".", 1)  # 12:13:14,567, as Python and log4j write it
        if value[4:5] == "/":
            value = value.replace("/", "-", 2)
        if value.endswith(" UTC"):
            value = value[:-4] + "Z"
    try:
        ts_ns = to_ns(value, 0)
    except DecodeError:
        return 0
    return ts_ns if ts_ns > YEAR_2000_NS else 0


def first_time(entry: Mapping[str, Any], names: tuple[str, ...] = TIMES) -> int:
    """The first field that is a time, in nanoseconds; 0 if none is."""
    return next((ts for name in names if name in entry and (ts := time_in(entry[name]))), 0)


def trace_in(entry: Mapping[str, Any]) -> str:
    """The trace id; "" for none. Fields that hold more than the id are cut, and the zeros by which some libraries say
    "none" are left out."""
    found = first_text(entry, _TRACES)
    if found:
        return found
    found = first_text(entry, _FRAMED_TRACES)
    if "/" in found:  # projects/NAME/traces/ID
        found = found.rpartition("/")[2]
    elif found.count("-") == 3 and len(found) == 55:  # W3C traceparent
        found = found.split("-")[1]
    return found if found.strip("0") else ""


def message_in(entry: Mapping[str, Any]) -> str | None:
    """The human text; None if no field is one. Where a text is missing, an object (a body, say) is shown as JSON."""
    for name in MESSAGES:
        if isinstance(found := entry.get(name), str) and found:
            return found
    for name in ("message", "msg", "log", "body"):
        found = entry.get(name)
        if found is not None and found != "" and found != {} and not (name == "log" and isinstance(found, dict)):
            return msgspec.json.encode(found).decode()
    return None


def instance_in(entry: Mapping[str, Any]) -> str:
    return first_text(entry, INSTANCES)


def line_in(entry: Mapping[str, Any], text: str, context: DecodeContext) -> Line:
    """The line that a JSON object is, by the general rules; `text` is its text."""
    return Line(text, first_time(entry), service_in(entry, context), instance_in(entry), level_in(entry), trace_in(entry))


__all__ = ["LOG_FIELDS", "YEAR_2000_NS", "Line", "dig", "first_time", "header_service", "instance_in", "line_in",
           "message_in", "put_line", "service_in", "time_in", "trace_in"]
