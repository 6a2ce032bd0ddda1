"""`opsmend config schema|show`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(no_args_is_help=True, help="The configuration: its schema, and what is in force.")


@app.command()
def schema() -> None:
    """The JSON schema of opsmend.toml; editors complete from it."""
    from opsmend.config import schema as make

    typer.echo(json.dumps(make(), indent=2))


@app.command()
def show(config: Annotated[Path | None, typer.Option("--config", "-c")] = None) -> None:
    """Every value in force, and where it came from."""
    from opsmend.config import load
    from opsmend.config_errors import parse_toml

    settings = load(config)
    document: dict[str, Any] = parse_toml(config)[0] if config else {}
    for name, value in _leaves(settings.model_dump(mode="json", by_alias=True)):
        if "OPSMEND_" + name.upper().replace(".", "__") in os.environ:
            origin = "environment"
        elif _is_in(document, name.split(".")):
            origin = str(config)
        else:
            origin = "default"
        typer.echo(f"{name} = {json.dumps(value)}  # {origin}")


def _leaves(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        return [leaf for key, inner in value.items()
                for leaf in _leaves(inner, f"{prefix}.{key}" if prefix else key)]
    return [(prefix, value)]


def _is_in(document: Any, names: list[str]) -> bool:
    for name in names:
        if not isinstance(document, dict) or name not in document:
            return False
        document = document[name]
    return True
