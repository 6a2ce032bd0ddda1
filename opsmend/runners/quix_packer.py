"""The packer: raw records in, envelopes out, exactly once. It keeps nothing that a restart would miss.

Rows go to shards by service. One record for hundreds of rows is what makes the engine affordable: a Kafka record costs
the stages after it some 50 us, whatever is in it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import structlog
from confluent_kafka import KafkaException, TopicPartition
from quixstreams.kafka import Producer

from ingest.decode import Decoder, DecoderConfig
from ingest.errors import TransportError
from ingest.transports.kafka_confluent import ConfluentConsumer, client_settings
from ingest.types import Batch, Record, Watermark
from opsmend.pipeline import totals
from opsmend.runners.quix_clock import PackerClock
from opsmend.runners.quix_envelope import Packed, encode
from opsmend.runners.quix_fence import new_name
from opsmend.runners.quix_settings import ENVELOPES, SIGNALS, QuixConfig
from opsmend.runners.quix_sharding import Sharding
from rootcause.graph import GraphBuilder

log = structlog.get_logger()
_Member = TypeVar("_Member")
_TELL_AGAIN_NS = 600 * 10**9
"""An edge is told again after this long; those who listen forget it after an hour."""
_TELL_INSTANCES_NS = 240 * 10**9
"""These are forgotten after ten minutes."""
_COMMIT_TIMEOUT = 30.0
_PATIENCE_SECONDS = 120.0


class PackerConsumer(ConfluentConsumer):
    """A consumer whose position is stored with what it led to, in one transaction."""

    def group_metadata(self) -> Any:
        return self._consumer.consumer_group_metadata()

    def assigned(self) -> list[tuple[str, int]]:
        """The partitions that are ours now."""
        return sorted(self._assigned)


class Packer:
    """`turn()` reads one poll, writes its envelopes and moves on, all of it in one transaction or none of it.

    A rebalance in between undoes the turn. Raises KafkaException when no transaction can be had any more (the broker
    gave us up): then nothing of it was written, and a new Packer begins where the last transaction ended.
    """

    def __init__(self, config: QuixConfig, decoder: DecoderConfig, *,
                 on_packed: Callable[[int], None] = lambda records: None) -> None:
        self._config = config
        self._decoder = Decoder(decoder)
        self._sharding = Sharding(config.tenant, config.shards, envelope_rows=config.envelope_rows,
                                  envelope_bytes=config.envelope_bytes)
        self._clock = PackerClock(int(config.bucket_seconds * 1e9))
        self._graph = GraphBuilder()
        self._told: dict[object, int] = {}
        self._on_packed = on_packed
        name = new_name(config.transport.group_id)
        self._consumer = PackerConsumer(replace(config.transport, client_id=name))
        self._producer = Producer(
            _address(config), extra_config={**client_settings(config.transport), **config.producer_settings(),
                                            "transactional.id": name},
            transactional=True)

    def start(self) -> None:
        """Join the group. Raises TransportError if the broker can't be reached."""
        self._consumer.start(Watermark())

    def turn(self) -> int:
        """One poll; gives how many records it brought."""
        records = self._consumer.poll(self._config.max_rows, self._config.max_poll_ms)
        if records:
            self._transact(records)
        elif self._clock.has_gone_idle(self._consumer.assigned()):
            self._transact(())
        return len(records)

    def _transact(self, records: Sequence[Record]) -> None:
        batch = self._decoder.decode(records)
        self._clock.take(batch)
        self._producer.begin_transaction()
        try:
            self._graph.step(batch)
            self._write(batch)
            offsets = [TopicPartition(topic, partition, offset)
                       for (topic, partition), offset in batch.watermark.next_offsets.items()]
            if offsets:
                self._producer.send_offsets_to_transaction(offsets, self._consumer.group_metadata(), _COMMIT_TIMEOUT)
            self._producer.commit_transaction(_COMMIT_TIMEOUT)
        except KafkaException as error:
            if not error.args[0].txn_requires_abort():
                raise
            # A rebalance came between poll and commit. What is still ours is read again, the rest by its new owner.
            log.info("packer.transaction_aborted", error=error.args[0].str())
            self._producer.abort_transaction(5.0)
            self._consumer.rewind(_first(records))
            self._told.clear()
            return
        self._on_packed(len(records))

    def _write(self, batch: Batch) -> None:
        sources = self._clock.sources(self._consumer.assigned(), is_idle=not batch.records_in)
        rows = self._graph.resolved(batch)
        envelopes = self._sharding.split(rows, self._clock.newest_ns, sources, self._clock.touched(rows))
        for shard, envelope in envelopes:
            self._producer.produce(ENVELOPES, encode(envelope), key=b"%d" % shard, partition=shard)
        if batch.records_in:
            packed = self._packed(batch)
            self._producer.produce(SIGNALS, encode(packed), key=self._config.tenant.encode())

    def _packed(self, batch: Batch) -> Packed:
        seen = self._graph.sightings()
        return Packed(
            totals=totals(batch), dead_letters=batch.dead_letters, changes=batch.changes,
            services=self._news("service", seen.services), edges=self._news("edge", seen.edges),
            kinds=self._news("kind", seen.kinds), rests_on=self._news("on", seen.rests_on), seen_ns=self._clock.newest_ns,
            instances=self._news("in", seen.instances, _TELL_INSTANCES_NS))

    def _news(self, what: str, seen: Mapping[_Member, int], again_ns: int = _TELL_AGAIN_NS) -> tuple[_Member, ...]:
        """Of what the graph holds, what the tenant was not told yet, or not lately."""
        return tuple(member for member, at in seen.items() if self._is_news((what, member), at, again_ns))

    def _is_news(self, what: object, seen_ns: int, again_ns: int) -> bool:
        last = self._told.get(what)
        if last is not None and seen_ns - last < again_ns:
            return False
        if len(self._told) > 100_000:
            self._told.clear()
        self._told[what] = seen_ns
        return True

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()


def _first(records: Sequence[Record]) -> Watermark:
    """Where a poll began."""
    at: dict[tuple[str, int], int] = {}
    for r in records:
        at[r.topic, r.partition] = min(r.offset, at.get((r.topic, r.partition), r.offset))
    return Watermark(at)


def _address(config: QuixConfig) -> str:
    return config.transport.bootstrap_servers


def pack(config: QuixConfig, decoder: DecoderConfig, stop: threading.Event, *,
         on_packed: Callable[[int], None] = lambda records: None) -> None:
    """Pack until `stop`. A packer that lost its transaction for good (it was silent too long, the broker went away) is
    replaced by a new one, which begins where the last transaction ended; after two minutes without any, the error is
    raised."""
    good_at = time.monotonic()
    while not stop.is_set():
        try:
            packer = Packer(config, decoder, on_packed=on_packed)
            try:
                packer.start()
                while not stop.is_set():
                    packer.turn()
                    good_at = time.monotonic()
            finally:
                packer.close()
        except (KafkaException, TransportError) as error:
            if time.monotonic() - good_at > _PATIENCE_SECONDS:
                raise
            log.warning("packer.begins_again", error=str(error))
            stop.wait(1.0)
