"""Logs and spans of recorded cases, per minute (`rca_minutes.py` says what their files hold), as channels of a CaseWindow.

Usual minutes are those before the fault, of this case and of the others of its set and day, and those of files `normal*`
beside the cases. Where these are too few to know what is usual, the minutes of the other cases' faults count as well:
nobody needs to know what was wrong then, most services had no part in it, and a middle over many stands that.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from opsmend.evaluate.rca_files import CaseError, read_label
from opsmend.evaluate.rca_minutes import MINUTE, Kind, Minute, kind_of, minutes_of

_LATE_SHARE = 0.5
"""A minute that the fault fills less than this is neither usual nor of the fault."""
_ENOUGH: Final = 5
"""Usual minutes that tell what is usual."""
_FEW: Final = {"error_lines": 5 / MINUTE, "templates": float(np.log1p(4))}
"""What a fault that is met seldom may do in one minute and not in the next."""


@dataclass(frozen=True)
class Channels:
    """Per minute: node and call values; minutes without data of a kind have no entry."""

    usual: tuple[int, ...]
    fault: tuple[int, ...]
    node: Mapping[tuple[str, int, str], float]  # (indicator, minute, service)
    call: Mapping[tuple[int, str, str], float]  # network: (minute, caller, callee)
    services: frozenset[str]
    calls: frozenset[tuple[str, str]]


def read_channels(folder: Path, begin: float, end: float, day: str, clock: str, known: frozenset[str]) -> Channels | None:
    """Of the case in `folder`; None where it has neither logs nor spans. `begin`, `end` of the fault, unix seconds; `known`
    are the names of its services elsewhere."""
    own = _own(folder, known)
    if not own:
        return None
    fault = {t: m for t, m in own.items() if begin - MINUTE * (1 - _LATE_SHARE) <= t <= end}
    pool = _usual(folder.parent, day, known, begin if clock != "known" else np.inf)
    if len(pool) < _ENOUGH:
        pool |= _of_others(folder, known, begin if clock != "known" else np.inf)
    if not fault or not pool:
        return None
    node: dict[tuple[str, int, str], float] = {}
    call: dict[tuple[int, str, str], float] = {}
    total = _Usual(pool.values())
    everything = {**pool, **fault}
    writers = sorted({s for m in everything.values() for s in (*m.lines, *m.templates)})
    has_templates = {s for m in everything.values() for s in m.templates}
    for t, minute in everything.items():
        usual = total.without(minute) if t in pool and len(pool) > 1 else total
        for service, kinds in minute.made.items():
            if minute.asked[service]:
                node["spans", t, service] = sum(kinds.values()) / minute.asked[service]
                if total.asked[service]:
                    node["pattern", t, service] = _apart(kinds, usual.made[service], minute.asked[service],
                                                         usual.asked[service])
        for service, asked in minute.asked.items():
            node["traffic", t, service] = asked / MINUTE
            if asked and minute.seconds[service]:
                node["latency", t, service] = minute.seconds[service] / asked
                alone = minute.seconds[service] - minute.below.get(service, 0.0)
                if alone > 0:  # else its callees work at the same time, and sums can't tell how long it waited for them
                    node["self_time", t, service] = alone / asked
        for service in writers if minute.has_lines else ():  # who writes nothing writes no error either
            node["error_lines", t, service] = minute.error_lines[service] / MINUTE
            if service in has_templates:
                found = minute.templates.get(service, Counter())
                node["templates", t, service] = _apart(found, usual.templates[service], sum(found.values()),
                                                       sum(usual.templates[service].values()))
        call |= {(t, a, b): seconds for (a, b), seconds in minute.wire.items()}
    _only_what_lasts(node, sorted(fault), writers)
    return Channels(tuple(sorted(pool)), tuple(sorted(fault)), node, call,
                    frozenset(s for m in everything.values() for s in (*m.asked, *m.made, *m.lines)) | has_templates,
                    frozenset(pair for m in everything.values() for pair in m.calls))


def _only_what_lasts(node: dict[tuple[str, int, str], float], fault: list[int], writers: Iterable[str]) -> None:
    """Lines of a single minute of the fault count as those of the next most unusual one, but for a few: many services have a
    minute full of failures now and then, for no reason that matters, and few usual minutes don't show it."""
    for name, few in _FEW.items():
        for service in writers:
            at = [t for t in fault if (name, t, service) in node]
            if len(at) > 1:
                first, second = sorted((node[name, t, service] for t in at), reverse=True)[:2]
                most = max(second, min(first, few))
                for t in at:
                    node[name, t, service] = min(node[name, t, service], most)


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


def _usual(folder: Path, day: str, known: frozenset[str], before: float) -> dict[int, Minute]:
    """Of the day, none of them in a fault, none that ends after `before`."""
    times = [(start, stop) for _, start, stop, its_day in _siblings(folder) if its_day == day]
    pool: dict[int, Minute] = {}
    for case, start, stop, its_day in _siblings(folder):
        if its_day == day and start <= before:
            pool |= {t: m for t, m in _own(case, known).items() if t + MINUTE <= start or t > stop + 300}
    pool |= minutes_of(_beside(folder, day), known)
    return {t: m for t, m in pool.items() if not any(start < t + MINUTE and t <= stop for start, stop in times)
            and t + MINUTE <= before}


def _of_others(folder: Path, known: frozenset[str], before: float) -> dict[int, Minute]:
    """All minutes of the set's other cases that are not around the fault of this one."""
    spans = {case: (start, stop) for case, start, stop, _ in _siblings(folder.parent)}
    begin, end = spans.get(folder, (np.inf, -np.inf))
    return {t: m for case in spans if case != folder for t, m in _own(case, known).items()
            if (t + MINUTE <= begin or t > end) and t + MINUTE <= before}


@lru_cache(maxsize=8)
def _siblings(folder: Path) -> tuple[tuple[Path, float, float, str], ...]:
    out = []
    for label_file in sorted(folder.glob("*/label.json")):
        try:
            label = read_label(label_file.parent)
        except CaseError:
            continue  # named where it is read as a case
        begin = label.get("inject_time")
        if begin is not None:
            out.append((label_file.parent, begin, begin + float(label.get("abnormal_seconds") or 300),
                        str(label.get("day") or "")))
    return tuple(out)


@lru_cache(maxsize=32)
def _beside(folder: Path, day: str) -> tuple[Path, ...]:
    """Files of usual minutes beside the cases: those of the day, all where none is named after a day."""
    files = [file for file in sorted(folder.glob("normal*.csv")) if kind_of(file)]
    return tuple(file for file in files if day in file.name) or tuple(files)


def _own(folder: Path, known: frozenset[str]) -> dict[int, Minute]:
    return minutes_of(_files(folder), known)


@lru_cache(maxsize=2048)
def _files(folder: Path) -> tuple[Path, ...]:
    files = sorted(set(folder.glob("*.csv")) - {folder / "metrics.csv", folder / "graph.csv"})
    return tuple(file for file in files if kind_of(file))
