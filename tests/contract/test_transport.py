"""One contract over every transport. The Kafka ones run on a real Apache Kafka."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ingest.errors import TransportError
from ingest.transport import Consumer, Producer
from ingest.transports.config import TransportConfig
from ingest.transports.registry import TRANSPORTS, open_consumer, open_producer
from ingest.types import Record, Watermark
from opsmend.lab.kafka import KafkaCluster, why_not
from opsmend.pipeline import Pipeline, PipelineConfig


@pytest.fixture(scope="session")
def broker() -> Iterator[KafkaCluster]:
    if reason := why_not():
        pytest.skip(f"NOT TESTED against Kafka: {reason}")
    with KafkaCluster(partitions=4) as running:
        yield running


@pytest.fixture(params=sorted(TRANSPORTS))
def config(request: pytest.FixtureRequest, tmp_path: Path) -> TransportConfig:
    kind: str = request.param
    topic = f"t{uuid.uuid4().hex[:8]}"
    base = TransportConfig(kind=kind, topics=(topic,), data_dir=str(tmp_path), group_id=f"g{topic}",
                           session_timeout_seconds=6)
    if kind == "embedded":
        return base
    running: KafkaCluster = request.getfixturevalue("broker")
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


def test_a_consumer_that_is_paused_before_it_has_partitions_stays_paused(
        config: TransportConfig, producer: Producer, opened: list[Consumer | Producer]) -> None:
    send(producer, config.topics[0], 0, 10)
    consumer = consume(config, opened)
    consumer.pause()
    until = time.monotonic() + 3  # partitions come after some polls
    while time.monotonic() < until:
        assert consumer.poll(100, 200) == []
    consumer.resume()
    assert sorted(r.value for r in read(consumer, 10)) == sorted(b"v%d" % n for n in range(10))


def test_keys_headers_and_empty_values_come_back_as_they_were(config: TransportConfig, producer: Producer,
                                                              opened: list[Consumer | Producer]) -> None:
    headers = [("h", b"1"), ("h", b"2"), ("empty", b""), ("binary", bytes(range(256))), ("ümlaut", "ü".encode())]
    producer.send(config.topics[0], b"a", key=bytes(range(256)), headers=headers, timestamp_ms=1_700_000_000_000)
    producer.send(config.topics[0], b"b")
    producer.send(config.topics[0], b"", key=b"k")
    producer.flush()
    by_value = {r.value: r for r in read(consume(config, opened), 3)}
    assert (by_value[b"a"].key, by_value[b"a"].headers) == (bytes(range(256)), tuple(headers))
    assert (by_value[b"b"].key, by_value[b"b"].headers) == (None, ())
    assert abs(by_value[b"b"].timestamp_ms / 1000 - time.time()) < 60
    assert by_value[b""].key == b"k"


def test_committing_nothing_or_what_is_not_ours_is_no_error(config: TransportConfig, producer: Producer,
                                                            opened: list[Consumer | Producer]) -> None:
    send(producer, config.topics[0], 0, 10)
    consumer = consume(config, opened)
    consumer.commit(Watermark())
    seen = read(consumer, 10)
    for watermark in (Watermark(), Watermark.of(seen), Watermark.of(seen), Watermark({("elsewhere", 7): 3})):
        consumer.commit(watermark)
        assert consumer.poll(10, 100) == []
    send(producer, config.topics[0], 10, 15)
    assert sorted(r.value for r in read(consumer, 5)) == sorted(b"v%d" % n for n in range(10, 15))


def test_a_poll_brings_no_more_than_asked_and_the_rest_next_time(config: TransportConfig, producer: Producer,
                                                                 opened: list[Consumer | Producer]) -> None:
    send(producer, config.topics[0], 0, 100)
    consumer = consume(config, opened)
    seen: list[Record] = []
    deadline = time.monotonic() + 20
    while len(seen) < 100 and time.monotonic() < deadline:
        some = consumer.poll(7, 200)
        assert len(some) <= 7
        seen += some
    assert sorted(int(r.value[1:]) for r in seen) == list(range(100))


def test_lag_is_what_has_not_been_read(config: TransportConfig, producer: Producer,
                                       opened: list[Consumer | Producer]) -> None:
    topic = config.topics[0]
    send(producer, topic, 0, 50)
    consumer = consume(config, opened)
    seen = read(consumer, 1)
    while len(seen) < 50:
        seen += read(consumer, 1)
    consumer.commit(Watermark.of(seen))
    deadline = time.monotonic() + 20
    while consumer.lag().get(topic, 0) and time.monotonic() < deadline:
        consumer.poll(1, 200)
    assert consumer.lag().get(topic, 0) == 0
    send(producer, topic, 50, 60)
    if config.kind == "embedded":  # Kafka's figure comes with a fetch
        assert consumer.lag()[topic] == 10
    assert len(read(consumer, 10)) == 10


def test_two_producers_lose_nothing_and_keep_their_order(config: TransportConfig, producer: Producer,
                                                         opened: list[Consumer | Producer]) -> None:
    other = open_producer(config)
    opened.append(other)
    for n in range(100):
        for name, one in (("a", producer), ("b", other)):
            one.send(config.topics[0], f"{name}{n}".encode(), key=b"same")
        if n % 10 == 9:
            producer.flush()
            other.flush()
    records = read(consume(config, opened), 200)
    for name in ("a", "b"):
        assert [int(r.value[1:]) for r in records if r.value.startswith(name.encode())] == list(range(100))
    assert len({r.partition for r in records}) == 1
    assert [r.offset for r in records] == list(range(200))


def test_equal_keys_go_to_one_partition_after_a_restart_too(config: TransportConfig, producer: Producer,
                                                            opened: list[Consumer | Producer]) -> None:
    send(producer, config.topics[0], 0, 30)
    later = open_producer(config)
    opened.append(later)
    send(later, config.topics[0], 30, 60)
    records = read(consume(config, opened), 60)
    assert len(records) == 60
    for key in (b"k0", b"k1", b"k2"):
        assert len({r.partition for r in records if r.key == key}) == 1


def take_turns(consumers: dict[str, Consumer], seen: dict[bytes, list[str]], until: Callable[[], bool]) -> None:
    """Both poll and commit what they got, as the runner does, until `until` holds."""
    deadline = time.monotonic() + 60
    while not until():
        assert time.monotonic() < deadline, f"{len(seen)} values seen"
        for name, consumer in consumers.items():
            records = consumer.poll(1000, 100)
            for record in records:
                seen.setdefault(record.value, []).append(name)
            if records:
                consumer.commit(Watermark.of(records))


@pytest.mark.parametrize("config", ["kafka", "kafka-python"], indirect=True)
def test_members_share_partitions_and_hand_them_over_without_repeating(
        config: TransportConfig, producer: Producer, opened: list[Consumer | Producer]) -> None:
    topic = config.topics[0]
    seen: dict[bytes, list[str]] = {}

    def put(first: int, last: int) -> Callable[[], bool]:
        for n in range(first, last):
            producer.send(topic, b"%d" % n, key=b"%d" % n)
        producer.flush()
        return lambda: len(seen) >= last

    a = consume(config, opened)
    take_turns({"a": a}, seen, put(0, 100))
    b = open_consumer(config)
    b.start(Watermark())
    both = {"a": a, "b": b}
    next_first = 100
    while not any("b" in by for by in seen.values()):  # until the rebalance has given b its share
        take_turns(both, seen, put(next_first, next_first + 50))
        next_first += 50
    take_turns(both, seen, put(next_first, next_first + 100))
    names = {by for value in range(next_first, next_first + 100) for by in seen[b"%d" % value]}
    assert names == {"a", "b"}
    b.close()
    # a gets back the partition it had before: what b has done of it meanwhile is not read again.
    take_turns({"a": a}, seen, put(next_first + 100, next_first + 200))
    again = {value: by for value, by in seen.items() if len(by) > 1}
    assert again == {}
    assert len(seen) == next_first + 200


@pytest.mark.parametrize("config", ["kafka", "kafka-python"], indirect=True)
def test_a_partition_that_goes_while_paused_comes_back_unpaused(config: TransportConfig, producer: Producer,
                                                                opened: list[Consumer | Producer]) -> None:
    a = consume(config, opened)
    send(producer, config.topics[0], 0, 40)
    assert len(read(a, 40)) == 40
    a.pause()
    b = open_consumer(config)
    b.start(Watermark())
    seen: list[Record] = []
    deadline = time.monotonic() + 40
    for n in range(1000):  # until b has its share
        producer.send(config.topics[0], b"%d" % n, key=b"%d" % n)
        producer.flush()
        assert a.poll(100, 50) == []
        seen += b.poll(100, 50)
        if seen or time.monotonic() > deadline:
            break
    assert seen
    a.resume()
    b.close()
    until = time.monotonic() + 40
    partitions: set[int] = set()
    for n in range(100_000):
        producer.send(config.topics[0], b"%d" % n, key=b"%d" % n)
        producer.flush()
        partitions |= {r.partition for r in a.poll(100, 50)}
        if len(partitions) == 4 or time.monotonic() > until:
            break
    assert partitions == {0, 1, 2, 3}


def test_short_polls_outlive_rebalances(config: TransportConfig, producer: Producer,
                                        opened: list[Consumer | Producer]) -> None:
    """Topics that appear while the group is being joined; kafka-python 3.0 loses a join that a poll did not wait for."""
    topic = config.topics[0]
    send(producer, topic, 0, 20)
    consumer = consume(replace(config, topics=(topic, *(f"{topic}.{n}" for n in range(4)))), opened)
    seen: list[Record] = []
    for n in range(4):
        producer.send(f"{topic}.{n}", b"other")
        producer.flush()
        deadline = time.monotonic() + 0.8
        while time.monotonic() < deadline:
            seen += consumer.poll(100, 4)
    deadline = time.monotonic() + 30
    while len(seen) < 24 and time.monotonic() < deadline:
        seen += consumer.poll(100, 4)
    assert len({(r.topic, r.value) for r in seen}) == 24


@pytest.mark.parametrize("config", ["kafka", "kafka-python"], indirect=True)
def test_a_record_larger_than_kafka_takes_is_refused_by_name(config: TransportConfig, producer: Producer) -> None:
    with pytest.raises(TransportError, match=r"3000000 bytes.*larger than Kafka takes") as told:
        producer.send(config.topics[0], bytes(3_000_000))
        producer.flush()
    assert (told.value.reason, told.value.is_transient) == ("too_large", False)


def test_the_embedded_transport_takes_what_kafka_does_not(tmp_path: Path, opened: list[Consumer | Producer]) -> None:
    config = TransportConfig(topics=("t",), data_dir=str(tmp_path))
    producer = open_producer(config)
    opened.append(producer)
    producer.send("t", bytes(20_000_000))
    producer.flush()
    assert [len(r.value) for r in read(consume(config, opened), 1)] == [20_000_000]


def test_a_poll_is_bounded_by_bytes_and_a_larger_record_comes_alone(
        config: TransportConfig, producer: Producer, opened: list[Consumer | Producer]) -> None:
    sizes = [300_000] * 12 + [900_000] + [10] * 50
    for n, size in enumerate(sizes):
        producer.send(config.topics[0], bytes(size), key=b"one", timestamp_ms=1_700_000_000_000 + n)
    producer.flush(30)
    consumer = consume(config, opened)
    seen: list[int] = []
    deadline = time.monotonic() + 30
    while len(seen) < len(sizes) and time.monotonic() < deadline:
        found = [len(r.value) for r in consumer.poll(1000, 200, 700_000)]
        assert len(found) <= 1 or sum(found) <= 700_000
        seen += found
    assert seen == sizes


def test_it_can_be_told_to_read_again_from_a_place(config: TransportConfig, producer: Producer,
                                                   opened: list[Consumer | Producer]) -> None:
    send(producer, config.topics[0], 0, 60)
    consumer = consume(config, opened)
    seen = read(consumer, 60)
    assert len(seen) == 60
    half = Watermark.of(seen[:30])
    consumer.rewind(Watermark({(r.topic, r.partition): 0 for r in seen}).merge(half))
    assert sorted(r.value for r in read(consumer, 30)) == sorted(r.value for r in seen[30:])
    assert consumer.poll(10, 300) == []


def test_where_partitions_begin_is_asked_of_the_store_when_they_come(
        config: TransportConfig, producer: Producer, opened: list[Consumer | Producer]) -> None:
    if config.kind == "embedded":
        pytest.skip("the embedded transport has one member, and its partitions never leave it")
    send(producer, config.topics[0], 0, 40)
    asked: list[tuple[str, int]] = []

    def stored(places: Collection[tuple[str, int]]) -> dict[tuple[str, int], int]:
        asked.extend(places)
        return {place: ends[place] - 1 for place in places if place in ends}

    ends = dict(Watermark.of(read(consume(replace(config, group_id="first"), opened), 40)).next_offsets)
    consumer = open_consumer(config)
    opened.append(consumer)
    consumer.start(Watermark(dict.fromkeys(ends, 0)), stored)
    found = read(consumer, len(ends))
    assert sorted((r.partition, r.offset) for r in found) == sorted((p, e - 1) for (_, p), e in ends.items())
    assert set(asked) >= set(ends)


SERVICES = ("gateway", "orders", "cart", "payments", "stock", "mail")


def backlog(seconds: int) -> list[Record]:
    """Six services for so long; cart dies twice."""
    found = []
    for n in range(seconds):
        for name in SERVICES:
            ts = 1_790_000_000 + n
            up = 0 if name == "cart" and n % 300 in range(200, 240) else 1
            rows = [{"type": "log", "ts": ts, "service": name, "message": f"request {n} took {n % 7} ms"},
                    {"type": "metric", "ts": ts, "service": name, "instance": f"{name}-1", "name": "process.up", "value": up}]
            body = "\n".join(json.dumps(row) for row in rows).encode()
            found.append(Record(name, 0, n, ts * 1000, body, name.encode()))
    return found


def test_a_backlog_of_several_partitions_is_read_as_it_would_have_come(
        config: TransportConfig, producer: Producer, opened: list[Consumer | Producer]) -> None:
    """Ten minutes of four partitions, read after the fact: nothing is late, and the incidents are those of live."""
    made = backlog(600)
    for record in made:
        producer.send(config.topics[0], record.value, key=record.key, timestamp_ms=record.timestamp_ms)
    producer.flush(30)
    live, late = Pipeline(PipelineConfig()), Pipeline(PipelineConfig())
    incidents: list[dict[str, tuple[int, str]]] = [{}, {}]
    for first in range(0, len(made), len(SERVICES)):
        step = live.step([*made[first:first + len(SERVICES)]])
        incidents[0].update((i.id, (i.opened_ns, i.state)) for i in step.incidents)
    consumer = consume(config, opened)
    count = rows_late = 0
    partitions = set()
    deadline = time.monotonic() + 60
    while count < len(made) and time.monotonic() < deadline:
        found = consumer.poll(20_000, 200)
        partitions |= {r.partition for r in found}
        if found:
            count += len(found)
            result = late.step(found)
            rows_late += result.totals["late"]
            incidents[1].update((i.id, (i.opened_ns, i.state)) for i in result.incidents)
    assert count == len(made)
    assert len(partitions) > 1
    assert rows_late == 0
    assert len(incidents[0]) >= 2
    assert incidents[0] == incidents[1]
