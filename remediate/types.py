"""What `remediate` hands on: plans, runs, outcomes."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Mode = Literal["observe", "suggest", "auto"]
Risk = Literal["low", "medium", "high"]
PlanSource = Literal["rule", "memory", "llm", "policy", "human"]
PlanState = Literal["proposed", "approved", "rejected", "expired", "blocked", "running", "done"]
Verdict = Literal["fixed", "not_fixed", "cannot_tell"]
RunState = Literal["running", "verifying", "undoing", "finished", "cancelled", "failed"]
StepState = Literal["pending", "running", "done", "failed", "skipped"]


class GateResult(msgspec.Struct, frozen=True):
    """What one gate said about one plan. `passed` false means nothing runs."""

    gate: str
    passed: bool
    detail: str


class Considered(msgspec.Struct, frozen=True):
    """An action that was not chosen, and why not."""

    action: str
    why_not: str


class Plan(msgspec.Struct, frozen=True):
    """A repair that is proposed: one runbook with parameters derived by us, never by a model.

    `hash` is the SHA-256 of exactly what would run (runbook text, params, target); approval binds it.
    """

    id: str
    incident_id: str
    created_ns: int
    runbook: str
    runbook_hash: str
    hash: str
    title: str
    target: str
    action: str  # the main action of the runbook
    params: dict[str, Any]
    source: PlanSource
    propensity: float
    rationale: str
    risk: Risk
    needs_approval: bool
    state: PlanState = "proposed"
    gates: tuple[GateResult, ...] = ()
    considered: tuple[Considered, ...] = ()
    prior_successes: int = 0
    prior_trials: int = 0
    expires_ns: int = 0
    is_reversible: bool = False
    fault_signature: str = ""
    facts: dict[str, Any] = {}  # what the runbook's conditions are asked of; typed, free of telemetry's text
    decided_by: str = ""
    decided_reason: str = ""
    cancelled_by: str = ""  # who asked its run to stop before the next step


class StepRecord(msgspec.Struct, frozen=True):
    """One step of a run, as it went. `effect` is what the action says it did."""

    run_id: str
    step_id: str
    action: str
    state: StepState
    started_ns: int = 0
    ended_ns: int = 0
    attempt: int = 0
    effect: str = ""
    error: str = ""


class Run(msgspec.Struct, frozen=True):
    """One execution of one plan."""

    id: str
    plan_id: str
    incident_id: str
    service: str
    action: str
    state: RunState
    started_ns: int
    ended_ns: int = 0
    steps: tuple[StepRecord, ...] = ()
    verdict: Verdict | None = None


class Outcome(msgspec.Struct, frozen=True):
    """How a run ended. `before` and `after` are the verification indicators' means."""

    run_id: str
    plan_id: str
    incident_id: str
    service: str
    action: str
    fault_signature: str
    verdict: Verdict
    ts_ns: int
    why: str = ""
    before: dict[str, float] = {}
    after: dict[str, float] = {}
    undone: bool = False
    cost_usd: float = 0.0
