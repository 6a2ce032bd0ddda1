"""The command line. Results go to stdout, everything else to stderr.

Heavy modules are imported inside the commands: `opsmend --help` must answer at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from opsmend.commands.output import Json, set_quiet

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
                  help="opsmend: from telemetry to a verified repair.")
Config = Annotated[Path | None, typer.Option("--config", "-c", help="opsmend.toml; none: embedded, observe.")]

EXIT_CONFIG = 2
EXIT_DEPENDENCY = 3


@app.command()
def run(config: Config = None,
        transport: Annotated[str, typer.Option(help="Overrides [ingest] transport.")] = "",
        record: Annotated[Path | None, typer.Option(help="Also write a run journal for `replay`.")] = None,
        runner: Annotated[str, typer.Option(help="Overrides [service] runner: local, quix.")] = "",
        role: Annotated[str, typer.Option(
            help="Overrides [scale] role: all, worker, packer, detect, conclude.")] = "") -> None:
    """The service: ingest to repair, API, dashboard."""
    from opsmend.commands.run import run_service

    run_service(config, transport, record, runner, role)


@app.command()
def demo(port: Annotated[int, typer.Option(help="Port of the dashboard.")] = 8420,
         every: Annotated[float, typer.Option(help="Seconds between faults.")] = 60.0,
         faults: Annotated[str, typer.Option(help="Comma-separated, or `all`.")] = "all",
         count: Annotated[int, typer.Option(help="Stop after this many faults; 0: go on until Ctrl-C.")] = 0,
         ) -> None:
    """Lab and service together: one fault a minute; Ctrl-C leaves nothing behind."""
    from opsmend.commands.demo import run_demo

    raise typer.Exit(run_demo(port=port, every_seconds=every, faults=faults, count=count))


@app.command()
def doctor(config: Config = None, as_json: Json = False) -> None:
    """Configuration, broker, store, models, rights: what works, and the remedy for what does not."""
    from opsmend.commands.doctor import run_doctor

    raise typer.Exit(run_doctor(config, as_json))


@app.command()
def kubernetes(url: Annotated[str, typer.Option(envvar="OPSMEND_URL", help="Address of the running service.")]
               = "http://127.0.0.1:8420",
               token: Annotated[str, typer.Option(envvar="OPSMEND_TOKEN", help="Bearer token of the service.")] = "",
               server: Annotated[str, typer.Option(help="Kubernetes API; empty: that of the cluster this runs in.")] = "",
               token_file: Annotated[Path | None, typer.Option(help="Its bearer token.")] = None,
               ca_file: Annotated[Path | None, typer.Option(help="Certificate of its authority.")] = None,
               every: Annotated[float, typer.Option(help="Seconds; 0: once.", min=0)] = 60.0) -> None:
    """Pods, their owners, nodes and claims from the Kubernetes API to the service; for want of kube-state-metrics."""
    from opsmend.commands.kubernetes import run_kubernetes

    raise typer.Exit(run_kubernetes(url, token, server, token_file, ca_file, every))


@app.command()
def wire(files: Annotated[list[Path] | None, typer.Argument(help="Captures: one record a line.")] = None,
         topic: Annotated[list[str] | None, typer.Option(help="Look at a topic instead.")] = None,
         bootstrap_servers: Annotated[str, typer.Option(help="Kafka, host:port; else that of the configuration.")] = "",
         config: Config = None,
         count: Annotated[int, typer.Option(help="Records to read of each topic.", min=1)] = 200,
         sample: Annotated[int, typer.Option(help="Rows to show of each kind.", min=0)] = 3,
         json_file: Annotated[Path | None, typer.Option("--json", help="Write the report there.")] = None,
         formats: Annotated[bool, typer.Option("--formats", help="List the known formats.")] = False) -> None:
    """Which wire format, whose telemetry, what came out, what was refused and why."""
    from opsmend.commands.wire import run_wire

    raise typer.Exit(run_wire(files or [], json_file, list_formats=formats, topics=topic, config=config, count=count,
                             bootstrap_servers=bootstrap_servers, sample=sample))


@app.command()
def replay(file: Path, config: Config = None, as_json: Json = False) -> None:
    """A recorded run again: the same incidents, id by id. Nothing is repaired."""
    from opsmend.commands.replay import run_replay

    run_replay(file, config, as_json)


@app.command()
def train(what: Annotated[str, typer.Argument(help="breach, forecaster, rootcause, rootcause-alerts or rootcause-mlp")],
          out: Annotated[Path | None, typer.Option(help="Directory of the model files.")] = None,
          distill: Annotated[int, typer.Option(
              help="forecaster: a student of so many units (a multiple of 4) of the shipped one.", min=0)] = 0,
          quantize: Annotated[bool, typer.Option(
              "--quantize", help="forecaster: refused, with what was measured, unless it is faster.")] = False,
          data: Annotated[Path | None, typer.Option(
              help="rootcause-alerts, breach: labelled alert sets, series. --fine-tune, --adapt: recorded cases.")] = None,
          fine_tune: Annotated[bool, typer.Option(
              "--fine-tune", help="rootcause: from incidents whose cause was confirmed (or --data).")] = False,
          adapt: Annotated[bool, typer.Option(
              "--adapt", help="rootcause: to faults simulated in own calm windows (or those of --data).")] = False,
          start: Annotated[Path | None, typer.Option(
              "--from", help="rootcause: directory of weights to go on from, as after new columns.")] = None,
          config: Config = None, seed: int = 0) -> None:
    """Make the shipped model files anew; or tune them to this system, beside the shipped ones."""
    from opsmend.commands.train import run_training, run_tuning

    if fine_tune or adapt:
        run_tuning(what, out, seed, data=data, config=config, fine_tune=fine_tune, adapt=adapt)
    else:
        run_training(what, out, seed, distill=distill, quantize=quantize, data=data, start=start)


@app.callback()
def _root(quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Results and errors only.")] = False) -> None:
    """opsmend: from telemetry to a verified repair."""
    if quiet:
        set_quiet()


@app.command("eval")
def evaluate(what: Annotated[str, typer.Argument(
                 help="logs, series, breach, alerts, detect or rca")],
             data: Annotated[Path | None, typer.Option(help="Directory of the recorded cases.")] = None,
             json_file: Annotated[Path | None, typer.Option("--json", help="Write the report there.")] = None,
             split: Annotated[str, typer.Option(help="rca: dev or test; none: both. alerts: dev, test, all; none: test.")] = "",
             clock: Annotated[str, typer.Option(help="rca: known (when it began is told) or detected.")] = "known",
             ranker: Annotated[str, typer.Option(help="rca: this one beside ours; empty: all.")] = "",
             weights: Annotated[Path | None, typer.Option(help="rca: tuned weights, in place of the shipped ones.")] = None,
             ablation: Annotated[bool, typer.Option(help="alerts, rca: each modality alone, and ways to fuse them.")] = False,
             ) -> None:
    """Score our models and the baselines on recorded data. Exit 1 where cases failed."""
    from opsmend.commands.evaluate import run_eval

    raise typer.Exit(run_eval(what, data, json_file, split, clock=clock, ranker=ranker, ablation=ablation,
                             weights=weights))


def _mount() -> None:
    """The command groups, once. Each is a small module without heavy imports."""
    if app.registered_groups:
        return
    from opsmend.commands import actions, config, incidents, models, plans, repairs, runbook, runs

    for name, group in (("incidents", incidents), ("plans", plans), ("runs", runs), ("repairs", repairs),
                        ("actions", actions), ("runbook", runbook), ("config", config), ("models", models)):
        app.add_typer(group.app, name=name)
    from opsmend.lab import cli as lab

    app.add_typer(lab.app, name="lab")


def main() -> None:
    """Entry point: typed errors become one clear line and an exit code."""
    from ingest.errors import OpsmendError, TransportError

    _mount()
    try:
        app()
    except OpsmendError as error:
        sys.stderr.write(f"opsmend: {error}\n")
        if error.reason in ("configuration", "runbook"):
            sys.exit(EXIT_CONFIG)
        is_away = isinstance(error, TransportError) or error.reason in ("store", "store_busy", "transport")
        sys.exit(EXIT_DEPENDENCY if is_away else 1)
