"""The page of one incident: what happened, what it is, how it spread, what can be done, and how that went."""

from __future__ import annotations

from typing import Any

import numpy as np

from detect.indicators import indicator_of
from detect.types import Incident
from ingest.types import SeriesKey
from opsmend.api.port import if_readable
from opsmend.causes import ConfirmedCause, Culprit
from opsmend.dashboard import charts, folds
from opsmend.dashboard.progress import VERDICTS, progress
from opsmend.dashboard.reading import Reading
from opsmend.dashboard.runs import run_view
from opsmend.dashboard.spread import spread
from opsmend.dashboard.words import NS, kind_words, likely, minute, plural, share, span
from remediate.types import Plan, Run
from rootcause.stage import RootCauseConfig
from rootcause.types import Diagnosis, ServiceGraph, Suspect

CALLS = "\t"
"""Between service, callee and instance, in the form that says what the cause was."""
NOTHING = CALLS
"""Between no ends: nothing was wrong."""
_CAUSES = 60


def incident_view(reading: Reading, incident: Incident, *, window: charts.Window | None = None,
                  all_alerts: bool = False) -> dict[str, Any]:
    """Everything that the template incident.html shows."""
    diagnosis = reading.diagnosis(incident)
    plans = list(reading.port.plans(incident_id=incident.id))
    runs = list(reading.port.runs(incident_id=incident.id, limit=20))
    outcome = if_readable(reading.port.outcome, runs[0].id) if runs else None
    held = reading.held(incident)
    how = progress(incident, diagnosis, plans, runs[0] if runs else None, outcome, reading.now_ns,
                   stopped=reading.control.stopped, held=held)
    plan = how.plan or next((p for p in plans if p.state in ("running", "approved")), plans[0] if plans else None)
    others = sorted((i for i in reading.port.incidents(state="open", limit=50).items if i.id != incident.id),
                    key=lambda i: i.id not in incident.touches)
    rows = folds.folds(incident, reading)
    end = reading.now_ns if incident.state == "open" else incident.closed_ns or incident.updated_ns
    return {"i": incident, "d": diagnosis, "progress": how, "story": story(incident, diagnosis, plan, runs, reading),
            "held": held, "lasted": span((end - incident.first_signal_ns) / NS), "g": spread(reading, incident, diagnosis),
            "plan": plan, "facts": plan_facts(plan, incident, reading.graph) if plan else [],
            "earlier": [p for p in plans if plan is None or p.id != plan.id], "others": others,
            "runs": [run_view(r, if_readable(reading.port.outcome, r.id), if_readable(reading.port.plan, r.plan_id))
                     for r in runs],
            "charts": charts.charts(reading, incident, diagnosis, window),
            "alerts": rows, "shown": len(rows) if all_alerts else folds.MOST, "proposal": folds.proposed(incident, rows),
            "cause": reading.port.cause(incident.id), "caused": caused, "named": named, "verdict": verdict(diagnosis),
            "causes": causes(incident, diagnosis, reading.graph),
            "again": _again(reading, incident), "failed": _failed_requests(reading, incident, end)}


def causes(incident: Incident, diagnosis: Diagnosis | None, graph: ServiceGraph) -> list[tuple[str, str]]:
    """(value, words) of what a person may call the cause: the suspects and their instances, the incident's services, what
    these call and rest on, nothing."""
    found = []
    for s in diagnosis.suspects if diagnosis else ():
        found.append((s.service + CALLS + s.peer if s.peer else s.service, named(s)))
        found += [(CALLS.join((s.service, "", one)), f"{s.service}: {one}") for one in s.instances]
    mine = sorted(incident.services)
    ground = sorted({thing for service, thing in graph.rests_on if service in incident.services})
    near = mine + sorted({c for s in mine for c in graph.callees(s)})
    found += [(s, s) for s in near] + [(thing, f"{graph.kind_of(thing)} {thing}") for thing in ground]
    unique: dict[str, str] = {}
    for value, words in found:
        unique.setdefault(value, words)
    return [*list(unique.items())[:_CAUSES], (NOTHING, "nothing: a false alarm")]


def named(one: Culprit | Suspect) -> str:
    """What is, or may be, at fault.

    >>> named(Culprit("cart", "db")), named(Culprit("n1", kind="host"))
    ('calls cart → db', 'host n1')
    """
    return f"calls {one.service} → {one.peer}" if one.peer else f"{one.kind} {one.service}".lstrip()


def caused(cause: ConfirmedCause) -> str:
    """What was confirmed, in words."""
    return " and ".join(named(c) + (f" ({c.instance})" if c.instance else "") for c in cause.culprits)


def verdict(diagnosis: Diagnosis | None) -> tuple[str, str] | None:
    """(what is said first, why) of a diagnosis that names nobody; None where it does, or there is none."""
    if diagnosis is None or not diagnosis.cannot_tell:
        return None
    if not diagnosis.suspects:
        return "Cannot tell", ": too little is measured from before the first sign, or since."
    if _is_none(diagnosis):
        return "Probably none of these", ": nothing is wrong, or the cause is not watched."
    first, second = diagnosis.suspects[0], [*diagnosis.suspects[1:], None][0]
    rival = named(second) if second and second.probability >= diagnosis.p_none else "none of these"
    ahead = first.probability - max(diagnosis.p_none, second.probability if second else 0.0)
    if ahead < RootCauseConfig().margin:
        return "Cannot tell", f": {named(first)} is not far enough ahead of {rival}."
    return "Cannot tell", f": no open alert is on {named(first)}."


def _is_none(diagnosis: Diagnosis) -> bool:
    """Whether "none of these" is likelier than any suspect."""
    return bool(diagnosis.suspects) and diagnosis.p_none > diagnosis.suspects[0].probability


# the story ----------------------------------------------------------------------------------------
def story(incident: Incident, diagnosis: Diagnosis | None, plan: Plan | None, runs: list[Run],
          reading: Reading) -> list[dict[str, Any]]:
    """Six stations: {at, word, said, mark}; `at` 0 has not come yet."""
    first = min(incident.signals, key=lambda s: s.start_ns, default=None)
    sign = f"{first.service}: {first.evidence[0].text if first.evidence else kind_words(first.kind)}" if first else ""
    count = sum(s.count for s in incident.signals)
    out = [_station(incident.first_signal_ns, "first sign", sign, "done"),
           _station(incident.opened_ns, "incident",
                    f"{plural(count, 'alert')} folded into {folds.count(incident)}", "done")]
    if diagnosis is None:
        is_open = incident.state == "open"
        out.append(_station(0, "diagnosis", "looking" if is_open else "none was made", "on" if is_open else ""))
    elif diagnosis.cannot_tell:
        said = ", ".join(f"{named(s)} {likely(s.probability)}" for s in diagnosis.suspects[:2]) or "nothing stands out"
        if _is_none(diagnosis):
            said = f"none of these {likely(diagnosis.p_none)}"
        out.append(_station(diagnosis.ts_ns, "diagnosis", f"cannot tell: {said}", "on"))
    else:
        top = diagnosis.suspects[0]
        out.append(_station(diagnosis.ts_ns, "diagnosis", f"{named(top)} {likely(top.probability)}", "done"))
    if plan is not None and out[-1]["at"] > plan.created_ns:
        out[-1]["at"] = plan.created_ns  # it goes on being diagnosed, but this is what the plan rests on
    out.append(_plan_station(plan, runs, incident))
    run = runs[0] if runs else None
    if run is None:
        return [*out, _station(0, "repair", "", ""), _station(0, "verified", "", "")]
    repaired = "on" if run.state == "running" else "bad" if run.state in ("failed", "cancelled") else "done"
    did = next((s.effect or s.error for s in reversed(run.steps) if s.effect or s.error), run.state)
    out.append(_station(run.started_ns, "repair", did[:120], repaired))
    if run.verdict is None:
        return [*out, _station(0, "verified", "watching" if run.state == "verifying" else "",
                               "on" if run.state == "verifying" else "")]
    mark = "done" if run.verdict == "fixed" else "bad"
    return [*out, _station(run.ended_ns, "verified", VERDICTS[run.verdict], mark)]


def _plan_station(plan: Plan | None, runs: list[Run], incident: Incident) -> dict[str, Any]:
    if plan is None:
        return _station(0, "plan", "none yet" if incident.state == "open" else "none was needed", "")
    by = f" by {plan.decided_by}" if plan.decided_by else ""
    if plan.state == "proposed":
        until = f", expires {minute(plan.expires_ns)}" if plan.expires_ns else ""
        return _station(plan.created_ns, "plan", f"waits for approval{until}", "on")
    if plan.state in ("rejected", "expired", "blocked"):
        return _station(plan.created_ns, "plan", f"{plan.state}{by}", "bad")
    return _station(plan.created_ns, "plan", f"approved{by}" if by else "all gates passed", "done")


def _station(at: int, word: str, said: str, mark: str) -> dict[str, Any]:
    return {"at": at, "word": word, "said": said, "mark": mark}


# the plan -----------------------------------------------------------------------------------------
def plan_facts(plan: Plan, incident: Incident, graph: ServiceGraph) -> list[tuple[str, str]]:
    """(word, sentence): what it touches, its risk, what is expected, and what happens if that does not come."""
    callers = graph.callers(plan.target)
    felt = f"; its callers {', '.join(callers[:3])} may notice" if callers else ""
    undo = "what was there is captured first and can be put back" if plan.is_reversible else "it cannot be undone"
    fails = ("what was there is put back, people are told" if plan.is_reversible
             else "nothing is tried again by itself, people are told")
    worst = max((s for s in incident.signals if s.usual is not None and s.value is not None and not s.peer),
                key=lambda s: s.score, default=None)
    expected = "every signal of the incident back in its usual range"
    if worst is not None and worst.kind == "error_ratio":
        expected = f"errors of {worst.service} back to {share(worst.usual or 0.0)} from {share(worst.value or 0.0)}"
    elif worst is not None and worst.kind in ("process.down", "hang"):
        expected = f"{worst.service} is up and answers"
    trials = (f"worked {plan.prior_successes} of {plural(plan.prior_trials, 'time')} here" if plan.prior_trials
              else "never tried here on this fault")
    return [("touches", f"1 service, {plan.target}{felt}"), ("risk", f"{plan.risk}: {undo}"),
            ("record", trials), ("expected", expected), ("if not", fails)]


def _failed_requests(reading: Reading, incident: Incident, end: int) -> int:
    """About how many requests failed where users meet the system: error ratio times requests per second, over the
    incident so far. 0 where one of them is not measured."""
    felt = [s.service for s in incident.signals if s.kind == "error_ratio" and not s.peer]
    tops = [s for s in felt if not set(reading.graph.callers(s)) & set(felt)]
    if not tops:
        return 0
    top = tops[0]

    def keep(key: SeriesKey) -> bool:
        indicator = indicator_of(key)
        return key.service == top and not key.peer and (
            indicator == "errors" or (indicator == "traffic" and "per_second" in key.name))

    begin = max(incident.first_signal_ns, end - 1800 * NS)
    seen = reading.observations(begin, end, keep, ("failed", incident.id))
    errors, traffic = ([at for at, key in enumerate(seen.series) if indicator_of(key) == wanted]
                       for wanted in ("errors", "traffic"))
    if not errors or not traffic or len(seen.ts_ns) < 2 or begin > incident.first_signal_ns:
        return 0
    seconds = float(np.median(np.diff(seen.ts_ns))) / NS
    return int(np.nansum(seen.values[:, errors[0]] * seen.values[:, traffic[0]]) * seconds)


def _again(reading: Reading, incident: Incident) -> list[Incident]:
    """Earlier incidents of the same fingerprint, newest first."""
    found = reading.memory.held(("closed",), 5.0, lambda: reading.port.incidents(state="closed", limit=100).items)
    return [i for i in found if i.fingerprint == incident.fingerprint and i.id != incident.id][:3]
