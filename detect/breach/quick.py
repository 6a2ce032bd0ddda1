"""The gate for systems that are watched by the second: a rule, for there is no history that a model could judge by."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from detect.breach.features import FEATURES, LEVEL

_WINDOWS: Final = ((30, "over_30"), (60, "over_120"), (120, "over_120"), (240, "over_480"), (480, "over_480"))
"""Ticks, and the feature that tells whether the level is above all that are older."""
_PLACE: Final = {name: k for k, name in enumerate(FEATURES)}
_NEVER: Final = 10.0
"""Logarithm of the ticks to a limit that nothing moves to."""
_LATTER_HALF: Final = ((240, 120.0),)
"""The same of the longest window (twelve blocks of twenty), with twice the error: the residuals of stairs are no noise."""
SURE: Final = 4.0
"""Slope over its error."""
RISE: Final = 0.15
"""Share of the limit by which it has to have risen within the window."""
REACH: Final = 6.0
"""A line is believed so many times as far ahead as it reaches back."""
LATEST: Final = ((16, 13.0), (30, 27.2))
"""Windows that tell whether it still rises, in ticks: a step that is over is a slope in every longer one. Beside them,
the scale of the residuals over the error of the slope (eight blocks of two, ten of three)."""


def is_ramp(row: NDArray[np.float64], *, stands: bool = False) -> bool:
    """Whether any window holds a clear rise to a level that was not there before. NaN features count against it.

    `stands`: a warning has been given. Then the longest window need not rise in its latest ticks, but in its latter half,
    and half as surely: a count of ten grows in steps that are minutes apart, and is told of once.
    """
    left = 1.0 - row[LEVEL]
    fastest, lately = _fastest(row, LATEST), _fastest(row, _LATTER_HALF)
    for ticks, over in _WINDOWS:
        eta = float(np.exp(row[_PLACE[f"eta_{ticks}"]]))
        older = row[_PLACE[over]]
        is_held = stands and ticks == _WINDOWS[-1][0]
        less = 0.5 if is_held else 1.0
        if (row[_PLACE[f"sure_{ticks}"]] >= less * SURE and eta <= REACH * ticks and left * ticks / eta >= less * RISE
                and not older <= 0.0 and (lately if is_held else fastest) >= 0.5 / eta):
            return True
    return False


def _fastest(row: NDArray[np.float64], windows: tuple[tuple[int, float], ...]) -> float:
    """The steepest slope that the latest ticks allow, in shares of what is left a tick; 0 where they are flat."""
    least = np.inf
    for ticks, error in windows:
        eta, rough = row[_PLACE[f"eta_{ticks}"]], row[_PLACE[f"rough_{ticks}"]]
        slope = 0.0 if not eta < _NEVER else float(np.exp(-eta))
        least = min(least, slope + 2.0 * float(np.nan_to_num(rough)) / error)
    return least
