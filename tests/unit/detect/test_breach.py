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


def test_a_step_to_a_new_level_is_no_ramp() -> None:
    """Redis has kept 31 of 199 MB after it was full: that it once rose was told for minutes."""
    rng = np.random.default_rng(0)
    before = list(4.0 + rng.integers(0, 4, 150) * 0.002)
    assert run(BreachForecast(), [*before, *np.linspace(4.0, 15.6, 8), *[15.6] * 300]) == []


def test_a_ramp_that_stops_is_withdrawn_within_a_minute() -> None:
    rng = np.random.default_rng(0)
    ramp = [*(10.0 + rng.normal(0, 0.1, 60)), *(10.0 + np.arange(60) * 0.7), *([52.0] * 200)]
    signals = run(BreachForecast(), ramp)
    assert signals and not signals[-1].is_open
    assert 90 * NS < signals[-1].end_ns < 180 * NS


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


START_NS = 10**18 // (60 * NS) * 60 * NS


def minutes(values: list[float], key: SeriesKey, bucket_seconds: int = 60) -> list[Signal]:
    """Values by the bucket, into a detector that has the limit 100 for them."""
    detector = BreachForecast(BreachConfig(limits=((key.name, 100.0),)))
    step = bucket_seconds * NS
    out: list[Signal] = []
    for n, value in enumerate(values):
        out += detector.step(BucketWindow(START_NS + n * step, step, (key,), np.array([value])))
        if n == len(values) // 2:  # a restart in between
            state = detector.snapshot()
            detector = BreachForecast(BreachConfig(limits=((key.name, 100.0),)))
            detector.restore(state)
    return out


def long_leak(seed: int = 3, flat: int = 600, rising: int = 240) -> list[float]:
    rng = np.random.default_rng(seed)
    return [20 + rng.normal(0, 0.5) + max(0, n - flat) * 80 / 240 for n in range(flat + rising)]


def test_by_the_minute_there_is_one_warning_in_time_which_is_updated_and_withdrawn_after_a_restart() -> None:
    disk = SeriesKey("db", "disk_used")
    leak = long_leak(rising=230)
    told = minutes([*leak, *[20.0 + 0.1 * (n % 7) for n in range(40)]], disk)
    assert len({s.id for s in told}) == 1
    first, last = told[0], told[-1]
    truth_ns = START_NS + 840 * 60 * NS
    assert first.breach is not None
    assert 15 * 60 * NS <= truth_ns - first.end_ns <= 230 * 60 * NS
    assert first.breach.direction == "up"
    assert first.breach.eta_low_ns <= truth_ns <= first.breach.eta_high_ns
    assert first.breach.slope_per_second == pytest.approx(80 / 240 / 60, rel=0.5)  # after a few minutes of it
    assert first.breach.current == pytest.approx(100 - (truth_ns - first.end_ns) / NS / 60 / 3, abs=4)
    assert not last.is_open
    assert last.end_ns <= truth_ns + 5 * 60 * NS, "the restart ends the episode at once"


def test_shorter_buckets_are_gathered_into_minutes() -> None:
    disk = SeriesKey("db", "disk_used")
    by_minute = minutes(long_leak(), disk)
    by_ten = minutes([v for v in long_leak() for _ in range(6)], disk, 10)
    assert [s.end_ns // (60 * NS) for s in by_ten] == [s.end_ns // (60 * NS) for s in by_minute]


@pytest.mark.parametrize("curve", ["season", "teeth", "spikes"])
def test_what_comes_back_is_quiet(curve: str) -> None:
    n = np.arange(2 * 1440)
    rng = np.random.default_rng(9)
    values = {"season": 55 + 30 * np.sin(2 * np.pi * n / 1440), "teeth": 30 + 50 * (n / 90 % 1.0),
              "spikes": 30 + 60 * (rng.random(len(n)) < 0.01)}[curve]
    assert minutes(list(values + rng.normal(0, 0.7, len(n))), SeriesKey("db", "disk_used")) == []


def test_what_runs_down_is_told_of_as_well() -> None:
    cert = SeriesKey("edge", "disk_free_percent")
    detector, out = BreachForecast(), []
    for n, value in enumerate(long_leak()):
        out += detector.step(BucketWindow(n * 60 * NS, 60 * NS, (cert,), np.array([100.0 - value])))
    assert out
    assert out[0].breach is not None
    assert out[0].breach.direction == "down"
    assert out[0].breach.limit == 0.0
    assert out[0].breach.slope_per_second < 0


def small_pool(rng: np.random.Generator, size: int, minutes: int, flat: int = 240) -> list[float]:
    """Connections in use: one more that is never given back now and then, and a few that come and go."""
    seconds = flat + minutes * 60
    lost = np.sort(rng.uniform(flat, seconds, size))
    return [float(min(size, np.searchsorted(lost, t) + rng.poisson(0.06 * size))) for t in range(seconds)]


@pytest.mark.parametrize(("size", "minutes"), [(10, 12), (10, 30), (20, 20), (40, 12)])
def test_a_small_pool_that_leaks_is_told_of_once(size: int, minutes: int) -> None:
    for seed in range(2):
        use = small_pool(np.random.default_rng([seed, size, minutes]), size, minutes)
        assert len({s.id for s in run(BreachForecast(), use, float(size))}) == 1


def stopped(after: list[float]) -> tuple[list[float], list[Signal]]:
    """A pool of 20 that leaks one connection a minute, until somebody finds the leak after twelve."""
    use = [float(2 + max(0, (t - 240) // 60)) for t in range(240 + 12 * 60)]
    return use, run(BreachForecast(), [*use, *after], 20.0)


def test_its_warning_ends_with_a_restart_or_with_the_time_that_was_foretold() -> None:
    use, signals = stopped([2.0] * 120)
    assert len({s.id for s in signals}) == 1 and not signals[-1].is_open
    assert len(use) * NS < signals[-1].end_ns < (len(use) + 60) * NS, "it was restarted"
    use, signals = stopped([14.0] * 3900)
    assert len({s.id for s in signals}) == 1 and not signals[-1].is_open
    (ended,) = [s for s in signals if not s.is_open]
    latest = max(s.breach.eta_high_ns for s in signals if s.breach is not None)
    assert (len(use) + 60) * NS < ended.end_ns <= min(latest, (len(use) + 3700) * NS)


def test_a_start_in_between_tells_nobody_again() -> None:
    use = small_pool(np.random.default_rng([0, 10, 30]), 10, 30)
    whole = {s.id for s in run(BreachForecast(), use, 10.0)}
    for cut in range(700, len(use), 400):
        first, second = BreachForecast(), BreachForecast()
        found = {s.id for s in run(first, use[:cut], 10.0)}
        second.restore(first.snapshot())
        assert found | {s.id for s in run(second, use[cut:], 10.0, cut)} == whole
