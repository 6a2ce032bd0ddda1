"""The live detector at one-second buckets: faults are told within seconds, noise is not, and bands are kept."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from detect.detectors.base import BucketWindow
from detect.detectors.metric_forecast import MetricForecast
from detect.types import Signal
from ingest.types import SeriesKey

SECOND = 10**9
START = 1_790_000_000
FAULT, OVER, END = 120, 200, 260


def keys(count: int) -> tuple[SeriesKey, ...]:
    names = ("http.server.requests_per_second", "process.cpu.utilization", "process.memory.rss", "pool_waiting")
    return tuple(SeriesKey(f"s{i}", name, f"s{i}-1") for i in range(count) for name in names)


def healthy(count: int, n: int, seed: int = 0) -> NDArray[np.float64]:
    """[n, 4 * count]"""
    dice = np.random.default_rng(seed)
    columns = []
    for _ in range(count):
        columns += [dice.poisson(dice.choice([8, 30, 200]), n).astype(float), np.clip(dice.normal(0.2, 0.05, n), 0, 4),
                    1e8 * dice.normal(1, 0.01, n), (dice.random(n) < 0.02).astype(float)]
    return np.array(columns).T


def run(values: NDArray[np.float64], detector: MetricForecast | None = None) -> list[tuple[int, Signal]]:
    detector = detector or MetricForecast()
    series = keys(values.shape[1] // 4)
    return [(k, signal) for k, row in enumerate(values)
            for signal in detector.step(BucketWindow((START + k) * SECOND, SECOND, series, row))]


@pytest.mark.parametrize("column", range(4))
def test_a_fault_is_told_within_seconds_and_closed_after_it(column: int) -> None:
    values = healthy(4, END)
    at = values[FAULT:OVER, column]
    at[:] = (at * 0.05, at + 0.8, at * 3, at + 8)[column]
    told = run(values)
    assert {signal.series for _, signal in told} == {keys(1)[column].name}
    assert told[0][0] <= FAULT + 6
    assert not told[-1][1].is_open and OVER <= told[-1][0] <= OVER + 10
    assert all(signal.is_open for k, signal in told if k < OVER)  # for as long as it lasts
    assert len({signal.id for _, signal in told}) == 1


def test_a_leak_is_told_while_it_grows() -> None:
    values = healthy(1, OVER)
    values[FAULT:, 2] *= np.linspace(1, 3, OVER - FAULT)
    told = run(values)
    assert told and told[0][0] <= FAULT + 30


def test_noise_is_not_told() -> None:
    assert run(healthy(25, 900, seed=1)) == []


def test_less_of_cpu_and_memory_is_good_news() -> None:
    values = healthy(1, END)
    values[FAULT:OVER, 1:3] *= 0.05
    assert run(values) == []


def test_gaps_neither_open_nor_break() -> None:
    values = healthy(2, END)
    values[130:190] = np.nan
    values[150, 0], values[151, 1] = np.inf, -np.inf
    assert run(values) == []


def test_what_was_foretold_is_kept_beside_what_came() -> None:
    values, detector = healthy(2, 150), MetricForecast()
    run(values, detector)
    band = detector.foretold()
    assert band.shape == (8, 3) and band.dtype == np.float32 and np.isfinite(band).all()
    assert (np.diff(band, axis=1) >= 0).all()
    assert 5 < float(band[0, 1]) < 250
