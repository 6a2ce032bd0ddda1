"""Series that nobody labelled, made up: what a fleet's metrics look like, with the things that happen to them.

The calibration table says how often each stream rises over these. They hold what operations metrics hold: daily and
weekly shapes, counts, bursts, heavy tails, rounding, shares, drifting gauges, idle lines, square waves; and at
unmarked places steps, spikes, outages and noise, because an unlabelled fleet has those too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

Floats = NDArray[np.float64]
STEPS_SECONDS: Final = (1, 30, 60, 300, 900, 3600)


def _noise(n: int, rng: np.random.Generator, size: float, memory: float | None = None) -> Floats:
    """Autoregressive noise of standard deviation `size`; at times with heavy tails."""
    phi = float(rng.choice([0.0, 0.3, 0.6, 0.9, 0.98])) if memory is None else memory
    drive = rng.standard_t(3, n) if rng.random() < 0.3 else rng.normal(0, 1, n)
    out: Floats = lfilter([1.0], [1.0, -phi], drive * size * np.sqrt(1 - phi**2))
    return out


def _day(seconds: Floats, rng: np.random.Generator) -> Floats:
    """A positive daily shape around 1, weaker at weekends for some."""
    angle = 2 * np.pi * (seconds % 86_400) / 86_400
    wave = np.sin(angle + rng.uniform(0, 6)) + rng.uniform(0, 0.5) * np.sin(2 * angle + rng.uniform(0, 6))
    shape: Floats = np.exp(rng.uniform(0.1, 1.2) * wave)
    if rng.random() < 0.6:
        shape = shape * np.where((seconds // 86_400) % 7 >= 5, rng.uniform(0.3, 1.1), 1.0)
    return shape


def _level(rng: np.random.Generator) -> float:
    return float(rng.lognormal(2, 1.5))


def _steady(n: int, s: Floats, rng: np.random.Generator) -> Floats:
    level = _level(rng)
    return level + _noise(n, rng, level * float(rng.choice([0.02, 0.1, 0.3])))


def _seasonal(n: int, s: Floats, rng: np.random.Generator) -> Floats:
    return _level(rng) * _day(s, rng) * (1 + _noise(n, rng, float(rng.choice([0.02, 0.1, 0.2]))))


def _counts(n: int, s: Floats, rng: np.random.Generator) -> Floats:
    rate = np.exp(_noise(n, rng, rng.uniform(0.1, 0.5), 0.95)) * _day(s, rng) * rng.lognormal(1, 1.5)
    return rng.poisson(np.clip(rate, 0, 1e6)).astype(float)


def _bursts(n: int, s: Floats, rng: np.random.Generator) -> Floats:
    rare = rng.random(n) < rng.choice([0.002, 0.01, 0.03])
    out: Floats = rng.poisson(_day(s, rng) * rng.lognormal(0.5, 1)) + rare * rng.pareto(1.5, n) * _level(rng)
    return out


def _gauge(n: int, s: Floats, rng: np.random.Generator) -> Floats:
    return _level(rng) * np.exp(_noise(n, rng, rng.uniform(0.1, 0.8)))


def _drift(n: int, s: Floats, rng: np.random.Generator) -> Floats:
    level = _level(rng)
    return level + np.cumsum(rng.normal(0, level * 0.003, n))


def _idle(n: int, s: Floats, rng: np.random.Generator) -> Floats:
    level = _level(rng)
    blips = (rng.random(n) < 0.01) * level * rng.uniform(0.01, 0.5)
    return level + blips + np.round(_noise(n, rng, 0.3)) * level * 0.01


def _latency(n: int, s: Floats, rng: np.random.Generator) -> Floats:
    level = _level(rng)
    return level * (np.exp(_noise(n, rng, 0.1, 0.5)) * _day(s, rng) ** 0.3) + (rng.random(n) < 0.005) * rng.pareto(2, n) * level


def _square(n: int, s: Floats, rng: np.random.Generator) -> Floats:
    level, half = _level(rng), int(rng.choice([6, 24, 72, 144, 500]))
    wave = np.where((np.arange(n) // half) % 2 == 0, level, level * rng.uniform(0.2, 3))
    return wave + _noise(n, rng, level * float(rng.choice([0.0, 0.02, 0.1])))


def _share(n: int, s: Floats, rng: np.random.Generator) -> Floats:
    out: Floats = 100.0 / (1 + np.exp(rng.uniform(-1, 3) - _noise(n, rng, 1.0)))
    return out


_KINDS: Final[tuple[Callable[[int, Floats, np.random.Generator], Floats], ...]] = (
    _steady, _seasonal, _seasonal, _counts, _bursts, _gauge, _drift, _idle, _latency, _square, _share)


def _happenings(x: Floats, rng: np.random.Generator) -> None:
    """Things that nobody marked: on average one in 2,500 points, and a lasting step in three of ten series."""
    n, size = len(x), float(np.std(x)) + 1e-9
    for _ in range(rng.poisson(n / 2500)):
        begin = int(rng.integers(0, n))
        at = slice(begin, begin + int(rng.choice([1, 3, 20, 100, 400])))
        what = rng.integers(4)
        if what == 0:
            x[at] += size * rng.normal(0, 5)
        elif what == 1:
            x[at] *= rng.uniform(0, 3)
        elif what == 2:
            x[at] = x[begin]
        else:
            x[at] += rng.normal(0, 2 * size, len(x[at]))
    if rng.random() < 0.3:
        x[int(rng.integers(0, n)):] += size * rng.normal(0, 1.5)


def healthy(n: int, step_seconds: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], Floats]:
    """(times [n] in ns, values [n]) of one series to which nothing happens."""
    seconds: Floats = float(rng.integers(0, 7 * 86_400)) + np.arange(n, dtype=float) * float(step_seconds)
    x: Floats = _KINDS[int(rng.integers(len(_KINDS)))](n, seconds, rng)
    return _times(seconds), x


def _times(seconds: Floats) -> NDArray[np.int64]:
    return ((1_700_000_000 + seconds) * 1e9).astype(np.int64)


def unlabelled(count: int, n: int, step_seconds: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], Floats]:
    """(times [n] in ns, values [count, n]) of series that are sampled every `step_seconds` at the same times."""
    seconds: Floats = float(rng.integers(0, 7 * 86_400)) + np.arange(n, dtype=float) * float(step_seconds)
    rows = []
    for _ in range(count):
        x: Floats = _KINDS[int(rng.integers(len(_KINDS)))](n, seconds, rng)
        _happenings(x, rng)
        if rng.random() < 0.3:
            np.round(x, int(rng.choice([0, 1, 2])), out=x)
        rows.append(np.maximum(x, 0) if rng.random() < 0.7 else x)
    return _times(seconds), np.array(rows)


def corpus(seed: int = 0, *, count: int = 30, n: int = 4000) -> list[tuple[NDArray[np.int64], Floats]]:
    """The whole corpus: `count` series of `n` points for each step."""
    rng = np.random.default_rng(seed)
    return [unlabelled(count, n, step, rng) for step in STEPS_SECONDS]
