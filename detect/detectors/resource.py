"""Locks that others wait for, caches that refuse, pools that are empty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detect.detectors.base import BucketWindow, Candidate, Hysteresis, dump_state, load_state
from detect.indicators import indicator_of
from detect.limits import companions
from detect.types import Signal
from ingest.types import SeriesKey


@dataclass(frozen=True)
class ResourceConfig:
    """When a bounded resource is in trouble."""

    min_lock_seconds: float = 1.5
    """Age of the oldest blocking transaction that counts."""
    full_share: float = 0.95
    """Used share of a pool or cache that counts as full, 0..1."""
    need: int = 3
    of: int = 4
    close: int = 4
    tenant: str = "default"


class Resource:
    """Signals lock_wait, cache_full and saturation."""

    name = "resource"

    def __init__(self, config: ResourceConfig | None = None) -> None:
        self._c = config or ResourceConfig()
        self._hysteresis = Hysteresis(self.name, need=self._c.need, of=self._c.of, close=self._c.close,
                                      tenant=self._c.tenant)

    def step(self, window: BucketWindow) -> list[Signal]:
        values = {key: v for key, v in zip(window.series, window.values.tolist(), strict=True) if np.isfinite(v)}
        locks: dict[str, dict[str, float]] = {}
        refused: dict[str, float] = {}
        for key, value in values.items():
            indicator = indicator_of(key)
            if indicator == "lock_wait":
                locks.setdefault(key.service, {})[key.name.rsplit(".", 1)[-1]] = value
            elif indicator == "cache_full" and value > 0:
                refused[key.service] = refused.get(key.service, 0.0) + value
        found = {c.key: c for c in (*self._locks(locks), *self._full(values, refused))}
        return self._hysteresis.update(window, found)

    def _locks(self, locks: dict[str, dict[str, float]]) -> list[Candidate]:
        out = []
        for service, names in locks.items():
            waiting = max((v for n, v in names.items() if "waiting" in n or "blocked" in n), default=0.0)
            oldest = max((v for n, v in names.items() if "oldest" in n), default=0.0)
            if waiting >= 1 and oldest >= self._c.min_lock_seconds:
                out.append(Candidate(
                    f"lock|{service}", "lock_wait", service, 0.95,
                    f"{waiting:.0f} sessions wait for a lock held for {oldest:.0f} s", value=waiting, usual=0.0))
        return out

    def _full(self, values: dict[SeriesKey, float], refused: dict[str, float]) -> list[Candidate]:
        out = [Candidate(f"cache|{service}", "cache_full", service, 0.95, f"refuses {rate:.0f} writes a second",
                         value=rate, usual=0.0) for service, rate in refused.items()]
        for usage, limit in companions(tuple(values)):
            top = values[limit]
            if top > 0 and values[usage] >= self._c.full_share * top:
                name = f"full|{usage.service}|{usage.instance}|{usage.name}"
                is_cache = "memory" in usage.name
                out.append(Candidate(
                    name, "cache_full" if is_cache else "saturation", usage.service, 0.8,
                    f"{usage.name} is {values[usage]:.0f} of {top:.0f}", instance=usage.instance, series=usage.name,
                    value=values[usage], usual=None))
        return out

    def snapshot(self) -> bytes:
        return dump_state(self._hysteresis)

    def restore(self, data: bytes) -> None:
        load_state(self._hysteresis, data)
