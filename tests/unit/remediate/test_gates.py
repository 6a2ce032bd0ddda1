"""The gates fail closed: on anything missing, empty or of the wrong type nothing runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detect.types import Incident, Observations, Signal
from opsmend.store import tables as t
from opsmend.store.engine import open_engine
from opsmend.store.ledger import SqlLedger
from remediate.actions.base import ActionContext, Effect, Endpoints, Probe, Target
from remediate.catalogue import Catalogue
from remediate.executors.base import RunInput
from remediate.executors.memory import MemoryExecutor
from remediate.executors.work import Workshop
from remediate.gates import AllowRule, GateConfig, GateInput, Gates
from remediate.ports import Unclear
from remediate.repair import DecisionError, Repair, RepairConfig
from remediate.runbook import Runbook, Step, plan_hash
from remediate.types import Outcome, Plan, Run
from remediate.verify import VerifyConfig
from rootcause.types import ServiceGraph

NS = 10**9


class Counting:
    """A real action whose effect is a number."""

    name, title = "count.up", "Count up on {service}"
    applies_when = frozenset({"process.down"})
    needs_change, is_reversible, disruption = False, True, 1

    def __init__(self) -> None:
        self.done = 0

    def parameters(self, target: Target) -> dict[str, Any]:
        return {"service": target.service}

    def probe(self, params: dict[str, Any], context: ActionContext) -> Probe:
        return Probe(False)

    def snapshot(self, params: dict[str, Any], context: ActionContext) -> dict[str, Any]:
        return {}

    def run(self, params: dict[str, Any], context: ActionContext) -> Effect:
        self.done += 1
        return Effect("counted", True)

    def undo(self, snapshot: dict[str, Any], context: ActionContext) -> Effect:
        self.done -= 1
        return Effect("counted back", True)


class StillObserver:
    """One open incident: cart is down."""

    def __init__(self) -> None:
        self.signals: tuple[Signal, ...] = (
            Signal("s", "t", "process_state", "process.down", "cart", 90 * NS, 99 * NS, 1.0, "k"),)
        self.services: tuple[str, ...] = ("cart", "front", "orders")

    def now_ns(self) -> int:
        return 100 * NS

    def window(self, start_ns: int, end_ns: int) -> Observations:
        import numpy as np

        return Observations(np.array([], dtype=np.int64), (), np.zeros((0, 0)))

    def open_signals(self, service: str) -> Sequence[Signal]:
        return [s for s in self.signals if s.service == service]

    def incident(self, incident_id: str) -> Incident | None:
        return Incident("i", "t", "f", 91 * NS, 99 * NS, "open", "critical", "cart is down", ("cart",), self.signals,
                        (), 90 * NS)

    def graph(self) -> ServiceGraph:
        return ServiceGraph(self.services, frozenset({("front", "cart")}), frozenset({"bank"}))


RUNBOOK = Runbook("r", {"do": Step("count.up")})
ALLOW = (AllowRule("cart", ("count.up",), "auto"),)


class Bench:
    """Everything between a plan and the counter."""

    def __init__(self, tmp_path: Path, config: GateConfig) -> None:
        self.action, self.observer = Counting(), StillObserver()
        self.ledger = SqlLedger(open_engine(f"sqlite:///{tmp_path / 'x.db'}"), default_mode="auto")
        catalogue = Catalogue([self.action])
        self.gates = Gates(config, self.ledger, self.observer, catalogue)
        work = Workshop(self.ledger, self.observer, catalogue, self.gates, Endpoints(),
                        VerifyConfig(1, 0, 1, 0), sleep=lambda seconds: None)
        self.executor = MemoryExecutor(work)
        self.repair = Repair(RepairConfig(), self.ledger, self.observer, self.gates, self.executor,
                             {"count.up": RUNBOOK})

    def submit(self, plan: Plan) -> Plan:
        from remediate.repair import run_id_of

        stored = self.repair.submit(plan)
        self.executor.wait(run_id_of(plan), 20)
        return stored

    def failed(self, plan: Plan) -> set[str]:
        return {r.gate for r in self.gates.check(GateInput(plan, RUNBOOK)) if not r.passed}


def plan(**changes: Any) -> Plan:
    params = {"service": "cart"}
    made = Plan("p", "i", 100 * NS, "r", RUNBOOK.hash(), plan_hash(RUNBOOK, "cart", params), "t", "cart", "count.up",
                params, "rule", 1.0, "", "low", False, expires_ns=1000 * NS)
    return msgspec.structs.replace(made, **changes)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, GateConfig(allow=ALLOW, cooldown_seconds=30))


def test_when_every_gate_passes_it_runs_once(bench: Bench) -> None:
    assert bench.submit(plan()).state == "running"
    bench.submit(plan())
    assert bench.action.done == 1


@pytest.mark.parametrize(("gate", "spoil"), [
    ("kill_switch", lambda b: b.ledger.set_control(stopped=True, by="ana")),
    ("mode", lambda b: b.ledger.set_control(mode="observe", by="ana")),
    ("mode", lambda b: b.ledger.set_control(mode="suggest", by="ana")),
    ("precondition", lambda b: setattr(b.observer, "signals", ())),
    ("blast_radius", lambda b: setattr(b.observer, "services", ())),
    ("one_run", lambda b: b.ledger.acquire_service("cart", "another")),
    ("services_at_once", lambda b: b.ledger.acquire_service("orders", "another")),
    ("cooldown", lambda b: b.ledger.put_run(Run("r0", "p0", "i0", "cart", "count.up", "finished", 80 * NS, 90 * NS))),
])
def test_each_gate_stops_it(bench: Bench, gate: str, spoil: Any) -> None:
    spoil(bench)
    assert gate in bench.failed(plan())
    stored = bench.submit(plan())
    assert stored.state in ("blocked", "proposed")
    assert bench.action.done == 0


@pytest.mark.parametrize(("gate", "config"), [
    ("allow_list", GateConfig(allow=())),
    ("allow_list", GateConfig(allow=(AllowRule("orders", ("count.up",), "auto"),))),
    ("allow_list", GateConfig(allow=(AllowRule("cart", ("process.restart",), "auto"),))),
    ("mode", GateConfig(allow=(AllowRule("cart", ("count.up",), "suggest"),))),
    ("budget", GateConfig(allow=ALLOW, actions_per_hour=0)),
    ("services_at_once", GateConfig(allow=ALLOW, services_at_once=0)),
    ("external", GateConfig(allow=ALLOW, external=frozenset({"cart"}))),
])
def test_each_limit_stops_it(tmp_path: Path, gate: str, config: GateConfig) -> None:
    bench = Bench(tmp_path, config)
    assert gate in bench.failed(plan())
    bench.submit(plan())
    assert bench.action.done == 0


def test_an_incident_that_can_no_longer_be_read_ends_the_run_with_an_outcome(
        bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from remediate.repair import run_id_of

    known = bench.observer.incident

    def incident(incident_id: str) -> Incident | None:
        if bench.action.done:
            raise Unclear("what is stored of it can't be read")
        return known(incident_id)

    monkeypatch.setattr(bench.observer, "incident", incident)
    bench.submit(plan())
    outcome = bench.ledger.outcome(run_id_of(plan()))
    assert bench.action.done == 1 and outcome is not None and outcome.verdict == "cannot_tell"
    assert not bench.ledger.leases()


def test_what_a_model_chose_waits_for_a_person(bench: Bench) -> None:
    stored = bench.submit(plan(source="llm"))
    assert (stored.state, stored.needs_approval) == ("proposed", True)
    assert bench.action.done == 0
    bench.repair.decide("p", "approve", plan_hash=stored.hash, by="ana")
    from remediate.repair import run_id_of

    assert bench.executor.wait(run_id_of(stored), 20)
    assert bench.action.done == 1


def test_a_signal_that_rests_on_logs_alone_is_no_precondition(bench: Bench) -> None:
    bench.observer.signals = (
        Signal("s", "t", "logs", "log_template", "cart", 90 * NS, 99 * NS, 1.0, "k"),)
    assert "precondition" in bench.failed(plan())


def test_a_store_that_is_gone_closes_the_gates(bench: Bench) -> None:
    engine = bench.ledger._engine
    with engine.begin() as c:
        c.exec_driver_sql("DROP TABLE repairs_control")
    assert {"kill_switch", "mode"} <= bench.failed(plan())


junk = st.one_of(st.none(), st.text(max_size=5), st.integers(), st.floats(allow_nan=True), st.lists(st.integers()),
                 st.dictionaries(st.text(max_size=3), st.integers(), max_size=2), st.binary(max_size=3))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(field=st.sampled_from(["target", "hash", "params", "action", "incident_id"]), value=junk)
def test_nothing_runs_on_a_plan_with_anything_wrong_in_it(bench: Bench, field: str, value: Any) -> None:
    spoiled = plan(**{field: value})
    if spoiled == plan():
        return
    results = bench.gates.check(GateInput(spoiled, RUNBOOK))
    # The incident's id alone is not what decides: the signals of the target are.
    assert field == "incident_id" or not all(r.passed for r in results)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(field=st.sampled_from(["allow", "actions_per_hour", "services_at_once", "cooldown_seconds",
                              "max_blast_radius", "external"]), value=st.one_of(st.none(), st.text(max_size=5)))
def test_a_limit_that_cannot_be_read_closes_its_gate(bench: Bench, field: str, value: Any) -> None:
    fields = {"allow": ALLOW, "cooldown_seconds": 30.0, field: value}
    gates = Gates(GateConfig(**fields), bench.ledger, bench.observer, Catalogue([bench.action]))
    results = gates.check(GateInput(plan(), RUNBOOK))
    if field in ("external", "cooldown_seconds") and not all(r.passed for r in results):
        return
    assert field in ("external", "cooldown_seconds") or not all(r.passed for r in results)


def test_an_approval_binds_one_hash_is_used_once_and_expires(tmp_path: Path) -> None:
    bench = Bench(tmp_path, GateConfig(allow=(AllowRule("cart", ("count.up",), "suggest"),), cooldown_seconds=0))
    stored = bench.submit(plan())
    assert stored.state == "proposed"
    with pytest.raises(DecisionError) as wrong:
        bench.repair.decide("p", "approve", plan_hash="another", by="ana")
    assert wrong.value.reason == "plan_hash_mismatch"
    assert bench.action.done == 0
    bench.repair.decide("p", "approve", plan_hash=stored.hash, by="ana")
    from remediate.repair import run_id_of

    assert bench.executor.wait(run_id_of(stored), 20)
    assert bench.action.done == 1
    with pytest.raises(DecisionError) as again:
        bench.repair.decide("p", "approve", plan_hash=stored.hash, by="ana")
    assert again.value.reason == "decided"
    late = bench.repair.submit(plan(id="p2", created_ns=-10_000 * NS))
    with pytest.raises(DecisionError) as expired:
        bench.repair.decide("p2", "approve", plan_hash=late.hash, by="ana")
    assert expired.value.reason in ("expired", "decided")
    assert bench.action.done == 1


def test_zero_samples_are_cannot_tell(bench: Bench) -> None:
    bench.submit(plan())
    (outcome,) = bench.ledger.outcomes()
    assert outcome.verdict == "cannot_tell"


def spoil(bench: Bench, table: sa.Table) -> None:
    with bench.ledger._engine.begin() as c:
        assert c.execute(table.update().values(body=b"{")).rowcount == 1


def test_a_run_that_cannot_be_read_still_counts_against_every_limit(tmp_path: Path) -> None:
    bench = Bench(tmp_path, GateConfig(allow=ALLOW, cooldown_seconds=30, actions_per_hour=1))
    bench.ledger.put_run(Run("before", "p0", "i0", "cart", "count.up", "finished", 60 * NS, 80 * NS))
    bench.ledger.put_outcome(Outcome("before", "p0", "i0", "cart", "count.up", "", "fixed", 80 * NS))
    assert bench.failed(plan()) == {"cooldown", "budget"}
    spoil(bench, t.runs)
    (told,) = [r for r in bench.gates.check(GateInput(plan(), RUNBOOK)) if r.gate == "cooldown"]
    assert bench.failed(plan()) == {"cooldown", "budget"} and "20 s ago" in told.detail
    spoil(bench, t.outcomes)
    assert bench.failed(plan()) == {"cooldown", "budget"}
    with bench.ledger._engine.begin() as c:
        c.execute(t.outcomes.delete())
    assert bench.failed(plan()) == {"cooldown", "budget"}, "ended, and nobody knows when"


def test_a_plan_that_can_no_longer_be_read_stops_its_run_and_leaves_no_lease(bench: Bench) -> None:
    from remediate.repair import run_id_of

    bench.ledger.put_plan(plan(state="running"))
    bench.ledger.acquire_service("cart", run_id_of(plan()))
    spoil(bench, t.plans)
    bench.executor.start(RunInput(run_id_of(plan()), plan(state="running"), RUNBOOK))
    bench.executor.wait(run_id_of(plan()), 20)
    assert bench.action.done == 0, "a person may have cancelled it"
    assert bench.ledger.plan("p").state == "blocked", "and it can be read again"
    bench.ledger.put_run(Run("late", "p", "i", "cart", "count.up", "running", 60 * NS))
    bench.ledger.move_plan(plan(state="running"), expected="blocked")
    bench.ledger.release_service("cart", run_id_of(plan()))
    bench.ledger.acquire_service("cart", "late")
    spoil(bench, t.plans)
    spoil(bench, t.runs)
    bench.executor._work.finish(RunInput("late", plan(state="running"), RUNBOOK), "fixed", "", {}, {}, undone=False)
    assert bench.ledger.leases() == [] and bench.ledger.plan("p").state == "done"
