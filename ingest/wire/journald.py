"""The journal of systemd as JSON (`journalctl -o json`, Fluent Bit's systemd input, Vector's journald source)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingest.wire.documents import decoder, first_text, recogniser
from ingest.wire.levels import syslog_level
from ingest.wire.line import Line, put_line, service_in, time_in, trace_in
from ingest.wire.native import text
from ingest.wire.rows import DecodeContext, Rows

NAME = "journald"
_MARKS = ("__REALTIME_TIMESTAMP", "_SYSTEMD_UNIT", "SYSLOG_IDENTIFIER", "_HOSTNAME", "_BOOT_ID", "_TRANSPORT")
_TIMES = ("_SOURCE_REALTIME_TIMESTAMP", "__REALTIME_TIMESTAMP", "@timestamp", "timestamp")
_NO_UNITS = ("session-", "user@", "init.scope", "user-")


def claims(entry: Mapping[str, Any]) -> bool:
    """`MESSAGE` (Vector: `message`) beside a field that only the journal has."""
    return ("MESSAGE" in entry or "message" in entry) and any(mark in entry for mark in _MARKS)


def put(entry: Mapping[str, Any], context: DecodeContext, rows: Rows) -> None:
    unit = first_text(entry, ("_SYSTEMD_UNIT", "UNIT"))
    unit = "" if unit.startswith(_NO_UNITS) else unit.removesuffix(".service")
    service = service_in(entry, context, ()) or unit or first_text(entry, ("SYSLOG_IDENTIFIER", "_COMM", "CONTAINER_NAME"))
    message = entry.get("MESSAGE", entry.get("message"))
    put_line(Line(_message(message).rstrip("\r\n"), next((ts for k in _TIMES if (ts := time_in(entry.get(k)))), 0), service,
                  first_text(entry, ("_HOSTNAME", "host")), syslog_level(_one(entry.get("PRIORITY"))), trace_in(entry)),
             context, rows)


def _one(value: Any) -> Any:
    """The journal writes a field that is set twice as a list."""
    return value[-1] if isinstance(value, list) and value else value


def _message(value: Any) -> str:
    """Bytes that are no UTF-8 come as a list of numbers."""
    if isinstance(value, list) and value and all(type(v) is int and 0 <= v < 256 for v in value):
        return bytes(value).decode(errors="replace")
    return text(_one(value))


recognise = recogniser(claims)
decode = decoder(put)
