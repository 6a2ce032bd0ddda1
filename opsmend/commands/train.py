"""`opsmend train forecaster|rootcause|rootcause-mlp`."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from opsmend.config import ConfigError


def run_training(what: str, out: Path | None, seed: int) -> None:
    """Train on one thread, with a progress bar; prints the model card."""
    import torch

    torch.set_num_threads(1)
    if what == "forecaster":
        from detect.train import MODELS_DIR, train_forecaster

        card = train_forecaster(out or MODELS_DIR, seed=seed, progress=True)
    elif what == "rootcause":
        from rootcause.train import MODELS_DIR as ROOTCAUSE_MODELS_DIR
        from rootcause.train import train_rootcause

        card = train_rootcause(out or ROOTCAUSE_MODELS_DIR, seed=seed, progress=True)
    elif what == "rootcause-mlp":
        from rootcause.rankers.mlp import MODELS_DIR as MLP_DIR
        from rootcause.rankers.mlp_train import train_mlp

        card = train_mlp(out or MLP_DIR, seed=seed, progress=True)
    else:
        raise ConfigError(f"train: unknown model '{what}'; one of: forecaster, rootcause, rootcause-mlp")
    typer.echo(json.dumps(card, indent=2, default=str))
