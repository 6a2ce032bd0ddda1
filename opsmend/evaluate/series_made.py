"""Labelled series of our own making: what a small system's metrics do when its parts fail, sampled every 10 seconds.

A second opinion beside recorded data: other lengths, other kinds, other windows. The healthy part comes from the same
families as the calibration corpus (with another seed, and without its unmarked happenings); the faults are those of the
fault lab, which the corpus does not have.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from detect.evidence.corpus import Floats, healthy
from opsmend.evaluate.series_scores import Labelled

STEP_SECONDS: Final = 10
FAULTS: Final = ("step", "stall", "ramp", "burst", "jitter", "drain")


def made_series(seed: int = 7, *, count: int = 36, n: int = 4000) -> list[Labelled]:
    """`count` series with 0 to 3 faults each, in groups named by the fault; every sixth has none."""
    rng = np.random.default_rng(seed)
    out = []
    for i in range(count):
        kind = FAULTS[i % len(FAULTS)] if i % 7 else "none"
        ts_ns, values = healthy(n, STEP_SECONDS, rng)
        windows = []
        if kind != "none":
            begins = 900 + np.sort(rng.choice(np.arange(0, n - 1300, 500), int(rng.integers(1, 4)), replace=False))
            for begin in begins.tolist():
                length = int(rng.integers(20, 180))
                _break(values, kind, begin, length, rng)
                windows.append((begin, begin + length - 1))
        out.append(Labelled(f"{kind}/{i:02d}", ts_ns, values, tuple(windows)))
    return out


def _break(x: Floats, kind: str, begin: int, length: int, rng: np.random.Generator) -> None:
    """Do one fault to x[begin: begin + length]."""
    at, before = slice(begin, begin + length), x[max(0, begin - 300): begin]
    size = max(float(np.std(before)), 0.02 * abs(float(np.mean(before))), 1e-6)
    n = len(x[at])
    if kind == "step":  # a busy loop, a slow dependency
        x[at] += size * rng.uniform(3, 10) * rng.choice([-1.0, 1.0], p=[0.3, 0.7])
    elif kind == "stall":  # a hung process: the last value over and over, or nothing at all
        x[at] = float(before[-1]) if rng.random() < 0.5 else 0.0
    elif kind == "ramp":  # a leak, until the restart
        x[at] += size * rng.uniform(4, 15) * np.linspace(0, 1, n)
    elif kind == "burst":  # a storm of retries
        x[at] += size * rng.uniform(4, 12) * (rng.random(n) < 0.3)
    elif kind == "jitter":  # flapping
        x[at] += rng.normal(0, size * rng.uniform(3, 8), n)
    else:  # traffic goes elsewhere
        x[at] *= rng.uniform(0.0, 0.3)
