"""kill -9 of a worker of the distributed engine: another one takes over, with an empty state directory, and every line
counts once.

OPSMEND_CHAOS_KILLS says how often. What was counted and how long each take-over took goes to the file that
OPSMEND_CHAOS_JSON names.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from detect.config import DetectionConfig
from ingest.transports.config import TransportConfig
from ingest.transports.registry import open_consumer, open_producer
from opsmend.lab.kafka import KafkaBroker, why_not
from opsmend.pipeline import PipelineConfig
from opsmend.runners.local import LocalRunner, LocalRunnerConfig
from opsmend.store.engine import open_engine
from opsmend.store.queries import Queries
from opsmend.store.records import Records

OPSMEND = [sys.executable, "-c", "from opsmend.cli import main; main()"]
KILLS = max(1, int(os.environ.get("OPSMEND_CHAOS_KILLS", "3")) // 3)
SHARDS, SERVICES, LINES, RECORDS_PER_SECOND = 4, 12, 10, 100
WITHIN_SECONDS = 15.0
pytestmark = [
    pytest.mark.kafka, pytest.mark.timeout(180 + 40 * KILLS),
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning"),
]


class Scene:
    """A broker, two workers, a producer that never stops, and the tenant stage in this process."""

    def __init__(self, directory: Path, bootstrap_servers: str) -> None:
        from confluent_kafka.admin import AdminClient

        from opsmend.runners.quix_conclude import TenantPipeline
        from opsmend.runners.quix_settings import SIGNALS

        self.directory = directory
        self.transport = TransportConfig(kind="kafka", topics=("logs",), bootstrap_servers=bootstrap_servers)
        (directory / "opsmend.toml").write_text(
            f'[service]\nrunner = "quix"\ndata_dir = "{directory}"\n[ingest]\ntransport = "kafka"\n'
            f'topics = [{{ name = "logs" }}]\n[ingest.kafka]\nbootstrap_servers = "{bootstrap_servers}"\n'
            f"[detect]\nbucket_seconds = 1.0\nallowed_lateness_seconds = 2.0\n[scale]\nshards = {SHARDS}\n")
        self.admin = AdminClient({"bootstrap.servers": bootstrap_servers})
        self.workers: list[subprocess.Popen[bytes]] = []
        self.states: dict[int, Path] = {}
        self.sent = 0
        self.stop = threading.Event()
        self.engine = open_engine(f"sqlite:///{directory / 'opsmend.db'}")
        detection = DetectionConfig(bucket_seconds=1.0, allowed_lateness_seconds=2.0)
        self.runner = LocalRunner(
            LocalRunnerConfig(max_poll_ms=100),
            open_consumer(TransportConfig(kind="kafka", topics=(SIGNALS,), group_id="conclude",
                                          bootstrap_servers=bootstrap_servers)),
            lambda: TenantPipeline(PipelineConfig(detection=detection), SHARDS),
            Records(self.engine, retention_seconds=3600), Queries(self.engine))
        self.has_ended = False
        self.threads = [threading.Thread(target=run, daemon=True) for run in (self.produce, self.conclude)]

    def start_worker(self) -> None:
        """Each with a state directory of its own, and empty."""
        state = self.directory / f"state-{len(self.states)}"
        with (self.directory / "workers.log").open("ab") as log:
            worker = subprocess.Popen(
                [*OPSMEND, "run", "-c", str(self.directory / "opsmend.toml"), "--role", "worker"],
                env={**os.environ, "OPSMEND_SCALE__STATE_DIR": str(state)}, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log)
        self.states[worker.pid] = state
        self.workers.append(worker)

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        worker.kill()
        worker.wait()
        self.workers.remove(worker)
        shutil.rmtree(self.states[worker.pid], ignore_errors=True)

    def produce(self) -> None:
        producer = open_producer(self.transport)
        while not self.stop.is_set():
            rows = [json.dumps({"type": "log", "ts": time.time(), "service": f"s{(self.sent + i) % SERVICES}",
                                "level": "info", "message": f"request {self.sent} took {i} ms"}) for i in range(LINES)]
            producer.send("logs", "\n".join(rows).encode(), key=b"%d" % (self.sent % 16))
            self.sent += 1
            if self.sent % 20 == 0:
                producer.flush()
            time.sleep(1 / RECORDS_PER_SECOND)
        producer.flush(30)
        producer.close()

    def conclude(self) -> None:
        self.runner.recover()
        while not self.has_ended and (not self.stop.is_set() or self.counted() < self.sent * LINES):
            self.runner.turn()

    def counted(self) -> int:
        """Lines that the shards have told of."""
        return sum(self.runner.pipeline.detection.lines().values())  # type: ignore[union-attr]

    def closed_until(self) -> float:
        return float(self.runner.pipeline.detection.closed_until)  # type: ignore[union-attr]

    def wait(self, check: Callable[[], bool], seconds: float) -> float:
        begun = time.monotonic()
        while not check():
            dead = [w for w in self.workers if w.poll() is not None]
            assert not dead, self.log()
            assert time.monotonic() - begun < seconds, f"{self.counted()} of {self.sent * LINES} lines\n{self.log()}"
            time.sleep(0.05)
        return time.monotonic() - begun

    def log(self) -> str:
        return (self.directory / "workers.log").read_text(errors="replace")[-3000:]

    def end(self) -> None:
        self.has_ended = True
        self.stop.set()
        for worker in self.workers:
            worker.kill()
            worker.wait()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    pytest.importorskip("quixstreams", reason="NOT TESTED: the extra `scale` is not installed")
    if reason := why_not():
        pytest.skip(f"NOT TESTED against Kafka: {reason}")
    with KafkaBroker() as broker:
        make_topic(broker.bootstrap_servers, "logs", 4)
        scene = Scene(tmp_path, broker.bootstrap_servers)
        yield scene
        scene.end()
        scene.engine.dispose()


def make_topic(bootstrap_servers: str, name: str, partitions: int) -> None:
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    admin.create_topics([NewTopic(name, partitions)])[name].result(20)


def test_a_killed_worker_is_replaced_and_every_line_counts_once(scene: Scene) -> None:
    scene.start_worker()
    scene.start_worker()
    from opsmend.runners.quix_settings import QuixConfig, make_topics

    # The shards are made before the tenant stage asks for them.
    make_topics(QuixConfig(scene.transport, "default", 1.0, 2.0, scene.directory, shards=SHARDS))
    for thread in scene.threads:
        thread.start()
    took = []
    for _ in range(KILLS):
        scene.wait(lambda: time.time() - scene.closed_until() < 8, 120)
        scene.wait(lambda: len(owners(scene)) == 2, 60)  # both have shards
        time.sleep(2)
        killed_at = time.time()
        scene.kill(scene.workers[0])
        took.append(scene.wait(lambda at=killed_at: scene.closed_until() > at, 60))  # type: ignore[misc]
        scene.start_worker()
    scene.stop.set()
    for thread in scene.threads:
        # The last lines are told of when their buckets close, and no more time passes: a last record moves it on.
        if thread is scene.threads[0]:
            thread.join(30)
            move_on(scene)
        else:
            thread.join(60)
    detection = scene.runner.pipeline.detection
    told = {"kills": KILLS, "records": scene.sent, "lines": scene.sent * LINES, "lines_counted": scene.counted(),
            "judgements_repeated": detection.repeated, "judgements_missed": detection.missed,  # type: ignore[union-attr]
            "take_over_seconds": [round(t, 1) for t in took]}
    print(json.dumps(told))
    if path := os.environ.get("OPSMEND_CHAOS_JSON"):
        Path(path).write_text(json.dumps(told))
    lines = {f"s{i}": sum((n + k) % SERVICES == i for n in range(scene.sent) for k in range(LINES)) for i in range(SERVICES)}
    assert lines_per_shard(lines) == scene.runner.pipeline.detection.lines()  # type: ignore[union-attr]
    assert (detection.repeated, detection.missed) == (0, 0)  # type: ignore[union-attr]
    totals = Queries(scene.engine).totals()
    assert (totals["records"], totals["logs"]) == (scene.sent + 1, scene.sent * LINES)
    assert max(took) < WITHIN_SECONDS


def owners(scene: Scene) -> set[str]:
    """The members of the detecting group that have shards."""
    found = scene.admin.describe_consumer_groups(["opsmend-detect"])["opsmend-detect"].result(10)
    return {m.member_id for m in found.members if any(
        p.topic == "opsmend.envelopes" for p in m.assignment.topic_partitions)}


def lines_per_shard(lines: dict[str, int]) -> dict[int, int]:
    from opsmend.runners.quix_sharding import Sharding

    sharding = Sharding("default", SHARDS, envelope_rows=1, envelope_bytes=1)
    return {shard: sum(n for service, n in lines.items() if sharding.shard_of(service) == shard)
            for shard in range(SHARDS)}


def move_on(scene: Scene) -> None:
    """A record without log lines, ten seconds later."""
    producer = open_producer(scene.transport)
    row = {"type": "metric", "ts": time.time() + 10, "service": "s0", "name": "process.up", "value": 1.0}
    producer.send("logs", json.dumps(row).encode(), key=b"0")
    producer.flush(30)
    producer.close()
