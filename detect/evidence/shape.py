"""The layout of the state of one series, and the few constants of the streams. Everything is in points, not time:
windows scaled to time did worse on every set that was tried."""

from __future__ import annotations

from typing import Final

STREAMS: Final = ("range", "shift", "residual", "surprise")
"""range: outside of everything seen; shift: the last points against the long run; residual: the forecaster is off by
more than usual, for some points; surprise: the residual is outside of everything seen."""

COUNT, ORIGIN, LOW, HIGH, MEDIAN, SHIFT_MAX, R_COUNT, R_LOW, R_HIGH, R_MEAN, R_DEVIATION, LAST, RUN = range(13)
"""Columns: points seen, first value, extremes, long-run median, largest shift, residuals seen, their extremes, slow
mean and deviation of their size, the last value, length of the present run of rises."""
ONSET, ONSET_AGE, PEAK, PEAK_AGE = range(13, 17)
"""Height and age in points of the last onset, and of the peak that is held."""
ODD: Final = 17
"""Column: 1 + points seen when the last value was told but not learned; 0: never."""
SCALARS: Final = 18

REFERENCE, EVERY = 125, 4
"""The long run: every 4th of the last 500 points."""
RECENT: Final = 30
"""Points whose mean is the present level."""
RESIDUALS: Final = 20
"""Points over which residuals are averaged."""
LAG: Final = 100
"""Points by which the slow statistics of the residual lag: an anomaly must not be a part of its own yardstick."""
RING: Final = REFERENCE + RECENT + RESIDUALS + LAG
BYTES_PER_SERIES: Final = SCALARS * 8 + RING * 4
LAYOUT: Final = f"3:{SCALARS}:{REFERENCE}:{RECENT}:{RESIDUALS}:{LAG}"
"""Stored state of another one is not read."""
