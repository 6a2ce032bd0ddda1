"""The page Now beside its rows: what is coming, the last 24 hours, trust."""

from __future__ import annotations

from typing import Any

import numpy as np

from detect.types import Incident, Signal
from ingest.types import Change, SeriesKey
from opsmend.dashboard.layout import place
from opsmend.dashboard.plots import forecast
from opsmend.dashboard.reading import Reading
from opsmend.dashboard.rows import lane_label, rows
from opsmend.dashboard.words import NS, change_words, minute, number, span

HOUR_NS, DAY_NS = 3600 * NS, 86_400 * NS
_PEOPLE_CHANGE = frozenset({"rollout", "config", "scale"})


def now_view(reading: Reading) -> dict[str, Any]:
    """Everything that the template now.html shows."""
    open_rows = rows(reading, reading.port.incidents(state="open", limit=50).items)
    recent = [i for i in reading.port.incidents(state="closed", limit=20).items
              if i.updated_ns > reading.now_ns - HOUR_NS]
    mended = sorted(rows(reading, recent), key=lambda r: -r["i"].updated_ns)
    lanes = reading.memory.held("lanes", 3.0, lambda: lanes_of(reading))
    return {"rows": open_rows, "mended": mended, "coming": coming(reading), "lanes": lanes,
            "needs": sum(r["progress"].needs_person for r in open_rows), "since": reading.now_ns - DAY_NS,
            "trust": reading.memory.held("trust", 10.0, reading.port.trust), "g": graph_view(reading)}


def graph_view(reading: Reading, *, step_x: int = 0) -> dict[str, Any]:
    """The service graph with the state of each service; the likely cause of an open incident is marked."""
    states = {s.name: s.state for s in reading.services}
    placed = place(reading.graph, states, step_x=step_x or 92)
    suspects = {d.suspects[0].service for i in reading.port.incidents(state="open", limit=20).items
                if i.severity != "info" and (d := reading.diagnosis(i)) is not None and d.suspects and not d.cannot_tell}
    for node in placed["nodes"]:
        node["is_suspect"] = node["name"] in suspects
    return placed


# what is coming -----------------------------------------------------------------------------------
def coming(reading: Reading, most: int = 3) -> list[dict[str, Any]]:
    """The forecast crossings, soonest first, as a sentence and a drawing."""
    signals = list(reading.port.breaches())[:most]
    incident_of = {s.id: i.id for i in reading.port.incidents(state="open", limit=100).items for s in i.signals}
    return [one_coming(reading, s, incident_of.get(s.id, "")) for s in signals]


def one_coming(reading: Reading, signal: Signal, incident_id: str) -> dict[str, Any]:
    """One forecast crossing; `incident_id` "" where the drawing stands on the incident's own page."""
    breach, now = signal.breach, reading.now_ns
    assert breach is not None  # breaches() gives no others
    ahead = breach.eta_high_ns - now
    back = int(min(max(ahead, 300 * NS), 2 * HOUR_NS))

    def keep(key: SeriesKey) -> bool:
        return (key.service, key.name) == (signal.service, breach.series) and not key.peer

    seen = reading.observations(now - back, now, keep, ("breach", signal.id))
    values = seen.values[:, 0] if seen.series else np.zeros(0)
    times = seen.ts_ns if seen.series else np.zeros(0, np.int64)
    cause = _cause(reading, signal)
    low, high = (max(0.0, (t - now) / NS) for t in (breach.eta_low_ns, breach.eta_high_ns))
    return {"signal": signal, "breach": breach, "when": _between(low, high), "incident_id": incident_id,
            "series": breach.series.replace("_", " ").replace(".", " "), "cause": cause,
            "growth": f"{number(abs(breach.slope_per_second) * 60)}/min", "f": forecast(times, values, breach, now),
            "plan": next((p for p in reading.plans_of.get(incident_id, []) if p.state == "proposed"), None)}


def _between(low: float, high: float) -> str:
    """`14 to 19 min`, `any moment now`."""
    if high < 5:
        return "any moment now"
    if low < 60 and high < 120:
        return f"{low:.0f} to {high:.0f} s"
    if high < 7200:
        return f"{low / 60:.0f} to {high / 60:.0f} min"
    return f"{span(low)} to {span(high)}"


def _cause(reading: Reading, signal: Signal) -> str:
    """The newest change of this service before the growth was seen, in the last hour."""
    found = [c for c in reading.port.changes(signal.start_ns - HOUR_NS, signal.start_ns)
             if c.service == signal.service and c.kind in _PEOPLE_CHANGE]
    return f"since the {change_words(found[-1].kind, found[-1].ref)} at {minute(found[-1].ts_ns)}" if found else ""


# the last 24 hours --------------------------------------------------------------------------------
def lanes_of(reading: Reading, most: int = 8) -> list[dict[str, Any]]:
    """One lane per service on which something was: marks {x, width} in per cent of the day, kind, in words."""
    start = reading.now_ns - DAY_NS
    day = [i for i in reading.port.incidents(limit=300).items
           if i.state != "merged" and (i.closed_ns or reading.now_ns) > start]
    lanes: dict[str, dict[str, Any]] = {}

    def lane(service: str) -> dict[str, Any]:
        return lanes.setdefault(service, {"service": service, "marks": [], "newest": 0, "n": [0, 0, 0]})

    def x(ts_ns: int) -> float:
        return round(min(max((ts_ns - start) / DAY_NS, 0.0), 1.0) * 100, 2)

    for incident in day:
        for service in incident.services:
            _put_incident(lane(service), incident, service, x, reading.now_ns)
    for outcome in reading.outcomes.values():
        if outcome.verdict == "fixed" and outcome.ts_ns > start:
            _put(lane(outcome.service), "fix", min(x(outcome.ts_ns), 99.5), 0.5, outcome.ts_ns, 1)
    for change in _people_changes(reading, start):
        _put(lane(change.service), "change", min(x(change.ts_ns), 99.7), 0.3, change.ts_ns, 2)
    chosen = sorted(lanes.values(), key=lambda a: (-a["newest"], a["service"]))[:most]
    for one in chosen:
        one["label"] = lane_label(one["service"], *one["n"])
        one["marks"].sort(key=lambda m: ("crit", "warn", "info", "change", "fix").index(m["kind"]))
        del one["marks"][:-120]
    return sorted(chosen, key=lambda a: str(a["service"]))


def _put_incident(lane: dict[str, Any], incident: Incident, service: str, x: Any, now_ns: int) -> None:
    signals = [s for s in incident.signals if s.service == service] or list(incident.signals)
    begin = min(s.start_ns for s in signals) if signals else incident.first_signal_ns
    end = incident.closed_ns or (now_ns if incident.state == "open" else incident.updated_ns)
    kind = {"critical": "crit", "warning": "warn"}.get(incident.severity, "info")
    left = min(x(begin), 99.4)
    _put(lane, kind, left, max(0.6, round(x(end) - left, 2)), begin, 0)


def _put(lane: dict[str, Any], kind: str, left: float, width: float, ts_ns: int, what: int) -> None:
    lane["marks"].append({"kind": kind, "x": left, "w": width})
    lane["newest"] = max(lane["newest"], ts_ns)
    lane["n"][what] += 1


def _people_changes(reading: Reading, start_ns: int) -> list[Change]:
    return [c for c in reading.port.changes(start_ns, reading.now_ns)
            if c.kind in _PEOPLE_CHANGE and c.actor != "opsmend"]
