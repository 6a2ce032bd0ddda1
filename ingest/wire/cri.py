"""Lines of the container runtime interface (containerd, CRI-O): `2026-01-02T03:04:05.6Z stderr F text`."""

from __future__ import annotations

import re

from ingest.errors import DecodeError
from ingest.wire.documents import text_of
from ingest.wire.line import Line, put_line, time_in
from ingest.wire.rows import DecodeContext, Rows
from ingest.wire.unwrap import CRI

NAME = "cri"
_BEGINS = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]{0,10}(?:Z|[+-]\d\d:\d\d) std(?:out|err) [FP](?::\S*)? ")


def recognise(value: bytes, context: DecodeContext) -> bool:
    """The first line has a time, a stream and a tag."""
    return _BEGINS.match(value) is not None


def decode(value: bytes, context: DecodeContext, rows: Rows) -> None:
    """A line that was cut into parts (tag P) is put together where its parts are in the same record."""
    whole = text_of(value)
    if whole is None:
        raise DecodeError("CRI lines that are no text", reason="unknown_format")
    parts: list[str] = []
    began_ns = count = 0
    for line in whole.split("\n"):
        line = line.rstrip("\r")
        if not line:
            continue
        count += 1
        found = CRI.match(line)
        if found is None:
            put_line(Line(line), context, rows)
            continue
        began_ns = began_ns or time_in(found[1])
        parts.append(found[4])
        if found[3] == "F":
            put_line(Line("".join(parts), began_ns), context, rows)
            parts, began_ns = [], 0
    if parts:
        put_line(Line("".join(parts), began_ns), context, rows)
    if not count:
        raise DecodeError("empty", reason="empty")
