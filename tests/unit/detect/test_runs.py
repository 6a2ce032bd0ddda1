"""What a run remembers of its signals."""

from __future__ import annotations

import pytest

from detect.convergence.cases import Cases
from detect.convergence.config import ConvergenceConfig
from detect.convergence.runs import Runs
from detect.types import Signal

S = 10**9


def started(at_s: float) -> Signal:
    return Signal(f"s{at_s}", "t", "external_alert", "alert", "cart", int(at_s * S), int(at_s * S), 0.6, "Down|cart")


def test_what_starts_anew_counts_by_how_late_and_how_often() -> None:
    config = ConvergenceConfig()
    runs = Runs(config, Cases(config, "t"))
    runs.note("run", [started(at) for at in (0.0, 15.0, 315.0, 615.0)])
    full = config.onsets.again_seconds
    assert [(a / S, b / S) for a, b, _ in runs.by_id["run"].again] == [(0, 15), (15, 315), (315, 615)]
    assert [weight for *_, weight in runs.by_id["run"].again] == pytest.approx([15 / full, 2**-0.5, 3**-0.5])
