"""Kafka through kafka-python: no compiled code, about a tenth of the speed."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.errors import (
    FencedInstanceIdError,
    GroupAuthorizationFailedError,
    KafkaError,
    RetriableError,
    SaslAuthenticationFailedError,
    TopicAuthorizationFailedError,
    UnsupportedCodecError,
)

from ingest.errors import TransportError
from ingest.transport import MAX_POLL_BYTES, Stored
from ingest.transports.config import TransportConfig
from ingest.transports.kafka_errors import refused
from ingest.transports.kafka_pure_client import client_settings, enter
from ingest.transports.kafka_pure_producer import PureProducer
from ingest.transports.order import TimeOrder, weight
from ingest.types import Record, Watermark

__all__ = ["PureConsumer", "PureProducer", "client_settings"]

_REFUSALS = (GroupAuthorizationFailedError, TopicAuthorizationFailedError, SaslAuthenticationFailedError,
             FencedInstanceIdError)


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
        self._stored: Stored | None = None
        self._at: dict[tuple[str, int], int] = {}
        self._position: dict[tuple[str, int], int] = {}  # the next offset to fetch
        self._floor: dict[tuple[str, int], int] = {}
        self._lost: set[tuple[str, int]] = set()  # were ours, and may have been somebody else's since
        self._order = TimeOrder(align_seconds=config.align_seconds, span_seconds=config.span_seconds)
        self._held: set[tuple[str, int]] = set()  # paused, because they are ahead of the others
        self._mean_bytes = 1000.0
        self._leaving: set[tuple[str, int]] = set()  # given back in the rebalance that is under way
        self._is_paused = False
        self._is_joining = True  # until partitions have come; and again while a rebalance is under way
        self._consumer: Any = None

    def start(self, at: Watermark, stored: Stored | None = None) -> None:
        self._at, self._stored = dict(at.next_offsets), stored
        session_ms = int(self._config.session_timeout_seconds * 1000)
        settings: dict[str, Any] = {
            "group_id": self._config.group_id, "enable_auto_commit": False, "auto_offset_reset": "earliest",
            "session_timeout_ms": session_ms, "heartbeat_interval_ms": int(session_ms * 0.3),
            "metadata_max_age_ms": 3000, "max_poll_interval_ms": max(600_000, session_ms),
            "fetch_max_bytes": max(1024 * 1024, self._config.queue_bytes), "request_timeout_ms": max(11_000, session_ms + 5000)}
        if self._config.instance_id:
            settings["group_instance_id"] = self._config.instance_id
        self._consumer = enter(KafkaConsumer, self._config, settings, lambda made: made.topics())
        if self._config.patterns:
            names = [re.escape(t) for t in self._config.topics] + list(self._config.patterns)
            self._consumer.subscribe(pattern=f"^({'|'.join(names)})$", listener=_Starts(self))
        else:
            self._consumer.subscribe(list(self._config.topics), listener=_Starts(self))

    def assigned(self, partitions: Any) -> None:
        """Called by the client, in its own loop, when partitions come to us: it must not wait for a broker."""
        self._is_joining = False
        places = [(p.topic, p.partition) for p in partitions]
        for place in self._leaving - set(places):
            self._let_go(place)
        self._leaving.clear()
        stored = self._stored(places) if self._stored is not None else {}
        for partition, at in zip(partitions, places, strict=True):
            if at in stored:
                self._let_go(at)
                self._floor.pop(at, None)
                self._at[at] = self._position[at] = stored[at]
                self._consumer.seek(partition, stored[at])
            elif at in self._lost:
                # Ours before: the client goes on where it was, or at the committed offset, for somebody else may have
                # read on; should our last commit have been lost, `poll` leaves out what we had.
                self._floor[at] = max(self._at.get(at, 0), self._position.get(at, 0))
            elif at in self._at:
                self._consumer.seek(partition, self._at[at])
            self._order.expect(at)
        if partitions:
            (self._consumer.pause if self._is_paused else self._consumer.resume)(*partitions)

    def revoked(self, revoked: Any) -> None:
        """Called before they go: a rebalance begins. Most of them come back at once, and the client goes on behind
        what it has given us: what waits here is kept until then."""
        self._is_joining = True
        places = {(p.topic, p.partition) for p in revoked}
        self._lost |= places
        self._leaving |= places
        self._held -= places

    def _let_go(self, place: tuple[str, int]) -> None:
        if (first := self._order.drop(place)) is not None:
            self._position[place] = first

    def poll(self, max_rows: int, max_ms: int, max_bytes: int = MAX_POLL_BYTES) -> list[Record]:
        deadline = time.monotonic() + max_ms / 1000
        wait_ms = 0 if self._order.rows else max_ms  # of a backlog there may be enough
        while True:
            self._fetch(max_rows, max_bytes, wait_ms)
            waits = self._is_paused or self._is_joining
            records = [] if waits else self._order.take(max_rows, max_bytes, self._behind())
            self._hold()
            left = deadline - time.monotonic()
            if records or left <= 0:
                return records
            wait_ms = max(1, int(left * 1000))

    def _fetch(self, max_rows: int, max_bytes: int, wait_ms: int) -> None:
        lacks_bytes = int((max_bytes - self._order.bytes) / self._mean_bytes) + 1
        wanted = min(max_rows - self._order.rows, lacks_bytes)
        if self._order.ahead:  # what waits there may not be given out yet: fetch on for the others
            wanted = max(wanted, 500)
        if wanted <= 0 and not self._is_joining and not self._is_paused:
            return
        try:
            # A rebalance gets a second at least: short waits would begin it over and over.
            found = self._consumer.poll(timeout_ms=max(wait_ms, 1000) if self._is_joining else wait_ms,
                                        max_records=max(1, wanted))
            if self._is_joining:
                # kafka-python 3.0.12: a join for changed metadata that outlasts the poll is forgotten, and the
                # partitions stay "pending revocation" for ever. Asked to rejoin, it goes on with the same join.
                self._consumer._coordinator.request_rejoin()
        except UnsupportedCodecError as error:
            raise TransportError(f"Kafka: {error.args[0]}: pip install 'opsmend[kafka]', or use transport \"kafka\"",
                                 reason="missing_package", is_transient=False) from error
        except _REFUSALS as error:
            raise refused(self._config, f"{type(error).__name__}: {error}") from error
        except RetriableError:  # a broker went away: the client goes on by itself
            time.sleep(min(0.2, wait_ms / 1000))
            return
        except KafkaError as error:
            raise TransportError(f"Kafka: {type(error).__name__}: {error}") from error
        for partition in sorted(found, key=lambda p: (p.topic, p.partition)):
            self._add((partition.topic, partition.partition), found[partition])

    def _add(self, at: tuple[str, int], messages: list[Any]) -> None:
        floor = self._floor.get(at, 0)
        run = [Record(m.topic, m.partition, m.offset, m.timestamp, m.value or b"", m.key,
                      tuple((k, v or b"") for k, v in m.headers or ())) for m in messages if m.offset >= floor]
        if run:
            size = sum(map(weight, run))
            self._mean_bytes = max(size / len(run), self._mean_bytes * 0.9)
            self._position[at] = run[-1].offset + 1
            self._order.add(at, run, size)

    def _behind(self) -> list[tuple[str, int]]:
        """Partitions with more at the broker than we have fetched, as far as is known; the unknown may have."""
        partitions = self._consumer.assignment()
        if len(partitions) < 2:
            return []
        found = []
        for partition in partitions:
            at = (partition.topic, partition.partition)
            high = self._consumer.highwater(partition)
            if at not in self._held and (high is None or high > self._position.get(at, 0)):
                found.append(at)
        return found

    def _hold(self) -> None:
        """Pause those that ran ahead once too much waits; let them go on when it is given out."""
        ours = self._consumer.assignment()
        if self._order.bytes > self._config.hold_bytes:
            if ahead := {p for p in self._order.ahead - self._held if TopicPartition(*p) in ours}:
                self._consumer.pause(*(TopicPartition(*p) for p in ahead))
                self._held |= ahead
        elif self._held and self._order.bytes < self._config.hold_bytes // 2:
            self._consumer.resume(*(TopicPartition(*p) for p in self._held if TopicPartition(*p) in ours))
            self._held.clear()

    def rewind(self, to: Watermark) -> None:
        ours = self._consumer.assignment()
        for at, offset in to.next_offsets.items():
            self._at[at] = offset
            if TopicPartition(*at) in ours:
                self._order.drop(at)
                self._order.expect(at)
                self._floor.pop(at, None)
                self._position[at] = offset
                self._consumer.seek(TopicPartition(*at), offset)

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
        self._held.clear()
        self._consumer.resume(*self._consumer.assignment())

    def lag(self) -> Mapping[str, int]:
        lag: dict[str, int] = {}
        for partition in self._consumer.assignment() if self._consumer is not None else ():
            high = self._consumer.highwater(partition)
            if high is not None:
                at = (partition.topic, partition.partition)
                read = self._position.get(at, self._at.get(at, 0)) - self._order.waiting(at)
                lag[partition.topic] = lag.get(partition.topic, 0) + max(0, high - read)
        return lag

    def close(self) -> None:
        if self._consumer is not None:
            self._consumer.close(autocommit=False)
