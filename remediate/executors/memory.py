"""Runs in threads, without memory of a crash: for tests and `executor = "memory"`."""

from __future__ import annotations

import threading
from typing import Any

import msgspec
import structlog

from remediate.executors.base import RunInput
from remediate.executors.flow import run_flow
from remediate.executors.work import Workshop
from remediate.ports import Unclear
from remediate.types import Outcome, Run

log = structlog.get_logger()


class MemoryExecutor:
    """See Executor. A run that dies with the process is closed as cannot_tell by `recover`."""

    def __init__(self, work: Workshop) -> None:
        self._work = work
        self._threads: dict[str, threading.Thread] = {}

    def start(self, given: RunInput) -> None:
        if given.run_id in self._threads:
            return
        thread = threading.Thread(target=run_flow, args=(_call, self._work, given), name=f"run-{given.run_id[:8]}",
                                  daemon=True)
        self._threads[given.run_id] = thread
        thread.start()

    def wait(self, run_id: str, timeout_seconds: float) -> bool:
        thread = self._threads.get(run_id)
        if thread is None:
            return True
        thread.join(timeout_seconds)
        return not thread.is_alive()

    def cancel(self, run_id: str, *, by: str = "") -> None:
        self._work.cancel(run_id, by)

    def recover(self) -> int:
        """Runs that nobody works on any more must not look as if somebody did."""
        try:
            runs = self._work.ledger.runs(limit=1000)
        except Unclear as error:
            # They keep their leases, so nothing else is done to their services: that is for people to end.
            log.error("run.not_recovered", reason=error.reason, error=str(error))
            return 0
        left = [r for r in runs if r.state in ("running", "verifying", "undoing") and r.id not in self._threads]
        for run in left:
            try:
                plan = self._work.ledger.plan(run.plan_id)
            except Unclear:
                plan = None
            if plan is not None:
                self._work.broke_off(plan, run.id, "the process died")
            else:
                self._close(run)
        return len(left)

    def _close(self, run: Run) -> None:
        """One whose plan is gone or can't be read: what stands of the plan stays as it is, for people."""
        now, ledger = self._work.observer.now_ns(), self._work.ledger
        why = "the run broke off: the process died, and its plan is gone or can't be read"
        log.error("run.broke_off", run_id=run.id, action=run.action, service=run.service, why=why)
        ledger.put_outcome(Outcome(run.id, run.plan_id, run.incident_id, run.service, run.action, "", "cannot_tell", now, why))
        ledger.put_run(msgspec.structs.replace(run, state="failed", ended_ns=now, verdict="cannot_tell"))
        ledger.release_service(run.service, run.id)

    def reconcile(self) -> int:
        from remediate.repair import run_id_of

        gone = [(plan, run_id) for plan in self._work.ledger.plans(state="running", limit=1000)
                if (thread := self._threads.get(run_id := run_id_of(plan))) is not None and not thread.is_alive()]
        for plan, run_id in gone:
            self._work.broke_off(plan, run_id, "an error; see the log")
        return len(gone)

    def close(self) -> None:
        for thread in self._threads.values():
            thread.join(0.1)


def _call(name: str, function: Any, *args: Any) -> Any:
    return function(*args)
