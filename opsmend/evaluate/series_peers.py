"""Other detectors, causal and with one configuration each, for the table of `opsmend eval series`.

Each gives a score per point, the higher the stranger, from that point and those before it. None was given less than
its usual recipe; onset, hold and threshold are then made for all of them in the way that ours are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ingest.compiled import compiled

Floats = NDArray[np.float64]


@compiled("f8[::1](f8[::1])", error_model="numpy")
def _z_score(x: Any) -> Any:
    """Distance from the mean of the 500 points before, in their standard deviations."""
    out = np.zeros(len(x))
    for i in range(30, len(x)):
        past = x[max(0, i - 500): i]
        mean = np.mean(past)
        out[i] = abs(x[i] - mean) / max(np.std(past), 1e-3 * abs(mean) + 1e-12)
    return out


@compiled("f8[::1](f8[::1])", error_model="numpy")
def _ewma(x: Any) -> Any:
    """Distance from an exponentially weighted mean (0.05), in exponentially weighted deviations (0.01)."""
    out = np.zeros(len(x))
    mean, deviation = x[0], 0.0
    for i in range(1, len(x)):
        error = abs(x[i] - mean)
        if i >= 30:
            out[i] = error / max(deviation, 1e-3 * abs(mean) + 1e-12)
        mean += max(0.05, 1.0 / (i + 1)) * (x[i] - mean)
        deviation += max(0.01, 1.0 / i) * (error - deviation)
    return out


@compiled("f8[::1](f8[::1])", error_model="numpy")
def _dspot(x: Any) -> Any:
    """DSPOT (Siffer et al., 2017), two-sided, depth 30: -log10 of the tail probability of |x - moving mean| by a
    generalised Pareto fit (moments) to the excesses over the 98 % quantile of the first 300 points."""
    n, depth, first = len(x), 30, 300
    out, peaks = np.zeros(n), np.zeros(500)
    if n <= depth + first:
        return out
    away = np.zeros(n)
    for i in range(depth, n):
        away[i] = abs(x[i] - np.mean(x[i - depth: i]))
    level = np.quantile(away[depth: depth + first], 0.98)
    count = 0
    for i in range(depth, n):
        excess = away[i] - level
        if i >= depth + first and count > 3 and excess > 0:
            kept = peaks[: min(count, 500)]
            mean, spread = float(np.mean(kept)), float(np.var(kept)) + 1e-24
            shape = float(min(max(0.5 * (1.0 - mean * mean / spread), -0.4), 0.45))
            scale = float(max(mean * (1.0 - shape), 1e-12))
            seen = count / (i - depth)
            if abs(shape) < 1e-3:
                out[i] = -np.log10(seen) + excess / scale / np.log(10.0)
            else:
                base = 1.0 + shape * excess / scale
                out[i] = -np.log10(seen) + (np.log10(base) / shape if base > 1e-12 else 12.0)
        if excess > 0 and out[i] < 4.0:  # what is called an anomaly is not learned
            peaks[count % 500] = excess
            count += 1
    return np.maximum(out, 0.0)


def _windows(x: Floats, width: int) -> Floats:
    """[n, width]: each point and those before it; the first ones are padded with the first value."""
    padded = np.concatenate([np.full(width - 1, x[0]), x])
    return np.lib.stride_tricks.sliding_window_view(padded, width)


def _isolation_forest(x: Floats) -> Floats:
    """IsolationForest on windows of 10 points, fitted anew every 1,000 points on the 2,000 before."""
    from sklearn.ensemble import IsolationForest

    windows, out = _windows(x, 10), np.zeros(len(x))
    starts = [150, *range(1000, len(x), 1000)]
    for begin, end in zip(starts, [*starts[1:], len(x)], strict=True):
        if begin < len(x):
            forest = IsolationForest(n_estimators=50, random_state=0).fit(windows[max(0, begin - 2000): begin])
            out[begin:end] = np.maximum(-forest.score_samples(windows[begin:end]), 0.0)
    return out


def _filled(x: Floats) -> Floats:
    """Missing values as the last one before them."""
    good = np.isfinite(x) & (np.abs(x) < 1e30)
    if not good.any():
        return np.zeros(len(x))
    at = np.maximum.accumulate(np.where(good, np.arange(len(x)), 0))
    at[: int(np.flatnonzero(good)[0])] = np.flatnonzero(good)[0]
    return np.ascontiguousarray(x[at], float)


def _on_filled(score: Callable[[Floats], Floats]) -> Callable[[Floats], Floats]:
    return lambda x: np.nan_to_num(score(_filled(x)), nan=0.0, posinf=1e12)


def _random_cut_forest(x: Floats) -> Floats:
    """AWS's random cut forest (krcf), 30 trees of 256 points, shingles of 8."""
    from krcf import RandomCutForest

    forest = RandomCutForest({"dimensions": 1, "shingle_size": 8, "internal_shingling": True, "num_trees": 30,
                              "sample_size": 256, "random_seed": 0})
    out = np.zeros(len(x))
    for i, value in enumerate(x.tolist()):
        out[i] = forest.score([value]) if forest.is_output_ready() else 0.0
        forest.update([value])
    return out


PEERS: Final[dict[str, Callable[[Floats], Floats]]] = {
    "z-score": _on_filled(_z_score), "EWMA": _on_filled(_ewma), "DSPOT": _on_filled(_dspot),
    "IsolationForest": _on_filled(_isolation_forest), "random cut forest": _on_filled(_random_cut_forest)}
KILOBYTES: Final = {"z-score": 3.9, "EWMA": 0.02, "DSPOT": 4.2, "IsolationForest": 563.0, "random cut forest": 883.0}
"""State per series: arrays counted; forests by the size of their dump."""
