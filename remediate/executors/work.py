"""What a run does, step by step. Both executors call these; each call may be repeated after a crash.

    begin -> (prepare -> act) per step -> settle and verify -> undo per step -> finish
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog

from detect.types import Observations
from ingest.errors import OpsmendError
from remediate.actions.base import Action, ActionContext, ActionError, Endpoints
from remediate.catalogue import Catalogue
from remediate.executors.base import RunInput
from remediate.gates import GateInput, Gates
from remediate.ports import Ledger, Observer
from remediate.types import Outcome, Run, StepRecord, Verdict
from remediate.verify import Judgement, VerifyConfig, judge, window_of

log = structlog.get_logger()


class Stopped(OpsmendError):
    """A gate closed, or somebody cancelled: the run ends before its next step."""

    reason = "stopped"


@dataclass
class Workshop:
    """What the steps of a run work with."""

    ledger: Ledger
    observer: Observer
    catalogue: Catalogue
    gates: Gates
    endpoints: Endpoints
    verify: VerifyConfig
    sleep: Callable[[float], None] = time.sleep
    cancelled: set[str] = field(default_factory=set)
    timeout_seconds: float = 20.0
    on_outcome: Callable[[Outcome], None] | None = None

    def begin(self, given: RunInput) -> str:
        """Gates, lease, run row. "" when it may go on, else why not."""
        known = self.ledger.run(given.run_id)
        if known is not None and known.state in ("finished", "cancelled", "failed"):
            return "it has ended"
        blocked = self._blocked(given, at_start=known is None)
        if blocked:
            return blocked
        if not self.ledger.acquire_service(given.plan.target, given.run_id):
            return f"another repair of {given.plan.target} runs"
        if known is None:
            now = self.observer.now_ns()
            self.ledger.put_run(Run(given.run_id, given.plan.id, given.plan.incident_id, given.plan.target,
                                    given.plan.action, "running", now))
        return ""

    def _blocked(self, given: RunInput, *, at_start: bool) -> str:
        if given.run_id in self.cancelled:
            return "cancelled"
        results = self.gates.check(GateInput(given.plan, given.runbook, given.run_id, given.approved_hash,
                                             has_begun=not at_start))
        return next((f"{r.gate}: {r.detail}" for r in results if not r.passed), "")

    def _action(self, given: RunInput, step_id: str) -> tuple[Action, dict[str, Any], ActionContext]:
        step = given.runbook.steps[step_id]
        action = self.catalogue.get(step.action)
        if action is None:
            raise ActionError(f"no action {step.action}", reason="unknown_action")
        params = dict(given.plan.params) if step.action == given.plan.action else {"service": given.plan.target}
        params.update((k, v.replace("{target}", given.plan.target)) for k, v in step.with_.items())
        return action, params, ActionContext(f"{given.run_id}/{step_id}", self.endpoints, self.timeout_seconds)

    def prepare(self, given: RunInput, step_id: str) -> dict[str, Any]:
        """Gate and snapshot. Raises Stopped, ActionError: then the step does not run."""
        if why := self._blocked(given, at_start=False):
            raise Stopped(why)
        action, params, context = self._action(given, step_id)
        self._record(given, step_id, "running")
        return action.snapshot(params, context)

    def act(self, given: RunInput, step_id: str) -> str:
        """Do it, unless its key was done already. The effect, or ActionError after all attempts."""
        action, params, context = self._action(given, step_id)
        retry = given.runbook.steps[step_id].retry
        last = "did nothing"
        for attempt in range(1, max(1, retry.attempts) + 1):
            if attempt > 1:
                self.sleep(retry.backoff_seconds)
            if why := self._blocked(given, at_start=False):
                raise Stopped(why)
            try:
                if action.probe(params, context).is_done:
                    self._record(given, step_id, "done", attempt, effect="was done already")
                    return "was done already"
                effect = action.run(params, context)
            except ActionError as error:
                last = str(error)
                if not error.is_transient:
                    break
                continue
            last = effect.text
            if effect.changed:
                self._record(given, step_id, "done", attempt, effect=effect.text)
                return effect.text
        self._record(given, step_id, "failed", retry.attempts, error=last)
        raise ActionError(last, reason="failed")

    def acted_ns(self) -> int:
        """Event time right after the last step."""
        return self.observer.now_ns()

    def settle_and_judge(self, given: RunInput, acted_ns: int) -> tuple[Verdict, str, dict[str, float], dict[str, float]]:
        """Wait (event time) for the watch window to pass, then judge it. Silence is cannot_tell."""
        self._move(given, "verifying")
        incident = self.observer.incident(given.plan.incident_id)
        run = self.ledger.run(given.run_id)
        if incident is None or run is None:
            return "cannot_tell", "the incident is not known", {}, {}
        config = self._verify_config(given)
        start_ns, end_ns = window_of(incident, acted_ns, config)
        patience = time.monotonic() + config.settle_seconds + config.watch_seconds + config.patience_seconds
        while self.observer.now_ns() < end_ns and time.monotonic() < patience:
            self.sleep(0.2)
        incident = self.observer.incident(given.plan.incident_id) or incident
        seen: Observations = self.observer.window(start_ns, end_ns)
        verdict: Judgement = judge(incident, seen, acted_ns, run.started_ns, config)
        return verdict.verdict, verdict.why, verdict.before, verdict.after

    def _verify_config(self, given: RunInput) -> VerifyConfig:
        own = given.runbook.verify
        base = self.verify
        return VerifyConfig(
            base.baseline_seconds, base.settle_seconds if own.settle_seconds is None else own.settle_seconds,
            base.watch_seconds if own.watch_seconds is None else own.watch_seconds, base.patience_seconds,
            base.good_share)

    def undo(self, given: RunInput, step_id: str, snapshot: dict[str, Any]) -> bool:
        """Bring the state of before back; True when that was done."""
        self._move(given, "undoing")
        action, params, context = self._action(given, step_id)
        if not action.is_reversible:
            return False
        context = ActionContext(context.key + "/undo", context.endpoints, context.timeout_seconds)
        for attempt in range(1, 4):
            try:
                if action.probe(params, context).is_done:  # we were killed right after undoing it
                    self._record(given, f"{step_id}/undo", "done", attempt, effect="was undone already")
                    return True
                effect = action.undo(snapshot, context)
            except ActionError as error:
                self._record(given, f"{step_id}/undo", "failed", attempt, error=str(error))
                if not error.is_transient:
                    return False
                self.sleep(1.0)
                continue
            self._record(given, f"{step_id}/undo", "done", attempt, effect=effect.text)
            return True
        return False

    def finish(self, given: RunInput, verdict: Verdict, why: str, before: dict[str, float],
               after: dict[str, float], *, undone: bool, state: str = "finished") -> None:
        """Outcome, run row, lease: in this order, so that a crash in between is mended by the repeat."""
        now = self.observer.now_ns()
        plan = given.plan
        outcome = Outcome(given.run_id, plan.id, plan.incident_id, plan.target, plan.action, plan.fault_signature,
                          verdict, now, why, before, after, undone)
        self.ledger.put_outcome(outcome)
        run = self.ledger.run(given.run_id)
        if run is not None:
            self.ledger.put_run(msgspec.structs.replace(run, state=state, ended_ns=now, verdict=verdict))
        stored = self.ledger.plan(plan.id)
        if stored is not None and stored.state == "running":
            self.ledger.move_plan(msgspec.structs.replace(stored, state="done"), expected="running")
        self.ledger.release_service(plan.target, given.run_id)
        log.info("run.finished", run_id=given.run_id, action=plan.action, service=plan.target, verdict=verdict, why=why)
        if self.on_outcome is not None:
            self.on_outcome(outcome)

    def refuse(self, given: RunInput, why: str) -> None:
        """The run may not begin: say so on the plan; nothing was done."""
        stored = self.ledger.plan(given.plan.id)
        if stored is not None and stored.state in ("running", "approved"):
            self.ledger.move_plan(msgspec.structs.replace(stored, state="blocked", decided_reason=why),
                                  expected=stored.state)
        log.warning("run.refused", run_id=given.run_id, action=given.plan.action, service=given.plan.target, why=why)

    def _move(self, given: RunInput, state: str) -> None:
        run = self.ledger.run(given.run_id)
        if run is not None and run.state != state:
            self.ledger.put_run(msgspec.structs.replace(run, state=state))

    def _record(self, given: RunInput, step_id: str, state: str, attempt: int = 1, *, effect: str = "",
                error: str = "") -> None:
        now = self.observer.now_ns()
        action = given.runbook.steps[step_id.removesuffix("/undo")].action
        known = self.ledger.run(given.run_id)
        started = next((s.started_ns for s in known.steps if s.step_id == step_id), now) if known else now
        self.ledger.put_step(msgspec.convert(
            {"run_id": given.run_id, "step_id": step_id, "action": action, "state": state, "started_ns": started,
             "ended_ns": now if state != "running" else 0, "attempt": attempt, "effect": effect, "error": error},
            StepRecord))
