"""kill -9 of the service, and of the producer, at random moments: every record is counted exactly once.

OPSMEND_CHAOS_KILLS says how often (`make chaos N=200`), OPSMEND_CHAOS_SEED repeats a run.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from ingest.transports.config import TransportConfig
from ingest.transports.embedded import EmbeddedConsumer
from ingest.transports.embedded_log import _skip_frames, segments
from ingest.transports.registry import open_consumer
from ingest.types import Record, Watermark
from opsmend.compose import pipeline_config
from opsmend.config import load
from opsmend.journal import read_polls
from opsmend.lab.kafka import KafkaBroker, why_not
from opsmend.lab.processes import write_atomic
from opsmend.pipeline import Pipeline
from opsmend.store.engine import open_engine
from opsmend.store.queries import Queries
from opsmend.store.records import Records

HERE = Path(__file__).parent
KILLS = int(os.environ.get("OPSMEND_CHAOS_KILLS", "6"))
SEED = int(os.environ.get("OPSMEND_CHAOS_SEED", "0") or 0) or random.randrange(1, 10**6)
BUG = "this line trips a bug"

pytestmark = [
    pytest.mark.timeout(180 + 15 * KILLS),
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning"),
]


@dataclass
class Chaos:
    """One service and one producer on a directory; both can be killed and started again."""

    directory: Path
    transport: TransportConfig
    dice: random.Random = field(default_factory=lambda: random.Random(SEED))
    service: subprocess.Popen[bytes] | None = None
    producer: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        kafka = f'[ingest.kafka]\nbootstrap_servers = "{self.transport.bootstrap_servers}"\n'
        self.toml = self.directory / "opsmend.toml"
        self.toml.write_text(
            f'[service]\ndata_dir = "{self.directory}"\nlisten = "127.0.0.1:0"\n'
            f'[ingest]\ntransport = "{self.transport.kind}"\n{kafka}'
            "[detect]\nbucket_seconds = 1.0\nallowed_lateness_seconds = 2.0\n"
            '[topology]\nedges = [["gateway", "orders"], ["orders", "cart"], ["orders", "payments"]]\n'
            '[repair]\nexecutor = "memory"\n')
        self.plan = self.directory / "produce.json"
        self.until, self.acknowledged = self.directory / "until", self.directory / "acknowledged"
        self.plan.write_text(json.dumps({
            "transport": asdict(self.transport), "records_per_second": 150,
            "until": str(self.until), "acknowledged": str(self.acknowledged)}))
        self.engine = open_engine(f"sqlite:///{self.directory / 'opsmend.db'}")
        self.queries = Queries(self.engine)

    def start_service(self) -> None:
        (self.directory / "service.json").unlink(missing_ok=True)
        with (self.directory / "opsmend.log").open("ab") as log:
            self.service = subprocess.Popen(
                [sys.executable, str(HERE / "service_with_bug.py"), "run", "-c", str(self.toml),
                 "--record", str(self.directory / "run.journal")],
                env={**os.environ, "OPSMEND_CHAOS_BUG": BUG}, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def start_producer(self, how: str = "produce") -> None:
        self.producer = subprocess.Popen([sys.executable, str(HERE / "telemetry.py"), how, str(self.plan)])

    def counted(self) -> int:
        return self.queries.totals().get("records", 0)

    def wait(self, check: Callable[[], Any], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not check():
            assert self.service is None or self.service.poll() is None, self.log()
            assert self.producer is None or not self.producer.poll(), "the producer failed"
            assert time.monotonic() < deadline, f"seed {SEED}: {self.log()}"
            time.sleep(0.02)

    def log(self) -> str:
        return (self.directory / "opsmend.log").read_text(errors="replace")[-3000:]

    def kill_service(self, *, in_the_middle: bool) -> None:
        """At a random moment after the start, or after it has begun to count."""
        assert self.service is not None
        if in_the_middle:
            before = self.counted()
            self.wait(lambda: self.counted() > before)
            time.sleep(self.dice.uniform(0, 0.6))
        else:
            time.sleep(self.dice.uniform(0, 2.5))
        assert self.service.poll() is None, self.log()
        self.service.kill()
        self.service.wait()
        # What the store says at this moment, whatever the kill cut in two, belongs together.
        position = Records(self.engine, retention_seconds=3600).watermark()
        assert self.counted() == sum(position.next_offsets.values()), f"seed {SEED}"

    def finish(self, total: int) -> None:
        """Let the producer end at `total` and the service catch up; then stop it cleanly."""
        assert self.producer is not None
        assert self.service is not None
        write_atomic(self.until, str(total).encode())  # the producer reads it at any moment
        assert self.producer.wait(60) == 0
        self.wait(lambda: self.counted() >= total, 90)
        self.service.send_signal(signal.SIGTERM)
        assert self.service.wait(30) == 0, self.log()

    def check(self, records: list[Record]) -> None:
        """The store against what was produced, and against an undisturbed run over the same records."""
        total = len(records)
        told = subprocess.run([sys.executable, str(HERE / "telemetry.py"), "expect", str(total)],
                              capture_output=True, text=True, check=True)
        expected = json.loads(told.stdout)
        totals = self.queries.totals()
        letters = self.queries.dead_letters(limit=100_000)
        offset_of = {int(dict(r.headers)["n"]): r.offset for r in records}
        assert sorted(offset_of) == list(range(total)), f"seed {SEED}"
        for what in ("records", "logs", "points"):
            assert totals[what] == expected[what], f"seed {SEED}: {what}"
        assert totals["dead"] == len(letters) == len(expected["undecodable"]) + len(expected["bugs"])
        for reason, numbers in (("unknown_format", expected["undecodable"]), ("step_failed", expected["bugs"])):
            assert sorted(x.offset for x in letters if x.reason == reason) == sorted(offset_of[n] for n in numbers)
        assert totals.get("late", 0) == 0
        found = {i.id: (i.opened_ns, i.state, i.title) for i in self.queries.incidents(limit=1000)}
        assert found
        sound = [r for r in records if BUG.encode() not in r.value]
        assert self.undisturbed([sound[i:i + 50] for i in range(0, len(sound), 50)]) == found, f"seed {SEED}"

    def undisturbed(self, polls: list[list[Record]]) -> dict[str, Any]:
        pipeline = Pipeline(pipeline_config(load(self.toml)))
        found: dict[str, Any] = {}
        for records in polls:
            found.update((i.id, (i.opened_ns, i.state, i.title)) for i in pipeline.step(records).incidents)
        return found

    def end(self) -> None:
        for process in (self.service, self.producer):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        self.engine.dispose()


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Chaos]:
    config = TransportConfig(topics=("logs",), data_dir=str(tmp_path / "transport"), partitions=1)
    chaos = Chaos(tmp_path, config)
    yield chaos
    chaos.end()


def tear(chaos: Chaos) -> None:
    """A producer that the kernel kills in the middle of a write, leaving half a frame behind."""
    assert chaos.producer is not None
    chaos.start_producer("tear")
    assert chaos.producer.wait(60) == -signal.SIGXFSZ
    (path,) = (path for _, path in segments(chaos.directory / "transport" / "logs" / "0"))
    assert path.stat().st_size > _skip_frames(path, 0)[1], "the write was not torn"


def test_every_record_is_counted_once_whoever_is_killed(embedded: Chaos) -> None:
    chaos = embedded
    chaos.start_producer()
    for kill in range(KILLS):
        chaos.start_service()
        chaos.kill_service(in_the_middle=kill % 2 == 0)
        if kill % 3 == 1:
            assert chaos.producer is not None
            chaos.producer.kill()
            chaos.producer.wait()
            if kill % 6 == 1:
                tear(chaos)
            chaos.start_producer()
    chaos.start_service()
    acknowledged = int(chaos.acknowledged.read_text())
    chaos.finish(acknowledged + 400 - acknowledged % 20)
    consumer = EmbeddedConsumer(chaos.transport)
    consumer.start(Watermark({("logs", 0): 0}))
    records = []
    while found := consumer.poll(50_000, 100):
        records += found
    assert len(records) >= acknowledged + 380, "records that were acknowledged are gone"
    chaos.check(records)
    # The journal was torn by the kills as well; it holds each record once, and tells the same story.
    polls = [[r for r in poll if BUG.encode() not in r.value] for poll in read_polls(chaos.directory / "run.journal")]
    told = chaos.undisturbed(polls)
    assert told == {i.id: (i.opened_ns, i.state, i.title) for i in chaos.queries.incidents(limit=1000)}


@pytest.mark.kafka
def test_every_record_is_counted_once_over_kafka(tmp_path: Path) -> None:
    if reason := why_not():
        pytest.skip(f"NOT TESTED against Kafka: {reason}")
    with KafkaBroker() as broker:
        config = TransportConfig(kind="kafka", topics=("logs",), bootstrap_servers=broker.bootstrap_servers)
        chaos = Chaos(tmp_path, config)
        try:
            chaos.start_producer()
            for kill in range(max(2, KILLS // 3)):
                chaos.start_service()
                chaos.kill_service(in_the_middle=kill % 2 == 0)
            chaos.start_service()
            acknowledged = int(chaos.acknowledged.read_text())
            total = acknowledged + 400
            chaos.finish(total)
            consumer = open_consumer(TransportConfig(**{**asdict(config), "group_id": "checker"}))
            consumer.start(Watermark())
            records: list[Record] = []
            deadline = time.monotonic() + 30
            while len(records) < chaos.counted() and time.monotonic() < deadline:
                records += consumer.poll(10_000, 200)
            consumer.close()
            chaos.check(records)
        finally:
            chaos.end()


def test_a_bug_that_hits_everything_ends_the_service_with_an_error(embedded: Chaos) -> None:
    """Not one record is lost: the next version reads them all."""
    chaos = embedded
    (chaos.directory / "transport" / "logs" / "0").mkdir(parents=True)
    with (chaos.directory / "err").open("wb") as err:
        chaos.service = subprocess.Popen(
            [sys.executable, str(HERE / "service_with_bug.py"), "run", "-c", str(chaos.toml)],
            env={**os.environ, "OPSMEND_CHAOS_BUG": "request"}, stdin=subprocess.DEVNULL, stderr=err)
        chaos.wait((chaos.directory / "service.json").exists)
        url = json.loads((chaos.directory / "service.json").read_text())["url"]
        chaos.wait(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        chaos.until.write_text("400")  # before it starts: on a slow machine it would be past that by the time we say it
        chaos.start_producer()
        assert chaos.service.wait(60) == 1
    told = (chaos.directory / "err").read_text()
    assert "opsmend: runner died: processing fails on too many records" in told.splitlines()[-1]
    assert "nothing was lost" in told.splitlines()[-1]
    assert chaos.queries.totals().get("logs", 0) == 0
    assert [x for x in chaos.queries.dead_letters() if x.reason == "step_failed"] == []
    chaos.start_service()
    chaos.finish(400)
    assert isinstance(chaos.engine, sa.Engine)
    assert chaos.counted() == 400
