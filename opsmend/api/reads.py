"""`GET /api/v1/...`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, Response

from detect.types import Incident
from opsmend.api.port import NotFound, ServicePort
from opsmend.api.present import etag, present
from opsmend.api.problems import problem
from opsmend.api.schemas import answers, listed, ref

router = APIRouter(prefix="/api/v1", tags=["read"])
Limit = Annotated[int, Query(ge=1, le=500)]
_EDGES = {"type": "array", "items": {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2}}
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


@router.get("/incidents", summary="Incidents, newest first",
            responses=answers(listed("incidents", "Incident", next_cursor={"type": ["string", "null"]}), 400))
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
    cause = port.cause(incident.id)
    return {**present(incident), "diagnosis": present(diagnosis) if diagnosis else None,
            "cause": present(cause) if cause else None, "held": port.held(incident.id),
            "plans": present(port.plans(incident_id=incident.id)), "runs": present(port.runs(incident_id=incident.id))}


@router.get("/incidents/{incident_id}", summary="One incident with diagnosis, plans and runs",
            responses=answers(ref("IncidentInFull"), 404))
def incident(request: Request, incident_id: str) -> Response:
    port = _port(request)
    found = port.incident(incident_id)
    if found is None:
        raise NotFound(f"no incident {incident_id}")
    return with_etag(request, _full(port, found))


@router.get("/incidents/{incident_id}/diagnoses", summary="How the diagnosis changed, newest first",
            responses=answers(listed("diagnoses", "Diagnosis"), 404))
def diagnoses(request: Request, incident_id: str, limit: Limit = 50) -> dict[str, Any]:
    if _port(request).incident(incident_id) is None:
        raise NotFound(f"no incident {incident_id}")
    return {"diagnoses": present(_port(request).diagnoses(incident_id, limit=limit))}


@router.get("/plans", summary="Plans, newest first", responses=answers(listed("plans", "Plan")))
def plans(request: Request, state: PlanStates | None = None, incident_id: str | None = None,
          limit: Limit = 100) -> dict[str, Any]:
    return {"plans": present(_port(request).plans(state=state, incident_id=incident_id, limit=limit))}


@router.get("/plans/{plan_id}", summary="One plan", responses=answers(ref("Plan"), 404))
def plan(request: Request, plan_id: str) -> dict[str, Any]:
    found = _port(request).plan(plan_id)
    if found is None:
        raise NotFound(f"no plan {plan_id}")
    body: dict[str, Any] = present(found)
    return body


@router.get("/runs", summary="Runs, newest first, with their steps", responses=answers(listed("runs", "Run")))
def runs(request: Request, service: str | None = None, incident_id: str | None = None,
         limit: Limit = 100) -> dict[str, Any]:
    return {"runs": present(_port(request).runs(service=service, incident_id=incident_id, limit=limit))}


@router.get("/runs/{run_id}", summary="One run with its steps and its outcome",
            responses=answers(ref("RunInFull"), 404))
def run(request: Request, run_id: str) -> dict[str, Any]:
    port = _port(request)
    found = port.run(run_id)
    if found is None:
        raise NotFound(f"no run {run_id}")
    return {**present(found), "outcome": present(port.outcome(run_id))}


@router.get("/repairs", summary="The mode and the kill switch", responses=answers(ref("RepairsControl")))
def repairs(request: Request) -> dict[str, Any]:
    body: dict[str, Any] = present(_port(request).control())
    return body


@router.get("/breaches", summary="Limits that are forecast to be crossed, soonest first",
            responses=answers(listed("breaches", "Signal")))
def breaches(request: Request) -> dict[str, Any]:
    return {"breaches": present(_port(request).breaches())}


@router.get("/services", summary="Services, their state, and who calls whom",
            responses=answers(listed("services", "ServiceStatus", edges=_EDGES)))
def services(request: Request) -> dict[str, Any]:
    port = _port(request)
    return {"services": present(port.services()), "edges": present(sorted(port.graph().edges))}


@router.get("/actions", summary="The catalogue of actions, and what is allowed",
            responses=answers(listed("actions", "ActionInfo", allowed={"type": "array", "items": ref("AllowRule")})))
def actions(request: Request) -> dict[str, Any]:
    return {"actions": present(_port(request).actions()), "allowed": present(_port(request).allowed())}


@router.get("/trust", summary="How much was mended alone, how fast, and what went wrong",
            responses=answers(ref("TrustStats")))
def trust(request: Request, days: Annotated[int, Query(ge=1, le=90)] = 7) -> dict[str, Any]:
    body: dict[str, Any] = present(_port(request).trust(days=days))
    return body


@router.get("/ingest", summary="Lines per second, lag, dead letters", responses=answers(ref("IngestStats")))
def ingest(request: Request) -> dict[str, Any]:
    body: dict[str, Any] = present(_port(request).ingest_stats())
    return body
