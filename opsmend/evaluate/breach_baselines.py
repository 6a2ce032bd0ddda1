"""What people use for early warning today, on the same minutes and with the same scoring."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np

from detect.breach.fits import Floats
from detect.breach.scoring import Told
from detect.breach.series import MINUTE, Recorded
from ingest.compiled import compiled

_ALPHA, _BETA = 0.1, 0.05
"""Of Holt's level and trend, per minute."""


@compiled()
def _least_squares(t: Floats, y: Floats, begin: int, end: int) -> tuple[float, float]:
    """(level at the end, slope per minute) through y[begin:end]; NaN with fewer than three values."""
    n = end - begin
    if n < 3:
        return math.nan, math.nan
    mt, my = 0.0, 0.0
    for i in range(begin, end):
        mt += t[i] / n
        my += y[i] / n
    stt, sty = 0.0, 0.0
    for i in range(begin, end):
        stt += (t[i] - mt) ** 2
        sty += (t[i] - mt) * (y[i] - my)
    slope = sty / stt if stt > 0 else math.nan
    return my + slope * (t[end - 1] - mt), slope


@compiled()
def _theil_sen(t: Floats, y: Floats, begin: int, end: int) -> tuple[float, float]:
    n = end - begin
    if n < 3:
        return math.nan, math.nan
    slopes = np.empty(n * (n - 1) // 2)
    k = 0
    for i in range(begin, end):
        for j in range(begin, i):
            slopes[k] = (y[i] - y[j]) / (t[i] - t[j])
            k += 1
    slope = float(np.median(slopes))
    rest = np.empty(n)
    for i in range(begin, end):
        rest[i - begin] = y[i] - slope * (t[i] - t[end - 1])
    return float(np.median(rest)), slope


@compiled("void(float64[::1], float64[::1], int64, boolean, float64[::1], float64[::1])")
def _lines(t: Floats, y: Floats, minutes: int, robust: bool, level: Floats, slope: Floats) -> None:
    begin = 0
    for i in range(len(t)):
        while t[begin] <= t[i] - minutes:
            begin += 1
        if t[i] - t[begin] < 0.5 * (minutes - 1):
            level[i], slope[i] = math.nan, math.nan
        elif robust:
            level[i], slope[i] = _theil_sen(t, y, begin, i + 1)
        else:
            level[i], slope[i] = _least_squares(t, y, begin, i + 1)


@compiled("void(float64[::1], float64[::1], float64, float64, float64[::1], float64[::1])")
def _holt(t: Floats, y: Floats, alpha: float, beta: float, level: Floats, slope: Floats) -> None:
    at, rise = y[0], 0.0
    level[0], slope[0] = at, rise
    for i in range(1, len(t)):
        gap = t[i] - t[i - 1]
        told = at + rise * gap
        new = told + (1.0 - (1.0 - alpha) ** gap) * (y[i] - told)
        rise += (1.0 - (1.0 - beta) ** gap) * ((new - at) / gap - rise)
        at = new
        level[i], slope[i] = at, rise


def _told(series: Recorded, warns: Floats, eta: Floats, hold: int) -> Told:
    """`hold`: minutes for which the condition has to stand."""
    on = warns.astype(bool)
    held = on.copy()
    run = 0
    for i in range(len(on)):
        run = run + 1 if on[i] else 0
        held[i] = run > hold
    none = np.full(len(eta), np.nan)
    return Told(series.at, held, eta * MINUTE, none, none)


def _eta(series: Recorded, level: Floats, slope: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(slope > 0, np.maximum(series.limit - level, 0.0) / slope, np.inf)


def _line_rule(window: int, horizon: float, hold: int, *, robust: bool = False) -> Callable[[Recorded], Told]:
    def rule(series: Recorded) -> Told:
        t = series.ticks.astype(float)
        level, slope = np.empty(len(t)), np.empty(len(t))
        _lines(t, series.values, window, robust, level, slope)
        eta = _eta(series, level, slope)
        return _told(series, (eta < horizon).astype(float), eta, hold)
    return rule


def _holt_rule(series: Recorded) -> Told:
    t = series.ticks.astype(float)
    level, slope = np.empty(len(t)), np.empty(len(t))
    if len(t):
        _holt(t, series.values, _ALPHA, _BETA, level, slope)
    eta = _eta(series, level, slope)
    return _told(series, (eta < 60).astype(float), eta, 5)


def _last_value_rule(series: Recorded) -> Told:
    near = series.limit - series.values < 0.1 * series.size
    return _told(series, near.astype(float), np.full(len(near), np.inf), 0)


BASELINES: Final[dict[str, Callable[[Recorded], Told]]] = {
    "predict_linear(1h, 4h)": _line_rule(60, 240, 0),
    "predict_linear(15m, 30m) for 5m": _line_rule(15, 30, 5),
    "Holt, under 60 min for 5 min": _holt_rule,
    "Theil-Sen 60 min, under 60 min": _line_rule(60, 60, 0, robust=True),
    "last value within 10 %": _last_value_rule,
}
"""Name and rule. The last tells no time, and is never called early."""
