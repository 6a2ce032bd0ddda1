"""`opsmend plans list|approve|reject`."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Literal

import typer

from opsmend.commands import output
from opsmend.commands.client import DEFAULT_URL, Token, Url, call, me, part
from opsmend.commands.output import Json, clock

app = typer.Typer(no_args_is_help=True, help="Plans: list, approve, reject.")
State = Literal["proposed", "approved", "rejected", "expired", "blocked", "running", "done", "all"]
PlanHash = Annotated[str, typer.Option("--hash", help="The plan's hash, or its first 6 characters or more.")]
_LEAST_HASH = 6


@app.command("list")
def list_plans(state: State = "proposed", limit: int = 100, url: Url = DEFAULT_URL, as_json: Json = False) -> None:
    """Plans, newest first; those that wait for a person unless another state is named."""
    wanted = "" if state == "all" else f"&state={state}"
    rows = call("GET", url, f"/api/v1/plans?limit={limit}{wanted}")["plans"]
    if as_json:
        output.as_json(rows)
        return
    output.table(("id", "hash", "created", "state", "risk", "title"), [
        (r["id"], r["hash"][:12], clock(r["created_at"]), r["state"], r["risk"], r["title"]) for r in rows])
    if not rows:
        output.note("no plans" if state == "all" else f"no plans are {state}")


@app.command()
def approve(plan_id: str, plan_hash: PlanHash = "", reason: str = "", url: Url = DEFAULT_URL, token: Token = "",
            as_json: Json = False) -> None:
    """Approve exactly this plan, once. Without --hash it is shown and asked for."""
    _decide(url, token, plan_id, "approve", plan_hash, reason, as_json)


@app.command()
def reject(plan_id: str, plan_hash: PlanHash = "", reason: str = "", url: Url = DEFAULT_URL, token: Token = "",
           as_json: Json = False) -> None:
    """Reject a plan: it is not proposed again for this incident."""
    _decide(url, token, plan_id, "reject", plan_hash, reason, as_json)


def _decide(url: str, token: str, plan_id: str, decision: str, given: str, reason: str, as_json: bool) -> None:
    plan = call("GET", url, f"/api/v1/plans/{part(plan_id)}")
    body = {"decision": decision, "plan_hash": _seen_hash(plan, given, decision), "reason": reason, "by": me()}
    answer = call("POST", url, f"/api/v1/plans/{part(plan_id)}/decision", token, body)
    if as_json:
        output.as_json(answer)
    else:
        output.result(f"plan {answer['id']} ({answer['title']}) is {answer['state']}")


def _seen_hash(plan: dict[str, Any], given: str, decision: str) -> str:
    """The whole hash, where the person has seen it: by its beginning, or by saying yes to what is shown."""
    from ingest.errors import OpsmendError

    whole = str(plan["hash"])
    if given:
        if len(given) < _LEAST_HASH or not whole.startswith(given):
            raise OpsmendError(f"the plan's hash is not {given}: look at it again with `opsmend plans list`",
                               reason="plan_hash_mismatch")
        return whole
    if not sys.stdin.isatty():
        raise OpsmendError("--hash is needed where nobody can be asked; `opsmend plans list` shows it", reason="usage")
    typer.echo(output.printable(f"{plan['title']}: {plan['action']} on {plan['target']}, risk {plan['risk']}\n"
                                f"{plan['rationale']}\nhash {whole}"), err=True)
    typer.confirm(f"{decision.capitalize()} exactly this?", abort=True, err=True)
    return whole
