"""What evidence costs: `python bench/evidence.py [--series N]`. One thread, CPU time.

A tick of all series at once, as the service runs it; with the forecaster and without.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from detect.evidence.streams import Evidence, Expects, Floats, Lstm
from detect.forecaster.lstm import Forecaster, Weights


class Before:
    """The last value as the forecast: next to nothing to work out, so that the streams are left."""

    def __init__(self, size: int) -> None:
        self._last = np.full(size, np.nan)

    def expected(self, ts_ns: int, values: Floats) -> Floats:
        """See detect.evidence.streams.Expects."""
        before, self._last = self._last, values
        return before


def seconds(forecaster: Expects, values: Floats) -> float:
    """Median CPU seconds of a tick, after 150 to warm up."""
    evidence, taken = Evidence(), []
    for k, row in enumerate(values):
        began = time.process_time()
        evidence.step((1_790_000_000 + 10 * k) * 10**9, row, forecaster)
        taken.append(time.process_time() - began)
    return float(np.median(taken[150:]))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=10_000)
    size = parser.parse_args().series
    values = np.random.default_rng(0).lognormal(2, 0.5, (250, size))
    print(f"{size} series, a tick each 10 s; {Evidence.BYTES_PER_SERIES} bytes of state each beside the forecaster's "
          f"{Forecaster.BYTES_PER_SERIES}")
    for name, forecaster in (("streams alone", Before(size)), ("with the forecaster", Lstm(Forecaster(Weights.load())))):
        tick = seconds(forecaster, values)
        print(f"{name:20s} {1e6 * tick / size:6.2f} us per series and step, {100 * tick / 10:5.2f} % of a core")


if __name__ == "__main__":
    main()
