"""Logs and spans of recorded cases, per minute, as channels of a CaseWindow.

`traces.csv` (time, caller, callee, operation, n, mean_us, ...): spans of `caller` that are its own (caller = callee)
or answered by `callee`. `logs.csv` (time, service, n_lines, n_level_warn_err, n_err_words) and `log_templates.csv`
(time, service, template, n). Usual minutes are those before the fault, of this case and of the others of its set and
day, and `normal_traces*`, `normal_logs*`, `normal_log_templates*` beside the cases.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from opsmend.evaluate.rca_files import CaseError, read_label, rows_of

_MINUTE = 60
_LATE_SHARE = 0.5
"""A minute that the fault fills less than this is neither usual nor of the fault."""
_OUTSIDE = "__root__"
_VARIABLE = re.compile(r"\S*[*\d]\S*")
_PREFIX = re.compile(r"^(/|grpc\.)+")
Kind = tuple[str, str]


@dataclass
class Minute:
    """What one minute shows, by service or call."""

    asked: Counter[str] = field(default_factory=Counter)  # calls that reach a service
    made: dict[str, Counter[Kind]] = field(default_factory=lambda: defaultdict(Counter))  # its spans, by kind
    wire: dict[tuple[str, str], float] = field(default_factory=dict)  # seconds beyond what the callee measures
    lines: dict[str, int] = field(default_factory=dict)
    error_lines: dict[str, int] = field(default_factory=dict)
    templates: dict[str, Counter[Kind]] = field(default_factory=lambda: defaultdict(Counter))


@dataclass(frozen=True)
class Channels:
    """Per minute: node and call values; minutes without data of a kind have no entry."""

    usual: tuple[int, ...]
    fault: tuple[int, ...]
    node: Mapping[tuple[str, int, str], float]  # (indicator, minute, service)
    call: Mapping[tuple[int, str, str], float]  # network: (minute, caller, callee)


def read_channels(folder: Path, begin: float, end: float, day: str, clock: str) -> Channels | None:
    """Of the case in `folder`; None where it has neither logs nor spans. `begin`, `end` of the fault, unix seconds."""
    own = _minutes(folder)
    if not own:
        return None
    pool: dict[int, Minute] = {}
    for other, start, stop, its_day in _siblings(folder.parent):
        if its_day == day and (clock == "known" or start <= begin):
            pool |= {t: m for t, m in _minutes(other).items() if t + _MINUTE <= start or t > stop + 300}
    pool |= _beside(folder.parent, day, begin if clock != "known" else np.inf)
    times = [(start, stop) for _, start, stop, its_day in _siblings(folder.parent) if its_day == day]
    pool = {t: m for t, m in pool.items() if not any(start < t + _MINUTE and t <= stop for start, stop in times)
            and (clock == "known" or t + _MINUTE <= begin)}
    fault = {t: m for t, m in own.items() if begin - _MINUTE * (1 - _LATE_SHARE) <= t <= end}
    if not fault or not pool:
        return None
    node: dict[tuple[str, int, str], float] = {}
    call: dict[tuple[int, str, str], float] = {}
    total = _Usual(pool.values())
    for t, minute in {**pool, **fault}.items():
        usual = total.without(minute) if t in pool and len(pool) > 1 else total
        for service, kinds in minute.made.items():
            if minute.asked[service]:
                node["spans", t, service] = sum(kinds.values()) / minute.asked[service]
                if total.asked[service]:
                    node["pattern", t, service] = _apart(kinds, usual.made[service], minute.asked[service],
                                                         usual.asked[service])
        for service, lines in minute.lines.items():
            node["error_lines", t, service] = minute.error_lines.get(service, 0) / _MINUTE
            if service in minute.templates and lines:
                node["templates", t, service] = _apart(
                    minute.templates[service], usual.templates[service], sum(minute.templates[service].values()),
                    sum(usual.templates[service].values()))
        call |= {(t, a, b): seconds for (a, b), seconds in minute.wire.items()}
    return Channels(tuple(sorted(pool)), tuple(sorted(fault)), node, call)


class _Usual:
    """Sums over usual minutes."""

    def __init__(self, minutes: Iterable[Minute]) -> None:
        self.asked: Counter[str] = Counter()
        self.made: dict[str, Counter[Kind]] = defaultdict(Counter)
        self.templates: dict[str, Counter[Kind]] = defaultdict(Counter)
        for minute in minutes:
            self.asked.update(minute.asked)
            for mine, theirs in ((self.made, minute.made), (self.templates, minute.templates)):
                for service, kinds in theirs.items():
                    mine[service].update(kinds)

    def without(self, minute: Minute) -> _Usual:
        """The sums without one of the minutes: who is in the sum looks more usual than it is."""
        out = _Usual(())
        out.asked = self.asked - minute.asked
        for name in ("made", "templates"):
            getattr(out, name).update({s: kinds - getattr(minute, name).get(s, Counter())
                                       for s, kinds in getattr(self, name).items()})
        return out


def _apart(found: Counter[Kind], usual: Counter[Kind], size: float, of: float) -> float:
    """log(1 + the largest deviation of a kind's count from its usual share of `size`), in what chance and a mix that
    changes by a quarter would do."""
    worst = 0.0
    for kind in found.keys() | usual.keys():
        expected = usual[kind] * size / max(of, 1e-9)
        worst = max(worst, abs(found[kind] - expected) / np.sqrt(expected + (0.25 * expected) ** 2 + 1.0))
    return float(np.log1p(worst))


@lru_cache(maxsize=8)
def _siblings(folder: Path) -> tuple[tuple[Path, float, float, str], ...]:
    out = []
    for label_file in sorted(folder.glob("*/label.json")):
        try:
            label = read_label(label_file.parent)
        except CaseError:
            continue  # named where it is read as a case
        start = label.get("inject_time")
        if start is not None:
            out.append((label_file.parent, float(start), float(start) + float(label.get("abnormal_seconds") or 300),
                        str(label.get("day") or "")))
    return tuple(out)


def _beside(folder: Path, day: str, before: float) -> dict[int, Minute]:
    pool: dict[int, Minute] = {}
    for kind, take in (("traces", _take_traces), ("logs", _take_logs), ("log_templates", _take_templates)):
        for file in sorted(folder.glob(f"normal_{kind}*{day}*.csv")):
            take(file, pool)
    return {t: m for t, m in pool.items() if t + _MINUTE <= before}


@lru_cache(maxsize=512)
def _minutes(folder: Path) -> dict[int, Minute]:
    out: dict[int, Minute] = {}
    for name, take in (("traces.csv", _take_traces), ("logs.csv", _take_logs), ("log_templates.csv", _take_templates)):
        if (folder / name).is_file():
            take(folder / name, out)
    return out


def _take_traces(file: Path, into: dict[int, Minute]) -> None:
    inner: dict[tuple[int, str, str], float] = {}
    outer: dict[tuple[int, str, str], list[tuple[str, float, float]]] = defaultdict(list)
    for row in rows_of(file, ("time", "caller", "callee", "operation", "n", "mean_us")):
        t = int(float(row["time"]))
        minute, a, b, operation = into.setdefault(t, Minute()), row["caller"], row["callee"], _PREFIX.sub("", row["operation"])
        count, mean = int(float(row["n"] or 0)), float(row["mean_us"] or 0)
        if a != b:
            minute.asked[b] += count
            outer[t, a, b].append((operation, count, mean))
        else:
            inner[t, a, operation] = mean
        if a != _OUTSIDE:
            minute.made[a][b, operation] += count
    for (t, a, b), served in outer.items():
        # The caller's own span of the same name covers the way there and back.
        both = [(count, inner[t, a, operation] - mean) for operation, count, mean in served if (t, a, operation) in inner]
        if both:
            into[t].wire[a, b] = max(0.0, sum(n * gap for n, gap in both) / sum(n for n, _ in both)) / 1e6


def _take_logs(file: Path, into: dict[int, Minute]) -> None:
    for row in rows_of(file, ("time", "service", "n_lines")):
        minute = into.setdefault(int(float(row["time"])), Minute())
        minute.lines[row["service"]] = int(float(row["n_lines"] or 0))
        minute.error_lines[row["service"]] = max(int(float(row.get(name) or 0)) for name in ("n_level_warn_err", "n_err_words"))


def _take_templates(file: Path, into: dict[int, Minute]) -> None:
    for row in rows_of(file, ("time", "service", "template", "n")):
        minute = into.setdefault(int(float(row["time"])), Minute())
        minute.templates[row["service"]][_VARIABLE.sub("*", row["template"]).strip(), ""] += int(float(row["n"] or 0))
