"""What an action is.

An action changes something outside. It gets typed parameters that were derived by us, an idempotency key
(`run_id/step_id`), and must be able to tell whether it has happened already (`probe`): delivery of a step is
at least once, the effect must be once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from ingest.errors import OpsmendError
from ingest.types import Change
from remediate.types import Risk


class ActionError(OpsmendError):
    """The action could not be done. Transient ones are tried again as the runbook says."""

    reason = "action"


@dataclass(frozen=True)
class Endpoints:
    """Where actions reach the world. Secrets are never part of `repr`."""

    actuator_url: str = ""
    """`unix:///path.sock` or `http://host:port`."""
    actuator_token: str = field(default="", repr=False)
    postgres_dsn: str = field(default="", repr=False)
    redis_url: str = field(default="", repr=False)
    protected_prefixes: tuple[str, ...] = ()
    notify_url: str = field(default="", repr=False)


@dataclass(frozen=True)
class ActionContext:
    """One call: its key, its limits, and what is known of earlier tries."""

    key: str
    endpoints: Endpoints
    timeout_seconds: float = 20.0
    started_ns: int = 0
    """Wall clock at which the step was prepared: what began later may be our doing. 0 where nobody says."""
    is_repeat: bool = False
    """An earlier try of this key was begun, and nobody knows how far it came."""
    snapshot: Mapping[str, Any] = field(default_factory=dict)
    """What `snapshot` gave for this step; {} before it was taken."""


class Target(msgspec.Struct, frozen=True):
    """What the diagnosis points at, as facts. `signal_kinds` are those of open signals on it."""

    service: str
    signal_kinds: tuple[str, ...]
    change: Change | None = None
    is_external: bool = False
    incident_id: str = ""
    title: str = ""


class Probe(msgspec.Struct, frozen=True):
    """`is_done`: the effect of this very key is there already. `state` is for people."""

    is_done: bool
    state: str = ""


class Effect(msgspec.Struct, frozen=True):
    """What was done. `changed` false ("0 sessions terminated") is not done."""

    text: str
    changed: bool


class Action(Protocol):
    """One entry of the catalogue. Methods block; they are called from worker threads."""

    name: str
    title: str
    applies_when: frozenset[str]
    """Typed signal kinds, one of which must be open on the target."""
    needs_change: bool
    """Only where a roll-out or configuration change on the target may be the cause."""
    is_reversible: bool
    disruption: int
    """0 none, 1 a moment, 2 requests are lost, 3 data or many services."""

    def parameters(self, target: Target) -> dict[str, Any]:
        """From the diagnosis; never from a model, never from telemetry's text."""

    def probe(self, params: dict[str, Any], context: ActionContext) -> Probe: ...
    def snapshot(self, params: dict[str, Any], context: ActionContext) -> dict[str, Any]:
        """What `undo` needs; stored before `run`. Raises ActionError: then nothing unattended runs."""

    def run(self, params: dict[str, Any], context: ActionContext) -> Effect: ...
    def undo(self, snapshot: dict[str, Any], context: ActionContext) -> Effect: ...


def risk_of(action: Action, blast_radius: float) -> Risk:
    """From reversibility, disruption and the share of services that would notice (0..1)."""
    weight = action.disruption + (0 if action.is_reversible else 1) + (1 if blast_radius > 0.5 else 0)
    return "low" if weight <= 2 else "medium" if weight == 3 else "high"
