"""What a log message says about itself: JSON, logfmt, a CRI or syslog header, klog, a leading time and level.

Shippers put the line as the program wrote it into a field of their own record. It is unwrapped once: what stands in
the line (time, level, service, trace id) counts more than what the envelope says; the envelope's service and instance
stay where the line names none (`Line.within`). The text that remains is the human message alone: other inner fields
(a request id, a duration) would make of one template as many as there are values.

Prose is never mangled: a time is taken off only at the very beginning, a level only right behind it, and only where
both are unmistakable.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from ingest.types import Level
from ingest.wire.documents import object_in
from ingest.wire.levels import LEVEL_FIELDS, level_in
from ingest.wire.line import Line, first_time, line_in, message_in, service_in, time_in, trace_in
from ingest.wire.logfmt import pairs_of
from ingest.wire.rows import DecodeContext, level_of

_WORDS = (r"TRACE|DEBUG|INFO|INFORMATION|NOTICE|WARN|WARNING|ERROR|ERR|SEVERE|FATAL|CRITICAL|CRIT|ALERT|EMERG|PANIC|LOG|"
          r"trace|debug|info|information|notice|warn|warning|error|err|severe|fatal|critical|crit|alert|emerg|panic")
_LEVEL_NAMES = _WORDS.partition("|trace|")[0]
_PLAIN_NAMES = "TRACE|DEBUG|INFO|WARN|WARNING|ERROR|SEVERE|FATAL|CRITICAL|PANIC"  # followed by a space, no other word
CRI = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)) (stdout|stderr) ([FP])(?::\S*)? (.*)\Z",
                 re.DOTALL)
_KLOG = re.compile(r"([IWEF])(\d\d)(\d\d) (\d\d):(\d\d):(\d\d)\.(\d{6}) +\d+ [\w.\-/]+\.\w+:\d+\] ?(.*)\Z", re.DOTALL)
_LEVEL_LETTERS = frozenset("[TDINWESFCAPL \t")
_KLOG_LEVELS = {"I": Level.INFO, "W": Level.WARN, "E": Level.ERROR, "F": Level.FATAL}
_KLOG_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"(?=\s|\Z)')
_TIME = (r"\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?: ?(?:Z\b|UTC\b|[+-]\d\d:?\d\d\b))?")
_DATED = re.compile(rf"(?:\[({_TIME})\]|({_TIME}))(?=[\s|:,\[\]])(?:[\s|:,]|-\s)*(.*)\Z", re.DOTALL)
_LEADING_LEVEL = re.compile(rf"(?:\[\s*({_WORDS})\s*\]|({_LEVEL_NAMES})(?=[\s:|,])|({_WORDS})(?=:?[|]|:\s))[\s:|,\-]*",
                            re.DOTALL)
_NEAR_LEVEL = re.compile(rf"(?:[^\n]{{0,80}}?[\s\[(|])?({_LEVEL_NAMES}|[DIWEF](?= \d))(?=[\s:\])|,])")
_DURATION = re.compile(r"[\d.]+(?:ms|us|µs|ns|s|m|h)\Z")
_FIRST_WORD = re.compile(rf"\s*(?:\[\s*({_WORDS})\s*\]|({_LEVEL_NAMES}):|({_PLAIN_NAMES})(?=[\s|\]]))", re.ASCII)
_BEGINS = re.compile(
    rf"\s*(?:\{{|<\d|\[?\d{{4}}[-/]\d\d[-/]|[IWEF]\d{{4}} \d\d:|[A-Za-z_@][\w.@/\-]{{0,99}}=|\[\s*(?:{_WORDS})\s*\]|"
    rf"(?:{_LEVEL_NAMES})\b)", re.ASCII)


def may_unwrap(text: str) -> bool:
    """False only if `unwrap` and `level_word` would find nothing; costs a fraction of them."""
    return _BEGINS.match(text) is not None


def unwrap(text: str, context: DecodeContext) -> Line | None:
    """The line inside a message; None where the message is the line itself.

    Never raises. Times without a zone are UTC, times without a year are the latest that the record's own time allows.
    """
    if _BEGINS.match(text) is None:
        return None
    lead = text.lstrip()[:1]
    if lead == "{":
        return _of_json(text, context)
    if lead == "<":
        from ingest.wire.syslog import syslog_line

        return syslog_line(text.lstrip(), context)
    if (found := CRI.match(text)) is not None:
        return _within_cri(Line(found[4], time_in(found[1])), context)
    if (klog := _KLOG.match(text)) is not None:
        return _of_klog(klog, context)
    if (pairs := pairs_of(text)) is not None:
        return _of_logfmt(pairs, text, context)
    if (dated := _DATED.match(text.lstrip())) is not None:
        return _of_dated(dated)
    return None


def level_word(text: str) -> Level:
    """The level that a line begins with (`ERROR: no disk`, `[warn] slow`), for lines that have none; UNSET for none.
    The word stays in the text."""
    if text[:1] not in _LEVEL_LETTERS or (word := _FIRST_WORD.match(text)) is None:
        return Level.UNSET
    return level_of(word[1] or word[2] or word[3])


def _of_json(text: str, context: DecodeContext) -> Line | None:
    entry = object_in(text)
    if entry is None or not entry:
        return None
    message = message_in(entry)
    if message is None:
        # An access log: the text stays whole, but it may well say when it happened, and where.
        return Line(text, first_time(entry), service_in(entry, context, ()), "", level_in(entry), trace_in(entry))
    return line_in(entry, message.rstrip("\r\n"), context)


def _of_logfmt(pairs: dict[str, str], text: str, context: DecodeContext) -> Line:
    message = next((pairs[name] for name in ("msg", "message", "event") if pairs.get(name)), text)
    service = service_in(pairs, context, ())
    if _DURATION.match(service):  # Heroku's router: how long the service took
        service = ""
    return Line(message, first_time(pairs), service, "", level_in(pairs, (*LEVEL_FIELDS, "at")), trace_in(pairs))


def _within_cri(line: Line, context: DecodeContext) -> Line:
    """CRI's header is the container runtime's, not the program's: what the program wrote is still to be read."""
    inner = None if CRI.match(line.text) else unwrap(line.text, context)
    return line if inner is None else inner.within(line)


def _of_klog(found: re.Match[str], context: DecodeContext) -> Line:
    month, day, hour, minute, second, micro = (int(found[i]) for i in range(2, 8))
    text = found[8]
    if (quoted := _KLOG_QUOTED.match(text)) is not None and quoted[1]:
        text = quoted[1]  # structured: "Pod status updated" pod="kube-system/x" status="Running"
    return Line(text, undated_ns(month, day, hour, minute, second, micro, context.timestamp_ns), "", "",
                _KLOG_LEVELS[found[1]])


def _of_dated(found: re.Match[str]) -> Line | None:
    ts_ns = time_in(_colon_in_zone(found[1] or found[2]))
    rest = found[3]
    if not ts_ns or not rest.strip():
        return None
    level = _LEADING_LEVEL.match(rest)
    if level is not None and rest[level.end():].strip():
        return Line(rest[level.end():], ts_ns, level=level_of(level[1] or level[2] or level[3]))
    near = _NEAR_LEVEL.match(rest)
    return Line(rest, ts_ns, level=level_of(near[1]) if near is not None else Level.UNSET)


def _colon_in_zone(text: str) -> str:
    """RFC 3339 wants +01:00 where many write +0100 or leave a space before it."""
    text = text.replace(" UTC", "Z").replace(" Z", "Z")
    zone = re.search(r" ?([+-]\d\d):?(\d\d)\Z", text[19:])
    return text if zone is None else f"{text[:19 + zone.start()]}{zone[1]}:{zone[2]}"


def undated_ns(month: int, day: int, hour: int, minute: int, second: int, micro: int, near_ns: int) -> int:
    """A time without a year: UTC, the last such day that is not more than a week after `near_ns`. 0 if there is none."""
    latest = datetime.fromtimestamp(near_ns // 10**9, UTC) + timedelta(days=7)
    for year in (latest.year, latest.year - 1, latest.year - 2, latest.year - 3, latest.year - 4):  # 29 February
        try:
            at = datetime(year, month, day, hour, minute, min(second, 59), micro, UTC)
        except ValueError:
            continue
        if at <= latest:
            return max(0, (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000)
    return 0
