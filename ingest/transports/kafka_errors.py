"""What both Kafka clients say when they can't go on; each names what to look at."""

from __future__ import annotations

from ingest.errors import TransportError
from ingest.transports.config import TransportConfig


def refused(config: TransportConfig, why: str) -> TransportError:
    """The cluster can't be reached, or does not let us in."""
    return TransportError(f"Kafka at {config.bootstrap_servers} ({config.protocol}): {why}. Check [ingest.kafka] "
                          "bootstrap_servers and security.", is_transient=False)


def require_bootstrap(config: TransportConfig) -> None:
    """Raises TransportError (reason "configuration") if no broker is named."""
    if not config.bootstrap_servers.strip():
        raise TransportError("[ingest.kafka] bootstrap_servers is not set: name a broker as host:port",
                             reason="configuration", is_transient=False)


def too_large(topic: str, value: bytes) -> TransportError:
    """A record that no retry will bring in."""
    return TransportError(f"Kafka: a record of {len(value)} bytes for topic '{topic}' is larger than Kafka takes "
                          "(1 MB unless max.message.bytes says otherwise)", reason="too_large", is_transient=False)
