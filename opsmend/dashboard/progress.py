"""How far an incident is: found, diagnosed, planned, repaired, verified; and whether it needs a person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from detect.types import Incident
from opsmend.dashboard.words import NS, minute, span
from remediate.types import Outcome, Plan, Run
from rootcause.types import Diagnosis

STEPS = ("found", "diagnosed", "planned", "repaired", "verified")
StepMark = Literal["done", "on", "bad", ""]
_UNDER_WAY = ("running", "verifying", "undoing")
VERDICTS = {"fixed": "fixed", "not_fixed": "not fixed", "cannot_tell": "cannot tell"}


@dataclass(frozen=True)
class Progress:
    """`marks` has one entry per step; `caption` says it in words; `plan` is the one that waits for a person."""

    marks: tuple[StepMark, ...]
    caption: str
    plan: Plan | None = None
    needs_person: bool = False

    @property
    def described(self) -> str:
        words = {"done": "done", "on": "under way", "bad": "went wrong", "": "not yet"}
        return ", ".join(f"{step}: {words[mark]}" for step, mark in zip(STEPS, self.marks, strict=True))


def progress(incident: Incident, diagnosis: Diagnosis | None, plans: list[Plan], run: Run | None,
             outcome: Outcome | None, now_ns: int, *, stopped: bool = False, held: str = "") -> Progress:
    """`plans` newest first; `run` the newest, with its outcome if it has one; `held`: why nothing more is planned for it."""
    waiting = next((p for p in plans if p.state == "proposed"), None) if incident.state == "open" else None
    known: StepMark = "done" if diagnosis is not None and not diagnosis.cannot_tell else "on"
    if waiting is not None:
        caption = "plan waits; repairs are stopped" if stopped else "plan waits for you"
        return Progress(("done", "done" if known == "done" else "on", "on", "", ""), caption, waiting, True)
    is_under_way = run is not None and run.state in _UNDER_WAY and run.verdict is None
    if held and incident.state == "open" and not is_under_way:
        return Progress(("done", known, "bad", "", ""), f"left to people: {held}", needs_person=True)
    if run is not None:
        return _of_run(incident, run, outcome)
    if plans and plans[0].state in ("running", "approved"):
        return Progress(("done", "done", "done", "on", ""), "repair starts")
    if incident.state != "open":
        return Progress(("done", known, "", "", ""), "ended by itself" if incident.state == "closed" else "merged")
    for_seconds = max(0.0, (now_ns - incident.opened_ns) / NS)
    if plans:
        plan = plans[0]
        said = {"rejected": f"rejected by {plan.decided_by or 'a person'}", "expired": "the plan expired",
                "blocked": "plan blocked: " + next((g.detail for g in plan.gates if not g.passed), "a gate")}
        return Progress(("done", known, "bad", "", ""), said.get(plan.state, plan.state),
                        needs_person=plan.state in ("rejected", "expired"))
    if diagnosis is None:
        return Progress(("done", "on", "", "", ""), f"diagnosing, {span(for_seconds)}")
    if known == "on":
        return Progress(("done", "on", "", "", ""), f"cannot tell yet, {span(for_seconds)}")
    return Progress(("done", "done", "", "", ""), "no repair fits; watching")


def _of_run(incident: Incident, run: Run, outcome: Outcome | None) -> Progress:
    if run.state in _UNDER_WAY and run.verdict is None:
        marks: dict[str, tuple[StepMark, StepMark]] = {
            "running": ("on", ""), "verifying": ("done", "on"), "undoing": ("bad", "bad")}
        words = {"running": "repair runs", "verifying": "verifying the repair", "undoing": "putting back what was"}
        return Progress(("done", "done", "done", *marks[run.state]), words[run.state])
    verdict = run.verdict or (outcome.verdict if outcome else None)
    if verdict == "fixed":
        seconds = (run.ended_ns - incident.first_signal_ns) / NS
        return Progress(("done",) * 5, f"{span(seconds)} to mend" if run.ended_ns else "fixed")
    needs = incident.state == "open"
    repaired: StepMark = "done" if any(s.state == "done" for s in run.steps) else "bad"
    undone = ", state restored" if outcome is not None and outcome.undone else ""
    word = {"cancelled": "stopped"}.get(run.state, VERDICTS.get(verdict or "", "failed"))
    return Progress(("done", "done", "done", repaired, "bad"), f"{word}{undone}" + ("; needs a person" if needs else ""),
                    needs_person=needs)


def waits_until(plan: Plan) -> str:
    """`until 14:36`, "" without an expiry."""
    return f"until {minute(plan.expires_ns)}" if plan.expires_ns else ""
