"""What monitoring shows of it: counted requests, gauges with noise, and gaps where nobody measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rootcause.simulate.channels import LOG_CHANNELS, TRACE_CHANNELS, few_rows, logs_of, spans_of, wire_of
from rootcause.simulate.faults import Struck
from rootcause.simulate.gauges import Table, gauges
from rootcause.simulate.physics import Conditions, Flow
from rootcause.simulate.topology import Bools, Floats, System
from rootcause.window import EDGE_INDICATORS, NODE_INDICATORS

_SPANS = frozenset({"errors", "latency", "traffic"})
_PODS = frozenset({"latency", "traffic", "cpu", "memory"})
_DISKS = frozenset({"disk", "space"})


@dataclass(frozen=True)
class Profile:
    """Which telemetry a system has."""

    name: str
    node: frozenset[str]
    edge: frozenset[str]
    stores_by_callers: bool  # stores and external services have rates, errors and latency, measured by their callers
    errors_at_entry: bool = False  # failures are counted where requests come in, and nowhere else


def draw_profile(rng: np.random.Generator) -> Profile:
    kind = str(rng.choice(["full", "spans", "pods", "mixed"], p=[0.3, 0.25, 0.2, 0.25]))
    told = frozenset(name for names, share in ((LOG_CHANNELS, 0.4), (TRACE_CHANNELS, 0.4)) if rng.random() < share
                     for name in sorted(names) if rng.random() < 0.85)
    disks = frozenset(name for name in sorted(_DISKS) if rng.random() < 0.7) if rng.random() < 0.4 else frozenset()
    wire = frozenset({"network"}) if rng.random() < 0.4 else frozenset()
    if kind == "full":
        usual = (frozenset(NODE_INDICATORS) - LOG_CHANNELS - TRACE_CHANNELS - _DISKS) | disks
        lines = frozenset({"error_lines"}) if rng.random() < 0.7 else frozenset()
        return Profile(kind, usual | lines | (told if rng.random() < 0.3 else frozenset()),
                       frozenset({"errors", "latency", "traffic"}), False)
    if kind == "spans":
        edge = frozenset() if rng.random() < 0.7 else frozenset({"errors", "latency", "traffic"})
        return Profile(kind, _SPANS | (told if rng.random() < 0.4 else frozenset()), edge, True)
    if kind == "pods":
        chance = rng.random()
        node = _PODS if chance < 0.35 else _PODS | {"errors"}
        return Profile(kind, node | told | disks, frozenset({"latency"}) | wire, True, bool(0.35 <= chance < 0.75))
    node = frozenset(name for name in NODE_INDICATORS if rng.random() < 0.7) - LOG_CHANNELS - TRACE_CHANNELS - _DISKS
    edge = frozenset(name for name in EDGE_INDICATORS if rng.random() < 0.6) - {"network"}
    node |= {"latency" if rng.random() < 0.7 else "errors"} | told | disks
    return Profile(kind, node, edge | wire, bool(rng.random() < 0.5))


def counted(rate: Floats, error: Floats, seconds: Floats, step: float, spread: Floats,
            rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """(requests per second, error ratio, latency) as counted over `step` seconds; NaN where there was none."""
    hits = rng.poisson(np.clip(rate * step, 0, 1e9)).astype(float)
    failed = rng.binomial(np.minimum(hits, 1e9).astype(np.int64), np.clip(error, 0, 1)).astype(float)
    some = np.maximum(hits, 1.0)
    noisy = seconds * np.exp(rng.normal(0, 1, rate.shape) * (spread + 0.5 / np.sqrt(some)))
    none = hits == 0
    return hits / step, np.where(none, np.nan, failed / some), np.where(none, np.nan, noisy)


def measure(system: System, given: Conditions, found: Flow, struck: Sequence[Struck],
            rolling: Sequence[tuple[int, slice]], base: int, step: float, profile: Profile,
            rng: np.random.Generator) -> tuple[Table, Table]:
    """(node tables [t, n], edge tables [t, m]); all NaN columns where nobody measures."""
    t, n = given.load.shape
    silent = given.is_down | given.is_hung
    served = np.where(silent, 0.0, found.traffic)
    by_callers = _by_callers(system, found)
    leaf = system.is_store | system.is_external
    twin_of = dict(system.twins)
    remote = leaf.copy()
    rate, error, seconds = served.copy(), found.error.copy(), found.seconds.copy()
    for i in np.flatnonzero(remote).tolist():
        rate[:, i], error[:, i], seconds[:, i] = (part[:, i] for part in by_callers)
    for twin, original in twin_of.items():
        # The calls under the second name are a part of all, with a mix of their own: they may feel more of it.
        rate[:, twin] = by_callers[0][:, original] * rng.uniform(0.03, 1.0)
        mix = rng.lognormal(0.2, 1.0)
        usual = np.median(by_callers[2][:base, original])
        error[:, twin] = np.minimum(1.0, by_callers[1][:, original] * mix)
        seconds[:, twin] = np.maximum(usual + (by_callers[2][:, original] - usual) * mix, 0.3 * usual)
    spread: Floats = np.asarray(rng.uniform(0.02, 0.25, n))
    node: Table = {}
    node["traffic"], node["errors"], node["latency"] = counted(rate, error, seconds, step, spread, rng)
    for name in ("traffic", "errors", "latency"):
        node[name] = np.where(silent & ~remote, np.nan, node[name])
    node |= gauges(system, given, found, served, struck, step, rng)
    node |= logs_of(system, found, served, struck, rng)
    node["error_lines"] = rng.poisson(np.clip(node["error_lines"] * step, 0, 1e9)) / step
    node |= spans_of(system, given, found, struck, rng)
    for name in ("templates", "spans", "pattern", "self_time"):
        node[name][served * step < 1] = np.nan
    for service, rows in rolling:  # starting costs CPU, and the new process has not filled its memory yet
        node["cpu"][rows, service] += float(np.exp(rng.uniform(np.log(0.02), np.log(0.6)))) * min(1.0, 20 / step)
        node["memory"][rows.start:, service] *= rng.uniform(0.6, 1.05)
    if not profile.stores_by_callers:
        for name in _SPANS:
            node[name][:, system.is_store] = np.nan
    edge: Table = {}
    e_spread = np.full(len(system.edges), float(rng.uniform(0.03, 0.25)))
    e_rate, e_error, e_seconds = found.edge_traffic, found.edge_error.copy(), found.edge_seconds.copy()
    for twin in twin_of:
        into = system.edges_to(twin)
        e_error[:, into], e_seconds[:, into] = error[:, [twin]], seconds[:, [twin]]
    edge["traffic"], edge["errors"], edge["latency"] = counted(e_rate, e_error, e_seconds, step, e_spread, rng)
    edge["network"] = np.where(edge["traffic"] > 0, wire_of(system, given, found, rng), np.nan)
    if rng.random() < 0.5:
        few_rows(node, LOG_CHANNELS, base, rng)
    few_rows(node | edge, TRACE_CHANNELS | {"network"}, base, rng)
    gone = silent[:, system.edges[:, 0]] if len(system.edges) else np.zeros((t, 0), bool)
    for name in EDGE_INDICATORS:
        edge[name] = np.where(gone, np.nan, edge[name])
    if profile.errors_at_entry:
        node["errors"][:, system.entry <= 0] = np.nan
    _hide(node, edge, profile, rng)
    return node, edge


def _by_callers(system: System, found: Flow) -> tuple[Floats, Floats, Floats]:
    """Traffic, errors and latency of each service as its callers see it, [t, n]; its own where nobody calls."""
    rate, error, seconds = found.traffic.copy(), found.error.copy(), found.seconds.copy()
    for i in range(system.n):
        into = system.edges_to(i)
        if len(into):
            weight = found.edge_traffic[:, into]
            total = np.maximum(weight.sum(axis=1), 1e-12)
            rate[:, i] = weight.sum(axis=1)
            error[:, i] = (weight * found.edge_error[:, into]).sum(axis=1) / total
            seconds[:, i] = (weight * found.edge_seconds[:, into]).sum(axis=1) / total
    return rate, error, seconds


def _hide(node: Table, edge: Table, profile: Profile, rng: np.random.Generator) -> None:
    """Modalities, services and single series that nobody measures; single reports that get lost."""
    n = node["traffic"].shape[1]
    share = 0.04 if rng.random() < 0.5 else 0.0
    lost_nodes: Bools = np.asarray(rng.random(n)) < share
    loss = float(rng.choice([0.0, 0.0, 0.02, 0.15]))
    for tables, names, allowed in ((node, NODE_INDICATORS, profile.node), (edge, EDGE_INDICATORS, profile.edge)):
        for name in names:
            table = tables[name]
            if name not in allowed:
                table[:] = np.nan
                continue
            if tables is node:
                table[:, lost_nodes] = np.nan
            if rng.random() < 0.3:
                table[:, rng.random(table.shape[1]) < 0.08] = np.nan
            if loss:
                table[rng.random(table.shape) < loss] = np.nan
