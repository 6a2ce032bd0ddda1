"""The producer of librdkafka."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from confluent_kafka import KafkaError, KafkaException, Producer

from ingest.errors import TransportError
from ingest.transports.config import TransportConfig
from ingest.transports.kafka_confluent_client import FATAL, Errors, enter, make
from ingest.transports.kafka_errors import not_allowed, refused, too_large

# An idempotent producer without any right to write is refused as such.
_NOT_ALLOWED = frozenset({KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED})


class ConfluentProducer:
    """See `ingest.transport.Producer`. Idempotent, acks=all. Making one talks to the cluster: raises TransportError
    that says what to look at if that can't be reached or does not let us in."""

    def __init__(self, config: TransportConfig) -> None:
        self._config = config
        self._failed: list[tuple[KafkaError, str]] = []
        self._topic = ""  # of the last record
        self._errors = Errors()
        self._producer = make(Producer, config, {
            "enable.idempotence": True, "linger.ms": 20, "compression.type": "lz4", "delivery.timeout.ms": 60_000,
            "error_cb": self._errors})
        enter(self._producer, config, self._errors)

    def send(self, topic: str, value: bytes, *, key: bytes | None = None,
             headers: Sequence[tuple[str, bytes]] = (), timestamp_ms: int | None = None) -> None:
        self._topic = topic
        stamp = {} if timestamp_ms is None else {"timestamp": timestamp_ms}
        while True:
            try:
                self._producer.produce(topic, value, key, headers=list(headers) or None,
                                       on_delivery=self._delivered, **stamp)
                self._producer.poll(0)
                return
            except BufferError:
                self._producer.poll(0.2)  # full: wait for the broker
                self._look()
            except KafkaException as error:
                if error.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE:
                    raise too_large(topic, value) from error
                if error.args[0].code() in _NOT_ALLOWED:
                    raise not_allowed(self._config, topic, error.args[0].str()) from error
                raise TransportError(f"Kafka: {topic}: {error.args[0].str()}", is_transient=False) from error

    def _look(self) -> None:
        """A password that was changed while we run: no record will ever leave."""
        if self._errors.are_fatal():
            texts = self._errors.texts()
            self._errors.clear()
            if any("CLUSTER_AUTHORIZATION" in t or "Cluster authorization" in t for t in texts):
                raise not_allowed(self._config, self._topic, texts[-1])
            raise refused(self._config, texts[-1], *texts)

    def _delivered(self, error: KafkaError | None, message: object) -> None:
        if error is not None:
            self._failed.append((error, message.topic()))  # type: ignore[attr-defined]

    def flush(self, timeout_seconds: float = 10.0) -> None:
        try:
            left = self._producer.flush(timeout_seconds)
        except KafkaException as error:  # fatal: this producer sends nothing any more
            last = error.args[0]
            if last.code() in _NOT_ALLOWED:
                raise not_allowed(self._config, self._topic, last.str()) from error
            raise refused(self._config, last.str()) from error
        failed, self._failed = self._failed, []
        for told, topic in failed:
            if told.code() in _NOT_ALLOWED:
                raise not_allowed(self._config, topic, told.str())
            if told.code() in FATAL:
                raise refused(self._config, told.str())
        if left:
            self._look()
        if left or failed:
            raise TransportError(f"Kafka at {self._config.bootstrap_servers}: {left + len(failed)} records were not "
                                 f"taken{': ' + failed[0][0].str() if failed else ''}")

    def close(self) -> None:
        with suppress(KafkaException):  # a fatal error was told by `flush`
            self._producer.flush(10)
