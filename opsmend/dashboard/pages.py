"""The dashboard's pages and forms, rendered on the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote

import numpy as np
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

from detect.types import Incident
from opsmend.api.intake import read_body
from opsmend.api.port import ServicePort
from opsmend.api.present import rfc3339
from opsmend.api.security import NAME_COOKIE, TOKEN_COOKIE, operator_of
from opsmend.dashboard.layout import place

_HERE = Path(__file__).parent
_MINUTE_NS = 60 * 10**9


def clock(ts_ns: int) -> str:
    """HH:MM:SS UTC of event time."""
    return (rfc3339(ts_ns) or "")[11:19] or "–"


def spark(ys: np.ndarray[Any, Any], width: int = 120, height: int = 28) -> str:
    """An SVG path; the scale leaves room around the usual value, so that a quiet series looks quiet."""
    present = ys[~np.isnan(ys)]
    if len(present) < 2:
        return ""
    room = max(abs(float(np.median(present))) * 0.25, 1e-9)
    low, high = min(float(present.min()), float(np.median(present)) - room), max(float(present.max()), room)
    at = np.linspace(0, width, len(ys))
    points = [f"{x:.1f} {height - 2 - (y - low) / (high - low) * (height - 4):.1f}"
              for x, y in zip(at, ys, strict=True) if not np.isnan(y)]
    return "M" + "L".join(points)


def deciding(port: ServicePort, incident: Incident, limit: int = 6) -> list[dict[str, Any]]:
    """The series that the incident's signals name, on one clock: [{service, name, path, now}]."""
    wanted = {(s.service, s.series) for s in incident.signals if s.series}
    start = incident.first_signal_ns - 5 * _MINUTE_NS
    end = min(port.now_ns(), (incident.closed_ns or port.now_ns()) + _MINUTE_NS)
    seen = port.observations(start, end, lambda key: (key.service, key.name) in wanted)
    return [{"service": key.service, "name": key.name, "path": spark(seen.values[:, at], 600, 34),
             "now": next((f"{v:.3g}" for v in seen.values[::-1, at] if not np.isnan(v)), "")}
            for at, key in enumerate(seen.series)][:limit]


def row(port: ServicePort, incident: Incident) -> dict[str, Any]:
    """One incident as the lists show it. `step` counts found, diagnosed, planned, repaired, verified."""
    diagnosis, plans = port.diagnosis(incident.id), port.plans(incident_id=incident.id)
    runs = port.runs(incident_id=incident.id)
    series = deciding(port, incident, 1)
    step = 1 + bool(diagnosis) + bool(plans) + bool(runs) + bool(runs and runs[0].verdict == "fixed")
    return {"i": incident, "d": diagnosis, "plan": next((p for p in plans if p.state == "proposed"), None),
            "run": runs[0] if runs else None, "spark": series[0]["path"] if series else "", "step": step,
            "folded": sum(s.count for s in incident.signals)}


def frame(port: ServicePort) -> dict[str, Any]:
    """What every page shows."""
    return {"control": port.control(), "stats": port.ingest_stats(), "now_ns": port.now_ns()}


async def fields(request: Request) -> dict[str, str]:
    """The fields of a urlencoded form of at most 64 KiB."""
    body = await read_body(request, 64 * 1024)
    return dict(parse_qsl(body.decode(errors="replace"), max_num_fields=50))


def graph_view(port: ServicePort) -> dict[str, Any]:
    """The service graph, placed."""
    graph, states = port.graph(), {s.name: s.state for s in port.services()}
    return place(graph, states)


def install(app: FastAPI) -> None:
    """Add the pages to the app."""
    templates = Jinja2Templates(_HERE / "templates")
    templates.env.filters.update(clock=clock, pct=lambda p: f"{100 * p:.0f} %")
    app.mount("/static", StaticFiles(directory=_HERE / "static"), name="static")
    port: ServicePort = app.state.port

    def page(path: str, template: str, view: Any) -> None:
        async def endpoint(request: Request) -> Response:
            context = await run_in_threadpool(lambda: {**frame(port), **view(request), "path": request.url.path})
            return templates.TemplateResponse(request, template, context)
        app.add_route(path, endpoint, ["GET"])

    def now(_request: Request) -> dict[str, Any]:
        closed = [i for i in port.incidents(state="closed", limit=20).items
                  if i.updated_ns > port.now_ns() - 60 * _MINUTE_NS]
        return {"rows": [row(port, i) for i in port.incidents(state="open").items],
                "mended": [row(port, i) for i in closed], "breaches": port.breaches(), "trust": port.trust(),
                "g": graph_view(port)}

    def incident(request: Request) -> dict[str, Any]:
        found = port.incident(request.path_params["id"])
        if found is None:
            raise HTTPException(404, "no such incident")
        return {**row(port, found), "series": deciding(port, found), "plans": port.plans(incident_id=found.id),
                "runs": port.runs(incident_id=found.id), "why": {m.signal_id: m.why for m in found.members},
                "changes": port.changes(found.first_signal_ns - 30 * _MINUTE_NS, port.now_ns()),
                "me": operator_of(request)}

    page("/", "now.html", now)
    page("/incidents", "incidents.html", lambda r: {"rows": [row(port, i) for i in port.incidents(limit=100).items]})
    page("/incidents/{id}", "incident.html", incident)
    page("/map", "map.html", lambda r: {"g": graph_view(port), "services": port.services()})
    page("/runs", "runs.html", lambda r: {"runs": [(r, port.outcome(r.id)) for r in port.runs()]})
    page("/policy", "policy.html", lambda r: {"allowed": port.allowed(), "actions": port.actions(),
                                              "me": operator_of(r)})

    async def decide(request: Request) -> Response:
        form, by = await fields(request), operator_of(request)
        decision = str(form.get("decision"))
        if decision not in ("approve", "reject"):
            raise HTTPException(422, "decision: approve or reject")
        plan = await run_in_threadpool(lambda: port.decide(
            request.path_params["id"], "approve" if decision == "approve" else "reject",
            plan_hash=str(form.get("plan_hash", "")), by=by))
        return RedirectResponse(f"/incidents/{plan.incident_id}", 303)

    async def control(request: Request) -> Response:
        form, by = await fields(request), operator_of(request)
        mode, stopped = str(form.get("mode", "")), form.get("stopped")
        if mode not in ("", "observe", "suggest", "auto"):
            raise HTTPException(422, "mode: observe, suggest or auto")
        await run_in_threadpool(lambda: port.set_control(
            mode=mode or None, stopped=None if stopped is None else stopped == "yes", by=by))  # type: ignore[arg-type]
        return RedirectResponse("/policy", 303)

    async def close(request: Request) -> Response:
        by = operator_of(request)
        await run_in_threadpool(lambda: port.close_incident(request.path_params["id"], by=by))
        return RedirectResponse("/incidents", 303)

    async def session(request: Request) -> Response:
        form, answer = await fields(request), RedirectResponse("/policy", 303)
        for name, field in ((NAME_COOKIE, "name"), (TOKEN_COOKIE, "token")):
            if value := str(form.get(field, ""))[:200]:
                answer.set_cookie(name, quote(value), httponly=True, samesite="strict")
        return answer

    app.add_route("/plans/{id}/decision", decide, ["POST"])
    app.add_route("/control", control, ["POST"])
    app.add_route("/incidents/{id}/close", close, ["POST"])
    app.add_route("/session", session, ["POST"])
