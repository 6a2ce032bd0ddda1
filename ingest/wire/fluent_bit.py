"""Fluent Bit's records in JSON (out_kafka, and the JSON of its HTTP, stdout and forward outputs).

`@timestamp` (out_kafka) or `date` is the event's time, a double of seconds or ISO 8601; the line stands in `log` or
`message`, framed by CRI or by Docker; `kubernetes` tells whose it is. Records of the metric inputs (cpu, mem, disk,
netif) hold numbers alone: a point each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingest.types import Level
from ingest.wire import kube
from ingest.wire.documents import decoder, first_text, recogniser
from ingest.wire.levels import level_in, syslog_level
from ingest.wire.line import SERVICES, Line, instance_in, message_in, put_line, service_in, time_in, trace_in
from ingest.wire.numbers import is_number
from ingest.wire.plain import put_unclaimed
from ingest.wire.rows import DecodeContext, Rows

NAME = "fluent-bit"
_LINES = ("log", "message", "MESSAGE", "msg", "exec")
_POD = ("pod_name", "namespace_name", "container_name", "docker_id")


def claims(entry: Mapping[str, Any]) -> bool:
    """A time as number in `@timestamp` or `date`, or a line with the Kubernetes filter's or Docker's fields."""
    if is_number(entry.get("@timestamp")) or (is_number(entry.get("date")) and any(k in entry for k in _LINES)):
        return True
    if not any(name in entry for name in _LINES):
        return False
    pod = kube.within(entry)
    return any(name in pod for name in _POD) or "logtag" in entry or (
        "container_id" in entry and "container_name" in entry and entry.get("source") in ("stdout", "stderr")) or (
        "@timestamp" in entry and isinstance(entry.get("log"), str))


def put(entry: Mapping[str, Any], context: DecodeContext, rows: Rows) -> None:
    """`time` inside a line wins over `@timestamp`, which may be when it was collected."""
    pod = kube.within(entry)
    outer = Line("", next((ts for k in ("time", "@timestamp", "date", "timestamp") if (ts := time_in(entry.get(k)))), 0),
                 service_in(entry, context, ()) or kube.service_of_pod(pod) or _program(entry),
                 kube.pod_of(pod) or instance_in(entry), _level(entry), trace_in(entry))
    message = message_in(entry)
    if message is None and not any(entry.get(name) == "" for name in _LINES):  # an empty line is a line
        about = ("@timestamp", "date", "kubernetes")
        put_unclaimed({k: v for k, v in entry.items() if k not in about}, context, rows, within=outer)
        return
    text = first_text(entry, ("log", "message", "MESSAGE", "msg", "exec")) or message or ""
    put_line(Line(text.rstrip("\r\n")).within(outer), context, rows)


def _program(entry: Mapping[str, Any]) -> str:
    """`ident` of the syslog input; `/name` of Docker's fluentd driver."""
    return first_text(entry, (*SERVICES, "ident")).removeprefix("/")


def _level(entry: Mapping[str, Any]) -> Level:
    """`pri` of the syslog input, `priority` of the kernel's: syslog numbers."""
    return syslog_level(entry["pri"]) if "pri" in entry else syslog_level(entry["priority"]) if is_number(
        entry.get("priority")) else level_in(entry)


recognise = recogniser(claims)
decode = decoder(put)
