"""`opsmend config schema|show`."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from opsmend.commands import output
from opsmend.commands.output import Json

app = typer.Typer(no_args_is_help=True, help="The configuration: its schema, and what is in force.")


@app.command()
def schema() -> None:
    """The JSON schema of opsmend.toml; editors complete from it."""
    from opsmend.config import schema as make

    typer.echo(json.dumps(make(), indent=2))


@app.command()
def reference(as_json: Json = False) -> None:
    """Every key with its default and what it means, as Markdown tables (docs/configuration.md)."""
    rows = reference_rows()
    if as_json:
        output.as_json([{"key": key, "default": default, "means": means} for key, default, means in rows])
        return
    output.result("| key | default | means |\n|---|---|---|")
    for key, default, means in rows:
        output.result(f"| `{key}` | {default} | {means} |")


def reference_rows() -> list[tuple[str, str, str]]:
    """(key, default, meaning) of every key, in the order of the sections; `[]` marks a list of tables."""
    from opsmend.config import Settings
    from opsmend.config_errors import model_in

    def walk(model: Any, prefix: str) -> list[tuple[str, str, str]]:
        rows: list[tuple[str, str, str]] = []
        for name, field in model.model_fields.items():
            key, inner = prefix + (field.alias or name), model_in(field.annotation)
            if inner is not None:
                rows += walk(inner, f"{key}[]." if "list" in str(field.annotation) else f"{key}.")
                continue
            value = field.default
            default = "needed" if field.is_required() else json.dumps(value, default=str).replace("null", "none")
            means = " ".join((field.description or "").split())
            rows.append((key, default if field.is_required() else f"`{default}`", means.replace("|", "\\|")))
        return rows

    return walk(Settings, "")


@app.command()
def show(config: Annotated[Path | None, typer.Option("--config", "-c", help="opsmend.toml; none: the defaults.")] = None,
         as_json: Json = False) -> None:
    """Every value in force, and where it came from. Secrets are named by variable or file and never shown."""
    from opsmend.config import load
    from opsmend.config_errors import parse_toml

    settings = load(config)
    document: dict[str, Any] = parse_toml(config)[0] if config else {}
    rows = [{"key": name, "value": without_passwords(value), "from": _origin(name, document, config)}
            for name, value in _leaves(settings.model_dump(mode="json", by_alias=True))]
    if as_json:
        output.as_json(rows)
        return
    for row in rows:
        output.result(f"{row['key']} = {json.dumps(row['value'], ensure_ascii=False)}  # {row['from']}")


def without_passwords(value: Any) -> Any:
    """A URL may hold one, `scheme://user:password@host`, or a key in its query."""
    if isinstance(value, str):
        hidden = re.sub(r"(://[^/@\s:]*):[^/@\s]*@", r"\1:***@", value)
        return re.sub(r"(?i)([?&](?:[\w-]*(?:token|key|secret|password)[\w-]*))=[^&\s]*", r"\1=***", hidden)
    if isinstance(value, dict):
        return {k: without_passwords(v) for k, v in value.items()}
    return [without_passwords(v) for v in value] if isinstance(value, list) else value


def _origin(name: str, document: dict[str, Any], config: Path | None) -> str:
    given = {variable.upper(): variable for variable in os.environ}
    parts = name.upper().split(".")
    for depth in range(len(parts), 0, -1):  # a section may be given as a whole, as JSON
        if (variable := given.get("OPSMEND_" + "__".join(parts[:depth]))) is not None:
            return f"environment {variable}"
    return str(config) if _is_in(document, name.split(".")) else "default"


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
