"""The prompt: rules and catalogue first (the part that servers can keep cached), incident last.

Service names are replaced by aliases, so no text that came out of telemetry is ever in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from llm.types import WORD, ChoiceRequest, LlmError

MAX_FACTS: Final = 32
MAX_OPTIONS: Final = 4
_RULES: Final = (
    "You pick at most one repair for an incident in a system of services.\n"
    "Callers of a broken service look broken as well: repair the cause, not the loudest.\n"
    "A fault that began right after a change is usually repaired by taking the change back.\n"
    "A restart does not repair a bad release or a fault of something the service depends on.\n"
    'If no action clearly fits, answer "none" with an empty target.\n'
    "Answer with JSON only.\n"
)


def aliases(request: ChoiceRequest) -> dict[str, str]:
    """Entity name -> alias, in the order of the request."""
    return {entity.name: f"e{i}" for i, entity in enumerate(request.entities, start=1)}


def check(request: ChoiceRequest) -> None:
    """Refuse a request that could carry text into the prompt, or that can't be answered.

    Raises LlmError("invalid_request").
    """
    names = {e.name for e in request.entities}
    words = [*(e.kind for e in request.entities), *(f.kind for f in request.facts),
             *(o.action for o in request.options)]
    if bad := [w for w in words if not WORD.fullmatch(w)]:
        raise LlmError("invalid_request", f"{len(bad)} typed words are not words")
    if len(names) != len(request.entities):
        raise LlmError("invalid_request", "two entities have one name")
    if not 1 <= len(request.options) <= MAX_OPTIONS:
        raise LlmError("invalid_request", f"{len(request.options)} options; 1 to {MAX_OPTIONS} are possible")
    if any(not o.targets or not set(o.targets) <= names for o in request.options):
        raise LlmError("invalid_request", "an option's target is not among the entities")
    if any(f.entity not in names for f in request.facts) or any(not set(c) <= names for c in request.calls):
        raise LlmError("invalid_request", "a fact or call names no entity of the request")


def system_text(request: ChoiceRequest) -> str:
    """Rules and catalogue. Equal for equal options, whatever the incident."""
    lines = [_RULES, "Actions:"]
    for o in sorted(request.options, key=lambda o: o.action):
        title = " ".join(o.title.split())[:120]
        undo = "can be undone" if o.is_reversible else "can not be undone"
        lines.append(f"- {o.action}: {title} (risk {o.risk}, disruption {o.disruption} of 3, {undo})")
    return "\n".join(lines)


def user_text(request: ChoiceRequest) -> str:
    """The incident in aliases, typed words and numbers."""
    alias = aliases(request)
    lines = ["Entities:"]
    lines += [f"- {alias[e.name]}: {e.kind}, probability of being the cause {e.probability:.2f}"
              for e in request.entities]
    if request.calls:
        lines.append("Calls: " + ", ".join(f"{alias[a]}->{alias[b]}" for a, b in sorted(request.calls)))
    lines.append("Facts:")
    worst_first = sorted(request.facts, key=lambda f: (-f.score, f.entity, f.kind))
    lines += [_fact(alias, f.entity, f.kind, f.score, f.age_seconds, f.value, f.usual)
              for f in worst_first[:MAX_FACTS]]
    history = [f"- {o.action}: repaired it {o.successes} of {o.trials} times"
               for o in sorted(request.options, key=lambda o: o.action) if o.trials]
    if history:
        lines += ["The same kind of fault before:", *history]
    lines.append("Which action on which entity?")
    return "\n".join(lines)


def _fact(alias: Mapping[str, str], entity: str, kind: str, score: float, age_seconds: float,
          value: float | None, usual: float | None) -> str:
    numbers = "" if value is None else f", value {value:.4g}"
    numbers += "" if usual is None else f", usual {usual:.4g}"
    return f"- {alias[entity]} {kind} score {score:.2f}, since {age_seconds:.0f} s{numbers}"
