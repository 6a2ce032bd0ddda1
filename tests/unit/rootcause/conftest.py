"""A shop as its collector would tell of it: ten services, one row a second, and the faults of the lab.

Written by hand from what each fault does, and on purpose not with the simulator that the ranker is trained on.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from detect.stage import DetectionConfig
from ingest.types import Record
from opsmend.lab import topology
from opsmend.pipeline import Pipeline, PipelineConfig
from rootcause.graph import GraphConfig
from rootcause.types import Diagnosis

S = 10**9
START = 1_700_000_000
WARM = 75
RATE = {"gateway": 30.0, "frontend": 30.0, "catalog": 20.4, "cart": 9.6, "orders": 4.2, "inventory": 4.2,
        "payments": 4.2, "bank": 4.2}
P95 = {"gateway": 0.035, "frontend": 0.031, "catalog": 0.008, "cart": 0.006, "orders": 0.05, "inventory": 0.008,
       "payments": 0.020, "bank": 0.015}
CALLS = {("catalog", "postgres"): 8.0, ("catalog", "redis"): 28.0, ("cart", "redis"): 20.0, ("orders", "cart"): 4.2,
         ("orders", "postgres"): 4.2, ("inventory", "postgres"): 4.2}
STORES = topology.BACKENDS


@dataclass
class Second:
    """What is out of the ordinary in one second; seconds, shares and counts are additions to the usual."""

    errors: dict[str, float] = field(default_factory=dict)
    slow: dict[str, float] = field(default_factory=dict)
    call_errors: dict[tuple[str, str], float] = field(default_factory=dict)
    call_slow: dict[tuple[str, str], float] = field(default_factory=dict)
    rate: dict[str, float] = field(default_factory=dict)  # factor
    gone: set[str] = field(default_factory=set)
    hung: set[str] = field(default_factory=set)
    cpu: dict[str, float] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    pool_waiting: dict[str, float] = field(default_factory=dict)
    locks: tuple[float, float] = (0.0, 0.0)  # waiting sessions, age of the oldest
    oom: float = 0.0
    changes: list[tuple[str, str, str]] = field(default_factory=list)  # service, kind, actor


Fault = Callable[[int, Second], None]
"""Fills in second `n` (0 is the first) of the fault."""


def _up_from_orders(second: Second, share: float, slow: float = 0.0) -> None:
    for caller, callee, part in (("frontend", "orders", share), ("gateway", "frontend", 0.14 * share)):
        second.call_errors[caller, callee] = part
        second.call_slow[caller, callee] = slow
        second.errors[caller] = 0.14 * share
        second.slow[caller] = slow


def proc_kill(n: int, s: Second) -> None:
    s.gone.add("inventory")
    s.errors["orders"] = 1.0
    s.call_errors["orders", "inventory"] = 1.0
    s.rate |= {"payments": 0.0, "bank": 0.0}
    _up_from_orders(s, 1.0)


def proc_hang(n: int, s: Second) -> None:
    s.hung.add("payments")
    s.call_errors["orders", "payments"], s.call_slow["orders", "payments"] = 1.0, 1.2
    s.errors["orders"], s.slow["orders"] = 1.0, 1.2
    s.rate["bank"] = 0.0
    _up_from_orders(s, 1.0, 1.2)


def crash_loop(n: int, s: Second) -> None:
    if n == 0:
        s.changes.append(("cart", "rollout", "deployer"))
    if n % 2 == 1:
        s.changes.append(("cart", "exit", ""))
    if n % 3 == 1:
        s.gone.add("cart")
    s.errors["cart"] = 0.1
    s.call_errors |= {("frontend", "cart"): 0.7, ("orders", "cart"): 0.7}
    s.errors["orders"] = 0.7
    s.errors["frontend"] = 0.25
    s.call_errors["frontend", "orders"], s.call_errors["gateway", "frontend"] = 0.7, 0.25
    s.errors["gateway"] = 0.25


def bad_config(n: int, s: Second) -> None:
    if n == 0:
        s.changes.append(("payments", "config", "deployer"))
    s.call_errors["payments", "bank"] = 1.0
    s.errors["payments"] = 1.0
    s.rate["bank"] = 0.0
    s.call_errors["orders", "payments"] = 1.0
    s.errors["orders"] = 1.0
    _up_from_orders(s, 1.0)


def cpu_release(n: int, s: Second) -> None:
    if n == 0:
        s.changes.append(("catalog", "rollout", "deployer"))
    s.cpu["catalog"] = 0.9
    s.slow["catalog"] = 0.35
    s.call_slow["frontend", "catalog"] = 0.35
    s.slow |= {"frontend": 0.34, "gateway": 0.34}
    s.call_slow["gateway", "frontend"] = 0.34


def mem_leak(n: int, s: Second) -> None:
    if n == 0:
        s.changes.append(("catalog", "rollout", "deployer"))
    s.memory["catalog"] = 8e6 * (n + 1)


def pool_leak(n: int, s: Second) -> None:
    if n == 0:
        s.changes.append(("orders", "rollout", "deployer"))
    if n >= 4:
        s.pool_waiting["orders"] = 3.0
        s.call_errors["orders", "postgres"], s.call_slow["orders", "postgres"] = 0.9, 0.5
        s.errors["orders"], s.slow["orders"] = 0.9, 0.5
        _up_from_orders(s, 0.9, 0.5)


def db_lock(n: int, s: Second) -> None:
    s.locks = (3.0, float(n + 1))
    s.call_errors["inventory", "postgres"], s.call_slow["inventory", "postgres"] = 1.0, 0.7
    s.errors["inventory"], s.slow["inventory"] = 1.0, 0.7
    s.pool_waiting["inventory"] = 1.0
    s.call_errors["orders", "inventory"], s.call_slow["orders", "inventory"] = 1.0, 0.7
    s.errors["orders"], s.slow["orders"] = 1.0, 0.7
    s.rate |= {"payments": 0.0, "bank": 0.0}
    _up_from_orders(s, 1.0, 0.7)


def redis_full(n: int, s: Second) -> None:
    s.oom = 25.0
    s.call_errors |= {("cart", "redis"): 0.6, ("catalog", "redis"): 0.25, ("frontend", "cart"): 1.0,
                      ("orders", "cart"): 1.0, ("frontend", "orders"): 1.0, ("gateway", "frontend"): 0.3}
    s.errors |= {"cart": 1.0, "orders": 1.0, "frontend": 0.3, "gateway": 0.3}
    s.rate |= {"inventory": 0.0, "payments": 0.0, "bank": 0.0}


def log_storm(n: int, s: Second) -> None:
    if n == 0:
        s.changes.append(("cart", "config", "deployer"))
    s.lines["cart"] = 2500
    s.cpu["cart"] = 0.15


def net_latency(n: int, s: Second) -> None:
    """The way from catalog to redis takes 0.4 s longer; redis answers cart as ever."""
    s.call_slow["catalog", "redis"] = 0.4
    s.slow["catalog"] = 0.4
    s.call_slow["frontend", "catalog"] = 0.4
    s.slow |= {"frontend": 0.38, "gateway": 0.38}
    s.call_slow["gateway", "frontend"] = 0.38


def net_partition(n: int, s: Second) -> None:
    """Nothing gets through from orders to payments; payments is well and has nothing to do."""
    s.call_errors["orders", "payments"], s.call_slow["orders", "payments"] = 1.0, 1.2
    s.errors["orders"], s.slow["orders"] = 1.0, 1.2
    s.rate |= {"payments": 0.0, "bank": 0.0}
    _up_from_orders(s, 1.0, 1.2)


def noop(n: int, s: Second) -> None:
    """Nothing but one slow spell of a busy machine, felt a little everywhere."""
    if n < 5:
        for service in P95:
            s.slow[service] = 0.13 if service in ("frontend", "gateway") else 0.05


def innocent_deploy(n: int, s: Second) -> None:
    """A release without a defect; its start takes the machine a few seconds of attention."""
    if n == 0:
        s.changes.append(("catalog", "rollout", "deployer"))
    if n < 5:
        s.cpu["catalog"] = 0.1
        for service in P95:
            s.slow[service] = 0.13 if service in ("frontend", "gateway") else 0.05
        s.call_slow[("frontend", "catalog")] = 0.06


FAULTS: dict[str, tuple[Fault, str]] = {
    "proc_kill": (proc_kill, "inventory"), "proc_hang": (proc_hang, "payments"), "crash_loop": (crash_loop, "cart"),
    "bad_config": (bad_config, "payments"), "cpu_release": (cpu_release, "catalog"), "mem_leak": (mem_leak, "catalog"),
    "pool_leak": (pool_leak, "orders"), "db_lock": (db_lock, "postgres"), "redis_full": (redis_full, "redis"),
    "log_storm": (log_storm, "cart"), "net_latency": (net_latency, "catalog"), "net_partition": (net_partition, "orders"),
    "noop": (noop, ""), "innocent_deploy": (innocent_deploy, "")}


class Shop:
    """Writes what the collector of the shop would send, second by second."""

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._offset = 0

    def poll(self, at: int, s: Second) -> list[Record]:
        """All records of the second `at` (unix time)."""
        ts, rows = at * S, []

        def put(service: str, name: str, value: float, unit: str = "1", peer: str = "") -> None:
            rows.append({"type": "metric", "ts": ts, "service": service, "instance": f"{service}-1", "name": name,
                         "value": value, "unit": unit} | ({"peer": peer} if peer else {}))

        for service in (*topology.SERVICES, *STORES):
            self._service(service, s, put)
        changes = [{"type": "change", "ts": ts, "service": service, "kind": kind, "ref": "2", "old": "1", "actor": actor}
                   for service, kind, actor in s.changes]
        return [self._record("metrics", rows), self._record("logs", self._lines(ts, s)),
                *([self._record("changes", changes)] if changes else [])]

    def _record(self, topic: str, rows: list[dict[str, Any]]) -> Record:
        self._offset += 1
        return Record(topic, 0, self._offset, 0, "\n".join(map(json.dumps, rows)).encode())

    def _lines(self, ts: int, s: Second) -> list[dict[str, Any]]:
        out = []
        for service, rate in RATE.items():
            if service in s.gone | s.hung:
                continue
            count = int(self._rng.poisson(rate * s.rate.get(service, 1.0) * 0.5)) + s.lines.get(service, 0)
            out += [{"type": "log", "ts": ts, "service": service, "instance": f"{service}-1", "level": "info",
                     "message": f"request {n} answered 200"} for n in range(count)]
            failed = int(rate * s.errors.get(service, 0.0))
            out += [{"type": "log", "ts": ts, "service": service, "instance": f"{service}-1", "level": "error",
                     "message": f"request {n} failed: a call did not succeed"} for n in range(failed)]
        return out

    def _service(self, service: str, s: Second, put: Callable[..., None]) -> None:
        rng = self._rng
        gone, hung = service in s.gone, service in s.hung
        put(service, "process.up", float(not gone))
        put(service, "process.responsive", float(not gone and not hung))
        if gone:
            return
        busy = 0.01 + RATE.get(service, 15.0) * s.rate.get(service, 1.0) / 200
        put(service, "process.cpu.utilization", max(0.0, rng.normal(busy, 0.02)) + s.cpu.get(service, 0.0))
        put(service, "process.memory.rss", 6e7 * (1 + rng.normal(0, 0.002)) + s.memory.get(service, 0.0), "By")
        if hung:
            return
        if service == "postgres":
            put(service, "postgresql.connections_active", 1.0 + s.locks[0])
            put(service, "postgresql.lock_waiting", s.locks[0])
            put(service, "postgresql.oldest_transaction_seconds", s.locks[1], "s")
            put(service, "postgresql.blockers", float(s.locks[0] > 0))
        elif service == "redis":
            put(service, "redis.memory_used_bytes", 2.4e7 if s.oom else 4e6, "By")
            put(service, "redis.memory_max_bytes", float(topology.REDIS_MAX_BYTES), "By")
            put(service, "redis.evicted_per_second", 0.0, "1/s")
            put(service, "redis.oom_errors_per_second", s.oom, "1/s")
        else:
            self._served(service, s, put)

    def _served(self, service: str, s: Second, put: Callable[..., None]) -> None:
        rng = self._rng
        hits = int(rng.poisson(RATE[service] * s.rate.get(service, 1.0)))
        put(service, "http.server.requests_per_second", float(hits), "1/s")
        if hits:
            put(service, "http.server.error_ratio", rng.binomial(hits, min(1.0, s.errors.get(service, 0.0))) / hits)
            usual = P95[service] * rng.lognormal(0, 0.2)
            put(service, "http.server.latency_p50_seconds", usual / 2 + s.slow.get(service, 0.0), "s")
            put(service, "http.server.latency_p95_seconds", usual + s.slow.get(service, 0.0), "s")
        if service in topology.USES_POSTGRES:
            waiting = s.pool_waiting.get(service, 0.0)
            put(service, "db.pool.in_use", float(topology.POOL_MAX) if waiting else float(rng.poisson(0.3)))
            put(service, "db.pool.max", float(topology.POOL_MAX))
            put(service, "db.pool.waiting", waiting)
        for caller, callee in topology.EDGES:
            if caller != service:
                continue
            rate = CALLS.get((caller, callee), RATE.get(callee, 10.0))
            made = int(rng.poisson(rate * (s.rate.get(caller, 1.0) if callee in STORES else s.rate.get(callee, 1.0))))
            if (caller, callee) in s.call_errors:
                made = max(made, 1)
            put(caller, "client.requests_per_second", float(made), "1/s", callee)
            if made:
                failed = rng.binomial(made, min(1.0, s.call_errors.get((caller, callee), 0.0))) / made
                put(caller, "client.error_ratio", failed, "1", callee)
                put(caller, "client.latency_p95_seconds", P95.get(callee, 0.004) * rng.lognormal(0, 0.2) + 0.001
                    + s.call_slow.get((caller, callee), 0.0), "s", callee)


def new_pipeline() -> Pipeline:
    return Pipeline(PipelineConfig(
        detection=DetectionConfig(bucket_seconds=1.0, allowed_lateness_seconds=0.0),
        graph=GraphConfig(external=topology.EXTERNAL)))


@pytest.fixture(scope="session")
def warm_shop() -> tuple[Pipeline, Shop]:
    """A pipeline that has seen the shop for a while without a fault. Copy it."""
    pipeline, shop = new_pipeline(), Shop()
    for n in range(WARM):
        pipeline.step(shop.poll(START + n, Second()))
    return pipeline, shop


@pytest.fixture
def run_fault(warm_shop: tuple[Pipeline, Shop]) -> Callable[[str, int], list[tuple[int, Diagnosis]]]:
    """`run_fault(name, seconds)`: every diagnosis with the second of the fault in which it came."""

    def run(name: str, seconds: int) -> list[tuple[int, Diagnosis]]:
        pipeline, shop = copy.deepcopy(warm_shop)
        found: list[tuple[int, Diagnosis]] = []
        for n in range(seconds):
            second = Second()
            FAULTS[name][0](n, second)
            found += [(n, d) for d in pipeline.step(shop.poll(START + WARM + n, second)).diagnoses]
        return found

    return run
