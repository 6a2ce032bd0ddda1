"""Series to train on: what operations metrics look like, made up. [n, t] of scaled values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def synthetic_series(n: int, t: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """n series of t steps: level + trend + season + AR noise, counts, saw-teeth, steps, ramps, spikes."""
    time = np.arange(t)
    out = np.zeros((n, t))
    for i in range(n):
        level = rng.lognormal(1.0, 1.5)
        noise = rng.choice([0.01, 0.05, 0.2, 0.5]) * level
        x = np.full(t, level)
        phi = rng.choice([0.0, 0.5, 0.9, 0.98])
        e = rng.normal(0, noise * np.sqrt(1 - phi**2), t)
        ar = np.zeros(t)
        for k in range(1, t):
            ar[k] = phi * ar[k - 1] + e[k]
        x += ar
        kind = rng.integers(8)
        start = int(rng.integers(t // 4, t))
        if kind == 0:  # season
            period = rng.choice([30, 60, 120, 300])
            x += level * rng.uniform(0.1, 1) * np.sin(2 * np.pi * time / period + rng.uniform(0, 6))
        elif kind == 1:  # counts
            x = rng.poisson(max(level, 0.3), t).astype(float)
        elif kind == 2:  # saw-tooth (garbage collection, queues)
            period = int(rng.integers(20, 120))
            x += level * rng.uniform(0.2, 2) * ((time % period) / period)
        elif kind == 3:  # step
            x[start:] += level * rng.uniform(-0.9, 3)
        elif kind == 4:  # ramp (leak)
            x[start:] += noise * rng.uniform(0.1, 2) * np.arange(t - start)
        elif kind == 5:  # spikes
            x[rng.random(t) < 0.01] += level * rng.uniform(1, 10)
        elif kind == 6:  # share
            x = 1 / (1 + np.exp(-(ar / max(noise, 1e-9) - 2)))
        out[i] = x if rng.random() < 0.8 else np.round(x)
    return out
