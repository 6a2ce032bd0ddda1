"""Early warning: which series will run into its limit, and when? One signal per episode, updated in place."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from detect.breach.episode import Policy
from detect.breach.models import load_models
from detect.breach.paces import Pace
from detect.breach.predictor import Forecast
from detect.detectors.base import BucketWindow, Candidate, Hysteresis, dump_state, load_state
from detect.limits import limits_of
from detect.types import Breach, Signal
from ingest.types import SeriesKey

SECOND = 10**9
_FEW: Final = 200
"""Things that may be in use at most, for a count of few."""
_FALL: Final = 0.1
"""Share of the limit: somebody restarted or cleaned up (`Policy.drop`). Of few things, two deviations of their chance
(the root of the count) come and go by themselves."""
_LONGEST_NS: Final = 3600 * SECOND
"""A warning stands no longer without a rise."""


@dataclass(frozen=True)
class BreachConfig:
    """When a crossing is foretold."""

    limits: tuple[tuple[str, str | float], ...] = ()
    """`usage metric = limit metric or number`, for one service with `service/` before it; beside the pairs found by name."""
    tick_seconds: float = 60.0
    """The models look at a series once in this time. The scoring of docs/early-warning.md is that of a minute."""
    fast_below_seconds: float = 5.0
    """Where buckets are shorter than this, each of them is looked at as well, by a plain rule (detect.breach.quick):
    a system that is watched by the second is one that breaks within minutes."""
    fast_policy: Policy = field(default_factory=lambda: Policy(
        asked=((1.0, 0.5),), least_ticks=2.0, horizon=1800.0, need=5, memory=((1.0, 0.0),), keep=0.5,
        close=15))
    """Of these looks; the other ones have the policy of the shipped model."""
    max_series: int = 2_000
    tenant: str = "default"


class _Told(msgspec.Struct):
    """What was foretold of a series while its warning stands."""

    until_ns: int  # the end of the interval in which the limit is crossed, as of the last look at which it rose
    top: float  # the highest level since
    is_whole: bool  # it has had whole numbers only


class BreachForecast:
    """Signals of kind breach with the 5, 50 and 95 % times of the crossing.

    A count of few things (connections of a pool) grows in steps that may be minutes apart: its warning is not withdrawn in
    between, but when it falls, or at the end of the interval in which the limit was to be reached (an hour at most):
    nobody is told twice of one leak.

    Cost: 70 us per watched series and tick. Fails on a first-ever ramp that ends short of the limit (a warning that
    is withdrawn), and on growth that is hidden in the noise until the last quarter of an hour.
    """

    name = "breach"

    def __init__(self, config: BreachConfig | None = None) -> None:
        self._c = config or BreachConfig()
        self._slow = Pace(load_models(), int(self._c.tick_seconds * SECOND))
        self._fast: Pace | None = None
        self._standing: dict[str, dict[str, Candidate]] = {"slow": {}, "fast": {}}
        self._told: dict[str, dict[str, _Told]] = {"slow": {}, "fast": {}}
        self._hysteresis = Hysteresis(self.name, need=1, of=1, close=1, tenant=self._c.tenant)

    def step(self, window: BucketWindow) -> list[Signal]:
        watched = limits_of(window.series, self._c.limits)[: self._c.max_series]
        if not watched:
            return []
        values = dict(zip(window.series, window.values.tolist(), strict=True))
        if self._fast is None and window.bucket_ns < self._c.fast_below_seconds * SECOND:
            self._fast = Pace(load_models(), window.bucket_ns, self._c.fast_policy, quick=True)
        is_news = False
        for name, pace in (("slow", self._slow), ("fast", self._fast)):
            told = None if pace is None else pace.step(window.ts_ns, window.bucket_ns, watched, values)
            if pace is None or told is None:
                continue
            is_news = True
            found = [_candidate(f, limit, is_floor, window, pace.tick_ns) for f, limit, is_floor in told
                     if self._stands(name, f, limit, is_floor, values.get(f.key, math.nan), window)]
            self._standing[name] = {c.key: c for c in found}
            for c in found:
                if c.breach is not None:
                    self._told[name][c.key].until_ns = min(c.breach.eta_high_ns, window.ts_ns + _LONGEST_NS)
            self._told[name] = {key: known for key, known in self._told[name].items() if key in self._standing[name]}
        if not is_news:
            return []
        return self._hysteresis.update(window, {**self._standing["fast"], **self._standing["slow"]})

    def _stands(self, pace: str, told: Forecast[SeriesKey], limit: float, is_floor: bool, value: float,
                window: BucketWindow) -> bool:
        """Whether there is a warning of this series, which may be that of before; see the class."""
        known, key = self._told[pace], _name_of(told.key)
        if told.warned and key not in known:
            known[key] = _Told(0, told.level, is_whole=True)
        if (before := known.get(key)) is None:
            return False
        before.is_whole &= not math.isfinite(value) or value.is_integer()
        has_fallen = before.top - told.level > max(_FALL * limit, 2.0 * math.sqrt(max(0.0, before.top)))
        before.top = max(before.top, told.level)
        is_few = before.is_whole and not is_floor and 0 < limit <= _FEW and limit.is_integer()
        return told.warned or (is_few and not has_fallen and window.ts_ns + window.bucket_ns < before.until_ns)

    def snapshot(self) -> bytes:
        return dump_state(
            self._hysteresis, slow=self._slow.dump(), standing=self._standing, told=self._told,
            fast=None if self._fast is None else [self._fast.tick_ns, self._fast.dump()])

    def restore(self, data: bytes) -> None:
        state: dict[str, Any] = load_state(self._hysteresis, data)
        self._slow.load(state["slow"])
        self._standing = msgspec.convert(state["standing"], dict[str, dict[str, Candidate]])
        self._told = {"slow": {}, "fast": {}, **msgspec.convert(state.get("told", {}), dict[str, dict[str, _Told]])}
        self._fast = None
        if state["fast"] is not None:
            tick_ns, dumped = state["fast"]
            self._fast = Pace(load_models(), tick_ns, self._c.fast_policy, quick=True)
            self._fast.load(dumped)


def _name_of(key: SeriesKey) -> str:
    return f"breach|{key.service}|{key.instance}|{key.name}"


def _candidate(told: Forecast[SeriesKey], limit: float, is_floor: bool, window: BucketWindow, tick_ns: int) -> Candidate:
    key, end_ns = told.key, window.ts_ns + window.bucket_ns
    name = _name_of(key)
    if not math.isfinite(told.middle):  # the warning stands for a while; what was foretold before is kept
        return Candidate(name, "breach", key.service, 0.5, f"{key.name} does not grow at the moment",
                         instance=key.instance, series=key.name)
    low, middle, high = (end_ns + int(t * tick_ns) for t in (told.low, told.middle, told.high))
    per_second = (-1 if is_floor else 1) * told.slope / (tick_ns / SECOND)
    breach = Breach(key.name, limit, "down" if is_floor else "up", low, middle, high, min(0.99, told.probability),
                    told.level, per_second)
    minutes = [(t - end_ns) / 60e9 for t in (low, middle, high)]
    slowest, fastest = (abs(per_second) * 60 * told.middle / t for t in (told.high, told.low))
    ends = "used up" if is_floor else "full"
    text = (f"{key.name} is {told.level:.4g} of {limit:.4g} and {'falls' if is_floor else 'grows'} "
            f"{abs(per_second) * 60:.3g} ({slowest:.2g} to {fastest:.2g}) a minute: {ends} in "
            f"{minutes[0]:.1f} to {minutes[2]:.1f} min")
    return Candidate(name, "breach", key.service, 0.5 if minutes[1] > 5 else 0.6, text,
                     instance=key.instance, series=key.name, value=told.level, usual=None, breach=breach)
