"""The forecaster: one LSTM for all series, advanced by one step per bucket for all of them in one batch.

    value ──observe──► scale, season, features ──advance──► LSTM ──settle──► judged, blended, banded forecast

The three steps are compiled (scaling.py, cell.py, blend.py). `detect/train.py` trains the same equations in torch on
features that `observe` made; a test holds both against each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detect.forecaster.blend import (
    LAG,
    LOSS_EWMA,
    LOSS_NETWORK,
    LOSS_SEASON,
    PENDING,
    TRACK,
    TRUST,
    WIDTH_HIGH,
    WIDTH_LOW,
    settle,
)
from detect.forecaster.cell import advance
from detect.forecaster.scaling import (
    BASE,
    COUNT,
    ORIGIN,
    SCALARS,
    SCALE,
    SEASON_BINS,
    SEASON_NOW,
    SINCE,
    STEP,
    observe,
)
from detect.forecaster.shape import FEATURES, HIDDEN, HORIZONS, LAG_INDEX, OUTPUTS, QUANTILES, WARM_UP, ahead
from detect.forecaster.weights import MODELS_DIR, BadWeights, Weights

__all__ = ["FEATURES", "HIDDEN", "HORIZONS", "LAG_INDEX", "MODELS_DIR", "QUANTILES", "WARM_UP", "BadWeights",
           "Forecaster", "Weights", "ahead"]

_OURS: Final = ("C", "W")
"""Compiled code takes plain arrays that could be written to; what is none is copied."""
_LARGEST = 1e30
"""Values beyond this size count as missing."""
_PRIOR_LOSS = {LOSS_NETWORK: 0.5, LOSS_EWMA: 0.8, LOSS_SEASON: 1.0}
"""Before a candidate was ever judged, in scales."""
_FIELDS: dict[str, tuple[tuple[int, ...], str]] = {
    "scalars": ((SCALARS,), "<f8"), "season": ((SEASON_BINS,), "<f4"),
    "visits": ((SEASON_BINS,), "<u2"), "due": ((len(HORIZONS),), "<f8"), "pending": ((len(HORIZONS), PENDING), "<f4"),
    "track": ((len(HORIZONS), TRACK), "<f4"), "ring": ((LAG, len(QUANTILES)), "<f4")}


class Forecaster:
    """State of all series. `step` takes [s] values and gives [s, horizons, quantiles] forecasts.

    Memory: `BYTES_PER_SERIES` a series. NaN, infinite and huge (over 1e30) values count as missing. Results do not
    depend on which other series are stepped along. Fails (wide bands) on series whose scale changes by orders of
    magnitude as a habit, and forecasts a local-time season wrong for some days after a change of the clocks.
    """

    BYTES_PER_SERIES = sum(int(np.prod(shape)) * np.dtype(kind).itemsize for shape, kind in _FIELDS.values()) + 8 * HIDDEN

    def __init__(self, weights: Weights, bucket_ns: int = 0) -> None:
        """`bucket_ns`: distance of two steps; 0: learned from the times, for each series by itself."""
        self._weights = weights
        self._hint = bucket_ns / 1e9
        self._size = 0
        self._state = {name: np.zeros((0, *shape), kind) for name, (shape, kind) in _FIELDS.items()}
        self._hidden = np.zeros((0, 2 * weights.hidden), np.float32)
        self._lagged = np.zeros((0, len(QUANTILES)))
        self._at = np.zeros(0, np.int64)
        self._room(0)

    @property
    def version(self) -> str:
        """Of the weights."""
        return self._weights.version

    @property
    def counts(self) -> NDArray[np.float64]:
        """Values seen, [s]."""
        return self._of("scalars")[:, COUNT]

    @property
    def scales(self) -> NDArray[np.float64]:
        """The robust scale (mean absolute deviation) of each series, [s], in its own unit."""
        return self._of("scalars")[:, SCALE]

    @property
    def step_seconds(self) -> NDArray[np.float64]:
        """The distance of two values of each series, [s]: `shape.horizon_minutes` makes minutes of it."""
        return self._of("scalars")[:, STEP]

    @property
    def lagged(self) -> NDArray[np.float64]:
        """[s, quantiles]: what was forecast for the time of the last `step` 30 steps before it; NaN where nothing was.

        A forecast of a moment ago follows a shift of level at once and hides it; this one does so 30 steps later.
        """
        return self._lagged[: self._size]

    @property
    def usual(self) -> NDArray[np.float64]:
        """[s]: what the season says of the last value, or the slow level (some 500 values) where no season is known
        yet. It does not know the minutes before, so nothing that lasts less than days is absorbed."""
        s = self._of("scalars")
        season = s[:, SEASON_NOW] + s[:, ORIGIN]
        level: NDArray[np.float64] = np.where(np.isfinite(season), season, s[:, BASE])
        return level

    @property
    def losses(self) -> NDArray[np.float64]:
        """[s, horizons, 3]: recent pinball loss of network, EWMA and season, in scales."""
        return self._of("track")[:, :, [LOSS_NETWORK, LOSS_EWMA, LOSS_SEASON]].astype(float)

    def _of(self, name: str) -> NDArray[np.float64]:
        return self._state[name][: self._size]

    def _grow(self, size: int) -> None:
        have = len(self._lagged)
        if size > have:
            room = max(size, have + have // 2)  # some to spare: one new series must not copy all others
            for name, (shape, kind) in _FIELDS.items():
                self._state[name] = np.concatenate([self._state[name], np.zeros((room - have, *shape), kind)])
            more = np.zeros((room - have, 2 * self._weights.hidden), np.float32)
            self._hidden = np.concatenate([self._hidden, more])
            self._lagged = np.concatenate([self._lagged, np.full((room - have, len(QUANTILES)), np.nan)])
            for column, loss in _PRIOR_LOSS.items():
                self._state["track"][have:, :, column] = loss
                self._state["track"][have:, :, TRUST + column] = (loss + 1e-3) ** -8
            self._state["track"][have:, :, [WIDTH_LOW, WIDTH_HIGH]] = 1.0
            self._state["due"][have:] = -1.0
            self._room(room)
        self._size = max(size, self._size)

    def _room(self, size: int) -> None:
        """Buffers of a step, kept: fresh ones would cost more to be mapped than to be filled."""
        self._feats = np.empty((size, FEATURES), np.float32)
        self._raw = np.empty((size, OUTPUTS), np.float32)

    def step(self, ts_ns: int, values: NDArray[np.float64],
             covariates: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Advance all series that have a value; others keep their state and get NaN.

        `covariates`: [s], one known number beside each value (the traffic beside a latency), NaN where there is none.
        """
        self._grow(len(values))
        values = np.require(values, np.float64, _OURS)
        out = np.empty((len(values), len(HORIZONS), len(QUANTILES)))
        there = np.abs(values) < _LARGEST
        at = np.flatnonzero(there)
        if len(at) < len(self._lagged):
            out[~there] = np.nan
            self._lagged[:] = np.nan
        s, w = self._state, self._weights
        feats, raw = self._feats[: len(at)], self._raw[: len(at)]
        beside = np.zeros(0) if covariates is None else np.require(covariates, np.float64, _OURS)
        observe(at, values, ts_ns / 1e9, self._hint, beside, s["scalars"], self._hidden, s["season"], s["visits"], feats)
        self._at = at
        advance(at, feats, self._hidden, w.w, w.b, w.v, w.d, raw)
        settle(at, values, raw, s["scalars"], s["due"], s["pending"], s["track"], s["ring"], out, self._lagged)
        return out

    def network_alone(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """[s, horizons, quantiles]: what the network said in the `step` that took `values`, unblended; for scores.

        NaN for a series that had no value."""
        count = len(HORIZONS) * len(QUANTILES)
        out = np.full((len(values), len(HORIZONS), len(QUANTILES)), np.nan)
        raw = np.sort(self._raw[: len(self._at), :count].reshape(-1, len(HORIZONS), len(QUANTILES)).astype(float), axis=2)
        at = self._at
        out[at] = values[at, None, None] + raw * self.scales[at, None, None]
        return out

    def use(self, weights: Weights) -> None:
        """Go on with other weights, without a cold start.

        Scales, seasons, records and waiting forecasts stay. Weights that were tuned from ours (their card names ours
        as parent, or the other way round) go on from the short memory as it is; for any others it starts empty, and
        EWMA and season stand in until it is warm. The network's record is set back to what EWMA's is.
        """
        related = weights.card.get("parent") == self.version or self._weights.card.get("parent") == weights.version
        if weights.version == self.version:
            return
        self._weights = weights
        track = self._state["track"]
        track[:, :, LOSS_NETWORK] = np.maximum(track[:, :, LOSS_NETWORK], track[:, :, LOSS_EWMA])
        track[:, :, TRUST + LOSS_NETWORK] = (track[:, :, LOSS_NETWORK] + 1e-3) ** -8
        if not related or self._hidden.shape[1] != 2 * weights.hidden:
            self._forget_network()

    def dump(self) -> dict[str, object]:
        """msgpack-able state: exact, as bytes."""
        state: dict[str, object] = {name: self._of(name).tobytes() for name in _FIELDS}
        return {**state, "hidden": self._hidden[: self._size].tobytes(), "n": self._size, "version": self.version,
                "layout": _LAYOUT}

    def load(self, state: Mapping[str, object]) -> None:
        """Go on from `dump`. State of another layout is dropped; with that of other weights see `use`."""
        if state.get("layout") != _LAYOUT:
            return
        size = int(state["n"])  # type: ignore[call-overload]
        read = {}
        for name, (shape, kind) in _FIELDS.items():
            raw = state[name]
            read[name] = np.frombuffer(raw, kind).reshape(size, *shape).copy()  # type: ignore[call-overload]
        self._state, self._size = read, size
        self._lagged = np.full((size, len(QUANTILES)), np.nan)
        self._room(size)
        hidden: Any = state["hidden"]
        is_ours = state["version"] in (self.version, self._weights.card.get("parent"))
        if is_ours and len(hidden) == 8 * self._weights.hidden * size:
            self._hidden = np.frombuffer(hidden, "<f4").reshape(size, 2 * self._weights.hidden).copy()
        else:
            self._forget_network()

    def _forget_network(self) -> None:
        """The short memory starts empty, in the size of the weights."""
        self._hidden = np.zeros((len(self._lagged), 2 * self._weights.hidden), np.float32)
        self._state["scalars"][:, SINCE] = 0.0


_LAYOUT = f"4:{SCALARS}:{SEASON_BINS}:{HORIZONS}"
