"""Error ratio and latency of services and of calls between them: the quick, robust path."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detect.detectors.base import BucketWindow, Candidate, Hysteresis, dump_state, load_state
from detect.detectors.usual import Usual
from detect.indicators import indicator_of
from detect.types import Signal
from ingest.types import SeriesKey


@dataclass(frozen=True)
class ServiceLevelConfig:
    """When a service level is broken."""

    min_error_ratio: float = 0.05
    """Smallest error ratio that counts, 0..1."""
    error_factor: float = 5.0
    """Times the usual ratio."""
    latency_factor: float = 2.5
    """Times the usual latency ..."""
    latency_extra_seconds: float = 0.12
    """... or the usual plus this, whichever is more."""
    warm_up: int = 20
    """Buckets of history before "usual" is trusted."""
    need: int = 3
    of: int = 4
    close: int = 5
    tenant: str = "default"


class ServiceLevel:
    """Signals error_ratio and latency, on nodes and on edges (`peer`).

    Cost: a few us per series and bucket. Fails on services with so little traffic that one error is 5 %.
    """

    name = "service_level"

    def __init__(self, config: ServiceLevelConfig | None = None) -> None:
        self._c = config or ServiceLevelConfig()
        self._hysteresis = Hysteresis(self.name, need=self._c.need, of=self._c.of, close=self._c.close,
                                      tenant=self._c.tenant)
        self._usual = Usual()
        self._kinds: list[str] = []

    def step(self, window: BucketWindow) -> list[Signal]:
        for key in window.series[len(self._kinds):]:
            self._kinds.append(_kind(key))
        self._usual.grow(len(window.series))
        found: dict[str, Candidate] = {}
        frozen = np.zeros(len(window.series), dtype=bool)
        for i, kind in enumerate(self._kinds):
            value = float(window.values[i])
            if not kind or not np.isfinite(value):
                continue
            candidate = self._judge(window.series[i], kind, value, i)
            if candidate is not None:
                found[candidate.key] = candidate
                frozen[i] = True
            elif self._hysteresis.is_open(_name(window.series[i])):
                frozen[i] = True
        self._usual.learn(window.values, frozen)
        return self._hysteresis.update(window, found)

    def _judge(self, key: SeriesKey, kind: str, value: float, i: int) -> Candidate | None:
        is_warm = self._usual.count[i] >= self._c.warm_up
        usual = float(self._usual.mean[i])
        if kind == "errors":
            limit = max(self._c.min_error_ratio, self._c.error_factor * usual if is_warm else 0.0)
            if value < limit or not is_warm:
                return None
            text = f"error ratio {value:.0%} (usual {usual:.1%})"
            return Candidate(_name(key), "error_ratio", key.service, min(1.0, 0.5 + value / 2), text, key.peer,
                             series=key.name, value=value, usual=usual)
        limit = max(self._c.latency_factor * usual, usual + self._c.latency_extra_seconds)
        if not is_warm or value < limit:
            return None
        text = f"{key.name.rsplit('.', 1)[-1].replace('_', ' ')} {value:.2f} s (usual {usual:.2f} s)"
        times = max(value, 1e-3) / max(usual, 1e-3)  # a clock that ran backwards makes either of them negative
        score = min(1.0, max(0.0, 0.4 + 0.1 * float(np.log2(times))))
        return Candidate(_name(key), "latency", key.service, score, text, key.peer, series=key.name, value=value,
                         usual=usual)

    def snapshot(self) -> bytes:
        return dump_state(self._hysteresis, usual=self._usual.dump(), kinds=self._kinds)

    def restore(self, data: bytes) -> None:
        state = load_state(self._hysteresis, data)
        self._usual.load(state["usual"])  # type: ignore[arg-type]
        self._kinds = state["kinds"]  # type: ignore[assignment]


def _kind(key: SeriesKey) -> str:
    indicator = indicator_of(key)
    if indicator == "latency" and "p50" in key.name:
        return ""  # one quantile is enough, and the high one tells more
    return indicator if indicator in ("errors", "latency") else ""


def _name(key: SeriesKey) -> str:
    return f"{key.service}|{key.peer}|{key.instance}|{key.name}"
