"""`opsmend incidents list|show|close`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from opsmend.commands import output
from opsmend.commands.client import DEFAULT_URL, Token, Url, call, me, pages, part
from opsmend.commands.output import Json, clock, field, mark

app = typer.Typer(no_args_is_help=True, help="Incidents of a running service.")
State = Literal["open", "closed", "merged", "all"]


@app.command("list")
def list_incidents(state: State = "open", service: str = "", limit: int = 50, url: Url = DEFAULT_URL,
                   as_json: Json = False) -> None:
    """Incidents, newest first."""
    rows = pages(url, "/api/v1/incidents", "incidents", limit, state=state, service=service)
    if as_json:
        output.as_json(rows)
        return
    output.table(("id", "opened", "severity", "state", "title"), [
        (r["id"], clock(r["opened_at"]), r["severity"], r["state"], r["title"]) for r in rows])
    if not rows:
        output.note("no incidents" if state == "all" else f"no incidents are {state}")


@app.command()
def show(incident_id: str, url: Url = DEFAULT_URL, as_json: Json = False) -> None:
    """One incident with its signals, the diagnosis, and what was planned and done; or why nothing was."""
    found = call("GET", url, f"/api/v1/incidents/{part(incident_id)}")
    if as_json:
        output.as_json(found)
        return
    output.result(f"{found['title']}  [{found['severity']}, {found['state']}, since {clock(found['first_signal_at'])}]")
    output.result(f"incident {found['id']}")
    for signal in found["signals"]:
        where = f"{signal['service']} -> {signal['peer']}" if signal["peer"] else signal["service"]
        said = "; ".join(e["text"] for e in signal["evidence"]) or signal["key"]
        output.result(f"  {'open  ' if signal['is_open'] else 'closed'}  {signal['kind']:14} {where}: {said}")
    _diagnosis(found.get("diagnosis"))
    for plan in found["plans"]:
        _plan(plan)
    for run in found["runs"]:
        output.result(f"run {run['id']}: {run['action']} on {run['service']}: {run['state']}"
                      f"{', ' + str(run['verdict']) if run['verdict'] else ''}")


def _diagnosis(diagnosis: dict[str, Any] | None) -> None:
    if diagnosis is None:
        output.result("no diagnosis yet")
        return
    if diagnosis["cannot_tell"]:
        output.result("diagnosis: cannot tell")
    for suspect in diagnosis["suspects"][:3]:
        where = f"{suspect['service']} -> {suspect['peer']}" if suspect.get("peer") else suspect["service"]
        output.result(f"suspect {suspect['probability']:.0%}  {where}")


def _plan(plan: dict[str, Any]) -> None:
    output.result(f"plan {plan['id']}: {plan['title']} ({plan['action']}, risk {plan['risk']}): {plan['state']}")
    output.result(f"  hash {plan['hash']}")
    for gate in plan["gates"]:
        typer.echo(f"  {mark(ok=gate['passed'])} {output.printable(gate['gate'])}: {output.printable(gate['detail'])}")
    if plan["decided_by"]:
        output.result(f"  {plan['state']} by {plan['decided_by']} {field(plan, 'decided_reason')}".rstrip())


@app.command()
def close(incident_id: str, reason: Annotated[str, typer.Option(help="For the record.")] = "",
          url: Url = DEFAULT_URL, token: Token = "", as_json: Json = False) -> None:
    """Not an incident, or done."""
    found = call("POST", url, f"/api/v1/incidents/{part(incident_id)}/close", token, {"reason": reason, "by": me()})
    if as_json:
        output.as_json(found)
    else:
        output.result(f"incident {found['id']} is {found['state']}")
