"""Compiled: who forecast best lately, the joined forecast, and bands that hold what they promise.

Three candidates for every horizon: the network, EWMA (slow beyond a few steps) and the season. One forecast of each
waits per horizon until its time has come; its pinball loss then moves the candidate's record, and whether the value
was inside moves the width of the band (an online conformal step for either side). So long horizons are judged as
honestly as the next step, at a cost that does not depend on how long they are.

As in cell.py the series are the inner dimension, in blocks that stay in the first cache. The columns of a block lie in
one float64 and one float32 array, a constant distance apart: only then does the compiler see that they do not overlap.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ingest.compiled import compiled

# Columns of the [n, horizons, TRACK] float32 record.
LOSS_NETWORK, LOSS_EWMA, LOSS_SEASON, ERROR_EWMA, ERROR_SEASON, WIDTH_LOW, WIDTH_HIGH, JUDGED = range(8)
TRUST = 8
"""Three columns: the inverse loss to the eighth power, of network, EWMA and season."""
TRACK = 11
PENDING = 11
"""Nine quantiles of the candidates, and the joined band."""
LAG = 30
"""Steps for which the forecasts of that horizon are kept, until they come due."""

BLOCK = 128
_PITCH = BLOCK + 16
_TICK, _VALUE, _SCALE, _COUNT, _LAST, _FAST, _SLOW, _SEASON_ERROR, _ORIGIN, _SINCE, _SEASON, _LOW, _MIDDLE, _HIGH, \
    _DUE_VALUE, _DUE_SCALE = (k * _PITCH for k in range(16))
"""Where the float64 columns of a block begin. The value is relative to the origin."""
_WIDE = 16
_P, _T, _RAW = 0, PENDING * _PITCH, (PENDING + TRACK) * _PITCH
"""The same of the float32 ones: candidates, record, what the network said."""
_NARROW = PENDING + TRACK + 3


@compiled(error_model="numpy")
def _pinball(low: float, middle: float, high: float, y: float) -> float:
    """Mean over the three quantiles."""
    total = 0.05 * (y - low) if y > low else 0.95 * (low - y)
    total += 0.5 * abs(y - middle)
    total += 0.95 * (y - high) if y > high else 0.05 * (high - y)
    return total / 3.0


@compiled(error_model="numpy")
def _trust(loss: float) -> float:
    """The eighth power of the inverse: what is a tenth worse gets two thirds as much, half as good next to nothing."""
    inverse = 1.0 / (loss + 1e-3)
    inverse *= inverse
    inverse *= inverse
    return inverse * inverse


@compiled(error_model="numpy")
def _judge(w: NDArray[np.float64], q: NDArray[np.float32], lanes: int, k: int) -> None:
    """The waiting forecasts of horizon `k` against the values that they were about."""
    least = 0.05 if k == 0 else (0.1 if k == 1 else 0.2)
    for c in range(3):
        p, t = _P + 3 * c * _PITCH, _T + c * _PITCH
        for s in range(lanes):
            y, middle, before = w[_DUE_VALUE + s], q[p + _PITCH + s], q[t + s]
            rate = max(least, 1.0 / (q[_T + 7 * _PITCH + s] + 3.0))
            loss = min(_pinball(q[p + s], middle, q[p + 2 * _PITCH + s], y) / w[_DUE_SCALE + s], 10.0)
            after = before + np.float32(rate * (loss - before))
            is_known = middle == middle
            q[t + s] = after if is_known else before
            trust = np.float32(_trust(after))
            q[t + 8 * _PITCH + s] = trust if is_known else q[t + 8 * _PITCH + s]
    for c in range(1, 3):
        p, t = _P + (3 * c + 1) * _PITCH, _T + (2 + c) * _PITCH
        for s in range(lanes):
            middle, known, judged = q[p + s], q[t + s], q[_T + 7 * _PITCH + s]
            rate = max(least, 1.0 / (judged + 3.0))
            error = abs(w[_DUE_VALUE + s] - middle)
            wide = min(error, 4.0 * known) if judged > 5.0 else error
            after = known + (np.float32(rate * (wide - known)) if known > 0.0 else np.float32(error))
            q[t + s] = after if middle == middle else known
    pace = 0.04 if k < 2 else 0.1
    outside, inside = np.exp(pace * (1.0 - 0.05)), np.exp(pace * (0.0 - 0.05))
    for s in range(lanes):
        y = w[_DUE_VALUE + s]
        low, high = q[_T + 5 * _PITCH + s], q[_T + 6 * _PITCH + s]
        q[_T + 5 * _PITCH + s] = min(max(low * (outside if y < q[_P + 9 * _PITCH + s] else inside), 0.3), 5.0)
        q[_T + 6 * _PITCH + s] = min(max(high * (outside if y > q[_P + 10 * _PITCH + s] else inside), 0.3), 5.0)
        q[_T + 7 * _PITCH + s] += np.float32(1.0)


@compiled(error_model="numpy")
def _candidates(w: NDArray[np.float64], q: NDArray[np.float32], lanes: int, k: int) -> None:
    """The quantiles of network, EWMA and season for horizon `k`, relative to the origin."""
    for s in range(lanes):
        y, scale = w[_VALUE + s], w[_SCALE + s]
        a, b, c = q[_RAW + s], q[_RAW + _PITCH + s], q[_RAW + 2 * _PITCH + s]
        low, high = min(a, min(b, c)), max(a, max(b, c))
        q[_P + s] = y + scale * low
        q[_P + _PITCH + s] = y + scale * (a + b + c - low - high)
        q[_P + 2 * _PITCH + s] = y + scale * high
    level_at = _FAST if k < 2 else _SLOW
    for s in range(lanes):
        scale, seen = w[_SCALE + s], w[_COUNT + s]
        error, judged = q[_T + 3 * _PITCH + s], q[_T + 7 * _PITCH + s]
        level = w[level_at + s] - w[_ORIGIN + s]
        # Of one value nothing is known but its size; of a few, less than it seems.
        young = 1.6 * (1.0 + 4.0 / seen) * (scale if seen > 1.0 else 0.1 * abs(w[_LAST + s])) * (1.0 + 0.3 * k)
        half = 2.06 * error
        half = half if judged > (2.0 if k > 0 else 20.0) else max(half, young)
        q[_P + 3 * _PITCH + s], q[_P + 4 * _PITCH + s], q[_P + 5 * _PITCH + s] = level - half, level, level + half
    for s in range(lanes):
        error, season = q[_T + 4 * _PITCH + s], w[_SEASON + s]
        other = w[_SEASON_ERROR + s] + 0.1 * w[_SCALE + s]
        half = 2.06 * (error if error > 0.0 else other)
        q[_P + 6 * _PITCH + s], q[_P + 7 * _PITCH + s], q[_P + 8 * _PITCH + s] = season - half, season, season + half


@compiled(error_model="numpy")
def _join(w: NDArray[np.float64], q: NDArray[np.float32], lanes: int) -> None:
    """Quantiles averaged by trust, and the band made as wide as its record says."""
    for s in range(lanes):
        total = low = middle = high = 0.0
        for c in range(3):
            p = _P + 3 * c * _PITCH + s
            share = q[_T + (8 + c) * _PITCH + s]
            is_in = q[p + _PITCH] == q[p + _PITCH] and (c > 0 or w[_SINCE + s] >= 60.0)
            total += float(share) if is_in else 0.0
            low += float(share * q[p]) if is_in else 0.0
            middle += float(share * q[p + _PITCH]) if is_in else 0.0
            high += float(share * q[p + 2 * _PITCH]) if is_in else 0.0
        total = 1.0 / total
        low, middle, high = low * total, middle * total, high * total
        low = middle - (middle - low) * q[_T + 5 * _PITCH + s]
        high = middle + (high - middle) * q[_T + 6 * _PITCH + s]
        w[_LOW + s], w[_MIDDLE + s], w[_HIGH + s] = low, middle, high
        q[_P + 9 * _PITCH + s], q[_P + 10 * _PITCH + s] = low, high


@compiled(error_model="numpy")
def _enter(at: NDArray[np.int64], start: int, lanes: int, values: NDArray[np.float64], scalars: NDArray[np.float64],
           ring: NDArray[np.float32], lagged: NDArray[np.float64], w: NDArray[np.float64]) -> None:
    """The columns of a block, and what was said of its values 30 steps ago."""
    for s in range(lanes):
        i = at[start + s]
        tick, origin = scalars[i, 1], scalars[i, 17]
        w[_TICK + s], w[_ORIGIN + s], w[_VALUE + s] = tick, origin, values[i] - origin
        w[_SCALE + s], w[_COUNT + s], w[_LAST + s] = scalars[i, 3], scalars[i, 0], scalars[i, 4]
        w[_FAST + s], w[_SLOW + s] = scalars[i, 5], scalars[i, 6]
        w[_SEASON_ERROR + s], w[_SINCE + s] = scalars[i, 16], scalars[i, 10]
        skipped = min(int(tick - scalars[i, 28]), 31) if scalars[i, 0] > 1.0 else 31
        for k in range(1, skipped):
            ring[i, int(tick - k) % 30, :] = np.float32(np.nan)
        scalars[i, 28] = tick
        slot = int(tick) % 30
        fresh = skipped < 31
        for q in range(3):
            lagged[i, q] = ring[i, slot, q] + origin if fresh else np.nan


@compiled("void(int64[::1],float64[::1],float32[:,::1],float64[:,::1],float64[:,::1],float32[:,:,::1],"
          "float32[:,:,::1],float32[:,:,::1],float64[:,:,::1],float64[:,::1])", error_model="numpy")
def settle(at: NDArray[np.int64], values: NDArray[np.float64], raw: NDArray[np.float32], scalars: NDArray[np.float64],
           due: NDArray[np.float64], pending: NDArray[np.float32], track: NDArray[np.float32],
           ring: NDArray[np.float32], out: NDArray[np.float64], lagged: NDArray[np.float64]) -> None:
    """Judge what has come due, and join `raw` ([m, horizons * 3], in scales from the value) with the other candidates.

    Writes `out` [n, horizons, 3] and `lagged` [n, 3] (what was said of now 30 steps ago; NaN where nothing was) for
    the series in `at`. `due` [n, horizons] is the tick of the waiting forecasts, -1 where none waits.
    """
    w, q = np.empty(_WIDE * _PITCH), np.empty(_NARROW * _PITCH, np.float32)
    who = np.empty(BLOCK, np.int64)
    for start in range(0, len(at), BLOCK):
        lanes = min(BLOCK, len(at) - start)
        _enter(at, start, lanes, values, scalars, ring, lagged, w)
        for k in range(5):
            steps = 1.0 if k == 0 else (6.0 if k == 1 else (30.0 if k == 2 else (180.0 if k == 3 else 1800.0)))
            waiting = 0
            for s in range(lanes):
                i = at[start + s]
                if due[i, k] == w[_TICK + s]:
                    who[waiting] = i
                    w[_DUE_VALUE + waiting], w[_DUE_SCALE + waiting] = w[_VALUE + s], w[_SCALE + s]
                    for j in range(11):
                        q[_P + j * _PITCH + waiting] = pending[i, k, j]
                        q[_T + j * _PITCH + waiting] = track[i, k, j]
                    waiting += 1
            if waiting:
                _judge(w, q, waiting, k)
                for s in range(waiting):
                    i = who[s]
                    for j in range(11):
                        track[i, k, j] = q[_T + j * _PITCH + s]
            for s in range(lanes):
                i = at[start + s]
                w[_SEASON + s] = scalars[i, 23 + k]
                for j in range(3):
                    q[_RAW + j * _PITCH + s] = raw[start + s, 3 * k + j]
                for j in range(3, 11):
                    q[_T + j * _PITCH + s] = track[i, k, j]
            _candidates(w, q, lanes, k)
            _join(w, q, lanes)
            for s in range(lanes):
                i, tick, origin = at[start + s], w[_TICK + s], w[_ORIGIN + s]
                low, middle, high = w[_LOW + s], w[_MIDDLE + s], w[_HIGH + s]
                if due[i, k] <= tick:
                    due[i, k] = tick + steps
                    for j in range(11):
                        pending[i, k, j] = q[_P + j * _PITCH + s]
                if k == 2:
                    slot = int(tick) % 30
                    ring[i, slot, 0], ring[i, slot, 1], ring[i, slot, 2] = low, middle, high
                out[i, k, 0], out[i, k, 1], out[i, k, 2] = low + origin, middle + origin, high + origin
