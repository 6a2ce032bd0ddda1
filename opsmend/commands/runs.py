"""`opsmend runs list|show|cancel`."""

from __future__ import annotations

from urllib.parse import urlencode

import typer

from opsmend.commands import output
from opsmend.commands.client import DEFAULT_URL, Token, Url, call, me, part
from opsmend.commands.output import Json, clock, field

app = typer.Typer(no_args_is_help=True, help="Runs: list, show, cancel.")


@app.command("list")
def list_runs(service: str = "", limit: int = 100, url: Url = DEFAULT_URL, as_json: Json = False) -> None:
    """Runs, newest first."""
    query = urlencode({"limit": limit, **({"service": service} if service else {})})
    rows = call("GET", url, f"/api/v1/runs?{query}")["runs"]
    if as_json:
        output.as_json(rows)
        return
    output.table(("id", "started", "service", "action", "state", "verdict"), [
        (r["id"], clock(r["started_at"]), r["service"], r["action"], r["state"], field(r, "verdict")) for r in rows])
    if not rows:
        output.note("no runs")


@app.command()
def show(run_id: str, url: Url = DEFAULT_URL, as_json: Json = False) -> None:
    """One run: its steps, what each did, and the verdict with its grounds."""
    found = call("GET", url, f"/api/v1/runs/{part(run_id)}")
    if as_json:
        output.as_json(found)
        return
    output.result(f"{found['action']} on {found['service']}: {found['state']}")
    for step in found["steps"]:
        did = field(step, "effect") or field(step, "error")
        output.result(f"  {clock(step['started_at'])}  {step['step_id']:12} {step['action']}: {step['state']}: {did}")
    if (outcome := found.get("outcome")) is not None:
        output.result(f"verdict: {outcome['verdict']}: {outcome['why']}{'; undone' if outcome['undone'] else ''}")


@app.command()
def cancel(run_id: str, url: Url = DEFAULT_URL, token: Token = "", as_json: Json = False) -> None:
    """Stop a run before its next step."""
    found = call("POST", url, f"/api/v1/runs/{part(run_id)}/cancel", token, {"by": me()})
    if as_json:
        output.as_json(found)
    else:
        output.result(f"run {found['id']} stops before its next step")
