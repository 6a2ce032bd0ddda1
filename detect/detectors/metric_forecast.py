"""Metrics that left what is usual for them: the evidence of detect/evidence, and what an operator would care about.

The evidence says when something starts that is rare for the series (docs/anomaly.md). A signal opens if, soon after
that, the value is away from its usual level by as much as matters, in several buckets in a row; it stays open for as
long as the value is away, and closes some buckets after it came back.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from detect.detectors.base import BucketWindow, Candidate, Hysteresis, dump_state, load_state
from detect.detectors.usual import Usual
from detect.evidence.calibration import Calibration
from detect.evidence.streams import Evidence, Lstm
from detect.forecaster.lstm import HORIZONS, QUANTILES, Forecaster, Weights
from detect.indicators import indicator_of
from detect.types import Signal, SignalKind
from ingest.types import SeriesKey

_SKIPPED = frozenset({"up", "responsive", "restarts", "limit", "errors", "latency"})
"""Handled by detectors that know what they mean."""
_NEXT = HORIZONS.index(1)
_KINDS: dict[str, SignalKind] = {"traffic": "traffic", "saturation": "saturation", "usage": "metric_anomaly",
                                 "cpu": "cpu", "memory": "memory"}
_SCORES = {"cpu": 0.6, "memory": 0.5, "saturation": 0.6, "traffic": 0.4}
_DEAD_BANDS = {"cpu": 0.12, "saturation": 1.5, "traffic": 5.0, "memory": 8e6}
"""Smallest change that matters, in the indicator's unit (cores, waiters, requests per second, bytes)."""


@dataclass(frozen=True)
class MetricForecastConfig:
    """When a metric counts as anomalous. The threshold of the evidence is that of the calibration table: without labels,
    and the one that `opsmend eval series` measures."""

    min_change: float = 0.5
    """Relative to the usual level: smaller changes are never told."""
    min_deviations: float = 3.0
    """In usual absolute deviations: a noisy series moves by half of its level as a habit."""
    warm_up: int = 60
    """Points of history before a series is judged. (The evidence of one that is not twice as old counts for less.)"""
    recent: int = 30
    """Buckets: a signal opens only so soon after evidence that reached the threshold."""
    need: int = 4
    of: int = 5
    close: int = 8
    tenant: str = "default"


class MetricForecast:
    """Signals traffic, saturation, cpu, memory and metric_anomaly.

    Cost: about 3 us per series and bucket, the forecaster included. Fails on series that jump by orders of magnitude as a
    habit.
    """

    name = "metric_forecast"

    def __init__(self, config: MetricForecastConfig | None = None) -> None:
        self._c = config or MetricForecastConfig()
        self._hysteresis = Hysteresis(self.name, need=self._c.need, of=self._c.of, close=self._c.close,
                                      tenant=self._c.tenant)
        calibration = Calibration.load()
        self._page = calibration.page
        self._evidence = Evidence(calibration)
        self._forecaster = Lstm(Forecaster(Weights.load()))
        self._usual = Usual(half_life=120)
        self._ahead = np.zeros((0, len(QUANTILES)))  # of the next bucket
        self._judged = np.zeros((0, len(QUANTILES)))  # of the bucket that was judged last
        self._since = np.zeros(0)  # buckets since the evidence reached the threshold
        self._kinds: list[str] = []
        self._names: list[str] = []

    def step(self, window: BucketWindow) -> list[Signal]:
        for key in window.series[len(self._kinds):]:
            self._kinds.append(indicator_of(key))
        self._names += [_name(key) for key in window.series[len(self._names):]]
        values = window.values
        self._usual.grow(len(values))
        tick = self._evidence.step(window.ts_ns, values, self._forecaster)
        more = len(values) - len(self._since)
        self._since = np.concatenate([self._since + 1.0, np.full(more, np.inf)])
        self._since[tick.joined >= self._page] = 0.0
        away = self._away(values)
        is_open = np.array([self._hysteresis.is_open(name) for name in self._names], dtype=bool)
        found: dict[str, Candidate] = {}
        frozen = is_open.copy()
        for i in np.flatnonzero(away & (is_open | (self._since < self._c.recent))):
            candidate = self._candidate(window.series[i], self._kinds[i], int(i), values, tick.state)
            if candidate is not None:
                found[candidate.key] = candidate
                frozen[i] = True
        self._usual.learn(values, frozen)
        self._judged, self._ahead = self._known(len(values)), self._forecaster.ahead[:, _NEXT].copy()
        return self._hysteresis.update(window, found)

    def foretold(self) -> NDArray[np.float32]:
        """See `Foretells`."""
        return self._judged.astype(np.float32)

    def _known(self, size: int) -> NDArray[np.float64]:
        """[size, quantiles] forecasts of the last step, NaN for series that are new."""
        return np.concatenate([self._ahead, np.full((size - len(self._ahead), len(QUANTILES)), np.nan)])

    def _away(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        """[s] is the value away from its usual level, by as much as this series seldom is?"""
        u = self._usual
        with np.errstate(invalid="ignore", over="ignore"):
            change = np.abs(values - u.mean)
            limit = np.maximum(self._c.min_change * np.abs(u.mean), self._c.min_deviations * u.deviation)
            away: NDArray[np.bool_] = (change >= limit) & np.isfinite(values) & (u.count >= self._c.warm_up)
        return away

    def _candidate(self, key: SeriesKey, kind: str, i: int, values: NDArray[np.float64],
                   state: NDArray[np.float64]) -> Candidate | None:
        value, usual = float(values[i]), float(self._usual.mean[i])
        change = value - usual
        if kind in _SKIPPED or (kind in ("cpu", "memory", "saturation") and change < 0):
            return None
        if abs(change) < _DEAD_BANDS.get(kind, 1e-9):
            return None
        text = f"{key.name} {value:.4g} (usual {usual:.4g})"
        times_usual = min(abs(change) / max(abs(usual), 1e-9), 10.0)
        rare = 0.05 * max(0.0, float(state[i]) - self._page)
        score = _SCORES.get(kind, 0.3) * min(1.0, 0.8 + rare + 0.2 * max(0.0, times_usual - 1.0))
        return Candidate(self._names[i], _KINDS.get(kind, "metric_anomaly"), key.service, score, text, key.peer,
                         key.instance, key.name, value, usual)

    def use_weights(self, weights: Weights) -> None:
        """Forecast with these from the next bucket on (detect.forecaster.weights.UsesForecaster)."""
        self._forecaster.forecaster.use(weights)

    def snapshot(self) -> bytes:
        return dump_state(self._hysteresis, usual=self._usual.dump(), evidence=self._evidence.dump(),
                          ahead=self._ahead.tobytes(), judged=self._judged.tobytes(), since=self._since.tobytes(),
                          kinds=self._kinds, forecaster=self._forecaster.forecaster.dump())

    def restore(self, data: bytes) -> None:
        state = load_state(self._hysteresis, data)
        self._usual.load(state["usual"])  # type: ignore[arg-type]
        self._evidence.load(state["evidence"])  # type: ignore[arg-type]
        for name in ("ahead", "judged"):
            read = np.frombuffer(state[name]).reshape(-1, len(QUANTILES)).copy()  # type: ignore[call-overload]
            setattr(self, f"_{name}", read)
        self._since = np.frombuffer(state["since"]).copy()  # type: ignore[call-overload]
        self._kinds = msgspec.convert(state["kinds"], list[str])
        self._forecaster.forecaster.load(state["forecaster"])  # type: ignore[arg-type]


def _name(key: SeriesKey) -> str:
    return f"{key.service}|{key.peer}|{key.instance}|{key.name}|{key.labels}"
