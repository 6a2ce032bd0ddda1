"""The dashboard's forms: decisions, the kill switch, incidents, who you are.

A page with scripts sends them through htmx and gets 204: it renders itself anew. Without scripts they are plain
forms that lead to the page where the result is seen.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast
from urllib.parse import parse_qsl, quote

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ingest.errors import OpsmendError
from opsmend.api.port import Conflict, Decision, NotFound, ServicePort
from opsmend.api.security import NAME_COOKIE, TOKEN_COOKIE, operator_of
from opsmend.api.uploads import Uploads
from opsmend.causes import Culprit
from opsmend.dashboard.folds import expand
from opsmend.dashboard.incident import CALLS, NOTHING
from remediate.types import Mode

THEME_COOKIE = "opsmend_theme"
Refuse = Callable[[Request, int, str], Awaitable[Response]]
Pairs = list[tuple[str, str]]


async def fields(request: Request) -> Pairs:
    """The fields of a urlencoded form of at most 64 KiB, in order."""
    uploads: Uploads = request.app.state.uploads
    async with uploads.received(request, 64 * 1024) as body:
        return parse_qsl(body.decode(errors="replace"), max_num_fields=500, keep_blank_values=True)


def install(app: FastAPI, refuse: Refuse) -> None:
    """Add the forms' routes. `refuse` renders a page that says why something was not done."""
    port: ServicePort = app.state.port

    def form(path: str, act: Callable[[Request, dict[str, str], Pairs], str]) -> None:
        """`act` does it and returns the path where the result is seen."""
        async def endpoint(request: Request) -> Response:
            pairs = await fields(request)
            is_htmx = request.headers.get("hx-request") == "true"
            try:
                there = await run_in_threadpool(act, request, dict(pairs), pairs)
            except OpsmendError as error:
                if is_htmx:
                    raise  # as a problem document; the page shows its text
                status = {NotFound.reason: 404, Conflict.reason: 409}.get(error.reason, 503)
                return await refuse(request, status, str(error))
            return Response(status_code=204, headers={"x-opsmend-done": quote(there)}) if is_htmx else RedirectResponse(
                there, 303)
        app.add_route(path, endpoint, ["POST"])

    def decide(request: Request, given: dict[str, str], _: Pairs) -> str:
        decision = given.get("decision", "")
        if decision not in ("approve", "reject"):
            raise HTTPException(422, "decision: approve or reject")
        plan = port.decide(request.path_params["id"], cast(Decision, decision), plan_hash=given.get("plan_hash", ""),
                           by=operator_of(request), reason=given.get("reason", "")[:300])
        return f"/incidents/{plan.incident_id}"

    def control(request: Request, given: dict[str, str], _: Pairs) -> str:
        mode, stopped = given.get("mode") or None, given.get("stopped")
        if mode not in (None, "observe", "suggest", "auto"):
            raise HTTPException(422, "mode: observe, suggest or auto")
        if stopped not in (None, "yes", "no"):
            raise HTTPException(422, "stopped: yes or no")
        port.set_control(mode=cast(Mode | None, mode), stopped=None if stopped is None else stopped == "yes",
                         by=operator_of(request))
        return "/policy"

    def close(request: Request, _given: dict[str, str], _: Pairs) -> str:
        port.close_incident(request.path_params["id"], by=operator_of(request), reason="not an incident")
        return "/incidents"

    def split(request: Request, _given: dict[str, str], pairs: Pairs) -> str:
        chosen, services = ([value for name, value in pairs if name == wanted] for wanted in ("signal", "service"))
        if not chosen and not services:
            raise Conflict("choose the alerts that make an incident of their own")
        found = port.incident(request.path_params["id"])
        if found is None:
            raise NotFound("there is no incident with this id")
        ids = expand(found, chosen, services)
        return f"/incidents/{port.split_incident(found.id, ids, by=operator_of(request)).id}"

    def merge(request: Request, given: dict[str, str], _: Pairs) -> str:
        into = given.get("into", "")
        if not into:
            raise Conflict("choose the incident that this one is part of")
        return f"/incidents/{port.merge_incident(request.path_params['id'], into, by=operator_of(request)).id}"

    def cause(request: Request, _given: dict[str, str], pairs: Pairs) -> str:
        chosen = [value for name, value in pairs if name == "cause"]
        culprits = [Culprit(*value.split(CALLS)[:3]) for value in chosen if value != NOTHING]
        if not chosen or len(chosen) > 10 or (culprits and NOTHING in chosen) or not all(
                0 < len(c.service) <= 500 and len(c.peer) <= 500 and len(c.instance) <= 500 for c in culprits):
            raise Conflict("choose what was at fault, or that nothing was")
        port.confirm_cause(request.path_params["id"], culprits, by=operator_of(request))
        return f"/incidents/{request.path_params['id']}"

    def cancel(request: Request, _given: dict[str, str], _: Pairs) -> str:
        run = port.cancel_run(request.path_params["id"], by=operator_of(request))
        return f"/incidents/{run.incident_id}"

    form("/plans/{id}/decision", decide)
    form("/control", control)
    form("/incidents/{id}/close", close)
    form("/incidents/{id}/split", split)
    form("/incidents/{id}/merge", merge)
    form("/incidents/{id}/cause", cause)
    form("/runs/{id}/cancel", cancel)

    async def session(request: Request) -> Response:
        given: dict[str, Any] = dict(await fields(request))
        answer = RedirectResponse("/policy", 303)
        for name, field in ((NAME_COOKIE, "name"), (TOKEN_COOKIE, "token"), (THEME_COOKIE, "theme")):
            if value := str(given.get(field, ""))[:200]:
                answer.set_cookie(name, quote(value), httponly=True, samesite="strict", max_age=365 * 86_400)
        return answer

    app.add_route("/session", session, ["POST"])
