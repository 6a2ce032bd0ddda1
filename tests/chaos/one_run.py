"""One repair, as a process that can be killed: `python one_run.py DIR PORT EXECUTOR MENDED`.

Starts the run of a fixed plan (or goes on with it), waits for its end, prints the verdict.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detect.types import Incident, Observations, Signal
from ingest.types import Change, SeriesKey
from opsmend.store.engine import open_engine
from opsmend.store.ledger import SqlLedger
from remediate.actions.base import Endpoints
from remediate.catalogue import Catalogue
from remediate.executors.base import Executor
from remediate.executors.work import Workshop
from remediate.gates import AllowRule, GateConfig, Gates
from remediate.repair import Repair, RepairConfig
from remediate.runbook import load_runbooks, plan_hash
from remediate.types import Plan
from remediate.verify import VerifyConfig
from rootcause.types import ServiceGraph

NS = 10**9
ERRORS = SeriesKey("cart", "http.server.error_ratio")


class ScriptedObserver:
    """Event time goes on by itself; errors stop after the fault where the repair is meant to help."""

    def __init__(self, mended: bool) -> None:
        self._now, self._mended = 100 * NS, mended
        signal = Signal("s1", "t", "service_level", "error_ratio", "cart", 90 * NS, 99 * NS, 0.9, "k",
                        series=ERRORS.name, value=0.5, usual=0.0)
        self._incident = Incident("i1", "t", "f", 91 * NS, 99 * NS, "open", "critical", "cart fails", ("cart",),
                                  (signal,), (), 90 * NS)

    def now_ns(self) -> int:
        self._now += NS // 50
        return self._now

    def window(self, start_ns: int, end_ns: int) -> Observations:
        ts = np.arange(start_ns // NS, end_ns // NS) * NS
        bad = (ts >= 90 * NS) & ((ts < 108 * NS) | (not self._mended))
        return Observations(ts, (ERRORS,), np.where(bad, 0.5, 0.0)[:, None])

    def open_signals(self, service: str) -> Sequence[Signal]:
        return self._incident.signals

    def incident(self, incident_id: str) -> Incident | None:
        return self._incident

    def graph(self) -> ServiceGraph:
        return ServiceGraph(("cart", "front", "orders"), frozenset({("front", "cart")}))


def make(directory: Path, port: int, kind: str, mended: bool) -> tuple[Repair, Executor, SqlLedger, Plan]:
    """Everything around one plan: roll cart back."""
    ledger = SqlLedger(open_engine(f"sqlite:///{directory / 'opsmend.db'}"), default_mode="auto")
    observer, catalogue = ScriptedObserver(mended), Catalogue()
    runbooks = load_runbooks(catalogue)
    config = GateConfig(allow=(AllowRule("cart", ("release.rollback",), "auto"),), cooldown_seconds=0)
    gates = Gates(config, ledger, observer, catalogue)
    work = Workshop(ledger, observer, catalogue, gates, Endpoints(f"http://127.0.0.1:{port}"),
                    VerifyConfig(20, 15, 3, 20), sleep=lambda seconds: None)
    executor: Executor
    if kind == "dbos":
        from remediate.executors.durable import DbosExecutor

        executor = DbosExecutor(work, directory / "runs.db")
    else:
        from remediate.executors.memory import MemoryExecutor

        executor = MemoryExecutor(work)
    runbook = runbooks["release.rollback"]
    params = {"service": "cart", "to": "v1"}
    change = Change(80 * NS, "cart", "rollout", "v2", "v1", "deployer")
    plan = Plan("plan1", "i1", 100 * NS, runbook.name, runbook.hash(), plan_hash(runbook, "cart", params),
                "Roll cart back", "cart", "release.rollback", params, "rule", 1.0, f"after {change.ref}", "low", False,
                fault_signature="sig", expires_ns=10_000 * NS)
    return Repair(RepairConfig(), ledger, observer, gates, executor, runbooks), executor, ledger, plan


def main() -> None:
    from remediate.repair import run_id_of

    repair, executor, ledger, plan = make(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4] == "mended")
    repair.recover()
    stored = repair.submit(plan)
    run_id = run_id_of(stored)
    executor.wait(run_id, 60)
    outcome = ledger.outcome(run_id)
    print(outcome.verdict if outcome else "none", outcome.undone if outcome else "", flush=True)
    executor.close()


if __name__ == "__main__":
    main()
