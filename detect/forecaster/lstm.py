"""The forecaster: one LSTM for all series, advanced by one step per bucket for all of them in one batch.

Inference is numpy: at a few hundred series a step costs less than one call into torch, and the state is two
plain arrays. `detect/train.py` trains the same equations in torch; a test holds both against each other.

    i, f, g, o = W x + U h + b;  c = s(f) c + s(i) tanh(g);  h = s(o) tanh(c);  q = V h + d
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]

HIDDEN = 32
HORIZONS = (1, 4, 16, 60)
"""Steps ahead. At one-second buckets up to a minute, at 30-second buckets up to 30 minutes."""
QUANTILES = (0.05, 0.5, 0.95)
FEATURES = 6
MODELS_DIR = Path(__file__).resolve().parent.parent / "models"
WARM_UP = 60
"""Steps until a series' forecasts are used; EWMA until then."""


def _sigmoid(x: Float) -> Float:
    out: Float = (0.5 * (1.0 + np.tanh(0.5 * x))).astype(np.float32)
    return out


@dataclass(frozen=True)
class Weights:
    """Shapes: w [4h, x], u [4h, h], b [4h], v [h*q, h], d [h*q] with h*q = horizons x quantiles."""

    w: Float
    u: Float
    b: Float
    v: Float
    d: Float
    version: str

    @classmethod
    def load(cls, directory: Path = MODELS_DIR) -> Weights:
        """The shipped weights, or those of `directory`. Raises OSError if there are none."""
        from safetensors.numpy import load_file

        tensors = load_file(str(directory / "forecaster.safetensors"))
        card = json.loads((directory / "forecaster.json").read_text())
        w, u, b, v, d = (tensors[name].astype(np.float32) for name in "wubvd")
        return cls(w, u, b, v, d, str(card["version"]))


def features(value: Float, previous: Float, level: Float, ts_ns: int) -> Float:
    """[n, FEATURES] of scaled values: value, step, slow level, time of day and of week."""
    seconds = ts_ns / 1e9
    day, week = 2 * np.pi * (seconds % 86_400) / 86_400, 2 * np.pi * (seconds % 604_800) / 604_800
    n = len(value)
    constant = np.array([np.sin(day), np.cos(day), np.sin(week)], dtype=np.float32)
    return np.concatenate(
        [np.stack([value, value - previous, level], axis=1), np.tile(constant, (n, 1))], axis=1).astype(np.float32)


class Forecaster:
    """State of all series. `step` takes [s] values and gives [s, horizons, quantiles] forecasts.

    Memory: 2 x 32 x 4 bytes of state and 40 bytes of scaling a series. Fails (wide bands) on series whose
    scale changes by orders of magnitude within a minute.
    """

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._h = np.zeros((0, HIDDEN), np.float32)
        self._c = np.zeros((0, HIDDEN), np.float32)
        # columns: location, scale, previous scaled value, slow level, count, recent loss of LSTM, of EWMA, EWMA
        self._s = np.zeros((0, 8))
        self._ahead = np.zeros((0, 2))  # the one-step medians (LSTM, EWMA) to be judged by the next value

    @property
    def counts(self) -> NDArray[np.float64]:
        return self._s[:, 4]

    def _grow(self, size: int) -> None:
        more = size - len(self._s)
        if more > 0:
            self._h = np.concatenate([self._h, np.zeros((more, HIDDEN), np.float32)])
            self._c = np.concatenate([self._c, np.zeros((more, HIDDEN), np.float32)])
            self._s = np.concatenate([self._s, np.zeros((more, 8))])
            self._ahead = np.concatenate([self._ahead, np.full((more, 2), np.nan)])

    def step(self, ts_ns: int, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Advance all series that have a value; others keep their state and get NaN."""
        self._grow(len(values))
        out = np.full((len(values), len(HORIZONS), len(QUANTILES)), np.nan)
        at = np.flatnonzero(np.isfinite(values))
        if len(at) == 0:
            return out
        x, s = values[at], self._s[at]
        self._judge(at, x, s)
        self._rescale(x, s)
        scaled = np.clip((x - s[:, 0]) / s[:, 1], -8, 8)
        previous = np.where(s[:, 4] > 1, s[:, 2], scaled)
        s[:, 3] += 0.02 * (scaled - s[:, 3])
        s[:, 7] = np.where(s[:, 4] > 1, s[:, 7] + 0.3 * (x - s[:, 7]), x)
        w = self._weights
        inputs = features(scaled.astype(np.float32), previous.astype(np.float32), s[:, 3].astype(np.float32), ts_ns)
        gates = inputs @ w.w.T + self._h[at] @ w.u.T + w.b
        i, f, g, o = np.split(gates, 4, axis=1)
        c = _sigmoid(f) * self._c[at] + _sigmoid(i) * np.tanh(g)
        h = (_sigmoid(o) * np.tanh(c)).astype(np.float32)
        delta = (h @ w.v.T + w.d).reshape(len(at), len(HORIZONS), len(QUANTILES))
        # Relative to the value itself: where the input was clipped, the forecast must not be.
        lstm = x[:, None, None] + np.sort(delta, axis=2) * s[:, 1, None, None]
        self._h[at], self._c[at] = h, c
        s[:, 2] = scaled
        self._ahead[at, 0], self._ahead[at, 1] = lstm[:, 0, 1], s[:, 7]
        out[at] = self._blend(lstm, s)
        self._s[at] = s
        return out

    def _judge(self, at: NDArray[np.int64], x: NDArray[np.float64], s: NDArray[np.float64]) -> None:
        """Recent absolute error of both one-step forecasts, in units of the scale."""
        for column, which in ((5, 0), (6, 1)):
            loss = np.abs(x - self._ahead[at, which]) / np.maximum(s[:, 1], 1e-12)
            s[:, column] += np.where(np.isfinite(loss), 0.05 * (np.minimum(loss, 10) - s[:, column]), 0.0)

    @staticmethod
    def _rescale(x: NDArray[np.float64], s: NDArray[np.float64]) -> None:
        """Location and scale: exponentially weighted, with clipped steps so that a spike moves them little."""
        count = s[:, 4]
        rate = np.maximum(0.01, 1.0 / (count + 1.0))
        error = x - s[:, 0]
        bound = np.where(count > 20, 4 * s[:, 1], np.inf)
        error = np.clip(error, -bound, bound)
        s[:, 0] += rate * error
        s[:, 1] += rate * (np.abs(error) - s[:, 1])
        s[:, 1] = np.maximum(s[:, 1], 1e-3 * np.abs(s[:, 0]) + 1e-6)
        s[:, 4] += 1

    @staticmethod
    def _blend(lstm: NDArray[np.float64], s: NDArray[np.float64]) -> NDArray[np.float64]:
        """EWMA with a band of its scale until warm; then by recent loss."""
        steps = np.sqrt(np.array(HORIZONS, float))[None, :, None]
        band = np.array([-2.0, 0.0, 2.0])[None, None, :]
        ewma = s[:, 7, None, None] + band * steps * s[:, 1, None, None]
        # Fourth power: a forecast that was half as good gets a seventeenth, not a third.
        lstm_loss, ewma_loss = s[:, 5] ** 4, s[:, 6] ** 4
        share = np.where(s[:, 4] < WARM_UP, 0.0, (ewma_loss + 1e-12) / (lstm_loss + ewma_loss + 2e-12))
        blended: NDArray[np.float64] = lstm * share[:, None, None] + ewma * (1 - share[:, None, None])
        return blended

    def dump(self) -> dict[str, object]:
        """msgpack-able state. float32 as bytes: exact and small."""
        return {"n": len(self._s), "h": self._h.tobytes(), "c": self._c.tobytes(), "s": self._s.tobytes(),
                "a": self._ahead.tobytes(), "version": self._weights.version}

    def load(self, state: dict[str, object]) -> None:
        """Go on from `dump`. A state of other weights is dropped: the forecaster warms up again."""
        if state["version"] != self._weights.version:
            return
        n = int(state["n"])  # type: ignore[call-overload]
        raw = {k: v for k, v in state.items() if isinstance(v, bytes)}
        self._h = np.frombuffer(raw["h"], np.float32).reshape(n, HIDDEN).copy()
        self._c = np.frombuffer(raw["c"], np.float32).reshape(n, HIDDEN).copy()
        self._s = np.frombuffer(raw["s"]).reshape(n, 8).copy()
        self._ahead = np.frombuffer(raw["a"]).reshape(n, 2).copy()
