"""Compiled: what a value means for its series. Robust scale, slow levels, the season by the calendar, and features.

Everything that the network sees is relative to the value and in units of the series' own scale. One file on purpose:
compiled code is cached by file, and a change in another one would go unnoticed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ingest.compiled import compiled

# Columns of the [n, SCALARS] float64 state of a series.
COUNT, TICK, LOCATION, SCALE, LAST, FAST, SLOW, BASE = 0, 1, 2, 3, 4, 5, 6, 7
STEP, WHEN, SINCE, MOVE, LOW, HIGH, FLAT, OUTLIERS = 8, 9, 10, 11, 12, 13, 14, 15
SEASON_ERROR, ORIGIN, COV_COUNT, COV_LOCATION, COV_SCALE, COV_LAST, SEASON_NOW = 16, 17, 18, 19, 20, 21, 22
SEASON_AHEAD = 23
"""Five columns: the season at the horizons, NaN where it is not known."""
RING_TICK = 28
"""The tick at which the kept forecasts were last written."""
SCALARS = 29

HOURS_OF_WEEK, HOURS_OF_DAY = 168, 24
SEASON_BINS = HOURS_OF_WEEK + HOURS_OF_DAY
_LIMIT = 8.0
"""Features are clipped here, in scales."""
_DAY, _WEEK = 86_400.0, 604_800.0
_THURSDAY = 259_200.0
"""The epoch began on a Thursday: this much into a week that begins on Monday."""
_GAP_STEPS = 30.0
"""A silence of so many steps ends what the network remembers of the last minutes."""
_TWO_PI = 2.0 * np.pi


@compiled(error_model="numpy")
def _clip(x: float) -> float:
    if not x > -_LIMIT:  # NaN too
        return -_LIMIT
    return x if x < _LIMIT else _LIMIT


@compiled(error_model="numpy")
def _bin_value(season: NDArray[np.float32], visits: NDArray[np.uint16], week: int, day: int, per_visit: float) -> float:
    """The hour of week where it is known, else the hour of day; NaN where neither was seen."""
    if visits[168 + day] == 0:
        return np.nan
    share = visits[week] / (visits[week] + per_visit)
    value: float = season[168 + day] + share * (season[week] - season[168 + day])
    return value


@compiled(error_model="numpy")
def _season_at(season: NDArray[np.float32], visits: NDArray[np.uint16], hour: float, step: float,
               per_visit: float) -> float:
    """What is usual at an hour of the week (any number), relative to the origin; interpolated between two hours."""
    hour -= 168.0 * np.floor(hour / 168.0)
    week = min(int(hour), 167)
    here = _bin_value(season, visits, week, week % 24, per_visit)
    if step >= 1800.0 or here != here:
        return here
    off = hour - week - 0.5
    beside = (week + 1 if week < 167 else 0) if off > 0 else (week - 1 if week > 0 else 167)
    there = _bin_value(season, visits, beside, beside % 24, per_visit)
    return here + abs(off) * (there - here) if there == there else here


@compiled(error_model="numpy")
def _learn_season(season: NDArray[np.float32], visits: NDArray[np.uint16], hour: int, per_visit: float, y: float,
                  bound: float) -> None:
    for k in range(2):
        at = hour if k == 0 else 168 + hour % 24
        n = visits[at] + 1.0
        error = y - season[at]
        if n > 1.0:
            error = min(max(error, -bound), bound)
        season[at] = np.float32(season[at] + max(1.0 / n, (0.5 if k == 0 else 0.3) / per_visit) * error)
        if visits[at] < 65_535:
            visits[at] += 1


@compiled(error_model="numpy")
def _keep_time(s: NDArray[np.float64], now: float, hint: float) -> bool:
    """Advance the clock of a series, learn its step; True after a silence that ends the short memory."""
    if s[0] == 0.0:
        s[8] = max(hint, 1e-3) if hint > 0.0 else 60.0
        s[9] = now
        return True
    passed = now - s[9]
    s[9] = max(now, s[9])
    if passed <= 0.0:
        s[1] += 1.0
        return False
    if s[0] == 1.0 and hint <= 0.0:
        s[8] = max(passed, 1e-3)
    # Bounded, so that no series of gaps can count beyond what an index holds.
    steps = min(max(1.0, np.floor(passed / s[8] + 0.5)), 1e9)
    s[1] += steps
    s[8] += max(0.05, 1.0 / s[0]) * (min(max(passed, 1e-3), 3.0 * s[8]) - s[8])
    return bool(steps > 30.0)


@compiled(error_model="numpy")
def _rescale(s: NDArray[np.float64], x: float) -> None:
    """Location, scale and levels. Steps are clipped, so that a spike moves them little; what stays, wins."""
    n = s[0]
    if n == 0.0:
        s[17] = x
        s[2] = s[4] = s[5] = s[6] = s[7] = s[12] = s[13] = x
    error = x - s[2]
    bound = 4.0 * s[3] * 1.5 ** min(max(s[15] - 5.0, 0.0), 60.0)
    if n > 20.0 and abs(error) > bound:
        error = bound if error > 0 else -bound
        s[15] += 1.0
    else:
        s[15] = 0.0
    rate = max(0.01, 1.0 / (n + 1.0))
    s[2] += rate * error
    s[3] += rate * (abs(error) - s[3])
    s[3] = max(s[3], 1e-5 * abs(s[2]), 1e-12)
    s[5] += 0.3 * (x - s[5])
    s[6] += max(0.02, 1.0 / (n + 1.0)) * min(max(x - s[6], -6.0 * s[3]), 6.0 * s[3])
    s[7] += max(0.002, 1.0 / (n + 1.0)) * min(max(x - s[7], -6.0 * s[3]), 6.0 * s[3])
    move = abs(x - s[4])
    s[11] += max(0.03, 1.0 / (n + 1.0)) * (min(move, 6.0 * s[3]) - s[11])
    s[14] += max(0.02, 1.0 / (n + 1.0)) * ((1.0 if move == 0.0 else 0.0) - s[14])
    s[12] = min(x, s[12] + 0.001 * (s[6] - s[12]))
    s[13] = max(x, s[13] + 0.001 * (s[6] - s[13]))


@compiled(error_model="numpy")
def _covariate(s: NDArray[np.float64], c: float, f: NDArray[np.float32]) -> None:
    if not abs(c) < 1e30:
        f[17] = f[18] = f[19] = np.float32(0.0)
        return
    n = s[18]
    if n == 0.0:
        s[19] = s[21] = c
    rate = max(0.01, 1.0 / (n + 1.0))
    error = c - s[19]
    if n > 20.0:
        error = min(max(error, -4.0 * s[20]), 4.0 * s[20])
    s[19] += rate * error
    s[20] = max(s[20] + rate * (abs(error) - s[20]), 1e-5 * abs(s[19]), 1e-12)
    f[17] = np.float32(_clip((c - s[19]) / s[20]))
    f[18] = np.float32(_clip((c - s[21]) / s[20]))
    f[19] = np.float32(1.0)
    s[21] = c
    s[18] += 1.0


@compiled("void(int64[::1],float64[::1],float64,float64,float64[::1],float64[:,::1],float32[:,::1],"
          "float32[:,::1],uint16[:,::1],float32[:,::1])", error_model="numpy")
def observe(at: NDArray[np.int64], values: NDArray[np.float64], now: float, hint: float, covariates: NDArray[np.float64],
            scalars: NDArray[np.float64], hidden: NDArray[np.float32], season: NDArray[np.float32],
            visits: NDArray[np.uint16], feats: NDArray[np.float32]) -> None:
    """Take in one value of each series in `at` ([m], indices); writes the features [m, FEATURES].

    `now` in seconds, `hint` the bucket length in seconds or 0; `covariates` [n] or empty. Values are finite and
    below 1e30 in size. A series that was silent for 30 steps starts with an empty short memory.
    """
    day, week = _TWO_PI * (now % _DAY) / _DAY, _TWO_PI * (now % _WEEK) / _WEEK
    hour = ((now + _THURSDAY) % _WEEK) / 3600.0
    this_hour = min(int(hour), 167)
    sin_day, cos_day, sin_week, cos_week = np.sin(day), np.cos(day), np.sin(week), np.cos(week)
    for a in range(len(at)):
        i = at[a]
        x, s, f = values[i], scalars[i], feats[a]
        if _keep_time(s, now, hint):
            s[10] = 0.0
            hidden[i, :] = np.float32(0.0)
        last = s[4] if s[0] > 0.0 else x
        _rescale(s, x)
        scale, step = s[3], s[8]
        per_visit = max(1.0, 3600.0 / step)
        usual = _season_at(season[i], visits[i], hour, step, per_visit)
        known = 0.0
        if usual == usual:
            known = min(1.0, 0.5 * visits[i, 168 + this_hour % 24] / per_visit)
            s[16] += max(0.01, 1.0 / (s[0] + 1.0)) * (min(abs(x - s[17] - usual), 8.0 * scale) - s[16])
        s[22] = usual
        f[0], f[1] = _clip((x - s[2]) / scale), _clip((x - last) / scale)
        f[2], f[3], f[4] = _clip((s[5] - x) / scale), _clip((s[6] - x) / scale), _clip((s[7] - x) / scale)
        f[5] = known
        f[6] = _clip((usual + s[17] - x) / scale) if usual == usual else 0.0
        s[23] = usual
        for k in range(4):
            steps = 6.0 if k == 0 else (30.0 if k == 1 else (180.0 if k == 2 else 1800.0))
            # Within a minute the season does not move.
            then = usual if steps * step <= 60.0 else _season_at(
                season[i], visits[i], hour + steps * step / 3600.0, step, per_visit)
            s[24 + k] = then
            f[7 + k] = _clip((then - usual) / scale) if then == then and usual == usual else 0.0
        f[11], f[12], f[13], f[16] = sin_day, cos_day, sin_week, cos_week
        f[14] = min(max(np.log(step) / 8.0, -1.0), 2.0)
        f[15] = _clip(np.log((s[11] + 1e-9 * scale) / scale + 1e-4) / 2.0)
        _covariate(s, covariates[i] if i < len(covariates) else np.nan, f)
        f[20] = np.log(1.0 + s[0]) / 8.0
        f[21], f[22] = _clip((s[12] - x) / scale), _clip((s[13] - x) / scale)
        f[23] = s[14]
        _learn_season(season[i], visits[i], this_hour, per_visit, x - s[17], 8.0 * scale)
        s[4] = x
        s[0] += 1.0
        s[10] += 1.0
