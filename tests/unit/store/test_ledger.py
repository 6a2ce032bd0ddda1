import threading

import pytest
import sqlalchemy as sa

from opsmend.store import tables as t
from opsmend.store.engine import StoreError, open_engine
from opsmend.store.ledger import SqlLedger
from opsmend.store.outbox import events_since
from remediate.ports import Unclear
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


def spoil(engine: sa.Engine, table: sa.Table, **where: str) -> None:
    with engine.begin() as c:
        spoilt = table.update().where(*(table.c[name] == value for name, value in where.items())).values(body=b"{")
        assert c.execute(spoilt).rowcount == 1


def test_a_run_that_cannot_be_read_counts_as_what_it_was(engine: sa.Engine) -> None:
    ledger = SqlLedger(engine)
    run = Run("r", "p", "i", "cart", "process.restart", "running", 5, steps=(
        StepRecord("r", "a", "process.restart", "done", 5, 6, 1), StepRecord("r", "b", "notify", "done", 6, 7, 2)))
    ledger.put_run(run)
    spoil(engine, t.runs, id="r")
    assert ledger.run("r") == run and list(ledger.runs(service="cart")) == [run], "all of it, while it runs"
    spoil(engine, t.steps, run_id="r", step_id="b")
    unclear = ledger.run("r").steps[1]
    assert (unclear.step_id, unclear.state, unclear.attempt) == ("b", "running", 1), "attempted; it is asked how far it came"
    ledger.put_outcome(Outcome("r", "p", "i", "cart", "process.restart", "f", "fixed", 9))
    ledger.put_run(Run("r", "p", "i", "cart", "process.restart", "finished", 5, 9, verdict="fixed"))
    spoil(engine, t.runs, id="r")
    again = ledger.run("r")
    assert again is not None and (again.state, again.ended_ns, again.verdict) == ("finished", 9, "fixed")
    with engine.begin() as c:
        c.execute(t.outcomes.delete())
    with pytest.raises(Unclear, match="nobody can read when"):
        ledger.runs(service="cart")
    assert not SqlLedger(engine, is_shown=True).runs()


def test_an_outcome_that_cannot_be_read_holds_its_incident_alone(engine: sa.Engine) -> None:
    ledger = SqlLedger(engine)
    for n, undone in ((1, True), (2, False)):
        ledger.put_outcome(Outcome(f"r{n}", f"p{n}", f"i{n}", "cart", "release.rollback", "f", "fixed", n, undone=undone))
    spoil(engine, t.outcomes, run_id="r1")
    with pytest.raises(Unclear, match="i1"):
        ledger.outcomes(incident_id="i1")
    assert [o.run_id for o in ledger.outcomes(incident_id="i2")] == ["r2"]
    found = ledger.outcomes()
    assert [(o.run_id, o.incident_id, o.service, o.action, o.verdict, o.ts_ns, o.undone) for o in found] == [
        ("r2", "i2", "cart", "release.rollback", "fixed", 2, False),
        ("r1", "i1", "cart", "release.rollback", "fixed", 1, False)], "taken for standing"
    assert ledger.prior("f", "release.rollback").successes == 2
    assert [o.run_id for o in SqlLedger(engine, is_shown=True).outcomes()] == ["r2"]
    with engine.begin() as c:
        c.execute(t.outcomes.update().where(t.outcomes.c.run_id == "r1").values(incident_id="", service=""))
    for incident in (None, "i1", "i2"):
        with pytest.raises(Unclear, match="whose it is"):
            ledger.outcomes(incident_id=incident)


def test_outcomes_of_before_there_were_columns_get_them_from_their_runs(engine: sa.Engine) -> None:
    from alembic import command
    from alembic.config import Config

    ledger = SqlLedger(engine)
    ledger.put_run(Run("r1", "p", "i1", "cart", "process.restart", "finished", 5, 9, verdict="fixed"))
    for n in (1, 2):
        ledger.put_outcome(Outcome(f"r{n}", "p", f"i{n}", "cart", "process.restart", "f", "fixed", 9))
    config = Config()
    config.set_main_option("script_location", "opsmend/store/migrations")
    config.set_main_option("path_separator", "os")
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0008")
        command.upgrade(config, "head")
        connection.commit()
    with engine.begin() as c:
        assert [tuple(r) for r in c.execute(sa.select(t.outcomes.c.run_id, t.outcomes.c.incident_id, t.outcomes.c.service)
                                            .order_by(t.outcomes.c.run_id))] == [("r1", "i1", "cart"), ("r2", "", "")]
    assert [o.run_id for o in ledger.outcomes(incident_id="i2")] == ["r2"], "its body tells"
