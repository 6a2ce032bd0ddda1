"""Places a service graph in columns: callers left, callees right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rootcause.types import ServiceGraph

_STEP_X, _STEP_Y, _MARGIN = 130, 52, 40


def place(graph: ServiceGraph, states: Mapping[str, str]) -> dict[str, Any]:
    """Nodes {name, x, y, state}, lines (x1, y1, x2, y2), width, height. Cycles end at the depth n."""
    depth = dict.fromkeys(sorted(graph.services), 0)
    for _ in range(len(depth)):  # longest path from a root; bounded where there are cycles
        for caller, callee in sorted(graph.edges):
            if caller in depth and callee in depth and caller != callee:
                depth[callee] = min(len(depth) - 1, max(depth[callee], depth[caller] + 1))
    columns: dict[int, list[str]] = {}
    for name, level in depth.items():
        columns.setdefault(level, []).append(name)
    tallest = max((len(c) for c in columns.values()), default=1)
    at = {name: (_MARGIN + index * _STEP_X, _MARGIN + round((row + (tallest - len(columns[level])) / 2) * _STEP_Y))
          for index, level in enumerate(sorted(columns)) for row, name in enumerate(columns[level])}
    return {"nodes": [{"name": n, "x": x, "y": y, "state": states.get(n, "unknown")} for n, (x, y) in at.items()],
            "lines": [(*at[a], *at[b]) for a, b in sorted(graph.edges) if a in at and b in at],
            "width": 2 * _MARGIN + max(0, len(columns) - 1) * _STEP_X + 40, "height": _MARGIN * 2 + (tallest - 1) * _STEP_Y}
