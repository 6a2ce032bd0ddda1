"""`opsmend incidents|plans|runs|repairs`: the HTTP API for terminals."""

from __future__ import annotations

import getpass
import json
from typing import Annotated, Any

import typer

incidents = typer.Typer(no_args_is_help=True, help="Incidents of a running service.")
plans = typer.Typer(no_args_is_help=True, help="Plans: list, approve, reject.")
runs = typer.Typer(no_args_is_help=True, help="Runs: list, show, cancel.")
repairs = typer.Typer(no_args_is_help=True, help="The mode and the kill switch.")
Url = Annotated[str, typer.Option(envvar="OPSMEND_URL", help="The service.")]
Token = Annotated[str, typer.Option(envvar="OPSMEND_TOKEN", help="Bearer token, where the service asks for one.")]
Json = Annotated[bool, typer.Option("--json")]
_URL = "http://127.0.0.1:8420"


def _call(method: str, url: str, path: str, token: str = "", body: object = None) -> Any:
    import httpx

    from ingest.errors import OpsmendError, TransportError

    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        answer = httpx.request(method, url.rstrip("/") + path, json=body, headers=headers, timeout=30)
    except httpx.HTTPError as error:
        raise TransportError(f"{url}: {error}. Is `opsmend run` up, and is --url right?") from error
    if answer.status_code >= 400:
        problem = answer.json() if "json" in answer.headers.get("content-type", "") else {}
        raise OpsmendError(f"{answer.status_code} {problem.get('title', '')}: {problem.get('detail', answer.text[:300])}")
    return answer.json() if answer.content else None


def _rows(found: Any) -> list[dict[str, Any]]:
    return found if isinstance(found, list) else next((v for v in found.values() if isinstance(v, list)), [])


def _print(found: Any, as_json: bool, columns: tuple[str, ...]) -> None:
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for row in _rows(found):
        typer.echo("  ".join(str(row.get(c, "")) for c in columns))


@incidents.command("list")
def incidents_list(state: str = "open", url: Url = _URL, as_json: Json = False) -> None:
    """Incidents, newest first."""
    _print(_call("GET", url, f"/api/v1/incidents?state={state}"), as_json, ("id", "severity", "state", "title"))


@incidents.command("show")
def incidents_show(incident_id: str, url: Url = _URL) -> None:
    """One incident with diagnosis, evidence and plans."""
    typer.echo(json.dumps(_call("GET", url, f"/api/v1/incidents/{incident_id}"), indent=2))


@incidents.command("close")
def incidents_close(incident_id: str, url: Url = _URL, token: Token = "") -> None:
    """Not an incident, or done."""
    _call("POST", url, f"/api/v1/incidents/{incident_id}/close", token, {})


@plans.command("list")
def plans_list(state: str = "proposed", url: Url = _URL, as_json: Json = False) -> None:
    """Plans in a state."""
    _print(_call("GET", url, f"/api/v1/plans?state={state}"), as_json, ("id", "hash", "state", "title", "risk"))


@plans.command("approve")
def plans_approve(plan_id: str, plan_hash: Annotated[str, typer.Option("--hash", help="As shown by `plans list`.")],
                  reason: str = "", url: Url = _URL, token: Token = "") -> None:
    """Approve exactly this plan, once."""
    _decide(url, token, plan_id, "approve", plan_hash, reason)


@plans.command("reject")
def plans_reject(plan_id: str, plan_hash: Annotated[str, typer.Option("--hash")],
                 reason: str = "", url: Url = _URL, token: Token = "") -> None:
    """Reject a plan."""
    _decide(url, token, plan_id, "reject", plan_hash, reason)


def _decide(url: str, token: str, plan_id: str, decision: str, plan_hash: str, reason: str) -> None:
    body = {"decision": decision, "plan_hash": plan_hash, "reason": reason, "by": getpass.getuser()}
    answer = _call("POST", url, f"/api/v1/plans/{plan_id}/decision", token, body)
    typer.echo(json.dumps(answer, indent=2))


@runs.command("list")
def runs_list(url: Url = _URL, as_json: Json = False) -> None:
    """Runs, newest first."""
    _print(_call("GET", url, "/api/v1/runs"), as_json, ("id", "service", "action", "state", "verdict"))


@runs.command("show")
def runs_show(run_id: str, url: Url = _URL) -> None:
    """One run with its steps."""
    typer.echo(json.dumps(_call("GET", url, f"/api/v1/runs/{run_id}"), indent=2))


@runs.command("cancel")
def runs_cancel(run_id: str, url: Url = _URL, token: Token = "") -> None:
    """Stop a run before its next step."""
    _call("POST", url, f"/api/v1/runs/{run_id}/cancel", token, {})


@repairs.command("mode")
def repairs_mode(mode: Annotated[str, typer.Argument(help="observe, suggest or auto")],
                 url: Url = _URL, token: Token = "") -> None:
    """Change the mode; it is a row in the store and survives a restart."""
    typer.echo(json.dumps(_call("PUT", url, "/api/v1/repairs", token, {"mode": mode, "by": getpass.getuser()})))


@repairs.command("stop")
def repairs_stop(url: Url = _URL, token: Token = "") -> None:
    """The kill switch: nothing starts, and what runs stops before its next step."""
    typer.echo(json.dumps(_call("PUT", url, "/api/v1/repairs", token, {"stopped": True, "by": getpass.getuser()})))


@repairs.command("resume")
def repairs_resume(url: Url = _URL, token: Token = "") -> None:
    """Allow repairs again."""
    typer.echo(json.dumps(_call("PUT", url, "/api/v1/repairs", token, {"stopped": False, "by": getpass.getuser()})))
