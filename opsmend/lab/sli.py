"""What the customers see: per-second results of the load, and when a second counts as good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

_TAIL_BYTES = 64 * 1024
_WINDOW = 3


class Second(msgspec.Struct, frozen=True):
    """Requests that ended in one second. Latencies in seconds, 0 without requests."""

    t: int
    n: int
    ok: int
    p50: float
    p95: float


@dataclass(frozen=True)
class SliRule:
    """When the customers are content."""

    ok_ratio: float = 0.97
    """Least share of good answers over three seconds."""
    p95_factor: float = 2.5
    """p95 may rise to this multiple of the baseline ..."""
    p95_slack_seconds: float = 0.12
    """... or by this much, whichever allows more."""
    base_p95_seconds: float = 0.15
    """p95 of the healthy system; measured by the steady gate."""

    @property
    def p95_limit_seconds(self) -> float:
        return max(self.p95_factor * self.base_p95_seconds, self.base_p95_seconds + self.p95_slack_seconds)

    def is_good(self, window: Sequence[Second]) -> bool:
        """Whether a window (the last three seconds) is good. No requests at all is not good."""
        n = sum(s.n for s in window)
        # The median of the p95s: one second has some 30 requests, whose p95 is nearly a maximum.
        p95 = sorted(s.p95 for s in window)[len(window) // 2] if window else 0.0
        return n > 0 and sum(s.ok for s in window) >= self.ok_ratio * n and p95 <= self.p95_limit_seconds


def read_seconds(path: Path, last: int) -> list[Second]:
    """Up to `last` newest seconds, oldest first. Cost: one read of at most 64 KiB."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _TAIL_BYTES))
        lines = file.read().split(b"\n")
    if size > _TAIL_BYTES:
        lines = lines[1:]
    # The last piece is empty, or a line that is still being written.
    return [msgspec.json.decode(line, type=Second) for line in lines[:-1]][-last:]


def good_run(seconds: Sequence[Second], rule: SliRule, *, now: float) -> int:
    """How many seconds up to now have been good without a break; 0 if the load has fallen silent."""
    if not seconds or now - seconds[-1].t > 4:
        return 0
    run = 0
    for end in range(len(seconds), 0, -1):
        window = seconds[max(0, end - _WINDOW):end]
        if len(window) < _WINDOW or not rule.is_good(window):
            break
        run += 1
    return run


def is_breached(seconds: Sequence[Second], rule: SliRule) -> bool:
    """Whether the newest three seconds are bad."""
    return len(seconds) >= _WINDOW and not rule.is_good(seconds[-_WINDOW:])
