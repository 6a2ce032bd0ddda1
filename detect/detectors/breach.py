"""Early warning: when will a series run into its limit?

Theil-Sen lines over several windows (robust to spikes), the slope held against its own error, the level
against all earlier ones; the warning needs several buckets in a row and is latched. What this reaches on
the early-warning data set is a later issue's; here it must be right and quiet.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from detect.detectors.base import BucketWindow, Candidate, Hysteresis, dump_state, load_state
from detect.limits import companions, configured
from detect.types import Breach, Signal
from ingest.types import SeriesKey


@dataclass(frozen=True)
class BreachConfig:
    """When a crossing is foretold."""

    limits: tuple[tuple[str, str | float], ...] = ()
    """`usage metric = limit metric or number`, beside the pairs found by name."""
    windows: tuple[int, ...] = (20, 40, 80, 160)
    """Buckets of history a line is laid through."""
    horizon_buckets: int = 1800
    """Crossings further away are not told."""
    min_slope_over_error: float = 4.0
    need: int = 5
    of: int = 6
    close: int = 15
    max_series: int = 2_000
    tenant: str = "default"


class BreachForecast:
    """Signals of kind breach with the 5, 50 and 95 % times of the crossing.

    Cost: 0.2 ms per watched series and bucket. Fails on growth by rare, large steps.
    """

    name = "breach"

    def __init__(self, config: BreachConfig | None = None) -> None:
        self._c = config or BreachConfig()
        self._hysteresis = Hysteresis(self.name, need=self._c.need, of=self._c.of, close=self._c.close,
                                      tenant=self._c.tenant)
        self._past: dict[SeriesKey, deque[float]] = {}
        self._peak: dict[SeriesKey, float] = {}  # highest level older than the longest window

    def step(self, window: BucketWindow) -> list[Signal]:
        value_of = dict(zip(window.series, window.values.tolist(), strict=True))
        pairs: list[tuple[SeriesKey, SeriesKey | float]] = [
            *companions(window.series), *configured(window.series, dict(self._c.limits))]
        found: dict[str, Candidate] = {}
        for key, limit in pairs[: self._c.max_series]:
            value, top = value_of[key], limit if isinstance(limit, float) else value_of.get(limit, np.nan)
            if not np.isfinite(value):
                continue
            past = self._past.setdefault(key, deque(maxlen=max(self._c.windows)))
            if len(past) == past.maxlen:
                self._peak[key] = max(self._peak.get(key, past[0]), past[0])
            past.append(value)
            if np.isfinite(top) and value < top:
                candidate = self._foretell(key, np.array(past), float(top), window)
                if candidate is not None:
                    found[candidate.key] = candidate
        return self._hysteresis.update(window, found)

    def _foretell(self, key: SeriesKey, past: NDArray[np.float64], top: float,
                  window: BucketWindow) -> Candidate | None:
        best: tuple[float, float, float] | None = None
        for size in self._c.windows:
            if len(past) < size:
                break
            slope, error, level = line(past[-size:])
            if slope <= 0 or slope < self._c.min_slope_over_error * error:
                continue
            # A line is believed about as far ahead as it reaches back.
            if (top - level) / slope > min(6 * size, self._c.horizon_buckets):
                continue
            if level <= self._peak.get(key, -np.inf) or slope * size < 0.15 * top:
                continue
            best = (slope, error, level)
        if best is None:
            return None
        slope, error, level = best
        # The slope's own error knows nothing of a slope that changes: never surer than a tenth of it.
        margin = max(2.5 * error, 0.1 * slope)
        left = np.array([top - level] * 3) / np.array([slope + margin, slope, max(slope - margin, slope / 3)])
        low, middle, high = (window.ts_ns + int(x * window.bucket_ns) for x in left.tolist())
        per_second = slope / (window.bucket_ns / 1e9)
        breach = Breach(key.name, top, "up", low, middle, high, min(0.99, slope / (slope + 2 * error)), level, per_second)
        minutes = [x * window.bucket_ns / 60e9 for x in left.tolist()]
        text = (f"{key.name} is {level:.4g} of {top:.4g} and grows {per_second * 60:.3g} a minute: "
                f"full in {minutes[0]:.1f} to {minutes[2]:.1f} min")
        return Candidate(f"breach|{key.service}|{key.instance}|{key.name}", "breach", key.service,
                         0.5 if minutes[1] > 5 else 0.6, text, instance=key.instance, series=key.name,
                         value=level, usual=None, breach=breach)

    def snapshot(self) -> bytes:
        past = [[k, list(v), self._peak.get(k)] for k, v in self._past.items()]
        return dump_state(self._hysteresis, past=past)

    def restore(self, data: bytes) -> None:
        state = load_state(self._hysteresis, data)
        self._past, self._peak = {}, {}
        for fields, values, peak in state["past"]:  # type: ignore[attr-defined]
            key = msgspec.convert(fields, SeriesKey)
            self._past[key] = deque(values, maxlen=max(self._c.windows))
            if peak is not None:
                self._peak[key] = peak


def line(y: NDArray[np.float64]) -> tuple[float, float, float]:
    """(slope per step, its standard error, level at the end) of a Theil-Sen line over block medians."""
    blocks = min(10, len(y))
    size = len(y) // blocks
    cut = y[len(y) - blocks * size:].reshape(blocks, size)
    middles = np.median(cut, axis=1)
    at = (np.arange(blocks) + 0.5) * size
    i, j = np.triu_indices(blocks, 1)
    slope = float(np.median((middles[j] - middles[i]) / (at[j] - at[i])))
    rest = middles - slope * at
    intercept = float(np.median(rest))
    # The error of a least-squares slope with the residuals' robust scale; good enough for a ratio test.
    spread = 1.48 * float(np.median(np.abs(rest - intercept))) + 1e-3 * float(np.abs(y).max()) / blocks
    error = spread / float(np.sqrt(np.sum((at - at.mean()) ** 2)))
    return slope, error, float(intercept + slope * (at[-1] + size / 2))
