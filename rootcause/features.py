"""Scale-free features of nodes and edges: what is unusual, how much, since when, next to which change."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from detect.types import SIGNAL_KINDS
from rootcause.types import CaseWindow
from rootcause.window import EDGE_INDICATORS, NODE_INDICATORS

_FLOORS = {"errors": 0.01, "latency": 0.01, "traffic": 1.0, "saturation": 0.5, "cpu": 0.02, "memory": 4e6,
           "lock_wait": 0.2, "cache_full": 0.2, "up": 0.05, "responsive": 0.05, "logs": 2.0}
CAUSES = ("rollout", "config")
NODE_FEATURES = 3 * len(NODE_INDICATORS) + len(SIGNAL_KINDS) + 8
EDGE_FEATURES = 2 * len(EDGE_INDICATORS)


def z_scores(table: NDArray[np.float64], baseline: int, floor: float) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Robust z of the median of the fault rows, [n]; and which columns have data, [n]. 0 where there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all-NaN columns are expected
        before = table[:baseline]
        middle = np.nanmedian(before, axis=0)
        spread = 1.48 * np.nanmedian(np.abs(before - middle), axis=0)
        now = np.nanmedian(table[baseline:][-12:], axis=0)
    spread = np.maximum(np.nan_to_num(spread), np.maximum(floor, 0.05 * np.abs(np.nan_to_num(middle))))
    has = np.isfinite(now) & np.isfinite(middle)
    return np.where(has, (np.nan_to_num(now) - np.nan_to_num(middle)) / spread, 0.0), has


def squash(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sign-preserving logarithm, about -2..2."""
    out: NDArray[np.float64] = np.sign(z) * np.log1p(np.abs(z)) / 3.0
    return out


def node_scores(case: CaseWindow) -> NDArray[np.float64]:
    """[n, indicators] robust z; `up` and `responsive` count downwards."""
    out = np.zeros((len(case.services), len(NODE_INDICATORS)))
    for column, name in enumerate(NODE_INDICATORS):
        if name in case.node_metrics:
            z, _ = z_scores(case.node_metrics[name], case.baseline_rows, _FLOORS[name])
            out[:, column] = -z if name in ("up", "responsive") else z
    return out


def node_features(case: CaseWindow) -> NDArray[np.float32]:
    """[n, NODE_FEATURES]: z, z relative to the strongest node, mask; signal kinds; onset, change, own-vs-callee."""
    n = len(case.services)
    scores = node_scores(case)
    relative = scores / np.maximum(np.abs(scores).max(axis=0, initial=1.0), 1.0)
    masks = np.stack([np.isfinite(case.node_metrics[name][case.baseline_rows:]).any(axis=0)
                      if name in case.node_metrics else np.zeros(n, bool) for name in NODE_INDICATORS], axis=1)
    at = {service: i for i, service in enumerate(case.services)}
    kinds = np.zeros((n, len(SIGNAL_KINDS)))
    onset = np.full(n, np.nan)
    for signal in case.signals:
        i = at.get(signal.service)
        if i is None or signal.peer:
            continue
        kinds[i, SIGNAL_KINDS.index(signal.kind)] = signal.score
        onset[i] = np.nanmin([onset[i], signal.start_ns / 1e9])
    first = np.nanmin(onset) if np.isfinite(onset).any() else 0.0
    late = np.where(np.isfinite(onset), np.clip((onset - first) / 30.0, 0, 2), 2.0)
    extra = np.stack([late, np.isfinite(onset), *_changes(case, at), *_own(case, scores)], axis=1)
    return np.concatenate([squash(scores), relative, masks, kinds, extra], axis=1).astype(np.float32)


def _changes(case: CaseWindow, at: dict[str, int]) -> list[NDArray[np.float64]]:
    """Recent roll-out or configuration change by somebody else, and how recent (1: just now)."""
    begin = min((s.start_ns for s in case.signals), default=int(case.ts_ns[-1]) if len(case.ts_ns) else 0)
    has, recency = np.zeros(len(at)), np.zeros(len(at))
    for change in case.changes:
        if change.kind in CAUSES and change.actor != "opsmend" and change.service in at:
            age = (begin - change.ts_ns) / 1e9
            if -20 <= age <= 600:
                i = at[change.service]
                has[i] = 1.0
                recency[i] = max(recency[i], np.exp(-max(age, 0.0) / 60.0))
    return [has, recency]


def _own(case: CaseWindow, scores: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Errors and latency of a node minus the worst of its calls; and what its callers say of it."""
    n = len(case.services)
    out = []
    edge_z = edge_scores(case)
    for name in ("errors", "latency"):
        own = scores[:, NODE_INDICATORS.index(name)]
        column = edge_z[:, EDGE_INDICATORS.index(name)]
        below, said = np.zeros(n), np.zeros(n)
        for (caller, callee), z in zip(case.edges.tolist(), column.tolist(), strict=True):
            below[caller] = max(below[caller], z)
            said[callee] = max(said[callee], z)
        out += [squash(own) - squash(below), squash(said)]
    return out


def edge_scores(case: CaseWindow) -> NDArray[np.float64]:
    """[m, indicators] robust z of calls."""
    out = np.zeros((len(case.edges), len(EDGE_INDICATORS)))
    for column, name in enumerate(EDGE_INDICATORS):
        if name in case.edge_metrics and len(case.edges):
            out[:, column], _ = z_scores(case.edge_metrics[name], case.baseline_rows, _FLOORS[name])
    return out


def edge_features(case: CaseWindow) -> NDArray[np.float32]:
    """[m, EDGE_FEATURES]."""
    z = edge_scores(case)
    relative = z / np.maximum(np.abs(z).max(axis=0, initial=1.0), 1.0)
    return np.concatenate([squash(z), relative], axis=1).astype(np.float32)
