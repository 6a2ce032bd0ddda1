"""The series of an incident on one clock: a chart for each of its signals, with the changes marked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from detect.indicators import indicator_of
from detect.limits import companions
from detect.types import Breach, Incident, Observations, Signal
from ingest.types import SeriesKey
from opsmend.dashboard.lines import Course, line_json, line_view
from opsmend.dashboard.reading import Reading
from opsmend.dashboard.timeline import Timeline, marks, timeline
from opsmend.dashboard.words import NS
from rootcause.types import Diagnosis

MOST = 8
"""Charts on a page that did not ask for more."""
POINTS = 180
"""Of a line that the browser draws."""
_AGAINST = ("latency", "errors", "cpu", "memory")
STATE_OF = {"process.down": "up", "hang": "responsive", "crash_loop": "up"}
"""Kinds that name no series: the indicator that shows them."""


def charts(reading: Reading, incident: Incident, diagnosis: Diagnosis | None, most: int = MOST) -> dict[str, Any]:
    """{lines, marks, ticks, more, start, now, end, json}. Signals come in the order of their first signs; then what of
    the first suspect stayed as usual, which speaks against it. `more` charts were left out."""
    line = timeline(reading, incident, diagnosis)
    signs = _signs(incident)
    broken = {s.service for s in incident.signals}
    states = {(s.service, STATE_OF[s.kind]) for s in incident.signals if s.kind in STATE_OF}
    suspect = diagnosis.suspects[0].service if diagnosis and diagnosis.suspects else ""

    def keep(key: SeriesKey) -> bool:
        if (key.service, key.name, key.peer) in signs:
            return True
        indicator = indicator_of(key)
        return not key.peer and (
            (key.service in broken and indicator in ("up", "responsive", "limit"))
            or (key.service == suspect and indicator in _AGAINST) or (key.service, indicator) in states)

    seen = reading.observations(line.start, line.now, keep, ("charts", incident.id), with_forecast=True)
    if len(seen.ts_ns):
        line = Timeline(max(line.start, int(seen.ts_ns[0])), line.now, line.end)
    chosen, more = _chosen(_courses(seen, signs, incident), incident, most)
    changes = marks(reading, incident, diagnosis, line)
    first = incident.first_signal_ns
    at = np.linspace(0, len(seen.ts_ns) - 1, min(POINTS, len(seen.ts_ns))).astype(np.int64)
    body = {"t": (seen.ts_ns[at] / NS).round(2).tolist(), "series": [line_json(c, line, first, at) for c in chosen],
            "start": line.start / NS, "now": line.now / NS, "end": line.end / NS, "ticks": [t["t"] for t in line.ticks()],
            "marks": [{"t": m["ts_ns"] / NS, "kind": m["kind"]} for m in changes]}
    instances = Counter((c.key.service, c.key.name, c.key.peer) for c in chosen)
    many = {at for at, n in instances.items() if n > 1}
    lines = [{"many": (c.key.service, c.key.name, c.key.peer) in many} | line_view(c, line, first) for c in chosen]
    return {"lines": lines, "marks": changes, "ticks": line.ticks(), "more": more,
            "start": line.start, "now": line.now, "end": line.end, "now_x": line.x(line.now), "json": body,
            "line": line, "most": most}


def _signs(incident: Incident) -> dict[tuple[str, str, str], Signal]:
    """(service, series, peer) -> its first signal, with the newest forecast of a crossing among them."""
    found: dict[tuple[str, str, str], Signal] = {}
    crossings: dict[tuple[str, str, str], Breach] = {}
    for s in sorted(incident.signals, key=lambda s: -s.start_ns):
        name = s.breach.series if s.breach is not None else s.series
        if name and s.kind not in ("alert", "log_template"):
            found[s.service, name, s.peer] = s
            if s.breach is not None and s.is_open:
                crossings.setdefault((s.service, name, s.peer), s.breach)
    for at, breach in crossings.items():
        found[at] = msgspec.structs.replace(found[at], breach=breach, is_open=True)
    return found


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
        breach = sign.breach if sign is not None and sign.is_open else None
        found.append(Course(
            key, seen.ts_ns, seen.values[:, at], none if seen.forecast is None else seen.forecast[:, at].astype(float),
            sign.start_ns if sign is not None else 0, breach.limit if breach is not None else limits.get(key), breach,
            sign is not None and sign.is_open))
    return found


def _chosen(courses: Sequence[Course], incident: Incident, most: int) -> tuple[list[Course], int]:
    """Those of signals by onset, then the states of processes that changed, then two quiet ones; how many were left
    out."""
    def order(c: Course) -> tuple[int, int, str, str, str]:
        moved = indicator_of(c.key) in ("up", "responsive") and bool((c.values < 0.5).any())
        rank = 0 if c.onset_ns or moved else 1
        return rank, c.onset_ns or incident.first_signal_ns, c.key.service, c.key.name, c.key.instance

    ranked = sorted(courses, key=order)
    loud = [c for c in ranked if order(c)[0] == 0]
    quiet = [c for c in ranked if order(c)[0] == 1 and indicator_of(c.key) not in ("up", "responsive")][:2]
    shown = loud[:most - min(2, len(quiet))]
    return shown + quiet, len(loud) - len(shown)
