"""The evidence-bound list: what may be proposed at all, and for every other action why not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from detect.types import LOG_KINDS
from remediate.actions.base import Action
from remediate.planner.case import typed
from remediate.planner.types import Case
from remediate.ports import Prior
from remediate.types import Considered, Outcome, Plan

ESCALATE: Final = "notify"
_CACHE_ONLY: Final = frozenset({"cache.purge_prefix"})
_DATABASE_ONLY: Final = frozenset({"postgres.terminate_blocker"})
_PROCESS: Final = "process."
_MEANING: Final = {
    "process.down": "not down", "hang": "not hanging", "crash_loop": "no crash loop", "error_ratio": "no errors",
    "latency": "not slow", "traffic": "no unusual load", "saturation": "not saturated", "cpu": "CPU as usual",
    "memory": "memory as usual", "lock_wait": "nobody waits for a lock", "cache_full": "no full cache",
    "metric_anomaly": "no odd metric", "breach": "no limit ahead", "alert": "no alert",
}


@dataclass(frozen=True)
class Eligibility:
    """Names of the actions that may be proposed, in the catalogue's order, and the reasons of the rest."""

    actions: tuple[str, ...]
    why_not: tuple[Considered, ...]


@dataclass(frozen=True)
class History:
    """What was done about this incident so far."""

    tried: Sequence[Outcome]
    plans: Sequence[Plan]

    def objection(self, action: str, target: str) -> str:
        """Why not again; "" if nothing speaks against it."""
        verdicts = Counter(o.verdict for o in self.tried if o.action == action and o.service == target)
        if verdicts["not_fixed"]:
            return "tried for this incident, did not help"
        if verdicts.total() >= 2:
            return f"tried {verdicts.total()} times for this incident"
        if any(p.action == action and p.target == target and p.state == "rejected" for p in self.plans):
            return "a person rejected it for this incident"
        return ""


def is_demoted(prior: Prior, *, min_trials: int, floor: float) -> bool:
    """Whether the mean of the Beta(1 + successes, 1 + failures) posterior is below `floor`."""
    return prior.trials >= min_trials and (prior.successes + 1) / (prior.trials + 2) < floor


def eligibility(case: Case, catalogue: Iterable[Action], history: History, demoted: frozenset[str],
                without_runbook: frozenset[str] = frozenset()) -> Eligibility:
    """Precondition by precondition. `notify` is not on the list: it is what happens when nothing else can."""
    actions, why_not = [], []
    for action in catalogue:
        if action.name == ESCALATE:
            continue
        objection = (_unfit(action, case) or history.objection(action.name, case.target)
                     or ("seldom helped with this kind of fault here" if action.name in demoted else "")
                     or ("no runbook for it fits: their `when` does not hold" if action.name in without_runbook
                         else ""))
        if objection:
            why_not.append(Considered(action.name, objection))
        else:
            actions.append(action.name)
    return Eligibility(tuple(actions), tuple(why_not))


def _unfit(action: Action, case: Case) -> str:
    if case.entity == "external":
        return f"{case.peer or case.target} is not ours to repair"
    if action.needs_change:
        if case.change is None:
            return case.why_no_change
        # Beside a change of its own a service's log rate may count: the change is not attacker-writable text.
        usable = typed(case.kinds | case.incident_kinds) | (case.kinds & LOG_KINDS)
        return "" if action.applies_when & usable else "nothing of what it mends is open"
    if case.entity == "edge":
        return f"the calls from {case.target} to {case.peer} are the suspect, not {case.target} itself"
    if action.name in _DATABASE_ONLY and case.entity != "database":
        return f"{case.target} is no database"
    if action.name in _CACHE_ONLY and case.entity != "cache":
        return f"{case.target} is no cache"
    if action.name.startswith(_PROCESS) and case.kinds & {"lock_wait", "cache_full"}:
        return "would not free what is held in it"
    if not action.applies_when & typed(case.kinds):
        return _missing(action) + ": not eligible"
    if case.change is not None and case.is_change_fresh and action.name.startswith(_PROCESS):
        return "" if case.kinds & {"process.down", "hang"} else _keeps(case)
    return ""


def _keeps(case: Case) -> str:
    change = case.change
    if change is None or not change.ref:
        return "would not take the change back"
    return f"would not remove {change.ref[:40]}"


def _missing(action: Action) -> str:
    wanted = sorted(action.applies_when)
    if len(wanted) > 3:
        return "no signal that it answers to"
    return ", ".join(_MEANING.get(k, f"no {k}") for k in wanted) or "no precondition"
