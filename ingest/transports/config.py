"""Settings of a transport, the same for all kinds."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class TransportConfig:
    """Where records come from and go to. `password` and `key_password` are never part of `repr`."""

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
    client_id: str = ""
    """kafka: the name under which brokers list us."""
    instance_id: str = ""
    """kafka: static membership. Who comes back under the same id within the session time-out has its partitions at
    once; in turn they wait for it that long, also after a clean stop. Empty: a new member at every start."""
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
    key_password: str = field(default="", repr=False)
    """Of an encrypted `key`."""
    session_timeout_seconds: float = 10.0
    """How long the group waits for a member that fell silent."""
    connect_timeout_seconds: float = 6.0
    """How long `start` tries before it says what is wrong."""
    queue_bytes: int = 32 * 1024 * 1024
    """kafka: bytes that the client fetches ahead, in all; kafka-python: per fetch."""
    hold_bytes: int = 32 * 1024 * 1024
    """Bytes read and not yet given out, because other partitions are behind them in time (`align_seconds`); beyond it
    those that ran ahead are paused."""
    align_seconds: float = 2.0
    """While catching up, how far in time one partition may be ahead of another one."""
    span_seconds: float = 10.0
    """Longest stretch of time in one poll, so that a backlog is read as it would have come."""
    segment_bytes: int = 64 * 1024 * 1024
    """embedded: a new segment file begins beyond this size."""
    retention_bytes: int = 1024 * 1024 * 1024
    """embedded: per partition; only whole segments that every group has read are deleted."""
