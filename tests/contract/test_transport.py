"""One contract over every transport. The Kafka ones run on a real Apache Kafka."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ingest.errors import TransportError
from ingest.transport import Consumer, Producer
from ingest.transports.config import TransportConfig
from ingest.transports.registry import TRANSPORTS, open_consumer, open_producer
from ingest.types import Record, Watermark
from opsmend.lab.kafka import KafkaBroker, why_not


@pytest.fixture(scope="session")
def broker() -> Iterator[KafkaBroker]:
    if reason := why_not():
        pytest.skip(f"NOT TESTED against Kafka: {reason}")
    with KafkaBroker() as running:
        yield running


@pytest.fixture(params=sorted(TRANSPORTS))
def config(request: pytest.FixtureRequest, tmp_path: Path) -> TransportConfig:
    kind = request.param
    topic = f"t{uuid.uuid4().hex[:8]}"
    base = TransportConfig(kind=kind, topics=(topic,), data_dir=str(tmp_path), group_id=f"g{topic}",
                           session_timeout_seconds=6)
    if kind == "embedded":
        return base
    running: KafkaBroker = request.getfixturevalue("broker")
    return replace(base, bootstrap_servers=running.bootstrap_servers)


@pytest.fixture
def opened() -> Iterator[list[Consumer | Producer]]:
    things: list[Consumer | Producer] = []
    yield things
    for thing in reversed(things):
        thing.close()


@pytest.fixture
def producer(config: TransportConfig, opened: list[Consumer | Producer]) -> Producer:
    made = open_producer(config)
    opened.append(made)
    return made


def consume(config: TransportConfig, opened: list[Consumer | Producer], at: Watermark | None = None) -> Consumer:
    consumer = open_consumer(config)
    consumer.start(at or Watermark())
    opened.append(consumer)
    return consumer


def read(consumer: Consumer, count: int, seconds: float = 20) -> list[Record]:
    records: list[Record] = []
    deadline = time.monotonic() + seconds
    while len(records) < count and time.monotonic() < deadline:
        records += consumer.poll(1000, 200)
    return records


Send = Callable[[int, int], None]


def send(producer: Producer, topic: str, first: int, last: int) -> None:
    for n in range(first, last):
        producer.send(topic, b"v%d" % n, key=b"k%d" % (n % 3), headers=[("h", b"x")], timestamp_ms=1_700_000_000_000 + n)
    producer.flush()


def test_everything_arrives_once_in_order_per_key(config: TransportConfig, producer: Producer,
                                                  opened: list[Consumer | Producer]) -> None:
    send(producer, config.topics[0], 0, 300)
    records = read(consume(config, opened), 300)
    assert sorted(int(r.value[1:]) for r in records) == list(range(300))
    for key in (b"k0", b"k1", b"k2"):
        of_key = [r for r in records if r.key == key]
        assert [int(r.value[1:]) for r in of_key] == sorted(int(r.value[1:]) for r in of_key)
        assert len({r.partition for r in of_key}) == 1
    first = next(r for r in records if r.value == b"v0")
    assert (first.headers, first.timestamp_ms) == ((("h", b"x"),), 1_700_000_000_000)


def test_reading_goes_on_at_the_watermark_given(config: TransportConfig, producer: Producer,
                                                opened: list[Consumer | Producer]) -> None:
    send(producer, config.topics[0], 0, 100)
    first = open_consumer(config)
    first.start(Watermark())
    seen = read(first, 100)
    # Only half was stored: what the transport was told, or read ahead, does not matter.
    first.commit(Watermark.of(seen))
    first.close()
    half = Watermark.of(seen[:50])
    missing = {(r.topic, r.partition): 0 for r in seen} | dict(half.next_offsets)
    again = read(consume(config, opened, Watermark(missing)), 50)
    assert sorted(r.value for r in again) == sorted(r.value for r in seen[50:])


def test_without_a_watermark_the_committed_offset_counts(config: TransportConfig, producer: Producer,
                                                         opened: list[Consumer | Producer]) -> None:
    send(producer, config.topics[0], 0, 40)
    first = open_consumer(config)
    first.start(Watermark())
    seen = read(first, 40)
    first.commit(Watermark.of(seen))
    first.poll(1, 300)
    time.sleep(0.5)
    first.close()
    send(producer, config.topics[0], 40, 45)
    fresh = read(consume(config, opened), 5)
    assert sorted(r.value for r in fresh) == sorted(b"v%d" % n for n in range(40, 45))


def test_a_paused_consumer_gives_nothing_and_loses_nothing(config: TransportConfig, producer: Producer,
                                                           opened: list[Consumer | Producer]) -> None:
    send(producer, config.topics[0], 0, 10)
    consumer = consume(config, opened)
    assert len(read(consumer, 10)) == 10
    consumer.pause()
    send(producer, config.topics[0], 10, 20)
    assert consumer.poll(100, 1000) == []
    consumer.resume()
    assert sorted(r.value for r in read(consumer, 10)) == sorted(b"v%d" % n for n in range(10, 20))


def test_a_big_record_comes_back_whole(config: TransportConfig, producer: Producer,
                                       opened: list[Consumer | Producer]) -> None:
    body = bytes(range(256)) * 3000
    producer.send(config.topics[0], body)
    producer.flush()
    (record,) = read(consume(config, opened), 1)
    assert record.value == body


def test_a_topic_of_a_pattern_that_appears_later_is_read(config: TransportConfig, producer: Producer,
                                                         opened: list[Consumer | Producer]) -> None:
    prefix = config.topics[0]
    consumer = consume(replace(config, topics=(), patterns=(f"{prefix}\\.late",)), opened)
    assert consumer.poll(10, 200) == []
    producer.send(f"{prefix}.late", b"there")
    producer.flush()
    assert [r.value for r in read(consumer, 1)] == [b"there"]


@pytest.mark.parametrize("kind", ["kafka", "kafka-python"])
def test_a_broker_that_is_not_there_is_told_within_ten_seconds(kind: str) -> None:
    consumer = open_consumer(TransportConfig(kind=kind, topics=("t",), bootstrap_servers="127.0.0.1:1",
                                             connect_timeout_seconds=3))
    begun = time.monotonic()
    with pytest.raises(TransportError, match=r"127\.0\.0\.1:1.*\[ingest\.kafka\]"):
        consumer.start(Watermark())
    assert time.monotonic() - begun < 10


def test_a_password_is_never_shown() -> None:
    assert "hunter2" not in repr(TransportConfig(password="hunter2"))


def test_an_unknown_transport_names_the_known_ones() -> None:
    with pytest.raises(TransportError, match="embedded, kafka, kafka-python"):
        open_consumer(TransportConfig(kind="pigeon"))
