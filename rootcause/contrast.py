"""Own or inherited? What is left of a service's change when that of its callees and callers is taken away."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rootcause.robust import Change, Floats, quantiles
from rootcause.types import CaseWindow

REGRESSED = ("errors", "latency", "traffic")
_USUAL_ROWS = 150


def call_share(case: CaseWindow, nodes: dict[str, Change], calls: dict[str, Change]) -> Floats:
    """[m] calls per request of the caller, from what is measured of them; 1 where nothing is."""
    m = len(case.edges)
    a, b = case.edges[:, 0], case.edges[:, 1]
    share = np.ones(m)
    if "traffic" not in nodes:
        return share
    of = nodes["traffic"].before
    into = np.bincount(b, weights=of[a], minlength=len(case.services))
    known = (of[a] > 0) & (of[b] > 0)
    # Without counts on the calls: the callee's traffic, divided among its callers by their size.
    share = np.where(known, of[b] / np.maximum(into[b], 1e-12), 1.0)
    if "traffic" in calls:
        on = calls["traffic"].before
        share = np.where((on > 0) & (of[a] > 0), on / np.maximum(of[a], 1e-12), share)
    return np.clip(share, 0.0, 3.0)


def own_minus_callees(case: CaseWindow, name: str, nodes: dict[str, Change], calls: dict[str, Change],
                      share: Floats) -> tuple[Floats, Floats]:
    """(own change minus the largest share-weighted change among the callees, in own deviations; the part of the
    own change that is unexplained, -1..1), both [n]. Callees are judged by what the caller measures of the calls,
    else by what they say themselves."""
    n = len(case.services)
    own = nodes.get(name)
    moved = _moved(case, name, nodes, calls)
    largest = np.zeros(n)
    np.maximum.at(largest, case.edges[:, 0], np.maximum(moved, 0.0) * (np.minimum(share, 1.0) if name == "errors" else share))
    if own is None:
        return np.zeros(n), np.zeros(n)
    change = np.where(own.has, own.now - own.before, 0.0)
    rest = change - largest
    part = rest / np.maximum(np.maximum(np.abs(change), largest), own.scale)
    return np.where(own.has, rest / own.scale, 0.0), np.where(own.has, np.clip(part, -1, 1), 0.0)


def _moved(case: CaseWindow, name: str, nodes: dict[str, Change], calls: dict[str, Change]) -> Floats:
    """[m] absolute change of each call."""
    m = len(case.edges)
    moved = np.zeros(m)
    if name in nodes:
        node = nodes[name]
        moved = np.where(node.has, node.now - node.before, 0.0)[case.edges[:, 1]]
    if name in calls:
        call = calls[name]
        moved = np.where(call.has, call.now - call.before, moved)
    return moved


def regression_residuals(case: CaseWindow, name: str, *, ridge: float = 0.05) -> Floats:
    """[n] median residual of the fault rows when each service is regressed on its callees (traffic: on its
    callers) over the usual rows, in robust deviations of the usual residuals (Li et al., CIRCA, KDD 2022, with
    ridge). 0 where there is no data; a service without neighbours gives its plain deviation."""
    table = case.node_metrics.get(name)
    n = len(case.services)
    if table is None or not np.isfinite(table).any():
        return np.zeros(n)
    base = case.baseline_rows
    step = max(1, base // _USUAL_ROWS)
    usual, now = table[:base][::step], table[base:][-12:]
    with np.errstate(all="ignore"):
        count = np.isfinite(usual).sum(axis=0)
        mean = np.nansum(usual, axis=0) / np.maximum(count, 1)
        spread = np.sqrt(np.nansum((usual - mean) ** 2, axis=0) / np.maximum(count, 1))
    # Units: own spread, never below 5 % of the mean; errors are shares and have a floor of their own.
    spread = np.maximum(spread, np.maximum(0.05 * np.abs(mean), 0.005 if name == "errors" else 1e-12))
    ok = count >= 5
    u = np.where(np.isfinite(usual), (usual - mean) / spread, 0.0)
    f = np.where(np.isfinite(now), (now - mean) / spread, np.nan)
    gram = u.T @ u / max(1, len(u))
    near: list[list[int]] = [[] for _ in range(n)]
    for a, b in case.edges.tolist():
        i, j = (b, a) if name == "traffic" else (a, b)
        if ok[j]:
            near[i].append(j)
    filled = np.nan_to_num(f)
    left_usual, left = u.copy(), f.copy()
    for i in np.flatnonzero(ok).tolist():
        x = near[i]
        if x:
            weights = np.linalg.solve(gram[np.ix_(x, x)] + ridge * np.eye(len(x)), gram[x, i])
            left_usual[:, i] -= u[:, x] @ weights
            left[:, i] -= filled[:, x] @ weights
    deviation = np.maximum(1.48 * np.median(np.abs(left_usual), axis=0), 0.3) if len(u) else np.ones(n)
    (middle,), _ = quantiles(np.ascontiguousarray(left.T), (0.5,))
    return np.where(ok, np.nan_to_num(middle) / deviation, 0.0)


def flow_residual(case: CaseWindow, nodes: dict[str, Change], share: Floats) -> Floats:
    """[n] log of the traffic that a service has over what its callers' traffic would usually make; floored at 1 %
    of the busiest service. Below 0: less is asked of it than its callers' load would explain."""
    n = len(case.services)
    if "traffic" not in nodes:
        return np.zeros(n)
    traffic = nodes["traffic"]
    floor = 0.01 * float(traffic.before.max(initial=0.0)) + 1e-12
    a, b = case.edges[:, 0], case.edges[:, 1]
    usable: NDArray[np.bool_] = traffic.has[a]
    expected_before = np.bincount(b, weights=np.where(usable, share * traffic.before[a], 0.0), minlength=n)
    expected_now = np.bincount(b, weights=np.where(usable, share * traffic.now[a], 0.0), minlength=n)
    own = np.log((traffic.now + floor) / (traffic.before + floor))
    theirs = np.log((expected_now + floor) / (expected_before + floor))
    return np.where(traffic.has & (expected_before > 0), own - theirs, 0.0)
