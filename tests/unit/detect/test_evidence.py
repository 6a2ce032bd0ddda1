"""Streams of evidence: what they see, what they leave alone, and that their state survives everything."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detect.evidence.build import POINTS_PER_PAGE, answers, calibrate, collect, onset_heights
from detect.evidence.calibration import TABLE, Calibration
from detect.evidence.corpus import unlabelled
from detect.evidence.shape import STREAMS
from detect.evidence.streams import Evidence, Lstm, Tick
from detect.forecaster.lstm import Forecaster, Weights

Floats = NDArray[np.float64]
START = 1_790_000_000
DAY = 86_400


def lstm() -> Lstm:
    return Lstm(Forecaster(Weights.load()))


def run(values: Floats, step: int = 300, start: int = START) -> tuple[Floats, Floats, Floats]:
    """([t, s] onsets, states, [t, s, 4] streams) of [t, s] values."""
    evidence, forecaster = Evidence(), lstm()
    ticks: list[Tick] = [evidence.step((start + k * step) * 10**9, row, forecaster) for k, row in enumerate(values)]
    return np.array([t.onset for t in ticks]), np.array([t.state for t in ticks]), np.array([t.streams for t in ticks])


def pages(values: Floats, **where: int) -> list[list[int]]:
    """Per series the points that page at the shipped threshold."""
    onset, _, _ = run(values, **where)
    return [np.flatnonzero(column >= Calibration.load().page).tolist() for column in onset.T]


def noise(n: int, size: float = 1.0, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(0, size, n)


def daily(n: int, step: int = 300, shift: int = 0) -> Floats:
    seconds = START + np.arange(n) * step
    return np.asarray(100 + 40 * np.sin(2 * np.pi * (seconds + shift) / DAY))


def test_a_spike_and_a_shift_page_once_and_at_once() -> None:
    spike, shift = 50 + noise(1500), 50 + noise(1500, seed=1)
    spike[1000] += 30
    shift[1000:] += 12
    found = pages(np.stack([spike, shift], axis=1))
    for paged in found:
        assert [p for p in paged if p >= 900][:1] == [1000]
        assert len([p for p in paged if 1000 <= p < 1100]) <= 3


def test_noise_alone_pages_no_more_than_a_fleet() -> None:
    """One page per 700 points, as on the corpus, and two deviations of what chance does to so few."""
    values = 50 + np.stack([noise(3000, seed=s) for s in range(10)], axis=1)
    late = [p for paged in pages(values) for p in paged if p > 300]
    usual = 10 * 2700 / POINTS_PER_PAGE
    assert len(late) <= usual + 2 * usual**0.5


def test_a_state_is_held_and_falls() -> None:
    values = 50 + noise(1500)[:, None]
    values[1000] += 60
    _, state, _ = run(values)
    peak = state[1000, 0]
    assert peak > 5
    page = Calibration.load().page
    assert 0.7 * peak < state[1008, 0] < peak
    assert page > state[1020, 0] > state[1100, 0] > state[1200, 0] > 0


def test_flat_lines_say_nothing_until_they_move() -> None:
    values = np.full((1200, 3), 7.0)
    values[:, 1] = 0.0
    values[1000:, 2] = 9.0
    onset, _, streams = run(values)
    assert not onset[:, :2].any() and not streams[:, :2].any()
    assert onset[1000, 2] >= Calibration.load().page


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e301])
def test_missing_values_change_nothing_but_the_held_state(bad: float) -> None:
    values = 50 + noise(800)[:, None]
    with_gaps = np.insert(values, [300, 300, 500], bad, axis=0)
    whole, broken = run(values)[2], run(with_gaps)[2]
    at = np.isin(np.arange(803), [300, 301, 502])
    assert not broken[at].any()
    # The streams that look at values alone are the same; forecasts know of the time that went by.
    np.testing.assert_array_equal(broken[~at][:, 0, :2], whole[:, 0, :2])


def test_a_gap_of_hours_is_no_anomaly() -> None:
    values = daily(4000) + noise(4000, 2.0)
    values[3000:3060] = np.nan
    (paged,) = pages(values[:, None])
    assert not [p for p in paged if 2995 <= p < 3160]


@pytest.mark.parametrize("broken", [1e6, -1e6, 1.8e19, 1e29])
def test_one_broken_sample_is_told_and_is_no_yardstick(broken: float) -> None:
    """A register that wrapped: the fault 200 points later is seen as if it had not been there."""
    values = 50 + noise(1200)
    values[1000:] += 12
    spoilt = values.copy()
    spoilt[800] = broken
    found = pages(np.stack([values, spoilt], axis=1))
    assert 800 in found[1]
    assert [p for p in found[0] if p >= 900][:1] == [p for p in found[1] if p >= 900][:1] == [1000]
    assert not [p for p in found[1] if 801 <= p < 900]


def test_what_seemed_broken_and_comes_again_is_learned() -> None:
    """From flat to a level far away; and a second wild value is no news."""
    shift, twice = np.full(1000, 3.0), 50 + noise(1000)
    shift[500:] = 3000
    twice[[500, 800]] = 1e6, 1e6
    onset, _, streams = run(np.stack([shift, twice], axis=1))
    page = Calibration.load().page
    assert np.flatnonzero(onset[:, 0] >= page)[0] == 500
    assert (streams[502:600, 0, 0] == 0).all()  # nothing new after the second one
    assert (onset[[500, 800], 1] >= page).all() and streams[500, 1, 0] == pytest.approx(streams[800, 1, 0], rel=0.1)
    assert (run(np.append(twice, [1e6])[:, None])[2])[-1, 0, 0] == 0.0


def test_a_counter_that_begins_anew_is_no_anomaly() -> None:
    rises = np.random.default_rng(3).poisson(20, 2000).astype(float)
    counter = np.concatenate([np.cumsum(rises[:1200]), np.cumsum(rises[1200:])])
    (paged,) = pages(counter[:, None])
    assert not [p for p in paged if 1190 <= p < 1300]


def test_a_jump_of_the_clocks_pages_at_most_once() -> None:
    """Local time: the daily shape comes an hour early from one day to the next."""
    n, jump = 12 * 24 * 16, 12 * 24 * 14
    values = daily(n)
    values[jump:] = daily(n, shift=3600)[jump:]
    (paged,) = pages((values + noise(n, 2.0))[:, None])
    assert len([p for p in paged if p >= jump]) <= 1


def test_young_series_are_quiet() -> None:
    values = np.random.default_rng(4).lognormal(1, 0.6, (60, 40))
    assert sum(len(paged) for paged in pages(values)) <= 2


def test_series_may_join_later_and_do_not_touch_each_other() -> None:
    values = 50 + np.stack([noise(400, seed=s) for s in range(3)], axis=1)
    values[350] += 30
    evidence, forecaster = Evidence(), lstm()
    last = None
    for k, row in enumerate(values):
        last = evidence.step((START + 300 * k) * 10**9, row[: 2 if k < 200 else 3], forecaster)
    assert last is not None and len(last.onset) == 3
    together = run(values[:, :2])[0]
    for s in range(2):
        np.testing.assert_array_equal(run(values[:, s: s + 1])[0][:, 0], together[:, s])


def test_state_survives_msgpack_in_the_middle() -> None:
    values = 50 + np.stack([noise(700, seed=s) for s in range(4)], axis=1)
    values[500:, 2] += 15
    whole = run(values)
    evidence, forecaster = Evidence(), lstm()
    onsets = []
    for k, row in enumerate(values):
        if k == 430:
            read = msgspec.msgpack.decode(msgspec.msgpack.encode([evidence.dump(), forecaster.forecaster.dump()]))
            evidence, forecaster = Evidence(), lstm()
            evidence.load(read[0])
            forecaster.forecaster.load(read[1])
        onsets.append(evidence.step((START + 300 * k) * 10**9, row, forecaster).onset)
    np.testing.assert_array_equal(np.array(onsets), whole[0])


def test_state_of_an_older_layout_is_dropped() -> None:
    evidence, forecaster = Evidence(), lstm()
    evidence.step(START * 10**9, np.array([1.0, 2.0]), forecaster)
    old = {key: value for key, value in evidence.dump().items() if key != "layout"}
    anew = Evidence()
    anew.load(old)
    assert len(anew.counts) == 0
    anew.load(evidence.dump())
    assert anew.counts.tolist() == [1.0, 1.0]


def test_state_is_small() -> None:
    assert Evidence.BYTES_PER_SERIES + Forecaster.BYTES_PER_SERIES <= 4096


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(width=64), min_size=1, max_size=60))
def test_any_values_give_finite_evidence(values: list[float]) -> None:
    onset, state, streams = run(np.tile(np.array(values), 4)[:, None])
    assert np.isfinite(onset).all() and np.isfinite(state).all() and np.isfinite(streams).all()
    assert (onset >= 0).all() and (state >= onset).all() and (streams >= 0).all()


def test_rarity_rises_with_the_streams() -> None:
    table = Calibration.load()
    x = np.geomspace(1e-6, 1e8, 200)
    for k in range(len(STREAMS)):
        streams = np.zeros((200, len(STREAMS)))
        streams[:, k] = x
        joined = table.joined(streams, np.full(200, 1e6))
        assert (np.diff(joined) >= 0).all() and 0 <= joined[0] < 3 < joined[-1] <= table.rarities[k, -1] + 1.5


def test_a_table_that_is_none_is_refused(tmp_path: Path) -> None:
    card = json.loads(TABLE.read_text())
    card["levels"]["shift"] = card["levels"]["shift"][::-1]
    (tmp_path / "table.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match="rise"):
        Calibration.load(tmp_path / "table.json")


def test_the_shipped_table_was_made_with_the_shipped_weights() -> None:
    assert json.loads(TABLE.read_text())["forecaster"] == Weights.load().version


def test_a_table_keeps_what_it_promises_on_other_series() -> None:
    """One page per 700 points, within a factor of two, on series that the table was not made from."""
    dice = np.random.default_rng(77)
    parts = [unlabelled(12, 3000, step, dice) for step in (60, 300, 3600)]
    table = Calibration.load()
    pages_, points = 0, 0
    for streams, counts in collect(lstm, parts):
        joined = np.array([table.joined(np.ascontiguousarray(x), c) for x, c in zip(streams, counts, strict=True)])
        pages_ += int((answers(joined, table.page)[0] >= table.page).sum())
        points += joined.size
    assert 0.5 < points / pages_ / POINTS_PER_PAGE < 2.0


def test_calibration_counts_onsets() -> None:
    assert onset_heights(np.array([0, 1, 3, 2, 0, 0, 5, 0]), apart=2).tolist() == [1, 3, 5]
    parts = collect(lstm, [unlabelled(4, 1500, 300, np.random.default_rng(1))])
    made = calibrate(parts)
    assert made.page > 0 and made.flag > 0 and made.levels.shape == made.rarities.shape
