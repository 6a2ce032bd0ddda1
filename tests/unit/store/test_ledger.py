import threading

import pytest
import sqlalchemy as sa

from opsmend.store.engine import StoreError, open_engine
from opsmend.store.ledger import SqlLedger
from opsmend.store.outbox import events_since
from remediate.types import Outcome, Plan, Run, StepRecord


def plan(plan_id: str = "p1", **changes: object) -> Plan:
    fields = {
        "id": plan_id, "incident_id": "i1", "created_ns": 1, "runbook": "r", "runbook_hash": "h", "hash": "hh",
        "title": "t", "target": "cart", "action": "process.restart", "params": {"service": "cart"},
        "source": "rule", "propensity": 1.0, "rationale": "", "risk": "low", "needs_approval": True}
    return Plan(**{**fields, **changes})  # type: ignore[arg-type]


def test_the_kill_switch_survives_a_new_process(engine: sa.Engine) -> None:
    SqlLedger(engine, default_mode="auto").set_control(stopped=True, by="ana")
    again = SqlLedger(open_engine(str(engine.url)), default_mode="auto")
    assert again.control().stopped
    assert again.control().changed_by == "ana"
    assert again.control().mode == "auto"


def test_a_plan_is_stored_once_and_moved_once(engine: sa.Engine) -> None:
    ledger = SqlLedger(engine)
    assert ledger.put_plan(plan())
    assert not ledger.put_plan(plan())
    assert ledger.move_plan(plan(state="approved"), expected="proposed")
    assert not ledger.move_plan(plan(state="rejected"), expected="proposed")
    assert ledger.plan("p1") == plan(state="approved")
    assert [p.id for p in ledger.plans(state="approved")] == ["p1"]


def test_of_many_who_move_a_plan_one_wins(engine: sa.Engine) -> None:
    ledger = SqlLedger(engine)
    ledger.put_plan(plan())
    won: list[bool] = []
    threads = [threading.Thread(target=lambda: won.append(
        ledger.move_plan(plan(state="approved"), expected="proposed"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 7 + [True]


def test_one_lease_per_service(engine: sa.Engine) -> None:
    ledger = SqlLedger(engine)
    assert ledger.acquire_service("cart", "run1")
    assert ledger.acquire_service("cart", "run1")
    assert not ledger.acquire_service("cart", "run2")
    ledger.release_service("cart", "run2")
    assert ledger.leases() == [("cart", "run1")]
    ledger.release_service("cart", "run1")
    assert ledger.acquire_service("cart", "run2")


def test_runs_come_back_with_their_steps_in_order(engine: sa.Engine) -> None:
    ledger = SqlLedger(engine)
    run = Run("run1", "p1", "i1", "cart", "process.restart", "running", 5)
    ledger.put_run(run)
    ledger.put_step(StepRecord("run1", "b", "process.restart", "running"))
    ledger.put_step(StepRecord("run1", "a", "notify", "pending"))
    ledger.put_step(StepRecord("run1", "b", "process.restart", "done", effect="restarted cart-1"))
    stored = ledger.run("run1")
    assert stored is not None
    assert [(s.step_id, s.state) for s in stored.steps] == [("b", "done"), ("a", "pending")]
    assert [r.id for r in ledger.runs(service="cart")] == ["run1"]
    assert ledger.runs(service="orders") == []


def test_the_prior_counts_only_what_could_be_told(engine: sa.Engine) -> None:
    ledger = SqlLedger(engine)
    for n, verdict in enumerate(("fixed", "fixed", "not_fixed", "cannot_tell")):
        ledger.put_outcome(Outcome(f"r{n}", "p", "i", "cart", "process.restart", "sig", verdict, n))  # type: ignore[arg-type]
    ledger.put_outcome(Outcome("r0", "p", "i", "cart", "process.restart", "sig", "not_fixed", 9))
    prior = ledger.prior("sig", "process.restart")
    assert (prior.successes, prior.trials) == (2, 3)


def test_every_change_is_an_event_of_the_same_transaction(engine: sa.Engine) -> None:
    ledger = SqlLedger(engine)
    ledger.put_plan(plan())
    ledger.put_plan(plan())
    ledger.set_control(mode="suggest", by="ana")
    assert [e.type for e in events_since(engine, 0)] == ["io.opsmend.plan.proposed", "io.opsmend.repairs.changed"]


def test_a_store_that_is_gone_is_a_typed_error(engine: sa.Engine) -> None:
    ledger = SqlLedger(engine)
    with engine.begin() as c:
        c.exec_driver_sql("DROP TABLE repairs_control")
    with pytest.raises(StoreError) as caught:
        ledger.control()
    assert caught.value.reason == "store"


def test_a_store_that_cannot_be_opened_says_which_and_hides_the_password() -> None:
    with pytest.raises(StoreError) as caught:
        open_engine("postgresql+psycopg://u:hunter2@127.0.0.1:1/x?connect_timeout=2")
    assert "127.0.0.1" in str(caught.value)
    assert "hunter2" not in str(caught.value)
