"""The one clock of an incident's charts: from before the first sign to now, or to where a limit is forecast to be crossed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from detect.types import Incident
from opsmend.dashboard.reading import Reading
from opsmend.dashboard.words import NS, change_words, clock
from rootcause.types import Diagnosis

WIDTH = 600
"""Of a chart's drawing; the browser stretches it."""
_MARKED = frozenset({"rollout", "config", "scale"})
_STEPS = (5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600)


@dataclass(frozen=True)
class Timeline:
    """`start` to `end`, ns. What was measured ends at `now`; beyond it there are only forecasts."""

    start: int
    now: int
    end: int

    def x(self, ts_ns: float) -> float:
        """Where a moment is drawn, 0..WIDTH; what lies outside is drawn at the edge."""
        return round(min(max((ts_ns - self.start) / max(self.end - self.start, 1), 0.0), 1.0) * WIDTH, 1)

    def ticks(self, most: int = 7) -> list[dict[str, Any]]:
        """Round moments {t: seconds, x, percent, word}, at least two on any clock of more than ten seconds."""
        seconds = (self.end - self.start) / NS
        step = next((s for s in _STEPS if seconds / s <= most), round(seconds / most) or 1)
        first = -(-self.start // (step * NS)) * step
        return [{"t": t, "x": self.x(t * NS), "percent": round(self.x(t * NS) / WIDTH * 100, 2),
                 "word": clock(t * NS)[: 8 if step < 60 else 5]}
                for t in range(first, self.end // NS + 1, step)]


def timeline(reading: Reading, incident: Incident, diagnosis: Diagnosis | None) -> Timeline:
    """What came before the first sign is always seen; what is said to have caused it, and a forecast crossing, where
    they are near enough."""
    end = reading.now_ns if incident.state == "open" else (incident.closed_ns or incident.updated_ns) + 30 * NS
    end = min(end, reading.now_ns)
    ahead = max((s.breach.eta_high_ns - end for s in incident.signals
                 if s.breach is not None and s.is_open and incident.state == "open"), default=0)
    length = min(max(int((end - incident.first_signal_ns) * 1.6), 180 * NS), 1800 * NS)
    length = max(length, min(ahead, 1800 * NS))
    start = max(end - length, incident.first_signal_ns - 600 * NS)
    if start > incident.first_signal_ns - 30 * NS:  # long open: what came before must still be seen
        start = incident.first_signal_ns - 120 * NS
    change = diagnosis.suspects[0].change if diagnosis and diagnosis.suspects else None
    if change is not None and incident.first_signal_ns - change.ts_ns < 900 * NS:
        start = min(start, change.ts_ns - 20 * NS)
    # The past keeps at least half of the width: a crossing further away is told in words.
    return Timeline(start, end, end + min(int(ahead * 1.04), end - start) if ahead > 0 else end)


def marks(reading: Reading, incident: Incident, diagnosis: Diagnosis | None, line: Timeline) -> list[dict[str, Any]]:
    """The changes on the clock, newest six, those of the incident's services and suspects."""
    about = set(incident.services) | {s.service for s in (diagnosis.suspects if diagnosis else ())}
    found = [c for c in reading.port.changes(line.start, line.now)
             if c.service in about and (c.kind in _MARKED or c.actor == "opsmend")]
    return [{"ts_ns": c.ts_ns, "at": clock(c.ts_ns), "service": c.service,
             "kind": "repair" if c.actor == "opsmend" else "change",
             "what": change_words("action" if c.actor == "opsmend" else c.kind, c.ref),
             "old": c.old, "x": round(line.x(c.ts_ns))} for c in found[-6:]]
