"""A recorded or made series, by the minute, with the truth about it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detect.breach.fits import deviation, middle_half
from detect.breach.scoring import Truth

MINUTE: Final = 60


@dataclass(frozen=True)
class Recorded:
    """One series by the minute. `values` grow towards `limit` (for a floor both have changed sign)."""

    truth: Truth
    ticks: NDArray[np.int64]  # [m] minutes with at least one sample
    values: NDArray[np.float64]  # [m] their middles
    spreads: NDArray[np.float64]  # [m] deviation of its samples around it
    limit: float
    size: float  # scale: the limit, or for one of nought the largest value of the first hour

    @property
    def at(self) -> NDArray[np.float64]:
        """Unix seconds at which each minute is over."""
        return np.asarray((self.ticks + 1) * float(MINUTE), np.float64)


def by_minute(truth: Truth, at: NDArray[np.float64], values: NDArray[np.float64], limit: float, up: bool) -> Recorded:
    """The middle of each minute's samples; whatever is not finite is left out."""
    kept = np.isfinite(values) & np.isfinite(at)
    order = np.argsort(at[kept], kind="stable")
    at, values = at[kept][order], values[kept][order] * (1.0 if up else -1.0)
    ticks, first = np.unique((at // MINUTE).astype(np.int64), return_index=True)
    middles, spreads = np.zeros(len(ticks)), np.zeros(len(ticks))
    for i, part in enumerate(np.split(values, first[1:]) if len(ticks) else ()):
        middles[i], spreads[i] = middle_of(part)
    limit = limit if up else -limit
    return Recorded(truth, ticks, middles, spreads, limit, size_of(limit, middles[:MINUTE]))


def fingerprint(series: Recorded) -> str:
    """What a series is known by, whatever its name: 16 hexadecimal digits of its minutes, values and limit."""
    content = hashlib.sha256(series.ticks.astype("<i8").tobytes())
    content.update(series.values.astype("<f4").tobytes() + np.float32(series.limit).astype("<f4").tobytes())
    return content.hexdigest()[:16]


def middle_of(samples: NDArray[np.float64]) -> tuple[float, float]:
    """The middle of one tick's samples, and their deviation around it."""
    some = samples.copy()
    return middle_half(some, len(some)), deviation(np.sort(some), len(some))


def size_of(limit: float, values: NDArray[np.float64]) -> float:
    """What heights are compared with: the limit; what is left at first where that is nought (or negative).

    >>> size_of(100.0, np.array([20.0])), size_of(0.0, np.array([-7.0, -6.5]))
    (100.0, 7.0)
    """
    if limit > 0:
        return limit
    return float(max(1e-12, limit - np.min(values, initial=limit)))
