"""Making the forecaster's weights: `opsmend train forecaster`. Torch on one thread, a few minutes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from detect.forecaster.lstm import FEATURES, HIDDEN, HORIZONS, MODELS_DIR, QUANTILES, features
from detect.forecaster.synthetic import synthetic_series

__all__ = ["MODELS_DIR", "train_forecaster"]

_STEPS = 640
_CHUNK = 160
"""Steps between two updates; the state is carried over, so that the network lives as long as it will in service."""
_BURN_IN = 40
_DAY_NS = 1_700_000_000 * 10**9


def prepare(x: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """[n, t] values to scaled values [n, t] and features [n, t, f], with the running scale of inference."""
    from detect.forecaster.lstm import Forecaster

    n, t = x.shape
    s = np.zeros((n, 8))
    scaled = np.zeros((n, t), np.float32)
    feats = np.zeros((n, t, FEATURES), np.float32)
    scale = np.zeros((n, t))
    for k in range(t):
        Forecaster._rescale(x[:, k], s)
        now = np.clip((x[:, k] - s[:, 0]) / s[:, 1], -8, 8).astype(np.float32)
        previous = scaled[:, k - 1] if k else now
        s[:, 3] += 0.02 * (now - s[:, 3])
        feats[:, k] = features(now, previous, s[:, 3].astype(np.float32), _DAY_NS + k * 10**9)
        scaled[:, k] = now
        scale[:, k] = s[:, 1]
    future = np.full((n, t, len(HORIZONS)), np.nan, np.float32)
    for j, horizon in enumerate(HORIZONS):
        # The target is in the scale of the moment of the forecast, relative to the last value (which, other than
        # the input, is not clipped).
        ahead = (x[:, horizon:] - x[:, :-horizon]) / scale[:, :-horizon]
        future[:, :-horizon, j] = np.clip(ahead, -16, 16)
    return feats, future


def train_forecaster(out_dir: Path, *, seed: int = 0, progress: bool = True, rounds: int = 4000) -> dict[str, Any]:
    """Train, write `forecaster.safetensors` and its card `forecaster.json`; returns the card."""
    import torch
    from rich.console import Console
    from rich.progress import track
    from safetensors.numpy import save_file

    torch.manual_seed(seed)
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    lstm = torch.nn.LSTM(FEATURES, HIDDEN, batch_first=True)
    head = torch.nn.Linear(HIDDEN, len(HORIZONS) * len(QUANTILES))
    optimiser = torch.optim.Adam([*lstm.parameters(), *head.parameters()], lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, rounds)
    quantiles = torch.tensor(QUANTILES)

    def loss_of(feats: Any, future: Any, state: Any = None) -> tuple[Any, Any]:
        hidden, state = lstm(torch.from_numpy(feats), state)
        q = head(hidden).reshape(*hidden.shape[:2], len(HORIZONS), len(QUANTILES))
        target = torch.from_numpy(future)[..., None]
        error = target - q
        pinball = torch.maximum(quantiles * error, (quantiles - 1) * error)
        return pinball[torch.isfinite(target).expand_as(pinball)].mean(), state

    def whole(feats: Any, future: Any) -> float:
        with torch.no_grad():
            return float(loss_of(feats, _without_burn_in(future))[0])

    pool = [prepare(synthetic_series(64, _STEPS, rng)) for _ in range(min(60, rounds))]
    chunks = _STEPS // _CHUNK
    state: Any = None
    for k in track(range(rounds), "forecaster", console=Console(stderr=True), disable=not progress):
        feats, future = pool[(k // chunks) % len(pool)]
        at = slice((k % chunks) * _CHUNK, (k % chunks + 1) * _CHUNK)
        state = None if k % chunks == 0 else tuple(part.detach() for part in state)
        loss, state = loss_of(feats[:, at], (future if k % chunks else _without_burn_in(future))[:, at], state)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*lstm.parameters(), *head.parameters()], 1.0)
        optimiser.step()
        schedule.step()
    held_out = prepare(synthetic_series(400, _STEPS, np.random.default_rng(seed + 1)))
    ours = whole(*held_out)
    naive = _naive_pinball(held_out[1])
    made: dict[str, Any] = {**lstm.state_dict(), **{f"head.{k}": v for k, v in head.state_dict().items()}}
    weights = {"w": made["weight_ih_l0"], "u": made["weight_hh_l0"], "b": made["bias_ih_l0"] + made["bias_hh_l0"],
               "v": made["head.weight"], "d": made["head.bias"]}
    out_dir.mkdir(parents=True, exist_ok=True)
    save_file({k: v.detach().numpy().astype(np.float32) for k, v in weights.items()},
              str(out_dir / "forecaster.safetensors"))
    card = {"model": "forecaster", "version": f"forecaster-2-{seed}",
            "data": "synthetic (detect/forecaster/synthetic.py)",
            "seed": seed, "rounds": rounds, "horizons": HORIZONS, "quantiles": QUANTILES,
            "metrics": {"pinball": round(ours, 4), "pinball_last_value": round(naive, 4),
                        "ratio": round(ours / naive, 3)}, "revision": _revision()}
    (out_dir / "forecaster.json").write_text(json.dumps(card, indent=2) + "\n")
    return card


def _without_burn_in(future: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Nothing is asked of the first steps."""
    out = future.copy()
    out[:, :_BURN_IN] = np.nan
    return out


def _naive_pinball(future: np.ndarray[Any, Any]) -> float:
    """The last value as every quantile."""
    target = future[:, _BURN_IN:]
    losses = [np.nanmean(np.maximum(q * target, (q - 1) * target)) for q in QUANTILES]
    return float(np.mean(losses))


def _revision() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip()
