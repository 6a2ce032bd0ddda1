"""Severity numbers: which scale a number is on is told by the field and the format, never by the number alone.

syslog 0..7 (GELF, journald, PRI), pino and bunyan 10..60, Python 10..50, OpenTelemetry 1..24. `docs/wire-formats.md`
has the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingest.types import Level
from ingest.wire.documents import dig
from ingest.wire.rows import level_of, number_level

_SYSLOG = (Level.FATAL, Level.FATAL, Level.FATAL, Level.ERROR, Level.WARN, Level.INFO, Level.INFO, Level.DEBUG)
_PINO = {10: Level.TRACE, 20: Level.DEBUG, 30: Level.INFO, 40: Level.WARN, 50: Level.ERROR, 60: Level.FATAL}
_PYTHON = {10: Level.DEBUG, 20: Level.INFO, 30: Level.WARN, 40: Level.ERROR, 50: Level.FATAL}
_OPENTELEMETRY = ("severity_number", "severityNumber", "SeverityNumber")
_LEVELNO = ("levelno", "level_no")
LEVEL_FIELDS = ("level", "severity", "lvl", "log.level", "severity_text", "levelname", "loglevel", "log_level", "@l",
                "severityText", "SeverityText", "Level", "Severity", "level_name", "priority")
"""Fields that hold a level; the first that is there and not empty wins."""


def syslog_level(value: object) -> Level:
    """Of 0 (emergency) to 7 (debug), as number or as text; UNSET for anything else. Higher bits (the facility of a
    PRI) are ignored, as the kernel's priorities need it."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 4:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 191:
        return Level.UNSET
    return _SYSLOG[value & 7]


def scale_level(value: float) -> Level:
    """Of a number in a field called `level` that no format explains: 0..7 syslog, full tens 10..60 pino, any other to
    24 OpenTelemetry."""
    if not 0 <= value < 1000 or value != int(value):
        return Level.UNSET
    number = int(value)
    if 0 <= number <= 7:
        return _SYSLOG[number]
    return _PINO.get(number) or number_level(number)


def level_in(entry: Mapping[str, Any], names: tuple[str, ...] = LEVEL_FIELDS) -> Level:
    """The level of an object that no format explains."""
    for name in names:
        value = entry.get(name) if "." not in name else dig(entry, name)
        if isinstance(value, str) and value:
            return syslog_level(value) if value.isdigit() and name == "priority" else level_of(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return scale_level(value)
    for name in _LEVELNO:
        value = entry.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return _PYTHON.get(value // 10 * 10, Level.UNSET)
    for name in _OPENTELEMETRY:
        value = entry.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return number_level(value)
    return Level.UNSET
