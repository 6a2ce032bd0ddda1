"""One step of the four streams for all series of a tick, compiled. State in, evidence out."""

from __future__ import annotations

from typing import Any

import numpy as np

from detect.evidence.shape import (
    COUNT,
    EVERY,
    HIGH,
    LAG,
    LAST,
    LOW,
    MEDIAN,
    ODD,
    ORIGIN,
    R_COUNT,
    R_DEVIATION,
    R_HIGH,
    R_LOW,
    R_MEAN,
    RECENT,
    REFERENCE,
    RESIDUALS,
    RUN,
    SHIFT_MAX,
)
from ingest.compiled import compiled

_SLOW = 1.0 - 0.5 ** (1.0 / 1000.0)  # half-life of what a usual residual is
_SHIFT_DECAY = 0.00025
_FORGET = 2e-5
"""Per point, of the extremes towards the middle: a service that runs for years must not judge by its first day."""
_DEAD = 0.02
"""Of the width of what was seen: how far outside is nothing yet. Without it forgetting alone would make novelties."""
_COUNTER_RUN = 60
"""Points without a fall, most of them rises, after which a fall to near nothing is a counter that began anew."""
_ODD_WIDTHS, _ODD_AFTER, _ODD_APART = 50.0, 60.0, 20_000.0
"""A value so many widths outside of all that was seen, after so many points, and the first such one within so many, is told
but not learned: one sample that is broken (a register that wrapped, bytes for megabytes) would otherwise be the yardstick of
range and residuals for days. If it was real, the next such value is learned."""


@compiled()
def _floor(row: Any) -> Any:
    """The smallest width that means anything for this series."""
    return 1e-3 * max(abs(row[HIGH]), abs(row[LOW]), abs(row[LAST])) + 1e-12


@compiled()
def _mean(ring: Any, n: int) -> Any:
    total = 0.0
    for k in range(n):
        total += ring[k]
    return total / n


@compiled()
def _range(row: Any, x: float) -> Any:
    """How far outside of all that was seen, in units of the width of that."""
    width = max(row[HIGH] - row[LOW], _floor(row))
    beyond = max(x - row[HIGH], row[LOW] - x) - _DEAD * width
    out = beyond / width if beyond > 0.0 else 0.0
    row[HIGH] -= (row[HIGH] - row[MEDIAN]) * _FORGET
    row[LOW] += (row[MEDIAN] - row[LOW]) * _FORGET
    row[HIGH] = max(row[HIGH], x)
    row[LOW] = min(row[LOW], x)
    return out


@compiled()
def _shift(row: Any, reference: Any, recent: Any, x: float) -> Any:
    """Present level against the long run, in units of the largest such difference so far."""
    count = int(row[COUNT])
    recent[count % RECENT] = x - row[ORIGIN]
    out = 0.0
    if count >= 2 * RECENT:
        distance = abs(_mean(recent, RECENT) + row[ORIGIN] - row[MEDIAN])
        if row[SHIFT_MAX] > 0.0:
            out = distance / max(row[SHIFT_MAX], _floor(row))
        row[SHIFT_MAX] = max(row[SHIFT_MAX] * (1.0 - _SHIFT_DECAY), distance)
    if count % EVERY == 0:
        slot = count // EVERY
        reference[slot % REFERENCE] = x - row[ORIGIN]
        row[MEDIAN] = row[ORIGIN] + np.median(reference[: min(slot + 1, REFERENCE)])
    return out


@compiled()
def _residual(row: Any, sizes: Any, lagged: Any, r: float) -> Any:
    """(mean size of the last residuals against what is usual, the signed residual outside of all that was seen)."""
    n = int(row[R_COUNT])
    floor = _floor(row)
    surprise = 0.0
    if n >= RESIDUALS:
        width = max(row[R_HIGH] - row[R_LOW], floor)
        beyond = max(r - row[R_HIGH], row[R_LOW] - r) - _DEAD * width
        if beyond > 0.0:
            surprise = beyond / width
    row[R_HIGH] = max(row[R_HIGH] * (1.0 - _FORGET), r)
    row[R_LOW] = min(row[R_LOW] * (1.0 - _FORGET), r)
    sizes[n % RESIDUALS] = abs(r)
    size = _mean(sizes, min(n + 1, RESIDUALS))
    out = 0.0
    if n >= LAG:
        old = lagged[n % LAG]
        rate = max(_SLOW, 1.0 / (n - LAG + 1.0))
        row[R_MEAN] += rate * (old - row[R_MEAN])
        row[R_DEVIATION] += rate * (abs(old - row[R_MEAN]) - row[R_DEVIATION])
        more = size - row[R_MEAN]
        if more > _DEAD * floor:
            out = more / max(row[R_DEVIATION], 0.02 * row[R_MEAN], floor)
    lagged[n % LAG] = size
    row[R_COUNT] = n + 1
    return out, surprise


@compiled()
def _begin(row: Any, x: float) -> None:
    row[:] = 0.0
    row[ORIGIN] = row[LOW] = row[HIGH] = row[MEDIAN] = row[LAST] = x


@compiled()
def _begins_anew(row: Any, x: float) -> Any:
    """Is it the first value, or that of a counter after its reset?"""
    return row[COUNT] == 0.0 or (row[RUN] >= _COUNTER_RUN and 0.0 <= x <= 0.1 * row[LAST])


@compiled("void(i8[::1], f8[::1], f8[:, ::1], f8[::1])", error_model="numpy")
def set_aside(at: Any, values: Any, scalars: Any, out: Any) -> None:
    """`out` [s] gets how many widths outside those of `values[at]` are that must not be learned; it must come as zeros."""
    for i in at:
        x, row = values[i], scalars[i]
        if row[COUNT] < _ODD_AFTER or _begins_anew(row, x):
            continue
        if row[ODD] > 0.0 and row[COUNT] + 1.0 - row[ODD] < _ODD_APART:
            continue
        width = max(row[HIGH] - row[LOW], _floor(row))
        beyond = max(x - row[HIGH], row[LOW] - x)
        if beyond > _ODD_WIDTHS * width:
            row[ODD] = row[COUNT] + 1.0
            out[i] = beyond / width


@compiled("void(i8[::1], f8[::1], f8[::1], f8[:, ::1], f4[:, ::1], f8[:, ::1])", error_model="numpy")
def observe(at: Any, values: Any, ahead: Any, scalars: Any, rings: Any, out: Any) -> None:
    """Take in `values[at]`, which must be finite; `ahead`: what was forecast for them, NaN where nothing was.

    `out` [s, 4] gets the streams of these series; it must come as zeros."""
    for i in at:
        x, row, ring = values[i], scalars[i], rings[i]
        if _begins_anew(row, x):
            _begin(row, x)
        row[RUN] = 0.0 if x < row[LAST] else row[RUN] + (1.0 if x > row[LAST] else 0.0)
        out[i, 0] = _range(row, x)
        out[i, 1] = _shift(row, ring[:REFERENCE], ring[REFERENCE: REFERENCE + RECENT], x)
        if np.isfinite(ahead[i]):
            rest = ring[REFERENCE + RECENT:]
            out[i, 2], out[i, 3] = _residual(row, rest[:RESIDUALS], rest[RESIDUALS:], x - ahead[i])
        row[LAST] = x
        row[COUNT] += 1.0
