"""The door for telemetry over HTTP, on a real embedded transport."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from ingest.errors import Backpressure, OpsmendError
from ingest.transport import Consumer, Producer
from ingest.transports.config import TransportConfig
from ingest.transports.registry import open_consumer, open_producer
from ingest.types import Record, Watermark
from opsmend.config_sections import IngestSection, TopicSection
from opsmend.intake import Intake, topic_for
from opsmend.retries import HEADER, RetryWindow, digest_of

JSON = {"content-type": "application/json"}


@pytest.fixture
def transport(tmp_path: Path) -> Iterator[tuple[Producer, Consumer]]:
    config = TransportConfig(topics=("logs", "metrics"), data_dir=str(tmp_path))
    producer, consumer = open_producer(config), open_consumer(config)
    consumer.start(Watermark())
    yield producer, consumer
    consumer.close()
    producer.close()


def test_what_is_taken_is_there_for_whoever_reads(transport: tuple[Producer, Consumer]) -> None:
    producer, consumer = transport
    intake = Intake(producer, IngestSection().topics, lambda: 0, max_waiting=10)
    assert intake.put("metrics", b"{}", JSON) == 1
    (record,) = consumer.poll(10, 2000)
    assert (record.topic, record.value) == ("metrics", b"{}")
    digest = digest_of("metrics", b"{}", JSON)
    assert (record.headers, record.key) == ((("content-type", b"application/json"), (HEADER, digest)), digest)
    assert intake.put("traces", b"", {}) == 0


def test_a_full_transport_says_when_to_come_back(transport: tuple[Producer, Consumer]) -> None:
    producer, consumer = transport
    consumer.poll(10, 50)

    def waiting() -> int:
        return sum(consumer.lag().values())

    full = Intake(producer, IngestSection().topics, waiting, max_waiting=2)
    for _ in range(3):
        full.put("logs", b"x", {})
        full._looked = -10.0  # it looks once a second
    consumer.poll(1, 2000)
    while waiting() <= 2:
        producer.send("logs", b"more")
        producer.flush()
    with pytest.raises(Backpressure) as caught:
        full.put("logs", b"x", {})
    assert caught.value.retry_after_seconds > 0
    while waiting() > 2:
        consumer.poll(100, 200)
    full._looked = -10.0
    assert full.put("logs", b"x", {}) == 1


def test_a_transport_that_hangs_does_not_take_all_threads(transport: tuple[Producer, Consumer]) -> None:
    entered, leave = threading.Event(), threading.Event()

    class Slow:
        def send(self, topic: str, value: bytes, **_: object) -> None:
            entered.set()
            leave.wait(20)

        def flush(self, timeout_seconds: float = 10.0) -> None: ...
        def close(self) -> None: ...

    intake = Intake(Slow(), IngestSection().topics, lambda: 0, max_waiting=10, patience_seconds=0.1)
    first = threading.Thread(target=intake.put, args=("logs", b"x", {}))
    first.start()
    assert entered.wait(10)
    with pytest.raises(Backpressure):
        intake.put("logs", b"x", {})
    leave.set()
    first.join()


@pytest.mark.parametrize(("kind", "topics", "wanted"), [
    ("metrics", [TopicSection(name="logs"), TopicSection(name="metrics")], "metrics"),
    ("traces", [TopicSection(name="all"), TopicSection(name="deploys", kind="changes")], "all"),
    ("changes", [TopicSection(name="all"), TopicSection(name="deploys", kind="changes")], "deploys"),
    ("changes", [TopicSection(name="all")], ""),
    ("logs", [TopicSection(pattern="prod[.].*")], ""),
    ("logs", [TopicSection(name="logs", format="otlp-json")], ""),
])
def test_http_goes_only_where_somebody_reads(kind: str, topics: Sequence[TopicSection], wanted: str) -> None:
    assert topic_for(kind, topics) == wanted  # type: ignore[arg-type]


def test_a_kind_that_nobody_reads_is_refused_and_not_lost(transport: tuple[Producer, Consumer]) -> None:
    intake = Intake(transport[0], [TopicSection(name="logs")], lambda: 0, max_waiting=10)
    with pytest.raises(OpsmendError, match='kind = "changes"') as caught:
        intake.put("changes", b"{}", JSON)
    assert caught.value.reason == "no_topic"


def test_a_release_that_is_rolled_out_again_is_a_change_of_its_own_and_a_marked_retry_is_none(tmp_path: Path) -> None:
    config = TransportConfig(topics=("changes",), data_dir=str(tmp_path))
    producer, consumer = open_producer(config), open_consumer(config)
    consumer.start(Watermark())
    intake = Intake(producer, IngestSection().topics, lambda: 0, max_waiting=10)
    bad, good = b'{"service":"checkout","kind":"rollout","ref":"v2"}', b'{"service":"checkout","kind":"rollout","ref":"v1"}'
    for body in (bad, good, bad):
        intake.put("changes", body, JSON)
    for mark in ("deploy-7", "deploy-7", "deploy-8"):
        intake.put("changes", bad, {**JSON, "idempotency-key": mark})
    records: list[Record] = []
    while len(records) < 6:
        records += consumer.poll(10, 2000)
    consumer.close()
    producer.close()
    fresh, _ = RetryWindow().sift(records)
    assert sorted(r.value for r in fresh) == sorted([bad, good, bad, bad, bad])
