"""A decision becomes a plan: parameters, target, risk and the need of approval are derived here."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from detect.types import Incident
from remediate.actions.base import Action, Target, risk_of
from remediate.planner.decide import Decision
from remediate.planner.eligible import History
from remediate.planner.types import Case
from remediate.ports import Prior
from remediate.runbook import Runbook, plan_hash
from remediate.types import Considered, Plan
from rootcause.types import ServiceGraph

AllowCheck = Callable[[str, str], bool]
"""(service, action) -> whether the allow-list names it at all."""
_NAMESPACE: Final = uuid.UUID("0b7c9a54-62f1-5d7e-9a57-8d0f6a1c2e43")
_MAX_RETRY_SECONDS: Final = 300.0


@dataclass(frozen=True)
class BuildConfig:
    """The planner's settings that shape a plan; see PlannerConfig."""

    high_blast_radius: float
    expires_seconds: float
    blocked_retry_seconds: float


def blast_radius(action: Action, target: str, graph: ServiceGraph) -> float:
    """Share of services (0..1) that would notice: the target, and its direct callers if requests are lost.

    1.0 where the graph is empty: not knowing is not a small radius.
    """
    if not graph.services:
        return 1.0
    callers = len(graph.callers(target)) if action.disruption >= 2 else 0
    return min(1.0, (1 + callers) / len(graph.services))


def build_plan(action: Action, runbook: Runbook, case: Case, incident: Incident, graph: ServiceGraph,
               history: History, *, decision: Decision, note: str, prior: Prior,
               considered: tuple[Considered, ...], config: BuildConfig, now_ns: int) -> Plan:
    """The id is a UUIDv5 of incident, content, and how often this was tried, expired or blocked before:
    planning again changes nothing, trying again is a new plan."""
    params = action.parameters(Target(
        service=case.target, signal_kinds=tuple(sorted(case.kinds)), change=case.change,
        is_external=case.entity == "external", incident_id=incident.id, title=incident.title))
    radius = blast_radius(action, case.target, graph)
    risk = risk_of(action, radius)
    content = plan_hash(runbook, case.target, params)
    attempt = len(history.tried) + _closed_before(history, content, config.blocked_retry_seconds, now_ns)
    # In a system of two or three services every action touches a large share; there the share says nothing.
    is_wide = radius > config.high_blast_radius and len(graph.services) > 2
    return Plan(
        id=str(uuid.uuid5(_NAMESPACE, f"{incident.id}|{content}|{attempt}")), incident_id=incident.id,
        created_ns=now_ns, runbook=runbook.name, runbook_hash=runbook.hash(), hash=content,
        title=(runbook.title or action.title).replace("{service}", case.target), target=case.target,
        action=action.name, params=params, source=decision.source, propensity=1.0,
        rationale=_rationale(case, decision, note, prior), risk=risk,
        needs_approval=not action.is_reversible or risk == "high" or is_wide or decision.source == "llm",
        considered=tuple(sorted({c.action: c for c in considered}.values(), key=lambda c: c.action)),
        prior_successes=prior.successes, prior_trials=prior.trials,
        expires_ns=now_ns + int(config.expires_seconds * 1e9), is_reversible=action.is_reversible,
        fault_signature=case.signature, facts=facts_of(case, incident))


def facts_of(case: Case, incident: Incident) -> dict[str, Any]:
    """What a runbook's `when` is asked of: `incident.severity`, `.services`, `.kinds`, `.suspect.service`,
    `.suspect.kind`, `.suspect.probability`, `.suspect.kinds`, and where there is one `.suspect.change.kind` and
    `.suspect.change.age_seconds`."""
    suspect: dict[str, Any] = {"service": case.target, "kind": case.entity, "probability": case.probability,
                               "kinds": sorted(case.kinds)}
    if case.change is not None:
        suspect["change"] = {"kind": case.change.kind, "age_seconds": case.change_age_seconds}
    return {"incident": {"id": incident.id, "severity": incident.severity, "services": sorted(incident.services),
                         "kinds": sorted(case.incident_kinds), "suspect": suspect}}


def _closed_before(history: History, content: str, retry_seconds: float, now_ns: int) -> int:
    """How many plans of this content ended without a run. One that a gate stopped a moment ago does not count
    yet, so that it keeps its id: a closed gate must not fill the ledger."""
    expired = sum(p.state == "expired" and p.hash == content for p in history.plans)
    blocked = sorted(p.created_ns for p in history.plans if p.state == "blocked" and p.hash == content)
    if not blocked:
        return expired
    wait_seconds = min(_MAX_RETRY_SECONDS, retry_seconds * 2.0 ** min(len(blocked) - 1, 16))
    is_due = now_ns - blocked[-1] >= wait_seconds * 1e9
    return expired + len(blocked) - (0 if is_due else 1)


def _rationale(case: Case, decision: Decision, note: str, prior: Prior) -> str:
    said = [f"{case.target}: {decision.why}"]
    if case.change is not None and case.change.ref:
        said.append(f"{case.change.kind} {case.change.ref[:40]}, {case.change_age_seconds:.0f} s before")
    if case.probability:
        said.append(f"suspected with {case.probability:.0%}")
    if prior.trials:
        said.append(f"helped {prior.successes} of {prior.trials} times here")
    if note:
        said.append(note)
    return "; ".join(said)
