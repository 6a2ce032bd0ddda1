"""Early warning: a leak is told of with its interval, noise and old levels are not, state survives."""

import msgspec
import numpy as np
import pytest

from detect.detectors.base import BucketWindow
from detect.detectors.breach import BreachConfig, BreachForecast
from detect.types import Signal
from ingest.types import SeriesKey

USE, MAX = SeriesKey("orders", "db.pool.in_use"), SeriesKey("orders", "db.pool.max")
NS = 10**9


def run(detector: BreachForecast, use: list[float], top: float = 100.0, start: int = 0) -> list[Signal]:
    out: list[Signal] = []
    for n, value in enumerate(use, start):
        out += detector.step(BucketWindow(n * NS, NS, (USE, MAX), np.array([value, top])))
        msgspec.msgpack.decode(detector.snapshot())
    return out


def leak(rng: np.random.Generator, flat: int = 60, rising: int = 60, slope: float = 0.9) -> list[float]:
    return [10 + rng.normal(0, 0.8) + max(0, n - flat) * slope for n in range(flat + rising)]


def test_a_leak_is_told_of_before_it_is_full_and_the_interval_holds_the_truth() -> None:
    signals = [s for s in run(BreachForecast(), leak(np.random.default_rng(0))) if s.is_open]
    assert signals
    first, last = signals[0], signals[-1]
    assert first.kind == "breach"
    truth_ns = (60 + 90 / 0.9) * NS
    assert last.breach is not None
    assert first.end_ns < truth_ns
    assert last.breach.eta_low_ns <= truth_ns <= last.breach.eta_high_ns
    assert "full in" in last.evidence[0].text


@pytest.mark.parametrize("seed", range(5))
def test_noise_around_a_level_is_quiet(seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert run(BreachForecast(), list(rng.normal(40, 8, 400).clip(0, 99))) == []


def test_a_restored_detector_goes_on_as_the_old_one_would() -> None:
    values = leak(np.random.default_rng(1))
    whole, first = BreachForecast(), BreachForecast()
    run(whole, values[:80])
    run(first, values[:80])
    second = BreachForecast()
    second.restore(first.snapshot())
    assert run(whole, values[80:], start=80) == run(second, values[80:], start=80)


def test_limits_by_number_need_no_companion() -> None:
    rss = SeriesKey("cart", "process.memory.rss")
    detector = BreachForecast(BreachConfig(limits=(("process.memory.rss", 1000.0),)))
    out: list[Signal] = []
    for n in range(100):
        out += detector.step(BucketWindow(n * NS, NS, (rss,), np.array([100.0 + 6 * n])))
    assert any(s.breach is not None and s.breach.limit == 1000.0 for s in out)
