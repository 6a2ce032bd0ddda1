"""What a user's webhook and command have in common: the catalogue's side of an action."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from remediate.actions.base import Action, ActionContext, ActionError, Effect, Probe, Target

Kind = Literal["http.webhook", "command"]
ENTITIES = ("service", "incident_id")
"""What a parameter can be: both are filled by us."""


@dataclass(frozen=True)
class Declared:
    """The part of an action file that does not depend on its kind."""

    name: str
    title: str
    applies_when: frozenset[str]
    params: Mapping[str, str] = field(default_factory=lambda: {"service": "service"})
    """Parameter name -> one of ENTITIES."""
    needs_change: bool = False
    disruption: int = 2
    timeout_seconds: float = 30.0
    effect: str = ""
    undo: str = "none"


@dataclass(frozen=True)
class Call:
    """One call, run or probe."""

    params: Mapping[str, Any]
    key: str
    timeout_seconds: float
    started_ns: int


class OwnAction(ABC):
    """A user's action in the catalogue. Subclasses say how to `_do` and `_look`.

    Delivery is at least once: without a probe, the other end must do a key only once.
    """

    is_own = True

    def __init__(self, declared: Declared) -> None:
        self._d = declared
        self.name, self.title = declared.name, declared.title
        self.applies_when, self.needs_change = declared.applies_when, declared.needs_change
        self.disruption = declared.disruption
        self.is_reversible = declared.undo != "none"
        self.undo_action: Action | None = None
        """Set by the loader when `undo` names one."""

    @property
    def slots(self) -> frozenset[str]:
        """Names of its parameters."""
        return frozenset(self._d.params)

    def parameters(self, target: Target) -> dict[str, Any]:
        known = {"service": target.service, "incident_id": target.incident_id}
        return {name: known[entity] for name, entity in sorted(self._d.params.items())}

    def _call(self, params: Mapping[str, Any], context: ActionContext) -> Call:
        missing = sorted(set(self._d.params) - set(params))
        if missing:
            raise ActionError(f"{self.name}: no value for {', '.join(missing)}", reason="bad_params")
        # 0 where the executor does not say when the run began: then only what happens from now on is ours.
        started_ns = int(getattr(context, "started_ns", 0)) or time.time_ns()
        return Call(params, context.key, min(self._d.timeout_seconds, 600.0), started_ns)

    def probe(self, params: dict[str, Any], context: ActionContext) -> Probe:
        return self._look(self._call(params, context))

    def snapshot(self, params: dict[str, Any], context: ActionContext) -> dict[str, Any]:
        return {"params": dict(params)}

    def run(self, params: dict[str, Any], context: ActionContext) -> Effect:
        return self._do(self._call(params, context))

    def undo(self, snapshot: dict[str, Any], context: ActionContext) -> Effect:
        if self.undo_action is None:
            raise ActionError(f"{self.name} can't be undone", reason="irreversible")
        params = snapshot.get("params")
        if not isinstance(params, dict):
            raise ActionError(f"{self.name}: the snapshot holds no parameters", reason="bad_params")
        return self.undo_action.run(params, context)

    @abstractmethod
    def describe(self, params: Mapping[str, Any]) -> str:
        """What `run` would send or start, to the letter, for people. Raises ActionError for an unsafe value."""

    @abstractmethod
    def _do(self, call: Call) -> Effect: ...

    def _look(self, call: Call) -> Probe:
        return Probe(False)
