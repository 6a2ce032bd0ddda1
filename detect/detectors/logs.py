"""Log rate and new templates."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np

from detect.detectors.base import BucketWindow, Candidate, Hysteresis, dump_state, load_state
from detect.detectors.usual import Usual
from detect.types import Signal


@dataclass(frozen=True)
class LogsConfig:
    """When logs are unusual."""

    rate_factor: float = 8.0
    """Times the usual lines per second ..."""
    rate_extra: float = 50.0
    """... and at least this many more."""
    warm_up: int = 20
    """Buckets before rates and templates are judged."""
    new_template_lines: int = 3
    """Lines of a new WARN or ERROR template before it is told of."""
    max_templates: int = 20_000
    """Known templates kept per stage; the oldest is forgotten first."""
    close: int = 5
    tenant: str = "default"


class Logs:
    """Signals log_rate and log_template (WARN and above only: new INFO lines are every release's)."""

    name = "logs"

    def __init__(self, config: LogsConfig | None = None) -> None:
        self._c = config or LogsConfig()
        self._rate = Hysteresis(self.name, need=3, of=4, close=self._c.close, tenant=self._c.tenant)
        self._new = Hysteresis(self.name, need=1, of=1, close=30, tenant=self._c.tenant)
        self._usual = Usual(give_up_after=3600)
        self._known: dict[tuple[str, str], int] = {}  # (service, template) -> lines so far while new, else -1
        self._buckets = 0

    def step(self, window: BucketWindow) -> list[Signal]:
        self._buckets += 1
        return [*self._rate.update(window, self._rates(window)), *self._new.update(window, self._templates(window))]

    def _rates(self, window: BucketWindow) -> dict[str, Candidate]:
        found: dict[str, Candidate] = {}
        frozen = np.zeros(len(window.series), dtype=bool)
        self._usual.grow(len(window.series))
        values = np.full(len(window.series), np.nan)
        for i, key in enumerate(window.series):
            if key.name != "log.lines_per_second" or not np.isfinite(window.values[i]):
                continue
            values[i] = rate = float(window.values[i])
            usual = float(self._usual.mean[i])
            if self._usual.count[i] >= self._c.warm_up and rate > max(
                    self._c.rate_factor * usual, usual + self._c.rate_extra):
                name = f"rate|{key.service}"
                frozen[i] = True
                found[name] = Candidate(
                    name, "log_rate", key.service, 0.7, f"{rate:.0f} log lines a second (usual {usual:.0f})",
                    series=key.name, value=rate, usual=usual)
            frozen[i] |= self._rate.is_open(f"rate|{key.service}")
        self._usual.learn(values, frozen)
        return found

    def _templates(self, window: BucketWindow) -> dict[str, Candidate]:
        found = {}
        for service, old, new in window.merged:  # what was known by another name is not new
            if (service, old) in self._known and self._known.get((service, new)) != -1:
                self._known[service, new] = self._known[service, old]
        for (service, template_id), count in sorted(window.log_counts.items()):
            at = (service, template_id)
            seen = self._known.get(at)
            if seen == -1:
                name = f"template|{service}|{template_id}"
                if self._new.is_open(name):
                    found[name] = self._candidate(name, at, count, window)
                continue
            if self._buckets <= self._c.warm_up or at not in window.error_templates:
                self._known[at] = -1
                continue
            total = (seen or 0) + count
            self._known[at] = total
            if total >= self._c.new_template_lines:
                self._known[at] = -1
                name = f"template|{service}|{template_id}"
                found[name] = self._candidate(name, at, total, window)
        while len(self._known) > self._c.max_templates:
            del self._known[next(iter(self._known))]
        return found

    def _candidate(self, name: str, at: tuple[str, str], count: int, window: BucketWindow) -> Candidate:
        return Candidate(name, "log_template", at[0], 0.45, f"a log template not seen before, {count} lines",
                         template_id=at[1], count=count, value=float(count), usual=0.0)

    def snapshot(self) -> bytes:
        known = [[s, t, n] for (s, t), n in self._known.items()]
        return dump_state(self._rate, new=self._new.dump(), usual=self._usual.dump(), known=known,
                          buckets=self._buckets)

    def restore(self, data: bytes) -> None:
        from detect.detectors.base import _Track

        state = load_state(self._rate, data)
        self._new.load(msgspec.convert(state["new"], dict[str, _Track]))
        self._usual.load(state["usual"])  # type: ignore[arg-type]
        self._known = {(s, t): n for s, t, n in state["known"]}  # type: ignore[attr-defined]
        self._buckets = state["buckets"]  # type: ignore[assignment]
