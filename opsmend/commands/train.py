"""`opsmend train breach|forecaster|rootcause|rootcause-alerts|rootcause-mlp`, and
`train rootcause --fine-tune|--adapt`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from opsmend.config import ConfigError

_QUANTIZE = ("train: --quantize is not offered: at this size INT8 is slower than FP32 (2.18 against 3.73 million series-steps "
             "a second; docs/forecaster.md, measured by bench/forecast_variants.py)")


def run_training(what: str, out: Path | None, seed: int, *, distill: int = 0, quantize: bool = False,
                 data: Path | None = None, start: Path | None = None) -> None:
    """Train on one thread, with a progress bar; prints the model card. Raises ConfigError for what is not offered."""
    if start is not None and (what != "rootcause" or not all(
            (start / f"rootcause.{end}").is_file() for end in ("json", "safetensors"))):
        raise ConfigError("train: --from is for rootcause, and names a directory with rootcause.json and "
                          f"rootcause.safetensors: {start}")
    if (distill or quantize) and what != "forecaster":
        raise ConfigError(f"train: --distill and --quantize are for the forecaster, not for '{what}'")
    if quantize:
        raise ConfigError(_QUANTIZE)
    if distill and out is None:
        raise ConfigError("train: --distill needs --out: a student does not replace the shipped weights")
    import torch

    torch.set_num_threads(1)
    if what == "forecaster":
        from detect.train import MODELS_DIR, train_forecaster

        if distill:
            card = _student(distill, out or MODELS_DIR, seed)
        else:
            card = train_forecaster(out or MODELS_DIR, seed=seed, progress=True)
    elif what == "rootcause":
        from rootcause.train import GOING_ON, TrainConfig, train_rootcause
        from rootcause.train import MODELS_DIR as ROOTCAUSE_MODELS_DIR

        sizes = replace(GOING_ON, start=start) if start else TrainConfig()
        card = train_rootcause(out or ROOTCAUSE_MODELS_DIR, seed=seed, progress=True, config=sizes)
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
        from detect.breach.models import MODELS_DIR as BREACH_MODELS_DIR
        from detect.breach.recorded import learn
        from detect.breach.train import train_breach
        from opsmend.evaluate.breach_data import all_series

        if data is None:
            card = train_breach(out or BREACH_MODELS_DIR, seed=seed, progress=True)
        else:
            card = learn(list(all_series(data)), data.resolve().name, out or BREACH_MODELS_DIR, seed=seed)
    else:
        raise ConfigError(f"train: unknown model '{what}'; one of: breach, forecaster, rootcause, rootcause-alerts, "
                          "rootcause-mlp")
    typer.echo(json.dumps(card, indent=2, default=str))


def _student(units: int, out: Path, seed: int) -> dict[str, Any]:
    """A smaller forecaster, kept only if it is as good. Raises ConfigError with what was measured if it is not."""
    import tempfile

    from detect.forecaster.weights import Weights
    from detect.train import EQUAL, against_shipped, train_forecaster

    shipped = Weights.load()
    if units % 4 or not 4 <= units < shipped.hidden:
        raise ConfigError(f"train: --distill {units}: units must be a multiple of 4 below {shipped.hidden}")
    with tempfile.TemporaryDirectory() as scratch:
        train_forecaster(Path(scratch), seed=seed, progress=True, hidden=units, teacher=shipped)
        student = Weights.load(Path(scratch))
    verdict = against_shipped(student)
    if verdict.gain < -EQUAL:
        raise ConfigError(f"train: --distill {units}: the student loses {-verdict.gain:.1%} of quality on series held back "
                          f"(allowed: {EQUAL:.0%}); nothing was written")
    student = replace(student, card={**student.card, "against_shipped": round(verdict.gain, 4)})
    student.save(out)
    return student.card


def run_tuning(what: str, out: Path | None, seed: int, *, data: Path | None, config: Path | None, fine_tune: bool,
               adapt: bool) -> None:
    """Tune the ranker on confirmed incidents, or on faults injected into calm windows, of the service or under `data`;
    prints the card. Weights go to `out` or the service's data directory, and only where they are better. Raises
    OpsmendError where they are not."""
    if what != "rootcause" or (fine_tune and adapt):
        raise ConfigError("train: --fine-tune and --adapt are for rootcause, and one at a time")
    import torch

    from ingest.errors import OpsmendError
    from opsmend.commands import output
    from opsmend.config import load
    from opsmend.rootcause_weights import weights_dir

    torch.set_num_threads(1)
    settings = load(config)
    where, source = out or weights_dir(settings.data_dir), str(data or "the service's store")
    if adapt:
        from opsmend.calm import recorded_calm, stored_calm
        from rootcause.adapt import adapt as adapted

        calm = recorded_calm(data) if data else stored_calm(settings)
        card = adapted(calm, where, data=source, seed=seed, tell=output.note)
    else:
        from opsmend.confirmed import recorded, stored
        from rootcause.tune_contest import fine_tune as tuned

        incidents = recorded(data) if data else stored(settings.store_url, output.note)
        card = tuned(incidents, where, data=source, seed=seed, tell=output.note)
    typer.echo(json.dumps(card, indent=2))
    if not card["kept"]:
        raise OpsmendError(f"train: nothing was written: {card['contest']['reason']}", reason="not_better")
    output.note(f"written to {where}; a service uses them from its next start on, and the shipped ones when they are deleted")
