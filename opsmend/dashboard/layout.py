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

    Within a column a service stands where its callers (first column: its callees) stand on average, which keeps
    crossings few. Services without calls stand in rows below.
    """
    linked = {n for a, b in graph.edges if a != b for n in (a, b)}
    depth = {name: level for name, level in levels(graph).items() if name in linked}
    columns: dict[int, list[str]] = {}
    for name, level in sorted(depth.items()):
        columns.setdefault(level, []).append(name)
    tallest = max((len(c) for c in columns.values()), default=0)
    rank: dict[str, float] = {n: row for names in columns.values() for row, n in enumerate(names)}
    order = sorted(columns)
    for levels_in_turn, neighbours in ((order[1:], graph.callers), (order[-2::-1], graph.callees),
                                       (order[1:], graph.callers)):
        for level in levels_in_turn:
            wished = {n: _mean([rank[o] for o in neighbours(n) if o in rank], rank[n]) for n in columns[level]}
            columns[level].sort(key=lambda n: (wished[n], n))
            shift = (tallest - len(columns[level])) / 2
            rank.update({n: row + shift for row, n in enumerate(columns[level])})
    at = {n: (_MARGIN_X + index * step_x, _MARGIN_Y + rank[n] * step_y)
          for index, level in enumerate(order) for n in columns[level]}
    alone = sorted(set(graph.services) - linked)
    across = max(len(columns), min(3, len(alone)))
    at |= {n: (_MARGIN_X + (i % across) * step_x, _MARGIN_Y + (tallest + i // across) * step_y)
           for i, n in enumerate(alone)}
    rows = tallest + -(-len(alone) // across) if across else 0
    nodes = [{"name": n, "x": round(x), "y": round(y), "state": states.get(n, "unknown"),
              "is_external": n in graph.external} for n, (x, y) in sorted(at.items())]
    lines = [{"a": a, "b": b, **_between(at[a], at[b], _RADIUS + 5)} for a, b in sorted(graph.edges)
             if a in at and b in at and a != b]
    return {"nodes": nodes, "lines": lines, "width": 2 * _MARGIN_X + max(0, across - 1) * step_x,
            "height": 2 * _MARGIN_Y + 14 + max(0, rows - 1) * step_y}


def _mean(values: list[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _between(start: tuple[float, float], end: tuple[float, float], gap: float) -> dict[str, int]:
    """The line between two nodes, held `gap` away from both."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    far = math.hypot(dx, dy) or 1.0
    cut = min(gap, far / 3) / far
    return {"x1": round(start[0] + dx * cut), "y1": round(start[1] + dy * cut),
            "x2": round(end[0] - dx * cut), "y2": round(end[1] - dy * cut)}
