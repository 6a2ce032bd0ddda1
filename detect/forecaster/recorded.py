"""Real series to train on: a machine's own counters, recorded once a second (bench/record_host.py).

A third of the series, and the last quarter of the time of all, is never trained on: the card's figures come from them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from detect.forecaster.synthetic import Made
from detect.forecaster.tune import held_back

FILE = Path(__file__).resolve().parent / "recorded.safetensors"


def recorded() -> Made:
    """All of it: [n, t] at steps of one second."""
    from safetensors import safe_open

    with safe_open(str(FILE), framework="np") as file:
        meta = file.metadata()
        low, wide, steps = (file.get_tensor(name) for name in ("low", "wide", "values"))
    values = low[:, None] + steps.astype(float) / 65_535 * wide[:, None]
    return Made(values, np.full(values.shape, np.nan), float(meta["step"]), float(meta["start"]))


def recorded_batch(n: int, t: int, rng: np.random.Generator) -> Made:
    """n series of t steps from the part to train on: single ones, or sums of two, stretched in time by summing, on a
    clock of their own, so that 2,500 seconds of some fifty counters are more than they are."""
    whole = recorded()
    mine = np.arange(len(whole.values)) % 3 != 0
    source = whole.values[mine, : int(whole.values.shape[1] * 0.75)]
    values = np.zeros((n, t))
    for i in range(n):
        x = _stretch(source[rng.integers(len(source))], t, rng)
        if rng.random() < 0.5:
            other = _stretch(source[rng.integers(len(source))], t, rng)
            x = x + rng.choice([-1.0, 1.0]) * other * (x.std() + 1e-9) / (other.std() + 1e-9) * rng.uniform(0.2, 1.0)
        values[i] = x
    step = float(rng.choice([1.0, 5.0, 10.0, 15.0]))
    return Made(values, np.full((n, t), np.nan), step, 1_600_000_000.0 + float(rng.integers(0, 604_800)))


def recorded_held_back() -> tuple[Made, int]:
    """The third that is never trained on, and where the last quarter begins."""
    return held_back(recorded())


def at_steps_of(made: Made, every: int) -> Made:
    """Means of `every` values."""
    t = made.values.shape[1] // every * every
    shape = (len(made.values), t // every, every)
    return replace(made, values=made.values[:, :t].reshape(shape).mean(axis=2),
                   covariates=np.full(shape[:2], np.nan), step=made.step * every)


def _stretch(x: np.ndarray[tuple[int], np.dtype[np.float64]], t: int,
             rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """t values from a random beginning, backwards at the end and so on, so that it fills any length without a seam."""
    if rng.random() < 0.3:
        every = int(rng.choice([2, 5]))
        x = x[: len(x) // every * every].reshape(-1, every).mean(axis=1)
    there_and_back = np.concatenate([x, x[::-1]])
    begin = int(rng.integers(len(there_and_back)))
    return np.resize(np.roll(there_and_back, -begin), t)
