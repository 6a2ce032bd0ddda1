"""Quantiles of bucketed histograms."""

from __future__ import annotations

from collections.abc import Sequence


def explicit_quantile(q: float, bounds: Sequence[float], counts: Sequence[int]) -> float:
    """The q-quantile (0..1) by linear interpolation within the bucket, as Prometheus' histogram_quantile.

    `counts` has one entry more than `bounds`; what lies in the last, open bucket is given as its lower bound.
    NaN for an empty histogram.
    """
    total = sum(counts)
    if total == 0 or len(counts) != len(bounds) + 1:
        return float("nan")
    rank, below = q * total, 0
    for i, count in enumerate(counts):
        if below + count >= rank and count:
            if i == len(bounds):
                return float(bounds[-1])
            low = bounds[i - 1] if i else min(0.0, bounds[0])
            return float(low + (bounds[i] - low) * (rank - below) / count)
        below += count
    return float(bounds[-1])
