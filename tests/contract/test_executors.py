"""One contract over all executors: a run goes through its steps once, behind the gates, and ends with a verdict."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from detect.types import Incident, Observations, Signal
from ingest.types import SeriesKey
from opsmend.store.engine import StoreError, open_engine
from opsmend.store.ledger import SqlLedger
from remediate.actions.base import ActionContext, ActionError, Effect, Endpoints, Probe, Target
from remediate.catalogue import Catalogue
from remediate.executors.base import Executor, RunInput
from remediate.executors.work import Workshop
from remediate.gates import AllowRule, GateConfig, Gates
from remediate.repair import run_id_of
from remediate.runbook import Retry, Runbook, Step, plan_hash
from remediate.types import Plan, Run
from remediate.verify import VerifyConfig
from rootcause.types import ServiceGraph

NS = 10**9
ERRORS = SeriesKey("cart", "http.server.error_ratio")


class Valve:
    """A real thing in this process that can be opened and closed; every call is on record."""

    applies_when = frozenset({"error_ratio"})
    needs_change, disruption = False, 1

    def __init__(self, name: str) -> None:
        self.name, self.title, self.is_reversible = name, "Turn {service}", True
        self.calls: list[tuple[str, ActionContext]] = []
        self.failures: list[ActionError] = []
        self.nothing_first = 0
        self.meanwhile: Callable[[], None] = lambda: None

    def parameters(self, target: Target) -> dict[str, Any]:
        return {"service": target.service}

    def probe(self, params: dict[str, Any], context: ActionContext) -> Probe:
        return Probe(any(c.key == context.key for verb, c in self.calls if verb in ("done", "undone")))

    def snapshot(self, params: dict[str, Any], context: ActionContext) -> dict[str, Any]:
        self.calls.append(("snapshot", context))
        return {"was": "closed"}

    def run(self, params: dict[str, Any], context: ActionContext) -> Effect:
        self.calls.append(("run", context))
        self.meanwhile()
        if self.failures:
            raise self.failures.pop(0)
        if self.nothing_first:
            self.nothing_first -= 1
            return Effect("0 turned", False)
        self.calls.append(("done", context))
        return Effect("turned", True)

    def undo(self, snapshot: dict[str, Any], context: ActionContext) -> Effect:
        assert snapshot == {"was": "closed"}
        self.calls.append(("undone", context))
        return Effect("turned back", True)

    def verbs(self) -> list[str]:
        return [verb for verb, _ in self.calls if verb in ("done", "undone")]


class Clock:
    """Event time that goes on whenever it is asked for; errors stop at `mended_at`, or never."""

    def __init__(self) -> None:
        self._now, self._lock = 100 * NS, threading.Lock()
        self.is_mended = True
        self.signal = Signal("s", "t", "d", "error_ratio", "cart", 90 * NS, 99 * NS, 0.9, "k", series=ERRORS.name,
                             value=0.5, usual=0.0)

    def now_ns(self) -> int:
        with self._lock:
            self._now += NS // 50
            return self._now

    def window(self, start_ns: int, end_ns: int) -> Observations:
        ts = np.arange(start_ns // NS, end_ns // NS) * NS
        bad = (ts >= 90 * NS) & ((ts < 104 * NS) | (not self.is_mended))
        return Observations(ts, (ERRORS,), np.where(bad, 0.5, 0.0)[:, None])

    def open_signals(self, service: str) -> Sequence[Signal]:
        return (self.signal,)

    def incident(self, incident_id: str) -> Incident | None:
        return Incident("i", "t", "f", 91 * NS, 99 * NS, "open", "critical", "cart fails", ("cart",), (self.signal,),
                        (), 90 * NS)

    def graph(self) -> ServiceGraph:
        return ServiceGraph(("cart", "front", "orders"), frozenset({("front", "cart")}))


class Rig:
    """Two valves, a ledger on a real database, and one kind of executor."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.first, self.second, self.clock = Valve("valve.first"), Valve("valve.second"), Clock()
        self.engine = open_engine(f"sqlite:///{directory / 'x.db'}")
        self.ledger = SqlLedger(self.engine, default_mode="auto")
        catalogue = Catalogue([self.first, self.second])
        allow = (AllowRule("cart", ("valve.first", "valve.second"), "auto"),)
        gates = Gates(GateConfig(allow=allow, cooldown_seconds=0), self.ledger, self.clock, catalogue)
        self.told: list[str] = []
        self.work = Workshop(self.ledger, self.clock, catalogue, gates, Endpoints(), VerifyConfig(8, 6, 3, 20),
                             sleep=lambda seconds: None, on_outcome=lambda o: self.told.append(o.verdict))
        self.executor = make(kind, self.work, directory)

    def plan(self, runbook: Runbook, name: str = "r1") -> Plan:
        params = {"service": "cart"}
        return Plan(f"p-{name}", "i", 100 * NS, runbook.name, runbook.hash(), plan_hash(runbook, "cart", params), "t",
                    "cart", runbook.main_action, params, "rule", 1.0, "", "low", False, state="running",
                    expires_ns=10_000 * NS, facts={"incident": {"severity": "critical"}})

    def run(self, runbook: Runbook, name: str = "r1", *, run_id: str = "") -> Run | None:
        plan, run_id = self.plan(runbook, name), run_id or name
        self.ledger.put_plan(plan)
        self.executor.start(RunInput(run_id, plan, runbook))
        self.executor.start(RunInput(run_id, plan, runbook))  # asked twice, done once
        assert self.executor.wait(run_id, 30)
        return self.ledger.run(run_id)


def make(kind: str, work: Workshop, directory: Path) -> Executor:
    if kind == "memory":
        from remediate.executors.memory import MemoryExecutor

        return MemoryExecutor(work)
    from remediate.executors.durable import DbosExecutor

    return DbosExecutor(work, directory / "runs.db")


@pytest.fixture(params=["memory", "dbos"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    made = Rig(request.param, tmp_path)
    yield made
    made.executor.close()
    made.engine.dispose()


def book(**steps: Step) -> Runbook:
    return Runbook("r", steps)


ONE = book(a=Step("valve.first"))
TWO = book(a=Step("valve.first"), b=Step("valve.second", depends_on=("a",)))


def test_steps_run_in_order_and_once_and_the_verdict_is_told(rig: Rig) -> None:
    run = rig.run(TWO)
    assert run is not None
    assert (run.state, run.verdict) == ("finished", "fixed")
    assert [(s.step_id, s.state, s.effect) for s in run.steps] == [("a", "done", "turned"), ("b", "done", "turned")]
    assert rig.first.verbs() == rig.second.verbs() == ["done"]
    keys = [c.key for verb, c in (*rig.first.calls, *rig.second.calls) if verb == "done"]
    assert keys == ["r1/a", "r1/b"]
    assert all(c.snapshot == {"was": "closed"} and c.started_ns > 0 for v, c in rig.first.calls if v == "run")
    assert rig.told == ["fixed"]
    assert rig.ledger.leases() == []
    stored = rig.ledger.plan("p-r1")
    assert stored is not None
    assert stored.state == "done"


def test_what_did_not_help_is_undone_in_reverse(rig: Rig) -> None:
    rig.clock.is_mended = False
    run = rig.run(TWO)
    assert run is not None
    assert run.verdict == "not_fixed"
    outcome = rig.ledger.outcome("r1")
    assert outcome is not None
    assert outcome.undone
    assert rig.first.verbs() == rig.second.verbs() == ["done", "undone"]
    assert [s.step_id for s in run.steps if s.step_id.endswith("/undo")] == ["b/undo", "a/undo"]


def test_undo_never_is_never(rig: Rig) -> None:
    rig.clock.is_mended = False
    rig.run(msgspec.structs.replace(ONE, undo="never"))
    assert rig.first.verbs() == ["done"]


def test_an_effect_of_nothing_is_tried_again_and_is_no_success(rig: Rig) -> None:
    rig.first.nothing_first = 1
    run = rig.run(book(a=Step("valve.first", retry=Retry(2, 0))))
    assert run is not None
    assert run.verdict == "fixed"
    # Nothing had happened for sure: the second try is no repeat of something half done.
    assert [c.is_repeat for v, c in rig.first.calls if v == "run"] == [False, False]
    rig.first.nothing_first = 5
    run = rig.run(book(a=Step("valve.first", retry=Retry(2, 0))), "r2")
    assert run is not None
    assert (run.state, run.verdict) == ("failed", "cannot_tell")


def test_a_time_out_is_repeated_as_a_repeat(rig: Rig) -> None:
    rig.first.failures = [ActionError("no answer", reason="timeout", is_transient=True)]
    run = rig.run(book(a=Step("valve.first", retry=Retry(3, 0))))
    assert run is not None
    assert run.verdict == "fixed"
    assert [c.is_repeat for v, c in rig.first.calls if v == "run"] == [False, True]


def test_a_step_that_fails_takes_the_steps_before_it_back(rig: Rig) -> None:
    rig.second.failures = [ActionError("refused", reason="refused")]
    run = rig.run(TWO)
    assert run is not None
    assert (run.state, run.verdict) == ("failed", "not_fixed")
    assert rig.first.verbs() == ["done", "undone"]
    assert rig.second.verbs() == []


def test_a_closed_gate_stops_before_the_next_step_and_nothing_more_is_done(rig: Rig) -> None:
    rig.first.meanwhile = lambda: rig.ledger.set_control(stopped=True, by="ana") and None
    run = rig.run(TWO)
    assert run is not None
    assert (run.state, run.verdict) == ("cancelled", "cannot_tell")
    assert rig.first.verbs() == ["done"]  # not even undone: stop means stop
    assert rig.second.calls == []
    assert rig.ledger.leases() == []


def test_stop_keeps_a_failed_repair_from_being_undone(rig: Rig) -> None:
    rig.clock.is_mended = False
    acted = rig.work.acted_ns

    def stop_now() -> int:
        rig.ledger.set_control(stopped=True, by="ana")
        return acted()

    rig.work.acted_ns = stop_now  # type: ignore[method-assign]
    rig.run(ONE)
    outcome = rig.ledger.outcome("r1")
    assert outcome is not None
    assert (outcome.verdict, outcome.undone) == ("not_fixed", False)
    assert rig.first.verbs() == ["done"]


def test_cancel_is_a_row(rig: Rig) -> None:
    rig.first.meanwhile = lambda: rig.executor.cancel("r1", by="ben")
    run = rig.run(TWO)
    assert run is not None
    assert (run.state, run.verdict) == ("cancelled", "cannot_tell")
    outcome = rig.ledger.outcome("r1")
    assert outcome is not None
    assert "ben" in outcome.why
    assert rig.second.calls == []


@pytest.mark.parametrize(("mended", "told"), [(True, "skipped"), (False, "done")])
def test_a_step_may_wait_for_the_verdict(rig: Rig, mended: bool, told: str) -> None:
    rig.clock.is_mended = mended
    run = rig.run(book(a=Step("valve.first"), tell=Step("notify", depends_on=("a",), when='run.verdict != "fixed"')))
    assert run is not None
    assert run.verdict == ("fixed" if mended else "not_fixed")
    assert {s.step_id: s.state for s in run.steps}["tell"] == told


@pytest.mark.parametrize(("when", "verbs", "verdict"), [
    ('incident.severity == "critical"', ["done"], "fixed"),
    ('incident.severity == "info"', [], "cannot_tell"),
    ("incident.nonsense > 3", [], "cannot_tell"),  # can't be evaluated: does not run
    ("incident.severity", [], "cannot_tell"),  # no yes or no: does not run
])
def test_a_condition_that_does_not_hold_runs_nothing(rig: Rig, when: str, verbs: list[str], verdict: str) -> None:
    run = rig.run(book(a=Step("valve.first", when=when)))
    assert run is not None
    assert run.verdict == verdict
    assert rig.first.verbs() == verbs


def test_a_plan_that_a_gate_stops_at_the_start_is_blocked_and_leaves_no_run(rig: Rig) -> None:
    rig.ledger.set_control(mode="observe", by="ana")
    assert rig.run(ONE) is None
    stored = rig.ledger.plan("p-r1")
    assert stored is not None
    assert stored.state == "blocked"
    assert "observe" in stored.decided_reason
    assert rig.first.calls == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_run_that_breaks_off_is_closed_and_keeps_nobody_from_acting(rig: Rig) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    rig.work.settle_and_judge = broken  # type: ignore[method-assign,assignment]
    run_id = run_id_of(rig.plan(ONE, "x"))
    assert rig.executor.reconcile() == 0
    run = rig.run(ONE, "x", run_id=run_id)
    assert run is not None
    assert run.state == "running"
    assert rig.ledger.leases() == [("cart", run_id)]
    assert rig.executor.reconcile() == 1
    assert rig.executor.reconcile() == 0
    closed = rig.ledger.run(run_id)
    assert closed is not None
    assert (closed.state, closed.verdict) == ("failed", "cannot_tell")
    assert rig.ledger.leases() == []
    assert rig.first.verbs() == ["done"]


def test_a_store_that_is_away_for_a_moment_ends_no_durable_run(tmp_path: Path) -> None:
    rig = Rig("dbos", tmp_path)
    try:
        acted, failures = rig.work.acted_ns, [StoreError("away"), StoreError("away")]

        def flaky() -> int:
            if failures:
                raise failures.pop()
            return acted()

        rig.work.acted_ns = flaky  # type: ignore[method-assign]
        run = rig.run(ONE)
        assert run is not None
        assert (run.verdict, failures) == ("fixed", [])
    finally:
        rig.executor.close()
        rig.engine.dispose()
