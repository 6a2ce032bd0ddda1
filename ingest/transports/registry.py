"""The transports. A new one is a file and a line here; modules are imported when one is opened."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import cast

from ingest.errors import TransportError
from ingest.transport import Consumer, Producer
from ingest.transports.config import TransportConfig

TRANSPORTS: dict[str, tuple[str, str, str]] = {
    "embedded": ("ingest.transports.embedded", "EmbeddedConsumer", "EmbeddedProducer"),
    "kafka": ("ingest.transports.kafka_confluent", "ConfluentConsumer", "ConfluentProducer"),
    "kafka-python": ("ingest.transports.kafka_pure", "PureConsumer", "PureProducer"),
}


def _load(kind: str, which: int) -> Callable[[TransportConfig], object]:
    if kind not in TRANSPORTS:
        raise TransportError(f"unknown transport '{kind}'; one of {', '.join(TRANSPORTS)}", reason="configuration",
                             is_transient=False)
    entry = TRANSPORTS[kind]
    try:
        return cast(Callable[[TransportConfig], object], getattr(import_module(entry[0]), entry[which]))
    except ModuleNotFoundError as error:
        raise TransportError(f"transport '{kind}' needs the package {error.name}: pip install 'opsmend[kafka]'",
                             reason="missing_package", is_transient=False) from error


def open_consumer(config: TransportConfig) -> Consumer:
    """A consumer; nothing is connected before `start`."""
    return cast(Consumer, _load(config.kind, 1)(config))


def open_producer(config: TransportConfig) -> Producer:
    """A producer."""
    return cast(Producer, _load(config.kind, 2)(config))
