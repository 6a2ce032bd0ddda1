"""Places a service graph in columns: callers left, callees right."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rootcause.types import ServiceGraph

_MARGIN_X, _MARGIN_Y, _RADIUS = 46, 30, 9


def levels(graph: ServiceGraph) -> dict[str, int]:
    """Service -> column: the longest path from a root. Cycles end at the depth n - 1."""
    depth = dict.fromkeys(sorted(graph.services), 0)
    edges = [(a, b) for a, b in sorted(graph.edges) if a in depth and b in depth and a != b]
    for _ in range(min(len(depth), 40)):
        before = dict(depth)
        for caller, callee in edges:
            depth[callee] = min(len(depth) - 1, max(depth[callee], depth[caller] + 1))
        if depth == before:
            break
    return depth


def place(graph: ServiceGraph, states: Mapping[str, str], *, step_x: int = 112, step_y: int = 54) -> dict[str, Any]:
    """Nodes {name, x, y, state, is_external}, lines {a, b, x1, y1, x2, y2}, width, height; units are pixels.

    Within a column a service stands where its callers stand on average, which keeps crossings few.
    """
    depth = levels(graph)
    columns: dict[int, list[str]] = {}
    for name, level in depth.items():
        columns.setdefault(level, []).append(name)
    tallest = max((len(c) for c in columns.values()), default=1)
    at: dict[str, tuple[float, float]] = {}
    for index, level in enumerate(sorted(columns)):
        wished = {}
        for name in columns[level]:
            above = [at[c][1] for c in graph.callers(name) if c in at]
            wished[name] = sum(above) / len(above) if above else math.inf
        names = sorted(columns[level], key=lambda n: (wished[n], n))
        top = _MARGIN_Y + (tallest - len(names)) / 2 * step_y
        for row, name in enumerate(names):
            at[name] = (_MARGIN_X + index * step_x, top + row * step_y)
    nodes = [{"name": n, "x": round(x), "y": round(y), "state": states.get(n, "unknown"),
              "is_external": n in graph.external} for n, (x, y) in sorted(at.items())]
    lines = [{"a": a, "b": b, **_between(at[a], at[b], _RADIUS + 5)} for a, b in sorted(graph.edges)
             if a in at and b in at and a != b]
    return {"nodes": nodes, "lines": lines, "width": 2 * _MARGIN_X + max(0, len(columns) - 1) * step_x,
            "height": 2 * _MARGIN_Y + 14 + (tallest - 1) * step_y}


def _between(start: tuple[float, float], end: tuple[float, float], gap: float) -> dict[str, int]:
    """The line between two nodes, held `gap` away from both."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    far = math.hypot(dx, dy) or 1.0
    cut = min(gap, far / 3) / far
    return {"x1": round(start[0] + dx * cut), "y1": round(start[1] + dy * cut),
            "x2": round(end[0] - dx * cut), "y2": round(end[1] - dy * cut)}
