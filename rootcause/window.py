"""An incident and its observations as one CaseWindow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detect.indicators import indicator_of
from detect.types import Incident, Observations
from ingest.types import Change, SeriesKey
from rootcause.newcomers import with_stand_ins
from rootcause.types import CaseWindow, ServiceGraph

NODE_INDICATORS = ("errors", "latency", "traffic", "saturation", "cpu", "memory", "lock_wait", "cache_full", "up",
                   "responsive", "logs", "error_lines", "templates", "spans", "pattern")
EDGE_INDICATORS = ("errors", "latency", "traffic", "network")
_LINES = {"log.lines_per_second": "logs", "log.error_lines_per_second": "error_lines",
          "log.bad_lines_per_second": "error_lines", "log.template_mix": "templates", "span.fan_out": "spans",
          "span.mix": "pattern", "client.network_seconds": "network"}
_LOWEST = ("up", "responsive")


def case_window(incident: Incident, graph: ServiceGraph, seen: Observations, changes: Sequence[Change], *,
                baseline_seconds: float = 300.0, margin_seconds: float = 3.0) -> CaseWindow:
    """The rows from `baseline_seconds` before the first sign up to now.

    Instances of a service are put together: the worst of `up` and `responsive`, the sum of traffic, CPU and
    memory, the largest of the rest. A new version of a service has the usual rows of the old one (`newcomers.py`).
    """
    start = incident.first_signal_ns - int(baseline_seconds * 1e9)
    rows = seen.ts_ns >= start
    ts_ns, values = seen.ts_ns[rows], seen.values[rows]
    services = tuple(sorted(set(graph.services) | set(incident.services)))
    at = {service: i for i, service in enumerate(services)}
    edges = sorted((at[a], at[b]) for a, b in graph.edges if a in at and b in at)
    edge_at = {edge: i for i, edge in enumerate(edges)}
    node = {name: np.full((len(ts_ns), len(services)), np.nan) for name in NODE_INDICATORS}
    edge = {name: np.full((len(ts_ns), len(edges)), np.nan) for name in EDGE_INDICATORS}
    for column, key in enumerate(seen.series):
        name = channel_of(key)
        if key.peer:
            where = edge_at.get((at.get(key.service, -1), at.get(key.peer, -1)))
            if where is not None and name in edge:
                _put(edge[name], where, values[:, column], name)
        elif key.service in at and name in node:
            _put(node[name], at[key.service], values[:, column], name)
    baseline = int(np.searchsorted(ts_ns, incident.first_signal_ns - int(margin_seconds * 1e9)))
    recent = tuple(c for c in changes if c.ts_ns >= incident.first_signal_ns - int(900e9))
    return with_stand_ins(CaseWindow(ts_ns, services, node, np.array(edges, dtype=np.int32).reshape(-1, 2), edge, baseline,
                                     recent, incident.signals))


def channel_of(key: SeriesKey) -> str:
    """The indicator under which a window holds a series: one of NODE_INDICATORS or EDGE_INDICATORS, or another of
    `detect.indicators`, which no window holds.

    >>> channel_of(SeriesKey("cart", "log.error_lines_per_second"))
    'error_lines'
    """
    return _LINES.get(key.name) or indicator_of(key)


def _put(table: NDArray[np.float64], at: int, column: NDArray[np.float64], name: str) -> None:
    there = table[:, at]
    both = np.isfinite(there) & np.isfinite(column)
    if name in _LOWEST:
        joined = np.fmin(there, column)
    elif name in ("traffic", "cpu", "memory", "logs"):
        joined = np.where(both, there + column, np.where(np.isfinite(there), there, column))
    else:
        joined = np.fmax(there, column)
    table[:, at] = joined
