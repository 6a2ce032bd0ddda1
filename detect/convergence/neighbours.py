"""DBSCAN over folded points: a sparse graph of neighbours, never a table of all pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from detect.convergence.relations import Relations
from ingest.types import Float64

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Ints = NDArray[np.int64]
Place = tuple[str, str]
"""A service and, for what happens on a call, its callee ("" otherwise)."""


@dataclass(frozen=True)
class Points:
    """Alerts of one place and one bucket of onset are one point; [p] each."""

    place: Ints
    """Index into `places`."""
    onset_s: Float64
    weight: Float64
    places: tuple[Place, ...]
    inverse: Ints
    """[n] point of each alert."""


def fold(place: Ints, places: tuple[Place, ...], onset_s: Float64, weight: Float64, bucket_seconds: float) -> Points:
    """Fold n alerts by place and bucket of onset: the earliest onset counts, weights add up. O(n log n)."""
    if len(place) == 0:
        none = np.zeros(0)
        return Points(place, none, none, places, place)
    bucket = np.floor(onset_s / bucket_seconds).astype(np.int64)
    bucket -= bucket.min()
    code = place * (int(bucket.max()) + 1) + bucket
    order = np.argsort(code, kind="stable")
    is_first = np.empty(len(code), dtype=np.bool_)
    is_first[0] = True
    np.not_equal(code[order][1:], code[order][:-1], out=is_first[1:])
    starts = np.flatnonzero(is_first)
    inverse = np.empty(len(code), dtype=np.int64)
    inverse[order] = np.cumsum(is_first) - 1
    return Points(place[order][starts], np.minimum.reduceat(onset_s[order], starts),
                  np.add.reduceat(weight[order], starts), places, inverse)


def neighbour_graph(points: Points, relations: Relations, eps_seconds: float, hop_cost: float,
                    max_hops: int) -> csr_matrix:
    """[p, p] distances up to 1: onsets apart over eps plus `hop_cost` per hop. Unrelated points have none.

    Cost: the number of neighbours.
    """
    from scipy.sparse import csr_matrix

    p = len(points.onset_s)
    order = np.lexsort((points.onset_s, points.place))
    place, onset = points.place[order], points.onset_s[order] - points.onset_s.min(initial=np.inf)
    a, b, far = _related(points.places, np.unique(place), relations, hop_cost, max_hops)
    begin = np.searchsorted(place, np.arange(len(points.places) + 1))
    span = float(onset.max(initial=0.0)) + 4 * eps_seconds  # keeps the places apart on one axis
    axis = place * span + onset
    left = _ranges(begin[a], begin[a + 1])
    pair = np.repeat(np.arange(len(a)), begin[a + 1] - begin[a])
    # A hair's breadth, so that rounding of the axis loses no pair that is exactly at the radius.
    reach = (1.0 - far[pair]) * eps_seconds + 1e-6
    centre = b[pair] * span + onset[left]
    low = np.searchsorted(axis, centre - reach, side="left")
    high = np.searchsorted(axis, centre + reach, side="right")
    rows, columns = np.repeat(left, high - low), _ranges(low, high)
    apart = np.abs(onset[rows] - onset[columns]) / eps_seconds + np.repeat(far[pair], high - low)
    kept = apart <= 1.0
    graph = csr_matrix((apart[kept], (order[rows[kept]], order[columns[kept]])), shape=(p, p))
    return graph


def cluster(points: Points, graph: csr_matrix, min_weight: int) -> Ints:
    """DBSCAN labels of the points [p], -1 for noise; a core has neighbours of `min_weight` together."""
    from sklearn.cluster import DBSCAN
    from sklearn.neighbors import sort_graph_by_row_values

    if len(points.onset_s) == 0:
        return np.zeros(0, dtype=np.int64)
    graph = sort_graph_by_row_values(graph, copy=False, warn_when_not_sorted=False)
    labels = DBSCAN(eps=1.0, min_samples=min_weight, metric="precomputed").fit_predict(
        graph, sample_weight=points.weight)
    return np.asarray(labels, dtype=np.int64)


def _related(places: Sequence[Place], used: Ints, relations: Relations, hop_cost: float,
             max_hops: int) -> tuple[Ints, Ints, Float64]:
    """(place, place, what the hops between them cost), both ways and each with itself, below 1."""
    at: dict[str, list[int]] = {}
    for i in used.tolist():
        for service in set(places[i]) - {""}:
            at.setdefault(service, []).append(i)
    a: list[int] = []
    b: list[int] = []
    far: list[float] = []
    for i in used.tolist():
        nearest: dict[int, int] = {i: 0}
        for service in set(places[i]) - {""}:
            for other, hops in relations.of(service).items():
                if hops <= max_hops and hops * hop_cost <= 1.0:
                    for j in at.get(other, ()):
                        nearest[j] = min(hops, nearest.get(j, hops))
        a.extend([i] * len(nearest))
        b.extend(nearest)
        far.extend(hops * hop_cost for hops in nearest.values())
    return np.array(a, dtype=np.int64), np.array(b, dtype=np.int64), np.array(far, dtype=np.float64)


def _ranges(begin: Ints, end: Ints) -> Ints:
    """begin[0], ..., end[0] - 1, begin[1], ..."""
    lengths = end - begin
    offsets = np.cumsum(lengths) - lengths
    out: Ints = np.arange(int(lengths.sum()), dtype=np.int64) - np.repeat(offsets - begin, lengths)
    return out
