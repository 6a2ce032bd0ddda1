"""Made-up faults in made-up systems: what the ranker is trained on. One CaseWindow and its answer per call.

Callers shout, culprits may be silent: errors and latency travel up along the calls, a hung or dead process
reports nothing, a changed release is innocent more often than not, and some cases have no cause at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detect.types import Evidence, Signal, SignalKind
from ingest.types import Change
from rootcause.types import CaseWindow
from rootcause.window import EDGE_INDICATORS, NODE_INDICATORS

FAULTS = ("down", "hang", "crash_loop", "bad_config", "cpu", "leak", "pool", "lock", "cache_full", "logs", "error",
          "slow", "none", "none_change")
_S = 10**9
Table = NDArray[np.float64]


@dataclass(frozen=True)
class Simulated:
    """A case and the index of its root service, -1 for none."""

    case: CaseWindow
    root: int
    fault: str


def _graph(rng: np.random.Generator) -> tuple[int, NDArray[np.int32], int]:
    """Services in layers, stores at the end: (n, edges, index of the first store)."""
    n = int(rng.integers(5, 26))
    stores = int(rng.integers(1, max(2, n // 5) + 1))
    first_store = n - stores
    edges = set()
    for i in range(1, n):
        callers = [c for c in range(min(i, first_store)) if c != i]
        for c in rng.choice(callers, size=min(len(callers), int(rng.choice([1, 1, 2]))), replace=False):
            edges.add((int(c), i))
    return n, np.array(sorted(edges), dtype=np.int32), first_store


def simulate(rng: np.random.Generator) -> Simulated:
    """One case. Cost: about a millisecond."""
    n, edges, first_store = _graph(rng)
    fault = str(rng.choice(FAULTS))
    step = int(rng.choice([1, 1, 1, 10, 60]))
    base, fault_rows = int(rng.integers(20, 80)), int(rng.integers(3, 20))
    t = base + fault_rows
    is_store = np.arange(n) >= first_store
    if fault in ("lock", "cache_full"):
        root = int(rng.integers(first_store, n))
    elif fault.startswith("none"):
        root = -1
    elif fault in ("down", "hang", "slow", "error"):
        root = int(rng.integers(1, n))
    else:
        root = int(rng.integers(1, first_store)) if first_store > 1 else 0
    traffic = _traffic(n, edges, rng)
    node = {name: np.full((t, n), np.nan) for name in NODE_INDICATORS}

    def noise(size: int) -> Table:
        return rng.normal(0, 1, (t, size))

    node["traffic"] = traffic * (1 + 0.15 * noise(n))
    node["errors"] = np.abs(0.004 * noise(n)) * (rng.random((t, n)) < 0.2)
    latency = rng.lognormal(-4.2, 0.8, n)
    node["latency"] = latency * (1 + 0.15 * np.abs(noise(n)))
    node["cpu"] = rng.uniform(0.02, 0.4, n) * (1 + 0.1 * noise(n))
    node["memory"] = rng.uniform(5e7, 5e8, n) * (1 + 0.002 * noise(n))
    node["up"], node["responsive"] = np.ones((t, n)), np.ones((t, n))
    node["logs"] = rng.uniform(0.2, 20, n) * (1 + 0.3 * np.abs(noise(n)))
    for name in ("errors", "latency", "traffic", "cpu", "memory", "responsive", "logs"):
        node[name][:, is_store] = np.nan
    for name in ("lock_wait", "cache_full"):
        node[name][:, is_store] = 0.0
    node["saturation"][:, ~is_store] = 0.0
    edge = {"traffic": np.tile(traffic[edges[:, 1]] / np.maximum(1, np.bincount(edges[:, 1], minlength=n))[edges[:, 1]], (t, 1))
            * (1 + 0.2 * noise(len(edges))),
            "errors": np.abs(0.004 * noise(len(edges))) * (rng.random((t, len(edges))) < 0.2),
            "latency": np.tile(np.where(is_store[edges[:, 1]], 0.004, latency[edges[:, 1]]), (t, 1))
            * (1 + 0.15 * np.abs(noise(len(edges))))}
    strength = float(rng.uniform(0.3, 1.0))
    kinds: dict[int, list[tuple[SignalKind, float, float]]] = {}
    if root >= 0:
        err, slow = _strike(fault, root, node, base, strength, kinds, rng)
        _spread(root, err, slow, node, edge, edges, base, is_store, kinds, rng)
    elif fault == "none":  # a wave of load, or noise somewhere
        node["traffic"][base:] *= rng.uniform(1.5, 3)
        victim = int(rng.integers(0, first_store))
        node["latency"][base:, victim] *= rng.uniform(1.5, 4)
        kinds[victim] = [("latency", 0.5, 0.0)]
        for other in rng.choice(first_store, size=min(first_store, 3), replace=False):
            kinds.setdefault(int(other), []).append(("traffic", 0.4, 0.0))
    elif rng.random() < 0.5:
        kinds[int(rng.integers(0, first_store))] = [("latency", 0.45, 0.0)]
    changes = _changes(fault, root, n, first_store, base, step, rng)
    _forget_some(node, edge, rng)
    names = tuple(f"s{i:02d}" for i in range(n))
    signals = tuple(
        Signal(f"{i}{kind}", "t", "sim", kind, names[i], int((base + lag) * step * _S), int(t * step * _S), score,
               f"{i}{kind}", evidence=(Evidence("simulated"),))
        for i, found in sorted(kinds.items()) for kind, score, lag in found)
    case = CaseWindow(np.arange(t, dtype=np.int64) * step * _S, names, node, edges, edge, base, tuple(changes), signals)
    return Simulated(case, root, fault)


def _traffic(n: int, edges: NDArray[np.int32],
             rng: np.random.Generator) -> NDArray[np.float64]:
    load = np.zeros(n)
    load[0] = rng.uniform(10, 500)
    for caller, callee in sorted(map(tuple, edges.tolist())):
        load[callee] += load[caller] * rng.uniform(0.1, 0.9)
    return np.maximum(load, 0.5)


def _strike(fault: str, root: int, node: dict[str, Table], base: int, strength: float,
            kinds: dict[int, list[tuple[SignalKind, float, float]]], rng: np.random.Generator) -> tuple[float, float]:
    """Do it to the root; (share of failing calls, added seconds) that its callers see."""
    rows = slice(base, None)
    mine = kinds.setdefault(root, [])
    silent = ("errors", "latency", "traffic", "cpu", "memory", "logs")
    match fault:
        case "down":
            node["up"][rows, root] = 0.0
            for name in (*silent, "responsive"):
                node[name][rows, root] = np.nan
            mine.append(("process.down", 1.0, 0.0))
            return 1.0, 0.0
        case "hang":
            node["responsive"][rows, root] = 0.0
            for name in silent:
                node[name][rows, root] = np.nan
            mine.append(("hang", 0.95, 2.0))
            return 0.95, 1.0
        case "crash_loop":
            node["up"][rows, root] = (rng.random(len(node["up"]) - base) < 0.6).astype(float)
            mine.append(("crash_loop", 1.0, 2.0))
            return 0.4 + 0.5 * strength, 0.0
        case "lock":
            node["lock_wait"][rows, root] = rng.integers(1, 12)
            mine.append(("lock_wait", 0.95, 1.0))
            return strength, 0.8
        case "cache_full":
            node["cache_full"][rows, root] = rng.uniform(2, 40)
            mine.append(("cache_full", 0.95, 0.0))
            return strength, 0.0
        case "cpu":
            node["cpu"][rows, root] += rng.uniform(0.2, 1.0)
            mine.append(("cpu", 0.6, 1.0))
            node["latency"][rows, root] += 0.4 * strength
            return 0.1 * strength, 0.4 * strength
        case "leak":
            node["memory"][rows, root] *= 1 + strength * np.linspace(0.2, 3, len(node["memory"]) - base)
            mine.append(("memory", 0.5, 2.0))
            return 0.3 * strength * float(rng.random() < 0.5), 0.1
        case "pool":
            node["saturation"][rows, root] = rng.uniform(2, 15)
            mine.append(("saturation", 0.8, 0.0))
            node["errors"][rows, root] = strength
            return strength, 0.4
        case "logs":
            node["logs"][rows, root] *= rng.uniform(20, 300)
            mine.append(("log_rate", 0.7, 0.0))
            return 0.0, 0.0
        case "slow":
            if np.isfinite(node["latency"][0, root]):
                node["latency"][rows, root] += strength
            return 0.05, strength
        case _:
            if np.isfinite(node["errors"][0, root]):
                node["errors"][rows, root] = strength
            return strength, 0.0


def _spread(root: int, err: float, slow: float, node: dict[str, Table], edge: dict[str, Table],
            edges: NDArray[np.int32], base: int,
            is_store: NDArray[np.bool_],
            kinds: dict[int, list[tuple[SignalKind, float, float]]], rng: np.random.Generator) -> None:
    """Up along the calls, weaker with each hop as other calls dilute it."""
    felt = {root: (err, slow, 0.0)}
    if not is_store[root]:
        if err > 0.05 and np.nanmax(node["errors"][base:, root], initial=0.0) > 0.05:
            kinds[root].append(("error_ratio", 0.5 + err / 2, 0.0))
        if slow > 0.1 and np.isfinite(node["latency"][base:, root]).any():
            kinds[root].append(("latency", 0.5, 0.0))
    queue = [root]
    while queue:
        callee = queue.pop(0)
        e, s, lag = felt[callee]
        for at, (caller, target) in enumerate(edges.tolist()):
            if target != callee or (e < 0.02 and s < 0.02):
                continue
            edge["errors"][base:, at] = np.clip(e + 0.05 * rng.normal(size=len(edge["errors"]) - base), 0, 1)
            edge["latency"][base:, at] += s
            share = float(rng.uniform(0.15, 1.0))
            up_e, up_s = e * share, s * min(1.0, share + 0.2)
            if caller not in felt:
                felt[caller] = (up_e, up_s, lag + float(rng.integers(0, 3)))
                node["errors"][base:, caller] = np.clip(up_e + 0.03 * rng.normal(size=len(node["errors"]) - base), 0, 1)
                node["latency"][base:, caller] += up_s
                node["logs"][base:, caller] *= 1 + 5 * up_e
                found = kinds.setdefault(caller, [])
                if up_e > 0.05:
                    found.append(("error_ratio", 0.5 + up_e / 2, felt[caller][2]))
                if up_s > 0.1:
                    found.append(("latency", 0.5, felt[caller][2]))
                queue.append(caller)


def _changes(fault: str, root: int, n: int, first_store: int, base: int, step: int,
             rng: np.random.Generator) -> list[Change]:
    out = []
    begin = base * step * _S
    caused = {"crash_loop": 1.0, "bad_config": 1.0, "cpu": 0.8, "leak": 0.8, "pool": 0.8, "logs": 0.8, "error": 0.5}
    if root >= 0 and rng.random() < caused.get(fault, 0.05):
        age = int(min(rng.exponential(30), base * step * 0.9))
        kind = str(rng.choice(["rollout", "config"]))
        out.append(Change(begin - age * _S, f"s{root:02d}", kind, "v2", "v1", "deployer"))
    for _ in range(int(rng.integers(0, 3)) + (fault == "none_change")):
        age = int(rng.uniform(0, min(500, base * step)))
        other = f"s{int(rng.integers(0, first_store)):02d}"
        out.append(Change(begin - age * _S, other, "rollout", "v2", "v1", "deployer"))
    return out


def _forget_some(node: dict[str, Table], edge: dict[str, Table], rng: np.random.Generator) -> None:
    """Missing modalities and sparse reports."""
    for table, names in ((node, NODE_INDICATORS), (edge, EDGE_INDICATORS)):
        for name in names:
            if rng.random() < 0.12:
                table[name][:] = np.nan
            elif rng.random() < 0.2:
                table[name][rng.random(table[name].shape) < 0.2] = np.nan
