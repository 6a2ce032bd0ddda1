"""A split or a merge counts once, whoever dies, and stands in the journal where it counted."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa
import structlog

from detect.config import DetectionConfig
from detect.types import Incident
from ingest.transports.config import TransportConfig
from ingest.transports.embedded import EmbeddedConsumer, EmbeddedProducer
from ingest.types import Record
from opsmend.corrections import TOPIC, Correction, of_record
from opsmend.journal import JournalWriter, read_polls
from opsmend.pipeline import Pipeline, PipelineConfig
from opsmend.runners.local import LocalRunner, LocalRunnerConfig
from opsmend.store.corrections import CorrectionLog
from opsmend.store.engine import open_engine
from opsmend.store.outbox import events_since
from opsmend.store.queries import Queries
from opsmend.store.records import Records, StepResult
from rootcause.graph import GraphConfig

START = 1_790_000_000
CONFIG = PipelineConfig(detection=DetectionConfig(bucket_seconds=1.0, allowed_lateness_seconds=0.0),
                        graph=GraphConfig(edges=(("front", "cart"),)))


def alert(name: str, service: str, second: int) -> dict[str, object]:
    return {"status": "firing", "labels": {"alertname": name, "service": service, "severity": "critical"},
            "annotations": {}, "startsAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(START + second)),
            "endsAt": "0001-01-01T00:00:00Z", "fingerprint": f"{name}-{service}"}


def tick(second: int) -> bytes:
    return b'{"type":"log","service":"front","ts":%d,"message":"all is well"}' % (START + second)


@dataclass
class Machine:
    """A transport, a store and a journal; runners come and go."""

    directory: Path
    engine: sa.Engine

    def __post_init__(self) -> None:
        self.transport = TransportConfig(topics=("in",), data_dir=str(self.directory / "transport"), partitions=1)
        (self.directory / "transport" / "in" / "0").mkdir(parents=True)
        self.queries, self.log = Queries(self.engine), CorrectionLog(self.engine)
        self.second = 0
        self.journals: list[JournalWriter] = []

    def start(self) -> LocalRunner:
        self.journals.append(JournalWriter(self.directory / "run.journal"))
        runner = LocalRunner(LocalRunnerConfig(max_poll_ms=1, look_seconds=0.0), EmbeddedConsumer(self.transport),
                             lambda: Pipeline(CONFIG), Records(self.engine, retention_seconds=3600), self.queries,
                             journal=self.journals[-1], corrections=self.log)
        runner.recover()
        return runner

    def feed(self, runner: LocalRunner, seconds: int, *alerts: tuple[str, str]) -> None:
        producer = EmbeddedProducer(self.transport)
        if alerts:
            fired = [alert(name, service, self.second) for name, service in alerts]
            producer.send("in", json.dumps({"version": "4", "status": "firing", "receiver": "r", "groupKey": "g",
                                            "alerts": fired}).encode())
        for _ in range(seconds):
            self.second += 1
            producer.send("in", tick(self.second))
        producer.close()
        while runner.turn():
            pass

    def broken(self, runner: LocalRunner) -> Incident:
        """One incident of two services."""
        self.feed(runner, 25)  # time is believed from twenty rows on
        self.feed(runner, 8, ("Errors", "front"), ("Slow", "cart"))
        (found,) = self.queries.incidents(state="open")
        assert {s.service for s in found.signals} == {"front", "cart"}
        return found

    def split(self, incident: Incident, new_id: str = "the-other") -> None:
        moved = tuple(s.id for s in incident.signals if s.service == "cart")
        self.log.append(Correction(f"c-{new_id}", "split", incident.id, "ana", incident.updated_ns, moved, new_id))

    def services(self) -> dict[str, list[str]]:
        return {i.id: sorted({s.service for s in i.signals}) for i in self.queries.incidents(state="open")}


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    engine = open_engine(f"sqlite:///{tmp_path / 'opsmend.db'}")
    with structlog.testing.capture_logs():
        made = Machine(tmp_path, engine)
        yield made
    for journal in made.journals:
        journal.close()
    engine.dispose()


def test_a_split_is_told_and_says_who_and_why(machine: Machine) -> None:
    runner = machine.start()
    incident = machine.broken(runner)
    machine.split(incident)
    runner.turn()  # nothing comes in: it is done nevertheless
    assert machine.services() == {incident.id: ["front"], "the-other": ["cart"]}
    new = machine.queries.incident("the-other")
    assert new is not None and new.split_from == incident.id and new.services == ("cart",)
    assert new.title == "Slow on cart" and new.members[0].why.startswith("split off by ana; before: ")
    assert [e.subject for e in events_since(machine.engine, 0) if e.type.endswith("incident.split")] == ["the-other"]
    machine.feed(runner, 20)
    assert machine.services() == {incident.id: ["front"], "the-other": ["cart"]}, "nobody puts them together again"
    machine.log.append(Correction("c2", "merge", "the-other", "lee", 0, other_id=incident.id))
    machine.feed(runner, 3)
    (whole,) = machine.queries.incidents(state="open")
    assert whole.id == incident.id and len(whole.signals) == 2
    gone = machine.queries.incident("the-other")
    assert gone is not None and (gone.state, gone.merged_into) == ("merged", incident.id)
    assert {m.why.partition(";")[0] for m in whole.members} == {"started it", "merged by lee"}


@pytest.mark.parametrize("new_id", ["0-sorts-first", "x-sorts-last"])
@pytest.mark.parametrize("quiet_seconds", [25, 150])
def test_an_alert_that_fires_again_stays_where_a_person_put_it(machine: Machine, new_id: str, quiet_seconds: int) -> None:
    runner = machine.start()
    incident = machine.broken(runner)
    machine.split(incident, new_id)
    machine.feed(runner, quiet_seconds)
    runner = machine.start()  # a restart in between
    machine.feed(runner, 5, ("Slow", "cart"), ("Errors", "front"))  # a new start each, at the same time
    machine.feed(runner, 25, ("Slow", "cart"))
    machine.feed(runner, 5, ("Slow", "cart"))  # and alone
    assert machine.services() == {incident.id: ["front"], new_id: ["cart"]}
    moved = machine.queries.incident(new_id)
    assert moved is not None and [s.series for s in moved.signals] == ["Slow"] * 3
    machine.log.append(Correction("c-m", "merge", new_id, "lee", 0, other_id=incident.id))
    machine.feed(runner, 30)
    machine.feed(runner, 5, ("Slow", "cart"))
    assert machine.services() == {incident.id: ["cart", "front"]}, "merged is merged as well"


def test_a_new_alert_goes_to_the_half_that_has_its_service(machine: Machine) -> None:
    runner = machine.start()
    incident = machine.broken(runner)
    machine.split(incident)
    machine.feed(runner, 25)
    machine.feed(runner, 5, ("Timeouts", "cart"), ("Queue", "front"))
    whole = {i.id: sorted(s.series for s in i.signals) for i in machine.queries.incidents(state="open")}
    assert whole == {incident.id: ["Errors", "Queue"], "the-other": ["Slow", "Timeouts"]}


def test_a_correction_that_was_stored_before_a_crash_is_done_after_it(machine: Machine) -> None:
    incident = machine.broken(machine.start())
    machine.split(incident)  # the process dies here
    second = machine.start()
    second.turn()
    assert machine.services() == {incident.id: ["front"], "the-other": ["cart"]}
    third = machine.start()  # and it is not done again
    machine.feed(third, 5)
    assert third.corrected == 1 and machine.services() == {incident.id: ["front"], "the-other": ["cart"]}


def test_a_step_that_fails_takes_no_correction_back(machine: Machine) -> None:
    runner = machine.start()
    incident = machine.broken(runner)
    machine.split(incident)
    runner.turn()
    runner._restore()  # what happens when a stage raises
    machine.feed(runner, 5)
    assert machine.services() == {incident.id: ["front"], "the-other": ["cart"]}


def test_a_correction_that_came_too_late_changes_nothing(machine: Machine) -> None:
    runner = machine.start()
    incident = machine.broken(runner)
    machine.log.append(Correction("c1", "close", incident.id, "ana", incident.updated_ns, reason="a drill"))
    machine.split(incident)
    machine.log.append(Correction("c3", "merge", "none", "ana", 0, other_id=incident.id))
    machine.feed(runner, 5)
    assert machine.services() == {} and runner.corrected == 3
    closed = machine.queries.incident(incident.id)
    assert closed is not None and closed.state == "closed" and not runner.pipeline.open_incidents
    assert (closed.closed_by, closed.closed_reason) == ("ana", "a drill")


def test_one_that_breaks_is_kept_and_counted_and_all_else_goes_on(
        machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = machine.start()
    incident = machine.broken(runner)
    whole = Pipeline.correct

    def correct(self: Pipeline, correction: Correction) -> StepResult:
        if correction.id == "c-bug":
            raise KeyError("a bug of ours")
        return whole(self, correction)

    monkeypatch.setattr(Pipeline, "correct", correct)
    machine.split(incident, "bug")  # its id becomes c-bug
    machine.split(incident, "the-other")
    machine.feed(runner, 5)
    assert machine.services() == {incident.id: ["front"], "the-other": ["cart"]}
    (letter,) = machine.queries.dead_letters(limit=10)
    assert (letter.topic, letter.offset, letter.reason) == (TOPIC, 1, "correction_failed")
    assert of_record(Record(TOPIC, 0, 1, 0, letter.value)).id == "c-bug"
    again = machine.start()
    machine.feed(again, 3)
    assert again.corrected == 2 and len(machine.queries.dead_letters(limit=10)) == 1, "a restart does not try it again"


class Died(BaseException):
    """kill -9, at a moment that we choose."""


def test_a_correction_made_while_a_poll_waited_for_its_second_chance_stands_before_it(machine: Machine) -> None:
    runner = machine.start()
    incident = machine.broken(runner)

    def die(result: StepResult) -> None:
        raise Died

    runner._records.commit = die  # type: ignore[method-assign]
    with pytest.raises(Died):  # its poll is in the journal, and nothing came of it
        machine.feed(runner, 6, ("MoreErrors", "front"))
    machine.log.append(Correction("c1", "close", incident.id, "ana", incident.updated_ns, reason="a drill"))
    machine.feed(machine.start(), 5)
    (after,) = machine.queries.incidents(state="open")
    assert [s.series for s in after.signals] == ["MoreErrors"], "the old one was closed before it came"
    assert replayed(machine) == {i.id: i for i in machine.queries.incidents()}


def test_a_correction_that_died_before_its_commit_stands_where_it_was_done(machine: Machine) -> None:
    runner = machine.start()
    incident = machine.broken(runner)
    machine.split(incident)
    runner._records.commit = lambda result: (_ for _ in ()).throw(Died)  # type: ignore[method-assign]
    with pytest.raises(Died):
        runner.turn()
    again = machine.start()
    machine.feed(again, 10, ("MoreErrors", "front"))
    assert replayed(machine) == {i.id: i for i in machine.queries.incidents()}
    assert sum(poll[0].topic == TOPIC for poll in read_polls(machine.directory / "run.journal")) == 1


def test_a_replay_of_the_journal_gives_the_same(machine: Machine) -> None:
    runner = machine.start()
    incident = machine.broken(runner)
    machine.split(incident)
    machine.feed(runner, 10, ("MoreErrors", "front"))
    found = replayed(machine)
    assert found == {i.id: i for i in machine.queries.incidents()}
    assert set(found) == {incident.id, "the-other"}


def replayed(machine: Machine) -> dict[str, Incident]:
    pipeline, found = Pipeline(CONFIG), dict[str, Incident]()
    for poll in read_polls(machine.directory / "run.journal"):
        result = pipeline.correct(of_record(poll[0])) if poll[0].topic == TOPIC else pipeline.step(poll)
        found.update((i.id, i) for i in result.incidents)
    return found
