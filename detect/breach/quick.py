"""The gate for systems that are watched by the second: a rule, for there is no history that a model could judge by."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from detect.breach.features import FEATURES, LEVEL

_WINDOWS: Final = ((30, "over_30"), (60, "over_120"), (120, "over_120"), (240, "over_480"))
"""Ticks, and the feature that tells whether the level is above all that are older."""
_PLACE: Final = {name: k for k, name in enumerate(FEATURES)}
SURE: Final = 4.0
"""Slope over its error."""
RISE: Final = 0.15
"""Share of the limit by which it has to have risen within the window."""
REACH: Final = 6.0
"""A line is believed so many times as far ahead as it reaches back."""


def is_ramp(row: NDArray[np.float64]) -> bool:
    """Whether any window holds a clear rise to a level that was not there before. NaN features count against it."""
    left = 1.0 - row[LEVEL]
    for ticks, over in _WINDOWS:
        eta = float(np.exp(row[_PLACE[f"eta_{ticks}"]]))
        older = row[_PLACE[over]]
        if (row[_PLACE[f"sure_{ticks}"]] >= SURE and eta <= REACH * ticks and left * ticks / eta >= RISE
                and not older <= 0.0):
            return True
    return False
