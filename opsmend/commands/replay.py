"""`opsmend replay FILE`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import typer

from opsmend.commands import output


def run_replay(file: Path, config: Path | None, as_json: bool) -> None:
    """Run a journal through a fresh pipeline in memory and print the incidents in the order of opening."""
    from rich.console import Console
    from rich.progress import Progress

    from detect.types import Incident
    from opsmend.compose import pipeline_config
    from opsmend.config import load
    from opsmend.corrections import TOPIC, of_record
    from opsmend.journal import read_polls
    from opsmend.pipeline import Pipeline

    pipeline = Pipeline(pipeline_config(load(config)))
    incidents: dict[str, Incident] = {}
    suspects: dict[str, str] = {}

    def keep(result_incidents: tuple[Incident, ...]) -> None:
        incidents.update((i.id, i) for i in result_incidents)

    console = Console(stderr=True, quiet=output.is_quiet())
    told, count = time.monotonic(), 0
    with Progress(console=console, disable=not sys.stderr.isatty(), transient=True) as progress:
        task = progress.add_task("replay", total=None)
        for records in read_polls(file):
            count += len(records)
            if not sys.stderr.isatty() and time.monotonic() - told >= 1:
                told = time.monotonic()
                output.note(f"replay: {count} records, {len(incidents)} incidents")
            if records[0].topic == TOPIC:
                for record in records:
                    keep(tuple(pipeline.correct(of_record(record)).incidents))
                continue
            result = pipeline.step(records)
            keep(tuple(result.incidents))
            for diagnosis in result.diagnoses:
                suspects[diagnosis.incident_id] = diagnosis.suspects[0].service if diagnosis.suspects else ""
            progress.advance(task)
    keep(tuple(pipeline.flush().incidents))
    ordered = sorted(incidents.values(), key=lambda i: (i.opened_ns, i.id))
    if as_json:
        typer.echo(json.dumps([
            {"id": i.id, "opened_ns": i.opened_ns, "severity": i.severity, "title": i.title,
             "services": list(i.services), "suspect": suspects.get(i.id, "")} for i in ordered], indent=2))
        return
    for incident in ordered:
        output.result(f"{incident.id}  {incident.severity:8}  {incident.title}  <- {suspects.get(incident.id, '?')}")
    console.print(f"{len(ordered)} incidents")
