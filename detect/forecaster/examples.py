"""Series made into what the network is trained on: features and targets, by the very code that runs in service."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detect.forecaster.scaling import SCALARS, SCALE, SEASON_BINS, observe
from detect.forecaster.shape import FEATURES, HIDDEN, HORIZONS
from detect.forecaster.synthetic import Made

TARGET_LIMIT = 16.0
"""Targets are clipped here, in scales."""


@dataclass(frozen=True)
class Examples:
    """Time first: features [t, n, x] and targets [t, n, horizons], in scales from the value; NaN beyond the end."""

    feats: NDArray[np.float32]
    targets: NDArray[np.float32]


def examples(made: Made) -> Examples:
    """Run the series through `observe`, as the service does. Values must be finite."""
    n, t = made.values.shape
    scalars, hidden = np.zeros((n, SCALARS)), np.zeros((n, 2 * HIDDEN), np.float32)
    season, visits = np.zeros((n, SEASON_BINS), np.float32), np.zeros((n, SEASON_BINS), np.uint16)
    feats, scale = np.zeros((t, n, FEATURES), np.float32), np.zeros((t, n))
    at = np.arange(n)
    x = np.ascontiguousarray(made.values.T)
    beside = np.ascontiguousarray(made.covariates.T)
    for k in range(t):
        observe(at, x[k], made.start + k * made.step, made.step, beside[k], scalars, hidden, season, visits, feats[k])
        scale[k] = scalars[:, SCALE]
    targets = np.full((t, n, len(HORIZONS)), np.nan, np.float32)
    for j, steps in enumerate(HORIZONS):
        if steps < t:
            moved = (x[steps:] - x[:-steps]) / scale[:-steps]
            targets[:-steps, :, j] = np.clip(moved, -TARGET_LIMIT, TARGET_LIMIT)
    return Examples(feats, targets)
