"""The question for a model: the eligible actions over aliases, typed words and numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from detect.types import Incident
from llm.types import WORD, ChoiceRequest, Entity, Fact, Option
from remediate.actions.base import Action, risk_of
from remediate.planner.case import entity_kind, kinds_on
from remediate.planner.types import Case
from remediate.ports import Prior
from rootcause.types import Diagnosis, ServiceGraph

MAX_OPTIONS: Final = 4
MAX_ENTITIES: Final = 12


def choice_request(case: Case, actions: Sequence[Action], incident: Incident, diagnosis: Diagnosis,
                   graph: ServiceGraph, *, blast_radius: Callable[[Action], float], prior: Callable[[str], Prior],
                   catalogue_version: str, policy_version: str, now_ns: int) -> ChoiceRequest:
    """At most four options, all on the one target that the diagnosis gave; the model never picks parameters."""
    probability = {s.service: s.probability for s in reversed(diagnosis.suspects) if not s.peer}
    others = sorted((set(incident.services) | set(probability)) - {case.target},
                    key=lambda s: (-probability.get(s, 0.0), s))
    names = [case.target, *others[:MAX_ENTITIES - 1]]
    entities = tuple(Entity(n, entity_kind(n, kinds_on(incident.signals, n), graph), probability.get(n, 0.0))
                     for n in names)
    facts = [Fact(s.service, s.kind, score=_share(s.score), age_seconds=max(0.0, (now_ns - s.start_ns) / 1e9),
                  template_id=s.template_id, value=s.value, usual=s.usual)
             for s in incident.signals if s.is_open and s.service in names]
    if case.change is not None:
        facts.append(Fact(case.target, f"change.{case.change.kind}", score=1.0,
                          age_seconds=max(0.0, (now_ns - case.change.ts_ns) / 1e9)))
    options = []
    for action in actions[:MAX_OPTIONS]:
        known = prior(action.name)
        options.append(Option(
            action.name, action.title.replace("{service}", "the entity"), (case.target,),
            is_reversible=action.is_reversible, risk=risk_of(action, blast_radius(action)),
            disruption=action.disruption, successes=known.successes, trials=known.trials))
    return ChoiceRequest(
        catalogue_version=catalogue_version, policy_version=policy_version, options=tuple(options), entities=entities,
        facts=tuple(sorted(facts, key=lambda f: (f.entity, f.kind, -f.score))),
        calls=tuple(sorted((a, b) for a, b in graph.edges if a in names and b in names)))


def is_askable(actions: Sequence[Action]) -> bool:
    """Whether a model has anything to choose between, with names that may stand in a prompt."""
    return len(actions) >= 1 and all(WORD.fullmatch(a.name) for a in actions[:MAX_OPTIONS])


def _share(score: float) -> float:
    return min(1.0, max(0.0, score))
