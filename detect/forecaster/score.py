"""How good forecasts are: pinball loss at every horizon, beside last value, EWMA and the season of yesterday."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detect.forecaster.lstm import Forecaster
from detect.forecaster.shape import HORIZONS, QUANTILES, WARM_UP
from detect.forecaster.synthetic import Made
from detect.forecaster.weights import Weights

METHODS = ("opsmend", "network", "last_value", "ewma", "season")
_DAY = 86_400.0
_Q = np.array(QUANTILES)


@dataclass(frozen=True)
class Score:
    """`loss` [methods, horizons, n]: mean pinball loss in units of the series' mean deviation from its median, each
    capped at 10; `inside` [horizons]: the share of
    values inside opsmend's 90 % band. NaN where a series is too short for a horizon."""

    loss: NDArray[np.float64]
    inside: NDArray[np.float64]


def pinball(quantiles: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """[n, q] and [n] to [n]: the mean over the quantiles."""
    error = y[:, None] - quantiles
    mean: NDArray[np.float64] = np.maximum(_Q * error, (_Q - 1.0) * error).mean(axis=1)
    return mean


def score(weights: Weights, made: Made, *, skip: int = 2 * WARM_UP) -> Score:
    """Run the service's forecaster and the baselines over `made`.

    A baseline's band is its middle and the 5 % and 95 % quantiles of its own errors so far, as expanding estimates,
    so that it is not beaten by its lack of a band alone. NaN values are gaps.
    """
    n, t = made.values.shape
    x = np.ascontiguousarray(made.values.T)
    beside = np.ascontiguousarray(made.covariates.T)
    forecaster = Forecaster(weights, int(made.step * 1e9))
    said = np.full((2, t, n, len(HORIZONS), len(QUANTILES)), np.nan, np.float32)
    for k in range(t):
        said[0, k] = forecaster.step(int((made.start + k * made.step) * 1e9), x[k], beside[k])
        said[1, k] = forecaster.network_alone(x[k])
    middles = {"last_value": _filled(x), "ewma": _ewma(x)}
    unit = spread(made.values)
    loss = np.full((len(METHODS), len(HORIZONS), n), np.nan)
    inside = np.full(len(HORIZONS), np.nan)
    for j, steps in enumerate(HORIZONS):
        if steps + skip >= t:
            continue
        y = x[skip + steps:]
        there = np.isfinite(y) & np.isfinite(x[skip:-steps])
        bands = [said[0, skip:-steps, :, j].astype(float), said[1, skip:-steps, :, j].astype(float)]
        for name in METHODS[2:]:
            middle = _seasonal(x, made.step, steps) if name == "season" else middles[name]
            bands.append(_banded(x, middle, steps)[skip:-steps])
        for m, band in enumerate(bands):
            lost = np.minimum(pinball(band.reshape(-1, 3), y.reshape(-1)).reshape(y.shape) / unit, 10.0)
            count = there.sum(axis=0)
            loss[m, j] = np.where(count > 0, np.where(there, lost, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)
        held = (y >= bands[0][..., 0]) & (y <= bands[0][..., 2]) & there
        inside[j] = held.sum() / max(there.sum(), 1)
    return Score(loss, inside)


def spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """[n]: the mean deviation from the median of each row, the unit of losses. Of the whole series: the running scale
    of one that was quiet for long is next to nothing, and every burst would be as bad as the worst."""
    from warnings import catch_warnings, simplefilter

    with catch_warnings():
        simplefilter("ignore", RuntimeWarning)  # rows without any value: their unit does not matter
        middle = np.nanmedian(values, axis=1)
        wide: NDArray[np.float64] = np.nanmean(np.abs(values - middle[:, None]), axis=1)
    return np.where(np.isfinite(wide), wide, 1.0) + 1e-9 * np.abs(np.nan_to_num(middle)) + 1e-12


def table(scores: Iterable[Score]) -> dict[str, dict[str, float]]:
    """method -> horizon -> mean loss over all series; `coverage90` is that of opsmend's band."""
    found = list(scores)
    loss = _mean(np.concatenate([s.loss for s in found], axis=2), 2)
    inside = _mean(np.stack([s.inside for s in found]), 0)
    here = [j for j in range(len(HORIZONS)) if np.isfinite(inside[j])]
    made = {name: {str(HORIZONS[j]): round(float(loss[m, j]), 4) for j in here} for m, name in enumerate(METHODS)}
    return {**made, "coverage90": {str(HORIZONS[j]): round(float(inside[j]), 3) for j in here}}


def _mean(x: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Of what is finite; NaN where nothing is."""
    there = np.isfinite(x)
    count = there.sum(axis=axis)
    mean: NDArray[np.float64] = np.where(count > 0, np.where(there, x, 0.0).sum(axis=axis) / np.maximum(count, 1), np.nan)
    return mean


def _filled(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The last value there was."""
    at = np.maximum.accumulate(np.where(np.isfinite(x), np.arange(len(x))[:, None], 0), axis=0)
    return np.take_along_axis(x, at, axis=0)


def _ewma(x: NDArray[np.float64], rate: float = 0.3) -> NDArray[np.float64]:
    made, level = np.empty_like(x), x[0].copy()
    for k, row in enumerate(x):
        level = np.where(np.isfinite(row), np.where(np.isfinite(level), level + rate * (row - level), row), level)
        made[k] = level
    return made


def _seasonal(x: NDArray[np.float64], step: float, steps: int) -> NDArray[np.float64]:
    """The value of as many whole days ago as it takes; the last value where there is no such day yet."""
    day = max(1, round(_DAY / step))
    back = -(-steps // day) * day - steps
    made = _filled(x)
    if back < len(x):
        old = made[: len(x) - back].copy()
        made[back:] = old
    return made


def _banded(x: NDArray[np.float64], middle: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    """[t, n, 3]: the middle and expanding estimates of its errors' quantiles, each moved by a step that shrinks."""
    band = np.zeros((*x.shape, 3))
    low, high, spread, n = (np.zeros(x.shape[1]) for _ in range(4))
    for k in range(len(x)):
        if k >= steps:
            error = x[k] - middle[k - steps]
            there = np.isfinite(error)
            error = np.where(there, error, 0.0)
            n += there
            spread += np.where(there, (np.abs(error) - spread) / np.maximum(n, 1.0), 0.0)
            pace = spread * np.maximum(0.02, 1.0 / np.maximum(n, 1.0)) * there
            low += pace * 2 * (0.05 - (error < low)) * 4
            high += pace * 2 * (0.95 - (error < high)) * 4
        band[k, :, 0], band[k, :, 1], band[k, :, 2] = middle[k] + low, middle[k], middle[k] + high
    return band
