"""Where the lab keeps its files, and who may know which.

`opsmend/` is the healer's data directory; `public/` holds what any agent on a host could read;
`private/` holds the truth (load results, tokens of the deployer, receipts) and is not for the healer.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec


@dataclass(frozen=True)
class Layout:
    """Paths below the root of one lab."""

    root: Path

    @property
    def healer(self) -> Path:
        return self.root / "opsmend"

    @property
    def public(self) -> Path:
        return self.root / "public"

    @property
    def private(self) -> Path:
        return self.root / "private"

    @property
    def discovery(self) -> Path:
        return self.public / "discovery.json"

    @property
    def instances(self) -> Path:
        return self.public / "instances.json"

    @property
    def changes(self) -> Path:
        return self.public / "changes.ndjson"

    @property
    def logs(self) -> Path:
        return self.public / "logs"

    @property
    def latest(self) -> Path:
        """The newest sample of every metric, for agents that poll."""
        return self.public / "latest.json"

    @property
    def releases(self) -> Path:
        return self.private / "releases"

    @property
    def effects(self) -> Path:
        return self.private / "effects.ndjson"

    @property
    def sli(self) -> Path:
        return self.private / "sli.ndjson"

    @property
    def receipts(self) -> Path:
        return self.private / "receipts"

    @property
    def ready(self) -> Path:
        return self.private / "ready.json"

    @property
    def disturbances(self) -> Path:
        """What is wrong with the network (`links.Disturbance` by edge)."""
        return self.private / "links.json"

    @property
    def postgres_log(self) -> Path:
        return self.private / "postgres.log"

    def make(self) -> None:
        """All directories; `private/` for the owner alone."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o711)  # PostgreSQL runs as another user and must pass through
        self.private.mkdir(mode=0o700, exist_ok=True)
        for path in (self.healer, self.public, self.logs, self.releases):
            path.mkdir(exist_ok=True)


class Ready(msgspec.Struct, frozen=True):
    """What the supervisor writes when everything is up. `deploy_token` is for the deployer alone."""

    actuator_unix: str
    actuator_url: str
    control_token: str
    deploy_token: str
    supervisor_pid: int
    postgres_port: int = 0
    redis_port: int = 0

    def postgres_dsn(self, role: str) -> str:
        """"" without PostgreSQL. `role` is lab, shop, reporting or opsmend."""
        return f"postgresql://{role}@127.0.0.1:{self.postgres_port}/postgres" if self.postgres_port else ""

    @property
    def redis_url(self) -> str:
        return f"redis://127.0.0.1:{self.redis_port}/0" if self.redis_port else ""


class Boot(msgspec.Struct, frozen=True):
    """What the supervisor is started with."""

    root: str
    transport_kind: str
    transport_dir: str
    bootstrap_servers: str
    requests_per_second: float
    seed: int
    day: str
    with_postgres: bool = True
    with_redis: bool = True
    ephemeral: bool = False
    """Remove `root` at the end."""
