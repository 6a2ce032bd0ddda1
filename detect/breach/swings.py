"""What the earlier ups and downs of a series say about the rise that goes on now. Compiled."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from detect.breach.fits import Floats, middle
from detect.breach.memory import AT_PIVOTS, EXTREME, EXTREME_AT, LAST, N_PIVOTS, PIVOTS, SWING
from ingest.compiled import compiled

SWING_NAMES: Final = (
    "swing_up", "swing_minutes", "swing_rise", "swing_slope_eta", "swings_like_it", "highest_rise_ratio",
    "longest_rise_ratio", "slope_ratio", "over_peaks", "tooth_left", "fallen", "peaks_eta", "peaks_sure", "peaks_n",
    "floor_eta", "floor_sure", "since_trough")
N_SWING: Final = len(SWING_NAMES)
_ENVELOPE = 10


@compiled()
def log_eta(left: float, slope: float) -> float:
    """Logarithm of the ticks until `left` is used up; 10 (22,000) for never."""
    if not slope > 0.0 or math.isnan(left):
        return 10.0
    return min(10.0, max(0.0, math.log(max(left, 1e-12 * slope) / slope)))


@compiled()
def ratio(a: float, b: float, most: float) -> float:
    """a / b, at most `most` either way."""
    if b == 0.0 or math.isnan(a) or math.isnan(b):
        return math.nan
    return max(-most, min(most, a / b))


@compiled()
def _envelope(state: Floats, oldest: int, newest: int, left_of: float, up: bool, scratch: Floats,
              out: Floats, at: int) -> int:
    """A line through the last peaks (or troughs): log time to the limit, slope over error. How many there were."""
    n = 0
    times, values = scratch[:_ENVELOPE], scratch[_ENVELOPE:2 * _ENVELOPE]
    for k in range(newest, oldest, -1):
        p = AT_PIVOTS + 2 * (k % PIVOTS)
        q = AT_PIVOTS + 2 * ((k - 1) % PIVOTS)
        if (state[p + 1] > state[q + 1]) == up and n < _ENVELOPE:
            times[n] = state[p]
            values[n] = state[p + 1]
            n += 1
    out[at], out[at + 1] = math.nan, math.nan
    if n < 3:
        return n
    slopes = scratch[2 * _ENVELOPE:]
    pairs = 0
    for i in range(n):
        for j in range(i):
            if times[j] > times[i]:
                slopes[pairs] = (values[j] - values[i]) / (times[j] - times[i])
                pairs += 1
    slope = float(np.median(slopes[:pairs]))
    for i in range(n):
        slopes[i] = values[i] - slope * times[i]
    base = middle(slopes, n)
    mean_at, spread, around = 0.0, 0.0, 0.0
    for i in range(n):
        mean_at += times[i] / n
    for i in range(n):
        spread += (times[i] - mean_at) ** 2
        around += abs(values[i] - base - slope * times[i]) / n
    out[at] = log_eta(left_of - base - slope * state[LAST], slope)
    error = (1.25 * around + 1e-9) / math.sqrt(max(spread, 1e-9))
    out[at + 1] = max(-30.0, min(30.0, slope / error))
    return n


@compiled()
def swing_features(state: Floats, level: float, limit: float, scratch: Floats, out: Floats, at: int) -> None:
    """Writes N_SWING features from `at` on."""
    left = limit - level
    count = int(state[N_PIVOTS])
    for k in range(N_SWING):
        out[at + k] = math.nan
    up = state[SWING] > 0.0
    out[at] = state[SWING]
    rise, minutes = math.nan, math.nan
    if up and count > 0:
        p = AT_PIVOTS + 2 * ((count - 1) % PIVOTS)
        rise = max(level, state[EXTREME]) - state[p + 1]
        minutes = state[LAST] - state[p]
        out[at + 1] = math.log1p(max(0.0, minutes))
        out[at + 2] = ratio(rise, left, 50.0)
        out[at + 3] = log_eta(left, rise / max(1.0, minutes))
        out[at + 16] = math.log1p(max(0.0, state[LAST] - state[EXTREME_AT]))
    oldest = max(0, count - PIVOTS)
    highest, longest, peak, like, n = 0.0, 0.0, -math.inf, 0, 0
    slopes = scratch[:PIVOTS]
    for k in range(oldest + 1, count):
        p = AT_PIVOTS + 2 * (k % PIVOTS)
        q = AT_PIVOTS + 2 * ((k - 1) % PIVOTS)
        height = state[p + 1] - state[q + 1]
        if height <= 0.0:
            continue
        peak = max(peak, state[p + 1])
        lasted = max(1.0, state[p] - state[q])
        highest = max(highest, height)
        longest = max(longest, lasted)
        slopes[n] = height / lasted
        n += 1
        like += height >= 0.5 * rise
    out[at + 4] = float(like)
    if n > 0:
        out[at + 5] = ratio(highest, rise, 20.0)
        out[at + 6] = ratio(longest, minutes, 20.0)
        out[at + 7] = ratio(middle(slopes, n) * minutes, rise, 20.0)
        out[at + 8] = ratio(level - peak, left, 20.0)
        out[at + 9] = ratio(highest - rise, left, 20.0)
    if count > 1:
        p = AT_PIVOTS + 2 * ((count - 1) % PIVOTS)
        q = AT_PIVOTS + 2 * ((count - 2) % PIVOTS)
        out[at + 10] = ratio(state[q + 1] - state[p + 1], left, 20.0)
    out[at + 13] = float(_envelope(state, oldest, count - 1, limit, True, scratch, out, at + 11))
    _envelope(state, oldest, count - 1, limit, False, scratch, out, at + 14)
