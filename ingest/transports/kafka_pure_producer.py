"""The producer of kafka-python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError, MessageSizeTooLargeError, TopicAuthorizationFailedError

from ingest.errors import TransportError
from ingest.transports.config import TransportConfig
from ingest.transports.kafka_errors import not_allowed, too_large
from ingest.transports.kafka_pure_client import enter


class PureProducer:
    """See `ingest.transport.Producer`. acks=all. Making one talks to the cluster: raises TransportError that says
    what to look at if that can't be reached or does not let us in."""

    def __init__(self, config: TransportConfig) -> None:
        self._config = config
        self._sent: list[tuple[str, Any]] = []
        self._producer = enter(KafkaProducer, config, {"acks": "all", "linger_ms": 20}, lambda made: made)

    def send(self, topic: str, value: bytes, *, key: bytes | None = None,
             headers: Sequence[tuple[str, bytes]] = (), timestamp_ms: int | None = None) -> None:
        try:
            sent = self._producer.send(topic, value, key, list(headers), timestamp_ms=timestamp_ms)
        except MessageSizeTooLargeError as error:
            raise too_large(topic, value) from error
        except TopicAuthorizationFailedError as error:
            raise not_allowed(self._config, topic, str(error)) from error
        except KafkaError as error:
            raise TransportError(f"Kafka: {type(error).__name__}: {error}") from error
        self._sent.append((topic, sent))

    def flush(self, timeout_seconds: float = 10.0) -> None:
        sent, self._sent = self._sent, []
        try:
            self._producer.flush(timeout_seconds)
            for _, future in sent:
                future.get(timeout_seconds)
        except TopicAuthorizationFailedError as error:
            topic = next(topic for topic, future in sent if future.failed())
            raise not_allowed(self._config, topic, str(error)) from error
        except KafkaError as error:
            raise TransportError(f"Kafka at {self._config.bootstrap_servers}: {type(error).__name__}: {error}") from error

    def close(self) -> None:
        self._producer.close(10)
