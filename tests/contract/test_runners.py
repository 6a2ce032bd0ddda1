"""What every runner promises: the same input gives the same incidents, whoever runs the steps and however spread.

The input is a small system in an outage: spans, metrics, logs with a template that was never seen, a roll-out and an
alert. Records are given out in the same order everywhere; how they are cut into polls is up to each runner.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from detect.config import DetectionConfig
from ingest.transports.config import TransportConfig
from ingest.transports.registry import open_consumer, open_producer
from opsmend.lab.kafka import KafkaBroker, why_not
from opsmend.pipeline import Pipeline, PipelineConfig
from opsmend.runners.local import LocalRunner, LocalRunnerConfig
from opsmend.store.engine import open_engine
from opsmend.store.queries import Queries
from opsmend.store.records import Records
from rootcause.graph import GraphConfig

SECONDS, DOWN_FROM, DOWN_UNTIL = 140, 90, 115
CALLS = (("gateway", "orders"), ("orders", "cart"), ("orders", "payments"))
SERVICES = ("gateway", "orders", "cart", "payments")
CONFIG = PipelineConfig(
    detection=DetectionConfig(bucket_seconds=1.0, allowed_lateness_seconds=2.0),
    graph=GraphConfig(edges=CALLS[:1]))  # the others show in spans
pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning"),
]


def second(start: int, n: int) -> list[bytes]:
    """The records of one second."""
    is_down = DOWN_FROM <= n < DOWN_UNTIL
    rows: list[dict[str, Any]] = []
    for i in range(40):
        service = SERVICES[(n + i) % 4]
        if service == "cart" and is_down:
            continue
        rows.append({"type": "log", "ts": start + n + i / 50, "service": service, "level": "info",
                     "message": f"request {n * 31 + i} of customer {i * 7919 % 997} took {(n + i) % 13} ms"})
        if is_down and service == "orders":
            rows.append({"type": "log", "ts": start + n + i / 50, "service": service, "level": "error",
                         "message": f"connection to cart-{i % 3} refused after {i} ms: retries exhausted"})
    for service in SERVICES:
        gone = is_down and service == "cart"
        for name, value in (("process.up", 0.0 if gone else 1.0), ("process.restarts", 0.0),
                            ("process.cpu.utilization", 0.2 + n % 7 / 100)):
            rows.append({"type": "metric", "ts": start + n + 0.5, "service": service, "instance": f"{service}-1",
                         "name": name, "value": value})
    for i in range(10):
        for caller, callee in CALLS:
            failed = is_down and caller == "orders" and callee == "cart"
            rows.append({"type": "span", "ts": start + n + i / 20, "service": caller, "peer": callee, "kind": 3,
                         "duration_us": 20_000 + (n + i) % 5 * 1000 + 400_000 * failed, "error": failed,
                         "trace_id": f"{n:08x}{i:08x}", "span_id": f"{n:08x}{i:04x}{CALLS.index((caller, callee)):04x}"})
        rows.append({"type": "span", "ts": start + n + i / 20, "service": "gateway", "kind": 2,
                     "duration_us": 50_000 + 450_000 * is_down, "error": is_down, "trace_id": f"{n:08x}{i:08x}",
                     "span_id": f"a{n:07x}{i:08x}"})
    lines = [json.dumps(row).encode() for row in rows]
    return [b"\n".join(lines[i:i + 20]) for i in range(0, len(lines), 20)]


@dataclass
class Stream:
    """Three parts, each to be read before the next one is sent: when an alert counts depends on what came before."""

    start: int

    def parts(self) -> list[list[tuple[str, bytes]]]:
        at = self.start + DOWN_FROM + 8
        alert = {"version": "4", "status": "firing", "receiver": "opsmend", "groupKey": "g", "alerts": [{
            "status": "firing", "labels": {"alertname": "TooManyErrors", "service": "gateway", "severity": "critical"},
            "annotations": {}, "startsAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)),
            "endsAt": "0001-01-01T00:00:00Z", "fingerprint": "f1"}]}
        change = {"type": "change", "ts": self.start + DOWN_FROM - 2, "service": "cart", "kind": "rollout", "ref": "v2"}
        first = [("telemetry", r) for n in range(DOWN_FROM + 8) for r in second(self.start, n)]
        # A record that nobody can read, in the middle of the others.
        first.insert(200, ("telemetry", b"\xfe\xff\x00 not text"))
        first.append(("telemetry", json.dumps(change).encode()))
        rest = [("telemetry", r) for n in range(DOWN_FROM + 8, SECONDS) for r in second(self.start, n)]
        return [first, [("telemetry", json.dumps(alert).encode())], rest]


def outcome(engine: sa.Engine) -> dict[str, Any]:
    """What is stored in the end, but for the position."""
    queries = Queries(engine)
    incidents = {i.id: (i.services, i.title, i.opened_ns, i.closed_ns, i.state, i.severity,
                        sorted((s.id, s.kind, s.start_ns, s.count, s.is_open) for s in i.signals))
                 for i in queries.incidents(limit=100)}
    # How often an incident was diagnosed on the way depends on the polls; the service in front must not.
    causes = {i: queries.diagnoses(i)[0].suspects[0].service for i in incidents}
    seen = queries.observations(0, 2**62)
    points = {(ts, key): round(float(value), 9) for ts, row in zip(seen.ts_ns.tolist(), seen.values, strict=True)
              for key, value in zip(seen.series, row, strict=True) if not np.isnan(value)}
    totals = queries.totals()
    changes = [(c.ts_ns, c.service, c.ref) for c in queries.changes(0, 2**62)]
    refused = [(d.reason, d.value) for d in queries.dead_letters()]
    return {"incidents": incidents, "causes": causes, "points": points, "changes": changes, "refused": refused,
            "totals": totals}


def run_local(directory: Path, transport: TransportConfig, stream: Stream) -> dict[str, Any]:
    engine = open_engine(f"sqlite:///{directory / 'opsmend.db'}")
    consumer = open_consumer(transport)
    runner = LocalRunner(LocalRunnerConfig(max_poll_ms=100), consumer, lambda: Pipeline(CONFIG),
                         Records(engine, retention_seconds=3600), Queries(engine))
    runner.recover()
    send(transport, stream, lambda sent: wait(lambda: (runner.turn(), Queries(engine).totals().get("records") == sent)[1]))
    found = outcome(engine)
    consumer.close()
    engine.dispose()
    return found


def run_quix(directory: Path, transport: TransportConfig, stream: Stream, shards: int) -> dict[str, Any]:
    from opsmend.runners.quix import QuixWorkers
    from opsmend.runners.quix_conclude import TenantPipeline
    from opsmend.runners.quix_settings import SIGNALS, QuixConfig

    config = QuixConfig(transport, "default", 1.0, 2.0, directory / "state", shards=shards, commit_seconds=0.3)
    failed: list[BaseException] = []
    workers = QuixWorkers(config, CONFIG.decoder, CONFIG.detection, "worker", on_failure=failed.append)
    workers.start()
    engine = open_engine(f"sqlite:///{directory / 'opsmend.db'}")
    consumer = open_consumer(replace(transport, topics=(SIGNALS,), group_id="conclude"))
    runner = LocalRunner(LocalRunnerConfig(max_poll_ms=100), consumer, lambda: TenantPipeline(CONFIG, shards),
                         Records(engine, retention_seconds=3600), Queries(engine))
    runner.recover()
    stop = threading.Event()
    turning = threading.Thread(target=lambda: [runner.turn() for _ in iter(stop.is_set, True)])
    turning.start()
    try:
        def is_read(sent: int) -> bool:
            assert not failed
            return workers.packed == sent

        send(transport, stream, lambda sent: wait(lambda: is_read(sent)))
        last = stream.start + SECONDS - 1 + 0.78  # the newest row
        wait(lambda: runner.pipeline.detection.closed_until >= int(last - 2.0))  # type: ignore[union-attr]
        wait(lambda: Queries(engine).newest_observation_ns() >= int(last - 3.0) * 10**9)
    finally:
        stop.set()
        turning.join()
        workers.stop()
        consumer.close()
    detection = runner.pipeline.detection
    assert (detection.missed, detection.repeated) == (0, 0)  # type: ignore[union-attr]
    found = outcome(engine)
    engine.dispose()
    return found


def send(transport: TransportConfig, stream: Stream, is_read: Callable[[int], None]) -> None:
    producer = open_producer(transport)
    sent = 0
    for part in stream.parts():
        for topic, value in part:
            producer.send(topic, value, key=b"one partition")
        producer.flush(30)
        sent += len(part)
        is_read(sent)
    producer.close()


def wait(check: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def stream() -> Stream:
    return Stream(int(time.time()) - 600)


@pytest.fixture(scope="module")
def reference(stream: Stream, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    directory = tmp_path_factory.mktemp("embedded")
    return run_local(directory, TransportConfig(topics=("telemetry",), data_dir=str(directory / "log"), partitions=1), stream)


@pytest.fixture
def broker() -> Iterator[TransportConfig]:
    if reason := why_not():
        pytest.skip(f"NOT TESTED against Kafka: {reason}")
    with KafkaBroker() as running:
        yield TransportConfig(kind="kafka", topics=("telemetry",), bootstrap_servers=running.bootstrap_servers,
                              session_timeout_seconds=6.0)


def test_the_reference_finds_the_outage(reference: dict[str, Any], stream: Stream) -> None:
    ((services, title, opened_ns, _, _, severity, signals),) = reference["incidents"].values()
    assert {"cart", "orders", "gateway"} <= set(services)
    assert title
    assert severity == "critical"
    assert stream.start + DOWN_FROM <= opened_ns / 1e9 <= stream.start + DOWN_FROM + 5
    assert {"process.down", "error_ratio", "log_template", "alert"} <= {kind for _, kind, *_ in signals}
    assert list(reference["causes"].values()) == ["cart"]
    assert reference["totals"]["dead"] == len(reference["refused"]) == 1
    assert reference["totals"].get("late", 0) == 0


@pytest.mark.kafka
def test_local_over_kafka_finds_the_same(reference: dict[str, Any], stream: Stream, tmp_path: Path,
                                         broker: TransportConfig) -> None:
    assert run_local(tmp_path, broker, stream) == reference


@pytest.mark.kafka
@pytest.mark.parametrize("shards", [1, 5])
def test_the_distributed_engine_finds_the_same(reference: dict[str, Any], stream: Stream, tmp_path: Path,
                                               broker: TransportConfig, shards: int) -> None:
    pytest.importorskip("quixstreams", reason="NOT TESTED: the extra `scale` is not installed")
    found = run_quix(tmp_path, broker, stream, shards)
    for what, wanted in reference.items():
        assert found[what] == wanted, what
