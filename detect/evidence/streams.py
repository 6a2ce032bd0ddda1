"""Evidence for all series of a tick: the forecaster, the four streams, their rarity, onset and state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from detect.evidence.calibration import Calibration
from detect.evidence.kernel import observe, set_aside
from detect.evidence.outputs import answer
from detect.evidence.shape import BYTES_PER_SERIES, COUNT, LAYOUT, RING, SCALARS, STREAMS
from detect.forecaster.lstm import HORIZONS, QUANTILES, Forecaster

Floats = NDArray[np.float64]
_MIDDLE = len(QUANTILES) // 2

_RANGE = STREAMS.index("range")
LARGEST = 1e30
"""Values beyond this size count as missing."""


class Expects(Protocol):
    """What the streams ask of a forecaster."""

    def expected(self, ts_ns: int, values: Floats) -> Floats:
        """Take in [s] values of a tick, NaN: missing; give what had been forecast for them before, NaN: nothing."""
        ...


class Lstm:
    """The service's forecaster as the streams see it: by its forecasts of 30 steps before.

    A forecast of a moment ago follows a shift at once and hides it (4 NAB points less).
    """

    def __init__(self, forecaster: Forecaster) -> None:
        self.forecaster = forecaster
        self.ahead = np.zeros((0, len(HORIZONS), len(QUANTILES)))
        """[s, horizons, quantiles] of the last tick: what comes next."""

    def expected(self, ts_ns: int, values: Floats) -> Floats:
        self.ahead = self.forecaster.step(ts_ns, values)
        due: Floats = self.forecaster.lagged[:, _MIDDLE].copy()
        return due


@dataclass(frozen=True)
class Tick:
    """What one tick says, [s] each. Onset and state are joined rarities, 0: nothing."""

    onset: Floats
    state: Floats
    joined: Floats
    streams: Floats  # [s, 4], in the streams' own units
    expected: Floats  # what had been forecast for this tick


class Evidence:
    """State of all series; `step` takes one value of each. About 1 us per series and step beside the forecaster's.

    NaN, infinite and huge values are missing: no evidence, nothing learned, and the held state decays on. A counter
    (60 rises without a fall) that drops to near zero begins anew. Fails on series whose scale changes by orders of
    magnitude as a habit: their past range hides what is small.
    """

    BYTES_PER_SERIES = BYTES_PER_SERIES

    def __init__(self, calibration: Calibration | None = None, *, use: tuple[int, ...] = (0, 1, 2, 3)) -> None:
        """`use`: indices of the streams that count; all of them but in ablations."""
        self._calibration = calibration or Calibration.load()
        self._off = [k for k in range(len(STREAMS)) if k not in use]
        self._scalars = np.zeros((0, SCALARS))
        self._rings = np.zeros((0, RING), np.float32)

    @property
    def counts(self) -> Floats:
        """Points that each series has had, [s]."""
        return self._scalars[:, COUNT]

    def grow(self, size: int) -> None:
        """Room for `size` series."""
        more = size - len(self._scalars)
        if more > 0:
            self._scalars = np.concatenate([self._scalars, np.zeros((more, SCALARS))])
            self._rings = np.concatenate([self._rings, np.zeros((more, RING), np.float32)])

    def step(self, ts_ns: int, values: Floats, forecaster: Expects) -> Tick:
        """Judge [s] values by what was known before them, then learn them."""
        self.grow(len(values))
        values = np.array(values, float)  # a copy: compiled code wants arrays that can be written to
        at = np.flatnonzero(np.abs(values) < LARGEST)
        streams, odd = np.zeros((len(values), len(STREAMS))), np.zeros(len(values))
        set_aside(at, values, self._scalars, odd)
        if odd.any():
            values[odd > 0] = np.nan  # for everybody: forecasts from such a value would be as far off
            at = at[odd[at] == 0]
        expected = forecaster.expected(ts_ns, values)
        observe(at, values, expected, self._scalars, self._rings, streams)
        streams[:, _RANGE] += odd
        streams[:, self._off] = 0.0
        joined = self._calibration.joined(streams, self.counts)
        onset, state = np.empty(len(values)), np.empty(len(values))
        answer(joined, self._calibration.page, self._scalars, onset, state)
        return Tick(onset, state, joined, streams, expected)

    def dump(self) -> dict[str, object]:
        """msgpack-able state, exact."""
        return {"n": len(self._scalars), "scalars": self._scalars.tobytes(), "rings": self._rings.tobytes(),
                "layout": LAYOUT}

    def load(self, state: Mapping[str, object]) -> None:
        """Go on from `dump`; that of another layout (an older version's) is dropped, and every series begins anew.
        Raises ValueError or KeyError where it is none."""
        if state.get("layout") != LAYOUT:
            return
        n = int(state["n"])  # type: ignore[call-overload]
        raw = {k: v for k, v in state.items() if isinstance(v, bytes)}
        self._scalars = np.frombuffer(raw["scalars"]).reshape(n, SCALARS).copy()
        self._rings = np.frombuffer(raw["rings"], np.float32).reshape(n, RING).copy()
