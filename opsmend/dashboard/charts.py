"""The series of an incident on one clock: a chart for each of its signals, with the changes marked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np

from detect.indicators import indicator_of
from detect.limits import companions
from detect.types import Incident, Observations, Signal
from ingest.types import SeriesKey
from opsmend.api.chart_types import ChartMark, IncidentCharts
from opsmend.dashboard.folds import Fold, folds
from opsmend.dashboard.lines import Course, line_json, line_view
from opsmend.dashboard.reading import Reading
from opsmend.dashboard.spread import cause_graph
from opsmend.dashboard.timeline import Timeline, marks, timeline
from opsmend.dashboard.words import NS
from rootcause.types import Diagnosis
from rootcause.window import channel_of

MOST = 10
"""Charts on a page that did not ask for others."""
PAGE, LARGEST = 32, 104
"""Charts on each further page, and at most."""
POINTS = 160
"""Of a line that the browser draws."""
_AGAINST = ("latency", "errors", "cpu", "memory")
STATE_OF = {"process.down": "up", "hang": "responsive", "crash_loop": "up"}
"""Kinds that name no series: the indicator that shows them."""


@dataclass(frozen=True)
class Window:
    """Which charts are asked for: so many, from the n-th on (0 is the first)."""

    begin: int = 0
    most: int = MOST

    @classmethod
    def of(cls, begin: str, most: str) -> Window:
        """From a query; what is no number there is left out."""
        at, size = (int(word) if word.isdecimal() and len(word) < 6 else None for word in (begin, most))
        return cls(at or 0, min(max(size or MOST, 1), LARGEST))


def charts(reading: Reading, incident: Incident, diagnosis: Diagnosis | None,
           window: Window | None = None) -> dict[str, Any]:
    """{items, lines, marks, ticks, json, ...}. `items` begin with the series that decided the diagnosis, then come the
    other signs, each in the order of their beginning: signals with a series as lines, others (somebody's alerts, log
    messages) as lanes; on the first page what of the first suspect stayed as usual stands below, which speaks against
    it. `total` is the number of charts that signals and the diagnosis have."""
    window = window or Window()
    line, first = timeline(reading, incident, diagnosis), incident.first_signal_ns
    signs = _signs(incident)
    broken = {s.service for s in incident.signals}
    states = {(s.service, STATE_OF[s.kind]) for s in incident.signals if s.kind in STATE_OF}
    suspect = diagnosis.suspects[0].service if diagnosis and diagnosis.suspects else ""
    decisive = _decisive(diagnosis)

    def keep(key: SeriesKey) -> bool:
        if (key.service, key.name, key.peer) in signs or (key.service, channel_of(key), key.peer) in decisive:
            return True
        indicator = indicator_of(key)
        return not key.peer and (
            (key.service in broken and indicator in ("up", "responsive", "limit"))
            or (key.service == suspect and indicator in _AGAINST) or (key.service, indicator) in states)

    seen = reading.observations(line.start, line.now, keep, ("charts", incident.id, diagnosis.ts_ns if diagnosis else 0),
                                with_forecast=True)
    if len(seen.ts_ns):
        start = max(line.start, int(seen.ts_ns[0]))  # of a young service there is less: the past keeps a quarter at least
        line = Timeline(start, line.now, min(line.end, line.now + 3 * (line.now - start)))
    loud, quiet = _ranked(_decided(_alive(_courses(seen, signs, incident), first), decisive, first), incident)
    drawn = {(c.key.service, c.key.name, c.key.peer) for c in loud}
    lanes = [f for f in folds(incident, reading) if f.is_external or f.kind == "log_template" or (
        f.kind not in STATE_OF and not drawn & {(f.service, s.series, f.peer) for s in f.signals})]
    ordered: list[Course | Fold] = sorted([*loud, *lanes], key=lambda i: (not _decides(i), _onset(i)))
    quiet = [] if window.begin else quiet[:max(0, min(2, window.most - 1))]
    size = max(1, window.most - len(quiet))
    shown = [*ordered[window.begin:window.begin + size], *quiet]
    chosen = [c for c in shown if isinstance(c, Course)]
    changes = marks(reading, incident, diagnosis, line)
    at = np.linspace(0, len(seen.ts_ns) - 1, min(POINTS, len(seen.ts_ns))).astype(np.int64)
    body = IncidentCharts(
        tuple((seen.ts_ns[at] / NS).round(2).tolist()), tuple(line_json(c, line, first, at) for c in chosen),
        line.start / NS, line.now / NS, line.end / NS, first / NS, tuple(float(t["t"]) for t in line.ticks()),
        tuple(ChartMark(m["ts_ns"] / NS, m["kind"], m["service"], m["what"]) for m in changes),
        window.begin, len(ordered), cause_graph(reading, incident, diagnosis))
    instances = Counter((c.key.service, c.key.name, c.key.peer) for c in chosen)
    many = {at for at, n in instances.items() if n > 1}
    lines = [{"many": (c.key.service, c.key.name, c.key.peer) in many} | line_view(c, line, first) for c in chosen]
    view_of = dict(zip(map(id, chosen), lines, strict=True))
    return {"lines": lines, "items": [view_of.get(id(c), c) for c in shown], "marks": changes, "ticks": line.ticks(),
            "begin": window.begin, "after": window.begin + size, "total": len(ordered), "page": PAGE,
            "before": max(0, window.begin - PAGE),
            "start": line.start, "now": line.now, "end": line.end, "now_x": line.x(line.now), "json": body,
            "since": line.x(first) if first >= line.start else 0.0,
            "line": line, "most": window.most}


def _signs(incident: Incident) -> dict[tuple[str, str, str], Signal]:
    """(service, series, peer) -> its first signal, with the newest forecast of a crossing among them, and whether that
    one still stands."""
    found: dict[tuple[str, str, str], Signal] = {}
    crossings: dict[tuple[str, str, str], Signal] = {}
    for s in sorted(incident.signals, key=lambda s: -s.start_ns):
        name = s.breach.series if s.breach is not None else s.series
        if name and s.kind not in ("alert", "log_template"):
            found[s.service, name, s.peer] = s
            before = crossings.get((s.service, name, s.peer))
            if s.breach is not None and (before is None or s.is_open > before.is_open):
                crossings[s.service, name, s.peer] = s
    for at, s in crossings.items():
        found[at] = msgspec.structs.replace(found[at], breach=s.breach, is_open=s.is_open)
    return found


def _decisive(diagnosis: Diagnosis | None) -> dict[tuple[str, str, str], tuple[str, int]]:
    """(service, channel, peer) -> the suspect that it speaks for or against, and since when; of the first three."""
    found: dict[tuple[str, str, str], tuple[str, int]] = {}
    for suspect in diagnosis.suspects[:3] if diagnosis else ():
        name = f"{suspect.service} → {suspect.peer}" if suspect.peer else suspect.service
        for d in suspect.deciding:
            found.setdefault((d.service, d.indicator, d.peer), (name, d.moved_ns))
    return found


def _decided(courses: list[Course], decisive: dict[tuple[str, str, str], tuple[str, int]], first_ns: int) -> list[Course]:
    """The same, those that decided something marked. Several series may stand behind one channel (instances, quantiles):
    the one that moved furthest is it."""
    best: dict[tuple[str, str, str], tuple[float, int]] = {}
    for at, c in enumerate(courses):
        of = (c.key.service, channel_of(c.key), c.key.peer)
        if of in decisive and (of not in best or _moved(c, first_ns) > best[of][0]):
            best[of] = (_moved(c, first_ns), at)
    out = list(courses)
    for of, (_, at) in best.items():
        suspect, moved_ns = decisive[of]
        out[at] = replace(courses[at], decides=suspect, onset_ns=courses[at].onset_ns or moved_ns)
    return out


def _moved(course: Course, first_ns: int) -> float:
    """How far it went, in its own noise from point to point."""
    present = np.isfinite(course.values)
    before, since = (course.values[present & part] for part in (course.times < first_ns, course.times >= first_ns))
    if not len(since):
        return 0.0
    usual = float(np.median(before)) if len(before) else 0.0
    noise = float(np.median(np.abs(np.diff(before)))) if len(before) > 2 else 0.0
    return float(np.abs(since - usual).max()) / max(noise, 0.02 * abs(usual), 1e-9)


def _courses(seen: Observations, signs: dict[tuple[str, str, str], Signal], incident: Incident) -> list[Course]:
    """Every series of which there is more than a point."""
    limits: dict[SeriesKey, float] = {}
    for usage, limit in companions(seen.series):
        tops = seen.values[:, seen.series.index(limit)]
        if np.isfinite(tops).any():
            limits[usage] = float(tops[np.isfinite(tops)][-1])
    none = np.full((len(seen.ts_ns), 3), np.nan)
    state_of = {(s.service, STATE_OF[s.kind]): s for s in sorted(incident.signals, key=lambda s: -s.start_ns)
                if s.kind in STATE_OF}
    found = []
    for at, key in enumerate(seen.series):
        if np.isfinite(seen.values[:, at]).sum() < 2 or (
                indicator_of(key) == "limit" and (key.service, key.name, key.peer) not in signs):
            continue
        sign = signs.get((key.service, key.name, key.peer)) or state_of.get((key.service, indicator_of(key)))
        if sign is not None and sign.instance and key.instance and sign.instance != key.instance:
            sign = None
        breach = sign.breach if sign is not None else None
        found.append(Course(
            key, seen.ts_ns, seen.values[:, at], none if seen.forecast is None else seen.forecast[:, at].astype(float),
            onset_ns=sign.start_ns if sign is not None else 0, breach=breach,
            limit=breach.limit if breach is not None else limits.get(key),
            is_open=sign is not None and sign.is_open and incident.state == "open"))
    return found


def _alive(courses: Sequence[Course], first_ns: int) -> list[Course]:
    """Without those that had ended before it began, where the same is measured under another instance's name."""
    def is_alive(c: Course) -> bool:
        return bool(np.isfinite(c.values[c.times >= first_ns]).any())

    alive = {(c.key.service, c.key.name, c.key.peer) for c in courses if is_alive(c)}
    return [c for c in courses if is_alive(c) or (c.key.service, c.key.name, c.key.peer) not in alive]


def _ranked(courses: Sequence[Course], incident: Incident) -> tuple[list[Course], list[Course]]:
    """Those of signals and the states of processes that changed, by onset; and what stayed as usual."""
    loud, quiet = [], []
    for c in sorted(courses, key=lambda c: (c.key.service, c.key.name, c.key.instance)):
        is_state = indicator_of(c.key) in ("up", "responsive")
        if c.onset_ns:
            loud.append(c)
        elif is_state and bool((c.values < 0.5).any()):
            loud.append(replace(c, onset_ns=0, rank_ns=incident.first_signal_ns))
        elif not is_state:
            quiet.append(c)
    return loud, quiet


def _decides(item: Course | Fold) -> bool:
    return isinstance(item, Course) and bool(item.decides)


def _onset(item: Course | Fold) -> int:
    return item.first_ns if isinstance(item, Fold) else item.onset_ns or item.rank_ns
