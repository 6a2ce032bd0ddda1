"""Minutes of logs and spans in the rows of a window of metrics."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsmend.evaluate.rca_minutes import MINUTE
from opsmend.evaluate.rca_modalities import Channels
from rootcause.types import CaseWindow

Floats = NDArray[np.float64]
_ALSO_METRICS: Final = ("latency", "traffic")
"""What spans tell of services that have no metric of it."""


def with_rows(minutes: tuple[int, ...], normal: Floats) -> Floats:
    """The rows, and empty ones before them for usual minutes that have lines or spans and no metrics."""
    known = set((normal[:, 0] // MINUTE).astype(int).tolist())
    extra = [t for t in minutes if t // MINUTE not in known]
    rows = np.full((len(extra), normal.shape[1]), np.nan)
    rows[:, 0] = extra
    return np.concatenate([rows, normal])


def add_channels(window: CaseWindow, channels: Channels, seconds: Floats) -> CaseWindow:
    """Minutes of logs and spans into the rows of the same time, those of the fault into its rows in their order, each into
    the nearest that is left. `seconds`: [t] unix time of the window's rows."""
    base, n = window.baseline_rows, len(window.services)
    at = {service: i for i, service in enumerate(window.services)}
    edge_at = {(window.services[a], window.services[b]): k for k, (a, b) in enumerate(window.edges.tolist())}
    row_of = {int(t // MINUTE) * MINUTE: row for row, t in enumerate(seconds[:base].tolist())}
    rows = {t: row_of[t // MINUTE * MINUTE] for t in channels.usual if t // MINUTE * MINUTE in row_of}
    free = base
    for t in channels.fault:
        nearest = base + int(np.argmin(np.abs(seconds[base:] - t)))
        rows[t] = min(max(nearest, free), len(seconds) - 1)
        free = rows[t] + 1
    node, edge = dict(window.node_metrics), dict(window.edge_metrics)
    silent = {name: np.isfinite(node[name]).sum(axis=0) == 0 if name in node else np.ones(n, bool) for name in _ALSO_METRICS}
    for (name, t, service), value in channels.node.items():
        if service in at and t in rows and (name not in silent or silent[name][at[service]]):
            if name in window.node_metrics and node[name] is window.node_metrics[name]:
                node[name] = node[name].copy()
            node.setdefault(name, np.full((len(seconds), n), np.nan))[rows[t], at[service]] = value
    network = edge.get("network", np.full((len(seconds), len(edge_at)), np.nan)).copy()
    from_spans = np.isfinite(network).sum(axis=0) == 0  # where nobody measures it in every row
    if channels.call and "latency" not in edge:  # what metrics tell of all calls of a service together, spans know better
        from_spans[:] = True
        network[:] = np.nan
    for (t, a, b), value in channels.call.items():
        if (a, b) in edge_at and t in rows and from_spans[edge_at[a, b]]:
            edge["network"] = network
            network[rows[t], edge_at[a, b]] = value
    return replace(window, node_metrics=node, edge_metrics=edge)
