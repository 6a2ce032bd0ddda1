"""Quantiles of bucketed histograms."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

_SCALES = range(-20, 31)  # beyond the specification's -10..20; a scale of 2**31 is nobody's
_NAN = float("nan")


def explicit_quantile(q: float, bounds: Sequence[float], counts: Sequence[int]) -> float:
    """The q-quantile (0..1) by linear interpolation within the bucket, as Prometheus' histogram_quantile.

    `counts` has one entry more than `bounds`; what lies in the last, open bucket is given as its lower bound.
    NaN for an empty histogram and for one without bounds.
    """
    total = sum(counts)
    if total == 0 or not bounds or len(counts) != len(bounds) + 1:
        return _NAN
    rank, below = q * total, 0
    for i, count in enumerate(counts):
        if below + count >= rank and count:
            if i == len(bounds):
                return float(bounds[-1])
            low = bounds[i - 1] if i else min(0.0, bounds[0])
            return float(low + (bounds[i] - low) * (rank - below) / count)
        below += count
    return float(bounds[-1])


def exponential_quantile(q: float, scale: int, zeros: int, zero_threshold: float,
                         positive: tuple[int, Sequence[int]], negative: tuple[int, Sequence[int]]) -> float:
    """The q-quantile (0..1) of an exponential histogram (OpenTelemetry, Prometheus' native ones).

    `positive` and `negative` are (offset, counts): bucket i holds what is in (b**(offset+i), b**(offset+i+1)], with
    b = 2**(2**-scale), the negative ones mirrored. Within a bucket a value is placed by the logarithm. NaN for an empty
    histogram and for a scale outside -20..30. The error is at most half a bucket: 4 % at scale 3.

    >>> exponential_quantile(0.5, 0, 0, 0.0, (1, [1, 2, 1]), (0, []))
    5.656854249492381
    """
    total = zeros + sum(positive[1]) + sum(negative[1])
    if total <= 0 or scale not in _SCALES:
        return _NAN
    rank, below = q * total, 0
    width = max(0.0, zero_threshold)  # a negative one is nonsense, and NaN is none
    buckets = chain(_mirrored(scale, *negative), [(-width, width, zeros)],
                    _exponential(scale, *positive))
    last = _NAN
    for low, high, count in buckets:
        if not count:
            continue
        if below + count >= rank:
            return _between(low, high, (rank - below) / count)
        below += count
        last = high
    return last


def _exponential(scale: int, offset: int, counts: Sequence[int]) -> Iterator[tuple[float, float, int]]:
    for i, count in enumerate(counts):
        yield _bound(scale, offset + i), _bound(scale, offset + i + 1), count


def _mirrored(scale: int, offset: int, counts: Sequence[int]) -> Iterator[tuple[float, float, int]]:
    for i in reversed(range(len(counts))):
        yield -_bound(scale, offset + i + 1), -_bound(scale, offset + i), counts[i]


def _bound(scale: int, index: int) -> float:
    power = index * 2.0 ** -scale
    return 2.0 ** power if -1074 < power < 1024 else 0.0 if power < 0 else math.inf


def _between(low: float, high: float, share: float) -> float:
    if low > 0 and math.isfinite(high):
        return float(low * (high / low) ** share)
    if high < 0 and math.isfinite(low):
        return float(low * (high / low) ** share)
    if not (math.isfinite(low) and math.isfinite(high)):
        return _NAN
    return low + (high - low) * share


def within(value: float, low: float | None, high: float | None) -> float:
    """A quantile is never beyond the smallest and the largest value seen, where these are known."""
    if low is not None and value < low:
        return low
    if high is not None and value > high:
        return high
    return value


def cumulated(counts: Iterable[int]) -> list[int]:
    """Buckets as Prometheus has them: each with all below it."""
    total, found = 0, []
    for count in counts:
        total += count
        found.append(total)
    return found
