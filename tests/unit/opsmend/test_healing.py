"""An error that nobody foresaw: the healer goes on, and says where it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from detect.types import Incident
from opsmend.config import Settings
from opsmend.port_store import StorePort
from opsmend.service import Service
from opsmend.store import tables as t
from remediate.types import Plan


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


def broken_row(service: Service) -> None:
    """An ended plan of an open incident that can't be read: whoever acts on the ledger must not do without it."""
    service.records.put_alone(Incident("i0", "default", "f", -(10**18), 1, "open", "info", "", (), (), (), 1))
    with service.engine.begin() as c:
        c.execute(t.plans.insert().values(id="broken", incident_id="i0", state="done", created_ns=1, body=b"{"))


def test_the_thread_goes_on_and_the_error_is_counted_by_its_place(service: Service) -> None:
    with capture_logs() as logs:
        broken_row(service)
        wait(lambda: bugs(service, "incidents") >= 1)
        wait(lambda: any(line["event"] == "healer.bug" for line in logs))
    said = next(line for line in logs if line["event"] == "healer.bug")
    assert said["place"] == "incidents"
    assert "DecodeError" in said["error"]
    assert is_alive(service)
    # What does not need the incidents is done meanwhile: a proposal whose time is over expires.
    closed = Incident("i1", "default", "f", 1, 2, "closed", "info", "", (), (), (), 1)
    service.records.put_alone(closed)
    service.ledger.put_plan(Plan("p1", "i1", 1, "restart", "h", "h", "Restart cart", "cart", "process.restart", {}, "rule",
                                 1.0, "", "low", True))
    service.healer.wake()
    wait(lambda: service.ledger.plans(incident_id="i1")[0].state == "expired")
    with service.engine.begin() as c:
        c.execute(t.plans.delete().where(t.plans.c.id == "broken"))
    assert service.healer.turn(), "whole again"


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
