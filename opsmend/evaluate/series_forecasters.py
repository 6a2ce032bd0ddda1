"""Forecasters that stand in for the LSTM, so that the table shows what it adds."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest.compiled import compiled

Floats = NDArray[np.float64]
_TERMS = 11


class Ewma:
    """The exponentially weighted mean (0.01) of each series, before the value."""

    def __init__(self, rate: float = 0.01) -> None:
        self._rate = rate
        self._mean = np.zeros(0)
        self._count = np.zeros(0)

    def expected(self, ts_ns: int, values: Floats) -> Floats:
        """See detect.evidence.streams.Expects."""
        more = len(values) - len(self._mean)
        if more > 0:
            self._mean = np.concatenate([self._mean, np.zeros(more)])
            self._count = np.concatenate([self._count, np.zeros(more)])
        out = np.where(self._count > 0, self._mean, np.nan)
        good = np.isfinite(values)
        self._count += good
        rate = np.maximum(self._rate, 1.0 / np.maximum(self._count, 1.0))
        self._mean += np.where(good, rate * (np.where(good, values, 0.0) - self._mean), 0.0)
        return out


@compiled("void(f8, f8[::1], f8[:, ::1], f8[:, :, ::1], f8[::1])", error_model="numpy")
def _regress(seconds: Any, values: Any, state: Any, precision: Any, out: Any) -> None:
    """One step of recursive least squares on waves of day (3) and week (2). state: weights, then location, scale,
    count, usual error."""
    f = np.ones(11)
    for k in range(1, 4):
        angle = 2 * np.pi * k * (seconds % 86_400.0) / 86_400.0
        f[2 * k - 1], f[2 * k] = np.sin(angle), np.cos(angle)
    for k in range(1, 3):
        angle = 2 * np.pi * k * (seconds % 604_800.0) / 604_800.0
        f[5 + 2 * k], f[6 + 2 * k] = np.sin(angle), np.cos(angle)
    for i in range(len(values)):
        x, s, p = values[i], state[i], precision[i]
        out[i] = np.nan
        if not np.isfinite(x):
            continue
        count = s[13]
        if count < 20:
            s[11] += (x - s[11]) / (count + 1)
            s[12] += (abs(x - s[11]) - s[12]) / (count + 1)
        else:
            if count == 20:
                s[12] = max(s[12], 1e-6 * abs(s[11]) + 1e-9)
                s[14] = 1.0
                p[:] = np.eye(11) * 10.0
            told = 0.0
            for k in range(11):
                told += s[k] * f[k]
            out[i] = s[11] + told * s[12]
            error = (x - s[11]) / s[12] - told
            s[14] += 0.01 * (min(abs(error), 4 * s[14]) - s[14])
            if count > 200:
                error = min(max(error, -4 * s[14]), 4 * s[14])
            pf = p @ f
            gain = pf / (0.9995 + f @ pf)
            largest = 0.0
            for k in range(11):
                s[k] += gain[k] * error
                for j in range(11):
                    p[k, j] = (p[k, j] - gain[k] * pf[j]) / 0.9995
                largest = max(largest, p[k, k])
            if largest > 1e3:
                p *= 1e3 / largest
        s[13] += 1


class SeasonalRegression:
    """Regression on the waves of day and week, learned by recursive least squares that forgets (half-life 1,386)."""

    def __init__(self) -> None:
        self._state = np.zeros((0, _TERMS + 4))
        self._precision = np.zeros((0, _TERMS, _TERMS))

    def expected(self, ts_ns: int, values: Floats) -> Floats:
        """See detect.evidence.streams.Expects."""
        more = len(values) - len(self._state)
        if more > 0:
            self._state = np.concatenate([self._state, np.zeros((more, _TERMS + 4))])
            self._precision = np.concatenate([self._precision, np.zeros((more, _TERMS, _TERMS))])
        out = np.empty(len(values))
        _regress(ts_ns / 1e9, np.ascontiguousarray(values, float), self._state, self._precision, out)
        return out


class Silent:
    """Forecasts nothing: both residual streams stay empty."""

    def expected(self, ts_ns: int, values: Floats) -> Floats:
        """See detect.evidence.streams.Expects."""
        return np.full(len(values), np.nan)
