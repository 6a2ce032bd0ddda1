"""Scores of anomaly detectors on labelled series: NAB's, and the composite F1. Never point-adjusted.

NAB (Lavin and Ahmad, 2015; version 1): within each labelled window the earliest detection counts, the more the
earlier; each detection outside costs, the less the nearer it follows a window; the first 15 % of a series (at most
750 points) do not count. 100: every window at its first point and nothing else; 0: no detection at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

PROFILES: Final = {"standard": (1.0, 1.0, 0.11), "low_FP": (1.0, 1.0, 0.22), "low_FN": (1.0, 2.0, 0.11)}
"""Weight of a hit, of a miss and of a false detection."""


@dataclass(frozen=True)
class Labelled:
    """One series. `windows` are index pairs, both ends inside, in order and disjoint."""

    name: str
    ts_ns: NDArray[np.int64]  # [n], rising
    values: Floats  # [n], NaN: missing
    windows: tuple[tuple[int, int], ...]

    @property
    def labels(self) -> Bools:
        """[n], True inside windows."""
        out = np.zeros(len(self.values), bool)
        for first, last in self.windows:
            out[first: last + 1] = True
        return out


def probation(n: int) -> int:
    """Points at the start of a series of n that NAB does not score."""
    return int(0.15 * min(n, 5000))


def _sigmoid(x: Floats) -> Floats:
    """1 at far left, -1 beyond 3 window widths past the end."""
    out: Floats = np.where(x > 3.0, -1.0, 2.0 / (1.0 + np.exp(np.minimum(5.0 * x, 50.0))) - 1.0)
    return out


_TOP: Final = float(_sigmoid(np.array([-1.0]))[0])


def detection_worth(series: Labelled) -> tuple[Floats, NDArray[np.int64]]:
    """What a detection at each point is worth before weights, and the window that it falls into (-1: none)."""
    n = len(series.values)
    worth, of = np.full(n, -1.0), np.full(n, -1)
    at = np.arange(n)
    for k, (first, last) in enumerate(series.windows):
        width = last - first + 1
        inside = slice(first, last + 1)
        worth[inside] = _sigmoid(-(last - at[inside] + 1) / width) / _TOP
        of[inside] = k
        until = series.windows[k + 1][0] if k + 1 < len(series.windows) else n
        after = slice(last + 1, until)
        worth[after] = _sigmoid((at[after] - last) / max(width - 1, 1))
    return worth, of


class NabScorer:
    """NAB's score for any set of detections over the same series; the worth of each point is worked out once."""

    def __init__(self, series: Sequence[Labelled]) -> None:
        worths, ofs, counted = [], [], []
        windows = 0
        for one in series:
            worth, of = detection_worth(one)
            worths.append(worth)
            ofs.append(np.where(of >= 0, of + windows, -1))
            counted.append(np.arange(len(worth)) >= probation(len(worth)))
            windows += len(one.windows)
        self.windows = windows
        self._worth, self._of = np.concatenate(worths), np.concatenate(ofs)
        self._counted = np.concatenate(counted)

    def score(self, detections: Bools, profile: str = "standard") -> float:
        """0 for silence, 100 for perfection, can be negative. `detections` over all series, joined. NaN without
        windows."""
        if not self.windows:
            return float("nan")
        hit, miss, false = PROFILES[profile]
        chosen = detections & self._counted
        at, worth = self._of[chosen], self._worth[chosen]
        best = np.full(self.windows, -np.inf)
        np.maximum.at(best, at[at >= 0], worth[at >= 0])
        found = np.isfinite(best)
        raw = hit * best[found].sum() - miss * (~found).sum() + false * worth[at < 0].sum()
        return float(100.0 * (raw + miss * self.windows) / ((hit + miss) * self.windows))

    def best(self, scores: Floats, profile: str = "standard", *, candidates: int = 400) -> tuple[float, float]:
        """(score, threshold) at the best single threshold over everything, found with the labels."""
        return max((self.score(scores >= t, profile), float(t)) for t in thresholds(scores, candidates))


def thresholds(scores: Floats, candidates: int = 400) -> Floats:
    """Candidates for one threshold over all points: quantiles that get denser towards the top, and infinity."""
    finite = scores[np.isfinite(scores) & (scores > 0)]
    if not len(finite):
        return np.array([np.inf])
    top = np.unique(np.quantile(finite, 1.0 - np.geomspace(1.0 / len(finite), 0.5, candidates)))
    return np.append(top, np.inf)


class Composite:
    """Fc1 (Garg et al., 2021): harmonic mean of the recall of events and the precision of points, over all series, after
    the points that NAB does not score either."""

    def __init__(self, series: Sequence[Labelled]) -> None:
        self._labels = np.concatenate([s.labels for s in series])
        self._counted = np.concatenate([np.arange(len(s.values)) >= probation(len(s.values)) for s in series])
        starts = np.cumsum([0, *(len(s.values) for s in series)])
        self._events = [(int(start) + a, int(start) + b + 1) for s, start in zip(series, starts, strict=False)
                        for a, b in s.windows]

    def score(self, flagged: Bools) -> float:
        """0..1; NaN without windows."""
        if not self._events:
            return float("nan")
        flagged = flagged & self._counted
        total = int(flagged.sum())
        if not total:
            return 0.0
        seen = np.concatenate([[0], np.cumsum(flagged)])
        recall = float(np.mean([seen[b] > seen[a] for a, b in self._events]))
        precision = float((flagged & self._labels).sum()) / total
        return 2 * recall * precision / (recall + precision) if recall + precision else 0.0

    def best(self, scores: Floats, *, candidates: int = 400) -> tuple[float, float]:
        """(score, threshold) at the best single threshold over everything, found with the labels."""
        return max((self.score(scores >= t), float(t)) for t in thresholds(scores, candidates))
