"""Somebody else's alerts, as signals."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from detect.detectors.base import BucketWindow, Candidate, Hysteresis, dump_state, load_state
from detect.types import Signal
from ingest.types import ExternalAlert

_SCORES = {"critical": 0.9, "page": 0.9, "error": 0.8, "warning": 0.6, "info": 0.3, "none": 0.1}


@dataclass(frozen=True)
class ExternalAlertConfig:
    """Which alerts are kept."""

    max_alerts: int = 100_000
    """Firing alerts held at once; the oldest is forgotten first."""
    forget_after_seconds: float = 3600.0
    """A firing alert that nobody repeats is taken as over after this."""
    tenant: str = "default"


class ExternalAlerts:
    """One signal per (alert name, service): instances and repeats are folded into its count."""

    name = "external_alert"

    def __init__(self, config: ExternalAlertConfig | None = None) -> None:
        self._c = config or ExternalAlertConfig()
        self._hysteresis = Hysteresis(self.name, need=1, of=1, close=1, tenant=self._c.tenant)
        self._firing: dict[str, ExternalAlert] = {}
        self._seen_ns: dict[str, int] = {}

    def step(self, window: BucketWindow) -> list[Signal]:
        fresh: dict[str, int] = {}
        for alert in window.alerts:
            at = alert.fingerprint or f"{alert.name}|{alert.service}|{alert.instance}"
            if alert.status == "firing":
                self._firing[at] = alert
                self._seen_ns[at] = window.ts_ns
                key = f"alert|{alert.name}|{alert.service}"
                fresh[key] = fresh.get(key, 0) + 1
            else:
                self._firing.pop(at, None)
                self._seen_ns.pop(at, None)
        limit = self._c.forget_after_seconds * 1e9
        for at in [a for a, seen in self._seen_ns.items() if window.ts_ns - seen > limit]:
            del self._firing[at], self._seen_ns[at]
        while len(self._firing) > self._c.max_alerts:
            oldest = next(iter(self._firing))
            del self._firing[oldest], self._seen_ns[oldest]
        found: dict[str, Candidate] = {}
        for alert in self._firing.values():
            key = f"alert|{alert.name}|{alert.service}"
            score = _SCORES.get(alert.severity.lower(), 0.6)
            if key not in found or score > found[key].score:
                found[key] = Candidate(key, "alert", alert.service, score, f"alert {alert.name[:80]} fires",
                                       series=alert.name, count=fresh.get(key, 0))
        return self._hysteresis.update(window, found)

    def snapshot(self) -> bytes:
        return dump_state(self._hysteresis, firing=self._firing, seen=self._seen_ns)

    def restore(self, data: bytes) -> None:
        state = load_state(self._hysteresis, data)
        self._firing = msgspec.convert(state["firing"], dict[str, ExternalAlert])
        self._seen_ns = msgspec.convert(state["seen"], dict[str, int])
