"""Durable runs on DBOS: the only module that knows it.

Every part of a run is a DBOS step: its result is stored before the next part begins, and after kill -9 the
run goes on from there. A step that was cut off midway runs again; that is why actions carry keys and probes.
The run's input holds the runbook as it was. `application_version` is pinned, so that an upgrade of opsmend
still recovers the runs of before.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import msgspec
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential

from ingest.errors import OpsmendError
from remediate.executors.base import RunInput
from remediate.executors.flow import run_flow
from remediate.executors.work import Workshop

_WORK: dict[str, Workshop] = {}
_BROKEN = ("ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
_ENDED = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")


def _workflow(body: str) -> str:
    """Entry of a run. `body` is the RunInput as JSON: what is stored must be readable for ever."""
    from dbos import DBOS

    given = msgspec.json.decode(body, type=RunInput)
    work = _WORK["work"]

    def call(name: str, function: Any, *args: Any) -> Any:
        def step() -> str:
            crash_here(f"before:{name}")
            result = _patiently(function, *args)
            crash_here(f"after:{name}")
            return msgspec.json.encode(result).decode()

        return msgspec.json.decode(DBOS.run_step({"name": name}, step))

    return run_flow(call, work, given)


def _patiently(function: Any, *args: Any) -> Any:
    """A store that is away for a moment must not end a run: its lease and its plan would stay as they are."""
    for attempt in Retrying(retry=retry_if_exception(_is_store_away), stop=stop_after_delay(60),
                            wait=wait_exponential(0.2, max=5), reraise=True):
        with attempt:
            result = function(*args)
    return result


def _is_store_away(error: BaseException) -> bool:
    return isinstance(error, OpsmendError) and error.reason in ("store", "store_busy")


def crash_here(point: str) -> None:
    """For the chaos tests: die as kill -9 does at a named point, once per file."""
    wanted = os.environ.get("OPSMEND_CHAOS_CRASH_AT", "")
    marker = os.environ.get("OPSMEND_CHAOS_MARKER", "")
    if wanted and wanted == point and marker and not Path(marker).exists():
        Path(marker).write_text(point)
        os.kill(os.getpid(), 9)


class DbosExecutor:
    """See Executor. One per process: DBOS keeps its runtime in module state."""

    def __init__(self, work: Workshop, database: Path, *, executor_id: str = "local") -> None:
        import sqlite3

        from dbos import DBOS, DBOSConfig

        database.parent.mkdir(parents=True, exist_ok=True)
        with sqlite3.connect(database) as connection:  # DBOS leaves the journal mode as it finds it
            connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
        _WORK["work"] = work
        self._work = work
        config: DBOSConfig = {
            "name": "opsmend", "system_database_url": f"sqlite:///{database}", "application_version": "opsmend-runs-1",
            "executor_id": executor_id, "log_level": "ERROR",
        }
        DBOS(config=config)
        self._workflow = DBOS.workflow(name="opsmend_run")(_workflow)
        self._dbos = DBOS
        DBOS.launch()

    def start(self, given: RunInput) -> None:
        from dbos import SetWorkflowID

        with SetWorkflowID(given.run_id):
            self._dbos.start_workflow(self._workflow, msgspec.json.encode(given).decode())

    def wait(self, run_id: str, timeout_seconds: float) -> bool:
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            status = self._dbos.get_workflow_status(run_id)
            if status is None or status.status in _ENDED:
                return True
            time.sleep(0.05)
        return False

    def cancel(self, run_id: str, *, by: str = "") -> None:
        # Not DBOS's own cancel: the run must still release its lease and write its outcome.
        self._work.cancel(run_id, by)

    def recover(self) -> int:
        """DBOS goes on with this executor's runs at launch; here it is only counted."""
        return len(self._dbos.list_workflows(status="PENDING"))

    def reconcile(self) -> int:
        from remediate.repair import run_id_of

        count = 0
        for plan in self._work.ledger.plans(state="running", limit=1000):
            status = self._dbos.get_workflow_status(run_id_of(plan))
            if status is not None and status.status in _BROKEN:
                self._work.broke_off(plan, run_id_of(plan), f"{status.status}: {status.error!r}"[:300])
                count += 1
        return count

    def close(self) -> None:
        self._dbos.destroy()
        _WORK.clear()
