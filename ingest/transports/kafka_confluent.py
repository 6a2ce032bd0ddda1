"""Kafka through confluent-kafka (librdkafka): the fast client.

The consumer never auto-commits. On assignment each partition starts at the watermark that was stored with the
results; the committed offset is only a hint for those who have no store.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from ingest.errors import TransportError
from ingest.transport import MAX_POLL_BYTES, Stored
from ingest.transports.config import TransportConfig
from ingest.transports.kafka_confluent_client import FATAL, Errors, client_settings, enter, make
from ingest.transports.kafka_confluent_producer import ConfluentProducer
from ingest.transports.kafka_errors import refused
from ingest.transports.order import RECORD_BYTES, TimeOrder, weight
from ingest.types import Record, Watermark

__all__ = ["ConfluentConsumer", "ConfluentProducer", "client_settings"]

_NO_LOSS = {KafkaError._NO_OFFSET, KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS,
            KafkaError.UNKNOWN_MEMBER_ID, KafkaError._WAIT_COORD, KafkaError._TRANSPORT, KafkaError._TIMED_OUT}
_AT_ONCE = 10_000
"""Most messages in one call of the client."""
_FENCED_SECONDS = 60.0
_LAG_SECONDS = 3.0
"""How old the ends of the partitions may be that lag is reckoned from."""


class ConfluentConsumer:
    """See `ingest.transport.Consumer`. A poll costs some 0.7 us per record beyond the client's own."""

    def __init__(self, config: TransportConfig) -> None:
        self._config = config
        self._errors = Errors()
        self._stored: Stored | None = None
        self._at: dict[tuple[str, int], int] = {}
        self._assigned: dict[tuple[str, int], TopicPartition] = {}
        self._position: dict[tuple[str, int], int] = {}  # the next offset to fetch
        self._lost: set[tuple[str, int]] = set()  # were ours, and may have been somebody else's since
        self._order = TimeOrder(align_seconds=config.align_seconds, span_seconds=config.span_seconds)
        self._held: set[tuple[str, int]] = set()  # paused, because they are ahead of the others
        self._is_paused = False
        self._mean_bytes = 1000.0
        self._consumer: Any = None
        self._ends: dict[tuple[str, int], int] = {}
        self._ends_at = 0.0
        self._ends_lock = threading.Lock()
        self._fenced_at = -_FENCED_SECONDS

    def start(self, at: Watermark, stored: Stored | None = None) -> None:
        self._at, self._stored = dict(at.next_offsets), stored
        self._open()

    def _open(self) -> None:
        session_ms = int(self._config.session_timeout_seconds * 1000)
        queue = self._config.queue_bytes
        settings: dict[str, Any] = {
            "group.id": self._config.group_id, "enable.auto.commit": False, "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest", "session.timeout.ms": session_ms,
            "heartbeat.interval.ms": max(100, min(3000, session_ms // 4)), "max.poll.interval.ms": max(600_000, session_ms),
            "partition.assignment.strategy": "cooperative-sticky", "topic.metadata.refresh.interval.ms": 3000,
            "allow.auto.create.topics": True, "error_cb": self._errors,
            "queued.max.messages.kbytes": max(1, queue // 1024), "queued.min.messages": 200_000,
            "fetch.max.bytes": max(1024 * 1024, queue // 2), "fetch.queue.backoff.ms": 20}
        if self._config.instance_id:
            settings["group.instance.id"] = self._config.instance_id
        self._consumer = make(Consumer, self._config, settings)
        try:
            enter(self._consumer, self._config, self._errors)
        except TransportError:
            self.close()
            raise
        names = [re.escape(t) for t in self._config.topics] + list(self._config.patterns)
        # One pattern for all: a topic that appears later is picked up, and a missing one is no error.
        wanted = [f"^({'|'.join(names)})$"] if self._config.patterns else list(self._config.topics)
        self._consumer.subscribe(wanted, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)

    def _on_assign(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        places = [(p.topic, p.partition) for p in partitions]
        stored = self._stored(places) if self._stored is not None else None
        known = stored if stored is not None else self._at
        committed = self._committed(consumer, [p for p, place in zip(partitions, places, strict=True)
                                               if place not in known or (stored is None and place in self._lost)])
        for partition, place in zip(partitions, places, strict=True):
            if stored is not None:
                self._position.pop(place, None)
            if stored is not None and place in stored:
                partition.offset = self._at[place] = stored[place]
            elif place in self._at or place in committed:
                partition.offset = max(self._at.get(place, 0), self._position.get(place, 0), committed.get(place, 0))
            if partition.offset >= 0:
                self._position[place] = partition.offset
            self._assigned[place] = partition
            self._order.expect(place)
        consumer.incremental_assign(partitions)
        # A pause outlives the loss of a partition: one that went while it was paused would come back as such.
        (consumer.pause if self._is_paused else consumer.resume)(partitions)

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
        self._on_lost(consumer, partitions)

    def _on_lost(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        """They have gone already: we were silent for too long."""
        for partition in partitions:
            self._let_go((partition.topic, partition.partition))
        consumer.incremental_unassign(partitions)

    def _let_go(self, place: tuple[str, int]) -> None:
        self._lost.add(place)
        self._assigned.pop(place, None)
        self._held.discard(place)
        if (first := self._order.drop(place)) is not None:
            self._position[place] = first

    def poll(self, max_rows: int, max_ms: int, max_bytes: int = MAX_POLL_BYTES) -> list[Record]:
        deadline = time.monotonic() + max_ms / 1000
        waits_until = 0.0 if self._order.rows else deadline  # of a backlog there may be enough
        while True:
            self._fetch(max_rows, max_bytes, waits_until)
            records = [] if self._is_paused else self._order.take(max_rows, max_bytes, self._behind())
            self._hold()
            if records or time.monotonic() >= deadline:
                return records
            waits_until = deadline

    def _fetch(self, max_rows: int, max_bytes: int, deadline: float) -> None:
        """Fill up what waits, until there is enough for a poll or the time is over."""
        fetched = 0
        while True:
            waiting = (self._order.rows, self._order.bytes)
            if self._order.ahead:  # what waits there may not be given out yet: fetch on for the others
                waiting = (fetched, 0)
            lacks_bytes = (max_bytes - waiting[1]) / self._mean_bytes
            wanted = min(max_rows - waiting[0], _AT_ONCE, int(lacks_bytes) + 1)
            if wanted <= 0:
                if not self._is_paused:
                    return
                wanted = 1
            # One first: to ask for many would be to wait until there are so many, whatever they weigh.
            left = 0.0 if fetched and self._order.ahead else max(0.0, deadline - time.monotonic())
            messages = self._consumer.consume(1, left)
            if not messages:
                self._look_for_the_end()
                return
            if wanted > 1:
                messages += self._consumer.consume(wanted - 1, 0.0)
            self._sort_in(messages)
            fetched += len(messages)
            if self._order.ahead and self._order.bytes > self._config.hold_bytes:
                return

    def _look_for_the_end(self) -> None:
        """librdkafka may end for good, and then just brings nothing. A static member is fenced when the answer to its
        join died with a broker: it comes in anew. Twice in a minute means that two have the same id."""
        last = self._errors.last_words()
        if last is None:
            return
        now = time.monotonic()
        if "fenced" not in last.str().lower() or now - self._fenced_at < _FENCED_SECONDS:
            raise refused(self._config, last.str())
        self._fenced_at = now
        self.close()
        for place in list(self._assigned):
            self._let_go(place)
        self._errors.clear()
        self._open()

    def _sort_in(self, messages: list[Any]) -> None:
        """Messages to records, by runs of one partition each."""
        topic, number, size, heavy = "", -1, 0, 0
        run: list[Record] = []
        for m in messages:
            error = m.error()
            if error is not None:
                if error.code() in FATAL or error.fatal():
                    raise refused(self._config, error.str(), *self._errors.texts())
                continue  # a missing topic, a broker that went away: librdkafka goes on by itself
            if m.partition() != number or m.topic() != topic:
                if run:
                    self._add((topic, number), run, size)
                heavy += size
                topic, number, run, size = m.topic(), m.partition(), [], 0
            headers, value = m.headers(), m.value() or b""
            size += len(value) + RECORD_BYTES
            run.append(Record(topic, number, m.offset(), m.timestamp()[1], value, m.key(),
                              tuple([(k, v or b"") for k, v in headers]) if headers else ()))
        if run:
            self._add((topic, number), run, size)
        if messages:
            self._mean_bytes = max((heavy + size) / len(messages), self._mean_bytes * 0.9)

    def _add(self, place: tuple[str, int], run: list[Record], size: int) -> None:
        """A run of one partition to those that wait; what was fetched before a rebalance is not ours to give out."""
        if place not in self._assigned:
            return
        position = self._position.get(place, 0)
        if run[0].offset < position:
            run = [r for r in run if r.offset >= position]
            size = sum(map(weight, run))
        if run:
            self._position[place] = run[-1].offset + 1
            self._order.add(place, run, size)

    def _behind(self) -> list[tuple[str, int]]:
        """Partitions with more at the broker than we have fetched, as far as is known; the unknown may have."""
        if len(self._assigned) < 2:
            return []
        found = []
        for place, partition in self._assigned.items():
            if place in self._held:
                continue
            _, high = self._consumer.get_watermark_offsets(partition, cached=True)
            if high < 0 or high > self._position.get(place, 0):
                found.append(place)
        return found

    def _hold(self) -> None:
        """Pause those that ran ahead once too much waits; let them go on when it is given out."""
        if self._order.bytes > self._config.hold_bytes:
            ahead = self._order.ahead - self._held
            if ahead:
                self._consumer.pause([self._assigned[p] for p in ahead if p in self._assigned])
                self._held |= ahead
        elif self._held and self._order.bytes < self._config.hold_bytes // 2:
            self._consumer.resume([self._assigned[p] for p in self._held if p in self._assigned])
            self._held.clear()

    def rewind(self, to: Watermark) -> None:
        for place, offset in to.next_offsets.items():
            self._at[place] = offset
            if place in self._assigned:
                self._order.drop(place)
                self._order.expect(place)
                self._position[place] = offset
                self._consumer.seek(TopicPartition(*place, offset))

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
        self._held.clear()
        self._consumer.resume(list(self._assigned.values()))

    def lag(self) -> Mapping[str, int]:
        """Asked by those who show it, from threads of their own."""
        with self._ends_lock:
            if self._consumer is None:
                return {}
            self._look_at_the_ends()
            lag: dict[str, int] = {}
            for place in list(self._assigned):
                if (end := self._ends.get(place, -1)) >= 0:
                    read = self._position.get(place, self._at.get(place, 0)) - self._order.waiting(place)
                    lag[place[0]] = lag.get(place[0], 0) + max(0, end - read)
            return lag

    def _look_at_the_ends(self) -> None:
        """The client learns the ends by fetching, and does not fetch while it has enough: ask the brokers, now and
        then, and for a second at most."""
        is_old = time.monotonic() - self._ends_at > _LAG_SECONDS
        deadline = time.monotonic() + 1.0
        for place, partition in list(self._assigned.items()):
            _, high = self._consumer.get_watermark_offsets(partition, cached=True)
            if is_old and (left := deadline - time.monotonic()) > 0:
                try:
                    _, high = self._consumer.get_watermark_offsets(partition, timeout=left, cached=False)
                except KafkaException:
                    deadline = 0.0  # its broker is away: what the last fetch said stands
            self._ends[place] = max(high, self._ends.get(place, -1))
        if is_old:
            self._ends_at = time.monotonic()

    def close(self) -> None:
        with self._ends_lock:
            if self._consumer is not None:
                self._consumer.close()  # gives its partitions back: the callbacks still need it
                self._consumer = None
