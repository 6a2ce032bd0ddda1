"""GELF 1.1 (Graylog): `short_message`, seconds in `timestamp`, a syslog number in `level`, own fields with `_`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingest.wire.documents import decoder, first_text, recogniser
from ingest.wire.levels import level_in, syslog_level
from ingest.wire.line import Line, put_line, service_in, time_in, trace_in
from ingest.wire.native import text
from ingest.wire.rows import DecodeContext, Rows

NAME = "gelf"
_SERVICES = ("application_name", "application", "app_name", "container_name", "facility", "logger_name")


def claims(entry: Mapping[str, Any]) -> bool:
    """`short_message`, and one of the other fields that GELF names."""
    return "short_message" in entry and any(name in entry for name in ("version", "host", "timestamp", "full_message"))


def put(entry: Mapping[str, Any], context: DecodeContext, rows: Rows) -> None:
    own = {key.removeprefix("_"): value for key, value in entry.items() if key not in ("level", "timestamp")}
    level = syslog_level(entry["level"]) if "level" in entry and not isinstance(entry["level"], str) else level_in(entry)
    if isinstance(entry.get("level"), str) and entry["level"].isdigit():
        level = syslog_level(entry["level"])
    message = text(entry.get("short_message")) or text(entry.get("full_message"))
    put_line(Line(message.rstrip("\r\n\x00"), time_in(entry.get("timestamp")), service_in(own, context, _SERVICES),
                  first_text(own, ("pod_name", "kubernetes_pod_name", "host")), level, trace_in(own)), context, rows)


recognise = recogniser(claims)
decode = decoder(put)
