"""An error that nobody foresaw: the healer goes on, and says where it was."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import msgspec
import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from detect.types import Incident
from opsmend.api.app import create_app
from opsmend.config import Settings
from opsmend.port_store import StorePort
from opsmend.service import Service
from opsmend.store import tables as t
from opsmend.store.engine import StoreBusy, open_engine
from opsmend.store.ledger import SqlLedger
from opsmend.store.records import Records
from remediate.types import Outcome, Plan, Run


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    found = Service(Settings.model_validate({"service": {"data_dir": tmp_path}, "repair": {"executor": "memory"}}))
    found.start()
    yield found
    found.stop()


def wait(check: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def bugs(service: Service, place: str) -> float:
    return service.metrics.registry.get_sample_value("opsmend_remediate_bugs_total", {"place": place}) or 0.0


def is_alive(service: Service) -> bool:
    return service.healer._thread.is_alive()


def an_incident(incident_id: str) -> Incident:
    return Incident(incident_id, "default", "f", -(10**18), 1, "open", "info", "", ("cart",), (), (), 1)


def a_plan(plan_id: str, incident_id: str, **changes: object) -> Plan:
    made = Plan(plan_id, incident_id, 1, "restart", "h", "h", "Restart cart", "cart", "process.restart", {}, "rule", 1.0, "",
                "low", True)
    return msgspec.structs.replace(made, **changes)


def test_the_thread_goes_on_and_the_error_is_counted_by_its_place(
        service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    with capture_logs() as logs, monkeypatch.context() as broken:
        broken.setattr(service.healer, "_look", lambda: [][1])
        wait(lambda: bugs(service, "incidents") >= 1)
        wait(lambda: any(line["event"] == "healer.bug" for line in logs))
    said = next(line for line in logs if line["event"] == "healer.bug")
    assert said["place"] == "incidents"
    assert "IndexError" in said["error"]
    assert is_alive(service)
    # What does not need the incidents is done meanwhile: a proposal whose time is over expires.
    closed = Incident("i1", "default", "f", 1, 2, "closed", "info", "", (), (), (), 1)
    service.records.put_alone(closed)
    service.ledger.put_plan(a_plan("p1", "i1"))
    service.healer.wake()
    wait(lambda: service.ledger.plans(incident_id="i1")[0].state == "expired")
    assert service.healer.turn(), "whole again"


@pytest.mark.parametrize("what", ["plan", "outcome"])
def test_what_cannot_be_read_holds_its_incident_and_no_other(service: Service, what: str) -> None:
    service.healer.stop()
    for n in (1, 2):
        service.records.put_alone(an_incident(f"i{n}"))
        service.ledger.put_plan(a_plan(f"p{n}", f"i{n}", state="done"))
        service.ledger.put_outcome(Outcome(f"r{n}", f"p{n}", f"i{n}", "cart", "process.restart", "f", "not_fixed", 1))
    asked: list[str] = []
    service.queries.diagnoses = lambda incident_id, **asked_for: asked.append(incident_id) or []  # type: ignore[method-assign]
    assert service.healer.turn() and asked == ["i1", "i2"], "both are considered"
    table, key = (t.plans, t.plans.c.id == "p1") if what == "plan" else (t.outcomes, t.outcomes.c.run_id == "r1")
    with service.engine.begin() as c:
        c.execute(table.update().where(key).values(body=b"{"))
    with capture_logs() as logs:
        assert service.healer.turn() and asked == ["i1", "i2", "i2"]
    held = [line for line in logs if line["event"] == "healer.held"]
    assert [(line["incident_id"], line["reason"]) for line in held] == [("i1", "unreadable")]
    value = service.metrics.registry.get_sample_value
    assert value("opsmend_remediate_put_off_total", {"place": "planning", "reason": "unreadable"}) == 1
    assert value("opsmend_store_unreadable_rows_total", {"table": f"{what}s"}) == 1
    assert bugs(service, "incidents") == bugs(service, "planning") == 0


@pytest.mark.parametrize("what", ["plan", "outcome"])
async def test_pages_and_api_say_that_an_incident_is_left_to_people(service: Service, what: str) -> None:
    service.healer.stop()
    for n in (1, 2):
        service.records.put_alone(an_incident(f"i{n}"))
        service.ledger.put_plan(a_plan(f"p{n}", f"i{n}", state="done"))
        service.ledger.put_run(Run(f"r{n}", f"p{n}", f"i{n}", "cart", "process.restart", "finished", 1, 2, (), "not_fixed"))
        service.ledger.put_outcome(Outcome(f"r{n}", f"p{n}", f"i{n}", "cart", "process.restart", "f", "not_fixed", 1))
    table, key, row = (t.plans, t.plans.c.id == "p1", "row p1 of plans") if what == "plan" else (
        t.outcomes, t.outcomes.c.run_id == "r1", "outcome r1 of incident i1")
    with service.engine.begin() as c:
        c.execute(table.update().where(key).values(body=b"{"))
    app = create_app(StorePort(service), service.metrics.registry)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://localhost") as client:
        said = {path: await client.get(path) for path in (
            "/", "/incidents", "/incidents/i1", "/incidents/i2", "/policy", "/api/v1/incidents/i1", "/api/v1/incidents/i2")}
    assert {answer.status_code for answer in said.values()} == {200}, "one row that can't be read takes no page away"
    assert said["/api/v1/incidents/i1"].json()["held"] == f"{row} can't be read"
    assert said["/api/v1/incidents/i2"].json()["held"] == ""
    assert all("eft to people" in said[path].text and row in said[path].text for path in ("/", "/incidents/i1"))
    assert "eft to people" not in said["/incidents/i2"].text


def test_a_service_starts_with_plans_outcomes_and_incidents_that_cannot_be_read(tmp_path: Path) -> None:
    settings = Settings.model_validate({"service": {"data_dir": tmp_path}, "repair": {"executor": "memory"}})
    engine = open_engine(settings.store_url)
    ledger = SqlLedger(engine)
    records = Records(engine, retention_seconds=60)
    for n, state in enumerate(("proposed", "running", "proposed")):
        records.put_alone(an_incident(f"i{n}"))
        ledger.put_plan(a_plan(f"p{n}", f"i{n}", state=state))
    ledger.put_plan(a_plan("p3", "i3", expires_ns=1))
    ledger.put_run(Run("r1", "p1", "i1", "cart", "process.restart", "running", 1))
    assert ledger.acquire_service("cart", "r1")
    ledger.put_outcome(Outcome("r", "p9", "i9", "cart", "process.restart", "f", "fixed", 1))
    with engine.begin() as c:
        c.execute(t.plans.update().where(t.plans.c.id.in_(("p0", "p1"))).values(body=b"{"))
        c.execute(t.outcomes.update().values(body=b"{", incident_id="", service=""))
        c.execute(t.incidents.update().where(t.incidents.c.id == "i2").values(body=b"{"))
    engine.dispose()
    service = Service(settings)
    service.start()
    service.observer.now_ns = lambda: 10**18  # type: ignore[method-assign]
    service.repair.tick()
    assert [p.id for p in service.ledger.plans(state="expired")] == ["p3"], "one that can't be read stops no other"
    ended = service.ledger.run("r1")
    assert ended is not None and (ended.state, ended.verdict) == ("failed", "cannot_tell"), "nobody works on it any more"
    assert not service.ledger.leases() and service.ledger.outcome("r1") is not None
    service.stop()


def test_a_service_starts_with_a_run_of_which_nobody_knows_when_it_ended(tmp_path: Path) -> None:
    settings = Settings.model_validate({"service": {"data_dir": tmp_path}, "repair": {"executor": "memory"}})
    engine = open_engine(settings.store_url)
    ledger = SqlLedger(engine)
    ledger.put_run(Run("r1", "p1", "i1", "cart", "process.restart", "finished", 1))
    assert ledger.acquire_service("web", "r2")
    with engine.begin() as c:
        c.execute(t.runs.update().values(body=b"{"))
    engine.dispose()
    service = Service(settings)
    with capture_logs() as logs:
        service.start()
    assert "run.not_recovered" in [line["event"] for line in logs]
    assert dict(service.ledger.leases()) == {"web": "r2"}, "nothing is given back that may be in use"
    service.stop()


def test_an_incident_that_cannot_be_read_hides_nothing_else(service: Service) -> None:
    for n in (1, 2):
        service.records.put_alone(Incident(f"i{n}", "default", "f", n, n, "open", "critical", "", (), (), (), n))
    with service.engine.begin() as c:
        c.execute(t.incidents.update().where(t.incidents.c.id == "i1").values(body=b"{"))
    port, value = StorePort(service), service.metrics.registry.get_sample_value
    assert [i.id for i in port.incidents().items] == [i.id for i in port.incidents(limit=1).items] == ["i2"]
    assert value("opsmend_incidents_open", {"severity": "critical"}) == 1.0
    assert value("opsmend_store_unreadable_rows_total", {"table": "incidents"}) == 1.0
    assert service.healer.turn() and port.services() == [] == port.breaches()


def test_a_store_that_is_away_is_no_bug(service: Service) -> None:
    with capture_logs() as logs:
        with service.engine.begin() as c:
            c.execute(sa.text("ALTER TABLE incidents RENAME TO gone"))
        try:
            wait(lambda: any(line["event"] == "healer.turn_failed" for line in logs))
        finally:
            with service.engine.begin() as c:
                c.execute(sa.text("ALTER TABLE gone RENAME TO incidents"))
    said = next(line for line in logs if line["event"] == "healer.turn_failed")
    assert (said["reason"], said["place"]) == ("store", "incidents")
    assert bugs(service, "incidents") == 0
    assert is_alive(service)


@pytest.fixture
def busy(service: Service) -> Iterator[Service]:
    """Somebody has every connection to the database, and nobody waits for one for long."""
    service.engine.pool._timeout = 0.05  # type: ignore[attr-defined]
    held = []
    while len(held) < 15:
        with contextlib.suppress(sa.exc.TimeoutError):
            held.append(service.engine.raw_connection())
    yield service
    for connection in held:
        connection.close()


def test_a_database_that_is_busy_is_no_bug(busy: Service) -> None:
    assert busy.healer.turn(), "no reason to pause"
    with pytest.raises(StoreBusy):
        busy.ledger.control()

    def put_off(place: str) -> float:
        found = [s.value for m in busy.metrics._put_off.collect() for s in m.samples
                 if s.labels == {"reason": "store_busy", "place": place}]
        return found[0] if found else 0.0

    assert put_off("incidents") >= 1 and put_off("repairs") >= 1
    assert not [s for m in busy.metrics._bugs.collect() for s in m.samples if s.value]


async def test_the_api_says_that_it_is_busy(busy: Service) -> None:
    transport = httpx.ASGITransport(create_app(StorePort(busy)))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        for path in ("plans", "incidents"):
            answer = await client.get(f"/api/v1/{path}")
            assert (answer.status_code, answer.json()["reason"]) == (503, "store_busy")
