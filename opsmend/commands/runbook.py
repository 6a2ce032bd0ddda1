"""`opsmend runbook lint|list`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Runbooks: lint and list.")


@app.command()
def lint(files: list[Path]) -> None:
    """Refuse what could not run: unknown keys, unknown actions, cycles."""
    from remediate.catalogue import Catalogue
    from remediate.runbook import parse_runbook

    for path in files:
        runbook = parse_runbook(path.read_text(), str(path), Catalogue())
        typer.echo(f"{path}: {runbook.name}: {' -> '.join(runbook.order())}")


@app.command("list")
def list_runbooks(directory: Annotated[Path | None, typer.Option("--dir")] = None) -> None:
    """The runbook of every action."""
    from remediate.catalogue import Catalogue
    from remediate.runbook import load_runbooks

    for action, runbook in load_runbooks(Catalogue(), directory).items():
        typer.echo(f"{action:28} {runbook.name:28} {' -> '.join(runbook.order())}")
