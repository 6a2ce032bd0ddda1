"""The forecaster: the same equations as torch's LSTM, honest bands, state that survives, no trouble with odd values."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.forecaster.lstm import (
    FEATURES,
    HIDDEN,
    HORIZONS,
    MODELS_DIR,
    QUANTILES,
    WARM_UP,
    Forecaster,
    Weights,
    features,
)
from detect.forecaster.synthetic import synthetic_series

SECOND = 10**9
START = 1_700_000_000 * SECOND


def test_inference_is_torch_s_lstm_step_by_step() -> None:
    """The scaled part of a step against torch.nn.LSTM with the shipped weights."""
    import torch

    weights = Weights.load()
    lstm = torch.nn.LSTM(FEATURES, HIDDEN, batch_first=True)
    zero = torch.zeros(4 * HIDDEN)
    lstm.load_state_dict({"weight_ih_l0": torch.from_numpy(weights.w), "weight_hh_l0": torch.from_numpy(weights.u),
                          "bias_ih_l0": torch.from_numpy(weights.b), "bias_hh_l0": zero})
    x = synthetic_series(5, 120, np.random.default_rng(3))
    forecaster, seen = Forecaster(weights), []
    for k in range(120):
        forecaster.step(START + k * SECOND, x[:, k])
        s = forecaster._s
        seen.append((s[:, 2].copy(), s[:, 3].copy()))
    feats = np.zeros((5, 120, FEATURES), np.float32)
    for k, (scaled, level) in enumerate(seen):
        previous = seen[k - 1][0] if k else scaled
        feats[:, k] = features(scaled.astype(np.float32), previous.astype(np.float32), level.astype(np.float32),
                               START + k * SECOND)
    with torch.no_grad():
        hidden, _ = lstm(torch.from_numpy(feats))
    assert np.allclose(hidden[:, -1].numpy(), forecaster._h, atol=2e-4)


def test_bands_hold_about_what_they_promise_and_beat_the_last_value() -> None:
    x = synthetic_series(200, 300, np.random.default_rng(11))
    forecaster = Forecaster(Weights.load())
    inside, losses, naive = [], [], []
    for k in range(299):
        low, middle, high = forecaster.step(START + k * SECOND, x[:, k])[:, 0].T
        if k >= WARM_UP:
            truth, scale = x[:, k + 1], forecaster._s[:, 1]
            inside.append((truth >= low) & (truth <= high))
            losses.append(np.minimum(np.abs(truth - middle) / scale, 10))
            naive.append(np.minimum(np.abs(truth - x[:, k]) / scale, 10))
    assert 0.8 <= float(np.mean(inside)) <= 0.99  # 0.9 promised
    assert float(np.mean(losses)) < 0.95 * float(np.mean(naive))


def test_state_goes_on_after_dump_and_load() -> None:
    x = synthetic_series(4, 150, np.random.default_rng(5))
    whole, first = Forecaster(Weights.load()), Forecaster(Weights.load())
    for k in range(100):
        whole.step(START + k * SECOND, x[:, k])
        first.step(START + k * SECOND, x[:, k])
    second = Forecaster(Weights.load())
    second.load(first.dump())
    for k in range(100, 150):
        assert np.array_equal(whole.step(START + k * SECOND, x[:, k]), second.step(START + k * SECOND, x[:, k]))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.one_of(st.floats(-1e12, 1e12), st.just(float("nan"))), min_size=3, max_size=3),
                min_size=1, max_size=80))
def test_odd_values_give_numbers_in_order_or_nan(rows: list[list[float]]) -> None:
    forecaster = Forecaster(Weights.load())
    for k, row in enumerate(rows):
        out = forecaster.step(START + k * SECOND, np.array(row))
        assert out.shape == (3, len(HORIZONS), len(QUANTILES))
        there = np.isfinite(np.array(row))
        assert np.isnan(out[~there]).all()
        assert np.isfinite(out[there]).all()
        assert (np.diff(out[there], axis=2) >= -1e-6 * (1 + np.abs(out[there][..., 1:]))).all()


def test_card_belongs_to_the_weights() -> None:
    card = json.loads((MODELS_DIR / "forecaster.json").read_text())
    assert card["version"] == Weights.load().version
    assert tuple(card["horizons"]) == HORIZONS
    assert card["metrics"]["pinball"] < card["metrics"]["pinball_last_value"]


def test_training_is_one_call_and_deterministic(tmp_path: pytest.TempPathFactory) -> None:
    from pathlib import Path

    from detect.train import train_forecaster

    root = Path(str(tmp_path))
    first = train_forecaster(root / "a", seed=1, progress=False, rounds=2)
    second = train_forecaster(root / "b", seed=1, progress=False, rounds=2)
    assert first["metrics"] == second["metrics"]
    assert (root / "a" / "forecaster.safetensors").read_bytes() == (root / "b" / "forecaster.safetensors").read_bytes()
