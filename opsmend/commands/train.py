"""`opsmend train breach|forecaster|rootcause|rootcause-alerts|rootcause-mlp`."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from opsmend.config import ConfigError

_QUANTIZE = ("train: --quantize is not offered: INT8 was measured no faster than FP32 at this size (docs/forecaster.md, "
             "`python bench/forecast_variants.py`)")


def run_training(what: str, out: Path | None, seed: int, *, distill: int = 0, quantize: bool = False,
                 data: Path | None = None) -> None:
    """Train on one thread, with a progress bar; prints the model card. Raises ConfigError for what is not offered."""
    if (distill or quantize) and what != "forecaster":
        raise ConfigError(f"train: --distill and --quantize are for the forecaster, not for '{what}'")
    if quantize:
        raise ConfigError(_QUANTIZE)
    if distill and out is None:
        raise ConfigError("train: --distill needs --out: a student does not replace the shipped weights")
    import torch

    torch.set_num_threads(1)
    if what == "forecaster":
        from detect.forecaster.weights import Weights
        from detect.train import MODELS_DIR, train_forecaster

        if distill:
            card = train_forecaster(out or MODELS_DIR, seed=seed, progress=True, hidden=distill, teacher=Weights.load())
        else:
            card = train_forecaster(out or MODELS_DIR, seed=seed, progress=True)
    elif what == "rootcause":
        from rootcause.train import MODELS_DIR as ROOTCAUSE_MODELS_DIR
        from rootcause.train import train_rootcause

        card = train_rootcause(out or ROOTCAUSE_MODELS_DIR, seed=seed, progress=True)
    elif what == "rootcause-mlp":
        from rootcause.rankers.gnn import MODELS_DIR as MLP_DIR
        from rootcause.rankers.mlp_train import train_mlp

        card = train_mlp(out or MLP_DIR, seed=seed, progress=True)
    elif what == "rootcause-alerts":
        from opsmend.evaluate.rca_alert_cases import labelled_systems
        from rootcause.alerts.rankers import MODEL as ALERTS_MODEL
        from rootcause.alerts.train import train_alerts

        if data is None:
            raise ConfigError("train rootcause-alerts: --data with labelled alert sets is needed")
        card = train_alerts(labelled_systems(data), out / ALERTS_MODEL.name if out else ALERTS_MODEL)
    elif what == "breach":
        from detect.breach.train import MODELS_DIR as BREACH_MODELS_DIR
        from detect.breach.train import train_breach

        card = train_breach(out or BREACH_MODELS_DIR, seed=seed, progress=True)
    else:
        raise ConfigError(f"train: unknown model '{what}'; one of: breach, forecaster, rootcause, rootcause-alerts, "
                          "rootcause-mlp")
    typer.echo(json.dumps(card, indent=2, default=str))
