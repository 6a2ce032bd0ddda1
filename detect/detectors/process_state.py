"""Is the process there, does it answer, does it come back again and again?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detect.detectors.base import BucketWindow, Candidate, Hysteresis, dump_state, load_state
from detect.indicators import indicator_of
from detect.types import Signal


@dataclass(frozen=True)
class ProcessStateConfig:
    """When a process counts as gone, hung or looping."""

    loop_exits: int = 3
    """Exits within `loop_seconds` that make a crash loop."""
    loop_seconds: float = 30.0
    hang_buckets: int = 3
    down_buckets: int = 2
    close: int = 3
    tenant: str = "default"


class ProcessState:
    """Signals process.down, hang and crash_loop from `up`, `responsive` and exit changes."""

    name = "process_state"

    def __init__(self, config: ProcessStateConfig | None = None) -> None:
        self._c = c = config or ProcessStateConfig()
        self._down = Hysteresis(self.name, need=c.down_buckets, of=c.down_buckets + 1, close=c.close, tenant=c.tenant)
        self._hang = Hysteresis(self.name, need=c.hang_buckets, of=c.hang_buckets + 1, close=c.close, tenant=c.tenant)
        self._loop = Hysteresis(self.name, need=1, of=1, close=c.close, tenant=c.tenant)
        self._exits: dict[str, list[int]] = {}

    def step(self, window: BucketWindow) -> list[Signal]:
        up: dict[tuple[str, str], float] = {}
        responsive: dict[tuple[str, str], float] = {}
        for key, value in zip(window.series, window.values.tolist(), strict=True):
            indicator = indicator_of(key)
            if np.isfinite(value) and indicator in ("up", "responsive"):
                (up if indicator == "up" else responsive)[key.service, key.instance] = value
        down, hang = {}, {}
        for (service, instance), value in up.items():
            name = instance or service
            if value < 0.5:
                down[name] = Candidate(f"down|{name}", "process.down", service, 1.0, "its process is gone",
                                       instance=instance, value=0.0, usual=1.0)
            elif responsive.get((service, instance), 1.0) < 0.5:
                hang[name] = Candidate(f"hang|{name}", "hang", service, 0.95,
                                       "its process runs but does not answer", instance=instance, value=0.0, usual=1.0)
        return [*self._down.update(window, {c.key: c for c in down.values()}),
                *self._hang.update(window, {c.key: c for c in hang.values()}),
                *self._loop.update(window, self._loops(window))]

    def _loops(self, window: BucketWindow) -> dict[str, Candidate]:
        for change in window.changes:
            # An exit that somebody asked for (roll-out, restart) carries its actor.
            if change.kind == "exit" and not change.actor:
                self._exits.setdefault(change.service, []).append(change.ts_ns)
        found = {}
        for service in sorted(self._exits):
            recent = [t for t in self._exits[service] if window.ts_ns - t < self._c.loop_seconds * 1e9]
            self._exits[service] = recent
            if not recent:
                del self._exits[service]
            elif len(recent) >= self._c.loop_exits:
                found[f"loop|{service}"] = Candidate(
                    f"loop|{service}", "crash_loop", service, 1.0,
                    f"exited {len(recent)} times in {self._c.loop_seconds:.0f} s", value=float(len(recent)), usual=0.0)
        return found

    def snapshot(self) -> bytes:
        return dump_state(self._down, hang=self._hang.dump(), loop=self._loop.dump(), exits=self._exits)

    def restore(self, data: bytes) -> None:
        import msgspec

        from detect.detectors.base import _Track

        state = load_state(self._down, data)
        self._hang.load(msgspec.convert(state["hang"], dict[str, _Track]))
        self._loop.load(msgspec.convert(state["loop"], dict[str, _Track]))
        self._exits = msgspec.convert(state["exits"], dict[str, list[int]])
