"""Compiled: who forecast best lately, the joined forecast, and bands that hold what they promise.

Three candidates for every horizon: the network, EWMA (slow beyond a few steps) and the season. One forecast of each
waits per horizon until its time has come; its pinball loss then moves the candidate's record, and whether the value
was inside moves the width of the band (an online conformal step for either side). So long horizons are judged as
honestly as the next step, at a cost that does not depend on how long they are.
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
def _judge(p: NDArray[np.float32], t: NDArray[np.float32], y: float, scale: float, k: int) -> None:
    """`y` is the value, relative to the origin, that horizon `k`'s waiting forecasts were about."""
    rate = max(0.05 if k == 0 else (0.1 if k == 1 else 0.2), 1.0 / (t[7] + 3.0))
    for c in range(3):
        middle = p[3 * c + 1]
        if middle == middle:
            loss = min(_pinball(p[3 * c], middle, p[3 * c + 2], y) / scale, 10.0)
            t[c] += np.float32(rate * (loss - t[c]))
            t[8 + c] = _trust(t[c])
            if c > 0:
                error, known = abs(y - middle), t[2 + c]
                wide = min(error, 4.0 * known) if known > 0.0 and t[7] > 5.0 else error
                t[2 + c] += np.float32(rate * (wide - known)) if known > 0.0 else np.float32(error)
    pace = 0.04 if k < 2 else 0.1
    t[5] = min(max(t[5] * np.exp(pace * ((1.0 if y < p[9] else 0.0) - 0.05)), 0.3), 5.0)
    t[6] = min(max(t[6] * np.exp(pace * ((1.0 if y > p[10] else 0.0) - 0.05)), 0.3), 5.0)
    t[7] += np.float32(1.0)


@compiled(error_model="numpy")
def _candidates(p: NDArray[np.float32], t: NDArray[np.float32], raw: NDArray[np.float32], s: NDArray[np.float64],
                y: float, k: int) -> None:
    """Fill `p` with the quantiles of network, EWMA and season for horizon `k`, relative to the origin."""
    scale = s[3]
    a, b, c = raw[3 * k], raw[3 * k + 1], raw[3 * k + 2]
    low, high = min(a, min(b, c)), max(a, max(b, c))
    p[0], p[1], p[2] = y + scale * low, y + scale * (a + b + c - low - high), y + scale * high
    level = (s[5] if k < 2 else s[6]) - s[17]
    # Of one value nothing is known but its size; of a few, less than it seems.
    young = 1.6 * (1.0 + 4.0 / s[0]) * (scale if s[0] > 1.0 else 0.1 * abs(s[4])) * (1.0 + 0.3 * k)
    half = 2.06 * t[3] if t[7] > 20.0 or (k > 0 and t[7] > 2.0) else max(2.06 * t[3], young)
    p[3], p[4], p[5] = level - half, level, level + half
    half = 2.06 * (t[4] if t[4] > 0.0 else s[16] + 0.1 * scale)
    p[6], p[7], p[8] = s[23 + k] - half, s[23 + k], s[23 + k] + half


@compiled(error_model="numpy")
def _join(p: NDArray[np.float32], t: NDArray[np.float32], warm: bool, out: NDArray[np.float64]) -> None:
    """Quantiles averaged by trust, and the band made as wide as its record says."""
    total = low = middle = high = 0.0
    for c in range(3):
        if (c == 0 and not warm) or p[3 * c + 1] != p[3 * c + 1]:
            continue
        share = t[8 + c]
        total += share
        low += share * p[3 * c]
        middle += share * p[3 * c + 1]
        high += share * p[3 * c + 2]
    total = 1.0 / total
    low, middle, high = low * total, middle * total, high * total
    out[0], out[1], out[2] = middle - (middle - low) * t[5], middle, middle + (high - middle) * t[6]
    p[9], p[10] = out[0], out[2]


@compiled("void(int64[::1],float64[::1],float32[:,::1],float64[:,::1],float64[:,::1],float32[:,:,::1],"
          "float32[:,:,::1],float32[:,:,::1],float64[:,:,::1],float64[:,::1])", error_model="numpy")
def settle(at: NDArray[np.int64], values: NDArray[np.float64], raw: NDArray[np.float32], scalars: NDArray[np.float64],
           due: NDArray[np.float64], pending: NDArray[np.float32], track: NDArray[np.float32],
           ring: NDArray[np.float32], out: NDArray[np.float64], lagged: NDArray[np.float64]) -> None:
    """Judge what has come due, and join `raw` ([m, horizons * 3], in scales from the value) with the other candidates.

    Writes `out` [n, horizons, 3] and `lagged` [n, 3] (what was said of now 30 steps ago; NaN where nothing was) for
    the series in `at`. `due` [n, horizons] is the tick of the waiting forecasts, -1 where none waits.
    """
    scratch = np.empty(PENDING, np.float32)
    for a in range(len(at)):
        i = at[a]
        s, tick, scale = scalars[i], scalars[i, 1], scalars[i, 3]
        y = values[i] - s[17]
        skipped = min(int(tick - s[28]), 31) if s[0] > 1.0 else 31
        for k in range(1, skipped):
            ring[i, int(tick - k) % 30, :] = np.float32(np.nan)
        s[28] = tick
        slot = int(tick) % 30
        fresh = skipped < 31
        for q in range(3):
            lagged[i, q] = ring[i, slot, q] + s[17] if fresh else np.nan
        warm = s[10] >= 60.0
        for k in range(5):
            p, t = pending[i, k], track[i, k]
            steps = 1.0 if k == 0 else (6.0 if k == 1 else (30.0 if k == 2 else (180.0 if k == 3 else 1800.0)))
            if due[i, k] == tick:
                _judge(p, t, y, scale, k)
            if due[i, k] <= tick:
                _candidates(p, t, raw[a], s, y, k)
                _join(p, t, warm, out[i, k])
                due[i, k] = tick + steps
            else:
                _candidates(scratch, t, raw[a], s, y, k)
                _join(scratch, t, warm, out[i, k])
        for q in range(3):
            ring[i, slot, q] = np.float32(out[i, 2, q])
            for k in range(5):
                out[i, k, q] += s[17]
