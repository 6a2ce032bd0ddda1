"""A start from a store in which a state, or the name of a series, can't be read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from detect.config import DetectionConfig
from detect.types import Incident
from ingest.transports.config import TransportConfig
from ingest.transports.embedded import EmbeddedConsumer, EmbeddedProducer
from opsmend.config import Settings
from opsmend.corrections import Correction
from opsmend.pipeline import Pipeline, PipelineConfig
from opsmend.runners.local import LocalRunner, LocalRunnerConfig
from opsmend.runners.restoring import CORRECTED
from opsmend.service import Service
from opsmend.store import tables as t
from opsmend.store.bodies import Bodies
from opsmend.store.corrections import CorrectionLog
from opsmend.store.engine import open_engine
from opsmend.store.queries import Queries
from opsmend.store.records import Records

START = 1_790_000_000
CONFIG = PipelineConfig(detection=DetectionConfig(bucket_seconds=1.0, allowed_lateness_seconds=0.0))
BROKEN = [b"", b"\xc1", b"\x90", b"\x80", msgspec.msgpack.encode({"services": 1, "now": "x", "table": 3})]


@dataclass
class Machine:
    """A transport and a store; runners come and go."""

    directory: Path
    engine: sa.Engine
    told: Counter[str] = field(default_factory=Counter)
    second: int = 0

    def __post_init__(self) -> None:
        self.transport = TransportConfig(topics=("in",), data_dir=str(self.directory / "transport"), partitions=1)
        (self.directory / "transport" / "in" / "0").mkdir(parents=True)
        self.bodies = Bodies(lambda table: self.told.update([table]))
        self.queries = Queries(self.engine, self.bodies)
        self.corrections = CorrectionLog(self.engine, self.bodies)

    def start(self) -> LocalRunner:
        records = Records(self.engine, retention_seconds=3600, bodies=self.bodies)
        runner = LocalRunner(LocalRunnerConfig(max_poll_ms=1, look_seconds=0.0), EmbeddedConsumer(self.transport),
                             lambda: Pipeline(CONFIG), records, self.queries, corrections=self.corrections)
        runner.recover()
        return runner

    def feed(self, runner: LocalRunner, seconds: int, *, is_broken: bool = False) -> None:
        """A second is 40 requests; broken: with an alert, which is repeated."""
        producer = EmbeddedProducer(self.transport)
        for _ in range(seconds):
            self.second += 1
            now = START + self.second
            producer.send("in", b'{"type":"metric","service":"front","name":"requests","value":40,"ts":%d}' % now)
            if is_broken:
                alert = {"status": "firing", "labels": {"alertname": "Errors", "service": "front", "severity": "critical"},
                         "annotations": {}, "startsAt": "2026-09-21T13:33:00Z", "endsAt": "0001-01-01T00:00:00Z",
                         "fingerprint": "f"}
                producer.send("in", json.dumps({"version": "4", "status": "firing", "receiver": "r", "groupKey": "g",
                                                "alerts": [alert]}).encode())
        producer.close()
        while runner.turn():
            pass

    def breaks(self, stage: str, body: bytes) -> None:
        with self.engine.begin() as c:
            assert c.execute(t.stage_state.update().where(t.stage_state.c.stage == stage).values(body=body)).rowcount == 1

    def kept(self) -> list[tuple[str, bytes]]:
        with self.engine.begin() as c:
            return [(row.row, row.body) for row in c.execute(sa.select(t.quarantine).order_by(t.quarantine.c.seq))]

    def open(self) -> list[Incident]:
        return list(self.queries.incidents(state="open"))


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    engine = open_engine(f"sqlite:///{tmp_path / 'opsmend.db'}")
    yield Machine(tmp_path, engine)
    engine.dispose()


@pytest.mark.parametrize("body", BROKEN)
@pytest.mark.parametrize("stage", ["graph", "detect", "detectors", "runner.poison", CORRECTED])
def test_a_state_that_cannot_be_read_is_kept_told_and_begun_anew(machine: Machine, stage: str, body: bytes) -> None:
    machine.feed(machine.start(), 30)
    machine.breaks(stage, body)
    is_good = stage == "detectors" and body == b"\x80"  # an empty table is one of no detector
    with capture_logs() as logs:
        runner = machine.start()
    lost = ["detect", "detectors"] if stage == "detect" else [] if is_good else [stage]
    assert [line["id"] for line in logs if line["event"] == "store.unreadable_row"] == lost
    assert machine.told == ({"stage_state": len(lost)} if lost else {})
    kept = dict(machine.kept())
    assert sorted(kept) == sorted(lost) and all(kept[s] == body for s in lost if s == stage)
    machine.feed(runner, 30)
    assert machine.queries.totals()["records"] == 60, "nothing is read twice, and nothing is left out"
    assert set(runner.pipeline.graph.services) == {"front"}
    machine.start()
    assert len(machine.kept()) == len(lost), "whole again"


@pytest.mark.parametrize("stage", ["detect", "detectors"])
def test_an_incident_of_which_nobody_knows_any_more_ends_or_goes_on(machine: Machine, stage: str) -> None:
    runner = machine.start()
    machine.feed(runner, 25)
    machine.feed(runner, 6, is_broken=True)
    (before,) = machine.open()
    machine.breaks(stage, b"\xc1")
    runner = machine.start()
    machine.feed(runner, 25, is_broken=True)
    assert [i.id for i in machine.open()] == [before.id], "it goes on: nobody is woken a second time"
    assert any(s.is_open for s in machine.open()[0].signals)
    machine.breaks(stage, b"\xc1")
    machine.start()  # and dies before it reads anything
    machine.feed(machine.start(), 90)
    assert [i.id for i in machine.open()] == [before.id]
    machine.feed(machine.start(), 60)
    assert machine.open() == [] and machine.queries.incidents(state="closed")[0].id == before.id


def test_a_series_without_a_name_hides_itself_alone(machine: Machine) -> None:
    runner = machine.start()
    machine.feed(runner, 30)
    with machine.engine.begin() as c:
        ids = {msgspec.json.decode(row.key)["name"]: row.id for row in c.execute(sa.select(t.series))}
        c.execute(t.series.insert().values(id=max(ids.values()) + 1, key=b"\xff"))
        c.execute(t.series.update().where(t.series.c.id == ids["requests"]).values(key=b"{"))
    machine.queries = Queries(machine.engine, machine.bodies)
    with capture_logs() as logs:
        runner = machine.start()
    said = {line["id"] for line in logs if line["event"] == "store.unreadable_row" and line["table"] == "series"}
    assert said == {str(ids["requests"]), str(max(ids.values()) + 1)} and machine.told == {"series": 2}
    machine.feed(runner, 10)
    seen = machine.queries.observations(0, 2**62)
    assert [k.name for k in seen.series].count("requests") == 1, "the same name under a new number"
    with machine.engine.begin() as c:
        assert {row.key for row in c.execute(sa.select(t.series))} >= {b"{", b"\xff"}, "nothing is lost"


def test_a_correction_that_cannot_be_read_is_told_and_the_next_one_counts(machine: Machine) -> None:
    runner = machine.start()
    machine.feed(runner, 25)
    machine.feed(runner, 6, is_broken=True)
    (incident,) = machine.open()
    for n in (1, 2):
        machine.corrections.append(Correction(f"c{n}", "close", incident.id, "ana", incident.updated_ns, reason="a drill"))
    with machine.engine.begin() as c:
        c.execute(t.corrections.update().where(t.corrections.c.seq == 1).values(body=b"{"))
    runner.turn()
    assert machine.open() == [] and runner.corrected == 2
    assert machine.told == {"corrections": 1}


def test_corrections_that_were_done_change_nothing_when_their_number_is_lost(machine: Machine) -> None:
    runner = machine.start()
    machine.feed(runner, 25)
    machine.feed(runner, 6, is_broken=True)
    (incident,) = machine.open()
    machine.corrections.append(Correction("c1", "close", incident.id, "ana", incident.updated_ns, reason="a drill"))
    runner.turn()
    machine.feed(runner, 5)
    before = machine.queries.incidents()
    machine.breaks(CORRECTED, b"\xc1")
    runner = machine.start()
    machine.feed(runner, 1)
    assert runner.corrected == 1 and machine.queries.incidents() == before


def test_the_service_starts_and_says_so(tmp_path: Path) -> None:
    settings = Settings.model_validate({"service": {"data_dir": tmp_path}, "repair": {"executor": "memory"}})
    first = Service(settings)
    first.start()
    first.runner.stop()
    first.stop()
    with (engine := open_engine(settings.store_url)).begin() as c:
        c.execute(t.stage_state.insert().values(stage="detect", body=b"\xc1"))
        c.execute(t.series.insert().values(key=b"{"))
    engine.dispose()
    service = Service(settings)
    service.start()
    value = service.metrics.registry.get_sample_value
    assert value("opsmend_store_unreadable_rows_total", {"table": "series"}) == 1
    assert value("opsmend_store_unreadable_rows_total", {"table": "stage_state"}) == 2
    assert service.readiness()["runner"] == ""
    service.stop()
