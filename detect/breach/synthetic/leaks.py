"""Ramps that end at the limit: each from 0 (onset) to 1 (crossing) at time 1, going on after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from detect.breach.synthetic.calm import Curve, Rng, log_uniform


def straight(rng: Rng, x: Curve, minutes: float) -> Curve:
    return x


def quickening(rng: Rng, x: Curve, minutes: float) -> Curve:
    if rng.random() < 0.5:
        return np.asarray(x ** rng.uniform(1.2, 2.8))
    rate = rng.uniform(0.5, 3.0)
    return np.asarray(np.expm1(rate * x.clip(0, 2)) / np.expm1(rate))


def slackening(rng: Rng, x: Curve, minutes: float) -> Curve:
    """Slower and slower, and yet it gets there."""
    rate = rng.uniform(0.3, 1.2)
    return np.asarray(-np.expm1(-rate * x) / -np.expm1(-rate))


def stepwise(rng: Rng, x: Curve, minutes: float) -> Curve:
    n = int(np.clip(minutes / log_uniform(rng, 1, 40), 4, 400))
    at = np.sort(rng.uniform(0, 1.3, int(1.3 * n))) if rng.random() < 0.5 else np.arange(1, int(1.3 * n) + 1) / n
    size = rng.gamma(log_uniform(rng, 0.7, 20), 1.0, len(at))
    total = np.concatenate([[0.0], np.cumsum(size)])
    inside = int((at <= 1.0).sum())
    return np.asarray(total[np.searchsorted(at, x, side="right")] / max(total[inside], 1e-9))


def with_traffic(rng: Rng, x: Curve, minutes: float) -> Curve:
    """As fast as the requests come: by day and night, and minute by minute."""
    depth = rng.uniform(0.2, 0.98)
    rate = 1 + depth * np.sin(2 * np.pi * (x * minutes / 1440 + rng.uniform(0, 1)))
    if rng.random() < 0.5:
        rate = rate * rng.gamma(2, 0.5, len(x))
    total = np.cumsum(np.where(x >= 0, rate, 0.0))
    whole = total[min(len(x) - 1, int(np.searchsorted(x, 1.0)))]
    return np.asarray(total / max(float(whole), 1e-9))


def bursts(rng: Rng, x: Curve, minutes: float) -> Curve:
    """Runs of growth with pauses in between."""
    n = int(np.clip(minutes / log_uniform(rng, 5, 60), 2, 60))
    rate = np.repeat(rng.gamma(rng.uniform(0.5, 3), 1.0, 2 * n) * (rng.random(2 * n) < rng.uniform(0.4, 0.95)), 8)
    rate[:8] = max(float(rate[:8].mean()), float(rate.mean()), 1e-6)
    total = np.concatenate([[0.0], np.cumsum(rate)])
    total /= max(total[len(rate) // 2], 1e-9)
    return np.asarray(np.interp(x, np.linspace(0, 2, len(total)), total))


def waves(rng: Rng, x: Curve, minutes: float) -> Curve:
    """A straight ramp with waves on it."""
    n = rng.uniform(1, 12)
    phase = rng.uniform(0, 2 * np.pi)
    depth = rng.uniform(0.1, 0.9) / (2 * np.pi * n)
    return np.asarray(x + depth * (np.sin(2 * np.pi * n * x + phase) - np.sin(phase)) * (x >= 0))


LEAKS: Final[dict[str, Callable[[Rng, Curve, float], Curve]]] = {
    "straight": straight, "quickening": quickening, "slackening": slackening, "stepwise": stepwise,
    "with_traffic": with_traffic, "bursts": bursts, "waves": waves}
