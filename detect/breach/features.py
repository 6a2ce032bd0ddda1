"""What a series looks like now, in numbers without a scale: the input of the shipped models. Compiled.

Times are in ticks, heights are divided by what is left up to the limit. Missing features are NaN.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from detect.breach.counts import is_count
from detect.breach.fits import Floats, block_middles, hinge, middle, robust_line
from detect.breach.memory import (
    AT_BLOCKS,
    AT_RING,
    BLOCK,
    BLOCKS,
    COUNT,
    FIRST,
    LAST,
    RING,
    WITHIN,
    noise_of,
    push,
)
from detect.breach.swings import SWING_NAMES, log_eta, ratio, swing_features
from ingest.compiled import compiled

WINDOWS: Final = np.array([[1, 8], [2, 8], [3, 10], [5, 12], [10, 12], [20, 12], [40, 12]])
"""Ticks in a block, blocks in a window: 8, 16, 30, 60, 120, 240 and 480 ticks."""
_W: Final = len(WINDOWS)
_PER_WINDOW: Final = ("eta", "sure", "bend", "rough", "excursion")
_HINGE: Final = ("since", "rise", "eta", "explains", "beyond_line", "bend", "asymptote", "over_before")
_GENERAL: Final = (
    "level", "age", "noise_left", "noise_size", "gaps", "best_eta", "best_sure", "best_window", "best_share",
    "rank", "over_30", "over_120", "over_480", "day_level", "day_rise", "day_slope", "drop_60",
    "within_left", "reach", "reach2_eta", "reach3_eta", "reach3_fine_eta", "reach3_coarse_eta")
FEATURES: Final = (
    tuple(f"{name}_{b * n}" for b, n in WINDOWS.tolist() for name in _PER_WINDOW)
    + tuple(f"fine_{name}" for name in _HINGE) + tuple(f"coarse_{name}" for name in _HINGE)
    + _GENERAL + SWING_NAMES)
N_FEATURES: Final = len(FEATURES)
COUNTED: Final = N_FEATURES
"""Column beside the features: 1 for a series that counts things (`detect.breach.counts`). The trees don't see it."""
N_COLUMNS: Final = N_FEATURES + 1
_NW: Final = len(_PER_WINDOW)
_NH: Final = len(_HINGE)
AT_HINGE: Final = _W * _NW
AT_GENERAL: Final = AT_HINGE + 2 * _NH
AT_SWING: Final = AT_GENERAL + len(_GENERAL)
LEVEL: Final = AT_GENERAL
BEST_ETA: Final = AT_GENERAL + 5
BEST_SURE: Final = AT_GENERAL + 6
SCRATCH: Final = 2048
SMALLEST: Final = 1e-200
"""Shares of what is left have to stay numbers; nearer to the limit than this is at it."""


@compiled()
def _hinge_features(y: Floats, n: int, size: float, left: float, fit: Floats, out: Floats, at: int) -> None:
    """`y[:n]` blocks of `size` ticks, the newest last."""
    for k in range(_NH):
        out[at + k] = math.nan
    if not hinge(y, n, fit):
        return
    turn, slope = int(fit[0]), fit[2] / size
    lasted = (n - 1 - turn) * size
    out[at] = math.log1p(lasted)
    out[at + 1] = ratio(slope * lasted, left, 50.0)
    out[at + 2] = log_eta(left, slope)
    out[at + 3] = fit[4]
    out[at + 4] = fit[5]
    # Slopes of the thirds of the ramp: does it bend, and where would an exponential end?
    third = max(1, (n - turn) // 3)
    if n - 1 - third * 3 >= 0 and third >= 1:
        means = fit[6:10]
        for q in range(4):
            total, there = 0.0, 0
            centre = n - 1 - (3 - q) * third
            for j in range(max(0, centre - third // 2), min(n, centre + third // 2 + 1)):
                if not math.isnan(y[j]):
                    total += y[j]
                    there += 1
            means[q] = total / there if there else math.nan
        first, second, last = means[1] - means[0], means[2] - means[1], means[3] - means[2]
        out[at + 5] = ratio(last - first, abs(first) + abs(second) + abs(last) + 1e-300, 3.0)
        if first > last > 0.0:
            shrink = math.sqrt(last / first)
            out[at + 6] = ratio(last * shrink / (1.0 - shrink), left, 20.0) if shrink < 1.0 else 20.0
        elif last > 0.0:
            out[at + 6] = 20.0
        else:
            out[at + 6] = 0.0
    most, there = -math.inf, 0
    for j in range(turn):
        if not math.isnan(y[j]):
            most = max(most, y[j])
            there += 1
    if there:
        out[at + 7] = ratio(fit[3] - most, left, 20.0)


@compiled()
def _block(state: Floats, newest: int, ago: int) -> float:
    """Median of the block `ago` blocks before the newest whole one."""
    if ago >= BLOCKS or newest - ago < 0:
        return math.nan
    return float(state[AT_BLOCKS + (newest - ago) % BLOCKS])


@compiled()
def _history(state: Floats, level: float, left: float, ahead: float, out: Floats, at: int) -> None:
    """rank, over_30.., day_.., drop_60."""
    newest = int(state[LAST]) // BLOCK - 1
    above, there = 0, 0
    older = (3, 12, 48)
    most = (-math.inf, -math.inf, -math.inf)
    m0, m1, m2 = most
    drop, highest = 0.0, -math.inf
    for ago in range(BLOCKS - 1):
        v = _block(state, newest, ago)
        if math.isnan(v):
            continue
        there += 1
        above += v >= level
        if ago >= older[0]:
            m0 = max(m0, v)
        if ago >= older[1]:
            m1 = max(m1, v)
        if ago >= older[2]:
            m2 = max(m2, v)
        if ago < 12:
            highest = max(highest, v)
    drop = highest - level
    out[at] = above / there if there else math.nan
    out[at + 1] = ratio(level - m0, left, 20.0) if m0 > -math.inf else math.nan
    out[at + 2] = ratio(level - m1, left, 20.0) if m1 > -math.inf else math.nan
    out[at + 3] = ratio(level - m2, left, 20.0) if m2 > -math.inf else math.nan
    day = 24 * 60 // BLOCK
    then = _block(state, newest, day)
    out[at + 4], out[at + 5], out[at + 6] = math.nan, math.nan, math.nan
    if not math.isnan(then):
        out[at + 4] = ratio(level - then, left, 20.0)
        highest = then
        for ago in range(day - 1, max(0, day - 1 - int(ahead) // BLOCK), -1):
            v = _block(state, newest, ago)
            if not math.isnan(v):
                highest = max(highest, v)
        out[at + 5] = ratio(highest - then, left, 20.0)
        earlier = _block(state, newest, day + 12)
        if not math.isnan(earlier):
            out[at + 6] = ratio(then - earlier, left, 20.0)
    out[at + 7] = ratio(drop, left, 20.0) if drop > -math.inf else math.nan


@compiled()
def features(state: Floats, limit: float, size: float, scratch: Floats, out: Floats) -> bool:
    """Fills `out` [N_COLUMNS]. False where there is too little to say anything, or the limit is reached."""
    last = int(state[LAST])
    if last < 0 or state[COUNT] < 6.0:
        return False
    y, blocks, fit, pairs = scratch[:RING], scratch[RING:RING + 300], scratch[RING + 300:RING + 320], scratch[RING + 320:]
    gaps = 0
    for k in range(RING):
        v = state[AT_RING + (last - RING + 1 + k) % RING]
        if last - RING + 1 + k < int(state[FIRST]):
            v = math.nan
        elif k >= RING - 120 and math.isnan(v):
            gaps += 1
        y[k] = v
    n = 0
    for k in range(RING - 1, RING - 16, -1):
        if not math.isnan(y[k]) and n < 5:
            pairs[n] = y[k]
            n += 1
    level = middle(pairs, n)
    out[:] = math.nan
    age = last - state[FIRST] + 1.0
    # The level is that of the shortest line that is there: a median of five lags behind a ramp.
    for w in range(4):
        blocks_n, block = int(WINDOWS[w, 1]), int(WINDOWS[w, 0])
        if block_middles(y, RING - block * blocks_n, block, blocks_n, blocks, pairs) >= 5 and \
                robust_line(blocks, blocks_n, pairs, fit):
            candidate = fit[2] + fit[0] / block * 0.5 * (block - 1)
            if w >= 1 or fit[3] < 0.02 * abs(limit - candidate):
                level = candidate
                break
    left = limit - level
    if not left > SMALLEST:
        return False
    best, best_eta, best_window, best_share = 0.0, 10.0, math.nan, math.nan
    for w in range(_W):
        blocks_n, block = int(WINDOWS[w, 1]), int(WINDOWS[w, 0])
        wide = block * blocks_n
        at = w * _NW
        if block_middles(y, RING - wide, block, blocks_n, blocks, pairs) < 5 or wide > 2.5 * age:
            continue
        if not robust_line(blocks, blocks_n, pairs, fit):
            continue
        slope = fit[0] / block
        error = max(fit[1] / block, 1e-4 * left / wide)
        out[at] = log_eta(left, slope)
        sure = slope / error
        out[at + 1] = max(-30.0, min(60.0, sure))
        out[at + 2] = ratio(fit[4], abs(fit[0]) + fit[1], 10.0)
        out[at + 3] = ratio(fit[3], left, 10.0)
        most = -math.inf
        for j in range(blocks_n):
            if not math.isnan(blocks[j]):
                most = max(most, blocks[j] - level)
        out[at + 4] = ratio(most, left, 10.0)
        share = wide / max(1.0, left / slope) if slope > 0.0 else 0.0
        score = min(sure, 12.0) * min(1.0, share / 0.15)
        if score > best:
            best, best_eta, best_window, best_share = score, out[at], float(wide), share
    g = AT_GENERAL
    out[g] = 1.0 - left / size
    out[g + 1] = math.log(age)
    noise = noise_of(state, pairs)
    out[g + 2] = ratio(noise, left, 10.0)
    out[g + 3] = ratio(noise, size, 10.0)
    out[g + 4] = gaps / 120.0
    out[g + 5] = best_eta
    out[g + 6] = best
    out[g + 7] = best_window
    out[g + 8] = min(best_share, 20.0) if best_share == best_share else math.nan
    _history(state, level, left, math.exp(best_eta) if best_eta < 7.0 else 480.0, out, g + 9)
    n = 80
    block_middles(y, RING - 240, 3, n, blocks, pairs)
    _hinge_features(blocks, n, 3.0, left, fit, out, AT_HINGE)
    newest = last // BLOCK - 1
    n = 144
    for k in range(n):
        ago = n - 1 - k
        blocks[k] = _block(state, newest, ago)
    _hinge_features(blocks, n, float(BLOCK), left, fit, out, AT_HINGE + _NH)
    # A count crosses when one of its peaks does, not when its mean would.
    reach = math.sqrt(noise * noise + state[WITHIN] * state[WITHIN])
    r = AT_GENERAL + 17
    out[r] = ratio(state[WITHIN], left, 10.0)
    out[r + 1] = ratio(reach, left, 10.0)
    slope = left / math.exp(best_eta) if best_eta < 10.0 else 0.0
    out[r + 2] = log_eta(left - 2.0 * reach, slope)
    out[r + 3] = log_eta(left - 3.0 * reach, slope)
    for h in range(2):
        eta = out[AT_HINGE + h * _NH + 2]
        if eta < 10.0:
            out[r + 4 + h] = log_eta(left - 3.0 * reach, left / math.exp(eta))
    swing_features(state, level, limit, pairs, out, AT_SWING)
    out[COUNTED] = is_count(y, size - left, state[WITHIN], size, pairs)
    return True


@compiled("void(float64[::1], int64[::1], float64[::1], float64[::1], float64, float64, float64[:, ::1],"
          " boolean[::1], int64)")
def run(state: Floats, ticks: np.ndarray[tuple[int], np.dtype[np.int64]], values: Floats, spreads: Floats,
        limit: float, size: float, out: np.ndarray[tuple[int, int], np.dtype[np.float64]],
        there: np.ndarray[tuple[int], np.dtype[np.bool_]], every: int) -> None:
    """`push` for each tick, and its features (each `every`th tick) into a row of `out`; `there` says which have any."""
    scratch = np.empty(SCRATCH)
    for i in range(len(ticks)):
        push(state, ticks[i], values[i], spreads[i], size, scratch)
        there[i] = ticks[i] % every == 0 and features(state, limit, size, scratch, out[i])
