"""Own or inherited? What is left of a service's change when that of its callees and callers is taken away."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rootcause.column_statistics import quantiles
from rootcause.robust import Change, Floats, beyond_chance
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
    if name == "latency":
        moved = moved + on_the_way(calls, m)
    if name in calls:
        call = calls[name]
        moved = np.where(call.has, call.now - call.before, moved)
    return moved


def on_the_way(calls: dict[str, Change], m: int) -> Floats:
    """[m] seconds that each call takes longer than usual on the way, beyond what the callee says; noise counts little."""
    if "network" not in calls:
        return np.zeros(m)
    way = calls["network"]
    return np.where(way.has, np.maximum(way.now - way.before, 0.0) * np.clip(way.z / 3, 0, 1), 0.0)


def excess(case: CaseWindow, name: str, nodes: dict[str, Change], calls: dict[str, Change],
           share: Floats) -> tuple[Floats, Floats]:
    """(what a service has too much of, the same without what its callees have too much of), both [n], as parts of the
    largest. Failed requests, or seconds that all its requests together take longer, per second: unlike ratios, these
    add up along calls, so a busy service with a small ratio outweighs a seldom-called one with a large one."""
    n = len(case.services)
    own = nodes.get(name)
    if own is None:
        return np.zeros(n), np.zeros(n)
    a, b = case.edges[:, 0], case.edges[:, 1]
    asked = nodes["traffic"].before if "traffic" in nodes else np.ones(n)
    asked = np.where(asked > 0, asked, 0.0)
    load = np.minimum(np.maximum(asked, nodes["traffic"].now), 2 * asked) if "traffic" in nodes else asked
    # Deviations within the noise count little: added up over many requests they would count much.
    mass = np.maximum(own.now - own.before, 0.0) * np.clip(np.abs(own.z) / 3, 0, 1) * load * own.has
    through = share * asked[a]
    into = np.bincount(b, weights=through, minlength=n)
    passed = mass[b] * np.minimum(1.0, through / np.maximum(np.maximum(into, asked)[b], 1e-12))
    if name == "latency":
        passed = passed + on_the_way(calls, len(case.edges)) * through
    if name in calls:
        call = calls[name]
        measured = np.maximum(call.now - call.before, 0.0) * np.clip(np.abs(call.z) / 3, 0, 1) * through
        passed = np.where(call.has, measured, passed)
    rest = mass - np.bincount(a, weights=passed, minlength=n)
    largest = float(max(mass.max(initial=0.0), passed.max(initial=0.0)))
    return (mass / largest, np.clip(rest / largest, -1, 1)) if largest > 0 else (np.zeros(n), np.zeros(n))


def regression_residuals(case: CaseWindow, name: str) -> Floats:
    """[n] median residual of the fault rows, see `residual_rows`; 0 where there is no data."""
    (middle,), _ = quantiles(np.ascontiguousarray(residual_rows(case, name).T), (0.5,))
    return np.asarray(np.nan_to_num(middle))


def largest_residual(case: CaseWindow, name: str) -> Floats:
    """[n] size of that of the fault row that is explained least, see `residual_rows`; 0 where there is no data."""
    return np.asarray(np.nan_to_num(np.abs(residual_rows(case, name))).max(axis=0, initial=0.0))


def residual_rows(case: CaseWindow, name: str, *, ridge: float = 0.05) -> Floats:
    """[r, n] residuals of the newest fault rows when each service is regressed on its callees (traffic: on its callers) over
    the usual rows, in robust deviations of the usual residuals (Li et al., CIRCA, KDD 2022, with ridge). NaN where there is
    no data. A service without neighbours gives its plain deviation, and so does every service in indicators that do not
    travel along calls."""
    table = case.node_metrics.get(name)
    n = len(case.services)
    if table is None or not np.isfinite(table).any():
        return np.full((1, n), np.nan)
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
        if ok[j] and name in REGRESSED:
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
    return np.where(ok, left / deviation, np.nan)


def steady_residuals(case: CaseWindow, *, ridge: float = 0.05) -> Floats:
    """[n] the largest of: upper quartile of what the callees do not explain of errors and of latency, and of CPU as it
    is; in deviations of what is usually unexplained. After CIRCA, with medians for means, weights that cannot be
    negative (a slower callee makes nobody faster), and nothing for what got better."""
    worst = np.zeros(len(case.services))
    near: list[list[int]] = [[] for _ in case.services]
    for a, b in case.edges.tolist():
        near[a].append(b)
    for name, floor in (("errors", 0.01), ("latency", 0.0), ("cpu", 0.0)):
        table = case.node_metrics.get(name)
        if table is None or not np.isfinite(table).any():
            continue
        usual, now = table[:case.baseline_rows], table[case.baseline_rows:][-12:]
        (middle,), count = quantiles(np.ascontiguousarray(usual.T), (0.5,))
        ok = count >= max(5.0, 0.05 * len(usual))
        middle = np.nan_to_num(middle)
        spread = 1.25 * np.nansum(np.abs(usual - middle), axis=0) / np.maximum(count, 1)
        largest = 0.03 * float(middle.max(initial=0.0)) if name == "cpu" else 0.0
        spread = np.maximum(spread, np.maximum(np.maximum(floor, 0.05 * np.abs(middle)), max(largest, 1e-12)))
        u, f = np.clip(np.nan_to_num((usual - middle) / spread), -10, 10), (now - middle) / spread
        left_usual, left, filled = u.copy(), f.copy(), np.nan_to_num(f)
        gram = u.T @ u / max(1, len(u)) if name != "cpu" else np.zeros((0, 0))
        for i in np.flatnonzero(ok).tolist() if name != "cpu" else ():
            x = [j for j in near[i] if ok[j]]
            if x:
                weights = np.maximum(np.linalg.solve(gram[np.ix_(x, x)] + ridge * np.eye(len(x)), gram[x, i]), 0)
                left_usual[:, i] -= u[:, x] @ weights
                left[:, i] -= filled[:, x] @ weights
        rest = np.abs(left_usual - np.median(left_usual, axis=0)).mean(axis=0) if len(u) else np.ones(len(worst))
        (upper,), _ = quantiles(np.ascontiguousarray(left.T), (0.75,))
        worst = np.maximum(worst, np.where(ok, np.nan_to_num(upper) / np.maximum(1.25 * rest, 0.3), 0.0))
    return worst


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


def call_surprise(case: CaseWindow, nodes: dict[str, Change], share: Floats) -> tuple[Floats, Floats, Floats]:
    """(of each call, [m]; the most surprising lack among those to a service, [n]; the same among those it makes, [n]):
    minus the root of twice the log likelihood ratio of "as many calls as the callers' requests usually make" against "as
    many as there are", over the newest rows together, divided by how much usual rows differ beyond chance. Who returns
    early, or fails halfway, makes fewer calls than it is asked for. 0 where nobody counts, and where there are more."""
    n, m = len(case.services), len(case.edges)
    if "traffic" not in nodes or not m:
        return np.zeros(m), np.zeros(n), np.zeros(n)
    a, b = case.edges[:, 0], case.edges[:, 1]
    table, base = case.node_metrics["traffic"], case.baseline_rows
    rows = np.r_[max(0, base - 2 * _USUAL_ROWS):base, max(base, len(table) - 12):len(table)]
    usual = int((rows < base).sum())
    asked = table[rows] * case.step_seconds
    expected = np.zeros((n, len(rows)))
    np.add.at(expected, b, (share * asked[:, a]).T)
    into = np.where(expected > 0, expected, np.nan).T
    on_node = _poisson(asked, into, usual)
    part = np.nan_to_num(share * nodes["traffic"].before[a])
    part = part / np.maximum(np.bincount(b, weights=part, minlength=n)[b], 1e-12)
    each = on_node[b] * part
    if "traffic" in case.edge_metrics:
        counted = case.edge_metrics["traffic"][rows] * case.step_seconds
        measured = np.isfinite(counted[:usual]).sum(axis=0) >= 5
        each = np.where(measured, _poisson(counted, asked[:, a], usual), each)
    each = np.minimum(each, 0.0)  # more calls than usual are most often a path that is seldom taken, and no fault
    lack_in, lack_out = np.zeros(n), np.zeros(n)
    np.minimum.at(lack_in, b, each)
    np.minimum.at(lack_out, a, each)
    return each, lack_in, lack_out


def _poisson(counted: Floats, expected: Floats, usual: int) -> Floats:
    """[k] signed root of twice the log likelihood ratio of the rows after the first `usual`, both [r, k]."""
    ok = np.isfinite(counted) & np.isfinite(expected) & (expected > 0)
    k, e = np.where(ok, counted, 0.0), np.where(ok, expected, 0.0)
    before, after = k[:usual].sum(axis=0), e[:usual].sum(axis=0)
    e = e * np.where(after > 0, before / np.maximum(after, 1e-12), 0.0)
    chance = (k[:usual] - e[:usual]) ** 2 / (e[:usual] + 0.25)
    spread = beyond_chance(chance, ok[:usual])
    now, due = k[usual:].sum(axis=0), e[usual:].sum(axis=0) + 0.5
    ratio = now * np.log(np.maximum(now, 1e-12) / due) - (now - due)
    # What is counted over several rows is off together as well: load and mix drift.
    spread = spread + (0.03 ** 2) * due
    known = ok[usual:].any(axis=0) & (ok[:usual].sum(axis=0) >= 5)
    return np.where(known, np.sign(now - due) * np.sqrt(2 * np.maximum(ratio, 0.0) / spread), 0.0)
