"""What consumer and producer of librdkafka share: settings, and the first talk to the cluster."""

from __future__ import annotations

import time
from collections import deque
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

from ingest.transports.config import TransportConfig
from ingest.transports.kafka_errors import cause, refused, require_settings

FATAL = frozenset({KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError.SASL_AUTHENTICATION_FAILED,
                   KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED,
                   KafkaError.CLUSTER_AUTHORIZATION_FAILED, KafkaError._FENCED, KafkaError.FENCED_INSTANCE_ID})
"""Errors that no retry will mend."""


def client_settings(config: TransportConfig) -> dict[str, Any]:
    """What every client of librdkafka needs to reach and enter the cluster. Raises TransportError if no cluster is
    named, or a file is not there. Holds the passwords: never to be shown."""
    require_settings(config)
    settings: dict[str, Any] = {"bootstrap.servers": config.bootstrap_servers, "security.protocol": config.protocol,
                                "socket.connection.setup.timeout.ms": 5000, "log_level": 2}
    if config.client_id:
        settings["client.id"] = config.client_id
    if config.mechanism:
        settings |= {"sasl.mechanism": config.mechanism, "sasl.username": config.username,
                     "sasl.password": config.password}
    for name, value in (("ssl.ca.location", config.ca), ("ssl.certificate.location", config.cert),
                        ("ssl.key.location", config.key), ("ssl.key.password", config.key_password)):
        if value:
            settings[name] = value
    return settings


_Client = TypeVar("_Client", Consumer, Producer)


class Errors:
    """What librdkafka tells on the side, and nowhere else: a wrong password is retried for ever without an error of
    any call."""

    def __init__(self) -> None:
        self._kept: deque[KafkaError] = deque(maxlen=20)

    def __call__(self, error: KafkaError) -> None:
        self._kept.append(error)

    def texts(self) -> list[str]:
        """All that was told; "1/1 brokers are down" says less than the line before it."""
        return [e.str() for e in self._kept if e.code() != KafkaError._ALL_BROKERS_DOWN]

    def are_fatal(self) -> bool:
        return any(e.code() in FATAL or e.fatal() for e in self._kept) or cause(self.texts())[2]

    def last_words(self) -> KafkaError | None:
        """The error after which this client does nothing any more, if there was one."""
        return next((e for e in self._kept if e.fatal()), None)

    def clear(self) -> None:
        self._kept.clear()


def make(client: type[_Client], config: TransportConfig, settings: dict[str, Any]) -> _Client:
    """A client; a setting that librdkafka refuses (a key that is none) is told as what it is."""
    try:
        return client({**client_settings(config), **settings})
    except KafkaException as error:
        raise refused(config, str(error.args[0].str())) from error


def enter(client: Any, config: TransportConfig, errors: Errors) -> None:
    """Talk to the cluster once, for at most `connect_timeout_seconds`. Raises TransportError that says what to look
    at; the client is then to be closed."""
    deadline = time.monotonic() + config.connect_timeout_seconds
    why = ""
    while True:
        try:
            client.list_topics(timeout=min(0.5, max(0.05, deadline - time.monotonic())))
            errors.clear()
            return
        except KafkaException as error:
            why = str(error.args[0].str())
        client.poll(0)  # serves the callback of errors
        if errors.are_fatal() or time.monotonic() >= deadline:
            raise refused(config, why, *errors.texts())
