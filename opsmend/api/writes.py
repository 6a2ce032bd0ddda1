"""State-changing requests of the API: decisions, the kill switch, incidents, runs."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from opsmend.api.bodies import CancelBody, CauseBody, CloseBody, DecisionBody, MergeBody, RepairsBody, SplitBody
from opsmend.api.port import ServicePort
from opsmend.api.present import present
from opsmend.api.schemas import answers, ref
from opsmend.api.security import operator_of

router = APIRouter(prefix="/api/v1", tags=["write"])


def _port(request: Request) -> ServicePort:
    port: ServicePort = request.app.state.port
    return port


@router.post("/plans/{plan_id}/decision", summary="Approve or reject exactly this plan, once",
             responses=answers(ref("Plan"), 404, 409))
def decide(request: Request, plan_id: str, body: DecisionBody) -> dict[str, Any]:
    found: dict[str, Any] = present(_port(request).decide(
        plan_id, body.decision, plan_hash=body.plan_hash, by=operator_of(request, body.by), reason=body.reason))
    return found


@router.put("/repairs", summary="Set the mode, stop or resume all repairs",
            responses=answers(ref("RepairsControl")))
def set_repairs(request: Request, body: RepairsBody) -> dict[str, Any]:
    found: dict[str, Any] = present(_port(request).set_control(
        mode=body.mode, stopped=body.stopped, by=operator_of(request, body.by)))
    return found


@router.post("/incidents/{incident_id}/close", summary="Not an incident, or done",
             responses=answers(ref("Incident"), 404, 409))
def close(request: Request, incident_id: str, body: CloseBody) -> dict[str, Any]:
    found: dict[str, Any] = present(_port(request).close_incident(
        incident_id, by=operator_of(request, body.by), reason=body.reason))
    return found


@router.post("/incidents/{incident_id}/split", summary="Move signals into an incident of their own",
             responses=answers(ref("Incident"), 404, 409))
def split(request: Request, incident_id: str, body: SplitBody) -> dict[str, Any]:
    found: dict[str, Any] = present(_port(request).split_incident(
        incident_id, body.signal_ids, by=operator_of(request, body.by)))
    return found


@router.post("/incidents/{incident_id}/merge", summary="Merge into another open incident",
             responses=answers(ref("Incident"), 404, 409))
def merge(request: Request, incident_id: str, body: MergeBody) -> dict[str, Any]:
    found: dict[str, Any] = present(_port(request).merge_incident(
        incident_id, body.into, by=operator_of(request, body.by)))
    return found


@router.put("/incidents/{incident_id}/cause", summary="Say what the cause was, or that there was none; the newest word counts",
            responses=answers(ref("ConfirmedCause"), 404, 409))
def confirm_cause(request: Request, incident_id: str, body: CauseBody) -> dict[str, Any]:
    found: dict[str, Any] = present(_port(request).confirm_cause(
        incident_id, body.culprits, by=operator_of(request, body.by)))
    return found


@router.post("/runs/{run_id}/cancel", summary="Stop a run before its next step",
             responses=answers(ref("Run"), 404, 409))
def cancel(request: Request, run_id: str, body: CancelBody | None = None) -> dict[str, Any]:
    found: dict[str, Any] = present(_port(request).cancel_run(
        run_id, by=operator_of(request, body.by if body else "")))
    return found
