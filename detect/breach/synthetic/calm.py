"""Curves of resources that stay below their limit: noise-free usage as a share of the limit, by the minute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

Curve = NDArray[np.float64]
Rng = np.random.Generator


def log_uniform(rng: Rng, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def peak_of(rng: Rng) -> float:
    """How near to the limit a healthy resource comes: mostly .6 to .9, at times to .96."""
    which = rng.random()
    return float(rng.uniform(0.3, 0.6) if which < 0.15 else rng.uniform(0.6, 0.9) if which < 0.85
                 else rng.uniform(0.9, 0.96))


def fitted(curve: Curve, low: float, high: float) -> Curve:
    """Moved and stretched to lie between the two."""
    span = float(np.ptp(curve))
    return np.asarray(low + (curve - curve.min()) * ((high - low) / span if span > 0 else 0.0))


def low_high(rng: Rng) -> tuple[float, float]:
    high = peak_of(rng)
    return float(rng.uniform(0.02, 0.9) * high), high


def flat(rng: Rng, t: Curve) -> Curve:
    return np.full(len(t), rng.uniform(0.9, 0.985) if rng.random() < 0.4 else peak_of(rng))


def season(rng: Rng, t: Curve) -> Curve:
    """A daily curve, some with harmonics, a busy half of the day, days that differ."""
    phase, period = rng.uniform(0, 1), 1440.0 if rng.random() < 0.8 else log_uniform(rng, 120, 1440)
    x = 2 * np.pi * (t / period + phase)
    curve = np.sin(x) + rng.uniform(0, 0.5) * np.sin(2 * x + rng.uniform(0, 6)) + rng.uniform(0, 0.2) * np.sin(
        3 * x + rng.uniform(0, 6))
    if rng.random() < 0.3:
        curve = np.maximum(curve, rng.uniform(-0.6, 0.4))
    if rng.random() < 0.4:
        days = rng.uniform(0.75, 1.0, int(t[-1] // period) + 3)
        curve = fitted(curve, 0, 1) * np.interp(t / period + phase, np.arange(len(days)), days)
    return fitted(curve, *low_high(rng))


def mean_revert(rng: Rng, t: Curve) -> Curve:
    """A random walk that is drawn back, in an hour or in half a day, with or without inertia."""
    tau, n = log_uniform(rng, 10, 700), len(t)
    noise = rng.standard_normal(n)
    keep = np.exp(-1 / tau)
    out = np.empty(n)
    x, v = 0.0, 0.0
    smooth = np.exp(-1 / log_uniform(rng, 1, 0.3 * tau)) if rng.random() < 0.6 else 0.0
    for i in range(n):
        v = smooth * v + noise[i]
        x = keep * x + v
        out[i] = x
    return fitted(out, *low_high(rng))


def teeth(rng: Rng, t: Curve) -> Curve:
    """Saw-teeth: collection of garbage, rotation of logs. Regular or not, straight or bent, of equal height or not."""
    low, high = low_high(rng)
    period, irregular = log_uniform(rng, 12, 900), rng.uniform(0, 0.5)
    by_level = rng.random() < 0.5  # a tooth ends at a level rather than at a time
    bend, vary = rng.uniform(0.6, 1.6), rng.uniform(0, 0.35)
    out = np.empty(len(t))
    at = -rng.uniform(0, period)
    while at < t[-1] + 1:
        length = period * float(np.exp(irregular * rng.standard_normal()))
        top = high - (high - low) * vary * rng.random()
        bottom = low + (high - low) * vary * 0.5 * rng.random()
        if not by_level:
            top = bottom + (top - bottom) * min(1.0, length / (1.3 * period))
        inside = (t >= at) & (t < at + length)
        out[inside] = bottom + (top - bottom) * ((t[inside] - at) / length) ** bend
        at += length
    return out


def batch(rng: Rng, t: Curve) -> Curve:
    """Jobs that fill something for a while and give it back, at once or slowly; nightly, or when they come."""
    low, high = low_high(rng)
    period, length = log_uniform(rng, 60, 1440), 0.0
    length = period * rng.uniform(0.08, 0.7)
    out = np.full(len(t), low)
    at = rng.uniform(0, 1.2) * period if rng.random() < 0.6 else rng.uniform(0.1, 0.9) * t[-1]
    shape, drain = log_uniform(rng, 0.5, 1.8), rng.uniform(0, 1) * length * (rng.random() < 0.5)
    vary, jitter, holds = rng.uniform(0, 0.4), rng.uniform(0, 0.3), rng.uniform(0, 0.6) * (rng.random() < 0.4)
    while at < t[-1]:
        top = (high - low) * (1 - vary * rng.random())
        rise = length * (1 - holds)
        x = (t - at) / rise
        out += np.where((x >= 0) & (t < at + length), top * np.minimum(x.clip(0), 1.0) ** shape, 0.0)
        if drain > 1:
            out += np.where(t >= at + length, top * np.clip(1 - (t - at - length) / drain, 0, 1), 0.0)
        at += period * (1 + jitter * rng.standard_normal()) if period > length + drain else 2 * period
    return np.asarray(np.minimum(out, high))


def spikes(rng: Rng, t: Curve) -> Curve:
    low, high = low_high(rng)
    out = np.full(len(t), low)
    for at in rng.uniform(0, t[-1], rng.poisson(t[-1] / log_uniform(rng, 60, 1000))):
        width = log_uniform(rng, 1, 25)
        kind = rng.random()
        x = (t - at) / width
        form = np.exp(-np.abs(x)) if kind < 0.3 else (np.abs(x) < 0.5) * 1.0 if kind < 0.6 else np.where(
            x >= 0, np.exp(-np.maximum(x, 0.0)), 0.0) if kind < 0.8 else np.clip(1 - np.abs(x), 0, 1)
        out += (high - low) * rng.uniform(0.3, 1.0) * form
    return np.asarray(np.minimum(out, high))


def stairs(rng: Rng, t: Curve) -> Curve:
    """Steps, sudden or over some minutes, that stay: deployments, new tenants."""
    low, high = low_high(rng)
    n = int(rng.integers(1, 5))
    out = np.full(len(t), low)
    parts = rng.dirichlet(np.ones(n)) * (high - low)
    up = rng.random() < 0.7
    for part, at in zip(parts, rng.uniform(0.02, 0.98, n) * t[-1], strict=True):
        which = rng.random()
        ramp = log_uniform(rng, 0.3, 8) if which < 0.88 else log_uniform(rng, 8, 90) if which < 0.96 else log_uniform(
            rng, 90, 400)
        out += part * (1 if up or rng.random() < 0.5 else -0.5) * np.clip((t - at) / ramp, 0, 1)
    return np.asarray(np.clip(out, 0.01, high))


def warm_up(rng: Rng, t: Curve) -> Curve:
    """Caches that fill and are full: exponential, a power, or straight and then flat; some restart."""
    low, high = low_high(rng)
    at = rng.uniform(-0.1, 0.8) * t[-1]
    out = np.full(len(t), low)
    for _ in range(int(rng.integers(1, 4))):
        tau, form = log_uniform(rng, 8, 500), rng.random()
        x = ((t - at) / tau).clip(0)
        rise = 1 - np.exp(-x) if form < 0.6 else x / (1 + x) if form < 0.75 else np.minimum(x, 1.0) ** 0.7 \
            if form < 0.85 else np.tanh(x)
        out = np.where(t >= at, low + (high - low) * rise, out)
        at += rng.uniform(0.2, 1.0) * t[-1]
    return out


def daily_clean(rng: Rng, t: Curve) -> Curve:
    """Grows all day and is cleaned once a day (or every few hours)."""
    low, high = low_high(rng)
    period = 1440.0 if rng.random() < 0.7 else log_uniform(rng, 200, 1440)
    x = (t / period + rng.uniform(0, 1)) % 1.0
    days = (t / period).astype(int)
    rate = rng.uniform(0.8, 1.0, int(days.max()) + 3)[days]
    if rng.random() < 0.5:
        x = x + rng.uniform(0, 0.9) * np.sin(2 * np.pi * x) / (2 * np.pi)
    return np.asarray(low + (high - low) * x * rate)


def load(rng: Rng, t: Curve) -> Curve:
    """Connections in use: proportional to a daily load with noise of its own."""
    low, high = low_high(rng)
    high = min(high, rng.uniform(0.25, 0.85))
    low = min(low, 0.6 * high)
    day = fitted(np.sin(2 * np.pi * (t / 1440 + rng.uniform(0, 1))) + 0.3 * np.sin(
        4 * np.pi * (t / 1440 + rng.uniform(0, 1))), 0, 1)
    return low + (high - low) * day


CALM: Final[dict[str, Callable[[Rng, Curve], Curve]]] = {
    "flat": flat, "season": season, "mean_revert": mean_revert, "teeth": teeth, "batch": batch, "spikes": spikes,
    "stairs": stairs, "warm_up": warm_up, "daily_clean": daily_clean, "load": load}


def mixed(rng: Rng, t: Curve, names: tuple[str, ...] = tuple(CALM)) -> tuple[str, Curve]:
    """One curve, or the weighted sum of two."""
    name = str(rng.choice([*names, "daily_clean"]))
    curve = CALM[name](rng, t)
    if rng.random() < 0.15:
        other = str(rng.choice(names))
        share = rng.uniform(0.1, 0.9)
        curve = share * curve + (1 - share) * CALM[other](rng, t)
        name = f"{name}+{other}"
    return name, np.asarray(curve, dtype=np.float64)


