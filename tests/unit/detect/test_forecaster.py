"""The forecaster: the same equations as torch's LSTM, honest bands, state that survives, no trouble with odd values."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.forecaster.examples import examples
from detect.forecaster.lstm import HORIZONS, LAG_INDEX, MODELS_DIR, QUANTILES, WARM_UP, BadWeights, Forecaster, Weights
from detect.forecaster.shape import ahead, horizon_minutes
from detect.forecaster.synthetic import Made, synthetic_batch, synthetic_series

SECOND = 10**9
START = 1_700_000_000 * SECOND
WEIGHTS = Weights.load()


def run(forecaster: Forecaster, x: np.ndarray, *, step: int = 10, begin: int = 0, end: int | None = None) -> np.ndarray:
    """Forecasts [t, n, horizons, quantiles] for the rows of x [n, t] from `begin` to `end`."""
    return np.stack([forecaster.step(START + k * step * SECOND, x[:, k]) for k in range(begin, end or x.shape[1])])


def test_inference_is_torch_s_lstm_step_by_step() -> None:
    import torch

    from detect.forecaster.network import Network

    made = Made(synthetic_series(5, 200, np.random.default_rng(3)), np.full((5, 200), np.nan), 10.0, START / 1e9)
    forecaster = Forecaster(WEIGHTS, 10 * SECOND)
    ours = []
    for k in range(200):
        forecaster.step(START + k * 10 * SECOND, made.values[:, k])
        ours.append(forecaster.network_alone(made.values[:, k]))
    with torch.no_grad():
        theirs = Network.of(WEIGHTS)(torch.from_numpy(examples(made).feats))[0].numpy()
    scales = forecaster.scales[:, None, None]
    last = made.values[:, -1][:, None, None] + np.sort(theirs[-1], axis=2) * scales
    assert np.allclose(last, ours[-1], atol=float(2e-3 * scales.max()), rtol=1e-5)


def test_a_series_forecast_does_not_depend_on_its_neighbours() -> None:
    x = synthetic_series(300, 80, np.random.default_rng(7))
    together = run(Forecaster(WEIGHTS), x)
    for i in (0, 130, 299):
        assert np.array_equal(together[:, i : i + 1], run(Forecaster(WEIGHTS), x[i : i + 1]))


def test_bands_hold_about_what_they_promise_and_beat_the_last_value() -> None:
    x = synthetic_series(120, 700, np.random.default_rng(11))
    said = run(Forecaster(WEIGHTS), x)
    for j, steps in enumerate(HORIZONS[:4]):
        truth, band = x[:, WARM_UP + steps :].T, said[WARM_UP:-steps, :, j]
        inside = (truth >= band[..., 0]) & (truth <= band[..., 2])
        assert 0.8 <= float(inside.mean()) <= 0.97, HORIZONS[j]  # 0.9 promised
        ours = np.abs(truth - band[..., 1]).mean(axis=0) + 1e-9
        naive = np.abs(truth - x[:, WARM_UP:-steps].T).mean(axis=0) + 1e-9
        assert np.exp(np.mean(np.log(ours / naive))) < (1.0 if steps == 1 else 0.95), HORIZONS[j]


def test_lagged_is_what_was_said_thirty_steps_ago() -> None:
    x = synthetic_series(3, 200, np.random.default_rng(2))
    x[1, 120:125] = np.nan  # a hole: what was not said has no lag either
    forecaster, said = Forecaster(WEIGHTS, 10 * SECOND), []
    for k in range(200):
        said.append(forecaster.step(START + k * 10 * SECOND, x[:, k])[:, LAG_INDEX])
        if k >= 30:
            there = np.isfinite(x[:, k]) & np.isfinite(x[:, k - 30])
            assert np.allclose(forecaster.lagged[there], said[k - 30][there], rtol=1e-5, atol=1e-4)
            assert np.isnan(forecaster.lagged[~there]).all()


def test_a_daily_season_is_known_on_the_third_day() -> None:
    """Half an hour ahead, at 5 minutes, a day's shape is forecast far better than by the last value."""
    t = np.arange(288 * 4)
    rng = np.random.default_rng(1)
    x = 100 + 30 * np.sin(2 * np.pi * t / 288) + rng.normal(0, 1, (6, len(t)))
    said = run(Forecaster(WEIGHTS), x, step=300)
    late = slice(288 * 3, len(t) - 6)
    truth = x[:, 288 * 3 + 6 :].T
    assert np.abs(truth - said[late, :, 1, 1]).mean() < 0.6 * np.abs(truth - x[:, late].T).mean()


def test_state_goes_on_after_dump_and_load() -> None:
    x = synthetic_series(4, 150, np.random.default_rng(5))
    whole, first = Forecaster(WEIGHTS), Forecaster(WEIGHTS)
    run(whole, x, end=100)
    run(first, x, end=100)
    second = Forecaster(WEIGHTS)
    second.load(msgspec.msgpack.decode(msgspec.msgpack.encode(first.dump())))
    assert np.array_equal(run(whole, x, begin=100), run(second, x, begin=100))


def test_state_is_bounded() -> None:
    assert Forecaster.BYTES_PER_SERIES <= 4096
    forecaster = Forecaster(WEIGHTS)
    run(forecaster, synthetic_series(50, 90, np.random.default_rng(0)))
    assert len(msgspec.msgpack.encode(forecaster.dump())) <= 4096 * 50


odd = st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.floats(-1e3, 1e3), st.just(0.0), st.just(1e29),
                st.just(-1e29), st.just(5e-324))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(odd, min_size=3, max_size=3), min_size=1, max_size=90),
       st.lists(st.sampled_from([0, 1, 1, 1, 10, 3600, 10**6, -5]), min_size=90, max_size=90))
def test_odd_values_and_times_give_numbers_in_order_or_nan(rows: list[list[float]], gaps: list[int]) -> None:
    forecaster, now = Forecaster(WEIGHTS), START
    for row, gap in zip(rows, gaps, strict=False):
        now += gap * SECOND
        values = np.array(row)
        out = forecaster.step(now, values, np.array(row[::-1]))
        assert out.shape == (3, len(HORIZONS), len(QUANTILES))
        there = np.abs(values) < 1e30
        assert np.isnan(out[~there]).all()
        assert np.isfinite(out[there]).all()
        assert (np.diff(out[there], axis=2) >= -1e-6 * (1 + np.abs(out[there][..., 1:]))).all()


def test_the_wildest_clock_stays_within_bounds() -> None:
    """Nanoseconds, centuries, the time before 1970, and a bucket of a nanosecond."""
    for bucket_ns in (0, 1, 10**18):
        forecaster, now = Forecaster(WEIGHTS, bucket_ns), -(10**18)
        for k in range(400):
            now += (1, 10**18, 0, 3, -(10**17), 10**9)[k % 6]
            out = forecaster.step(now, np.array([float(k % 7), 1.0]))
            assert np.isfinite(out).all()
            assert np.isfinite(forecaster.step_seconds).all()


@pytest.mark.parametrize("broken", ["reset", "flat", "huge", "gap", "clocks"])
def test_it_finds_its_way_back(broken: str) -> None:
    """After a counter reset, a flat line, a huge value, a silence, and a season that moves by an hour, the error of
    the next forecast is what it was before, within a few dozen steps."""
    rng = np.random.default_rng(4)
    t = np.arange(2600)
    wave = 50 + 10 * np.sin(2 * np.pi * t / 288) + rng.normal(0, 1, len(t))
    x, times = wave.copy(), t * 300
    if broken == "reset":
        x = np.cumsum(np.abs(wave))
        x[2000:] -= x[2000]
    elif broken == "flat":
        x[1900:2000] = x[1899]
    elif broken == "huge":
        x[2000] = 1e25
    elif broken == "gap":
        times = np.where(t >= 2000, times + 40 * 3600, times)
    else:
        x[2000:] = np.roll(wave, 12)[2000:]
    forecaster = Forecaster(WEIGHTS)
    error = np.full(len(t), np.nan)
    ahead_one = np.nan
    for k in t:
        error[k] = abs(x[k] - ahead_one)
        ahead_one = forecaster.step(START + int(times[k]) * SECOND, x[k : k + 1])[0, 0, 1]
    assert np.isfinite(error[1:]).all()
    assert np.median(error[2150:]) < 2.0 * np.median(error[1000:1900]) + 1e-9


def test_young_series_get_ewma_and_wide_bands() -> None:
    x = synthetic_series(40, 12, np.random.default_rng(9))
    said = run(Forecaster(WEIGHTS), x)
    truth, low, high = x[:, 1:].T, said[:-1, :, 0, 0], said[:-1, :, 0, 2]
    assert ((truth >= low) & (truth <= high)).mean() > 0.8


def test_other_weights_start_warm() -> None:
    """Scales, seasons and records stay; weights tuned from ours keep the short memory as well."""
    x = synthetic_series(30, 400, np.random.default_rng(6))
    kept, swapped, foreign = (Forecaster(WEIGHTS) for _ in range(3))
    for one in (kept, swapped, foreign):
        run(one, x, end=300)
    child = Weights(WEIGHTS.w, WEIGHTS.b, WEIGHTS.v, WEIGHTS.d, "child", {**WEIGHTS.card, "parent": WEIGHTS.version})
    swapped.use(child)
    foreign.use(Weights(WEIGHTS.w, WEIGHTS.b, WEIGHTS.v, WEIGHTS.d, "other", {**WEIGHTS.card, "parent": "unknown"}))
    truth = x[:, 301:].T
    errors = [np.abs(truth - run(one, x, begin=300)[:-1, :, 0, 1]) / kept.scales for one in (kept, swapped, foreign)]
    means = [float(np.minimum(e, 10).mean()) for e in errors]
    assert means[1] < 1.1 * means[0]
    assert means[2] < 1.6 * means[0]
    assert swapped.version == "child"


def test_covariates_are_optional_and_help_where_they_carry_the_cause() -> None:
    made = synthetic_batch(4, 100, np.random.default_rng(0), 10.0)
    with_none, with_nan = Forecaster(WEIGHTS), Forecaster(WEIGHTS)
    for k in range(100):
        a = with_none.step(START + k * SECOND, made.values[:, k])
        b = with_nan.step(START + k * SECOND, made.values[:, k], np.full(4, np.nan))
        assert np.array_equal(a, b)


def test_card_belongs_to_the_weights() -> None:
    card = json.loads((MODELS_DIR / "forecaster.json").read_text())
    assert card["version"] == WEIGHTS.version
    assert tuple(card["horizons"]) == HORIZONS
    for horizon in map(str, HORIZONS[:4]):
        ours = card["metrics"]["opsmend"][horizon]
        assert ours < min(card["metrics"][name][horizon] for name in ("last_value", "ewma", "season"))


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    tensors = {name: getattr(WEIGHTS, name) for name in "wbvd"}
    with pytest.raises(BadWeights, match="not"):
        Weights.of({**tensors, "w": WEIGHTS.w[:8]}, WEIGHTS.card)
    with pytest.raises(BadWeights, match="none"):
        Weights.of({**tensors, "b": WEIGHTS.b * np.nan}, WEIGHTS.card)
    with pytest.raises(BadWeights, match="horizons"):
        Weights.of(tensors, {**WEIGHTS.card, "horizons": [1, 2]})
    WEIGHTS.save(tmp_path)
    (tmp_path / "forecaster.safetensors").write_bytes(b"half a file")
    with pytest.raises(BadWeights):
        Weights.load(tmp_path)


def test_horizons_in_minutes() -> None:
    assert [horizon_minutes(s)[i] for s, i in ((300, 1), (60, 2), (10, 3), (1, 4))] == [30.0] * 4
    said = np.arange(5.0)[None, :, None] * np.ones((1, 5, 3))
    assert ahead(said, 30, 60)[0, 1] == pytest.approx(2.0)
    assert ahead(said, 30, 300)[0, 1] == pytest.approx(1.0)
    assert 1.0 < ahead(said, 10, 60)[0, 1] < 2.0
    with pytest.raises(ValueError, match="positive"):
        ahead(said, 0, 60)


def test_training_is_one_call_and_deterministic(tmp_path: Path) -> None:
    from detect.train import train_forecaster

    made = [train_forecaster(tmp_path / name, seed=1, progress=False, updates=3, steps=384) for name in "ab"]
    assert made[0]["metrics"] == made[1]["metrics"]
    assert (tmp_path / "a/forecaster.safetensors").read_bytes() == (tmp_path / "b/forecaster.safetensors").read_bytes()


def test_a_student_has_another_size_and_runs_all_the_same(tmp_path: Path) -> None:
    from detect.train import train_forecaster

    card = train_forecaster(tmp_path, seed=1, progress=False, updates=3, steps=384, hidden=12, teacher=WEIGHTS)
    assert (card["hidden"], card["teacher"]) == (12, WEIGHTS.version)
    student = Forecaster(Weights.load(tmp_path))
    x = synthetic_series(5, 120, np.random.default_rng(1))
    assert np.isfinite(run(student, x)).all()
    copy = Forecaster(Weights.load(tmp_path))
    copy.load(student.dump())
    student.use(WEIGHTS)  # and there is a way from one size to another
    copy.use(WEIGHTS)
    assert np.array_equal(run(student, x, end=30), run(copy, x, end=30))


_BY_HAND = """
import sys
import numpy as np
from detect.forecaster.lstm import Forecaster, Weights
x = np.load(sys.argv[1])
forecaster = Forecaster(Weights.load())
np.save(sys.argv[2], np.stack([forecaster.step(k * 10**10, x[:, k]) for k in range(x.shape[1])]))
"""


def test_without_a_compiler_the_same_source_gives_the_same_forecasts(tmp_path: Path) -> None:
    x = synthetic_series(2, 70, np.random.default_rng(0))
    np.save(tmp_path / "x.npy", x)
    subprocess.run([sys.executable, "-c", _BY_HAND, str(tmp_path / "x.npy"), str(tmp_path / "out.npy")], check=True,
                   env={**os.environ, "NUMBA_DISABLE_JIT": "1"}, timeout=120)
    forecaster = Forecaster(WEIGHTS)
    compiled = np.stack([forecaster.step(k * 10**10, x[:, k]) for k in range(70)])
    assert np.allclose(np.load(tmp_path / "out.npy"), compiled, rtol=1e-3, atol=1e-3 * float(forecaster.scales.max()))


def test_values_of_any_layout_are_taken() -> None:
    x = synthetic_series(4, 3, np.random.default_rng(0))
    wanted = run(Forecaster(WEIGHTS), x)
    rows = [np.array(x[:, 0]), np.asfortranarray(x)[:, 1], np.repeat(x[:, 2], 2)[::2]]
    rows[0].setflags(write=False)
    forecaster = Forecaster(WEIGHTS)
    for k, row in enumerate(rows):
        assert np.array_equal(forecaster.step(START + k * 10 * SECOND, row), wanted[k])
    assert Forecaster(WEIGHTS).step(START, np.zeros(0)).shape == (0, len(HORIZONS), len(QUANTILES))
    assert np.isfinite(Forecaster(WEIGHTS).step(START, np.array([1, 2]))).all()
