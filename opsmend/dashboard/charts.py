"""The series that decided an incident, on one clock, with the changes marked."""

from __future__ import annotations

from typing import Any

import numpy as np

from detect.indicators import indicator_of
from detect.types import Incident, Observations
from ingest.types import SeriesKey
from opsmend.dashboard.plots import Floats, as_json, path, room, thin
from opsmend.dashboard.reading import Reading
from opsmend.dashboard.words import NS, change_words, clock, label, quantity
from rootcause.types import Diagnosis

_MARKED = frozenset({"rollout", "config", "scale"})
_AGAINST = ("latency", "errors", "cpu", "memory")
MOST = 7


def charts(reading: Reading, incident: Incident, diagnosis: Diagnosis | None) -> dict[str, Any]:
    """{lines: [{id, service, label, name, change, is_quiet, path}], marks, json}. The cause's series come first, in
    the order of their first signs; then what of the first suspect stayed as usual, which speaks against it."""
    end = reading.now_ns if incident.state == "open" else (incident.closed_ns or incident.updated_ns) + 30 * NS
    end = min(end, reading.now_ns)
    length = min(max(int((end - incident.first_signal_ns) * 1.6), 180 * NS), 1800 * NS)
    start = max(end - length, incident.first_signal_ns - 600 * NS)
    if start > incident.first_signal_ns - 30 * NS:  # long open: what came before must still be seen
        start = incident.first_signal_ns - 120 * NS
    change = diagnosis.suspects[0].change if diagnosis and diagnosis.suspects else None
    if change is not None and incident.first_signal_ns - change.ts_ns < 900 * NS:
        start = min(start, change.ts_ns - 20 * NS)  # what is said to have caused it is on the clock
    onset = {(s.service, s.series, s.peer): s.start_ns for s in sorted(incident.signals, key=lambda s: -s.start_ns)
             if s.series and s.kind not in ("alert", "log_template")}
    broken = {s.service for s in incident.signals}
    suspect = diagnosis.suspects[0].service if diagnosis and diagnosis.suspects else ""

    def keep(key: SeriesKey) -> bool:
        if (key.service, key.name, key.peer) in onset:
            return True
        indicator = indicator_of(key)
        return not key.peer and ((key.service in broken and indicator in ("up", "responsive"))
                                 or (key.service == suspect and indicator in _AGAINST))

    seen = reading.observations(start, end, keep, ("charts", incident.id))
    if len(seen.ts_ns):
        start = max(start, int(seen.ts_ns[0]))
    lines = []
    for at in _chosen(seen, onset, incident):
        key, values = seen.series[at], seen.values[:, at]
        quiet, words = _course(key, values, seen, incident, is_sign=(key.service, key.name, key.peer) in onset)
        low, high = room(key, values)
        lines.append(({"id": f"{key.service}|{key.name}|{key.instance}|{key.peer}", "service": key.service,
                       "label": label(key), "name": key.name, "words": words, "quiet": quiet,
                       "path": path(thin(values, 100), low, high, 600, 34)}, key, values))
    marks = _marks(reading, incident, diagnosis, start, end)
    head = [({k: v for k, v in one.items() if k in ("id", "quiet")}, key, values) for one, key, values in lines]
    return {"lines": [one for one, _, _ in lines], "marks": marks, "start": start, "end": end,
            "json": {**as_json(seen.ts_ns, head), "start": start / NS, "end": end / NS,
                     "marks": [{"t": m["ts_ns"] / NS, "kind": m["kind"]} for m in marks]}}


def _chosen(seen: Observations, onset: dict[tuple[str, str, str], int], incident: Incident) -> list[int]:
    """Columns: those of signals by onset, then the states of processes that changed, then the quiet ones."""

    def order(at: int) -> tuple[int, int, str, str]:
        key = seen.series[at]
        began = onset.get((key.service, key.name, key.peer))
        if began is not None:
            return (0, began, key.service, key.name)
        moved = indicator_of(key) in ("up", "responsive") and bool((seen.values[:, at] < 0.5).any())
        return (0 if moved else 1, incident.first_signal_ns if moved else 0, key.service, key.name)

    ranked = sorted((at for at in range(len(seen.series)) if np.isfinite(seen.values[:, at]).sum() > 1), key=order)
    loud = [at for at in ranked if order(at)[0] == 0]
    quiet = [at for at in ranked if order(at)[0] == 1 and indicator_of(seen.series[at]) not in ("up", "responsive")]
    return loud[:MOST - min(2, len(quiet))] + quiet[:2]


def _course(key: SeriesKey, values: Floats, seen: Observations, incident: Incident, *,
            is_sign: bool) -> tuple[bool, str]:
    """(is it as usual, `0.2 % → 31 %` or `as usual`): the median before the first sign, and the newest. What is
    a sign of the incident itself is never called usual."""
    before = values[(seen.ts_ns < incident.first_signal_ns) & np.isfinite(values)]
    since = values[(seen.ts_ns >= incident.first_signal_ns) & np.isfinite(values)]
    if not len(since):
        return True, quantity(key, float(before[-1])) if len(before) else ""
    newest = float(np.median(since[-3:]))
    if not len(before):
        return False, quantity(key, newest)
    usual = float(np.median(before))
    around = max(abs(usual) * 0.5, 3 * float(np.percentile(before, 90) - np.percentile(before, 10)), 1e-9)
    worst = float(since[int(np.argmax(np.abs(since - usual)))])
    if abs(worst - usual) <= around and not is_sign:
        return True, "as usual"
    if abs(newest - usual) <= around < abs(worst - usual):
        return False, f"{quantity(key, worst)}, now {quantity(key, newest)}"
    return False, f"{quantity(key, usual)} → {quantity(key, newest)}"


def _marks(reading: Reading, incident: Incident, diagnosis: Diagnosis | None, start: int,
           end: int) -> list[dict[str, Any]]:
    """The changes on the clock, newest six, those of the incident's services and suspects."""
    about = set(incident.services) | {s.service for s in (diagnosis.suspects if diagnosis else ())}
    found = [c for c in reading.port.changes(start, end)
             if c.service in about and (c.kind in _MARKED or c.actor == "opsmend")]
    return [{"ts_ns": c.ts_ns, "at": clock(c.ts_ns), "service": c.service,
             "kind": "repair" if c.actor == "opsmend" else "change",
             "what": change_words("action" if c.actor == "opsmend" else c.kind, c.ref),
             "old": c.old, "x": round((c.ts_ns - start) / max(end - start, 1) * 600)} for c in found[-6:]]
