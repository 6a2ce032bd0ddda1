"""What is kept of a series: minutes, blocks of minutes, turning points. One row of numbers, of fixed length.

Values are in the direction of the limit (`y` grows towards it, sign turned for a floor). A *tick* is a minute unless
the service runs faster. Compiled.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from detect.breach.fits import Floats, middle, middle_half
from ingest.compiled import compiled

RING: Final = 480
"""Ticks kept one by one."""
BLOCK: Final = 10
"""Ticks in a block."""
BLOCKS: Final = 290
"""Blocks kept: two days and a little."""
PIVOTS: Final = 48
"""Turning points kept (time, value)."""

LAST, FIRST, COUNT, NOISE, PEAK, SWING, EXTREME_AT, EXTREME, N_PIVOTS, RECENT1, RECENT2, WITHIN = range(12)
HEAD: Final = 16
AT_RING: Final = HEAD
AT_BLOCKS: Final = AT_RING + RING
AT_PIVOTS: Final = AT_BLOCKS + BLOCKS
STATE: Final = AT_PIVOTS + 2 * PIVOTS
"""Numbers of state per series."""

_JUMPS = 120


def new_state() -> Floats:
    """The state of a series that nothing is known of."""
    state = np.full(STATE, np.nan)
    state[:HEAD] = 0.0
    state[LAST] = state[FIRST] = -1.0
    state[PEAK] = -np.inf
    state[RECENT1] = state[RECENT2] = np.nan
    return state


@compiled()
def noise_of(state: Floats, scratch: Floats) -> float:
    """Standard deviation of one tick around its neighbours, robustly, from the newest two hours."""
    last = int(state[LAST])
    n = 0
    before = math.nan
    for k in range(_JUMPS, -1, -1):
        if last - k < 0:
            continue
        v = state[AT_RING + (last - k) % RING]
        if math.isnan(v):
            continue
        if not math.isnan(before):
            scratch[n] = abs(v - before)
            n += 1
        before = v
    if n < 4:
        return 0.0
    return middle(scratch, n) / 0.954


@compiled()
def _turn(state: Floats, tick: int, y: float, least: float) -> None:
    """Zigzag: a swing ends when the series comes back from its extreme by more than noise and `least`."""
    threshold = max(least, 5.0 * state[NOISE])
    swing = state[SWING]
    if swing == 0.0:
        if math.isnan(state[EXTREME]) or (state[N_PIVOTS] == 0.0 and state[EXTREME_AT] == 0.0):
            state[EXTREME], state[EXTREME_AT] = y, float(tick)
            return
        if abs(y - state[EXTREME]) > threshold:
            swing = 1.0 if y > state[EXTREME] else -1.0
            _pivot(state, state[EXTREME_AT], state[EXTREME])
            state[SWING], state[EXTREME], state[EXTREME_AT] = swing, y, float(tick)
        return
    if (y - state[EXTREME]) * swing >= 0.0:
        state[EXTREME], state[EXTREME_AT] = y, float(tick)
    elif (state[EXTREME] - y) * swing > threshold:
        _pivot(state, state[EXTREME_AT], state[EXTREME])
        state[SWING], state[EXTREME], state[EXTREME_AT] = -swing, y, float(tick)


@compiled()
def _pivot(state: Floats, at: float, y: float) -> None:
    k = int(state[N_PIVOTS]) % PIVOTS
    state[AT_PIVOTS + 2 * k] = at
    state[AT_PIVOTS + 2 * k + 1] = y
    state[N_PIVOTS] += 1.0


@compiled()
def push(state: Floats, tick: int, y: float, spread: float, size: float, scratch: Floats) -> None:
    """One more tick; `spread` is the deviation of its samples around `y`.

    `size` is the scale of the series (its limit); a swing is at least 2 % of it. Ticks that were left out are missing;
    one that is not after the last is ignored. NaN counts as missing.
    """
    last = int(state[LAST])
    if math.isnan(y) or tick <= last:
        return
    if last < 0:
        state[FIRST] = float(tick)
        last = tick - 1
    if tick - last > BLOCK * BLOCKS:  # nothing that is kept reaches back so far
        last = tick - BLOCK * BLOCKS
        state[AT_RING:AT_PIVOTS] = math.nan
    for t in range(last + 1, tick + 1):
        if t % BLOCK == 0:
            n = 0
            for k in range(t - BLOCK, t):
                if k >= 0 and t - k <= RING:
                    v = state[AT_RING + k % RING]
                    if not math.isnan(v):
                        scratch[n] = v
                        n += 1
            state[AT_BLOCKS + (t // BLOCK - 1) % BLOCKS] = middle_half(scratch, n)
        state[AT_RING + t % RING] = math.nan
    state[AT_RING + tick % RING] = y
    state[LAST] = float(tick)
    state[COUNT] += 1.0
    if spread >= 0.0:  # a hundred ticks or so, fewer at first; one spike counts as four times the usual at most
        within = state[WITHIN]
        capped = spread if state[COUNT] < 10.0 else min(spread, 4.0 * within + 0.002 * size)
        state[WITHIN] = within + max(0.01, 1.0 / state[COUNT]) * (capped - within)
    if int(state[COUNT]) % BLOCK == 0:
        state[NOISE] = noise_of(state, scratch)
    one, two = state[RECENT1], state[RECENT2]
    if not math.isnan(two):
        smooth = max(min(one, two), min(max(one, two), y))
        _turn(state, tick, smooth, 0.02 * size)
        state[PEAK] = max(state[PEAK], smooth)
    state[RECENT2], state[RECENT1] = one, y
