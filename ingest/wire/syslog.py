"""Syslog: RFC 5424 with structured data, RFC 3164, and the lines that rsyslog writes without a priority.

Several messages may stand in one record: framed by their length (RFC 6587) or one a line; a line that begins no
message continues the one before (a stack trace). No parser on PyPI reads all of these: they take one grammar each,
and refuse what deviates (Heroku leaves the structured data out, Cisco puts a counter before the time), so they are
read here.
"""

from __future__ import annotations

import re

from ingest.errors import DecodeError
from ingest.types import Level
from ingest.wire.documents import text_of
from ingest.wire.levels import syslog_level
from ingest.wire.line import Line, put_line, service_in, time_in, trace_in
from ingest.wire.rows import DecodeContext, Rows

NAME = "syslog"
_HEADER = re.compile(r"<(\d{1,3})>")
_RFC5424 = re.compile(r"1 (\S+) (\S+) (\S+) (\S+) (\S+) ?")
_PARAMETER = re.compile(r'\s+([^\s=\]"]{1,128})="((?:[^"\\\]]|\\.)*)"')
_ELEMENT = re.compile(r'\[[^\s=\]"]{1,128}')
_MONTHS = {m: n for n, m in enumerate(("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov",
                                         "Dec"), 1)}
_STAMP = re.compile(r"(?:\d{1,9}: )?[*.]?([A-Z][a-z]{2}) {1,2}(\d{1,2}) (?:(\d{4}) )?(\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?"
                    r"(?: [A-Z]{3,4})?:? ")
_ISO = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(Z|[+-]\d\d:\d\d)) ")
_HOST = re.compile(r"([A-Za-z0-9_]\S{0,253}[\w.]|\w)(?= )")
_HOST_AND_TAG = re.compile(r"([\w.:%\-]{1,255}) ([^\s:\[\]]{1,100})(\[[^\]\s]{0,64}\])?(:?)(?= |\Z)")
_WORD = re.compile(r"[A-Za-z][\w./\-]{0,63}\Z")
_FRAME = re.compile(rb"([1-9]\d{0,7}) (?=<\d{1,3}>)")
_LINE_BEGINS = re.compile(rb"\n(?=<\d{1,3}>)")
_NO_HOST = frozenset({"ERROR", "WARN", "WARNING", "INFO", "DEBUG", "TRACE", "FATAL", "CRITICAL", "NOTICE", "SEVERE",
                      "stdout", "stderr"})
_BOM = "\ufeff"


def recognise(value: bytes, context: DecodeContext) -> bool:
    """A priority in angle brackets and a header behind it, or the header that rsyslog or syslogd write to files."""
    head = value[:2048].lstrip(b" \r\n")
    if (frame := _FRAME.match(head)) is not None:
        head = head[frame.end():]
    text = head.split(b"\n", 1)[0].decode(errors="replace").removeprefix(_BOM)
    if (priority := _HEADER.match(text)) is not None:
        return int(priority[1]) <= 191
    if (iso := _ISO.match(text)) is not None:
        return _host_and_tag(text, iso.end(), is_rsyslog=iso[2] != "Z") is not None
    stamp = _STAMP.match(text)
    return stamp is not None and stamp[1] in _MONTHS and _host_and_tag(text, stamp.end(), is_rsyslog=False) is not None


def decode(value: bytes, context: DecodeContext, rows: Rows) -> None:
    count = 0
    for message in _messages(value):
        text = text_of(message)
        if text is None:
            raise DecodeError("a syslog message that is no text", reason="unknown_format")
        text = text.strip("\r\n\x00").removeprefix(_BOM)
        if text:
            put_line(syslog_line(text, context) or Line(text), context, rows)
            count += 1
    if not count:
        raise DecodeError("empty", reason="empty")


def _messages(value: bytes) -> list[bytes]:
    found: list[bytes] = []
    value = value.lstrip(b" \r\n")
    while (frame := _FRAME.match(value)) is not None:
        end = frame.end() + int(frame[1])
        found.append(value[frame.end():end])
        value = value[end:].lstrip(b"\r\n")
    if not value:
        return found
    if value[:1] == b"<":
        return found + _LINE_BEGINS.split(value)
    whole: list[list[bytes]] = []
    for line in value.split(b"\n"):
        if whole and not _is_header(line):
            whole[-1].append(line)
        elif line.strip():
            whole.append([line])
    return found + [b"\n".join(parts) for parts in whole]


def _is_header(line: bytes) -> bool:
    head = line[:64].decode(errors="replace")
    return _ISO.match(head) is not None or _STAMP.match(head) is not None


def syslog_line(text: str, context: DecodeContext) -> Line | None:
    """One message without its framing; None if it is no syslog."""
    priority = _HEADER.match(text)
    level = Level.UNSET
    if priority is not None:
        if int(priority[1]) > 191:
            return None
        level, text = syslog_level(int(priority[1])), text[priority.end():]
        if (header := _RFC5424.match(text)) is not None:
            return _rfc5424(header, text, level, context)
    is_rsyslog = False
    if (iso := _ISO.match(text)) is not None:
        ts_ns, at, is_rsyslog = time_in(iso[1]), iso.end(), iso[2] != "Z" or priority is not None
    elif (stamp := _STAMP.match(text)) is not None and stamp[1] in _MONTHS:
        ts_ns, at = _stamp_ns(stamp, context), stamp.end()
    elif priority is None:
        return None
    else:
        return Line(text, level=level)
    found = _host_and_tag(text, at, is_rsyslog=is_rsyslog)
    if found is None and priority is None:
        return None
    if found is None:  # RFC 3164: what stands behind the time is a host all the same, unless it is none (Cisco)
        alone = _HOST.match(text, at)
        host, tag, end = ("", "", at) if alone is None else (alone[1], "", alone.end())
    else:
        host, tag, end = found
    return Line(text[end:].lstrip(" ").removeprefix(_BOM), ts_ns, _service({}, tag, context), host, level)


def _stamp_ns(stamp: re.Match[str], context: DecodeContext) -> int:
    from ingest.wire.unwrap import undated_ns

    month, day, year, hour, minute, second = (
        _MONTHS[stamp[1]], int(stamp[2]), stamp[3], int(stamp[4]), int(stamp[5]), int(stamp[6]))
    if year is not None:
        return time_in(f"{year}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}Z")
    return undated_ns(month, day, hour, minute, second, int((stamp[7] or "0").ljust(6, "0")), context.timestamp_ns)


def _host_and_tag(text: str, at: int, *, is_rsyslog: bool) -> tuple[str, str, int] | None:
    """Host, program and where the message begins. A program that is followed by neither a colon nor a process id is
    taken for one only where the time looks as rsyslog writes it, which loses the colon of RFC 5424 messages."""
    found = _HOST_AND_TAG.match(text, at)
    if found is None or found[1] in _NO_HOST or found[2] in _NO_HOST:
        return None
    if not (found[3] or found[4]) and not (is_rsyslog and _WORD.match(found[2])):
        return None
    return found[1], found[2], found.end()


def _rfc5424(header: re.Match[str], text: str, level: Level, context: DecodeContext) -> Line:
    time, host, program, process, _ = (header[i] for i in range(1, 6))
    fields, at = {} if host == "-" else {"host": host}, header.end()
    if text[at:at + 1] == "[":
        at = _structured_data(text, at, fields)
    elif text[at:at + 2] == "- " or text[at:] == "-":
        at += 1
    message = text[at:].lstrip(" ").removeprefix(_BOM)
    if program == "app" and "." in process:
        program = process.partition(".")[0]  # Heroku: app web.1
    service = _service(fields, "" if program == "-" else program, context)
    return Line(message, time_in(time), service, fields.get("host", ""), level, trace_in(fields))


def _structured_data(text: str, at: int, fields: dict[str, str]) -> int:
    """Where it ends. What is broken in it is part of the message."""
    while (element := _ELEMENT.match(text, at)) is not None:
        end, found = element.end(), {}
        while (parameter := _PARAMETER.match(text, end)) is not None:
            found[parameter[1]] = re.sub(r'\\(["\\\]])', r"\1", parameter[2])
            end = parameter.end()
        if text[end:end + 1] != "]":
            break
        fields.update({k: v for k, v in found.items() if k not in fields})
        at = end + 1
    return at


def _service(fields: dict[str, str], program: str, context: DecodeContext) -> str:
    return service_in({**fields, **({"program": program} if program and "program" not in fields else {})}, context) or program
