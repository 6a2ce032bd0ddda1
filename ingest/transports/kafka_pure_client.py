"""What consumer and producer of kafka-python share: settings, and the first talk to the cluster."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from kafka.errors import KafkaError

from ingest.transports.config import TransportConfig
from ingest.transports.kafka_errors import cause, refused, require_settings

# The client says what is wrong to its logger alone, and again and again. We listen there and tell it once.
logging.getLogger("kafka").addHandler(logging.NullHandler())
_FIRST_SECONDS = 2.0
_Client = TypeVar("_Client")


def client_settings(config: TransportConfig) -> dict[str, Any]:
    """What every client needs to reach and enter the cluster. Raises TransportError if no cluster is named, or a file
    is not there. Holds the passwords: never to be shown."""
    require_settings(config)
    settings: dict[str, Any] = {"bootstrap_servers": config.bootstrap_servers.split(","),
                                "security_protocol": config.protocol,
                                "bootstrap_timeout_ms": int(config.connect_timeout_seconds * 1000)}
    if config.mechanism:
        settings |= {"sasl_mechanism": config.mechanism, "sasl_plain_username": config.username,
                     "sasl_plain_password": config.password}
    for name, value in (("ssl_cafile", config.ca), ("ssl_certfile", config.cert), ("ssl_keyfile", config.key),
                        ("ssl_password", config.key_password)):
        if value:
            settings[name] = value
    return settings


class _Ears(logging.Handler):
    """Keeps what the client logs. Its log holds no passwords (a contract test looks)."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.told: deque[str] = deque(maxlen=200)

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if "in the clear" not in text:  # a warning, at every log-in without TLS
            self.told.append(text.partition("failed: ")[2] or text)


def enter(client: Callable[..., _Client], config: TransportConfig, settings: dict[str, Any],
          look: Callable[[_Client], object]) -> _Client:
    """A client that has talked to the cluster. Two seconds first: should the cluster have said what it dislikes, no
    longer try helps. Raises TransportError that says what to look at."""
    logger, ears = logging.getLogger("kafka"), _Ears()
    begun = time.monotonic()
    logger.addHandler(ears)
    try:
        for seconds in (min(_FIRST_SECONDS, config.connect_timeout_seconds), config.connect_timeout_seconds):
            left = max(0.1, min(seconds, config.connect_timeout_seconds - (time.monotonic() - begun)))
            try:
                made = client(**{**client_settings(config), **settings, "bootstrap_timeout_ms": int(left * 1000)})
                look(made)
                return made
            except (KafkaError, OSError, ValueError, AssertionError) as error:
                why = f"{type(error).__name__}: {str(error).removeprefix(type(error).__name__ + ': ')}"
                failed = error
            if cause([*ears.told, why])[2] or time.monotonic() - begun >= config.connect_timeout_seconds:
                break
    finally:
        logger.removeHandler(ears)
    told = [text for text in ears.told if "socket disconnected" not in text and "not ready" not in text]
    if config.mechanism and not cause(told)[2] and len(told) < len(ears.told):
        # The client misses the answer of a broker that then closes the connection.
        why += "; the brokers closed the connection during log-in, as when authentication failed"
    raise refused(config, f"{why} after {time.monotonic() - begun:.0f} s", *told) from failed
