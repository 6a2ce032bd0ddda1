"""Making the forecaster's weights: `opsmend train forecaster`. Torch on one thread, some minutes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from detect.forecaster.contest import Verdict, contest
from detect.forecaster.examples import Examples, examples
from detect.forecaster.network import Network
from detect.forecaster.recorded import recorded_batch, recorded_held_back
from detect.forecaster.score import score, table
from detect.forecaster.shape import HIDDEN, HORIZONS, QUANTILES
from detect.forecaster.synthetic import Made, synthetic_batch
from detect.forecaster.weights import MODELS_DIR, Weights

__all__ = ["MODELS_DIR", "train_forecaster"]

_STEPS = 4096
_CHUNK = 128
"""Steps between two updates; the state is carried over, so that the network lives as long as it will in service."""
_CLOCKS, _SERIES = 4, 48
"""A life is that of 4 x 48 series, with a clock for each 48."""
EQUAL = 0.01
"""The share of quality that a smaller forecaster may lose and still count as equal."""
UPDATES = 2400


def train_forecaster(out_dir: Path, *, seed: int = 0, progress: bool = True, updates: int = UPDATES,
                     steps: int = _STEPS, hidden: int = HIDDEN, teacher: Weights | None = None,
                     on_life: Callable[[int, float], None] | None = None) -> dict[str, Any]:
    """Train, write `forecaster.safetensors` and its card `forecaster.json`; returns the card. Deterministic in `seed`
    on one machine. With a `teacher` a network of `hidden` units learns from its quantiles as well as from the data."""
    import torch
    from rich.console import Console
    from rich.progress import track

    torch.manual_seed(seed)
    torch.set_num_threads(1)
    network = Network(hidden)
    model = None if teacher is None else Network.of(teacher)
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=updates, pct_start=0.1)
    rng = np.random.default_rng(seed)
    lives = _lives(rng, steps)
    life, at, state, recent = next(lives), 0, None, 0.0
    for k in track(range(updates), "forecaster", console=Console(stderr=True), disable=not progress):
        if at >= steps:
            if on_life is not None:
                on_life(k, recent)
            life, at, state = next(lives), 0, None
        chunk = slice(at, at + _CHUNK)
        if model is None:
            loss, state = network.loss(life.feats[chunk], life.targets[chunk], state)
        else:
            loss, state = network.imitate(model, life.feats[chunk], life.targets[chunk], state)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        recent += 0.02 * (float(loss.detach()) - recent)
        at += _CHUNK
    weights = Weights.of(network.tensors(), _card(seed, updates, hidden, teacher))
    weights.card["metrics"] = table(score(weights, made) for made in made_up_held_back(seed, steps))
    real, begin = recorded_held_back()
    weights.card["metrics_recorded"] = table([score(weights, real, skip=begin)])
    weights.save(out_dir)
    return weights.card


def made_up_held_back(seed: int, steps: int = _STEPS) -> list[Made]:
    """What the card's figures are measured on, beside the recorded series: four clocks, drawn from another stream."""
    return [synthetic_batch(24, steps, np.random.default_rng([seed, 99, k]), step)
            for k, step in enumerate((1.0, 10.0, 60.0, 300.0))]


def against_shipped(weights: Weights) -> Verdict:
    """`weights` against the shipped ones on what both were not trained on."""
    data = [(replace(made, values=made.values[:, :2400], covariates=made.covariates[:, :2400]), 300)
            for made in made_up_held_back(0)]
    return contest(Weights.load(), weights, [*data, recorded_held_back()])


def _lives(rng: np.random.Generator, steps: int) -> Iterator[Examples]:
    """Three clocks of made-up series, and one of recorded ones."""
    while True:
        parts = [examples(synthetic_batch(_SERIES, steps, rng)) for _ in range(_CLOCKS - 1)]
        parts.append(examples(recorded_batch(_SERIES, steps, rng)))
        yield Examples(np.concatenate([p.feats for p in parts], 1), np.concatenate([p.targets for p in parts], 1))


def _card(seed: int, updates: int, hidden: int, teacher: Weights | None) -> dict[str, Any]:
    name = f"forecaster-4-{seed}" if hidden == HIDDEN else f"forecaster-4-{seed}-h{hidden}"
    return {"model": "forecaster", "version": name, "parent": None, "hidden": hidden,
            "teacher": None if teacher is None else teacher.version,
            "data": "made up (detect/forecaster/synthetic.py) and recorded (recorded.safetensors, Apache-2.0)",
            "seed": seed, "updates": updates,
            "horizons": list(HORIZONS), "quantiles": list(QUANTILES), "revision": _revision()}


def _revision() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip()
