"""What the forecaster looks at and says: its sizes, and how steps ahead become minutes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HIDDEN = 32
FEATURES = 24
HORIZONS = (1, 6, 30, 180, 1800)
"""Steps ahead. 30 minutes are exactly 6 steps of 300 s, 30 of 60 s, 180 of 10 s and 1800 of 1 s."""
QUANTILES = (0.05, 0.5, 0.95)
OUTPUTS = 16
"""Horizons times quantiles, and one that fills up to a multiple of 4."""
WARM_UP = 60
"""Steps until the network's forecasts are used; EWMA, or the season if it is known, until then."""
LAG_INDEX = 2
"""The horizon whose forecasts are kept until they come due (`Forecaster.lagged`): 30 steps."""


def horizon_minutes(step_seconds: float) -> tuple[float, ...]:
    """How far ahead each horizon is, in minutes, for steps of `step_seconds`.

    >>> horizon_minutes(10.0)
    (0.16666666666666666, 1.0, 5.0, 30.0, 300.0)
    """
    return tuple(steps * step_seconds / 60.0 for steps in HORIZONS)


def ahead(forecast: NDArray[np.float64], minutes: float, step_seconds: float) -> NDArray[np.float64]:
    """[s, quantiles] at `minutes` from now, out of what `Forecaster.step` gave ([s, horizons, quantiles]).

    Between two horizons it is interpolated in the root of the time ahead, which is how the error of a random walk
    grows; before the first and after the last horizon the nearest one stands. Raises ValueError for a step or a
    time ahead that is not positive.
    """
    if not (minutes > 0 and step_seconds > 0):
        raise ValueError(f"minutes ({minutes}) and step_seconds ({step_seconds}) must be positive")
    steps = np.sqrt(np.array(HORIZONS, float))
    at = float(np.interp(np.sqrt(minutes * 60.0 / step_seconds), steps, np.arange(len(steps))))
    below = min(int(at), len(steps) - 2)
    share = at - below
    mixed: NDArray[np.float64] = forecast[:, below] * (1.0 - share) + forecast[:, below + 1] * share
    return mixed
