"""Is a series a count of things in use, with the noise that counts have? Compiled.

A pool of connections is exhausted when one of its peaks touches the limit, and until then its noise, which is that of
chance arrivals, hides a good part of the ramp: a gate that judges by how clear a rise is can't become as sure of it as of
a disk.
"""

from __future__ import annotations

import math
from typing import Final

from detect.breach.fits import Floats, middle
from ingest.compiled import compiled

_WINDOW: Final = 120
_FEWEST: Final = 20
"""Changes from tick to tick that are needed."""
_WHOLE: Final = 0.9
"""Share of them that has to be a multiple of the smallest one."""
_FINEST: Final = 1 / 2000
"""Grain over the limit: what is finer than this is not counted in pieces that matter."""
_CHANCE: Final = (0.2, 3.0)
"""Variance over mean, in grains. 1 for Poisson; a middle of several samples has a grain of a part of one."""


@compiled()
def is_count(y: Floats, used: float, within: float, size: float, scratch: Floats) -> bool:
    """`y`: ticks, the newest last, NaN: missing; `used` of the limit, `within`: deviation of samples within a tick;
    `size`: the limit. Cost: 1 us. Fails (false) on counts that are averaged over a long time, and on very large ones."""
    n, grain, before = 0, math.inf, math.nan
    for i in range(max(0, len(y) - _WINDOW), len(y)):
        if math.isnan(y[i]):
            continue
        step = abs(y[i] - before)
        if step > 1e-9 * size:  # false for the first
            scratch[n] = step
            n += 1
            grain = min(grain, step)
        before = y[i]
    if n < _FEWEST or grain < _FINEST * size or not used > 0.0:
        return False
    whole = 0
    for i in range(n):
        times = scratch[i] / grain
        whole += abs(times - round(times)) < 0.02
    if whole < _WHOLE * n:
        return False
    noise = middle(scratch, n) / 0.954
    variance, mean = noise * noise + within * within, used * grain  # never divided: both may be as small as floats get
    return _CHANCE[0] * mean < variance < _CHANCE[1] * mean
