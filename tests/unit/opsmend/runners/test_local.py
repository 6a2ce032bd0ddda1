"""The local runner on a real transport and a real store, with a pipeline that has a bug."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa
import structlog

from ingest.transports.config import TransportConfig
from ingest.transports.embedded import EmbeddedConsumer, EmbeddedProducer
from ingest.types import Change, Record
from opsmend.pipeline import Pipeline, PipelineConfig
from opsmend.runners.local import LocalRunner, LocalRunnerConfig
from opsmend.runners.poison import PoisonConfig, PoisonFlood
from opsmend.store.engine import open_engine
from opsmend.store.queries import Queries
from opsmend.store.records import Records, StepResult

CONFIG = PipelineConfig()
BUG = b'{"type":"log","service":"cart","message":"BUG"}'


class Buggy(Pipeline):
    """Raises on every batch that holds a record with BUG in it."""

    def step(self, records: Sequence[Record]) -> StepResult:
        for record in records:
            if b"BUG" in record.value:
                raise ZeroDivisionError("a bug of ours")
        return super().step(records)


@dataclass
class Machine:
    """A directory with a transport and a store; runners come and go."""

    directory: Path
    engine: sa.Engine

    def __post_init__(self) -> None:
        self.transport = TransportConfig(topics=("logs",), data_dir=str(self.directory / "transport"), partitions=2)
        self.queries = Queries(self.engine)
        for partition in "01":  # a topic that appears later is found after a second: there is no need to wait
            (self.directory / "transport" / "logs" / partition).mkdir(parents=True)

    def produce(self, values: Sequence[bytes]) -> None:
        producer = EmbeddedProducer(self.transport)
        for value in values:
            producer.send("logs", value)
        producer.close()

    def start(self, pipeline: type[Pipeline] = Buggy, **poison: int) -> LocalRunner:
        runner = LocalRunner(LocalRunnerConfig(max_poll_ms=1, poison=PoisonConfig(**poison)),
                             EmbeddedConsumer(self.transport), lambda: pipeline(CONFIG),
                             Records(self.engine, retention_seconds=3600), self.queries)
        runner.recover()
        return runner

    def drain(self, runner: LocalRunner) -> None:
        while runner.turn():
            pass

    def totals(self) -> tuple[int, int, int]:
        """records, logs, dead"""
        totals = self.queries.totals()
        return totals.get("records", 0), totals.get("logs", 0), totals.get("dead", 0)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Formatting a hundred tracebacks takes longer than the tests."""
    with structlog.testing.capture_logs():
        yield


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    engine = open_engine(f"sqlite:///{tmp_path / 'opsmend.db'}")
    yield Machine(tmp_path, engine)
    engine.dispose()


def good(n: int, first: int = 0) -> list[bytes]:
    return [b'{"type":"log","service":"cart","ts":%d,"message":"line %d"}' % (1_800_000_000 + i, i)
            for i in range(first, first + n)]


def test_a_record_that_breaks_a_stage_is_set_aside_alone(machine: Machine) -> None:
    machine.produce([*good(50), BUG, *good(30, 50), BUG, *good(20, 80)])
    machine.drain(machine.start())
    assert machine.totals() == (102, 100, 2)
    letters = machine.queries.dead_letters()
    assert {(letter.reason, letter.value) for letter in letters} == {("step_failed", BUG)}
    assert "a bug of ours" in letters[0].detail


@pytest.mark.parametrize("others", [[], good(40)], ids=["last", "first"])
def test_a_record_set_aside_is_stored_though_nothing_else_comes(machine: Machine, others: list[bytes]) -> None:
    machine.produce([*others, BUG])
    machine.drain(machine.start())
    assert machine.totals() == (len(others) + 1, len(others), 1)
    machine.drain(machine.start())  # and not counted again
    assert machine.totals() == (len(others) + 1, len(others), 1)


def test_a_bug_that_hits_everything_stops_the_runner_and_nothing_is_lost(machine: Machine) -> None:
    machine.produce(good(10))
    machine.drain(machine.start())
    machine.produce([BUG] * 60)
    for _ in range(3):  # a supervisor that starts it again and again changes nothing
        with pytest.raises(PoisonFlood, match=r"bug or a broken model, not the data.*a bug of ours"):
            machine.drain(machine.start(max_at_once=5))
    assert machine.totals() == (10, 10, 0)
    machine.drain(machine.start(Pipeline))  # the repaired version
    assert machine.totals() == (70, 70, 0)


def test_a_slow_flood_is_stopped_across_restarts(machine: Machine) -> None:
    """One record at a time, so that each is stored before the next comes: the count goes on after a restart."""
    runner = machine.start(max_at_once=4)
    for n in range(4):
        machine.produce([BUG])
        machine.drain(runner)
        assert machine.totals() == (n + 1, 0, n + 1)
        runner = machine.start(max_at_once=4)
    machine.produce([BUG])
    with pytest.raises(PoisonFlood):
        machine.drain(runner)
    with pytest.raises(PoisonFlood):
        machine.drain(machine.start(max_at_once=4))
    assert machine.totals() == (4, 0, 4)
    machine.drain(machine.start(Pipeline, max_at_once=4))
    assert machine.totals() == (5, 1, 4)


def test_good_records_earn_failures_back(machine: Machine) -> None:
    runner = machine.start(max_at_once=2, good_per_poison=10)
    for n in range(10):
        machine.produce([*good(25, n * 25), BUG])
        machine.drain(runner)
    assert machine.totals() == (260, 250, 10)
    machine.produce([*good(3), BUG, *good(3), BUG, *good(3), BUG])
    with pytest.raises(PoisonFlood):
        machine.drain(runner)


class Unstorable(Pipeline):
    """Makes of one record a result that no database takes."""

    def step(self, records: Sequence[Record]) -> StepResult:
        result = super().step(records)
        if any(b"BUG" in r.value for r in records):
            object.__setattr__(result, "changes", (Change(2**70, "cart", "rollout"),))
        return result


def test_what_the_store_refuses_is_set_aside_too(machine: Machine) -> None:
    machine.produce([*good(20), BUG, *good(20, 20)])
    machine.drain(machine.start(Unstorable))
    assert machine.totals() == (41, 40, 1)
    assert len(machine.queries.changes(0, 2**62)) == 0


def test_a_failing_commit_to_the_transport_counts_nothing_twice(machine: Machine, tmp_path: Path) -> None:
    machine.produce(good(20))
    runner = machine.start()
    (tmp_path / "transport" / "_groups").chmod(0o500)
    (tmp_path / "transport" / "_groups" / "opsmend.json").mkdir()
    with pytest.raises(OSError, match="opsmend"):
        machine.drain(runner)
    (tmp_path / "transport" / "_groups" / "opsmend.json").rmdir()
    (tmp_path / "transport" / "_groups").chmod(0o700)
    assert machine.totals() == (20, 20, 0)
    machine.drain(machine.start())
    assert machine.totals() == (20, 20, 0)


def test_a_stop_while_the_store_is_away_leaves_no_gap(machine: Machine) -> None:
    """Stopped in the middle of isolating a record: the halves after the one that was not stored are not stored."""
    machine.produce([*good(30), BUG, *good(30, 30)])
    runner = machine.start()
    commit = runner._records.commit
    calls: list[int] = []

    def away_once(step: StepResult) -> None:
        calls.append(1)
        if len(calls) == 1:
            runner.stop()
            raise sa.exc.OperationalError("insert", {}, Exception("disk I/O error"))
        commit(step)

    runner._records.commit = away_once  # type: ignore[method-assign]
    runner.run()
    assert machine.totals() == (0, 0, 0)
    machine.drain(machine.start())
    assert machine.totals() == (61, 60, 1)


def test_what_a_person_asked_for_survives_a_failing_step(machine: Machine) -> None:
    machine.produce(good(10))
    runner = machine.start()
    machine.drain(runner)
    asked: list[Pipeline] = []
    change: Callable[[Pipeline], None] = asked.append
    runner.ask(change)
    machine.produce([BUG])
    machine.drain(runner)
    assert asked[-1] is runner.pipeline  # the pipeline that came back from the store was asked as well


def test_a_store_that_is_busy_is_waited_for_and_no_record_is_blamed(machine: Machine) -> None:
    engine = sa.create_engine(machine.engine.url, pool_size=1, max_overflow=0, pool_timeout=0.05)
    machine.queries = Queries(machine.engine)
    runner = LocalRunner(LocalRunnerConfig(max_poll_ms=1, store_retry_seconds=0.05), EmbeddedConsumer(machine.transport),
                         lambda: Pipeline(CONFIG), Records(engine, retention_seconds=3600), machine.queries)
    runner.recover()
    machine.produce(good(30))
    held = engine.connect()
    freed = threading.Timer(0.5, held.close)
    freed.start()
    machine.drain(runner)
    freed.join()
    assert machine.totals() == (30, 30, 0)
    engine.dispose()
