"""Lines: what is quiet looks quiet, peaks stay, gaps are gaps, a forecast ends at its interval."""

import re

import numpy as np
import pytest

from detect.types import Breach
from ingest.types import SeriesKey
from opsmend.dashboard.plots import between, forecast, path, room, spark, thin

ERRORS = SeriesKey("a", "http.server.error_ratio")
CPU = SeriesKey("a", "process.cpu.utilization")


def heights(drawn: str) -> list[float]:
    return [float(y) for _, y in re.findall(r"[ML](\S+) (\S+?)(?=[ML]|$)", drawn)]


@pytest.mark.parametrize("key", [ERRORS, CPU, SeriesKey("a", "anything")])
@pytest.mark.parametrize("level", [0.002, 0.5, 90.0])
def test_noise_is_not_stretched_to_full_height(key: SeriesKey, level: float) -> None:
    noise = np.random.default_rng(1).normal(level, level / 20, 300)
    ys = heights(spark(key, noise))
    assert max(ys) - min(ys) < 28 * 0.6


def test_a_rise_takes_the_height() -> None:
    values = np.concatenate([np.full(60, 0.002), np.full(60, 0.31)])
    ys = heights(spark(ERRORS, values))
    assert max(ys) - min(ys) > 28 * 0.7


def test_a_constant_series_and_none_at_all() -> None:
    assert len(set(heights(spark(CPU, np.zeros(50))))) == 1
    assert spark(CPU, np.full(50, np.nan)) == "" and spark(CPU, np.zeros(0)) == ""
    assert room(CPU, np.full(3, np.nan)) == (0.0, 1.0)


def test_thinning_keeps_the_peak() -> None:
    values = np.ones(10_000)
    values[7_777] = 50.0
    assert len(thin(values, 100)) == 100 and np.nanmax(thin(values, 100)) == 50.0


def test_a_long_gap_breaks_the_line() -> None:
    values = np.ones(100)
    values[30:70] = np.nan
    assert path(values, 0, 2, 100, 28).count("M") == 2
    values[30:70:5] = 1.0
    assert path(values, 0, 2, 100, 28).count("M") == 1


def test_a_forecast_reaches_the_limit_within_its_interval() -> None:
    s = 10**9
    now = 10_000 * s
    times = np.arange(now - 600 * s, now, 2 * s)
    breach = Breach("pool", 20.0, "up", now + 840 * s, now + 960 * s, now + 1140 * s, 0.9, 14.0, 0.006)
    drawn = forecast(times, np.linspace(10, 14, len(times)), breach, now)
    assert 0 < drawn.now_x < drawn.low_x < drawn.high_x == drawn.width
    assert f"L{drawn.low_x} {drawn.limit_y}L{drawn.high_x} {drawn.limit_y}Z" in drawn.band
    assert drawn.middle.endswith(f" {drawn.limit_y}")
    assert min(heights(drawn.past)) > drawn.limit_y, "the past lies below the limit"
    assert forecast(times[:0], np.zeros(0), breach, now).past == "", "also without a past"


def test_a_band_has_a_shape_per_stretch_and_stays_inside() -> None:
    bottom, top = np.full(60, 1.0), np.full(60, 99.0)
    bottom[20:30] = np.nan
    drawn = between(bottom, top, 0.0, 2.0, 600, 56)
    assert drawn.count("M") == drawn.count("Z") == 2
    assert min(heights(drawn.replace("Z", ""))) >= 0 and max(heights(drawn.replace("Z", ""))) <= 56
    assert between(np.full(9, np.nan), top[:9], 0, 2, 600, 56) == ""
