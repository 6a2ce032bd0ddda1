"""Telemetry over HTTP, as its own senders expect it: OTLP, Prometheus, Alertmanager, change hooks.

The answer is sent after the records are durable. What can't be taken now (the intake is full, the transport is away, the
service is stopping) is 503 with Retry-After, which every sender here honours; never 429, which Alertmanager and
Prometheus take for a refusal. What would become a dead letter at once is refused with 4xx, so that its sender hears of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from ingest.compression import unsnap_block
from ingest.errors import Backpressure, DecodeError, OpsmendError
from ingest.wire.protobuf_shape import shape_of
from ingest.wire.registry import format_named
from ingest.wire.rows import DecodeContext, Rows
from opsmend.api import otlp_answers
from opsmend.api.port import AcceptKind, ServicePort
from opsmend.api.problems import answer_of
from opsmend.api.uploads import Uploads

router = APIRouter(tags=["ingest"])
_KEPT_HEADERS: Final = ("content-type", "x-tenant", "x-scope-orgid", "traceparent", "idempotency-key", "webhook-id",
                        "x-prometheus-remote-write-version")


async def _accept(request: Request, kind: AcceptKind, check: Callable[[bytes], None], *, empty: bytes = b"",
                  is_snappy: bool = False) -> int:
    """Records that are durable now; none for a body that is `empty`, which is taken and not kept.

    `check` raises HTTPException for what is not of this path.
    """
    port: ServicePort = request.app.state.port
    uploads: Uploads = request.app.state.uploads
    is_closing: Callable[[], bool] = getattr(request.app.state, "is_closing", lambda: False)
    if is_closing():
        raise Backpressure("the service is stopping", retry_after_seconds=5.0)
    headers = {name: request.headers[name] for name in _KEPT_HEADERS if name in request.headers}
    encoding = "" if is_snappy else request.headers.get("content-encoding", "")

    async with uploads.received(request) as received:
        def take() -> int:
            body = uploads.expanded(received, encoding)
            if body.strip() in (b"", empty):
                return 0
            check(body)
            return port.accept(kind, body, headers)

        return await uploads.work(take)


def _decodes_as(name: str) -> Callable[[bytes], None]:
    """The check that a body is read whole by this format. Alerts are few; for them it may be done twice."""
    def check(body: bytes) -> None:
        wire, context = format_named(name), DecodeContext(timestamp_ns=time.time_ns())
        try:
            if not wire.recognise(body, context):
                raise HTTPException(400, f"this is not what is taken here ({name})")
            wire.decode(body, context, Rows())
        except DecodeError as error:
            raise HTTPException(400, str(error)) from error

    return check


def _is_otlp_json(body: bytes) -> None:
    if not format_named("otlp-json").recognise(body, DecodeContext(timestamp_ns=time.time_ns())):
        raise HTTPException(400, "no OTLP request in JSON: an object with resourceLogs, resourceMetrics or resourceSpans")


def _is_otlp_proto(body: bytes) -> None:
    """By its first records: a hundredth of what it costs to read it whole, which the consumer does."""
    if shape_of(body) not in ("logs", "metrics", "traces"):
        raise HTTPException(400, "no OTLP request of logs, metrics or traces in protobuf")


def _is_remote_write(limit_bytes: int) -> Callable[[bytes], None]:
    def check(body: bytes) -> None:
        try:
            content = unsnap_block(body, limit_bytes)
        except DecodeError as error:
            raise HTTPException(413, str(error)) from error
        shape = "" if content is None else shape_of(content)
        if shape == "remote-write-2":
            raise HTTPException(415, "remote write 1.0 is taken (prometheus.WriteRequest)")
        if shape != "remote-write":
            raise HTTPException(400, "no snappy block with a prometheus.WriteRequest")

    return check


_CHECKS: Final = {otlp_answers.PROTOBUF: _is_otlp_proto, "application/json": _is_otlp_json}


async def _otlp(request: Request, kind: AcceptKind) -> Response:
    declared = _content_type(request)
    answered = otlp_answers.TYPES.get(declared)
    if answered is None:
        raise HTTPException(415, f"OTLP is taken as {' or '.join(sorted(set(otlp_answers.TYPES.values())))}")
    try:
        await _accept(request, kind, _CHECKS[answered], empty=b"{}")
    except HTTPException as error:
        return otlp_answers.failure(answered, error.status_code, error.detail, error.headers or {})
    except OpsmendError as error:
        status, headers = answer_of(error)
        return otlp_answers.failure(answered, status, str(error), headers)
    return otlp_answers.success(answered)


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


@router.post("/v1/logs", summary="OTLP/HTTP logs")
async def logs(request: Request) -> Response:
    return await _otlp(request, "logs")


@router.post("/v1/metrics", summary="OTLP/HTTP metrics")
async def metrics(request: Request) -> Response:
    return await _otlp(request, "metrics")


@router.post("/v1/traces", summary="OTLP/HTTP traces")
async def traces(request: Request) -> Response:
    return await _otlp(request, "traces")


@router.post("/api/v1/write", summary="Prometheus remote write 1.0", status_code=204)
async def remote_write(request: Request) -> Response:
    """415 for version 2.0, as its specification has it: senders then fall back to 1.0. The snappy block is kept as
    it is; the decoder undoes it."""
    declared, _, parameters = request.headers.get("content-type", "").lower().partition(";")
    if declared.strip() != otlp_answers.PROTOBUF or "io.prometheus.write.v2" in parameters:
        raise HTTPException(415, "remote write 1.0 is taken (application/x-protobuf;proto=prometheus.WriteRequest)")
    if request.headers.get("content-encoding", "").strip().lower() != "snappy":
        raise HTTPException(415, "remote write is taken compressed by snappy", {"accept-encoding": "snappy"})
    limit: int = request.app.state.config.max_body_bytes
    await _accept(request, "prometheus", _is_remote_write(limit), is_snappy=True)
    return Response(status_code=204)


@router.post("/hooks/alertmanager", summary="Alertmanager webhook")
async def alertmanager(request: Request) -> Response:
    return JSONResponse({"accepted": await _accept(request, "alerts", _decodes_as("alertmanager"))})


@router.post("/api/v2/alerts", summary="Alerts as Prometheus sends them to an Alertmanager")
async def alerts(request: Request) -> Response:
    return JSONResponse({"accepted": await _accept(request, "alerts", _alert_list, empty=b"[]")})


def _alert_list(body: bytes) -> None:
    if body.lstrip()[:1] != b"[":
        raise HTTPException(400, "not a list of alerts")
    _decodes_as("alertmanager-v2")(body)


@router.post("/hooks/changes", summary="Rollouts, configuration changes, scaling")
async def changes(request: Request) -> Response:
    return JSONResponse({"accepted": await _accept(request, "changes", lambda body: None)})
