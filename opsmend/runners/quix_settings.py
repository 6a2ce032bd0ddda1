"""How the distributed engine is laid out: names of its topics, its shards, how often it commits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from ingest.errors import OpsmendError, TransportError
from ingest.transports.config import TransportConfig
from ingest.transports.kafka_confluent_client import Errors, client_settings, enter

log = structlog.get_logger()
ENVELOPES: Final = "opsmend.envelopes"
SIGNALS: Final = "opsmend.signals"
MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024
"""Of our own topics. One line of 10 MB is rare, but it is not to stop anything."""


@dataclass(frozen=True)
class QuixConfig:
    """Where the engine reads and writes, and its sizes."""

    transport: TransportConfig
    tenant: str
    bucket_seconds: float
    allowed_lateness_seconds: float
    state_dir: Path
    """RocksDB; may be empty or lost, the changelog topics bring it back."""
    shards: int = 8
    """Partitions of `opsmend.envelopes`, and the most workers that have something to do."""
    envelope_rows: int = 1000
    envelope_bytes: int = 512 * 1024
    commit_seconds: float = 1.0
    """A transaction lasts so long; nobody sees what is in it before."""
    transaction_timeout_seconds: float = 8.0
    """When the broker gives up the transaction of a worker that died; until then its shards stand still."""
    session_timeout_seconds: float = 6.0
    idle_seconds: float = 60.0
    """A raw partition that is so far behind the others in event time is no longer waited for."""
    max_rows: int = 20_000
    max_poll_ms: int = 250

    @property
    def detect_group(self) -> str:
        """The consumer group of the shards; the engine names their changelog after it."""
        return f"{self.transport.group_id}-detect"

    def producer_settings(self) -> dict[str, Any]:
        """For every transactional producer of the engine."""
        return {"transaction.timeout.ms": int(self.transaction_timeout_seconds * 1000), "linger.ms": 5,
                "compression.type": "lz4", "message.max.bytes": MAX_MESSAGE_BYTES,
                "queue.buffering.max.kbytes": 256 * 1024}


def make_topics(config: QuixConfig) -> None:
    """Make what is missing of our topics. Raises OpsmendError if the envelopes have another number of partitions than
    there are shards: services would move to other shards, whose state knows nothing of them."""
    wanted = {ENVELOPES: config.shards, SIGNALS: 1}
    settings = {"max.message.bytes": str(MAX_MESSAGE_BYTES), "retention.ms": str(6 * 3600 * 1000)}
    errors = Errors()
    admin = AdminClient({**client_settings(config.transport), "error_cb": errors})
    enter(admin, config.transport, errors)
    topics = [NewTopic(name, num_partitions=count, replication_factor=-1, config=settings)
              for name, count in wanted.items()]
    for name, future in admin.create_topics(topics, request_timeout=10).items():
        try:
            future.result(15)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise TransportError(f"[ingest.kafka] the topic {name} could not be made: {error.args[0].str()}. "
                                     f"Make it with {wanted[name]} partitions, or let us.") from error
    known = admin.list_topics(timeout=10).topics
    for name, count in wanted.items():
        partitions = len(known[name].partitions) if name in known else count
        if partitions != count:
            raise OpsmendError(f"[scale] shards: the topic {name} has {partitions} partitions, not {count}. Set "
                               f"shards = {partitions}, or stop all workers and delete the topic and its changelog.",
                               reason="configuration")
