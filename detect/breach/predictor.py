"""Series by series, tick by tick: when will it run into its limit?"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from detect.breach.episode import Policy, Standing
from detect.breach.features import LEVEL, N_COLUMNS, run
from detect.breach.memory import new_state
from detect.breach.models import BreachModels, load_models
from detect.breach.quick import is_ramp
from detect.breach.scoring import Told
from detect.breach.series import Recorded, middle_of, size_of

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Forecast(Generic[K]):
    """What is foretold of one series at the end of a tick. Times are in ticks; the interval holds 90 %."""

    key: K
    warned: bool
    probability: float
    low: float
    middle: float
    high: float
    level: float  # where the series is, noise taken out, in its own unit
    slope: float  # its mean growth per tick until `middle`, towards the limit, in its own unit; 0: it does not grow


class _Series(msgspec.Struct):
    state: bytes
    size: float
    first: list[float]  # values until the size is known, where the limit is nought
    episode: Standing


class BreachPredictor(Generic[K]):
    """Watches any number of series that have a limit. Deterministic; its state is bounded per series (7 KB).

    Ticks are minutes, as the models were trained; run with shorter ones it foretells faster ramps from shorter
    histories. Cost: 70 us per series and tick (bench/breach.py). Fails on a first-ever ramp that ends short of the limit.
    """

    def __init__(self, models: BreachModels | None = None, policy: Policy | None = None, *, quick: bool = False) -> None:
        """`quick`: judge by the rule of `detect.breach.quick` instead of the gate, and never below a half."""
        self._models = models or load_models()
        self._policy = policy or self._models.policy
        self._quick = quick
        self._series: dict[K, _Series] = {}

    def __len__(self) -> int:
        return len(self._series)

    def forget(self, key: K) -> None:
        self._series.pop(key, None)

    def step(self, tick: int, keys: Sequence[K], values: Sequence[NDArray[np.float64]], limits: Sequence[float],
             *, down: Sequence[bool] = ()) -> list[Forecast[K]]:
        """The samples of one tick, which has ended; one forecast per series with any sample.

        `down`: the limit is a floor. Samples that are not finite are left out.
        """
        rows = np.full((len(keys), N_COLUMNS), np.nan)
        there = np.zeros(len(keys), np.bool_)
        seen: list[tuple[K, _Series, float, float]] = []
        for i, key in enumerate(keys):
            some = values[i][np.isfinite(values[i])]
            if not len(some) or not np.isfinite(limits[i]):
                continue
            sign = -1.0 if down and down[i] else 1.0
            middle, spread = middle_of(some)
            value, limit = sign * middle, sign * limits[i]
            one = self._series.get(key)
            if one is None:
                one = self._series[key] = _Series(new_state().tobytes(), limit, [], Standing())
            self._scale(one, limit, value)
            state = np.frombuffer(one.state, np.float64).copy()
            run(state, np.array([tick]), np.array([value]), np.array([spread]), limit, one.size, rows[i:i + 1],
                there[i:i + 1], 1)
            one.state = state.tobytes()
            seen.append((key, one, sign, limit))
            rows[len(seen) - 1], there[len(seen) - 1] = rows[i], there[i]
        rows[~there] = np.nan
        judged = self._models.judge(rows[:len(seen)])
        return [self._told(*one, rows[i], float(judged.probability[i]), judged.ticks[i]) for i, one in enumerate(seen)]

    @staticmethod
    def _scale(one: _Series, limit: float, value: float) -> None:
        if limit > 0:
            one.size = limit
        elif len(one.first) < 60:
            one.first.append(value)
            one.size = size_of(limit, np.array(one.first))

    def _told(self, key: K, one: _Series, sign: float, limit: float, row: NDArray[np.float64], probability: float,
              ticks: NDArray[np.float64]) -> Forecast[K]:
        low, middle, high = ticks.tolist()
        if self._quick:
            probability = max(0.5, probability) if is_ramp(row, stands=one.episode.warned) else 0.0
        warned = one.episode.step(self._policy, probability, low, middle, float(row[LEVEL]))
        left = (1.0 - float(row[LEVEL])) * one.size
        slope = left / middle if np.isfinite(middle) else 0.0
        return Forecast(key, warned, probability, low, middle, high, sign * (limit - left), slope)

    def dump(self) -> list[Any]:
        """All state, for msgpack."""
        return [[key, msgspec.to_builtins(one)] for key, one in self._series.items()]

    def load(self, dumped: Sequence[Any], key_type: type[K]) -> None:
        """Go on from `dump`."""
        self._series = {msgspec.convert(key, key_type): msgspec.convert(one, _Series) for key, one in dumped}


def foretell(series: Recorded, models: BreachModels | None = None, policy: Policy | None = None) -> Told:
    """A whole series at once, with the same result as `BreachPredictor.step` minute by minute, only faster."""
    models = models or load_models()
    policy = policy or models.policy
    n = len(series.ticks)
    rows, there = np.full((n, N_COLUMNS), np.nan), np.zeros(n, np.bool_)
    run(new_state(), series.ticks, series.values, series.spreads, series.limit, series.size, rows, there, 1)
    rows[~there] = np.nan
    judged = models.judge(rows)
    episode = Standing()
    warns = np.array([episode.step(policy, p, low, middle, level) for p, (low, middle, _), level in zip(
        judged.probability.tolist(), judged.ticks.tolist(), rows[:, LEVEL].tolist(), strict=True)], dtype=np.bool_)
    seconds = judged.ticks * 60.0
    return Told(series.at, warns, seconds[:, 1], seconds[:, 0], seconds[:, 2])
