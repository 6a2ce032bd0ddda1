"""Docker's json-file driver: `{"log": "text\\n", "stream": "stderr", "time": "2026-...Z"}`, one object a line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingest.wire.documents import decoder, recogniser
from ingest.wire.line import Line, put_line, service_in, time_in
from ingest.wire.rows import DecodeContext, Rows

NAME = "docker"
_FIELDS = frozenset({"log", "stream", "time", "attrs"})


def claims(entry: Mapping[str, Any]) -> bool:
    """`log`, `stream` and `time`, and nothing else but `attrs`."""
    return "log" in entry and "stream" in entry and "time" in entry and entry.keys() <= _FIELDS


def put(entry: Mapping[str, Any], context: DecodeContext, rows: Rows) -> None:
    from ingest.wire.native import text

    attributes = entry.get("attrs")
    attributes = attributes if isinstance(attributes, dict) else {}
    service = service_in(attributes, context, ("com.docker.compose.service", "com.docker.swarm.service.name", "tag"))
    put_line(Line(text(entry.get("log")).rstrip("\r\n"), time_in(entry.get("time")), service), context, rows)


recognise = recogniser(claims)
decode = decoder(put)
