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
    """Of the counter alone: a scrape of everything would read the incidents."""
    return sum(sample.value for family in service.metrics._bugs.collect() for sample in family.samples
               if sample.name == "opsmend_remediate_bugs_total" and sample.labels == {"place": place})


def is_alive(service: Service) -> bool:
    return service.healer._thread.is_alive()


def broken_row(service: Service) -> None:
    """An open incident that can't be read."""
    with service.engine.begin() as c:
        c.execute(t.incidents.insert().values(id="broken", tenant="default", state="open", severity="info", opened_ns=1,
                                              updated_ns=1, body=b"{"))


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
        c.execute(t.incidents.delete().where(t.incidents.c.id == "broken"))
    assert service.healer.turn(), "whole again"


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
