"""An incident as one row of a list: a sentence, its likely cause, a line, five steps, what a person can do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from detect.indicators import indicator_of
from detect.types import Incident, Signal
from ingest.types import SeriesKey
from opsmend.dashboard.folds import count
from opsmend.dashboard.plots import spark
from opsmend.dashboard.progress import VERDICTS, progress
from opsmend.dashboard.reading import Reading
from opsmend.dashboard.words import NS, change_words, minute, plural, span
from remediate.types import Outcome, Plan, Run

_TELLING = ("error_ratio", "latency", "saturation", "breach", "lock_wait", "cache_full", "traffic")
_WINDOW_NS = 600 * NS


def telling(incident: Incident) -> Callable[[SeriesKey], bool]:
    """Which series shows best what the incident is about."""
    drawn = [s for s in incident.signals if s.series and s.kind not in ("alert", "log_template", "log_rate")]
    if drawn:
        best = min(drawn, key=lambda s: (_rank(s), bool(s.peer), -s.score, s.start_ns))
        return lambda key: (key.service, key.name, key.peer) == (best.service, best.series, best.peer)
    services = {s.service for s in incident.signals}
    return lambda key: key.service in services and not key.peer and indicator_of(key) in ("up", "responsive", "errors")


def _rank(signal: Signal) -> int:
    return _TELLING.index(signal.kind) if signal.kind in _TELLING else len(_TELLING)


def rows(reading: Reading, incidents: Sequence[Incident]) -> list[dict[str, Any]]:
    """Those that need a person first, then the worst, then the newest."""
    drawn = sparks_of(reading, incidents)
    made = [row(reading, i, drawn.get(i.id, "")) for i in incidents]
    weight = {"critical": 0, "warning": 1, "info": 2}
    return sorted(made, key=lambda r: (not r["progress"].needs_person, weight[r["i"].severity], -r["i"].opened_ns,
                                       r["i"].id))


def row(reading: Reading, incident: Incident, drawn: str = "") -> dict[str, Any]:
    """What the template `line` shows."""
    diagnosis = reading.diagnosis(incident)
    plans, runs = reading.plans_of.get(incident.id, []), reading.runs_of.get(incident.id, [])
    run = runs[0] if runs else None
    outcome = reading.outcomes.get(run.id) if run else None
    suspect = diagnosis.suspects[0] if diagnosis and diagnosis.suspects else None
    change = ""
    if suspect is not None and suspect.change is not None and not (diagnosis and diagnosis.cannot_tell):
        ago = span((reading.now_ns - suspect.change.ts_ns) / NS)
        change = f"{change_words(suspect.change.kind, suspect.change.ref)} {ago} ago"
    how = progress(incident, diagnosis, plans, run, outcome, reading.now_ns, stopped=reading.control.stopped,
                   held=reading.held(incident))
    pill, word = _pill(incident, run, outcome)
    return {"i": incident, "d": diagnosis, "change": change, "progress": how, "pill": pill, "word": word,
            "spark": drawn, "alerts": sum(s.count for s in incident.signals), "folded": count(incident),
            "done": _done(incident, run, outcome, _plan_of(plans, run)),
            "ended": minute(incident.closed_ns or incident.updated_ns)}


def _plan_of(plans: list[Plan], run: Run | None) -> Plan | None:
    return next((p for p in plans if run is not None and p.id == run.plan_id), None)


def _pill(incident: Incident, run: Run | None, outcome: Outcome | None) -> tuple[str, str]:
    """(class, word) beside the title."""
    if run is not None and run.verdict == "fixed":
        return "ok", "fixed"
    if incident.state == "open":
        return {"critical": "crit", "warning": "warn"}.get(incident.severity, "info"), incident.severity
    if outcome is not None and outcome.undone:
        return "plain", "undone"
    if run is not None and run.verdict is not None:
        return "plain", VERDICTS[run.verdict]
    return "plain", incident.state


def _done(incident: Incident, run: Run | None, outcome: Outcome | None, plan: Plan | None) -> str:
    """What was done about it, as a sentence without a subject."""
    if run is None:
        return f"ended by itself after {span((incident.updated_ns - incident.first_signal_ns) / NS)}"
    did = "; ".join(s.effect for s in run.steps if s.effect and s.state == "done" and "undo" not in s.step_id) or run.action
    said = [did[:160]]
    acted = max((s.ended_ns for s in run.steps), default=0)
    if run.verdict == "fixed":
        if run.ended_ns > acted > 0:
            said.append(f"verified over {span((run.ended_ns - acted) / NS)}")
    elif outcome is not None:
        said.append(f"{'did not help' if outcome.verdict == 'not_fixed' else 'cannot tell'}: {outcome.why[:160]}")
        said.append("state restored" if outcome.undone else "")
        said.append("handed to people")
    approver = plan.decided_by if plan is not None else ""
    said.append(f"approved by {approver}" if approver else "nobody was woken" if run.verdict == "fixed" else "")
    return " · ".join(s for s in said if s)


def sparks_of(reading: Reading, incidents: Sequence[Incident]) -> dict[str, str]:
    """Incident -> its line. Those that are open share one read: they lie on the same clock."""
    keeps = {i.id: telling(i) for i in incidents if i.state == "open"}
    out: dict[str, str] = {}
    if keeps:
        seen = reading.observations(reading.now_ns - _WINDOW_NS, reading.now_ns,
                                    lambda key: any(keep(key) for keep in keeps.values()), tuple(sorted(keeps)))
        for incident_id, keep in keeps.items():
            column = next((at for at, key in enumerate(seen.series) if keep(key)), None)
            if column is not None:
                out[incident_id] = spark(seen.series[column], seen.values[:, column])
    for incident in incidents:
        if incident.state != "open":
            out[incident.id] = reading.memory.held(("spark", incident.id, incident.state), 60.0,
                                                   partial(_ended_spark, reading, incident))
    return out


def _ended_spark(reading: Reading, incident: Incident) -> str:
    end = (incident.closed_ns or incident.updated_ns) + 5 * NS
    start = max(incident.first_signal_ns - 120 * NS, end - 3 * _WINDOW_NS)
    seen = reading.port.observations(start, end, telling(incident))
    return spark(seen.series[0], seen.values[:, 0]) if seen.series else ""


def alerts_words(alerts: int, folded: int, services: int) -> str:
    """`214 alerts folded into 9 · 3 services`."""
    said = f"{plural(alerts, 'alert')} folded into {folded}" if alerts > folded else plural(folded, "alert")
    return f"{said} · {plural(services, 'service')}"


def lane_label(service: str, incidents: int, repairs: int, changes: int) -> str:
    """A lane in words."""
    return (f"{service}: {plural(incidents, 'incident')}, {plural(repairs, 'repair')} verified, "
            f"{plural(changes, 'change')}")
