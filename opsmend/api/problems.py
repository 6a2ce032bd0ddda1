"""Errors as `application/problem+json` (RFC 9457)."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any

import sqlalchemy as sa
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from ingest.errors import Backpressure, OpsmendError
from opsmend.store.engine import store_error

_STATUS = {"not_found": 404, "conflict": 409, "undecodable": 400, "backpressure": 503, "store": 503, "store_busy": 503,
           "transport": 503, "too_large": 413, "no_topic": 501, "missing_package": 503}
_COME_BACK_SECONDS = 5
"""Retry-After where the store or the transport is away and says nothing itself."""


def problem(status: int, detail: str, *, headers: dict[str, str] | None = None, **more: Any) -> JSONResponse:
    """One problem document."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **more}
    return JSONResponse(body, status, headers, media_type="application/problem+json")


def answer_of(error: OpsmendError) -> tuple[int, dict[str, str]]:
    """The HTTP status of an error of ours, and the headers that belong to it."""
    status = _STATUS.get(error.reason, 500)
    if status != 503:
        return status, {}
    seconds = error.retry_after_seconds if isinstance(error, Backpressure) else _COME_BACK_SECONDS
    return status, {"retry-after": str(max(1, math.ceil(seconds)))}


def install(app: FastAPI) -> None:
    """Every error of the app leaves as a problem document."""

    @app.exception_handler(HTTPException)
    async def of_http(_request: Request, error: HTTPException) -> Response:
        return problem(error.status_code, str(error.detail), headers=dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def of_validation(_request: Request, error: RequestValidationError) -> Response:
        errors = [{"at": ".".join(str(part) for part in e["loc"]), "problem": e["msg"]} for e in error.errors()]
        return problem(422, "; ".join(f"{e['at']}: {e['problem']}" for e in errors), errors=errors)

    @app.exception_handler(Exception)
    async def of_a_bug(_request: Request, _error: Exception) -> Response:
        # Starlette raises it again after this answer, so the server logs it; the caller learns nothing of the inside.
        return problem(500, "a bug of ours; the service's log has the details", reason="internal")

    @app.exception_handler(sa.exc.DBAPIError)
    @app.exception_handler(sa.exc.TimeoutError)
    async def of_the_store(request: Request, error: sa.exc.DBAPIError | sa.exc.TimeoutError) -> Response:
        return await of_ours(request, store_error(error))

    @app.exception_handler(OpsmendError)
    async def of_ours(_request: Request, error: OpsmendError) -> Response:
        status, headers = answer_of(error)
        return problem(status, str(error), headers=headers, reason=error.reason)
