"""Who waits for all its calls together: which of these is it that got slow? Other callers of the callees tell.

Clients that name no target, metrics of all that a service waits for, and gaps between spans give all calls of a caller the
same time on the way. Where a pod's network is slow all its callers wait, whomever else they call.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rootcause.contrast import call_share
from rootcause.robust import Floats, edge_changes, node_changes
from rootcause.types import CaseWindow

_WAITS, _MOST = 3.0, 30.0
"""Robust deviations from which a caller waits, and above which it makes no difference."""
_SHARP = 2.0
"""Of two that may be to blame, the one that explains a full wait less gets e^-2 of the time."""
_RARE = 0.05
"""Callees that get less than this part of a caller's calls don't show in what it waits for all of them."""


def with_ways_parted(case: CaseWindow) -> CaseWindow:
    """The same; where calls of one caller have one time on the way, the rows of now of each are as far above the usual as the
    network of one machine explains the waits of all callers. Cost: nothing where every call is measured by itself."""
    table = case.edge_metrics.get("network")
    if table is None or not len(case.edges):
        return case
    alike = _alike(table, case.edges)
    if not alike.any():
        return case
    nodes, calls = node_changes(case), edge_changes(case)
    if "network" not in calls:
        return case
    change, (a, b) = calls["network"], case.edges.T
    part = _part(case, call_share(case, nodes, calls))
    known = change.has & (~alike | (part >= _RARE))
    # -1: does not wait at all; 0: can't tell; up to 1: waits
    says = np.where(known, np.clip(np.log(np.maximum(change.z, 1.0) / _WAITS) / np.log(_MOST / _WAITS), -1.0, 1.0), 0.0)
    n = len(case.services)
    made, asked = np.bincount(a, weights=known, minlength=n), np.bincount(b, weights=known, minlength=n)
    own = np.bincount(a, weights=says, minlength=n) / np.maximum(made, 1)
    blame = (np.bincount(b, weights=says, minlength=n) + own) / np.sqrt(np.maximum(asked + (made > 0), 1))
    out = table.copy()
    base = case.baseline_rows
    for i in np.unique(a[alike]).tolist():
        to = np.flatnonzero((a == i) & alike & change.has)
        if not len(to) or float(change.z[to].max()) < _WAITS:
            continue
        best = max(float(blame[b[to]].max()), float(blame[i]))
        keep = np.exp(_SHARP * (np.maximum(blame[b[to]], blame[i]) - best))
        usual = change.before[to]
        out[base:, to] = usual + (out[base:, to] - usual) * keep
    return replace(case, edge_metrics={**case.edge_metrics, "network": out})


def _alike(table: Floats, edges: NDArray[np.int32]) -> NDArray[np.bool_]:
    """[m] calls that have the values of that call of the same caller of which most is known, in two rows at least."""
    out = np.zeros(len(edges), bool)
    seen = np.isfinite(table)
    counts = seen.sum(axis=0)
    order = np.lexsort((-counts, edges[:, 0]))
    starts = np.flatnonzero(np.diff(edges[order, 0], prepend=-1))
    for of in np.split(order, starts[1:]):
        first, others = of[0], of[1:]
        if not len(others) or counts[first] < 2:
            continue
        both = seen[:, [first]] & seen[:, others]
        same = (both.sum(axis=0) >= 2) & ~(both & (table[:, [first]] != table[:, others])).any(axis=0)
        out[others[same]] = True
        out[first] = same.any()
    return out


def _part(case: CaseWindow, share: Floats) -> Floats:
    """[m] of the calls of its caller."""
    total = np.bincount(case.edges[:, 0], weights=share, minlength=len(case.services))
    return np.asarray(share / np.maximum(total[case.edges[:, 0]], 1e-12))
