"""`Lab`: the whole system as a context manager, with its faults and its truth."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Self

import msgspec

from ingest.transports.config import TransportConfig
from opsmend.lab import sli, topology
from opsmend.lab.backends import LabError
from opsmend.lab.deployer import SENTINEL_PREFIX, SENTINELS, Deployer
from opsmend.lab.effects import Effect, read_effects
from opsmend.lab.faults import FAULTS, Injection, available
from opsmend.lab.layout import Boot, Layout, Ready
from opsmend.lab.processes import write_atomic
from opsmend.lab.sli import Second, SliRule

_MACHINE_LOCK = "opsmend-lab.lock"
CONTROL_TOKEN_ENV = "OPSMEND_LAB_TOKEN"  # the name of a variable, not a secret
POSTGRES_DSN_ENV = "OPSMEND_LAB_POSTGRES"
REDIS_URL_ENV = "OPSMEND_LAB_REDIS"


@dataclass(frozen=True)
class LabConfig:
    """How a lab is set up."""

    data_dir: str = ""
    """Root of all its files; empty: a temporary directory that is removed at the end. No second lab in it."""
    requests_per_second: float = 30.0
    seed: int = 0
    """Of the load."""
    with_postgres: bool = True
    with_redis: bool = True
    transport_kind: str = "embedded"
    """embedded, kafka or kafka-python."""
    bootstrap_servers: str = ""
    lock_wait_seconds: float = 0.0
    """How long to wait for another lab on this machine to end: two of them disturb each other's timing."""
    start_timeout_seconds: float = 60.0


class Lab:
    """A running shop. All of it ends when the process that started it ends, however that comes about."""

    def __init__(self, config: LabConfig | None = None) -> None:
        self.config = config or LabConfig()
        self.rule = SliRule()
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._holder: subprocess.Popen[bytes] | None = None
        self._locks: list[IO[bytes]] = []
        self._layout: Layout | None = None
        self._ready: Ready | None = None
        self._deployer: Deployer | None = None
        self._oracle: Deployer | None = None
        self._versions: dict[str, str] = {}

    # -- life ---------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Self:
        """Everything up and healthy; 3 to 6 s. Raises LabError, with nothing left behind."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def _start(self) -> None:
        config = self.config
        self._take_lock(Path(tempfile.gettempdir()) / _MACHINE_LOCK, config.lock_wait_seconds)
        root = Path(config.data_dir).expanduser().resolve() if config.data_dir else Path(
            tempfile.mkdtemp(prefix="opsmend-lab-"))
        self._layout = layout = Layout(root)
        layout.make()
        self._take_lock(layout.private / "lock", 0.0)
        for stale in (layout.ready, layout.instances, layout.discovery, layout.changes, layout.sli):
            stale.unlink(missing_ok=True)
        for stale_dir in (layout.root / "pg", layout.releases, layout.logs):
            shutil.rmtree(stale_dir, ignore_errors=True)
        layout.make()
        boot = Boot(str(root), config.transport_kind, str(layout.healer / "transport"), config.bootstrap_servers,
                    config.requests_per_second, config.seed, datetime.now(UTC).strftime("%Y.%m.%d"),
                    config.with_postgres, config.with_redis, ephemeral=not config.data_dir)
        write_atomic(layout.private / "boot.json", msgspec.json.encode(boot))
        log = layout.private / "supervisor.log"
        with log.open("ab") as file:
            self._supervisor = subprocess.Popen(
                [sys.executable, "-m", "opsmend.lab.supervisor", str(layout.private / "boot.json")],
                stdin=subprocess.PIPE, stdout=file, stderr=file, start_new_session=True)
        self._await_ready(log)
        self._deployer = Deployer(layout, self.ready)
        self._oracle = Deployer(layout, self.ready, actor="oracle")
        if self.ready.redis_port:
            self._deployer.put_sentinels()
        self._note_versions()

    def _take_lock(self, path: Path, wait_seconds: float) -> None:
        file = path.open("ab")
        self._locks.append(file)
        deadline = time.monotonic() + wait_seconds
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LabError(f"another lab is running here (lock {path}); stop it, or wait for it",
                                   reason="busy") from None
                time.sleep(0.2)

    def _await_ready(self, log: Path) -> None:
        assert self._supervisor is not None
        assert self._layout is not None
        deadline = time.monotonic() + self.config.start_timeout_seconds
        while not self._layout.ready.exists():
            if self._supervisor.poll() is not None or time.monotonic() > deadline:
                words = log.read_text(errors="replace").strip()[-800:] if log.exists() else ""
                raise LabError(f"the lab did not start: {words or 'it took too long'}")
            time.sleep(0.03)
        self._ready = msgspec.json.decode(self._layout.ready.read_bytes(), type=Ready)

    def stop(self) -> None:
        """End every process; remove a temporary directory. May be called twice."""
        for deployer in (self._deployer, self._oracle):
            if deployer:
                deployer.close()
        self._deployer = self._oracle = None
        self._drop_holder()
        if self._supervisor is not None:
            assert self._supervisor.stdin is not None
            self._supervisor.stdin.close()
            try:
                self._supervisor.wait(15.0)
            except subprocess.TimeoutExpired:
                self._supervisor.kill()  # its children get SIGKILL from the kernel
                self._supervisor.wait()
            self._supervisor = None
        if self._layout is not None and not self.config.data_dir:
            shutil.rmtree(self._layout.root, ignore_errors=True)
        for lock in self._locks:
            lock.close()
        self._locks.clear()

    def _drop_holder(self) -> None:
        if self._holder is not None:
            for pipe in (self._holder.stdin, self._holder.stdout):
                if pipe:
                    pipe.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._holder.wait(3.0)
            if self._holder.poll() is None:
                self._holder.kill()
                self._holder.wait()
            self._holder = None

    # -- what a healer may know ---------------------------------------------------------------------------

    @property
    def layout(self) -> Layout:
        if self._layout is None:
            raise LabError("the lab was not started")
        return self._layout

    @property
    def ready(self) -> Ready:
        if self._ready is None:
            raise LabError("the lab was not started")
        return self._ready

    @property
    def deployer(self) -> Deployer:
        """The client that knows the truth; not for the healer."""
        if self._deployer is None:
            raise LabError("the lab was not started")
        return self._deployer

    @property
    def data_dir(self) -> Path:
        """The healer's data directory (`[service] data_dir`); the embedded transport is in `transport/`."""
        return self.layout.healer

    @property
    def actuator_url(self) -> str:
        """`unix:///...`; the same API is on `actuator_tcp_url`."""
        return self.ready.actuator_unix

    @property
    def actuator_tcp_url(self) -> str:
        return self.ready.actuator_url

    @property
    def postgres_dsn(self) -> str:
        """For the healer's role, which may signal backends; "" without PostgreSQL."""
        return self.ready.postgres_dsn("opsmend")

    @property
    def redis_url(self) -> str:
        """"" without Redis."""
        return self.ready.redis_url

    @property
    def transport_config(self) -> TransportConfig:
        """What the pipeline reads from."""
        return TransportConfig(kind=self.config.transport_kind, topics=("logs", "metrics", "traces", "changes"),
                               data_dir=str(self.data_dir / "transport"),
                               bootstrap_servers=self.config.bootstrap_servers)

    def environment(self) -> dict[str, str]:
        """Variables that `opsmend_config` refers to."""
        found = {CONTROL_TOKEN_ENV: self.ready.control_token, POSTGRES_DSN_ENV: self.postgres_dsn,
                 REDIS_URL_ENV: self.redis_url}
        return {name: value for name, value in found.items() if value}

    def opsmend_config(self, *, mode: str = "auto", listen: str = "127.0.0.1:0") -> dict[str, Any]:
        """Settings for `opsmend run` on this lab; `environment()` has to be set for it."""
        actuator: dict[str, Any] = {"url": self.actuator_url, "token_env": CONTROL_TOKEN_ENV,
                                    "protected_prefixes": ["cart:", "catalog:", SENTINEL_PREFIX]}
        if self.postgres_dsn:
            actuator["postgres_dsn_env"] = POSTGRES_DSN_ENV
        if self.redis_url:
            actuator["redis_url_env"] = REDIS_URL_ENV
        ingest: dict[str, Any] = {
            "transport": self.config.transport_kind, "max_poll_ms": 200,
            "topics": [{"name": "logs"}, {"name": "metrics"}, {"name": "traces"}, {"name": "changes"}]}
        if self.config.bootstrap_servers:
            ingest["kafka"] = {"bootstrap_servers": self.config.bootstrap_servers, "group_id": "opsmend-lab"}
        actions = {"postgres": ["postgres.terminate_blocker", "notify"], "redis": ["cache.purge_prefix", "notify"]}
        shop = ["process.restart", "process.kill", "process.scale", "release.rollback", "notify"]
        return {
            "service": {"data_dir": str(self.data_dir), "listen": listen},
            "ingest": ingest,
            "detect": {"bucket_seconds": 1.0, "allowed_lateness_seconds": 1.0},
            "topology": {"edges": [list(e) for e in topology.EDGES], "external": list(topology.EXTERNAL)},
            "limits": {f"{s}/process.memory.rss": float(topology.MEMORY_LIMIT_BYTES) for s in topology.SERVICES},
            "actuator": actuator,
            "repair": {
                "mode": mode, "diagnose_after_seconds": 2.0,
                "budget": {"actions_per_hour": 1000, "services_at_once": 1, "cooldown_seconds": 15.0,
                           "max_blast_radius": 1.0},
                "verify": {"baseline_seconds": 20.0, "settle_seconds": 4.0, "watch_seconds": 6.0},
                "allow": [{"service": s, "actions": actions.get(s, shop), "mode": "auto"}
                          for s in topology.REPAIRABLE]},
        }

    # -- the truth ----------------------------------------------------------------------------------------

    def faults(self) -> dict[str, str]:
        """Name -> "" if it can be injected here, else why not."""
        return available(bool(self.ready.postgres_port), bool(self.ready.redis_port))

    def inject(self, fault: str) -> Injection:
        """Make a fault, by a process of its own. Raises LabError if it can't be made here."""
        if why := self.faults().get(fault, "is no fault of the lab"):
            raise LabError(f"{fault} {why}")
        self._drop_holder()
        process = subprocess.Popen([sys.executable, "-m", "opsmend.lab.inject", fault, str(self.layout.root)],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdin is not None
        line = process.stdout.readline()
        if not line:
            words = process.stderr.read().decode(errors="replace")
            process.stdin.close()
            process.stdout.close()
            process.stderr.close()
            process.wait()
            raise LabError(f"{fault} could not be made: {words.strip()[-400:]}")
        process.stderr.close()
        self._holder = process
        if not FAULTS[fault].holds:
            self._drop_holder()
        return msgspec.json.decode(line, type=Injection)

    def heal_by_oracle(self, fault: str) -> None:
        """Apply the right repair at once."""
        assert self._oracle is not None
        FAULTS[fault].heal(self._oracle)

    def effects(self, since_ns: int = 0) -> list[Effect]:
        """What the actuator did, by whomever."""
        return [e for e in read_effects(self.layout.effects) if e.ts_ns >= since_ns]

    def sli_window(self, seconds: int = 10) -> list[Second]:
        """What the customers saw in the last seconds, oldest first."""
        return sli.read_seconds(self.layout.sli, seconds)

    def good_seconds(self) -> int:
        """For how many seconds up to now the customers have been content."""
        return sli.good_run(self.sli_window(60), self.rule, now=time.time())

    def is_breached(self) -> bool:
        """Whether the customers have reason to complain now."""
        return sli.is_breached(self.sli_window(3), self.rule)

    def wait_steady(self, seconds: int = 10, cap_seconds: float = 60.0) -> bool:
        """Wait for `seconds` good ones in a row, then take their median p95 as the baseline.

        False if that does not come about: whatever would be measured now is void.
        """
        deadline = time.monotonic() + cap_seconds
        while time.monotonic() < deadline:
            if self.good_seconds() >= seconds and not self.broken():
                p95s = sorted(s.p95 for s in self.sli_window(seconds))
                self.rule = SliRule(base_p95_seconds=p95s[len(p95s) // 2])
                return True
            time.sleep(0.25)
        return False

    def is_clear(self, injection: Injection) -> bool:
        """Whether the fault itself is gone."""
        return FAULTS[injection.fault].is_clear(self.deployer, injection)

    def broken(self, injection: Injection | None = None) -> list[str]:
        """What else is not as it should be: instances, versions, data. Empty if all is well."""
        wrong = []
        for name, service in self.deployer.services().items():
            running = sum(i["state"] == "running" for i in service["instances"])
            if running < 1 or running < service["desired"]:
                wrong.append(f"{name}: {running} of {service['desired']} instances")
            is_touched = injection is not None and name == injection.service
            if not is_touched and service["version"] != self._versions[name]:
                wrong.append(f"{name}: runs {service['version']} instead of {self._versions[name]}")
        return wrong + self._broken_data()

    def _broken_data(self) -> list[str]:
        wrong = []
        if self.ready.postgres_port:
            orders = {row[0] for row in self.deployer.sql("SELECT id FROM orders")}
            receipts = set(self.layout.receipts.read_text().split()) if self.layout.receipts.exists() else set()
            if unpaid := len(orders - receipts):
                wrong.append(f"{unpaid} orders without a receipt")
        if self.ready.redis_port:
            with self.deployer.redis() as client:
                if (kept := client.exists(*(f"{SENTINEL_PREFIX}{n}" for n in range(SENTINELS)))) < SENTINELS:
                    wrong.append(f"{SENTINELS - kept} sessions lost")
        return wrong

    def is_resolved(self, injection: Injection, good_seconds: int = 10) -> bool:
        """The oracle of three parts: customers content, fault gone, nothing else broken."""
        if self.good_seconds() < good_seconds:
            return False
        try:
            return self.is_clear(injection) and not self.broken(injection)
        except LabError:
            return False

    def reset(self) -> None:
        """Back to a sound system, whatever was done to it. Versions that run sound releases are kept."""
        self._drop_holder()
        deployer = self.deployer
        for caller, callee in topology.LINKS:
            if deployer.is_disturbed(caller, callee):
                deployer.disturb(caller, callee, None)
        if self.ready.postgres_port:
            with contextlib.suppress(LabError):
                deployer.terminate_blockers()
        for name, service in deployer.services().items():
            running = all(i["state"] == "running" for i in service["instances"])
            if name in topology.BACKENDS:
                if not running:
                    deployer.act(name, "restart")
                continue
            if service["version"] != self._versions[name]:
                deployer.act(name, "rollback", to=self._versions[name])
            if service["desired"] != 1:
                deployer.act(name, "scale", instances=1)
            if not (running and deployer.is_responsive(name)):
                deployer.act(name, "kill")
        if self.ready.redis_port:
            deployer.purge_tenant()
            deployer.put_sentinels()
        self._note_versions()

    def _note_versions(self) -> None:
        self._versions = {name: s["version"] for name, s in self.deployer.services().items()}


def tail(window: Sequence[Second]) -> str:
    """A window in one line, for messages."""
    return " ".join(f"{s.ok}/{s.n}@{s.p95 * 1000:.0f}ms" for s in window)
