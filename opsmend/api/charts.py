"""`GET /api/v1/incidents/{id}/charts`: what the incident page draws, for whoever draws it elsewhere."""

from __future__ import annotations

import hashlib
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from opsmend.api.port import NotFound
from opsmend.api.schemas import answers, ref
from opsmend.dashboard.charts import LARGEST, MOST, Window, charts
from opsmend.dashboard.reading import Reading

router = APIRouter(prefix="/api/v1", tags=["read"])


@router.get("/incidents/{incident_id}/charts", responses=answers(ref("IncidentCharts"), 404),
            summary="Series, forecasts, limits and predicted crossings of an incident on one clock, and its root-cause graph")
def incident_charts(request: Request, incident_id: str,
                    begin: Annotated[int, Query(alias="from", ge=0, le=99_999)] = 0,
                    most: Annotated[int, Query(alias="charts", ge=1, le=LARGEST)] = MOST) -> Response:
    reading = Reading(request.app.state.port, request.app.state.memory)
    found = reading.port.incident(incident_id)
    if found is None:
        raise NotFound(f"no incident {incident_id}")
    # The types of `chart_types` are JSON as they stand, and long: encoded as a whole, not value by value.
    body = msgspec.json.encode(charts(reading, found, reading.diagnosis(found), Window(begin, most))["json"])
    headers = {"etag": f'"{hashlib.sha256(body).hexdigest()[:24]}"', "cache-control": "no-cache"}
    if headers["etag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)
