"""Among what is eligible: rules, then neighbours in incident memory; where they disagree, a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from detect.types import Incident
from llm.types import Choice, ChoiceRequest, LlmClient
from remediate.actions.base import Action
from remediate.memory import Neighbour
from remediate.planner.rules import matching
from remediate.planner.types import Case
from remediate.types import PlanSource


@dataclass(frozen=True)
class Decision:
    """An action, who says so, and why in words."""

    action: str
    source: PlanSource
    why: str


def by_rule(case: Case, eligible: Sequence[str], catalogue: Mapping[str, Action],
            is_allowed: Callable[[str], bool]) -> Decision | None:
    """The first rule whose action is eligible; a user's own action is a rule by its `applies_when`.

    What the allow-list admits goes first: a plan that can never run helps nobody. Where it admits none,
    the rule's order decides, and the gate will say so.
    """
    found = [Decision(rule.action, "rule", rule.why) for rule in matching(case) if rule.action in eligible]
    for name in eligible:
        action = catalogue[name]
        if getattr(action, "is_own", False):
            fits = ", ".join(sorted(action.applies_when & case.kinds)) or "a change on it"
            found.append(Decision(name, "rule", f"an action of yours for {fits}"))
    return min(found, key=lambda d: not is_allowed(d.action), default=None)


def by_memory(neighbours: Sequence[Neighbour], eligible: Sequence[str]) -> Decision | None:
    """The eligible action that most often ended the most similar faults here."""
    for neighbour in neighbours:
        if neighbour.action in eligible:
            return Decision(neighbour.action, "memory",
                            f"ended {neighbour.n} similar faults here (similarity {neighbour.similarity:.2f})")
    return None


async def by_model(llm: LlmClient | None, request: ChoiceRequest | None, fallback: Decision | None,
                   proposals: Sequence[Decision]) -> tuple[Decision | None, str]:
    """What the model picks, or `fallback` when it picks nothing usable. The text says what it did."""
    if llm is None or request is None:
        return fallback, ""
    answer = await llm.choose(request)
    if not isinstance(answer, Choice):
        return fallback, f"the model gave no plan ({answer.reason})"
    offered = {o.action: o.targets for o in request.options}
    if answer.target not in offered.get(answer.action, ()):  # the client has checked it; a gate does not trust
        return fallback, "the model gave no plan (invalid_answer)"
    for proposal in proposals:
        if proposal.action == answer.action:
            return proposal, "a model agrees"
    return Decision(answer.action, "llm", "a model chose it among the eligible actions"), ""


def wants_model(rule: Decision | None, memory: Decision | None, is_blast_radius_high: bool) -> bool:
    """When rules and memory disagree, when neither knows, or when much is at stake."""
    if rule is None and memory is None:
        return True
    disagree = rule is not None and memory is not None and rule.action != memory.action
    return disagree or is_blast_radius_high


def targets_below(physical: Mapping[str, tuple[str, ...]], below: frozenset[str]) -> str:
    """The one service under a suspect that shows a fault itself (gone, hanging, locked, full); "" if there is
    none, or more than one."""
    nodes = {n for found in physical.values() for n in found}
    hit = sorted(nodes & below)
    return hit[0] if len(hit) == 1 else ""


def lone_physical(physical: Mapping[str, tuple[str, ...]], incident: Incident) -> str:
    """The service that is gone or hangs, if it is exactly one in the whole incident; "" otherwise."""
    nodes = {n for kind in ("process.down", "hang") for n in physical.get(kind, ())}
    return min(nodes) if len(nodes) == 1 and incident.state == "open" else ""
