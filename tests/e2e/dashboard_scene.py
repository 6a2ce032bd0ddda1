"""A shop in trouble, in memory: what the drawings show, on the real types. For tests and pictures of the pages."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

import numpy as np

from detect.types import Breach, Evidence, Incident, Membership, Observations, Severity, Signal
from ingest.types import Change, SeriesKey
from opsmend.api.port import ActionInfo, AllowRule, IngestStats
from opsmend.api.port_memory import MemoryPort
from remediate.types import Considered, GateResult, Outcome, Plan, Run, StepRecord, Verdict
from rootcause.types import Deciding, Diagnosis, ServiceGraph, Suspect

S = 10**9
T = 1_795_530_200 * S  # 2026-11-24 14:23:20 UTC
BUCKET = 2 * S
EDGES = [("front", "orders"), ("front", "search"), ("orders", "payments"), ("orders", "cart"), ("orders", "stock"),
         ("payments", "bank"), ("stock", "postgres"), ("search", "postgres"), ("cart", "redis")]
EVIL = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>\'"&'


def ident(word: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, word))


def signal(word: str, kind: str, service: str, start: int, *, text: str = "", count: int = 1, series: str = "",
           value: float | None = None, usual: float | None = None, score: float = 0.9, is_open: bool = True,
           **more: Any) -> Signal:
    evidence = (Evidence(text, value, usual),) if text else ()
    return Signal(ident(word), "default", "scene", kind, service, start, T if is_open else start + 60 * S, score,  # type: ignore[arg-type]
                  word, series=series, value=value, usual=usual, count=count, evidence=evidence, is_open=is_open, **more)


def incident(word: str, title: str, severity: Severity, signals: list[tuple[Signal, str]], *, opened: int,
             closed: int = 0) -> Incident:
    return Incident(ident(word), "default", word, opened, closed or T, "closed" if closed else "open", severity, title,
                    tuple(sorted({s.service for s, _ in signals})), tuple(s for s, _ in signals),
                    tuple(Membership(s.id, why) for s, why in signals), min(s.start_ns for s, _ in signals),
                    closed_ns=closed)


def plan(word: str, incident_id: str, title: str, target: str, action: str, created: int, **more: Any) -> Plan:
    digest = hashlib.sha256(word.encode()).hexdigest()
    fields: dict[str, Any] = {
        "runbook": "roll-back-a-bad-release", "runbook_hash": digest[::-1], "hash": digest, "params": {"service": target},
        "source": "rule", "propensity": 1.0, "rationale": "payments: it began right after its change", "risk": "low",
        "needs_approval": True, "is_reversible": True, "expires_ns": created + 900 * S}
    return Plan(ident(word), incident_id, created, title=title, target=target, action=action, **(fields | more))


def series(port: MemoryPort) -> None:
    """An hour of the shop on a clock of two seconds."""
    rng = np.random.default_rng(7)
    ts = np.arange(T - 3600 * S, T + 1, BUCKET)
    n, broke = len(ts), T - 134 * S
    columns: list[tuple[SeriesKey, Any]] = []

    def add(service: str, name: str, values: Any, **more: Any) -> None:
        columns.append((SeriesKey(service, name, **more), values))

    def step(at: int, before: float, after: float, noise: float, rise: int = 20 * S) -> Any:
        return before + (after - before) * np.clip((ts - at) / rise, 0, 1) + rng.normal(0, noise, n)

    for service, late, top in (("payments", 0, 0.31), ("orders", 3, 0.36), ("front", 4, 0.38)):
        add(service, "http.server.error_ratio", np.clip(step(broke + late * S, 0.002, top, 0.002), 0, 1))
    add("front", "http.server.requests_per_second", rng.normal(41, 1.5, n))
    for service in ("cart", "stock", "search"):
        add(service, "http.server.error_ratio", np.clip(rng.normal(0.002, 0.001, n), 0, 1))
    add("payments", "http.server.latency_p95_seconds", rng.normal(0.094, 0.006, n))
    add("payments", "process.cpu.utilization", rng.normal(0.22, 0.02, n))
    add("search", "http.server.latency_p95_seconds", np.clip(step(T - 40 * S, 0.2, 1.9, 0.02, 30 * S), 0, 9))
    grown = np.clip((ts - (T - 1520 * S)) / S, 0, None) * 0.0042
    add("orders", "db.pool.in_use", np.round(8 + rng.normal(0, 0.1, n) + grown, 2))
    add("redis", "redis.evicted_keys_per_second", np.clip(rng.normal(4, 3, n), 0, None))
    add("postgres", "postgres.lock_waiting", np.where((ts > T - 1282 * S) & (ts < T - 1270 * S), 6.0, 0.0))
    for service in ("front", "orders", "payments", "cart", "stock", "search", "postgres", "redis"):
        add(service, "process.up", np.ones(n))
    add("payments", "client.error_ratio", np.clip(step(broke + S, 0.001, 0.3, 0.002), 0, 1), peer="bank")
    add("orders", "client.requests_per_second", rng.normal(22, 1, n), peer="payments")
    add("orders", "client.latency_p95_seconds", rng.normal(0.11, 0.004, n), peer="payments")
    values = np.column_stack([v for _, v in columns])
    port.recorded = Observations(ts, tuple(k for k, _ in columns), values, foretold(values))


def foretold(values: Any) -> Any:
    """[t, s, 3]: what a slow forecaster would have said one step before, with a band of its recent error."""
    mean, spread = values[0].astype(float), np.abs(values[0]) * 0.02 + 1e-3
    out = np.full((*values.shape, 3), np.nan, np.float32)
    for row, now in enumerate(values):
        if row > 30:
            out[row] = np.stack([mean - 2.5 * spread, mean, mean + 2.5 * spread], axis=1)
        error = np.clip(now - mean, -6 * spread, 6 * spread)
        mean, spread = mean + 0.08 * error, np.maximum(spread + 0.05 * (np.abs(error) - spread), 1e-6)
    return out


def scene() -> MemoryPort:
    """Two incidents open (one waits for a person), a limit ahead, one repair that helped and one undone."""
    port = MemoryPort(now_ns=T)
    port.service_graph = ServiceGraph(tuple(sorted({s for e in EDGES for s in e})), frozenset(EDGES), frozenset({"bank"}),
                                      {"postgres": "database", "redis": "cache"})
    port.stats = IngestStats(41_200, 0.4, 0)
    port.change_log = [Change(T - 360 * S, "payments", "rollout", "4.2.0", "4.1.7", "ci"),
                       Change(T - 1520 * S, "orders", "rollout", "2.9.0", "2.8.3", "ci"),
                       Change(T - 14 * 3600 * S, "search", "config", "index-17", "index-16", "lee")]
    port.templates = {"t-4711": "TypeError: unsupported currency <*>"}
    series(port)
    _payments(port)
    _search(port)
    _pool(port)
    _ended(port)
    port.allow_list = (AllowRule("payments", ("release.rollback", "process.restart"), "suggest"),
                       AllowRule("*", ("postgres.terminate_blocker",), "auto"))
    port.catalogue = (
        ActionInfo("release.rollback", "Roll {service} back", "release", "low", "undo", ("error_ratio", "latency"), 60),
        ActionInfo("postgres.terminate_blocker", "End the blocking session", "postgres", "medium", "", ("lock_wait",), 10))
    return port


def _payments(port: MemoryPort) -> None:
    first = T - 134 * S
    signals = [
        (signal("p-err", "error_ratio", "payments", first, text="error ratio 31 % (usual 0.2 %)", count=31,
                series="http.server.error_ratio", value=0.31, usual=0.002), "started it"),
        (signal("p-log", "log_template", "payments", first, text="412 lines of a template never seen before", count=412,
                template_id="t-4711", score=0.6), "new template, same service, same second"),
        (signal("o-err", "error_ratio", "orders", first + 3 * S, text="error ratio 36 % (usual 0.3 %)", count=96,
                series="http.server.error_ratio", value=0.36, usual=0.003), "caller of payments, 3 s later"),
        (signal("f-err", "error_ratio", "front", first + 4 * S, text="error ratio 38 % (usual 0.1 %)", count=84,
                series="http.server.error_ratio", value=0.38, usual=0.001, score=0.95), "caller of orders, 1 s later"),
        (signal("f-slo", "alert", "front", first + 20 * S, text="SLOBurnFast", count=3, series="SLOBurnFast",
                score=0.8), "same service, while it was open")]
    broken = incident("checkout", "Checkout fails for 38 % of users", "critical", signals, opened=first + 3 * S)
    port.put_incident(broken)
    change = port.change_log[0]
    port.put_diagnosis(Diagnosis(broken.id, first + 6 * S, (
        Suspect("payments", 0.83, path=("payments", "orders", "front"), change=change, signal_kinds=("error_ratio",),
                deciding=(Deciding("payments", "errors", moved_ns=first, usual=0.002, now=0.31),
                          Deciding("payments", "errors", "bank", first + S, 0.001, 0.3),
                          Deciding("orders", "errors", moved_ns=first + 3 * S, usual=0.003, now=0.36),
                          Deciding("front", "errors", moved_ns=first + 4 * S, usual=0.001, now=0.38)),
                instances=("payments-2",),
                evidence=(Evidence("its first sign came 3 s before those of its callers orders"),
                          Evidence("release 4.2.0, 3 min 46 s before the first sign"))),
        Suspect("orders", 0.08, evidence=(Evidence("error ratio 36 % (usual 0.3 %)"),
                                          Evidence("what it calls failed 3 s earlier", is_for=False))),
        Suspect("bank", 0.03, evidence=(Evidence("it is not ours to repair", is_for=False),))),
        0.06, False, "rootcause-1-0", "ac29b4"))
    gates = [GateResult("allow_list", True, "release.rollback is allowed for payments"),
             GateResult("one_run", True, "no other repair of payments"),
             GateResult("blast_radius", True, "blast radius 2 of 9 services"),
             GateResult("cooldown", True, "cooldown passed, last repair 9 d ago"),
             GateResult("mode", False, "mode is suggest: a person must approve")]
    port.put_plan(plan("rollback", broken.id, "Roll payments back to 4.1.7", "payments", "release.rollback",
                       first + 6 * S, gates=tuple(gates), prior_successes=11, prior_trials=12,
                       params={"service": "payments", "to": "4.1.7"},
                       considered=(Considered("process.restart", "would not remove 4.2.0"),
                                   Considered("process.scale", "not saturated: not eligible"))))


def _search(port: MemoryPort) -> None:
    slow = incident("search", "search is slow: 1.9 s, usually 0.2 s", "warning", [
        (signal("s-lat", "latency", "search", T - 40 * S, text="latency 1.90 s (usual 0.20 s)", count=11, value=1.9,
                usual=0.2, series="http.server.latency_p95_seconds", score=0.7), "started it"),
        (signal("s-al", "alert", "search", T - 30 * S, text="SearchSlow", series="SearchSlow", score=0.6), "same service")],
        opened=T - 40 * S)
    port.put_incident(slow)
    port.put_diagnosis(Diagnosis(slow.id, T - 5 * S, (
        Suspect("search", 0.41, evidence=(Evidence("latency 1.90 s (usual 0.20 s)"),)),
        Suspect("postgres", 0.33, evidence=(Evidence("it shows no unusual signal itself", is_for=False),))),
        0.26, True, "rootcause-1-0", "ac29b4"))


def _pool(port: MemoryPort) -> None:
    ahead = Breach("db.pool.in_use", 20.0, "up", T + 14 * 60 * S, T + 16 * 60 * S, T + 19 * 60 * S, 0.93, 14.2, 0.0060)
    port.put_incident(incident("pool", "orders: db.pool.in_use runs into its limit", "info", [
        (signal("pool", "breach", "orders", T - 700 * S, series="db.pool.in_use", value=14.2, score=0.5, breach=ahead,
                text="db.pool.in_use is 14.2 of 20 and grows 0.36 a minute"), "started it")], opened=T - 700 * S))
    port.put_diagnosis(Diagnosis(ident("pool"), T - 690 * S, (
        Suspect("orders", 0.9, change=port.change_log[1], evidence=(Evidence("release 2.9.0, 13 min before"),)),), 0.1,
        False, "rootcause-1-0", "ac29b4"))


def _ended(port: MemoryPort) -> None:
    at = T - 1280 * S
    _repaired(port, "stock", "Stock lock held by an idle report session", "postgres", "postgres.terminate_blocker",
              [signal("lock", "lock_wait", "postgres", at, text="6 sessions wait", series="postgres.lock_waiting",
                      value=6.0, usual=0.0, is_open=False),
               signal("lock-s", "latency", "stock", at + S, text="latency 4.1 s", is_open=False)],
              "terminated 1 blocker", "fixed", began=at + 2 * S, took=4, undone=False, approved="")
    at = T - 2780 * S
    _repaired(port, "cache", "Cart cache full", "redis", "cache.purge_prefix",
              [signal("cache", "cache_full", "redis", at, text="4 writes a second refused", is_open=False,
                      series="redis.evicted_keys_per_second", value=4.0, usual=0.0)],
              "purged 1 204 keys of session:", "not_fixed", began=at + 9 * S, took=80, undone=True, approved="ana")
    for hours, service, severity, length in ((21.2, "orders", "critical", 1700), (13.4, "search", "warning", 4400),
                                             (2.9, "cart", "warning", 2500)):
        start = T - int(hours * 3600) * S
        port.put_incident(incident(f"old-{service}", f"{service} was slow", severity, [  # type: ignore[arg-type]
            (signal(f"old-{service}", "latency", service, start, is_open=False), "started it")],
            opened=start, closed=start + length * S))


def _repaired(port: MemoryPort, word: str, title: str, target: str, action: str, signals: list[Signal], effect: str,
              verdict: Verdict, *, began: int, took: int, undone: bool, approved: str) -> None:
    ended = began + (took + 60) * S
    mended = incident(word, title, "warning", [(s, "started it") for s in signals], opened=began - S, closed=ended + 5 * S)
    port.put_incident(mended)
    port.put_diagnosis(Diagnosis(mended.id, began, (
        Suspect(target, 0.94, evidence=signals[0].evidence, signal_kinds=(signals[0].kind,)),), 0.06, False,
        "rootcause-1-0", "ac29b4"))
    done = plan(word, mended.id, title=f"Repair {target}", target=target, action=action, created=began, state="done",
                needs_approval=bool(approved), decided_by=approved, runbook=action.replace(".", "-"),
                rationale=f"{target}: {signals[0].evidence[0].text}",
                gates=(GateResult("allow_list", True, f"{action} is allowed for {target}"),))
    port.put_plan(done)
    run_id = ident(f"run-{word}")
    steps = [StepRecord(run_id, "do", action, "done", began, began + took * S, 1, effect)]
    if undone:
        steps.append(StepRecord(run_id, "do.undo", action, "done", ended - S, ended, 1, "put 1 204 keys back"))
    port.put_run(Run(run_id, done.id, mended.id, target, action, "finished", began, ended, tuple(steps), verdict))
    name = f"{target}/{signals[0].series}"
    port.put_outcome(Outcome(run_id, done.id, mended.id, target, action, word, verdict, ended,
                             "2 series are back in their usual range" if verdict == "fixed" else f"{name} is 4.1, usually 0",
                             {name: 4.2}, {name: 0.0 if verdict == "fixed" else 4.1}, undone))


def crowd(port: MemoryPort, members: int = 500) -> str:
    """An incident of so many signals, a fifth of them alerts of others, half of them with a series; its id."""
    first, services = T - 300 * S, [f"svc-{n:02}" for n in range(40)]
    signals: list[tuple[Signal, str]] = []
    for n in range(members):
        service = services[n % len(services)]
        began = first + n * S // 2
        kind, series = ("alert", f"Alert{n}") if n % 5 == 0 else ("metric_anomaly", f"app.metric_{n}")
        one = signal(f"crowd-{n}", kind, service, began, series=series, count=n % 7 + 1, value=9.0, usual=1.0,
                     text=f"{series} 9 (usual 1)", is_open=n % 3 > 0)
        signals.append((one, f"connected through calls, {n / 2:.0f} s later"))
    port.put_incident(incident("crowd", "svc-00 is not well", "critical", signals, opened=first + S))
    keys = [SeriesKey(s.service, s.series) for s, _ in signals if s.kind != "alert"]
    recorded, rng = port.recorded, np.random.default_rng(3)
    step = np.where(recorded.ts_ns[:, None] > np.array([s.start_ns for s, _ in signals if s.kind != "alert"]), 9.0, 1.0)
    values = np.hstack([recorded.values, step + rng.normal(0, 0.1, step.shape)])
    port.recorded = Observations(recorded.ts_ns, (*recorded.series, *keys), values, foretold(values))
    return ident("crowd")
