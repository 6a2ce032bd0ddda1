"""Simulated faults in a system's own fault-free rows: its graph, its noise, its missing series, and a known culprit.

What a fault does is added to what was recorded: failures and waiting go up the calls, thinned by the share of a caller's
requests that make the call; traffic that is not served is missing further down. Coarser than `rootcause/simulate`,
which makes the system as well; nothing here is known of how its services really fail.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rootcause.types import CaseWindow

Floats = NDArray[np.float64]
KINDS = ("errors", "slow", "cpu", "memory", "disk", "down", "call_errors", "call_slow")
_ROUNDS = 6  # calls that a failure travels up


@dataclass(frozen=True)
class Injected:
    """A window and the candidate that is to blame: a service, or n + the row of a call in `case.edges`."""

    case: CaseWindow
    target: int
    kind: str


def inject(calm: CaseWindow, rng: np.random.Generator) -> Injected | None:
    """One fault in the rows after `baseline_rows` of a window in which nothing was wrong; None where what was drawn can't
    be seen in any series that is there. Cost: under a millisecond."""
    n = len(calm.services)
    kind = str(rng.choice(KINDS))
    on_call = kind.startswith("call_")
    if on_call and not len(calm.edges):
        return None
    target = n + int(rng.integers(len(calm.edges))) if on_call else int(rng.integers(n))
    size = float(np.exp(rng.uniform(np.log(0.06), 0.0)))  # share of the requests, 0..1
    tables = {name: table.copy() for name, table in calm.node_metrics.items()}
    calls = {name: table.copy() for name, table in calm.edge_metrics.items()}
    begin = min(len(calm.ts_ns) - 1, max(1, calm.baseline_rows + int(rng.integers(0, 2))))
    rows = slice(begin, None)
    failed, waited, seen_calls = _felt(calm, target, kind, size, rng)
    changed = _add(tables, "errors", rows, failed, rng, most=1.0) | _add(tables, "latency", rows, waited, rng)
    changed |= _add(calls, "errors", rows, seen_calls[0], rng, most=1.0) | _add(calls, "latency", rows, seen_calls[1], rng)
    if on_call:
        changed |= _add(calls, "network", rows, seen_calls[1] * (np.arange(len(calm.edges)) == target - n), rng)
    else:
        changed |= _own(tables, kind, target, size, rows, failed, waited, rng)
        changed |= _starved(calm, tables, calls, target, rows, size if kind in ("down", "errors") else 0.0, rng)
    return Injected(replace(calm, node_metrics=tables, edge_metrics=calls), target, kind) if changed else None


def _felt(calm: CaseWindow, target: int, kind: str, size: float,
          rng: np.random.Generator) -> tuple[Floats, Floats, tuple[Floats, Floats]]:
    """Share of failed requests [n] and seconds waited [n] by service, and both of the calls ([m], [m])."""
    n, m = len(calm.services), len(calm.edges)
    usual = np.nan_to_num(_level(calm, "latency"), nan=0.05)
    failed, waited = np.zeros(n), np.zeros(n)
    call_failed, call_waited = np.zeros(m), np.zeros(m)
    weight = _weights(calm, rng) * rng.uniform(0.5, 1.0)  # retries and fallbacks hide the rest
    at = int(calm.edges[target - n, 1]) if target >= n else target
    slow = max(float(usual[at]), 1e-3) * float(np.exp(rng.uniform(0.0, np.log(30.0))))
    first_failed = size if kind in ("errors", "call_errors", "down") else size * float(rng.random() < 0.2) * 0.3
    first_waited = {"slow": slow, "call_slow": slow, "cpu": 0.3 * slow, "memory": 0.1 * slow, "disk": 0.5 * slow}.get(kind, 0.0)
    if target >= n:
        call_failed[target - n], call_waited[target - n] = first_failed, first_waited
    else:
        failed[at], waited[at] = first_failed, first_waited
    for _ in range(_ROUNDS):
        for k, (caller, callee) in enumerate(calm.edges.tolist()):
            own = k == target - n
            call_failed[k] = max(call_failed[k], failed[callee]) if own else failed[callee]
            call_waited[k] = max(call_waited[k], waited[callee]) if own else waited[callee]
            if caller != at or target >= n:
                failed[caller] = max(failed[caller], weight[k] * call_failed[k])
                waited[caller] = max(waited[caller], weight[k] * call_waited[k])
    if kind == "down":  # it says nothing itself
        failed[at], waited[at] = 0.0, 0.0
    return failed, waited, (call_failed, call_waited)


def _weights(calm: CaseWindow, rng: np.random.Generator) -> Floats:
    """[m] share of the caller's requests that make the call: from the traffic where that is known, else drawn."""
    if not len(calm.edges):
        return np.zeros(0)
    guess = rng.uniform(0.2, 1.0, len(calm.edges))
    of_node = _level(calm, "traffic")
    of_call = _level(calm, "traffic", of_calls=True)
    callers, callees = calm.edges[:, 0], calm.edges[:, 1]
    calls = np.where(np.isfinite(of_call), of_call, of_node[callees])
    with np.errstate(divide="ignore", invalid="ignore"):
        known = np.clip(calls / of_node[callers], 0.0, 1.0)
    return np.where(np.isfinite(known), known, guess)


def _level(calm: CaseWindow, name: str, *, of_calls: bool = False) -> Floats:
    """Usual median of each column, NaN where nothing is known."""
    tables, width = (calm.edge_metrics, len(calm.edges)) if of_calls else (calm.node_metrics, len(calm.services))
    out = np.full(width, np.nan)
    for i in range(width if name in tables else 0):
        known = tables[name][:calm.baseline_rows, i]
        known = known[np.isfinite(known)]
        if len(known):
            out[i] = np.median(known)
    return out


def _own(tables: dict[str, Floats], kind: str, target: int, size: float, rows: slice, failed: Floats, waited: Floats,
         rng: np.random.Generator) -> bool:
    """What the culprit itself shows besides failures and waiting."""
    factor = 1 + 5 * size
    changed = False
    for name in {"cpu": ("cpu",), "memory": ("memory",), "disk": ("disk",)}.get(kind, ()):
        changed |= _times(tables, name, rows, target, factor, rng)
    if kind in ("slow", "cpu", "disk"):
        changed |= _add(tables, "self_time", rows, np.where(np.arange(len(waited)) == target, waited, 0.0), rng)
    if kind == "down":
        for name in ("cpu", "traffic", "logs"):
            changed |= _times(tables, name, rows, target, 1 - size, rng)
    if kind == "errors" and "error_lines" in tables and rng.random() < 0.7:
        lines = np.zeros(len(failed))
        lines[target] = 1 + 20 * size
        changed |= _add(tables, "error_lines", rows, lines, rng)
    return changed


def _starved(calm: CaseWindow, tables: dict[str, Floats], calls: dict[str, Floats], target: int, rows: slice, lost: float,
             rng: np.random.Generator) -> bool:
    """What the culprit does not serve does not reach whom it calls."""
    changed = False
    for k, (caller, callee) in enumerate(calm.edges.tolist()):
        if caller == target and lost > 0:
            share = 1 - lost * float(rng.uniform(0.3, 1.0))
            changed |= _times(calls, "traffic", rows, k, share, rng)
            others = sum(1 for e in calm.edges.tolist() if e[1] == callee) - 1
            changed |= _times(tables, "traffic", rows, callee, share if others == 0 else 1 - (1 - share) / (1 + others), rng)
    return changed


def _add(tables: dict[str, Floats], name: str, rows: slice, more: Floats, rng: np.random.Generator, *,
         most: float = np.inf) -> bool:
    """`more` [width] with a fifth of noise onto the known cells; whether anything is different."""
    if name not in tables or not (more > 0).any():
        return False
    there = tables[name][rows]
    added = more * np.maximum(0.0, 1 + 0.2 * rng.standard_normal(there.shape))
    tables[name][rows] = np.minimum(there + added, np.maximum(most, there))
    return bool(np.isfinite(there[:, more > 0]).any())


def _times(tables: dict[str, Floats], name: str, rows: slice, column: int, factor: float, rng: np.random.Generator) -> bool:
    if name not in tables:
        return False
    there = tables[name][rows, column]
    tables[name][rows, column] = there * factor * np.exp(0.05 * rng.standard_normal(len(there)))
    return bool((np.isfinite(there) & (there != 0)).any())
