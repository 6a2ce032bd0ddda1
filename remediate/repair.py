"""The way of a plan: proposed, checked, approved or started, expired."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec

from detect.types import NAMESPACE
from ingest.errors import OpsmendError
from remediate.executors.base import Executor, RunInput
from remediate.gates import GateInput, Gates
from remediate.ports import Ledger, Observer, Unclear
from remediate.runbook import Runbook, Runbooks
from remediate.types import Plan


class DecisionError(OpsmendError):
    """A decision that can't be taken: another hash, decided already, expired."""

    reason = "conflict"


@dataclass(frozen=True)
class RepairConfig:
    """How long a proposal stands."""

    approval_expires_seconds: float = 900.0


class Repair:
    """Submits plans, takes decisions. Thread-safe as far as the ledger is."""

    def __init__(self, config: RepairConfig, ledger: Ledger, observer: Observer, gates: Gates, executor: Executor,
                 runbooks: Mapping[str, Runbook] | Runbooks, *, on_plan: Callable[[Plan], None] | None = None) -> None:
        self._c, self._ledger, self._observer, self._gates = config, ledger, observer, gates
        self._executor, self._runbooks, self._on_plan = executor, runbooks, on_plan

    def _runbook(self, plan: Plan) -> Runbook:
        """The runbook that the plan was made of. If the files say something else by now, whatever they say: the
        gate on the plan's hash then stops it."""
        if isinstance(self._runbooks, Runbooks):
            return self._runbooks.with_hash(plan.action, plan.runbook_hash) or self._runbooks[plan.action]
        return self._runbooks[plan.action]

    def submit(self, plan: Plan) -> Plan:
        """Store the plan with what the gates say; start it if all of them pass. A known plan is left alone."""
        known = self._ledger.plan(plan.id)
        if known is not None:
            return known
        runbook = self._runbook(plan)
        expires = plan.created_ns + int(self._c.approval_expires_seconds * 1e9)
        plan = msgspec.structs.replace(plan, expires_ns=expires)
        results = self._gates.check(GateInput(plan, runbook))
        failed = [r.gate for r in results if not r.passed]
        # Only the want of a person's approval leaves a plan open; every other gate closes it.
        needs_person = bool(failed) and set(failed) <= {"mode", "reversible", "blast_radius", "approval"}
        in_observe = needs_person and self._ledger.control().mode == "observe"
        state: Literal["proposed", "blocked", "running"] = (
            "running" if not failed else "proposed" if needs_person and not in_observe else "blocked")
        stored = msgspec.structs.replace(plan, gates=results, needs_approval=needs_person, state=state)
        if not self._ledger.put_plan(stored):
            return self._ledger.plan(plan.id) or stored
        if self._on_plan is not None:
            self._on_plan(stored)
        if state == "running":
            self._executor.start(RunInput(run_id_of(stored), stored, runbook))
        return stored

    def decide(self, plan_id: str, decision: Literal["approve", "reject"], *, plan_hash: str, by: str,
               reason: str = "") -> Plan:
        """Approve (and start) or reject exactly the plan with this hash, once. Raises DecisionError."""
        plan = self._ledger.plan(plan_id)
        if plan is None:
            raise DecisionError(f"no plan {plan_id}", reason="not_found")
        if not plan_hash or plan.hash != plan_hash:
            raise DecisionError("the plan is not the one you saw: its hash differs", reason="plan_hash_mismatch")
        if plan.state != "proposed":
            raise DecisionError(f"the plan is {plan.state} already", reason="decided")
        if plan.expires_ns and self._observer.now_ns() > plan.expires_ns:
            self._ledger.move_plan(msgspec.structs.replace(plan, state="expired"), expected="proposed")
            raise DecisionError("the plan has expired", reason="expired")
        state: Literal["running", "rejected"] = "running" if decision == "approve" else "rejected"
        decided = msgspec.structs.replace(plan, state=state, decided_by=by, decided_reason=reason)
        if not self._ledger.move_plan(decided, expected="proposed"):
            raise DecisionError("somebody else decided first", reason="decided")
        if decision == "approve":
            self._executor.start(RunInput(run_id_of(decided), decided, self._runbook(plan), plan.hash))
        return decided

    def tick(self) -> None:
        """Expire proposals whose time or whose incident is over; close runs that broke off."""
        self._executor.reconcile()
        now = self._observer.now_ns()
        for plan in self._ledger.plans(state="proposed"):
            try:
                incident = self._observer.incident(plan.incident_id)
            except Unclear:
                incident = None  # its time may be over all the same
            is_over = incident is not None and incident.state != "open"
            if (plan.expires_ns and now > plan.expires_ns) or is_over:
                self._ledger.move_plan(msgspec.structs.replace(plan, state="expired"), expected="proposed")

    def recover(self) -> int:
        """After a restart: runs go on, and plans whose start was cut off are started. Gates are read again."""
        count = self._executor.recover()
        for plan in self._ledger.plans(state="running"):
            approved = plan.hash if plan.decided_by else ""
            self._executor.start(RunInput(run_id_of(plan), plan, self._runbook(plan), approved))
        return count


def run_id_of(plan: Plan) -> str:
    """A plan is run once: its run's id is derived from it."""
    return str(uuid.uuid5(NAMESPACE, f"run\x1f{plan.id}"))
