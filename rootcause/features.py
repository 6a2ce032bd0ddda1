"""Scale-free features of services and calls: what is unusual, how much, since when, next to which change.

No feature knows a unit: multiply all values of an indicator by a thousand and nothing changes. Shares are shares, and
traffic is in requests per second: how many requests a share of failures is made of decides what it is worth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detect.types import SIGNAL_KINDS
from ingest.types import Change as Deed
from rootcause.contrast import (
    REGRESSED,
    call_share,
    call_surprise,
    excess,
    flow_residual,
    on_the_way,
    own_minus_callees,
    regression_residuals,
)
from rootcause.novelty import ALL_TOGETHER, all_together
from rootcause.robust import Change, Floats, edge_changes, node_changes
from rootcause.types import CaseWindow
from rootcause.ways import with_ways_parted
from rootcause.window import EDGE_INDICATORS, NODE_INDICATORS

CAUSES = ("rollout", "config")
"""Changes that can be taken back; a change of size is told apart, and which way it went."""
_PER_INDICATOR = 11
_PER_CALL_INDICATOR = 7
_CALL_KINDS = ("error_ratio", "latency")
_SAID = ("errors", "latency", "traffic", "network")
NODE_FEATURES = (_PER_INDICATOR * len(NODE_INDICATORS) + len(SIGNAL_KINDS) + 3 * len(REGRESSED) + 5
                 + 2 * len(_SAID) + 3 + 3 + 2 + 2 + len(_CALL_KINDS) + 2 + 8 + 3 + 3
                 + ALL_TOGETHER)
EDGE_FEATURES = _PER_CALL_INDICATOR * len(EDGE_INDICATORS) + 6 + len(_CALL_KINDS) + 2
_ADDED_INDICATORS = 3  # disk, space and self_time, the last ones
_AFTER_CHANGES = 8 + ALL_TOGETHER
ADDED_COLUMNS = (*range(_PER_INDICATOR * (len(NODE_INDICATORS) - _ADDED_INDICATORS), _PER_INDICATOR * len(NODE_INDICATORS)),
                 NODE_FEATURES - _AFTER_CHANGES - 2, NODE_FEATURES - _AFTER_CHANGES - 1)
"""Columns of a node that weights of version 6 do not know: disks, time of own work, changes of size."""


@dataclass(frozen=True)
class CaseFeatures:
    """What the network gets: node [n, NODE_FEATURES] and edge [m, EDGE_FEATURES], float32, about -2..2."""

    node: NDArray[np.float32]
    edge: NDArray[np.float32]


def squash(z: Floats) -> Floats:
    """Sign-preserving logarithm; beyond 10,000 deviations it is all the same. -3.1..3.1."""
    out: Floats = np.sign(z) * np.log1p(np.minimum(np.abs(z), 1e4)) / 3.0
    return out


def case_features(case: CaseWindow) -> CaseFeatures:
    """Cost: 10 ms for 40 services, 150 rows and all indicators. Columns without data are 0, and say so in a mask."""
    case = with_ways_parted(case)
    nodes, calls = node_changes(case), edge_changes(case)
    share = call_share(case, nodes, calls)
    lack = call_surprise(case, nodes, share)
    return CaseFeatures(_node(case, nodes, calls, share, lack), _edge(case, nodes, calls, share, lack[0]))


def node_scores(case: CaseWindow) -> Floats:
    """[n, indicators] robust z; `up` and `responsive` count downwards."""
    nodes, n = node_changes(case), len(case.services)
    return np.stack([nodes[name].z if name in nodes else np.zeros(n) for name in NODE_INDICATORS], axis=1)


def _relative(z: Floats) -> Floats:
    """Next to the strongest of the same indicator, -1..1; weak cases stay weak."""
    return z / max(float(np.abs(z).max(initial=0.0)), 3.0)


def _describe(change: Change | None, width: int, *, brief: bool = False) -> list[Floats]:
    if change is None:
        return [np.zeros(width)] * (_PER_CALL_INDICATOR if brief else _PER_INDICATOR)
    raw = np.where(change.has, change.now - change.before, 0.0)
    largest = float(np.abs(raw).max(initial=0.0))
    columns = [squash(change.z), _relative(change.z), np.clip(change.ratio, -4, 4) / 2, change.has.astype(float),
               raw / largest if largest > 0 else raw, squash(change.recent), np.clip(change.novel, -3, 3) / 1.5]
    return columns if brief else [*columns, squash(change.peak), squash(change.lost), _relative(change.news),
                                         squash(change.firm)]


def _node(case: CaseWindow, nodes: dict[str, Change], calls: dict[str, Change], share: Floats,
          lack: tuple[Floats, Floats, Floats]) -> NDArray[np.float32]:
    n = len(case.services)
    columns: list[Floats] = []
    for name in NODE_INDICATORS:
        columns += _describe(nodes.get(name), n)
    columns += _signals(case)
    for name in REGRESSED:
        rest, part = own_minus_callees(case, name, nodes, calls, share)
        columns += [squash(rest), part, squash(regression_residuals(case, name))]
    for name in ("errors", "latency"):
        columns += excess(case, name, nodes, calls, share)
    columns.append(np.clip(flow_residual(case, nodes, share), -4, 4) / 2)
    columns += [squash(lack[1]), squash(lack[2]), lack[2] / max(float(np.abs(lack[2]).max(initial=0.0)), 3.0)]
    columns += _said_by_callers(case, calls)
    columns += _surprises(nodes, calls, case)
    columns += _network(case, nodes, calls)
    columns += _onsets(nodes, n)
    columns += _changes(case)
    degree_in = np.bincount(case.edges[:, 1], minlength=n).astype(float)
    degree_out = np.bincount(case.edges[:, 0], minlength=n).astype(float)
    busy = nodes["traffic"].before if "traffic" in nodes else np.zeros(n)
    columns += [np.log1p(degree_in) / 3, np.log1p(degree_out) / 3, (degree_out == 0).astype(float),
                (degree_in == 0).astype(float), busy / max(float(busy.max(initial=0.0)), 1e-12),
                np.full(n, np.log(n) / 4), *(np.full(n, value) for value in _clock(case)),
                *(np.full(n, value) for value in all_together(case, nodes, calls))]
    return np.nan_to_num(np.stack(columns, axis=1)).astype(np.float32)


def _signals(case: CaseWindow) -> list[Floats]:
    """Kinds on the service, kinds on calls to it, lateness of its first sign, whether it has one, how many have."""
    n = len(case.services)
    at = {service: i for i, service in enumerate(case.services)}
    kinds = np.zeros((len(SIGNAL_KINDS), n))
    accused = np.zeros((len(_CALL_KINDS), n))
    first = np.full(n, np.inf)
    for signal in case.signals:
        if signal.peer:
            if signal.peer in at and signal.kind in _CALL_KINDS:
                row = _CALL_KINDS.index(signal.kind)
                accused[row, at[signal.peer]] = max(accused[row, at[signal.peer]], signal.score)
        elif signal.service in at:
            i = at[signal.service]
            row = SIGNAL_KINDS.index(signal.kind)
            kinds[row, i] = max(kinds[row, i], signal.score)
            first[i] = min(first[i], signal.start_ns)
    has = np.isfinite(first)
    since = np.where(has, first - first.min(initial=np.inf), np.inf) if has.any() else first
    late = np.clip(since / (10 * case.step_seconds * 1e9), 0, 2)
    return [*kinds, *accused, late / 2, has.astype(float)]


def _said_by_callers(case: CaseWindow, calls: dict[str, Change]) -> list[Floats]:
    """What the calls to a service look like from its callers: the worst, and the mean. Credited to the callee."""
    n, b = len(case.services), case.edges[:, 1]
    out = []
    for name in _SAID:
        worst, mean = np.zeros(n), np.zeros(n)
        if name in calls:
            z = squash(calls[name].z)
            np.maximum.at(worst, b, z)
            mean = np.bincount(b, weights=z, minlength=n) / np.maximum(np.bincount(b, minlength=n), 1)
        out += [worst, mean]
    return out


def _surprises(nodes: dict[str, Change], calls: dict[str, Change], case: CaseWindow) -> list[Floats]:
    """How surprising its failures are as a count, next to the most surprising, and as its callers count them."""
    n = len(case.services)
    own = nodes["errors"].surprise if "errors" in nodes else np.zeros(n)
    told = np.zeros(n)
    if "errors" in calls:
        np.maximum.at(told, case.edges[:, 1], calls["errors"].surprise)
    return [squash(own), _relative(own), squash(told)]


def _network(case: CaseWindow, nodes: dict[str, Change], calls: dict[str, Change]) -> list[Floats]:
    """Calls got slower (fail more) by this much more than the callee itself says: the way to it, or its silence."""
    n, b = len(case.services), case.edges[:, 1]
    out = []
    for name in ("latency", "errors"):
        gap = np.zeros(n)
        if name in calls:
            np.maximum.at(gap, b, np.maximum(_gap(case, name, nodes, calls), 0.0))
        out.append(gap)
    around = np.zeros(n)  # of all calls from and to it: the network of one machine is slow for whoever calls
    if "network" in calls and len(case.edges):
        ends = case.edges.ravel()
        z = np.repeat(squash(calls["network"].z), 2)
        seen = np.repeat(calls["network"].has, 2).astype(float)
        around = np.bincount(ends, weights=z, minlength=n) / np.maximum(np.bincount(ends, weights=seen, minlength=n), 1)
    return [*out, around]


def _gap(case: CaseWindow, name: str, nodes: dict[str, Change], calls: dict[str, Change]) -> Floats:
    call = calls[name]
    moved = np.where(call.has, call.now - call.before, 0.0)
    if name in nodes:
        node = nodes[name]
        moved = moved - np.where(node.has, node.now - node.before, 0.0)[case.edges[:, 1]]
    return squash(np.where(call.has, moved / call.scale, 0.0))


def _onsets(nodes: dict[str, Change], n: int) -> list[Floats]:
    """First unusual row of any indicator, of errors or latency, and how many indicators are unusual."""
    if not nodes:
        return [np.ones(n), np.ones(n), np.zeros(n)]
    everything = np.stack([c.onset for c in nodes.values()])
    felt = [nodes[name].onset for name in ("errors", "latency") if name in nodes]
    loud = np.stack([np.abs(c.z) > 5 + 1e-9 for c in nodes.values()]).mean(axis=0)
    return [everything.min(axis=0), np.stack(felt).min(axis=0) if felt else np.ones(n), loud]


def _clock(case: CaseWindow) -> tuple[float, float]:
    """Seconds per row and rows since the first sign, both as logarithms: a few seconds may be a hiccup, half an
    hour is none."""
    return float(np.log10(max(case.step_seconds, 0.1))) / 3, float(np.log1p(len(case.ts_ns) - case.baseline_rows)) / 4


def _changes(case: CaseWindow) -> list[Floats]:
    """Recent roll-out or configuration change by somebody else, how recent (1: just now), and the same of instances taken
    away and added. What an autoscaler does later is a reaction."""
    at = {service: i for i, service in enumerate(case.services)}
    onset = int(case.ts_ns[min(case.baseline_rows, len(case.ts_ns) - 1)]) if len(case.ts_ns) else 0
    begin = min((s.start_ns for s in case.signals), default=onset)
    has, recency, fewer, more = (np.zeros(len(at)) for _ in range(4))
    for change in case.changes:
        if change.actor == "opsmend" or change.service not in at:
            continue
        age = (begin - change.ts_ns) / 1e9
        if not -20 <= age <= 600:
            continue
        i, recent = at[change.service], np.exp(-max(age, 0.0) / 60.0)
        if change.kind in CAUSES:
            has[i] = 1.0
            recency[i] = max(recency[i], recent)
        elif change.kind == "scale":
            side = fewer if _is_fewer(change) else more
            side[i] = max(side[i], 0.3 + 0.7 * recent)
    return [has, recency, fewer, more]


def _is_fewer(change: Deed) -> bool:
    """Whether instances were taken away; not known is more, the usual and harmless case."""
    try:
        return int(change.ref) < int(change.old)
    except ValueError:
        return False


def _edge(case: CaseWindow, nodes: dict[str, Change], calls: dict[str, Change], share: Floats,
          lack: Floats) -> NDArray[np.float32]:
    """[m, EDGE_FEATURES]: the call's own changes; its weight; how much of the caller's change it would explain."""
    m = len(case.edges)
    a, b = case.edges[:, 0], case.edges[:, 1]
    columns: list[Floats] = []
    for name in EDGE_INDICATORS:
        columns += _describe(calls.get(name), m, brief=True)
    columns.append(np.minimum(share, 3.0) / 1.5)
    for name in ("latency", "errors"):
        explained = np.zeros(m)
        if name in nodes:
            node = nodes[name]
            moved = np.where(node.has, node.now - node.before, 0.0)
            through = moved[b] * (np.minimum(share, 1.0) if name == "errors" else share)
            if name == "latency":
                through = through + on_the_way(calls, m) * share
            if name in calls:
                call = calls[name]
                through = np.where(call.has, (call.now - call.before) * share, through)
            explained = np.clip(through / np.maximum(np.abs(moved[a]), node.scale[a]), -2, 2)
        columns.append(explained)
        columns.append(_gap(case, name, nodes, calls) if name in calls else np.zeros(m))
    ratio = np.zeros(m)
    if "traffic" in nodes:
        traffic = nodes["traffic"]
        floor = 0.01 * float(traffic.before.max(initial=0.0)) + 1e-12
        callee_now, callee_before = traffic.now[b], traffic.before[b]
        if "traffic" in calls:
            call = calls["traffic"]
            callee_now, callee_before = np.where(call.has, call.now, callee_now), np.where(call.has, call.before, callee_before)
        ratio = np.log((callee_now + floor) / (callee_before + floor)) - np.log(
            (traffic.now[a] + floor) / (traffic.before[a] + floor))
        ratio = np.where(traffic.has[a], np.clip(ratio, -4, 4) / 2, 0.0)
    columns.append(ratio)
    index = {(case.services[i], case.services[j]): k for k, (i, j) in enumerate(case.edges.tolist())}
    said = np.zeros((len(_CALL_KINDS), m))
    for signal in case.signals:
        k = index.get((signal.service, signal.peer))
        if k is not None and signal.kind in _CALL_KINDS:
            said[_CALL_KINDS.index(signal.kind), k] = signal.score
    columns += list(said)
    columns += [squash(calls["errors"].surprise) if "errors" in calls else np.zeros(m), squash(lack)]
    return np.nan_to_num(np.stack(columns, axis=1)).astype(np.float32).reshape(m, EDGE_FEATURES)
