"""What a run does, step by step. Both executors call these; each call may be repeated after a crash.

Their order is in `flow.py`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from detect.types import Observations
from ingest.errors import OpsmendError
from remediate import conditions
from remediate.actions.base import Action, ActionContext, ActionError, Endpoints
from remediate.catalogue import Catalogue
from remediate.executors.base import RunInput
from remediate.gates import GateInput, Gates
from remediate.ports import Ledger, Observer, Unclear
from remediate.runbook import Runbook
from remediate.types import Outcome, Plan, Run, StepRecord, Verdict
from remediate.verify import Judgement, VerifyConfig, concerning, felt_by, judge, window_of

log = structlog.get_logger()
_ONE_WORLD_NS = 120 * 10**9


class Stopped(OpsmendError):
    """A gate closed, or somebody cancelled: the run ends before its next step."""

    reason = "stopped"


class Prepared(msgspec.Struct, frozen=True):
    """What a step needs to be done once and to be undone: stored before it is done."""

    snapshot: dict[str, Any]
    started_ns: int
    """Wall clock right before the snapshot: what the world shows as begun later may be our doing."""


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
        if by := self._cancelled_by(given):
            return f"cancelled by {by}"
        results = self.gates.check(GateInput(given.plan, given.runbook, given.run_id, given.approved_hash,
                                             has_begun=not at_start))
        return next((f"{r.gate}: {r.detail}" for r in results if not r.passed), "")

    def cancel(self, run_id: str, by: str) -> bool:
        """Ask a run to end before its next step; a row, so it holds over a restart. False if it has ended."""
        run = self.ledger.run(run_id)
        plan = self.ledger.plan(run.plan_id) if run else None
        if plan is None or plan.state != "running":
            return False
        return self.ledger.move_plan(msgspec.structs.replace(plan, cancelled_by=by or "somebody"), expected="running")

    def _cancelled_by(self, given: RunInput) -> str:
        try:
            stored = self.ledger.plan(given.plan.id)
        except Unclear:
            return "somebody, perhaps: its plan can't be read"
        return stored.cancelled_by if stored else ""

    def _action(self, given: RunInput, step_id: str) -> tuple[Action, dict[str, Any]]:
        step = given.runbook.steps[step_id]
        action = self.catalogue.get(step.action)
        if action is None:
            raise ActionError(f"no action {step.action}", reason="unknown_action")
        params = dict(given.plan.params) if step.action == given.plan.action else {
            "service": given.plan.target, "incident_id": given.plan.incident_id, "title": given.plan.title}
        params.update((k, v.replace("{target}", given.plan.target)) for k, v in step.with_.items())
        return action, params

    def _context(self, given: RunInput, key: str, prepared: Prepared | None = None, *,
                 is_repeat: bool = False) -> ActionContext:
        return ActionContext(
            f"{given.run_id}/{key}", self.endpoints, self.timeout_seconds,
            started_ns=prepared.started_ns if prepared else 0, is_repeat=is_repeat,
            snapshot=prepared.snapshot if prepared else {})

    def prepare(self, given: RunInput, step_id: str, verdict: str = "") -> Prepared | None:
        """Condition, gates, snapshot; None where the condition does not hold. Raises Stopped, ActionError,
        ConditionError: then the step does not run."""
        if (when := given.runbook.steps[step_id].when) and not conditions.holds(
                when, {**given.plan.facts, "run": {"id": given.run_id, "verdict": verdict}}):
            self._record(given, step_id, "skipped", 0, effect=f"not needed: {when}"[:300])
            return None
        if why := self._blocked(given, at_start=False):
            raise Stopped(why)
        action, params = self._action(given, step_id)
        self._record(given, step_id, "running", 0)
        started_ns = time.time_ns()
        return Prepared(action.snapshot(params, self._context(given, step_id)), started_ns)

    def act(self, given: RunInput, step_id: str, prepared: Prepared) -> str:
        """Do it, unless its key was done already. The effect, or ActionError after all attempts."""
        action, params = self._action(given, step_id)
        retry = given.runbook.steps[step_id].retry
        # An attempt on record that nobody finished: we died in it, and can't know how far it came.
        is_repeat = self._attempts(given, step_id) > 0
        last = "did nothing"
        for attempt in range(1, retry.attempts + 1):
            if attempt > 1:
                self.sleep(retry.backoff_seconds)
            if why := self._blocked(given, at_start=False):
                raise Stopped(why)
            context = self._context(given, step_id, prepared, is_repeat=is_repeat)
            try:
                if action.probe(params, context).is_done:
                    self._record(given, step_id, "done", attempt, effect="was done already")
                    return "was done already"
                self._record(given, step_id, "running", attempt)
                effect = action.run(params, context)
            except ActionError as error:
                last, is_repeat = str(error), True
                if not error.is_transient:
                    break
                continue
            last = effect.text
            if effect.changed:
                self._record(given, step_id, "done", attempt, effect=effect.text)
                return effect.text
        self._record(given, step_id, "failed", retry.attempts, error=last)
        raise ActionError(last, reason="failed")

    def _attempts(self, given: RunInput, step_id: str) -> int:
        known = self.ledger.run(given.run_id)
        return next((s.attempt for s in known.steps if s.step_id == step_id), 0) if known else 0

    def acted_ns(self) -> int:
        """Event time right after the last step. The pipeline's own lags by a bucket and its lateness, so the wall
        clock counts where it is later, unless the two are so far apart that they are not of one world."""
        now, wall = self.observer.now_ns(), time.time_ns()
        return wall if now < wall < now + _ONE_WORLD_NS else now

    def settle_and_judge(self, given: RunInput, acted_ns: int) -> tuple[Verdict, str, dict[str, float], dict[str, float]]:
        """Wait (event time) for the watch window to pass, then judge it. Silence is cannot_tell."""
        self._move(given, "verifying")
        try:
            incident = self.observer.incident(given.plan.incident_id)
        except Unclear:
            incident = None  # to break off here would leave the outcome to whoever finds the run
        run = self.ledger.run(given.run_id)
        if incident is None or run is None:
            return "cannot_tell", "the incident is not known", {}, {}
        config = self._verify_config(given)
        graph = self.observer.graph()
        felt = felt_by(graph, given.plan.target)
        for extension in range(config.extensions + 1):
            shifted = dataclasses.replace(
                config, settle_seconds=config.settle_seconds + extension * config.watch_seconds)
            start_ns, end_ns = window_of(incident, acted_ns, shifted)
            patience = time.monotonic() + shifted.settle_seconds + shifted.watch_seconds + config.patience_seconds
            while self.observer.now_ns() < end_ns and time.monotonic() < patience:
                self.sleep(0.2)
            known = concerning(self.observer.incident(given.plan.incident_id) or incident, graph, given.plan.target)
            seen: Observations = self.observer.window(start_ns, end_ns)
            judged: Judgement = judge(known, seen, acted_ns, run.started_ns, shifted, felt_by=felt)
            if judged.verdict != "not_fixed" or not judged.is_improving:
                break
        return judged.verdict, judged.why, judged.before, judged.after

    def _verify_config(self, given: RunInput) -> VerifyConfig:
        own, base = given.runbook.verify, self.verify
        return dataclasses.replace(
            base, settle_seconds=base.settle_seconds if own.settle_seconds is None else own.settle_seconds,
            watch_seconds=base.watch_seconds if own.watch_seconds is None else own.watch_seconds)

    def undo(self, given: RunInput, step_id: str, prepared: Prepared) -> bool:
        """Bring the state of before back; True when that was done. Not while repairs are stopped."""
        self._move(given, "undoing")
        action, params = self._action(given, step_id)
        if not action.is_reversible:
            return False
        last = ""
        for attempt in range(1, 4):
            if attempt > 1:
                self.sleep(1.0)
            if why := self._halted(given):
                self._record(given, f"{step_id}/undo", "skipped", attempt, error=why)
                return False
            context = self._context(given, f"{step_id}/undo", prepared, is_repeat=attempt > 1)
            try:
                if action.probe(params, context).is_done:  # we were killed right after undoing it
                    self._record(given, f"{step_id}/undo", "done", attempt, effect="was undone already")
                    return True
                effect = action.undo(dict(prepared.snapshot), context)
            except ActionError as error:
                last = str(error)
                if not error.is_transient:
                    break
                continue
            last = effect.text
            if effect.changed:
                self._record(given, f"{step_id}/undo", "done", attempt, effect=effect.text)
                return True
        self._record(given, f"{step_id}/undo", "failed", attempt, error=last)
        return False

    def _halted(self, given: RunInput) -> str:
        """Why not even an undo may run: a person stopped repairs, cancelled this one, or nobody can tell."""
        try:
            if by := self._cancelled_by(given):
                return f"cancelled by {by}"
            control = self.ledger.control()
        except OpsmendError as error:
            return f"the kill switch can't be read: {error}"
        return "repairs are stopped" if control.stopped is not False else ""

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
        try:
            stored = self.ledger.plan(plan.id)
        except Unclear:
            stored = plan  # what was run, written anew: the lease must not be held for ever
        if stored is not None and (stored is plan or stored.state == "running"):
            self.ledger.move_plan(msgspec.structs.replace(stored, state="done"), expected="running")
        self.ledger.release_service(plan.target, given.run_id)
        log.info("run.finished", run_id=given.run_id, action=plan.action, service=plan.target, verdict=verdict, why=why)
        if self.on_outcome is not None:
            self.on_outcome(outcome)

    def broke_off(self, plan: Plan, run_id: str, why: str) -> None:
        """Nobody works on this run any more, and it did not say how it ended."""
        log.error("run.broke_off", run_id=run_id, action=plan.action, service=plan.target, why=why)
        given = RunInput(run_id, plan, Runbook(plan.runbook, {}))
        self.finish(given, "cannot_tell", f"the run broke off: {why}", {}, {}, undone=False, state="failed")

    def refuse(self, given: RunInput, why: str) -> None:
        """The run may not begin: say so on the plan; nothing was done."""
        try:
            stored = self.ledger.plan(given.plan.id)
        except Unclear:
            stored = msgspec.structs.replace(given.plan, state="running")
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
             "ended_ns": now if state not in ("running", "pending") else 0, "attempt": attempt, "effect": effect,
             "error": error},
            StepRecord))
