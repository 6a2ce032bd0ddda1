"""The run log: what was done, when, with what effect, by whose approval, and whether it helped."""

from __future__ import annotations

from typing import Any

from opsmend.dashboard.progress import VERDICTS
from opsmend.dashboard.reading import Reading
from opsmend.dashboard.words import NS, number, span
from remediate.types import Outcome, Plan, Run


def runs_view(reading: Reading) -> dict[str, Any]:
    """The newest hundred runs."""
    outcomes = {o.run_id: o for o in reading.port.outcomes(limit=300)}
    plans = {p.id: p for p in reading.port.plans(limit=300)}
    return {"runs": [run_view(r, outcomes.get(r.id), plans.get(r.plan_id)) for r in reading.port.runs(limit=100)]}


def run_view(run: Run, outcome: Outcome | None, plan: Plan | None) -> dict[str, Any]:
    """One run as the templates show it."""
    verdict = run.verdict or (outcome.verdict if outcome else None)
    if verdict is not None:
        pill = {"fixed": "ok", "not_fixed": "crit", "cannot_tell": "warn"}[verdict]
        word = VERDICTS[verdict]
    else:
        pill, word = ("info", run.state) if run.state in ("running", "verifying", "undoing") else ("plain", run.state)
    steps = [{"s": s, "took": span((s.ended_ns - s.started_ns) / NS) if s.ended_ns >= s.started_ns > 0 else ""}
             for s in run.steps]
    changed = [(name, number(before), number(outcome.after[name]) if name in outcome.after else "–")
               for name, before in sorted(outcome.before.items())] if outcome else []
    return {"r": run, "o": outcome, "plan": plan, "steps": steps, "pill": pill, "word": word,
            "took": span((run.ended_ns - run.started_ns) / NS) if run.ended_ns else "",
            "changed": changed[:6], "who": _who(plan), "undone": _undone(outcome, plan)}


def _who(plan: Plan | None) -> str:
    if plan is None:
        return "unknown: the plan is no longer kept"
    if plan.decided_by:
        reason = f": {plan.decided_reason}" if plan.decided_reason else ""
        return f"approved by {plan.decided_by}{reason}"
    return "by itself: every gate passed"


def _undone(outcome: Outcome | None, plan: Plan | None) -> str:
    if outcome is None or outcome.verdict == "fixed":
        return ""
    if outcome.undone:
        return "undone: what was there before is back"
    return "not undone" + ("" if plan is None or plan.is_reversible else ": it cannot be undone")
