"""The planner: at most one repair per call, everything about it derived by us.

Order of decision: typed preconditions → rules → neighbours in incident memory → a model among at most four
eligible actions when these disagree or much is at stake → (gates and approval, elsewhere). A model that
times out, answers wrongly or costs too much leaves the deterministic plan as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from detect.types import Incident
from llm.types import LlmClient
from remediate.actions.base import Action
from remediate.memory import IncidentMemory
from remediate.planner.build import AllowCheck, BuildConfig, blast_radius, build_plan, facts_of
from remediate.planner.case import below, case_of, physical_nodes
from remediate.planner.decide import Decision, by_memory, by_model, by_rule, lone_physical, targets_below, wants_model
from remediate.planner.eligible import ESCALATE, History, eligibility, is_demoted
from remediate.planner.options import choice_request, is_askable
from remediate.planner.types import Case, NoPlan, PlanResult
from remediate.ports import Ledger, Prior
from remediate.runbook import Runbook, Runbooks
from remediate.types import Considered, Outcome
from rootcause.types import Diagnosis, ServiceGraph, Suspect


@dataclass(frozen=True)
class PlannerConfig:
    """What counts as evidence, and when to stop."""

    change_window_seconds: float = 600.0
    """A change this long before the first signal may be the cause."""
    fresh_change_seconds: float = 120.0
    """A change this long before the first signal outweighs a dead or hanging process."""
    min_probability: float = 0.2
    """The second suspect is looked at from this probability on, and only when everything eligible on the first
    was tried. (Whether the first may be acted upon is for the diagnosis to say: `cannot_tell`.)"""
    max_attempts: int = 4
    """Repairs per incident; then people are told."""
    high_blast_radius: float = 0.5
    """Share of services (0..1) above which a second opinion and an approval are asked for."""
    demote_below: float = 0.25
    """Posterior mean (0..1) under which an action is not proposed for a fault signature any more."""
    demote_after_trials: int = 3
    """Trials before that may happen."""
    expires_seconds: float = 900.0
    """A proposed plan can be approved for this long."""
    blocked_retry_seconds: float = 5.0
    """A plan that a gate stopped is proposed anew after this long, then after twice that, up to 5 min."""
    policy_version: str = "1"
    """Part of the key under which a model's choices are cached."""


class Planner:
    """Stateless between calls but for the model's cache: all knowledge is in the ledger.

    Cost: a few ledger reads; with memory one embedding per new fault signature (a few ms); with a model at
    most one call per distinct question. Raises OpsmendError("store") when the ledger can't be read.
    """

    def __init__(self, config: PlannerConfig, catalogue: Iterable[Action], runbooks: Mapping[str, Runbook],
                 ledger: Ledger, llm: LlmClient | None = None, memory: IncidentMemory | None = None, *,
                 is_allowed: AllowCheck | None = None) -> None:
        self._c = config
        self._actions = {a.name: a for a in catalogue}
        self._runbooks, self._ledger, self._llm, self._memory = runbooks, ledger, llm, memory
        self._build = BuildConfig(config.high_blast_radius, config.expires_seconds, config.blocked_retry_seconds)
        self._is_allowed: AllowCheck = is_allowed or (lambda service, action: True)
        described = sorted((a.name, a.title, sorted(a.applies_when), a.needs_change, a.is_reversible, a.disruption)
                           for a in self._actions.values())
        self.catalogue_version = hashlib.sha256(msgspec.json.encode(described)).hexdigest()[:16]

    async def plan(self, incident: Incident, diagnosis: Diagnosis, graph: ServiceGraph, tried: Sequence[Outcome],
                   now_ns: int) -> PlanResult:
        """The repair to propose now, or why there is none. Equal input gives an equal plan with an equal id."""
        if incident.state != "open":
            return NoPlan("incident_closed", "the incident is over")
        mine = tuple(o for o in tried if o.incident_id == incident.id)
        history = History(mine, self._ledger.plans(incident_id=incident.id, limit=200))
        outcomes = tuple(self._ledger.outcomes(limit=1000))
        if self._memory is not None:
            self._memory.learn(outcomes)
        suspects, trouble = self._suspects(incident, diagnosis, graph)
        if trouble is not None:
            return trouble
        cases = [case_of(s, incident, graph, outcomes, change_window_seconds=self._c.change_window_seconds,
                         fresh_change_seconds=self._c.fresh_change_seconds) for s in suspects]
        repairs = [o for o in mine if o.action != ESCALATE]
        if len(repairs) >= self._c.max_attempts:
            return self._escalate(cases[0], incident, graph, history, now_ns, (),
                                  f"{len(repairs)} repairs did not end it")
        refused: NoPlan | None = None
        for case in cases:
            result = await self._for_case(case, incident, diagnosis, graph, history, now_ns)
            if not isinstance(result, NoPlan):
                return result
            refused = refused or result
            if result.reason != "exhausted":
                break
        assert refused is not None
        if cases[0].entity in ("external", "edge") or refused.reason == "exhausted":
            return self._escalate(cases[0], incident, graph, history, now_ns, refused.considered, refused.detail)
        return refused

    def _suspects(self, incident: Incident, diagnosis: Diagnosis,
                  graph: ServiceGraph) -> tuple[list[Suspect], NoPlan | None]:
        """Whom to act upon. Where the diagnosis can't tell, only a fault that shows itself on one node counts."""
        physical = physical_nodes(incident, graph)
        by_name = {s.service: s for s in reversed(diagnosis.suspects) if not s.peer}
        if diagnosis.cannot_tell or not diagnosis.suspects:
            if lone := lone_physical(physical, incident):
                return [by_name.get(lone, Suspect(lone, 0.0))], None
            if diagnosis.cannot_tell:
                return [], NoPlan("cannot_tell", "the diagnosis can't tell the suspects apart")
            return [], NoPlan("no_suspect", "the diagnosis names nobody")
        first = diagnosis.suspects[0]
        likely = [first, *(s for s in diagnosis.suspects[1:2] if s.probability >= self._c.min_probability)]
        shows_itself = any(first.service in nodes for nodes in physical.values())
        if first.change is None and not shows_itself and (
                deeper := targets_below(physical, below(graph, first.service))):
            return [by_name.get(deeper, Suspect(deeper, first.probability))], None
        return likely, None

    async def _for_case(self, case: Case, incident: Incident, diagnosis: Diagnosis, graph: ServiceGraph,
                        history: History, now_ns: int) -> PlanResult:
        priors = {name: self._ledger.prior(case.signature, name) for name in self._actions}
        demoted = frozenset(name for name, prior in priors.items() if is_demoted(
            prior, min_trials=self._c.demote_after_trials, floor=self._c.demote_below))
        runbooks = {name: self._runbook(name, case, incident) for name in self._actions}
        lacking = frozenset(name for name, runbook in runbooks.items() if runbook is None)
        fit = eligibility(case, self._actions.values(), history, demoted, lacking)
        if not fit.actions:
            was_tried = any(o.service == case.target and o.action != ESCALATE for o in history.tried)
            return NoPlan("exhausted" if was_tried else "nothing_eligible",
                          f"nothing is left that may help {case.target}", fit.why_not)
        decision, note = await self._decide(case, fit.actions, incident, diagnosis, graph, priors, now_ns)
        others = tuple(Considered(a, "eligible, but nothing says that it helps") for a in fit.actions)
        if decision is None:
            was_tried = any(o.service == case.target and o.action != ESCALATE for o in history.tried)
            return NoPlan("exhausted" if was_tried else "no_rule", f"nothing says what helps {case.target}"
                          + (f"; {note}" if note else ""), (*others, *fit.why_not))
        considered = tuple(Considered(a, f"{decision.action} comes first: {decision.why}")
                           for a in fit.actions if a != decision.action)
        runbook = runbooks[decision.action]
        assert runbook is not None
        return build_plan(
            self._actions[decision.action], runbook, case, incident, graph, history,
            decision=decision, note=note, prior=priors[decision.action], considered=(*considered, *fit.why_not),
            config=self._build, now_ns=now_ns)

    def _runbook(self, action: str, case: Case, incident: Incident) -> Runbook | None:
        if isinstance(self._runbooks, Runbooks):
            return self._runbooks.choose(action, facts_of(case, incident))
        return self._runbooks[action]

    async def _decide(self, case: Case, eligible: Sequence[str], incident: Incident, diagnosis: Diagnosis,
                      graph: ServiceGraph, priors: Mapping[str, Prior],
                      now_ns: int) -> tuple[Decision | None, str]:
        rule = by_rule(case, eligible, self._actions, lambda a: self._is_allowed(case.target, a))
        memory = by_memory(self._memory.nearest(case.signature) if self._memory else (), eligible)
        fallback = rule or memory
        is_high = fallback is not None and blast_radius(
            self._actions[fallback.action], case.target, graph) > self._c.high_blast_radius
        if self._llm is None or not wants_model(rule, memory, is_high):
            return fallback, ""
        proposals = [d for d in (rule, memory) if d is not None]
        first = [d.action for d in proposals]
        rest = sorted((a for a in eligible if a not in first), key=lambda a: (
            not self._is_allowed(case.target, a), -(priors[a].successes + 1) / (priors[a].trials + 2), a))
        actions = [self._actions[a] for a in dict.fromkeys([*first, *rest])]
        if not is_askable(actions):
            return fallback, ""
        request = choice_request(
            case, actions, incident, diagnosis, graph, now_ns=now_ns, prior=lambda a: priors[a],
            blast_radius=lambda a: blast_radius(a, case.target, graph),
            catalogue_version=self.catalogue_version, policy_version=self._c.policy_version)
        return await by_model(self._llm, request, fallback, proposals)

    def _escalate(self, case: Case, incident: Incident, graph: ServiceGraph, history: History, now_ns: int,
                  considered: tuple[Considered, ...], why: str) -> PlanResult:
        """Tell people, once per incident."""
        if ESCALATE not in self._actions or any(o.action == ESCALATE for o in history.tried):
            return NoPlan("escalated", f"{why}; a person must look", considered)
        return build_plan(
            self._actions[ESCALATE], self._runbooks[ESCALATE], case, incident, graph, history,
            decision=Decision(ESCALATE, "policy", why), note="", prior=Prior(0, 0), considered=considered,
            config=self._build, now_ns=now_ns)
