"""The other side of the lab: who deploys, breaks, and knows the truth. Never the healer."""

from __future__ import annotations

import time
import uuid
from typing import Any, Self

import httpx

from opsmend.lab import topology
from opsmend.lab.backends import LabError
from opsmend.lab.layout import Layout, Ready
from opsmend.lab.links import Disturbance, edge_name, read_disturbances
from opsmend.lab.processes import write_atomic
from opsmend.lab.settings import ReleaseSettings

TENANT_PREFIX = "tenant-7:export:"
"""Keys that another tenant keeps in the shared Redis."""
SENTINEL_PREFIX = "sessions:"
"""Keys of the shop that nobody may delete."""
SENTINELS = 50
_LAST_ROOM_BYTES = 400_000
_LAST_VALUE_BYTES = 4_000_000


class Deployer:
    """A client with the deploy token, and the superuser of the database."""

    def __init__(self, layout: Layout, ready: Ready, actor: str = "deployer") -> None:
        self.layout = layout
        self.ready = ready
        self._http = httpx.Client(base_url=ready.actuator_url, timeout=30.0, headers={
            "authorization": f"Bearer {ready.deploy_token}", "x-actor": actor})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def services(self) -> dict[str, dict[str, Any]]:
        """State of everything, by service. Raises LabError if the actuator does not answer."""
        try:
            response = self._http.get("/v1/services")
            response.raise_for_status()
        except httpx.HTTPError as error:
            raise LabError(f"the lab does not answer: {error}") from error
        return {s["service"]: s for s in response.json()["services"]}

    def act(self, service: str, verb: str, key: str = "", **body: Any) -> dict[str, Any]:
        """One request to the actuator. Raises LabError if it is refused."""
        try:
            response = self._http.post(f"/v1/services/{service}/{verb}", json={"key": key or str(uuid.uuid4()), **body})
        except httpx.HTTPError as error:
            raise LabError(f"the lab does not answer: {error}") from error
        if response.status_code != 200:
            raise LabError(f"{verb} {service}: {response.text[:200]}", reason="refused")
        answer: dict[str, Any] = response.json()
        return answer

    def deploy(self, service: str, kind: str, settings: ReleaseSettings) -> str:
        """A new release runs; returns its version. Raises LabError if it did not become healthy."""
        import msgspec

        answer = self.act(service, "deploy", kind=kind, settings=msgspec.to_builtins(settings))
        if not answer["changed"]:
            raise LabError(answer["effect"])
        return str(self.services()[service]["version"])

    def pid(self, service: str) -> int:
        """Process id of the first instance. Raises LabError if it does not run."""
        pid = int(self.services()[service]["instances"][0]["pid"])
        if not pid:
            raise LabError(f"{service} does not run")
        return pid

    def is_responsive(self, service: str) -> bool:
        """Whether every instance answers its health check within a second."""
        import msgspec

        ports = msgspec.json.decode(self.layout.discovery.read_bytes()).get(service, [])
        try:
            return bool(ports) and all(
                httpx.get(f"http://127.0.0.1:{port}/-/health", timeout=1.0).status_code == 200 for port in ports)
        except httpx.HTTPError:
            return False

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows of a statement, as superuser, by a connection of its own. Raises LabError."""
        import psycopg

        try:
            dsn = self.ready.postgres_dsn("lab")
            with psycopg.connect(dsn, autocommit=True, connect_timeout=2, options="-c statement_timeout=3000") as c:
                cursor = c.execute(statement.encode())
                return cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            raise LabError(f"postgres: {error}") from error

    def redis(self) -> Any:
        """A Redis client; close it."""
        from redis import Redis

        return Redis.from_url(self.ready.redis_url, socket_timeout=3.0)

    def blockers(self) -> int:
        """Sessions that hold a lock on `stock` while they idle."""
        return int(self.sql(
            "SELECT count(DISTINCT a.pid) FROM pg_stat_activity a JOIN pg_locks l USING (pid) "
            "WHERE a.state LIKE 'idle in transaction%' AND l.granted AND l.relation = 'stock'::regclass")[0][0])

    def terminate_blockers(self) -> int:
        return len(self.sql(
            "SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a JOIN pg_locks l USING (pid) "
            "WHERE a.state LIKE 'idle in transaction%' AND l.granted AND l.relation = 'stock'::regclass"))

    def fill_redis(self) -> int:
        """Write the other tenant's keys until Redis refuses writes. Returns how many."""
        from redis.exceptions import OutOfMemoryError

        count = 0
        with self.redis() as client:
            try:
                while count < 10_000:
                    room = topology.REDIS_MAX_BYTES - int(client.info("memory")["used_memory"])
                    # The limit is checked before a command runs: one that grows a value late goes beyond it,
                    # so that keys which expire do not make room again.
                    if room < _LAST_ROOM_BYTES:
                        client.setrange(f"{TENANT_PREFIX}{count}", _LAST_VALUE_BYTES, b"x")
                        count += 1
                        continue
                    with client.pipeline(transaction=False) as pipe:
                        for n in range(count, count + 10):
                            pipe.set(f"{TENANT_PREFIX}{n}", b"x" * 16_384)
                        pipe.execute()
                    count += 10
            except OutOfMemoryError:
                return count
        return count

    def purge_tenant(self) -> int:
        """Delete the other tenant's keys."""
        with self.redis() as client:
            keys = list(client.scan_iter(match=f"{TENANT_PREFIX}*", count=1000))
            for start in range(0, len(keys), 500):
                client.unlink(*keys[start:start + 500])
            return len(keys)

    def redis_used_share(self) -> float:
        with self.redis() as client:
            return float(client.info("memory")["used_memory"]) / topology.REDIS_MAX_BYTES

    def disturb(self, caller: str, callee: str, disturbance: Disturbance | None) -> None:
        """Make the network of one edge bad; None: sound again."""
        import msgspec

        known = read_disturbances(self.layout.disturbances)
        known.pop(edge := edge_name(caller, callee), None)
        write_atomic(self.layout.disturbances, msgspec.json.encode(known | ({edge: disturbance} if disturbance else {})))

    def is_disturbed(self, caller: str, callee: str) -> bool:
        return edge_name(caller, callee) in read_disturbances(self.layout.disturbances)

    def put_sentinels(self) -> None:
        with self.redis() as client:
            for n in range(SENTINELS):
                client.set(f"{SENTINEL_PREFIX}{n}", "1")

    def log_bytes_per_second(self, service: str, seconds: float = 0.5) -> float:
        """How fast a service's log grows. Takes `seconds`."""
        files = sorted(self.layout.logs.glob(f"{service}-*.log"))
        before = sum(f.stat().st_size for f in files)
        started = time.monotonic()
        time.sleep(seconds)
        return max(0.0, (sum(f.stat().st_size for f in files) - before) / (time.monotonic() - started))
