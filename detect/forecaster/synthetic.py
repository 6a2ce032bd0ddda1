"""Series to train on: what operations metrics look like, made up, with a clock.

Each series is a sum or product of a level, a season of day and week, noise with memory, short cycles, and events
(shifts, ramps with resets, bumps, spikes), then one of: as it is, counts, a share, integers, a raw counter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

STEPS_SECONDS = (1.0, 10.0, 30.0, 60.0, 300.0, 600.0, 3600.0)
_STEP_WEIGHTS = (0.12, 0.24, 0.1, 0.2, 0.24, 0.05, 0.05)


@dataclass(frozen=True)
class Made:
    """`values` [n, t]; `covariates` [n, t], NaN where a series has none; the step and the start of each batch, s."""

    values: Float
    covariates: Float
    step: float
    start: float


def synthetic_batch(n: int, t: int, rng: np.random.Generator, step: float = 0.0) -> Made:
    """n series of t steps of one clock (`step` seconds; 0: drawn), deterministic in `rng`."""
    step = step or float(rng.choice(STEPS_SECONDS, p=_STEP_WEIGHTS))
    start = 1_600_000_000.0 + float(rng.integers(0, 604_800))
    values, beside = np.zeros((n, t)), np.full((n, t), np.nan)
    for i in range(n):
        values[i] = one_series(t, step, start, rng)
        if rng.random() < 0.15:
            driver = one_series(t, step, start, rng)
            beside[i] = driver
            spread = values[i].std() / (driver.std() + 1e-9)
            values[i] += rng.uniform(0.3, 2.0) * spread * (driver - driver.mean())
    return Made(values, beside, step, start)


def synthetic_series(n: int, t: int, rng: np.random.Generator, step: float = 10.0) -> Float:
    """[n, t] values of one clock."""
    return synthetic_batch(n, t, rng, step).values


def one_series(t: int, step: float, start: float, rng: np.random.Generator) -> Float:
    """One series of t steps."""
    level = float(rng.lognormal(1.0, 2.0))
    when: Float = start + step * np.arange(t, dtype=float)
    noise = float(rng.choice([0.003, 0.02, 0.1, 0.3], p=[0.15, 0.3, 0.35, 0.2])) * level
    x: Float = level + noise * _noise(t, rng)
    if rng.random() < 0.55:
        season = _season(when, rng) * rng.choice([0.1, 0.3, 0.7, 1.5])
        x = x * np.exp(season) if rng.random() < 0.5 else x + level * season
    if rng.random() < 0.3:
        x += level * rng.choice([0.05, 0.3, 1.0]) * _cycle(t, rng)
    x += max(noise, 0.02 * level) * _events(t, rng)
    kind = rng.integers(8)
    if kind == 0:
        x = rng.poisson(np.clip(x / max(level, 1e-9) * rng.choice([0.3, 3.0, 30.0]), 0, 1e6)).astype(float)
    elif kind == 1:
        x = 100.0 / (1.0 + np.exp(-(x - level) / (noise + 0.05 * level) * 0.7 + rng.uniform(-2, 2)))
    elif kind == 2:
        x = np.round(x * 10.0 ** float(rng.integers(0, 2)))
    elif kind == 3:
        x = np.maximum(x, 0.0)
    elif kind == 4 and rng.random() < 0.4:
        x = np.cumsum(np.abs(x)) % (level * t * rng.uniform(0.1, 2.0))  # a raw counter with resets
    return np.asarray(x + (rng.choice([0.0, 10.0]) * level if rng.random() < 0.3 else 0.0), float)


def _ar(t: int, phi: float, shocks: Float) -> Float:
    from scipy.signal import lfilter

    made: Float = lfilter([np.sqrt(1.0 - phi * phi)], [1.0, -phi], shocks)
    return made


def _noise(t: int, rng: np.random.Generator) -> Float:
    """Unit noise: white, with memory, heavy-tailed, or a slow walk."""
    shocks = rng.standard_t(3, t) / 1.7 if rng.random() < 0.3 else rng.normal(size=t)
    phi = float(rng.choice([0.0, 0.3, 0.7, 0.9, 0.98, 0.998]))
    x = _ar(t, phi, shocks)
    if rng.random() < 0.3:
        x = x + rng.uniform(0.5, 3.0) * _ar(t, 0.999, rng.normal(size=t))
    if rng.random() < 0.15:  # quiet and noisy times
        x = x * np.exp(_ar(t, 0.995, rng.normal(size=t)))
    return x


def _season(when: Float, rng: np.random.Generator) -> Float:
    """A day's shape of some harmonics or of office hours, weaker at the week-end in half of the cases."""
    hour = (when % 86_400.0) / 3600.0
    day = ((when // 86_400.0).astype(int) + 3) % 7
    if rng.random() < 0.7:
        shape = np.zeros(len(when))
        for k in range(1, int(rng.integers(2, 6))):
            shape += rng.normal() / k * np.cos(2 * np.pi * k * hour / 24.0 + rng.uniform(0, 6.3))
    else:
        begin, length = rng.uniform(0, 24), rng.uniform(1, 12)
        into = (hour - begin) % 24.0
        shape = 1.0 / (1.0 + np.exp(-4 * into)) - 1.0 / (1.0 + np.exp(-4 * (into - length)))
    if rng.random() < 0.5:
        shape = shape * np.where(day >= 5, rng.uniform(0.0, 0.7), 1.0)
    return shape


def _cycle(t: int, rng: np.random.Generator) -> Float:
    """A short cycle, such as garbage collection, a queue that is emptied, a job that comes round."""
    period = float(np.exp(rng.uniform(np.log(6), np.log(400))))
    phase = (np.arange(t) / period + rng.random()) % 1.0
    kind = rng.integers(4)
    if kind == 0:
        return np.asarray(np.sin(2 * np.pi * phase))
    if kind == 1:
        return phase
    if kind == 2:
        return np.asarray((phase < rng.uniform(0.05, 0.5)).astype(float))
    jitter = np.cumsum(np.maximum(0.2, 1.0 + 0.2 * rng.normal(size=t)) / period)
    return np.asarray(jitter % 1.0)


def _events(t: int, rng: np.random.Generator) -> Float:
    """Shifts, ramps with resets, bumps that decay, spikes; in units of the noise."""
    x = np.zeros(t)
    time = np.arange(t)
    for _ in range(rng.poisson(t / 2500)):
        x[int(rng.integers(t)):] += rng.normal() * rng.choice([2.0, 8.0, 30.0])
    if rng.random() < 0.2:
        for _ in range(int(rng.integers(1, 5))):
            a = int(rng.integers(t))
            b = min(t, a + int(rng.integers(50, 1500)))
            x[a:b] += rng.choice([-1.0, 1.0]) * rng.uniform(0.01, 0.3) * (time[a:b] - a)
    for _ in range(rng.poisson(t / 3000)):
        a, decay = int(rng.integers(t)), rng.uniform(5, 200)
        x[a:] += rng.normal() * 15.0 * np.exp(-(time[a:] - a) / decay)
    if rng.random() < 0.3:
        at = rng.random(t) < rng.choice([0.001, 0.01])
        x[at] += rng.lognormal(2.0, 1.0, int(at.sum()))
    return x
