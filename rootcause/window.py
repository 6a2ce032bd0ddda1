"""An incident and its observations as one CaseWindow."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detect.indicators import indicator_of
from detect.types import Incident, Observations
from ingest.types import Change, SeriesKey
from rootcause.newcomers import with_stand_ins
from rootcause.types import CaseWindow, ServiceGraph

NODE_INDICATORS = ("errors", "latency", "traffic", "saturation", "cpu", "memory", "lock_wait", "cache_full", "up",
                   "responsive", "logs", "error_lines", "templates", "spans", "pattern", "disk", "space", "self_time")
EDGE_INDICATORS = ("errors", "latency", "traffic", "network")
_LINES = {"log.lines_per_second": "logs", "log.error_lines_per_second": "error_lines",
          "log.bad_lines_per_second": "error_lines", "log.template_mix": "templates", "span.fan_out": "spans",
          "span.mix": "pattern", "span.self_seconds": "self_time", "client.network_seconds": "network"}
_LOWEST = ("up", "responsive")
_BEST: dict[str, tuple[re.Pattern[str], ...]] = {
    "disk": (re.compile(r"io_?time_?(sec|$)|busy|util|wait|pressure"), re.compile(r"time|_seconds"),
             re.compile(r"pending|queue|current"), re.compile(r"bytes|[._]io$")),
    "space": (re.compile(r"ratio|share|utili|percent"),)}
"""Of several measures of the same disk the first that a service has: time it is busy, time that operations take, how many wait,
bytes, then operations; a share of the space before bytes. They have no unit in common."""
_DISK_USED = re.compile(r"(disk|fs|filesystem|volume)[^a-z]*used")


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
    names = [channel_of(key) for key in seen.series]
    ranks: dict[tuple[str, str], int] = {}
    for key, name in zip(seen.series, names, strict=True):
        if name in _BEST:
            ranks[key.service, name] = min(ranks.get((key.service, name), len(_BEST[name])), rank_of(name, key.name))
    for column, (key, name) in enumerate(zip(seen.series, names, strict=True)):
        if rank_of(name, key.name) > ranks.get((key.service, name), 0):
            continue
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
    if key.name in _LINES:
        return _LINES[key.name]
    found = indicator_of(key)
    if found == "usage" and _DISK_USED.search(key.name.lower()):
        return "space"
    if found == "space" and dict(key.labels).get("state", "used") != "used":  # OpenTelemetry tells of what is free as well
        return "other"
    return found


def rank_of(indicator: str, name: str) -> int:
    """Which of several measures of one thing a series is; the lowest counts.

    >>> rank_of("disk", "system.disk.io_time"), rank_of("disk", "system.disk.io"), rank_of("cpu", "cpu")
    (0, 3, 0)
    """
    patterns = _BEST.get(indicator, ())
    return next((n for n, pattern in enumerate(patterns) if pattern.search(name.lower())), len(patterns))


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
