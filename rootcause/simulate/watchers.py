"""What detectors would say of it, with misses, delays and false alarms; and who changed what."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detect.types import Evidence, Signal, SignalKind
from ingest.types import Change
from rootcause.column_statistics import quantiles
from rootcause.simulate.faults import BY_CHANGE, Struck
from rootcause.simulate.gauges import Table
from rootcause.simulate.topology import Floats, System

_S = 10**9
_EVIDENCE = (Evidence("simulated"),)
_NOISE_KINDS: tuple[SignalKind, ...] = ("latency", "cpu", "memory", "traffic", "log_rate", "log_template",
                                        "metric_anomaly", "breach", "error_ratio", "saturation")
_KINDS: tuple[tuple[str, SignalKind], ...] = (
    ("errors", "error_ratio"), ("latency", "latency"), ("cpu", "cpu"), ("memory", "memory"), ("logs", "log_rate"),
    ("traffic", "traffic"))
_PHYSICAL: dict[str, SignalKind] = {"process.down": "process.down", "hang": "hang", "crash_loop": "crash_loop",
                                    "saturation": "saturation", "lock_wait": "lock_wait", "cache_full": "cache_full"}


def names_of(n: int) -> tuple[str, ...]:
    return tuple(f"s{i:02d}" for i in range(n))


def watch(system: System, node: Table, edge: Table, struck: Sequence[Struck], base: int, onset: int, step: float,
          rng: np.random.Generator) -> tuple[Signal, ...]:
    """Signals on services and calls. Each is seen with a probability drawn per case."""
    names, rows = names_of(system.n), len(node["traffic"])
    seen_share = float(rng.uniform(0.5, 1.0))
    found: list[tuple[SignalKind, int, int, float, int]] = []  # kind, service, peer or -1, score, row
    found += [(kind, i, -1, score, row) for i, kind, score, row in _judge(node, base)]
    found += [(kind, int(system.edges[e, 0]), int(system.edges[e, 1]), score, row)
              for e, kind, score, row in _judge(edge, base) if kind != "traffic"]
    for kind_name, root in ((kind, s.root) for s in struck for kind in s.marks.kinds):
        found.append((_PHYSICAL[kind_name], root, -1, 0.95, onset + int(rng.integers(0, 4))))
    kept = [f for f in found if rng.random() < seen_share]
    for kind, i, peer, _, row in list(kept):
        if peer < 0 and kind == "error_ratio" and rng.random() < 0.4:
            kept.append(("log_template", i, -1, 0.45, row))
    kept += [(_NOISE_KINDS[int(rng.integers(0, len(_NOISE_KINDS)))], int(rng.integers(0, system.n)), -1,
              float(rng.uniform(0.4, 0.65)), base + int(rng.integers(-5, rows - base)))
             for _ in range(int(rng.poisson(0.8)))]
    out = []
    for kind, i, peer, score, row in kept:
        start = int((min(rows - 1, max(0, row)) + int(rng.integers(0, 3)) * (rng.random() < 0.5)) * step * _S)
        out.append(Signal(f"{i}{peer}{kind}", "t", "sim", kind, names[i], start, int(rows * step * _S), score,
                          f"{i}{peer}{kind}", peer=names[peer] if peer >= 0 else "", evidence=_EVIDENCE))
    return tuple(out)


def _judge(table: Table, base: int) -> list[tuple[int, SignalKind, float, int]]:
    """The rules of the detectors, on the rows after `base`: (column, kind, score, first row)."""
    out: list[tuple[int, SignalKind, float, int]] = []
    for name, kind in _KINDS:
        if name not in table or not table[name].shape[1]:
            continue
        rows = np.ascontiguousarray(table[name].T)
        (usual, low, high), count = quantiles(rows[:, :base], (0.5, 0.05, 0.95))
        (worst,), _ = quantiles(rows[:, base:], (0.5,))
        limit, score = _limit(name, np.nan_to_num(usual), np.nan_to_num(high - low))
        above = np.nan_to_num(rows[:, base:], nan=-np.inf) >= limit[:, None]
        need = min(3, max(1, above.shape[1] // 2))
        for i in np.flatnonzero((count >= 10) & (above.sum(axis=1) >= need)).tolist():
            if name == "errors":
                score = min(1.0, 0.5 + float(worst[i]) / 2)
            elif name == "latency":
                score = min(1.0, 0.4 + 0.1 * float(np.log2(max(worst[i], 1e-6) / max(usual[i], 1e-3))))
            out.append((i, kind, max(score, 0.3), base + int(np.argmax(above[i]))))
    return out


def _limit(name: str, usual: Floats, spread: Floats) -> tuple[Floats, float]:
    match name:
        case "errors":
            return np.maximum(0.05, 5 * usual), 0.5
        case "latency":
            return np.maximum(2.5 * usual, usual + 0.12), 0.5
        case "logs":
            return np.maximum(8 * usual, usual + 50), 0.7
        case "cpu":
            return usual + np.maximum(np.maximum(0.08, 0.5 * usual), 2 * spread), 0.6
        case "memory":
            return usual + np.maximum(np.maximum(8e6, 0.5 * usual), 2 * spread), 0.5
        case _:
            return usual + np.maximum(np.maximum(5.0, 0.5 * usual), 2 * spread), 0.4


def draw_changes(fault: str, root: int, system: System, onset: int, step: float,
                 rng: np.random.Generator) -> tuple[list[Change], list[tuple[int, int]]]:
    """(changes, (service, row) of those that were rolled out inside the window). Half of the systems tell of none."""
    out: list[Change] = []
    rolled: list[tuple[int, int]] = []
    names = names_of(system.n)
    services = np.flatnonzero(~system.is_store & ~system.is_external)
    told = rng.random() < 0.6
    if root >= 0 and rng.random() < BY_CHANGE.get(fault, 0.04):
        age = int(rng.exponential(30))
        if told and rng.random() < 0.85:
            at_ns = int(onset * step * _S) - age * _S
            kind = str(rng.choice(["rollout", "config"]))
            out.append(_scaled(at_ns, names[root], False, rng) if fault == "scaled_down"
                       else Change(at_ns, names[root], kind, "v2", "v1", "deployer"))
    # A change just before nothing at all: most changes do no harm.
    planned = 1 if fault == "none_change" or (fault.startswith("none") and rng.random() < 0.5) else 0
    for n in range(int(rng.poisson(0.8)) + planned):
        other = int(rng.choice(services))
        age = int(rng.exponential(60) if rng.random() < 0.5 else rng.uniform(0, 800))
        if n < planned:
            age = int(rng.integers(0, 6)) if fault == "none_change" else int(rng.exponential(30))
        rolled.append((other, onset - int(age / step)))
        if told:
            kind = "rollout" if rng.random() < 0.7 else "config"
            out.append(Change(int(onset * step * _S) - age * _S, names[other], kind, "v2", "v1", "deployer"))
    if told and rng.random() < 0.5:
        out += _sized(root, names, services, onset, step, rng)
    return out, rolled


def _sized(root: int, names: Sequence[str], services: NDArray[np.int64], onset: int, step: float,
           rng: np.random.Generator) -> list[Change]:
    """What autoscalers and people do to the number of instances: as ever before, and as a reaction after."""
    out = []
    for _ in range(int(rng.poisson(0.7))):
        age = int(rng.exponential(60) if rng.random() < 0.4 else rng.uniform(0, 800))
        out.append(_scaled(int(onset * step * _S) - age * _S, names[int(rng.choice(services))], bool(rng.random() < 0.6), rng))
    for _ in range(int(rng.integers(0, 3))):
        late = int(rng.uniform(0, 180))
        at = root if root >= 0 and rng.random() < 0.5 else int(rng.choice(services))
        out.append(_scaled(int(onset * step * _S) + late * _S, names[at], bool(rng.random() < 0.9), rng))
    return out


def _scaled(at_ns: int, name: str, is_up: bool, rng: np.random.Generator) -> Change:
    few, many = int(rng.integers(1, 5)), int(rng.integers(5, 20))
    return Change(at_ns, name, "scale", str(many if is_up else few), str(few if is_up else many), "autoscaler")


def usual_rows(step: float, rng: np.random.Generator) -> tuple[int, int]:
    """(rows before, rows after) of a window with this clock."""
    if step >= 300 and rng.random() < 0.5:
        return int(rng.integers(60, 400)), int(rng.integers(4, 7))
    if step >= 60:
        return int(rng.integers(60, 160)), int(rng.integers(3, 9))
    return int(rng.integers(25, 140)), int(rng.integers(3, 30))

