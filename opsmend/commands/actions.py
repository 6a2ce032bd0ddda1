"""`opsmend actions list`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="The catalogue of actions.")


@app.callback()
def _group() -> None:
    """The catalogue of actions."""


@app.command("list")
def list_actions(directory: Annotated[Path | None, typer.Option("--dir", help="Your own actions too.")] = None) -> None:
    """Every action: what it is for, its risk, whether it can be undone."""
    from remediate.actions.base import Action, risk_of
    from remediate.catalogue import Catalogue

    own: list[Action] = []
    if directory is not None:
        from remediate.actions.user import load_user_actions

        own = list(load_user_actions(directory))
    for action in Catalogue(own):
        kinds = ", ".join(sorted(action.applies_when)) or "anything"
        undo = "can be undone" if action.is_reversible else "can't be undone"
        typer.echo(f"{action.name:28} {risk_of(action, 0.0):7} {undo:15} {kinds}")
