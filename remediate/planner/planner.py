"""The planner: typed preconditions, then rules, in the order of the suspects."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from detect.types import NAMESPACE, Incident
from remediate.actions.base import Target, risk_of
from remediate.catalogue import Catalogue
from remediate.planner.case import case_of, physical_nodes
from remediate.planner.eligible import History, eligibility, is_demoted
from remediate.planner.rules import matching
from remediate.planner.types import Case, NoPlan, PlanResult
from remediate.ports import Ledger
from remediate.runbook import Runbook, plan_hash
from remediate.types import Considered, Outcome, Plan
from rootcause.types import Diagnosis, ServiceGraph, Suspect


@dataclass(frozen=True)
class PlannerConfig:
    """What the planner may assume."""

    change_window_seconds: float = 600.0
    """A change older than this before the first signal is no cause."""
    fresh_change_seconds: float = 120.0
    min_trials: int = 3
    prior_floor: float = 0.3


class Planner:
    """`plan` proposes at most one repair; why the others were not chosen comes along."""

    def __init__(self, config: PlannerConfig, catalogue: Catalogue, runbooks: Mapping[str, Runbook],
                 ledger: Ledger) -> None:
        self._c, self._catalogue, self._runbooks, self._ledger = config, catalogue, runbooks, ledger

    async def plan(self, incident: Incident, diagnosis: Diagnosis, graph: ServiceGraph, tried: Sequence[Outcome],
                   now_ns: int) -> PlanResult:
        """A Plan, or NoPlan with the reason."""
        if incident.state != "open":
            return NoPlan("incident_closed", "the incident is over")
        suspects = self._suspects(incident, diagnosis, graph)
        if not suspects:
            reason = "cannot_tell" if diagnosis.suspects else "no_suspect"
            return NoPlan(reason, "the cause can't be told")  # type: ignore[arg-type]
        considered: tuple[Considered, ...] = ()
        for suspect in suspects:
            case = case_of(suspect, incident, graph, tried, change_window_seconds=self._c.change_window_seconds,
                           fresh_change_seconds=self._c.fresh_change_seconds)
            demoted = frozenset(a.name for a in self._catalogue if is_demoted(
                self._ledger.prior(case.signature, a.name), min_trials=self._c.min_trials, floor=self._c.prior_floor))
            plans = self._ledger.plans(incident_id=incident.id)
            allowed = eligibility(case, self._catalogue, History(tried, plans), demoted)
            considered = considered or allowed.why_not
            for rule in matching(case):
                if rule.action in allowed.actions:
                    return self._proposal(rule.action, rule.why, case, incident, graph, allowed.why_not, now_ns)
        return NoPlan("nothing_eligible", "no rule and no precondition fits", considered)

    def _suspects(self, incident: Incident, diagnosis: Diagnosis, graph: ServiceGraph) -> list[Suspect]:
        if not diagnosis.cannot_tell:
            return [s for s in diagnosis.suspects[:1]]
        for nodes in physical_nodes(incident, graph).values():
            if len(nodes) == 1:
                return [s for s in diagnosis.suspects if s.service == nodes[0]]
        return []

    def _proposal(self, name: str, why: str, case: Case, incident: Incident, graph: ServiceGraph,
                  considered: tuple[Considered, ...], now_ns: int) -> Plan:
        action, runbook = self._catalogue.get(name), self._runbooks[name]
        assert action is not None
        params = action.parameters(Target(case.target, tuple(sorted(case.kinds)), case.change,
                                          case.entity == "external", incident.id, incident.title))
        touched = 1 + len(graph.callers(case.target))
        prior = self._ledger.prior(case.signature, name)
        digest = plan_hash(runbook, case.target, params)
        plan_id = str(uuid.uuid5(NAMESPACE, f"plan\x1f{incident.id}\x1f{digest}\x1f{now_ns}"))
        return Plan(
            plan_id, incident.id, now_ns, runbook.name, runbook.hash(), digest,
            action.title.format(service=case.target), case.target, name, params, "rule", 1.0, why,
            risk_of(action, touched / max(1, len(graph.services))), True, considered=considered,
            prior_successes=prior.successes, prior_trials=prior.trials, is_reversible=action.is_reversible,
            fault_signature=case.signature)
