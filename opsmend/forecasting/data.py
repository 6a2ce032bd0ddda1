"""A service's own recent series, out of its store, as the forecaster's training wants them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from detect.forecaster.synthetic import Made
from detect.types import Observations
from ingest.types import SeriesKey

MAX_SERIES = 240
_MIN_VALUES = 480
_LARGEST = 1e30


def some_of(keys: Iterable[SeriesKey]) -> frozenset[SeriesKey]:
    """Twice as many as are used, since some will not move or be too short; the same ones from day to day."""
    return frozenset(sorted(keys, key=_hash)[: 2 * MAX_SERIES])


def recent_series(seen: Observations, bucket_seconds: float) -> list[Made]:
    """The series of `seen` with enough values that move, at most 240 of them, in groups of one cadence each.

    Which ones is by the hash of their name: the same from day to day, and no matter of order. A series that reports
    every sixth bucket becomes one of a step of six buckets; NaN where a report is missing.
    """
    values = np.where(np.abs(seen.values) < _LARGEST, seen.values, np.nan)
    there = np.isfinite(values)
    order = sorted(range(len(seen.series)), key=lambda i: _hash(seen.series[i]))
    groups: dict[int, list[int]] = {}
    for i in order:
        rows = np.flatnonzero(there[:, i])
        if len(rows) < _MIN_VALUES or np.ptp(values[rows, i]) == 0.0:
            continue
        gap = np.diff(seen.ts_ns[rows]) / 1e9 / bucket_seconds
        groups.setdefault(max(1, round(float(np.median(gap)))), []).append(i)
        if sum(map(len, groups.values())) >= MAX_SERIES:
            break
    return [_grid(seen, values, groups[every], every, bucket_seconds) for every in sorted(groups)]


def _grid(seen: Observations, values: np.ndarray[tuple[int, int], np.dtype[np.float64]], chosen: list[int], every: int,
          bucket_seconds: float) -> Made:
    """[n, t] at steps of `every` buckets: the last value in each."""
    step = every * bucket_seconds
    slot = ((seen.ts_ns - seen.ts_ns[0]) / 1e9 / step + 1e-6).astype(int)
    made = np.full((len(chosen), int(slot[-1]) + 1), np.nan)
    for row, i in enumerate(chosen):
        at = np.flatnonzero(np.isfinite(values[:, i]))
        made[row, slot[at]] = values[at, i]
    return Made(made, np.full(made.shape, np.nan), step, float(seen.ts_ns[0]) / 1e9)


def _hash(key: SeriesKey) -> bytes:
    return hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
