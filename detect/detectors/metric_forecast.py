"""Metrics that left their forecast: four kinds of evidence, joined (see docs of the forecaster).

Range novelty, level shift, forecast residual and residual novelty, each in units of what is usual for the
series; joined by the root of the sum of squares. An onset needs several buckets in a row.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from detect.detectors.base import BucketWindow, Candidate, Hysteresis, dump_state, load_state
from detect.detectors.usual import Usual
from detect.forecaster.lstm import Forecaster, Weights
from detect.indicators import indicator_of
from detect.types import Signal, SignalKind
from ingest.types import SeriesKey

_SKIPPED = frozenset({"up", "responsive", "restarts", "limit", "errors", "latency"})
"""Handled by detectors that know what they mean."""
_KINDS: dict[str, SignalKind] = {"traffic": "traffic", "saturation": "saturation", "usage": "metric_anomaly",
                                 "cpu": "cpu", "memory": "memory"}
_SCORES = {"cpu": 0.6, "memory": 0.5, "saturation": 0.6, "traffic": 0.4}
_DEAD_BANDS = {"cpu": 0.08, "saturation": 1.5, "traffic": 5.0, "memory": 8e6}
"""Smallest change that matters, in the indicator's unit (cores, waiters, requests per second, bytes)."""


@dataclass(frozen=True)
class MetricForecastConfig:
    """When a metric counts as anomalous."""

    threshold: float = 8.0
    """Joined evidence, in usual deviations."""
    min_change: float = 0.5
    """Relative to the usual level: smaller changes are never told."""
    warm_up: int = 60
    """Points of history before a series is judged."""
    need: int = 4
    of: int = 5
    close: int = 8
    tenant: str = "default"


class MetricForecast:
    """Signals traffic, saturation, cpu, memory and metric_anomaly.

    Cost: about 2 us per series and bucket. Fails on series that jump by orders of magnitude as a habit.
    """

    name = "metric_forecast"

    def __init__(self, config: MetricForecastConfig | None = None) -> None:
        self._c = config or MetricForecastConfig()
        self._hysteresis = Hysteresis(self.name, need=self._c.need, of=self._c.of, close=self._c.close,
                                      tenant=self._c.tenant)
        self._forecaster = Forecaster(Weights.load())
        self._usual = Usual(half_life=120)
        self._residual = Usual(half_life=120)
        self._range = np.zeros((0, 2))
        self._ahead = np.zeros(0)
        self._next = np.zeros((0, 3), np.float32)  # forecast for the bucket that comes
        self._told = np.zeros((0, 3), np.float32)  # that of the bucket judged last, as made before it
        self._kinds: list[str] = []

    def step(self, window: BucketWindow) -> list[Signal]:
        size = len(window.series)
        for key in window.series[len(self._kinds):]:
            self._kinds.append(indicator_of(key))
        self._grow(size)
        values = window.values
        evidence = self._evidence(values)
        frozen = np.array([self._hysteresis.is_open(_name(k)) for k in window.series], dtype=bool)
        found: dict[str, Candidate] = {}
        for i in np.flatnonzero(evidence > self._c.threshold):
            kind = self._kinds[i]
            if kind not in _SKIPPED and (candidate := self._candidate(window.series[i], kind, int(i), values, evidence)):
                found[candidate.key] = candidate
                frozen[i] = True
        residual = np.abs(values - self._ahead)
        self._residual.learn(residual, frozen)
        self._usual.learn(values, frozen)
        use = np.isfinite(values) & ~frozen
        self._range[use, 0] = np.minimum(self._range[use, 0], values[use])
        self._range[use, 1] = np.maximum(self._range[use, 1], values[use])
        ahead = self._forecaster.step(window.ts_ns, values)[:, 0]
        self._ahead, self._told, self._next = ahead[:, 1], self._next, ahead.astype(np.float32)
        return self._hysteresis.update(window, found)

    def _grow(self, size: int) -> None:
        more = size - len(self._ahead)
        if more > 0:
            self._range = np.concatenate([self._range, np.tile([np.inf, -np.inf], (more, 1))])
            self._ahead = np.concatenate([self._ahead, np.full(more, np.nan)])
            self._next = np.concatenate([self._next, np.full((more, 3), np.nan, np.float32)])
            self._usual.grow(size)
            self._residual.grow(size)

    def foretold(self) -> NDArray[np.float32]:
        """See `Foretells`."""
        return self._told

    def _evidence(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """[s] joined evidence; 0 for series that are young or silent."""
        u, r = self._usual, self._residual
        floor = 0.05 * np.abs(u.mean) + 1e-9
        width = np.maximum(self._range[:, 1] - self._range[:, 0], floor)
        with np.errstate(invalid="ignore", over="ignore"):
            known = np.isfinite(self._range[:, 0])
            beyond = np.maximum(values - self._range[:, 1], self._range[:, 0] - values)
            outside = np.where(known, np.maximum(beyond, 0) / width * 8, 0.0)
            shift = np.abs(values - u.mean) / np.maximum(1.25 * u.deviation, floor)
            left = np.abs(values - self._ahead) / np.maximum(1.25 * r.mean + r.deviation, floor)
            parts = [np.clip(np.nan_to_num(x), 0, 1e6) for x in (outside, shift, left)]
            joined: NDArray[np.float64] = np.sqrt(parts[0] ** 2 + parts[1] ** 2 + parts[2] ** 2)
        joined[(u.count < self._c.warm_up) | ~np.isfinite(values)] = 0.0
        return joined

    def _candidate(self, key: SeriesKey, kind: str, i: int, values: NDArray[np.float64],
                   evidence: NDArray[np.float64]) -> Candidate | None:
        value, usual = float(values[i]), float(self._usual.mean[i])
        change = value - usual
        if kind in ("cpu", "memory", "saturation") and change < 0:
            return None
        if abs(change) < max(self._c.min_change * abs(usual), _DEAD_BANDS.get(kind, 1e-9)):
            return None
        text = f"{key.name} {value:.4g} (usual {usual:.4g})"
        score = _SCORES.get(kind, 0.3) * min(1.0, 0.7 + 0.02 * float(evidence[i]))
        return Candidate(_name(key), _KINDS.get(kind, "metric_anomaly"), key.service, score, text, key.peer,
                         key.instance, key.name, value, usual)

    def snapshot(self) -> bytes:
        return dump_state(self._hysteresis, usual=self._usual.dump(), residual=self._residual.dump(),
                          range=self._range.tobytes(), ahead=self._ahead.tobytes(),
                          next=self._next.tobytes(), kinds=self._kinds,
                          forecaster=self._forecaster.dump())

    def restore(self, data: bytes) -> None:
        state = load_state(self._hysteresis, data)
        self._usual.load(state["usual"])  # type: ignore[arg-type]
        self._residual.load(state["residual"])  # type: ignore[arg-type]
        self._range = np.frombuffer(state["range"]).reshape(-1, 2).copy()  # type: ignore[call-overload]
        self._ahead = np.frombuffer(state["ahead"]).copy()  # type: ignore[call-overload]
        self._next = np.frombuffer(state["next"], np.float32).reshape(-1, 3).copy() if "next" in state else np.full(  # type: ignore[call-overload]
            (len(self._ahead), 3), np.nan, np.float32)
        self._kinds = msgspec.convert(state["kinds"], list[str])
        self._forecaster.load(state["forecaster"])  # type: ignore[arg-type]


def _name(key: SeriesKey) -> str:
    return f"{key.service}|{key.peer}|{key.instance}|{key.name}|{key.labels}"
