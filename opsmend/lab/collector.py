"""The monitoring agent of the lab: scrapes once a second, tails the logs, ships to the transport.

`python -m opsmend.lab.collector BOOT.json`. Topics: `metrics`, `logs` and `changes` as opsmend's own
NDJSON, `traces` as OTLP/JSON. It knows nothing about faults.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from ingest.errors import TransportError
from ingest.transport import Producer
from ingest.transports.config import TransportConfig
from opsmend.lab import processes
from opsmend.lab.infra_metrics import NoAnswer, PostgresMetrics, RedisMetrics, Sample
from opsmend.lab.layout import Boot, Layout, Ready
from opsmend.lab.processes import write_atomic

_SCRAPE_TIMEOUT_SECONDS = 1.0
_LINES_PER_RECORD = 500
_READ_BYTES = 8 << 20
_ROTATE_BYTES = 32 << 20
_encode = msgspec.json.Encoder().encode


class Tail:
    """Reads whole new lines of a growing file; empties it when it has grown large."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0

    def read(self) -> list[bytes]:
        """New whole lines, at most 8 MiB of them."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._position)
            data = file.read(_READ_BYTES)
        end = data.rfind(b"\n") + 1
        self._position += end
        if self._position > _ROTATE_BYTES and len(data) < _READ_BYTES:
            os.truncate(self._path, 0)  # writers append, so they go on at the new end
            self._position = 0
        return data[:end].splitlines()


class Collector:
    """One tick a second; every sample of a tick carries the tick's time."""

    def __init__(self, layout: Layout, producer: Producer, http: aiohttp.ClientSession, servers: Ready) -> None:
        self._layout = layout
        self._producer = producer
        self._http = http
        self._postgres = PostgresMetrics(servers.postgres_dsn("opsmend")) if servers.postgres_port else None
        self._redis = RedisMetrics(servers.redis_url) if servers.redis_port else None
        self._changes = Tail(layout.changes)
        self._tails: dict[str, Tail] = {}
        self._cpu: dict[tuple[str, int], tuple[float, float]] = {}
        self._latest: dict[str, float] = {}

    async def tick(self, ts_ns: int) -> None:
        """Scrape everything at once, then ship."""
        instances = msgspec.json.decode(self._layout.instances.read_bytes())
        rows: list[list[dict[str, Any]]] = await asyncio.gather(*(self._instance(i, ts_ns) for i in instances))
        self._latest = {}
        for instance, metrics in zip(instances, rows, strict=True):
            for row in metrics:
                self._latest[f"{row['service']}/{row['name']}/{row.get('peer', '')}"] = row["value"]
            self._send("metrics", instance["service"], metrics)
        write_atomic(self._layout.latest, _encode({"ts": ts_ns, "values": self._latest}))
        self._ship_files()
        await asyncio.get_running_loop().run_in_executor(None, self._producer.flush)

    def _send(self, topic: str, key: str, rows: list[dict[str, Any]]) -> None:
        if rows:
            self._producer.send(topic, b"\n".join(map(_encode, rows)), key=key.encode())

    def _ship_files(self) -> None:
        if changes := self._changes.read():
            self._producer.send("changes", b"\n".join(changes), key=b"changes")
        for path in sorted(self._layout.logs.glob("*.log")):
            tail = self._tails.setdefault(path.name, Tail(path))
            lines = [line if line.startswith(b"{") else self._wrap(path.stem, line) for line in tail.read()]
            for start in range(0, len(lines), _LINES_PER_RECORD):
                self._producer.send("logs", b"\n".join(lines[start:start + _LINES_PER_RECORD]),
                                    key=path.stem.encode())

    @staticmethod
    def _wrap(instance: str, line: bytes) -> bytes:
        # Not ours: a traceback or a message of the interpreter.
        return _encode({"type": "log", "ts": time.time_ns(), "service": instance.rpartition("-")[0],
                        "instance": instance, "level": "error", "message": line.decode(errors="replace")})

    async def _instance(self, row: dict[str, Any], ts_ns: int) -> list[dict[str, Any]]:
        service, instance, pid = row["service"], row["id"], row["pid"]
        cpu = processes.cpu_seconds(pid) if pid else None
        samples: list[Sample] = [("process.up", float(cpu is not None), "1"),
                                 ("process.restarts", float(row["restarts"]), "1")]
        edges: list[tuple[str, Sample]] = []
        spans: list[dict[str, Any]] = []
        if cpu is not None:
            samples += self._process(instance, pid, cpu)
        try:
            found, edges, spans = await asyncio.wait_for(self._ask(row), _SCRAPE_TIMEOUT_SECONDS)
            samples += [("process.responsive", 1.0, "1"), *found]
        except (TimeoutError, OSError, aiohttp.ClientError, NoAnswer):  # an error of ours is not the service's silence
            samples.append(("process.responsive", 0.0, "1"))
        if spans:
            self._producer.send("traces", _encode(otlp(service, instance, spans)))
        return [{"type": "metric", "ts": ts_ns, "service": service, "instance": instance, "name": name,
                 "value": value, "unit": unit} for name, value, unit in samples] + [
            {"type": "metric", "ts": ts_ns, "service": service, "instance": instance, "name": name, "value": value,
             "unit": unit, "peer": peer} for peer, (name, value, unit) in edges]

    def _process(self, instance: str, pid: int, cpu: float) -> list[Sample]:
        now = time.monotonic()
        samples: list[Sample] = []
        if (instance, pid) in self._cpu:
            before, at = self._cpu[instance, pid]
            samples.append(("process.cpu.utilization", (cpu - before) / max(1e-3, now - at), "1"))
        else:
            self._cpu = {k: v for k, v in self._cpu.items() if k[0] != instance}
        self._cpu[instance, pid] = (cpu, now)
        if (rss := processes.rss_bytes(pid)) is not None:
            samples.append(("process.memory.rss", float(rss), "By"))
        return samples

    async def _ask(self, row: dict[str, Any]) -> tuple[list[Sample], list[tuple[str, Sample]], list[dict[str, Any]]]:
        """Samples of the service, those of its calls by peer, and spans."""
        if row["service"] == "postgres" and self._postgres:
            return await self._postgres.sample(), [], []
        if row["service"] == "redis" and self._redis:
            return await self._redis.sample(1.0), [], []
        async with self._http.get(f"http://127.0.0.1:{row['port']}/-/stats") as response:
            response.raise_for_status()
            stats = msgspec.json.decode(await response.read())
        return served(stats), made(stats), stats["spans"]

    async def run(self) -> None:
        """For ever, on whole seconds."""
        tick = int(time.time()) + 1
        while True:
            await asyncio.sleep(max(0.0, tick - time.time()))
            try:
                await self.tick(tick * 1_000_000_000)
            except TransportError as error:
                print(f"collector: {error}", file=sys.stderr, flush=True)
            tick = max(tick + 1, int(time.time()))


def served(stats: dict[str, Any]) -> list[Sample]:
    """The requests a process answered, and its pool."""
    seconds, calls, pool = stats["seconds"], stats["served"], stats["pool"]
    samples: list[Sample] = [("http.server.requests_per_second", calls["n"] / seconds, "1/s"),
                             ("http.server.in_flight", float(stats["in_flight"]), "1")]
    if calls["n"]:
        samples += [("http.server.error_ratio", calls["errors"] / calls["n"], "1"),
                    ("http.server.latency_p50_seconds", calls["p50"], "s"),
                    ("http.server.latency_p95_seconds", calls["p95"], "s")]
    if pool:
        samples += [(f"db.pool.{name}", float(pool[name]), "1") for name in ("in_use", "max", "waiting")]
        if "acquire_p95" in pool:
            samples.append(("db.pool.acquire_p95_seconds", pool["acquire_p95"], "s"))
    return samples


def made(stats: dict[str, Any]) -> list[tuple[str, Sample]]:
    """The calls a process made, by peer."""
    samples: list[tuple[str, Sample]] = []
    for peer, calls in stats["made"].items():
        samples.append((peer, ("client.requests_per_second", calls["n"] / stats["seconds"], "1/s")))
        if calls["n"]:
            samples += [(peer, ("client.error_ratio", calls["errors"] / calls["n"], "1")),
                        (peer, ("client.latency_p95_seconds", calls["p95"], "s"))]
    return samples


def otlp(service: str, instance: str, spans: list[dict[str, Any]]) -> dict[str, Any]:
    """An OTLP/JSON ExportTraceServiceRequest."""
    attributes = [{"key": "service.name", "value": {"stringValue": service}},
                  {"key": "service.instance.id", "value": {"stringValue": instance}}]
    return {"resourceSpans": [{"resource": {"attributes": attributes}, "scopeSpans": [{"spans": spans}]}]}


async def run(boot: Boot) -> None:
    from ingest.transports.registry import open_producer

    layout = Layout(Path(boot.root))
    servers = msgspec.json.decode((layout.private / "servers.json").read_bytes(), type=Ready)
    producer = open_producer(TransportConfig(
        kind=boot.transport_kind, data_dir=boot.transport_dir, bootstrap_servers=boot.bootstrap_servers))
    async with aiohttp.ClientSession() as http:
        await Collector(layout, producer, http, servers).run()


def main() -> None:
    """Entry point."""
    asyncio.run(run(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Boot)))


if __name__ == "__main__":
    main()
