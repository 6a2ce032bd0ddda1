"""`opsmend incidents list|show|close|split|merge|cause`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import typer

from opsmend.commands import output
from opsmend.commands.client import DEFAULT_URL, Token, Url, call, me, pages, part
from opsmend.commands.output import Json, clock, field, mark

app = typer.Typer(no_args_is_help=True, help="Incidents of a running service.")
State = Literal["open", "closed", "merged", "all"]
_LEAST_ID = 8
"""How much of a signal's id `show` prints, and the least that `split` takes."""


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
    by, why = field(found, "closed_by"), field(found, "closed_reason")
    if by or why:
        output.result(f"closed by {by or 'nobody named'}{': ' if why else ''}{why}")
    for signal in found["signals"]:
        where = f"{signal['service']} -> {signal['peer']}" if signal["peer"] else signal["service"]
        said = "; ".join(e["text"] for e in signal["evidence"]) or signal["key"]
        output.result(f"  {'open  ' if signal['is_open'] else 'closed'}  {signal['id'][:_LEAST_ID]}  {signal['kind']:14} "
                      f"{where}: {said}")
    _diagnosis(found.get("diagnosis"))
    if cause := found.get("cause"):
        said = _caused(cause) if cause["service"] else "nothing was wrong"
        output.result(f"confirmed cause: {said} (by {cause['by'] or 'nobody named'})")
    if found["held"]:
        output.result(f"left to people: {found['held']}")
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
        which = f" ({', '.join(suspect['instances'])})" if suspect.get("instances") else ""
        kind = f"{suspect['kind']} " if suspect.get("kind") else ""
        output.result(f"suspect {suspect['probability']:.0%}  {kind}{_where(suspect)}{which}")
        if len(suspect["path"]) > 1:
            output.result(f"    path: {' -> '.join(suspect['path'])}")
        for evidence in suspect["evidence"]:
            output.result(f"    {'for' if evidence['is_for'] else 'against'}: {evidence['text']}")
    output.result(f"none of these {diagnosis['p_none']:.0%}")


def _where(found: dict[str, Any]) -> str:
    return f"{found['service']} -> {found['peer']}" if found.get("peer") else str(found["service"])


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


@app.command()
def split(incident_id: str,
          service: Annotated[list[str] | None, typer.Option(help="Every signal of this service leaves.")] = None,
          signal: Annotated[list[str] | None, typer.Option(
              help="This signal leaves: its id, or the first 8 characters or more, as `show` prints them.")] = None,
          url: Url = DEFAULT_URL, token: Token = "", as_json: Json = False) -> None:
    """Move signals into an incident of their own. Both options may be given several times; it stays so afterwards."""
    found = call("GET", url, f"/api/v1/incidents/{part(incident_id)}")
    leaving = _leaving(found["signals"], service or (), signal or ())
    new = call("POST", url, f"/api/v1/incidents/{part(incident_id)}/split", token, {"signal_ids": leaving, "by": me()})
    if as_json:
        output.as_json(new)
    else:
        output.result(f"incident {new['id']} ({new['title']}) has {len(new['signals'])} of the "
                      f"{len(found['signals'])} signals of {incident_id}")


@app.command()
def merge(incident_id: str, into: Annotated[str, typer.Argument(help="The open incident that stays.")],
          url: Url = DEFAULT_URL, token: Token = "", as_json: Json = False) -> None:
    """Put an open incident into another one; it stays so afterwards."""
    home = call("POST", url, f"/api/v1/incidents/{part(incident_id)}/merge", token, {"into": into, "by": me()})
    if as_json:
        output.as_json(home)
    else:
        output.result(f"incident {incident_id} is merged into {home['id']} ({home['title']}), "
                      f"which has {len(home['signals'])} signals now")


def _leaving(held: Sequence[dict[str, Any]], services: Sequence[str], signals: Sequence[str]) -> list[str]:
    """Ids of the signals that were named, in the incident's order. Raises OpsmendError for a name that fits none of
    them, or an id that fits several."""
    from ingest.errors import OpsmendError

    if not services and not signals:
        raise OpsmendError("say what leaves: --service SERVICE or --signal ID, as often as needed", reason="usage")
    there = sorted({s["service"] for s in held})
    for name in services:
        if name not in there:
            raise OpsmendError(f"the incident has no signal of {name}, only of {', '.join(there)}", reason="no_such_signal")
    leaving = {s["id"] for s in held if s["service"] in services}
    for begin in signals:
        fits = [s["id"] for s in held if s["id"] == begin or (len(begin) >= _LEAST_ID and s["id"].startswith(begin))]
        if len(fits) != 1:
            why = f"{len(fits)} of its signals begin with" if fits else "the incident has no signal"
            raise OpsmendError(f"{why} {begin}: `opsmend incidents show` prints their ids", reason="no_such_signal")
        leaving.add(fits[0])
    return [s["id"] for s in held if s["id"] in leaving]


@app.command()
def cause(incident_id: str,
          service: Annotated[str, typer.Argument(help="What was at fault: a service, host, volume, or CALLER->CALLEE.")] = "",
          peer: Annotated[str, typer.Option(help="The calls from it to this one, and neither end.")] = "",
          instance: Annotated[str, typer.Option(help="This instance of it.")] = "",
          also: Annotated[list[str] | None, typer.Option(
              help="What else was at fault at the same time; may be given several times.")] = None,
          nothing: Annotated[bool, typer.Option("--nothing", help="Nothing was at fault: a false alarm.")] = False,
          url: Url = DEFAULT_URL, token: Token = "", as_json: Json = False) -> None:
    """Say what the cause was, or that there was none, whatever the diagnosis says; `opsmend train rootcause --fine-tune`
    learns from it."""
    first = _culprit(service)
    first |= {name: said for name, said in (("peer", peer), ("instance", instance)) if said}
    found = call("PUT", url, f"/api/v1/incidents/{part(incident_id)}/cause", token,
                 first | {"also": [_culprit(one) for one in also or ()], "nothing": nothing, "by": me()})
    if as_json:
        output.as_json(found)
    elif found["service"]:
        output.result(f"incident {found['incident_id']} was caused by {_caused(found)}")
    else:
        output.result(f"incident {found['incident_id']}: nothing was wrong")


def _culprit(said: str) -> dict[str, str]:
    """`CALLER->CALLEE`, with or without spaces as `show` prints it, is a call.

    >>> _culprit("cart -> db"), _culprit("cart")
    ({'service': 'cart', 'peer': 'db'}, {'service': 'cart', 'peer': ''})
    """
    service, _, peer = said.partition("->")
    return {"service": service.strip(), "peer": peer.strip()}


def _caused(cause: dict[str, Any]) -> str:
    """All culprits in words."""
    words = []
    for one in (cause, *cause["also"]):
        kind = f"{one['kind']} " if one["kind"] else ""
        words.append(f"{kind}{_where(one)}{' (' + one['instance'] + ')' if one['instance'] else ''}")
    return " and ".join(words)
