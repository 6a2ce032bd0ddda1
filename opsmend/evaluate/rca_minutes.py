"""Minutes of logs and spans on disk. What a file holds is told by its columns, not by its name.

Spans (time, caller, callee, operation, n, mean_us): of `caller` itself (caller = callee), or answered by `callee`. Lines
(time, service, n_lines, n_level_warn_err, n_err_words), and rough templates (time, service, template, n). Other columns
are left alone; times may be in any unit from seconds to nanoseconds, means in `mean_us`, `mean_ms`, `mean_ns` or `mean_s`.
"""

from __future__ import annotations

import csv
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final

from opsmend.evaluate.rca_files import rows_of
from opsmend.evaluate.rca_names import known_as, number, seconds_of

MINUTE: Final = 60
OUTSIDE: Final = "__root__"
Kind = tuple[str, str]
_VARIABLE = re.compile(r"[*\d]")
_VERB = re.compile(r"^(HTTP )?(GET|PUT|POST|PATCH|DELETE|HEAD|OPTIONS)\b ?", re.IGNORECASE)
_PREFIX = re.compile(r"^(/|grpc\.)+")
_FAILURE = re.compile(r"error|exception|fail|fatal|panic|traceback|refused|timed? ?out", re.IGNORECASE)
_UNITS: Final = {"mean_us": 1e-6, "mean_ms": 1e-3, "mean_ns": 1e-9, "mean_s": 1.0}
_ALIKE: Final = (0.7, 1.4)
"""Spans of a client over spans that answered it, where both are of the same calls."""


@dataclass
class Minute:
    """What one minute shows, by service or call."""

    asked: Counter[str] = field(default_factory=Counter)  # calls that reach a service
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))  # that these took, together
    below: dict[str, float] = field(default_factory=lambda: defaultdict(float))  # that it waited for whom it calls, together
    made: dict[str, Counter[Kind]] = field(default_factory=lambda: defaultdict(Counter))  # its spans, by kind
    calls: set[tuple[str, str]] = field(default_factory=set)
    wire: dict[tuple[str, str], float] = field(default_factory=dict)  # seconds beyond what the callee measures
    has_lines: bool = False
    lines: Counter[str] = field(default_factory=Counter)
    error_lines: Counter[str] = field(default_factory=Counter)
    templates: dict[str, Counter[Kind]] = field(default_factory=lambda: defaultdict(Counter))


@lru_cache(maxsize=512)
def minutes_of(files: tuple[Path, ...], known: frozenset[str]) -> dict[int, Minute]:
    """By their first second, of those of the files that hold logs or spans; services under the names in `known`. Raises
    CaseError."""
    out: dict[int, Minute] = {}
    names: dict[str, str] = {OUTSIDE: OUTSIDE}

    def named(row: dict[str, str], column: str) -> str:
        name = row.get(column) or ""
        if name not in names:
            names[name] = known_as(name, known)
        return names[name]

    spans: list[tuple[int, str, str, dict[str, str]]] = []
    counted: list[tuple[int, str, dict[str, str]]] = []
    texts: list[tuple[int, str, dict[str, str]]] = []
    for file in files:
        kind = kind_of(file)
        for row in rows_of(file, _NEEDED[kind]) if kind and file.stat().st_size else ():
            time = seconds_of(row.get("time") or "")
            if math.isnan(time):
                continue
            at = int(time) // MINUTE * MINUTE
            if kind == "traces":
                spans.append((at, named(row, "caller"), named(row, "callee"), row))
            else:
                (counted if kind == "logs" else texts).append((at, named(row, "service"), row))
    _take_spans(spans, out)
    _take_lines(counted, texts, out)
    return out


_NEEDED: Final = {"traces": ("time", "caller", "callee", "n"), "logs": ("time", "service", "n_lines"),
                  "log_templates": ("time", "service", "template", "n")}


@lru_cache(maxsize=2048)
def kind_of(file: Path) -> str:
    """"traces", "logs", "log_templates", or "" for anything else. A file that has one of these names has to be it."""
    if file.stem in _NEEDED:
        return file.stem
    with file.open(newline="", encoding="utf-8-sig", errors="replace") as lines:
        columns = set(next(csv.reader(lines), ()))
    return next((kind for kind, needed in _NEEDED.items() if set(needed) <= columns), "")


def _count(cell: str | None) -> int:
    value = number(cell)
    return int(value) if value > 0 else 0


Span = tuple[str, int, float]
"""Operation, how many, mean seconds."""


def _take_spans(rows: Iterable[tuple[int, str, str, dict[str, str]]], into: dict[int, Minute]) -> None:
    own: dict[tuple[int, str], list[Span]] = defaultdict(list)
    outer: dict[tuple[int, str], list[tuple[str, Span]]] = defaultdict(list)
    for t, a, b, row in rows:
        minute, operation = into.setdefault(t, Minute()), _VERB.sub("", row.get("operation") or "")
        operation, count = _PREFIX.sub("", operation), _count(row.get("n"))
        unit = next((u for u in _UNITS if u in row), "")
        mean = number(row.get(unit)) * _UNITS.get(unit, 1.0)
        mean = 0.0 if math.isnan(mean) else mean
        if a != b:
            minute.asked[b] += count
            minute.seconds[b] += count * mean
            outer[t, a].append((b, (operation, count, mean)))
            if a != OUTSIDE:
                minute.calls.add((a, b))
                minute.below[a] += count * mean
        else:
            own[t, a].append((operation, count, mean))
        if a != OUTSIDE:
            minute.made[a][b, operation] += count
    for (t, a), served in outer.items():
        if a != OUTSIDE:
            waits, are_measured = _on_the_way(own[t, a], served, into[t].seconds[a])
            into[t].wire |= {(a, b): gap for b, gap in waits.items()}
            if are_measured:
                into[t].below[a] += sum(count * waits.get(b, 0.0) for b, (_, count, _) in served)


def _on_the_way(own: list[Span], served: list[tuple[str, Span]], seconds: float) -> tuple[dict[str, float], bool]:
    """(callee -> seconds per call that its caller waits beyond what the callee takes, never below 0; whether spans of clients
    say so).

    A span of the caller that has the name of the callee's covers the way there and back. Clients that name no target
    ("HTTP POST") give all callees that are left the same mean. Who keeps no spans as a client gives what its own requests take
    (`seconds` together) and its callees do not: its own work is in it, and is as ever unless it is what got slow.
    """
    named: dict[str, list[float]] = {}
    for operation, count, mean in own:
        named.setdefault(operation, [0.0, 0.0])
        named[operation][0] += count
        named[operation][1] += count * mean
    gaps: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    left: list[tuple[str, Span]] = []
    for callee, (operation, count, mean) in served:
        if operation in named and operation and count:
            asked, took = named[operation]
            gaps[callee][0] += count
            gaps[callee][1] += count * (took / max(asked, 1.0) - mean)
        else:
            left.append((callee, (operation, count, mean)))
    out = {callee: max(0.0, gap / n) for callee, (n, gap) in gaps.items() if n}
    unknown = {callee for callee, _ in left} - set(out)
    calls = sum(n for _, (_, n, _) in left)
    if not unknown or not calls:
        return out, True
    answered = sum(n * mean for _, (_, n, mean) in left)
    asked, took = named.get("", [0.0, 0.0])
    if _ALIKE[0] * calls <= asked <= _ALIKE[1] * calls:
        return out | dict.fromkeys(unknown, max(0.0, took / asked - answered / calls)), True
    if not gaps and seconds > 0:
        return out | dict.fromkeys(unknown, max(0.0, seconds - answered) / calls), False
    return out, True


def _take_lines(counted: Iterable[tuple[int, str, dict[str, str]]], texts: Iterable[tuple[int, str, dict[str, str]]],
                into: dict[int, Minute]) -> None:
    told = set()
    for t, service, row in counted:
        minute = into.setdefault(t, Minute())
        minute.has_lines = True
        told.add(t)
        minute.lines[service] += _count(row.get("n_lines"))
        minute.error_lines[service] += max(_count(row.get(name)) for name in ("n_level_warn_err", "n_err_words"))
    for t, service, row in texts:
        minute = into.setdefault(t, Minute())
        minute.has_lines = True
        text, count = _without_variables(row.get("template") or ""), _count(row.get("n"))
        minute.templates[service][text, ""] += count
        if t not in told:  # nobody has counted them
            minute.lines[service] += count
            minute.error_lines[service] += count if _FAILURE.search(text) else 0


def _without_variables(text: str) -> str:
    """Words with a digit or a star in them are variables; linear in the text, which may be a whole stack trace."""
    return " ".join("*" if _VARIABLE.search(word) else word for word in text.split())
