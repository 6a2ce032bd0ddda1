"""What a release of a shop service may set. A release file is this plus its names."""

from __future__ import annotations

import msgspec


class ReleaseSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Behaviour of one release. The defaults are a sound release."""

    cpu_ms_per_request: float = 0.0
    """CPU spent on each request, ms."""
    cache_bytes_per_request: int = 0
    """Bytes kept for ever after each request."""
    keep_connection_every: int = 0
    """Every n-th database connection is not given back; 0: all are."""
    exit_after_requests: int = 0
    """The process ends with status 1 after that many requests; 0: never."""
    log_lines_per_request: int = 1
    """Lines of the access log for each request."""
    log_level: str = "info"
    bank_url: str = ""
    """Where payments finds the bank; empty: by discovery."""


class Release(msgspec.Struct, frozen=True):
    """One release file."""

    version: str
    kind: str  # rollout | config
    config_version: str
    settings: ReleaseSettings = ReleaseSettings()


class Spec(msgspec.Struct, frozen=True):
    """What one process of the shop is started with."""

    service: str
    instance: str
    fd: int
    """The listening socket, inherited."""
    version: str
    discovery: str
    """File with `{service: [port, ...]}`; read again when it changes."""
    settings: ReleaseSettings = ReleaseSettings()
    postgres_dsn: str = ""
    redis_url: str = ""
    receipts: str = ""
    """bank: the file it writes receipts to."""
