"""Influx line protocol, Telegraf's default: `docker,host=raynor n_images=660i 1458229140000000000`, one or more lines.

Read by `line-protocol-parser` (C). Prose can look like it ("took ms=35"), so a line counts only with a time or with
tags, and a record only if all of its lines do. What the fields become: see `telegraf`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from line_protocol_parser import LineFormatError, parse_line

from ingest.errors import DecodeError
from ingest.wire.documents import text_of
from ingest.wire.line import time_in
from ingest.wire.rows import DecodeContext, Rows
from ingest.wire.telegraf import put_fields

NAME = "influx-line"
_BEGINS = re.compile(rb"[^\s,={}\[\]<\"]{1,256}(?:\\[ ,=][^\s,={}\[\]<\"]{0,256}){0,16}"
                     rb"(?:,[^\s=,]{1,256}(?:\\[ ,=][^\s=,]{0,256}){0,16}=|[ ][^\s=]{1,256}=)")
_IS_LINE = re.compile(r"[^\s,=](?:[^\s,=\\]|\\.){0,1023}(,| .*\s\d{9,19}\s*\Z)", re.DOTALL)
_MAX_JOINED = 64


def recognise(value: bytes, context: DecodeContext) -> bool:
    """Every line that is no comment reads as line protocol, and has a time or tags."""
    head = value[:65536].lstrip()
    while head.startswith(b"#"):
        head = head.partition(b"\n")[2].lstrip()
    if _BEGINS.match(head) is None:
        return False
    try:
        return any(True for _ in _lines(value))
    except DecodeError:
        return False


def decode(value: bytes, context: DecodeContext, rows: Rows) -> None:
    count = 0
    for line in _lines(value):
        put_fields(line["measurement"], line["tags"], line["fields"], time_in(line["time"]), context, rows)
        count += 1
    if not count:
        raise DecodeError("no line of line protocol", reason="empty")


def _lines(value: bytes) -> Iterator[dict[str, Any]]:
    text = text_of(value)
    if text is None:
        raise DecodeError("line protocol that is no text", reason="unknown_format")
    waiting, joined = "", 0
    for line in text.split("\n"):
        if not waiting and (not line.strip() or line.lstrip().startswith("#")):
            continue
        whole = f"{waiting}\n{line}" if waiting else line.strip("\r")
        try:
            yield _line(whole)
        except DecodeError:
            # A text may hold a newline: the line goes on until its quotes are closed.
            joined += 1
            if whole.count('"') % 2 == 0 or joined > _MAX_JOINED:
                raise
            waiting = whole
        else:
            waiting, joined = "", 0
    if waiting:
        raise DecodeError("a text in line protocol is not closed", reason="bad_line_protocol")


def _line(text: str) -> dict[str, Any]:
    if _IS_LINE.match(text) is None:
        raise DecodeError(f"neither a time nor tags: {text[:80]!r}", reason="bad_line_protocol")
    try:
        found: dict[str, Any] | None = parse_line(text)
    except (LineFormatError, ValueError, OverflowError, TypeError) as error:
        raise DecodeError(f"{error}: {text[:80]!r}", reason="bad_line_protocol") from error
    if not found:
        raise DecodeError(f"no fields: {text[:80]!r}", reason="bad_line_protocol")
    return found
