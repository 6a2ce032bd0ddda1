"""Lines, hinges, the bounded memory, swings, trees; and that a series at once is the same as minute by minute."""

import numpy as np
import pytest
from numpy.typing import NDArray

from detect.breach.features import BEST_ETA, FEATURES, LEVEL, N_COLUMNS, N_FEATURES, run
from detect.breach.fits import block_middles, hinge, middle, middle_half, robust_line
from detect.breach.memory import BLOCK, BLOCKS, LAST, STATE, new_state
from detect.breach.predictor import BreachPredictor, foretell
from detect.breach.series import middle_of
from detect.breach.synthetic.make import make_series
from detect.breach.trees import blended, from_arrays, from_sklearn


def test_the_middle_and_the_middle_half() -> None:
    assert middle(np.array([3.0, 1.0, 9.0, 7.0]), 3) == 3.0
    assert middle(np.array([4.0, 2.0]), 2) == 3.0
    assert np.isnan(middle(np.array([1.0]), 0))
    assert middle_half(np.array([1e9, 1.0, 2.0, 3.0, -1e9]), 5) == pytest.approx(2.0)


def test_blocks_leave_missing_values_out() -> None:
    out, scratch = np.empty(3), np.empty(10)
    assert block_middles(np.array([1.0, np.nan, 3.0, 5.0, np.nan, np.nan]), 0, 2, 3, out, scratch) == 2
    assert out[:2].tolist() == [1.0, 4.0]
    assert np.isnan(out[2])


def test_a_line_is_not_bent_by_outliers_and_says_how_sure_it_is() -> None:
    rng = np.random.default_rng(0)
    y = 5 + 2.0 * np.arange(12) + 0.1 * rng.standard_normal(12)
    y[3] += 500
    out = np.empty(8)
    assert robust_line(y, 12, np.empty(200), out)
    assert out[0] == pytest.approx(2.0, abs=0.1)
    assert 0 < out[1] < 0.2 * 50
    assert out[2] == pytest.approx(27.0, abs=0.5)
    assert not robust_line(np.array([1.0, np.nan, 2.0, np.nan, 3.0, 4.0]), 6, np.empty(50), out)


def test_a_hinge_finds_where_the_ramp_began() -> None:
    y = 10 + np.maximum(0.0, np.arange(60) - 40) * 3.0 + 0.2 * np.random.default_rng(1).standard_normal(60)
    out = np.empty(12)
    assert hinge(y, 60, out)
    assert abs(out[0] - 40) <= 1
    assert out[2] == pytest.approx(3.0, rel=0.05)
    assert out[3] == pytest.approx(10 + 19 * 3, rel=0.03)
    assert out[4] > 0.99
    assert not hinge(np.full(20, 3.0), 20, out)


def features_of(values: NDArray[np.float64], limit: float = 100.0, first: int = 1000) -> dict[str, float]:
    rows, there = np.full((len(values), N_COLUMNS), np.nan), np.zeros(len(values), np.bool_)
    run(new_state(), np.arange(first, first + len(values)), values, np.zeros(len(values)), limit, limit, rows, there, 1)
    assert there[-1]
    return dict(zip((*FEATURES, "counted"), rows[-1].tolist(), strict=True))


def test_a_straight_ramp_is_described_without_scale() -> None:
    ramp = np.concatenate([np.full(200, 20.0), 20 + 0.25 * np.arange(161)])
    some = features_of(ramp)
    for eta in ("best_eta", "eta_60", "fine_eta", "coarse_eta"):
        assert np.exp(some[eta]) == pytest.approx(40 / 0.25, rel=0.1), eta
    assert some["level"] == pytest.approx(0.6, abs=0.01)
    assert np.expm1(some["fine_since"]) == pytest.approx(160, abs=6)
    assert some["rank"] == 0.0
    large = features_of(ramp * 1e6, 1e8)
    for name in (*FEATURES, "counted"):
        assert large[name] == pytest.approx(some[name], rel=1e-6, nan_ok=True), name


def test_earlier_teeth_are_remembered() -> None:
    teeth = np.tile(20 + np.linspace(0, 50, 60), 8)[:-20]
    some = features_of(teeth + 0.2 * np.random.default_rng(2).standard_normal(len(teeth)))
    assert some["swings_like_it"] >= 6
    assert some["highest_rise_ratio"] == pytest.approx(50 / 33, rel=0.1)
    assert some["over_peaks"] < 0
    assert abs(some["peaks_sure"]) < 10


@pytest.mark.parametrize("samples", [1, 2, 4])
def test_a_count_is_known_by_its_grain_and_its_chance(samples: int) -> None:
    rng = np.random.default_rng(5)
    limit, mean = 60.0, np.linspace(15, 40, 300)
    counts = np.array([middle_of(part)[0] for part in rng.poisson(mean, (samples, 300)).T.astype(float)])
    assert features_of(counts, limit)["counted"] == 1.0
    assert features_of(counts / limit, 1.0)["counted"] == 1.0, "whatever its unit"
    assert features_of(mean + rng.standard_normal(300) * np.sqrt(mean), limit)["counted"] == 0.0, "no grain"
    assert features_of(np.round(mean * 100 + rng.standard_normal(300)), 100 * limit)["counted"] == 0.0, "too little chance"
    assert features_of(np.round(mean + 15 * rng.standard_normal(300)), limit)["counted"] == 0.0, "too much of it"
    assert features_of(np.full(300, 20.0), limit)["counted"] == 0.0


def test_time_that_goes_back_stands_still_or_leaps_is_survived() -> None:
    state = new_state()
    ticks = np.array([50, 50, 49, 51, 52, 53, 54, 55, 56, 10**9, 10**9 + 1, 10**9 + 2])
    rows, there = np.full((len(ticks), N_COLUMNS), np.nan), np.zeros(len(ticks), np.bool_)
    run(state, ticks, np.arange(len(ticks), dtype=float), np.zeros(len(ticks)), 100.0, 100.0, rows, there, 1)
    assert state[LAST] == 10**9 + 2
    assert len(state) == STATE
    assert STATE * 8 <= 8_000
    assert BLOCK * BLOCKS >= 2 * 1440
    assert not there[:6].any()


def test_a_series_at_once_is_the_same_as_minute_by_minute() -> None:
    for k in (3, 60):
        series = make_series(np.random.default_rng([4, k]), "x", breaching=k < 50, steps=(60, 120))
        told = foretell(series)
        predictor: BreachPredictor[str] = BreachPredictor()
        predictor.step(0, ["other"], [np.array([1.0])], [10.0])
        for i, (tick, value) in enumerate(zip(series.ticks.tolist(), series.values.tolist(), strict=True)):
            keys = ["other", "x"] if i % 2 else ["x"]
            values = [np.array([1.0]), np.array([value])] if i % 2 else [np.array([value])]
            limits = [10.0, series.limit] if i % 2 else [series.limit]
            mine = {f.key: f for f in predictor.step(tick, keys, values, limits)}["x"]
            assert mine.warned == told.warns[i]
            if series.limit > 0:
                np.testing.assert_allclose(60 * mine.middle, told.eta[i], rtol=1e-12)
                np.testing.assert_allclose([60 * mine.low, 60 * mine.high], [told.low[i], told.high[i]], rtol=1e-12)


def test_trees_judge_as_the_library_that_made_them_does() -> None:
    from sklearn.ensemble import HistGradientBoostingRegressor

    rng = np.random.default_rng(0)
    rows = rng.standard_normal((800, 5))
    rows[rng.random(rows.shape) < 0.1] = np.nan
    target = np.nan_to_num(rows[:, 0]) * 3 + (np.nan_to_num(rows[:, 1]) > 0)
    model = HistGradientBoostingRegressor(max_iter=20, random_state=0).fit(rows, target)
    trees = from_sklearn(model)
    np.testing.assert_allclose(trees(rows), model.predict(rows), rtol=1e-9)
    again = from_arrays(trees.arrays("t"), "t")
    np.testing.assert_allclose(again(rows), trees(rows), atol=1e-3)
    broken = trees.arrays("t")
    broken["t.left"] = np.zeros_like(broken["t.left"])
    with pytest.raises(ValueError, match="not after it"):
        from_arrays(broken, "t")


def test_a_blend_is_the_weighted_sum() -> None:
    from sklearn.ensemble import HistGradientBoostingRegressor

    rng = np.random.default_rng(0)
    rows = rng.standard_normal((500, 3))
    one, other = (from_sklearn(HistGradientBoostingRegressor(max_iter=n, random_state=0).fit(rows, rows[:, k] ** 2))
                  for k, n in ((0, 5), (1, 9)))
    np.testing.assert_allclose(blended(((one, 0.75), (other, 0.25)))(rows), 0.75 * one(rows) + 0.25 * other(rows))


def test_the_index_of_the_features_that_are_read_by_place() -> None:
    assert FEATURES[BEST_ETA] == "best_eta"
    assert FEATURES[LEVEL] == "level"
    assert len(set(FEATURES)) == N_FEATURES
