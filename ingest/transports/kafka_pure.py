"""Kafka through kafka-python: no compiled code, about a tenth of the speed."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaError, MessageSizeTooLargeError, UnsupportedCodecError

from ingest.errors import TransportError
from ingest.transports.config import TransportConfig
from ingest.transports.kafka_errors import refused, require_bootstrap, too_large
from ingest.types import Record, Watermark


def client_settings(config: TransportConfig) -> dict[str, Any]:
    """What both clients need to reach and enter the cluster. Raises TransportError if no cluster is named."""
    require_bootstrap(config)
    settings: dict[str, Any] = {"bootstrap_servers": config.bootstrap_servers.split(","),
                                "security_protocol": config.protocol,
                                "bootstrap_timeout_ms": int(config.connect_timeout_seconds * 1000)}
    if config.mechanism:
        settings |= {"sasl_mechanism": config.mechanism, "sasl_plain_username": config.username,
                     "sasl_plain_password": config.password}
    for name, value in (("ssl_cafile", config.ca), ("ssl_certfile", config.cert), ("ssl_keyfile", config.key)):
        if value:
            settings[name] = value
    return settings


class _Starts(ConsumerRebalanceListener):  # type: ignore[misc]
    """Puts newly assigned partitions where the stored watermark says."""

    def __init__(self, owner: PureConsumer) -> None:
        self._owner = owner

    def on_partitions_assigned(self, assigned: Any) -> None:
        self._owner.assigned(assigned)

    def on_partitions_revoked(self, revoked: Any) -> None:
        self._owner.revoked(revoked)


class PureConsumer:
    """See `ingest.transport.Consumer`."""

    def __init__(self, config: TransportConfig) -> None:
        self._config = config
        self._at: dict[tuple[str, int], int] = {}
        self._position: dict[tuple[str, int], int] = {}
        self._floor: dict[tuple[str, int], int] = {}
        self._lost: set[tuple[str, int]] = set()  # were ours, and may have been somebody else's since
        self._is_paused = False
        self._is_joining = False
        self._consumer: Any = None

    def start(self, at: Watermark) -> None:
        self._at = dict(at.next_offsets)
        deadline = time.monotonic() + self._config.connect_timeout_seconds
        try:
            self._consumer = KafkaConsumer(
                **client_settings(self._config), group_id=self._config.group_id, enable_auto_commit=False,
                auto_offset_reset="earliest", session_timeout_ms=int(self._config.session_timeout_seconds * 1000),
                heartbeat_interval_ms=int(self._config.session_timeout_seconds * 300), metadata_max_age_ms=3000,
                request_timeout_ms=max(11_000, int(self._config.session_timeout_seconds * 1000) + 5000))
            self._consumer.topics()
        except (KafkaError, OSError, ValueError, AssertionError) as error:
            waited = self._config.connect_timeout_seconds - (deadline - time.monotonic())
            raise refused(self._config, f"{type(error).__name__}: {error} after {waited:.0f} s") from error
        if self._config.patterns:
            names = [re.escape(t) for t in self._config.topics] + list(self._config.patterns)
            self._consumer.subscribe(pattern=f"^({'|'.join(names)})$", listener=_Starts(self))
        else:
            self._consumer.subscribe(list(self._config.topics), listener=_Starts(self))

    def assigned(self, partitions: Any) -> None:
        """Called by the client, in its own loop, when partitions come to us: it must not wait for an answer."""
        self._is_joining = False
        for partition in partitions:
            at = (partition.topic, partition.partition)
            if at in self._lost:
                # Ours before: the client itself goes on at the committed offset, for somebody else may have read
                # on; should our last commit have been lost, `poll` leaves out what we had.
                self._floor[at] = max(self._at.get(at, 0), self._position.get(at, 0))
            elif at in self._at:
                self._consumer.seek(partition, self._at[at])
        if self._is_paused and partitions:
            self._consumer.pause(*partitions)

    def revoked(self, partitions: Any) -> None:
        """Called before they go: a rebalance begins."""
        self._is_joining = True
        self._lost |= {(p.topic, p.partition) for p in partitions}

    def poll(self, max_rows: int, max_ms: int) -> list[Record]:
        try:
            # A rebalance gets a second at least: short waits would begin it over and over.
            found = self._consumer.poll(timeout_ms=max(max_ms, 1000) if self._is_joining else max_ms,
                                        max_records=max_rows)
            if self._is_joining:
                # kafka-python 3.0.12: a join for changed metadata that outlasts the poll is forgotten, and the
                # partitions stay "pending revocation" for ever. Asked to rejoin, it goes on with the same join.
                self._consumer._coordinator.request_rejoin()
        except UnsupportedCodecError as error:
            raise TransportError(f"Kafka: {error.args[0]}: pip install 'opsmend[kafka]', or use transport \"kafka\"",
                                 reason="missing_package", is_transient=False) from error
        except KafkaError as error:
            raise TransportError(f"Kafka: {type(error).__name__}: {error}") from error
        records = []
        for partition in sorted(found, key=lambda p: (p.topic, p.partition)):
            floor = self._floor.get((partition.topic, partition.partition), 0)
            for m in found[partition]:
                if m.offset < floor:
                    continue
                records.append(Record(m.topic, m.partition, m.offset, m.timestamp, m.value or b"", m.key,
                                      tuple((k, v or b"") for k, v in m.headers or ())))
                self._position[m.topic, m.partition] = m.offset + 1
        return records

    def commit(self, watermark: Watermark) -> None:
        self._at.update(watermark.next_offsets)
        mine = self._consumer.assignment()
        offsets = {TopicPartition(t, p): OffsetAndMetadata(o, "", -1)
                   for (t, p), o in watermark.next_offsets.items() if TopicPartition(t, p) in mine}
        if offsets:
            # A failed commit is no loss: the stored watermark counts.
            self._consumer.commit_async(offsets)

    def pause(self) -> None:
        self._is_paused = True
        self._consumer.pause(*self._consumer.assignment())

    def resume(self) -> None:
        self._is_paused = False
        self._consumer.resume(*self._consumer.assignment())

    def lag(self) -> Mapping[str, int]:
        lag: dict[str, int] = {}
        for partition in self._consumer.assignment():
            high = self._consumer.highwater(partition)
            if high is not None:
                at = (partition.topic, partition.partition)
                read = self._position.get(at, self._at.get(at, 0))
                lag[partition.topic] = lag.get(partition.topic, 0) + max(0, high - read)
        return lag

    def close(self) -> None:
        if self._consumer is not None:
            self._consumer.close(autocommit=False)


class PureProducer:
    """See `ingest.transport.Producer`. acks=all."""

    def __init__(self, config: TransportConfig) -> None:
        self._config = config
        self._sent: list[Any] = []
        try:
            self._producer = KafkaProducer(**client_settings(config), acks="all", linger_ms=20)
        except (KafkaError, OSError, ValueError, AssertionError) as error:
            raise refused(config, f"{type(error).__name__}: {error}") from error

    def send(self, topic: str, value: bytes, *, key: bytes | None = None,
             headers: Sequence[tuple[str, bytes]] = (), timestamp_ms: int | None = None) -> None:
        try:
            self._sent.append(self._producer.send(topic, value, key, list(headers), timestamp_ms=timestamp_ms))
        except MessageSizeTooLargeError as error:
            raise too_large(topic, value) from error
        except KafkaError as error:
            raise TransportError(f"Kafka: {type(error).__name__}: {error}") from error

    def flush(self, timeout_seconds: float = 10.0) -> None:
        sent, self._sent = self._sent, []
        try:
            self._producer.flush(timeout_seconds)
            for future in sent:
                future.get(timeout_seconds)
        except KafkaError as error:
            raise TransportError(f"Kafka at {self._config.bootstrap_servers}: {type(error).__name__}: {error}") from error

    def close(self) -> None:
        self._producer.close(10)
