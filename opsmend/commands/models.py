"""`opsmend models list|check|rollback|use`: the forecaster's versions of a service, by its data directory."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from opsmend.commands import output
from opsmend.commands.output import Json

app = typer.Typer(no_args_is_help=True, help="Versions of the forecaster: which one counts, tune, go back.")
Config = Annotated[Path | None, typer.Option("--config", "-c", help="opsmend.toml of the service.")]


@app.command("list")
def show(config: Config = None, as_json: Json = False) -> None:
    """Every version with its card's verdict; `*` marks the one in use."""
    from detect.forecaster.versions import ModelVersions
    from detect.forecaster.weights import Weights
    from opsmend.forecasting.check import last_report

    versions = ModelVersions(_directory(config))
    shipped, champion = Weights.load(), versions.champion()
    last = last_report(versions.directory)
    report: dict[str, Any] = {
        "champion": champion.version, "versions": [shipped.card, *versions.cards()], "events": versions.events(),
        "last_check": None if last is None else asdict(last)}
    if as_json:
        output.as_json(report)
        return
    for card in report["versions"]:
        mark = "*" if card["version"] == champion.version else " "
        output.result(f"{mark} {card['version']:36} {card.get('verdict') or card['data']}")
    if last is not None:
        output.result(f"last check: {last.done}; {last.reason}")


@app.command()
def check(config: Config = None, as_json: Json = False,
          tune: Annotated[bool, typer.Option(help="Tune a challenger even where nothing has drifted.")] = True) -> None:
    """Now what the service does once a day: roll back, or tune and promote what wins on data held back."""
    from opsmend.config import load
    from opsmend.forecasting.background import models_dir
    from opsmend.forecasting.check import Order, run

    settings = load(config)
    report = run(Order(settings.store_url, str(models_dir(settings.data_dir)), settings.detect.bucket_seconds,
                       settings.forecaster.cpu_seconds, always_tune=tune, by_hand=True))
    if as_json:
        output.as_json(asdict(report))
        return
    output.result(f"{report.done}: {report.version}; {report.reason}")


@app.command()
def rollback(config: Config = None,
             reason: Annotated[str, typer.Option(help="Why; it is kept with the event.")] = "by hand",
             as_json: Json = False) -> None:
    """Go back to the version before. A running service follows within seconds. What was in use is not promoted again, and
    nothing is tuned by itself, until `use` or `check` asks for it. Exit 1 if there is none."""
    from detect.forecaster.versions import ModelVersions, NoVersion

    versions = ModelVersions(_directory(config))
    try:
        version = versions.rollback(reason=reason, now_ns=time.time_ns(), by_hand=True)
    except NoVersion as error:
        output.result(str(error))
        raise typer.Exit(1) from error
    _tell(version or versions.champion().version, as_json)


@app.command()
def use(directory: Annotated[Path, typer.Argument(help="Of forecaster.safetensors and its card.")],
        config: Config = None, as_json: Json = False) -> None:
    """Put weights of your own to use, without a contest: a student, or some that were trained elsewhere."""
    from detect.forecaster.versions import ModelVersions
    from detect.forecaster.weights import BadWeights, Weights

    versions = ModelVersions(_directory(config))
    try:
        weights = Weights.load(directory)
    except (OSError, BadWeights) as error:
        output.result(f"can't be used: {error}")
        raise typer.Exit(1) from error
    versions.add(weights)
    versions.promote(weights.version, reason="by hand", now_ns=time.time_ns(), by_hand=True)
    _tell(weights.version, as_json)


def _tell(version: str, as_json: bool) -> None:
    if as_json:
        output.as_json({"champion": version})
        return
    output.result(f"in use now: {version}")


def _directory(config: Path | None) -> Path:
    from opsmend.config import load
    from opsmend.forecasting.background import models_dir

    return models_dir(load(config).data_dir)
