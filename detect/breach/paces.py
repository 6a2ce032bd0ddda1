"""The clock of the early warning: buckets gathered into ticks, and each tick looked at once it is over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from detect.breach.episode import Policy
from detect.breach.models import BreachModels
from detect.breach.predictor import BreachPredictor, Forecast
from detect.limits import Limit
from ingest.types import SeriesKey


class _Gathered(msgspec.Struct):
    values: list[float]
    limit: float
    is_floor: bool


class Pace:
    """One length of tick. A tick that is not over is kept; one that was left out stays missing."""

    def __init__(self, models: BreachModels, tick_ns: int, policy: Policy | None = None, *,
                 quick: bool = False) -> None:
        self.tick_ns = tick_ns
        self._predictor: BreachPredictor[SeriesKey] = BreachPredictor(models, policy, quick=quick)
        self._tick = -1
        self._gathered: dict[SeriesKey, _Gathered] = {}
        self._limits: dict[SeriesKey, float] = {}

    def step(self, ts_ns: int, bucket_ns: int, limits: Sequence[Limit],
             values: dict[SeriesKey, float]) -> list[tuple[Forecast[SeriesKey], float, bool]] | None:
        """A bucket. (forecast, limit, is a floor) of each series if this ends a tick, None if it does not."""
        tick = ts_ns // self.tick_ns
        told = self._close() if self._gathered and tick > self._tick else None
        self._tick = max(tick, self._tick)
        for key, limit, is_floor in limits:
            value = values.get(key, np.nan)
            top = limit if isinstance(limit, float) else values.get(limit, np.nan)
            if np.isfinite(top):
                self._limits[key] = top
            if not np.isfinite(value) or key not in self._limits:
                continue
            one = self._gathered.setdefault(key, _Gathered([], 0.0, is_floor))
            one.values.append(value)
            one.limit = self._limits[key]
        if (ts_ns + bucket_ns) // self.tick_ns > tick:
            return (told or []) + self._close()
        return told

    def _close(self) -> list[tuple[Forecast[SeriesKey], float, bool]]:
        keys = list(self._gathered)
        some = [self._gathered[k] for k in keys]
        told = self._predictor.step(self._tick, keys, [np.array(o.values) for o in some], [o.limit for o in some],
                                    down=[o.is_floor for o in some])
        of = {k: (o.limit, o.is_floor) for k, o in zip(keys, some, strict=True)}
        self._gathered = {}
        return [(f, *of[f.key]) for f in told]

    def dump(self) -> dict[str, Any]:
        """All state, for msgpack."""
        return {"tick": self._tick, "series": self._predictor.dump(), "limits": list(self._limits.items()),
                "gathered": [[k, msgspec.to_builtins(v)] for k, v in self._gathered.items()]}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from `dump`."""
        self._tick = int(state["tick"])
        self._predictor.load(state["series"], SeriesKey)
        self._limits = {msgspec.convert(k, SeriesKey): float(v) for k, v in state["limits"]}
        self._gathered = {msgspec.convert(k, SeriesKey): msgspec.convert(v, _Gathered) for k, v in state["gathered"]}
