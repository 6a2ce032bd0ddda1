"""Made series of kinds that the early-warning models are not trained on, in wider ranges: `opsmend eval breach`
without `--data`. Nothing here may be used for training or for choosing anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detect.breach.scoring import Episode, Truth
from detect.breach.series import Recorded, by_minute

Curve = NDArray[np.float64]
Rng = np.random.Generator
_START: Final = 1_720_000_000
_STEPS: Final = (1, 5, 10, 15, 30, 45, 60, 90, 150, 300)


def _log(rng: Rng, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def cron_pairs(rng: Rng, t: Curve) -> Curve:
    """Healthy: two jobs with periods of their own, whose triangles add up now and then."""
    out = np.full(len(t), rng.uniform(0.1, 0.4))
    for _ in range(2):
        period, width = _log(rng, 90, 700), rng.uniform(0.1, 0.35)
        x = (t / period + rng.uniform(0, 1)) % 1.0
        out += rng.uniform(0.08, 0.22) * np.clip(1 - np.abs(x - 0.5) / width, 0, 1)
    return out


def office_hours(rng: Rng, t: Curve) -> Curve:
    """Healthy: up at nine, a dip at noon, down at six, in ramps of half an hour to two hours."""
    hour = (t / 60 + rng.uniform(0, 24)) % 24
    ramp = rng.uniform(0.5, 2)
    day = np.clip((hour - 8) / ramp, 0, 1) * np.clip((18 + ramp - hour) / ramp, 0, 1)
    lunch = 1 - 0.3 * np.exp(-((hour - 12.5) / 0.7) ** 2)
    low = rng.uniform(0.05, 0.4)
    return np.asarray(low + (rng.uniform(0.5, 0.9) - low) * day * lunch)


def square_duty(rng: Rng, t: Curve) -> Curve:
    """Healthy: on and off."""
    period, duty = _log(rng, 20, 600), rng.uniform(0.2, 0.8)
    low = rng.uniform(0.05, 0.5)
    return np.where((t / period) % 1.0 < duty, rng.uniform(low + 0.05, 0.93), low)


def compaction(rng: Rng, t: Curve) -> Curve:
    """Healthy: many small rises, each given back by half, and a great clean-up now and then."""
    small, great = _log(rng, 8, 40), _log(rng, 400, 1500)
    x, y = (t / small) % 1.0, (t / great + rng.uniform(0, 1)) % 1.0
    return rng.uniform(0.15, 0.3) + rng.uniform(0.05, 0.15) * x + rng.uniform(0.2, 0.42) * y


def slow_walk(rng: Rng, t: Curve) -> Curve:
    """Healthy: a smooth walk between two walls."""
    rng.standard_normal(len(t))  # for nothing: without it the walk, and all that is measured on it, would be another one
    walk = np.cumsum(rng.standard_normal(len(t)))
    walk = np.convolve(walk, np.ones(30) / 30, mode="same")
    folded = np.abs((walk / _log(rng, 30, 120)) % 2.0 - 1.0)
    return np.asarray(rng.uniform(0.1, 0.4) + rng.uniform(0.2, 0.45) * folded)


def logarithmic(rng: Rng, t: Curve) -> Curve:
    """Healthy: grows with the logarithm of time, as distinct values seen do."""
    at = rng.uniform(0, 0.5) * t[-1]
    rise = np.log1p(np.maximum(0.0, t - at) / _log(rng, 5, 60))
    return np.asarray(rng.uniform(0.1, 0.35) + rise * rng.uniform(0.25, 0.5) / max(float(rise.max()), 1e-9))


def rollout(rng: Rng, t: Curve) -> Curve:
    """Healthy: instances replaced one after another, each step of a new, higher use; then it stays."""
    n, at, gap = int(rng.integers(3, 9)), rng.uniform(0.2, 0.7) * t[-1], _log(rng, 3, 20)
    low = rng.uniform(0.2, 0.4)
    steps = np.clip(np.floor((t - at) / gap), 0, n) / n
    return np.asarray(low + rng.uniform(0.1, 0.35) * steps)


def _ramp(onset: float, minutes: float, t: Curve) -> Curve:
    return np.maximum(0.0, (t - onset) / minutes)


def handle_leak_by_night(rng: Rng, t: Curve, onset: float, minutes: float) -> Curve:
    """Breaching: leaks in one half of each hour alone, over office-like use."""
    on = ((t / 60) % 1.0 < 0.5) & (t >= onset)
    leak = np.cumsum(on) / max(1.0, 0.5 * minutes)
    return rng.uniform(0.1, 0.5) + 0.05 * np.sin(2 * np.pi * t / 1440) + 0.9 * leak


def consumer_lag(rng: Rng, t: Curve, onset: float, minutes: float) -> Curve:
    """Breaching: a queue whose consumers fall behind more and more, in waves."""
    x = _ramp(onset, minutes, t)
    return 0.02 + x ** 1.3 + 0.04 * np.sin(2 * np.pi * t / _log(rng, 15, 60)) * np.minimum(1.0, 4 * x)


def threads_stuck(rng: Rng, t: Curve, onset: float, minutes: float) -> Curve:
    """Breaching: one worker after another gets stuck, at random times."""
    n = int(rng.integers(12, 120))
    at = np.sort(onset + minutes * rng.uniform(0, 1.25, int(1.25 * n)))
    return rng.uniform(0.05, 0.4) + np.searchsorted(at, t) / n


def volume_growth(rng: Rng, t: Curve, onset: float, minutes: float) -> Curve:
    """Breaching: a disk with small clean-ups, whose growth doubles at the onset."""
    teeth = rng.uniform(0.03, 0.12) * ((t / _log(rng, 20, 180)) % 1.0)
    return rng.uniform(0.2, 0.6) + teeth + 0.9 * _ramp(onset, minutes, t)


def pool_slow_leak(rng: Rng, t: Curve, onset: float, minutes: float) -> Curve:
    """Breaching: connections under a daily load that are not given back (counted: Poisson noise)."""
    day = 0.08 * np.sin(2 * np.pi * (t / 1440 + rng.uniform(0, 1)))
    return rng.uniform(0.15, 0.45) + day + 0.9 * _ramp(onset, minutes, t)


def quota_burn(rng: Rng, t: Curve, onset: float, minutes: float) -> Curve:
    """Breaching: a budget that is used from the start, faster by day."""
    rate = 1 + rng.uniform(0.2, 0.7) * np.sin(2 * np.pi * (t / 1440 + rng.uniform(0, 1)))
    return np.asarray(np.cumsum(rate) / max(minutes, 60.0))


CALM: Final[dict[str, Callable[[Rng, Curve], Curve]]] = {
    f.__name__: f for f in (cron_pairs, office_hours, square_duty, compaction, slow_walk, logarithmic, rollout)}
RAMPS: Final[dict[str, Callable[[Rng, Curve, float, float], Curve]]] = {
    f.__name__: f for f in (handle_leak_by_night, consumer_lag, threads_stuck, volume_growth, pool_slow_leak,
                            quota_burn)}
UNSEEN: Final[dict[str, int]] = {**dict.fromkeys(CALM, 30), **dict.fromkeys(RAMPS, 30)}
"""Kind and how many series of it."""


def make_unseen(kind: str, number: int, seed: int) -> Recorded:
    """One series of 4 to 72 hours. Deterministic."""
    rng = np.random.default_rng([seed, sorted(UNSEEN).index(kind), number])
    t = np.arange(int(_log(rng, 4, 72) * 60), dtype=np.float64)
    step = int(rng.choice(_STEPS)) if len(t) < 1500 else int(rng.choice(_STEPS[2:]))
    name = f"{kind}-{number}"
    onset, is_crossed = float(t[-1]), False
    if kind in CALM:
        clean = np.minimum(CALM[kind](rng, t), 0.975)
        end = float(t[-1])
    else:
        minutes = min(_log(rng, 25, 2000), 0.9 * t[-1])
        onset = 0.0 if kind == "quota_burn" else float(rng.uniform(0.05, 0.98) * (t[-1] - minutes))
        clean = RAMPS[kind](rng, t, onset, minutes)
        crossed = np.flatnonzero((clean >= 1.0) & (t >= onset))
        is_crossed = len(crossed) > 0
        end = float(t[crossed[0]]) if is_crossed else float(t[-1])
    at = _START + np.arange(0.0, end * 60, step)
    share = np.interp((at - _START) / 60, t, clean)
    counted = kind in ("pool_slow_leak", "threads_stuck")
    limit = float(round(_log(rng, 30, 800))) if counted else _log(rng, 10, 1e6)
    if kind == "pool_slow_leak":
        values = rng.poisson(np.clip(share, 0, 2) * limit).astype(float)
    else:
        values = limit * (share + _log(rng, 3e-4, 0.03) * rng.standard_normal(len(at)))
    values = np.clip(np.round(values) if counted else values, 0, limit)
    if kind == "pool_slow_leak":  # it is exhausted when the count is at the limit, at a mean that is well below it
        values = np.where(at < _START + 60 * onset, np.minimum(values, limit - 1), values)
        full = np.flatnonzero(values >= limit)
        if len(full):
            is_crossed, end = True, float(at[full[0]] - _START) / 60
            at, values = at[: full[0] + 1], values[: full[0] + 1]
    episodes = (Episode(_START + 60 * onset, _START + 60 * end, _START + 60 * end),) if is_crossed else ()
    in_scope = is_crossed and end - onset >= 20
    truth = Truth(name, kind, not episodes, in_scope, _START, _START + 60 * end, episodes)
    kept = rng.random(len(at)) > rng.choice([0.0, 0.02, 0.15])
    return by_minute(truth, at[kept], values[kept], limit, up=True)
