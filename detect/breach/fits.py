"""Lines, hinges and curves through short rows of numbers. Missing values (NaN) are left out. Compiled."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ingest.compiled import compiled

Floats = NDArray[np.float64]

FEWEST: Final = 5
"""Blocks with a value that a line needs."""


@compiled()
def middle(values: Floats, n: int) -> float:
    """The median of the first `n` values, which are sorted in place. NaN for none."""
    if n == 0:
        return math.nan
    for i in range(1, n):  # insertion: rows are short and often nearly sorted
        x = values[i]
        j = i - 1
        while j >= 0 and values[j] > x:
            values[j + 1] = values[j]
            j -= 1
        values[j + 1] = x
    if n % 2:
        return float(values[n // 2])
    return 0.5 * float(values[n // 2 - 1] + values[n // 2])


@compiled()
def middle_half(values: Floats, n: int) -> float:
    """Mean of the middle half of the first `n` values, which are sorted in place: as robust as is needed against
    spikes, and a fifth more exact than the median where the noise is that of counts. NaN for none."""
    if n < 4:
        return middle(values, n)
    middle(values, n)
    cut = n // 4
    total = 0.0
    for i in range(cut, n - cut):
        total += values[i]
    return total / (n - 2 * cut)


_RANGE: Final = (0.0, 0.0, 1.128, 1.693, 2.059, 2.326, 2.534)
"""Expected range of so many values with a deviation of 1."""


@compiled()
def deviation(values: Floats, n: int) -> float:
    """Standard deviation of the first `n` values, which are sorted, from their range or (seven and more) quartiles."""
    if n < 2:
        return 0.0
    if n < 7:
        return float(values[n - 1] - values[0]) / _RANGE[n]
    return float(values[n - 1 - n // 4] - values[n // 4]) / 1.35


@compiled()
def block_middles(y: Floats, start: int, size: int, blocks: int, out: Floats, scratch: Floats) -> int:
    """Middles of `blocks` runs of `size` values from `start` on; NaN for a run with none. How many are there."""
    there = 0
    for b in range(blocks):
        n = 0
        for i in range(start + b * size, start + (b + 1) * size):
            if not math.isnan(y[i]):
                scratch[n] = y[i]
                n += 1
        out[b] = middle_half(scratch, n)
        there += n > 0
    return there


@compiled()
def robust_line(y: Floats, n: int, scratch: Floats, out: Floats) -> bool:
    """Theil-Sen through y[:n]. `out`: slope per step, its standard error, level at the last one, robust scale of
    the residuals, curvature (slope of the second half less that of the first). False with too few values."""
    pairs = 0
    there = 0
    first, last = -1, -1
    early, late = 0.0, 0.0
    for j in range(n):
        if math.isnan(y[j]):
            continue
        there += 1
        if first < 0:
            first = j
        last = j
        for i in range(j):
            if not math.isnan(y[i]):
                scratch[pairs] = (y[j] - y[i]) / (j - i)
                pairs += 1
    if there < FEWEST:
        return False
    slope = float(np.median(scratch[:pairs]))
    k = 0
    for j in range(n):
        if not math.isnan(y[j]):
            scratch[k] = y[j] - slope * j
            k += 1
    base = middle(scratch, k)
    mean_at, spread_at = 0.0, 0.0
    for j in range(n):
        if not math.isnan(y[j]):
            mean_at += j
    mean_at /= there
    k = 0
    half = 0.5 * (first + last)
    n_early, n_late = 0, 0
    quarter_early, quarter_late = 0.0, 0.0
    middle_sum, n_middle = 0.0, 0
    for j in range(n):
        if math.isnan(y[j]):
            continue
        rest = y[j] - base - slope * j
        scratch[k] = abs(rest)
        k += 1
        spread_at += (j - mean_at) ** 2
        if j < half - (last - first) / 6.0:
            quarter_early += rest
            n_early += 1
        elif j > half + (last - first) / 6.0:
            quarter_late += rest
            n_late += 1
        else:
            middle_sum += rest
            n_middle += 1
    scale = 1.48 * middle(scratch, k)
    mean_abs = 0.0
    for i in range(k):
        mean_abs += scratch[i]
    scale = max(scale, 0.7 * 1.25 * mean_abs / k)  # half of the residuals may be nought exactly
    if n_early and n_late and n_middle:
        early = middle_sum / n_middle - quarter_early / n_early
        late = quarter_late / n_late - middle_sum / n_middle
    out[0] = slope
    out[1] = scale / math.sqrt(spread_at)
    out[2] = base + slope * (n - 1)
    out[3] = scale
    out[4] = (late - early) / max(1.0, (last - first) / 3.0)
    return True


@compiled()
def hinge(y: Floats, n: int, out: Floats) -> bool:
    """Least squares of a level that turns into a ramp at one of the points. `out`: index of the turn, level before,
    slope after, level at the end, share of the variance it explains, what it explains beyond a straight line."""
    there, sum_y, sum_yy, sum_t, sum_tt, sum_ty = 0, 0.0, 0.0, 0.0, 0.0, 0.0
    shift = math.nan
    for j in range(n):
        if math.isnan(y[j]):
            continue
        if math.isnan(shift):
            shift = y[j]
        v = y[j] - shift
        there += 1
        sum_y += v
        sum_yy += v * v
        sum_t += j
        sum_tt += j * j
        sum_ty += j * v
    if there < 6:
        return False
    total = sum_yy - sum_y * sum_y / there
    if total <= 1e-250:  # squares: a share of less is no number
        return False
    var_t = sum_tt - sum_t * sum_t / there
    cov = sum_ty - sum_t * sum_y / there
    straight = total - cov * cov / var_t
    best, best_at, best_slope, best_mean_t = total, n - 1, 0.0, 0.0
    # Backwards: sums over the points after the turn.
    c, st, stt, sty, sy = 0, 0.0, 0.0, 0.0, 0.0
    for turn in range(n - 1, -1, -1):
        if c >= 3:
            # x = max(0, j - turn)
            sx = st - c * turn
            sxx = stt - 2.0 * turn * st + c * turn * turn
            sxy = sty - turn * sy
            var = sxx - sx * sx / there
            if var > 0.0:
                cov = sxy - sx * sum_y / there
                rest = total - cov * cov / var
                if rest < best:
                    best, best_at, best_slope, best_mean_t = rest, turn, cov / var, sx / there
        if not math.isnan(y[turn]):
            v = y[turn] - shift
            c += 1
            st += turn
            stt += turn * turn
            sty += turn * v
            sy += v
    level = sum_y / there - best_slope * best_mean_t + shift
    out[0] = best_at
    out[1] = level
    out[2] = best_slope
    out[3] = level + best_slope * (n - 1 - best_at)
    out[4] = 1.0 - best / total
    out[5] = 1.0 - best / max(straight, 1e-12 * total)
    return True
