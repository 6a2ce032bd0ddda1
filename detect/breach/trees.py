"""Boosted trees as plain arrays: no pickle, and no library needed to judge. Compiled."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest.compiled import compiled

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Trees:
    """A sum of trees. A row goes left where its feature is at most the threshold; a missing one where `nan_left`."""

    roots: NDArray[np.int32]
    feature: NDArray[np.int32]  # -1: a leaf
    threshold: NDArray[np.float64]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    nan_left: NDArray[np.int32]
    value: NDArray[np.float64]
    base: float

    def __call__(self, rows: Matrix) -> NDArray[np.float64]:
        """Sums for rows [n, f]."""
        out = np.full(len(rows), self.base)
        _add(np.ascontiguousarray(rows), self.roots, self.feature, self.threshold, self.left, self.right,
             self.nan_left, self.value, out)
        return out

    def arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """What `from_arrays` reads, under `name.`."""
        return {f"{name}.roots": self.roots, f"{name}.feature": self.feature.astype(np.int16),
                f"{name}.threshold": self.threshold, f"{name}.left": self.left.astype(np.int32),
                f"{name}.right": self.right.astype(np.int32), f"{name}.nan_left": self.nan_left.astype(np.uint8),
                f"{name}.value": self.value.astype(np.float32), f"{name}.base": np.array([self.base], np.float32)}


def from_arrays(arrays: Mapping[str, NDArray[Any]], name: str) -> Trees:
    """The inverse of `Trees.arrays`. Raises ValueError where a child or feature can't be right."""
    def get(what: str, kind: type) -> NDArray[Any]:
        return np.ascontiguousarray(arrays[f"{name}.{what}"].astype(kind))
    trees = Trees(get("roots", np.int32), get("feature", np.int32), get("threshold", np.float64),
                  get("left", np.int32), get("right", np.int32), get("nan_left", np.int32),
                  get("value", np.float64), float(arrays[f"{name}.base"][0]))
    n = len(trees.feature)
    inner = trees.feature >= 0
    at = np.arange(n)
    for child in (trees.left[inner], trees.right[inner]):
        if not ((child > at[inner]) & (child < n)).all():
            raise ValueError(f"{name}: a child of a node is not after it")
    return trees


def blended(parts: Sequence[tuple[Trees, float]]) -> Trees:
    """The weighted sum of some sums of trees, as one."""
    at = np.cumsum([0, *(len(trees.feature) for trees, _ in parts)]).tolist()

    def moved(name: str) -> NDArray[np.int32]:
        return np.concatenate([(getattr(trees, name) + begin).astype(np.int32)
                               for (trees, _), begin in zip(parts, at, strict=False)])

    def together(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(trees, name) for trees, _ in parts])
    return Trees(moved("roots"), together("feature"), together("threshold"), moved("left"), moved("right"),
                 together("nan_left"), np.concatenate([trees.value * share for trees, share in parts]),
                 sum(trees.base * share for trees, share in parts))


def from_sklearn(model: Any) -> Trees:
    """Of a fitted HistGradientBoosting model (one output)."""
    parts: dict[str, list[NDArray[Any]]] = {k: [] for k in ("feature", "threshold", "left", "right", "nan", "value")}
    roots, total = [], 0
    for (predictor,) in model._predictors:
        nodes = predictor.nodes
        is_leaf = nodes["is_leaf"].astype(bool)
        roots.append(total)
        parts["feature"].append(np.where(is_leaf, -1, nodes["feature_idx"].astype(np.int64)))
        parts["threshold"].append(np.where(is_leaf, 0.0, nodes["num_threshold"]))
        parts["left"].append(nodes["left"].astype(np.int64) + total)
        parts["right"].append(nodes["right"].astype(np.int64) + total)
        parts["nan"].append(nodes["missing_go_to_left"])
        parts["value"].append(nodes["value"])
        total += len(nodes)
    made = {k: np.concatenate(v) for k, v in parts.items()}
    return Trees(np.array(roots, np.int32), made["feature"].astype(np.int32), made["threshold"].astype(np.float64),
                 made["left"].astype(np.int32), made["right"].astype(np.int32), made["nan"].astype(np.int32),
                 made["value"].astype(np.float64), float(np.ravel(model._baseline_prediction)[0]))


@compiled("void(float64[:, ::1], int32[::1], int32[::1], float64[::1], int32[::1], int32[::1], int32[::1],"
          " float64[::1], float64[::1])")
def _add(rows: Matrix, roots: NDArray[np.int32], feature: NDArray[np.int32], threshold: NDArray[np.float64],
         left: NDArray[np.int32], right: NDArray[np.int32], nan_left: NDArray[np.int32], value: NDArray[np.float64],
         out: NDArray[np.float64]) -> None:
    for i in range(len(rows)):
        total = 0.0
        for r in range(len(roots)):
            node = roots[r]
            while feature[node] >= 0:
                x = rows[i, feature[node]]
                if math.isnan(x):
                    node = left[node] if nan_left[node] else right[node]
                else:
                    node = left[node] if x <= threshold[node] else right[node]
            total += value[node]
        out[i] += total
