"""`GET /api/v1/...`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, Response

from detect.types import Incident
from opsmend.api.port import NotFound, ServicePort
from opsmend.api.present import etag, present
from opsmend.api.problems import problem

router = APIRouter(prefix="/api/v1", tags=["read"])
Limit = Annotated[int, Query(ge=1, le=500)]
PlanStates = Literal["proposed", "approved", "rejected", "expired", "blocked", "running", "done"]


def _port(request: Request) -> ServicePort:
    port: ServicePort = request.app.state.port
    return port


def with_etag(request: Request, body: Any) -> Response:
    """The body, or 304 when the caller has it already."""
    tag = etag(body)
    seen = {t.strip().removeprefix("W/") for t in request.headers.get("if-none-match", "").split(",")}
    if tag in seen or "*" in seen:
        return Response(status_code=304, headers={"etag": tag, "cache-control": "no-cache"})
    return JSONResponse(body, headers={"etag": tag, "cache-control": "no-cache"})


@router.get("/incidents", summary="Incidents, newest first", response_model=dict[str, Any])
def incidents(request: Request, state: Literal["open", "closed", "merged", "all"] = "all", service: str = "",
              cursor: str = "", limit: Limit = 50) -> Response:
    try:
        page = _port(request).incidents(state=None if state == "all" else state, service=service, cursor=cursor,
                                        limit=limit)
    except ValueError:
        return problem(400, "this cursor was not given by this list")
    return with_etag(request, {"incidents": present(page.items), "next_cursor": page.next_cursor or None})


def _full(port: ServicePort, incident: Incident) -> dict[str, Any]:
    diagnosis = port.diagnosis(incident.id)
    return {**present(incident), "diagnosis": present(diagnosis) if diagnosis else None,
            "plans": present(port.plans(incident_id=incident.id)), "runs": present(port.runs(incident_id=incident.id))}


@router.get("/incidents/{incident_id}", summary="One incident with diagnosis, plans and runs",
            response_model=dict[str, Any])
def incident(request: Request, incident_id: str) -> Response:
    port = _port(request)
    found = port.incident(incident_id)
    if found is None:
        raise NotFound(f"no incident {incident_id}")
    return with_etag(request, _full(port, found))


@router.get("/incidents/{incident_id}/diagnoses", summary="How the diagnosis changed, newest first")
def diagnoses(request: Request, incident_id: str, limit: Limit = 50) -> dict[str, Any]:
    if _port(request).incident(incident_id) is None:
        raise NotFound(f"no incident {incident_id}")
    return {"diagnoses": present(_port(request).diagnoses(incident_id, limit=limit))}


@router.get("/plans", summary="Plans, newest first")
def plans(request: Request, state: PlanStates | None = None, incident_id: str | None = None,
          limit: Limit = 100) -> dict[str, Any]:
    return {"plans": present(_port(request).plans(state=state, incident_id=incident_id, limit=limit))}


@router.get("/plans/{plan_id}", summary="One plan")
def plan(request: Request, plan_id: str) -> dict[str, Any]:
    found = _port(request).plan(plan_id)
    if found is None:
        raise NotFound(f"no plan {plan_id}")
    body: dict[str, Any] = present(found)
    return body


@router.get("/runs", summary="Runs, newest first, with their steps")
def runs(request: Request, service: str | None = None, incident_id: str | None = None,
         limit: Limit = 100) -> dict[str, Any]:
    return {"runs": present(_port(request).runs(service=service, incident_id=incident_id, limit=limit))}


@router.get("/runs/{run_id}", summary="One run with its steps and its outcome")
def run(request: Request, run_id: str) -> dict[str, Any]:
    port = _port(request)
    found = port.run(run_id)
    if found is None:
        raise NotFound(f"no run {run_id}")
    return {**present(found), "outcome": present(port.outcome(run_id))}


@router.get("/repairs", summary="The mode and the kill switch")
def repairs(request: Request) -> dict[str, Any]:
    body: dict[str, Any] = present(_port(request).control())
    return body


@router.get("/breaches", summary="Limits that are forecast to be crossed, soonest first")
def breaches(request: Request) -> dict[str, Any]:
    return {"breaches": present(_port(request).breaches())}


@router.get("/services", summary="Services, their state, and who calls whom")
def services(request: Request) -> dict[str, Any]:
    port = _port(request)
    return {"services": present(port.services()), "edges": present(sorted(port.graph().edges))}


@router.get("/actions", summary="The catalogue of actions, and what is allowed")
def actions(request: Request) -> dict[str, Any]:
    return {"actions": present(_port(request).actions()), "allowed": present(_port(request).allowed())}


@router.get("/trust", summary="How much was mended alone, how fast, and what went wrong")
def trust(request: Request, days: Annotated[int, Query(ge=1, le=90)] = 7) -> dict[str, Any]:
    body: dict[str, Any] = present(_port(request).trust(days=days))
    return body


@router.get("/ingest", summary="Lines per second, lag, dead letters")
def ingest(request: Request) -> dict[str, Any]:
    body: dict[str, Any] = present(_port(request).ingest_stats())
    return body
