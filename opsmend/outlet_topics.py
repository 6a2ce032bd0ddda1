"""Kafka as a receiver: `opsmend.incidents` (compacted, keyed by id), `opsmend.outcomes`, `opsmend.dead-letters`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import sqlalchemy as sa
import structlog

from ingest.errors import TransportError
from ingest.transport import Producer
from ingest.transports.config import TransportConfig
from ingest.transports.registry import open_producer
from opsmend.cloudevents import CONTENT_TYPE, INCIDENT_TYPES, OUTCOME_TYPE, cloud_event
from opsmend.config_sections import OUR_TOPICS
from opsmend.outlet import DeliveryError
from opsmend.store.outbox import Event, letters_at
from opsmend.store.records import REFUSED

log = structlog.get_logger()
INCIDENTS, OUTCOMES, DEAD_LETTERS = OUR_TOPICS
TOPICS: Final[dict[str, dict[str, str]]] = {INCIDENTS: {"cleanup.policy": "compact"}, OUTCOMES: {}, DEAD_LETTERS: {}}
"""Our topics with their settings, where we may make them."""


class TopicReceiver:
    """See `opsmend.outlet.Receiver`. Connects with its first event, so a broker that is away stops nothing else."""

    kind: Final = "topics"
    name = "topics"
    batch_size = 200

    def __init__(self, config: TransportConfig, engine: sa.Engine, tenant: str) -> None:
        self._config, self._engine, self._tenant = config, engine, tenant
        self._producer: Producer | None = None

    def wants(self, event_type: str) -> bool:
        return event_type in INCIDENT_TYPES or event_type in (OUTCOME_TYPE, REFUSED)

    def deliver(self, events: Sequence[Event]) -> None:
        try:
            if self._producer is None:
                make_topics(self._config)
                self._producer = open_producer(self._config)
            for event in events:
                self._send(self._producer, event)
            self._producer.flush(30.0)
        except TransportError as error:
            raise DeliveryError(str(error)) from error

    def _send(self, producer: Producer, event: Event) -> None:
        if event.type == REFUSED:
            self._send_letters(producer, event)
            return
        topic = OUTCOMES if event.type == OUTCOME_TYPE else INCIDENTS
        producer.send(topic, cloud_event(event, self._tenant), key=event.subject.encode(),
                      headers=[("content-type", CONTENT_TYPE.encode())])

    def _send_letters(self, producer: Producer, event: Event) -> None:
        """The refused bytes as they came; where they came from and why, in headers."""
        places = msgspec.json.decode(event.body, type=list[tuple[str, int, int]])
        for letter in letters_at(self._engine, places):
            where = f"{letter.topic}/{letter.partition}/{letter.offset}"
            producer.send(DEAD_LETTERS, letter.value, key=where.encode(), headers=[
                ("opsmend-reason", letter.reason.encode()), ("opsmend-detail", letter.detail.encode()),
                ("opsmend-topic", letter.topic.encode()), ("opsmend-partition", str(letter.partition).encode()),
                ("opsmend-offset", str(letter.offset).encode())])

    def close(self) -> None:
        if self._producer is not None:
            self._producer.close()


def make_topics(config: TransportConfig) -> None:
    """Make what is missing, with the broker's own number of partitions and copies. Where we may not, somebody else
    has to: that is told once, and writing is tried all the same."""
    make = _make_confluent if config.kind == "kafka" else _make_pure
    for topic, settings in TOPICS.items():
        if trouble := make(config, topic, settings):
            log.warning("outlet.topic_not_made", topic=topic, settings=settings, error=trouble)


def _make_confluent(config: TransportConfig, topic: str, settings: dict[str, str]) -> str:
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import AdminClient, NewTopic

    from ingest.transports.kafka_confluent import client_settings

    admin = AdminClient(client_settings(config))
    wanted = NewTopic(topic, num_partitions=-1, replication_factor=-1, config=settings)
    try:
        admin.create_topics([wanted], request_timeout=10)[topic].result(15)
    except KafkaException as error:
        return "" if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS else str(error.args[0].str())
    except TimeoutError:
        return "no answer in time"
    return ""


def _make_pure(config: TransportConfig, topic: str, settings: dict[str, str]) -> str:
    from kafka.admin import KafkaAdminClient
    from kafka.errors import KafkaError, TopicAlreadyExistsError

    from ingest.transports.kafka_pure import client_settings

    try:
        admin = KafkaAdminClient(**client_settings(config))
    except (KafkaError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    try:
        admin.create_topics({topic: {"configs": settings}}, timeout_ms=10_000)
    except TopicAlreadyExistsError:
        return ""
    except KafkaError as error:
        return f"{type(error).__name__}: {error}"
    finally:
        admin.close()
    return ""
