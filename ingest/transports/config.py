"""Settings of a transport, the same for all kinds."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class TransportConfig:
    """Where records come from and go to. `password` is never part of `repr`."""

    kind: str = "embedded"
    """embedded, kafka (confluent-kafka) or kafka-python."""
    topics: tuple[str, ...] = ()
    """Topics to read, by name."""
    patterns: tuple[str, ...] = ()
    """Topics to read, by regular expression that matches the whole name."""
    data_dir: str = ""
    """embedded: the directory of the log."""
    partitions: int = 4
    """embedded: partitions of a topic made on first use."""
    bootstrap_servers: str = ""
    """kafka: host:port, comma-separated."""
    group_id: str = "opsmend"
    protocol: str = "PLAINTEXT"
    """PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."""
    mechanism: str = ""
    """PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512."""
    username: str = ""
    password: str = field(default="", repr=False)
    ca: str = ""
    """PEM file of the authority that signed the brokers' certificates."""
    cert: str = ""
    key: str = ""
    session_timeout_seconds: float = 10.0
    """How long the group waits for a member that fell silent."""
    connect_timeout_seconds: float = 9.0
    """How long `start` tries before it says what is wrong."""
    segment_bytes: int = 64 * 1024 * 1024
    """embedded: a new segment file begins beyond this size."""
    retention_bytes: int = 1024 * 1024 * 1024
    """embedded: per partition; only whole segments that every group has read are deleted."""
