"""Kafka through confluent-kafka (librdkafka): the fast client.

The consumer never auto-commits. On assignment each partition starts at the watermark that was stored with the
results; the committed offset is only a hint for those who have no store.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from ingest.errors import TransportError
from ingest.transports.config import TransportConfig
from ingest.transports.kafka_errors import refused, require_bootstrap, too_large
from ingest.types import Record, Watermark

_NO_LOSS = {KafkaError._NO_OFFSET, KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS,
            KafkaError.UNKNOWN_MEMBER_ID, KafkaError._WAIT_COORD, KafkaError._TRANSPORT, KafkaError._TIMED_OUT}
_FATAL = {KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError.SASL_AUTHENTICATION_FAILED,
          KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED}


def client_settings(config: TransportConfig) -> dict[str, Any]:
    """What both clients of librdkafka need to reach and enter the cluster. Raises TransportError if no cluster is
    named."""
    require_bootstrap(config)
    settings: dict[str, Any] = {"bootstrap.servers": config.bootstrap_servers, "security.protocol": config.protocol,
                                "socket.connection.setup.timeout.ms": 5000, "log_level": 2}
    if config.mechanism:
        settings |= {"sasl.mechanism": config.mechanism, "sasl.username": config.username,
                     "sasl.password": config.password}
    for name, value in (("ssl.ca.location", config.ca), ("ssl.certificate.location", config.cert),
                        ("ssl.key.location", config.key)):
        if value:
            settings[name] = value
    return settings


_Client = TypeVar("_Client", Consumer, Producer)


def _make(client: type[_Client], config: TransportConfig, settings: dict[str, Any]) -> _Client:
    """A client; a setting that librdkafka refuses (a CA file that is not there) is told as what it is."""
    try:
        return client({**client_settings(config), **settings})
    except KafkaException as error:
        raise refused(config, str(error.args[0].str())) from error


class ConfluentConsumer:
    """See `ingest.transport.Consumer`."""

    def __init__(self, config: TransportConfig) -> None:
        self._config = config
        self._errors: deque[KafkaError] = deque(maxlen=20)
        self._at: dict[tuple[str, int], int] = {}
        self._assigned: dict[tuple[str, int], TopicPartition] = {}
        self._position: dict[tuple[str, int], int] = {}
        self._lost: set[tuple[str, int]] = set()  # were ours, and may have been somebody else's since
        self._is_paused = False
        self._consumer: Any = None

    def start(self, at: Watermark) -> None:
        self._at = dict(at.next_offsets)
        session_ms = int(self._config.session_timeout_seconds * 1000)
        self._consumer = _make(Consumer, self._config, {
            "group.id": self._config.group_id, "enable.auto.commit": False,
            "enable.auto.offset.store": False, "auto.offset.reset": "earliest", "session.timeout.ms": session_ms,
            "partition.assignment.strategy": "cooperative-sticky", "topic.metadata.refresh.interval.ms": 3000,
            "allow.auto.create.topics": True, "error_cb": self._errors.append})
        self._enter()
        names = [re.escape(t) for t in self._config.topics] + list(self._config.patterns)
        # One pattern for all: a topic that appears later is picked up, and a missing one is no error.
        wanted = [f"^({'|'.join(names)})$"] if self._config.patterns else list(self._config.topics)
        self._consumer.subscribe(wanted, on_assign=self._on_assign, on_revoke=self._on_revoke)

    def _enter(self) -> None:
        """Talk to the cluster once: librdkafka itself would retry a wrong password for ever."""
        deadline = time.monotonic() + self._config.connect_timeout_seconds
        why = "no answer"
        while time.monotonic() < deadline:
            try:
                self._consumer.list_topics(timeout=1.0)
                return
            except KafkaException as error:
                why = str(error.args[0].str())
            fatal = [e for e in self._errors if e.code() in _FATAL]
            if fatal:
                why = fatal[0].str()
                break
        if self._errors:
            why = self._errors[-1].str()
        self._consumer.close()
        raise refused(self._config, why)

    def _on_assign(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        again = [p for p in partitions if (p.topic, p.partition) in self._lost]
        committed = self._committed(consumer, again)
        for partition in partitions:
            at = (partition.topic, partition.partition)
            if at in self._at or at in committed:
                partition.offset = max(self._at.get(at, 0), self._position.get(at, 0), committed.get(at, 0))
            self._assigned[at] = partition
        consumer.incremental_assign(partitions)
        if self._is_paused:
            consumer.pause(partitions)

    def _committed(self, consumer: Any, partitions: list[TopicPartition]) -> dict[tuple[str, int], int]:
        """How far those came who had these partitions meanwhile."""
        if not partitions:
            return {}
        try:
            found = consumer.committed(partitions, timeout=5.0)
        except KafkaException as error:
            raise TransportError(f"Kafka: committed offsets: {error.args[0].str()}") from error
        return {(p.topic, p.partition): p.offset for p in found if p.offset >= 0}

    def _on_revoke(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        at = {(p.topic, p.partition) for p in partitions}
        # The next owner begins at the committed offset: what is stored here must be known there.
        self._commit({key: self._at[key] for key in at & set(self._at)}, asynchronous=False)
        self._lost |= at
        for key in at:
            self._assigned.pop(key, None)
        consumer.incremental_unassign(partitions)

    def poll(self, max_rows: int, max_ms: int) -> list[Record]:
        records: list[Record] = []
        for message in self._consumer.consume(min(max_rows, 10_000), max_ms / 1000):
            error = message.error()
            if error is not None:
                if error.code() in _FATAL or error.fatal():
                    raise refused(self._config, error.str())
                continue  # a missing topic, a broker that went away: librdkafka goes on by itself
            at = (message.topic(), message.partition())
            self._position[at] = message.offset() + 1
            records.append(Record(message.topic(), message.partition(), message.offset(), message.timestamp()[1],
                                  message.value() or b"", message.key(),
                                  tuple((k, v or b"") for k, v in message.headers() or ())))
        return records

    def commit(self, watermark: Watermark) -> None:
        self._at.update(watermark.next_offsets)
        self._commit(watermark.next_offsets, asynchronous=True)

    def _commit(self, offsets: Mapping[tuple[str, int], int], *, asynchronous: bool) -> None:
        mine = [TopicPartition(topic, partition, offset) for (topic, partition), offset in offsets.items()
                if (topic, partition) in self._assigned]
        if not mine:
            return
        try:
            self._consumer.commit(offsets=mine, asynchronous=asynchronous)
        except KafkaException as error:
            # A rebalance is under way, or nothing is new. The stored watermark counts, not this.
            if error.args[0].code() not in _NO_LOSS:
                raise TransportError(f"Kafka: commit: {error.args[0].str()}") from error

    def pause(self) -> None:
        self._is_paused = True
        self._consumer.pause(list(self._assigned.values()))

    def resume(self) -> None:
        self._is_paused = False
        self._consumer.resume(list(self._assigned.values()))

    def lag(self) -> Mapping[str, int]:
        lag: dict[str, int] = {}
        for (topic, number), partition in list(self._assigned.items()):
            _, high = self._consumer.get_watermark_offsets(partition, cached=True)
            if high >= 0:
                read = self._position.get((topic, number), self._at.get((topic, number), 0))
                lag[topic] = lag.get(topic, 0) + max(0, high - read)
        return lag

    def close(self) -> None:
        if self._consumer is not None:
            self._consumer.close()


class ConfluentProducer:
    """See `ingest.transport.Producer`. Idempotent, acks=all."""

    def __init__(self, config: TransportConfig) -> None:
        self._config = config
        self._failed: list[str] = []
        self._producer = _make(Producer, config, {"enable.idempotence": True, "linger.ms": 20,
                                                  "compression.type": "lz4", "delivery.timeout.ms": 60_000})

    def send(self, topic: str, value: bytes, *, key: bytes | None = None,
             headers: Sequence[tuple[str, bytes]] = (), timestamp_ms: int | None = None) -> None:
        stamp = {} if timestamp_ms is None else {"timestamp": timestamp_ms}
        while True:
            try:
                self._producer.produce(topic, value, key, headers=list(headers) or None,
                                       on_delivery=self._delivered, **stamp)
                self._producer.poll(0)
                return
            except BufferError:
                self._producer.poll(0.2)  # full: wait for the broker
            except KafkaException as error:
                if error.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE:
                    raise too_large(topic, value) from error
                raise TransportError(f"Kafka: {topic}: {error.args[0].str()}", is_transient=False) from error

    def _delivered(self, error: KafkaError | None, _message: object) -> None:
        if error is not None:
            self._failed.append(error.str())

    def flush(self, timeout_seconds: float = 10.0) -> None:
        left = self._producer.flush(timeout_seconds)
        failed, self._failed = self._failed, []
        if left or failed:
            raise TransportError(f"Kafka at {self._config.bootstrap_servers}: {left + len(failed)} records were not "
                                 f"taken{': ' + failed[0] if failed else ''}")

    def close(self) -> None:
        self._producer.flush(10)
