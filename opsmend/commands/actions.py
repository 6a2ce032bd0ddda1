"""`opsmend actions list|show|probe`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from opsmend.commands import output
from opsmend.commands.catalogue import (
    ActionsDir,
    ConfigFile,
    catalogue_of,
    describe,
    may,
    named,
    params_for,
    undo_of,
)
from opsmend.commands.output import Json

app = typer.Typer(no_args_is_help=True, help="The catalogue of actions: list, show, probe.")


@app.command("list")
def list_actions(config: ConfigFile = None, directory: ActionsDir = None, as_json: Json = False) -> None:
    """Every action: its risk, whether it can be undone, and which signals call for it."""
    from opsmend.config import load

    settings = load(config)
    rows = [_row(settings, action) for action in catalogue_of(settings, directory)]
    if as_json:
        output.as_json(rows)
        return
    output.table(("action", "risk", "undo", "for"), [
        (r["name"], r["risk"], r["undo"], ", ".join(r["applies_when"]) or "anything") for r in rows])


@app.command()
def show(name: str, service: Annotated[str, typer.Option(help="Fill the call in for this service.")] = "SERVICE",
         config: ConfigFile = None, directory: ActionsDir = None, as_json: Json = False) -> None:
    """One action: what it is for, exactly what it would call, and what it may do here."""
    from opsmend.config import load

    settings = load(config)
    action = named(catalogue_of(settings, directory), name)
    row = {**_row(settings, action), "params": params_for(action, service),
           "call": describe(action, params_for(action, service))}
    if as_json:
        output.as_json(row)
        return
    output.result(f"{row['name']}: {row['title']}")
    output.result(f"for      {', '.join(row['applies_when']) or 'anything'}"
                  f"{', beside a recent change' if row['needs_change'] else ''}")
    output.result(f"calls    {row['call']}")
    output.result(f"risk     {row['risk']}, {row['undo']}")
    allowed = "; ".join(f"{r['service']}: {r['how']}" for r in row["may"]) or "nothing: it is on no [[repair.allow]]"
    output.result(f"may      {allowed}")


@app.command()
def probe(name: str, service: Annotated[str, typer.Option(help="The service to look at.")], config: ConfigFile = None,
          directory: ActionsDir = None, as_json: Json = False) -> None:
    """Ask the world whether this action's effect is there. Changes nothing."""
    from opsmend.compose import endpoints
    from opsmend.config import load
    from remediate.actions.base import ActionContext

    settings = load(config)
    action = named(catalogue_of(settings, directory), name)
    # A key that no run has: what comes back is the state of the world, not that of an earlier step.
    found = action.probe(params_for(action, service), ActionContext("probe/by-hand", endpoints(settings)))
    if as_json:
        output.as_json({"action": name, "service": service, "is_done": found.is_done, "state": found.state})
    else:
        output.result(f"{name} on {service}: {'done' if found.is_done else 'not done'}"
                      f"{': ' + found.state if found.state else ''}")


def _row(settings: Any, action: Any) -> dict[str, Any]:
    from remediate.actions.base import risk_of

    return {"name": action.name, "title": action.title, "risk": risk_of(action, 0.0), "undo": undo_of(action),
            "is_reversible": action.is_reversible, "needs_change": action.needs_change,
            "applies_when": sorted(action.applies_when), "is_own": bool(getattr(action, "is_own", False)),
            "may": [{"service": service, "how": how} for service, how in may(settings, action)]}
