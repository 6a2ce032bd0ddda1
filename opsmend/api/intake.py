"""Telemetry over HTTP, as its own senders expect it: OTLP, Alertmanager, change hooks.

The answer is sent after the records are durable; when the intake is full it is 503 with Retry-After,
which OTLP exporters and Alertmanager honour.
"""

from __future__ import annotations

import hashlib
import zlib
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from ingest.wire.registry import FORMATS
from opsmend.api.port import AcceptKind, ServicePort

router = APIRouter(tags=["ingest"])
_PROTOBUF: Final = "application/x-protobuf"
REMOTE_WRITE: Final = "prometheus-remote-write"
"""The wire format that must be registered for `/api/v1/write`."""
_OTLP_TYPES: Final = (_PROTOBUF, "application/json")
_KEPT_HEADERS: Final = ("content-type", "x-tenant", "x-scope-orgid", "traceparent",
                        "x-prometheus-remote-write-version")


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """The body, decompressed. 413 when it is larger than the limit, 400 when its gzip is broken."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    is_snappy_for_decoder = encoding == "snappy" and request.url.path == "/api/v1/write"
    if encoding not in ("identity", "", "gzip", "deflate") and not is_snappy_for_decoder:
        raise HTTPException(415, f"content-encoding {encoding!r} is not known here")
    inflater = zlib.decompressobj(47) if encoding in ("gzip", "deflate") else None  # 47: gzip or zlib by header
    parts, size = [], 0
    try:
        async for chunk in request.stream():
            data = inflater.decompress(chunk, limit_bytes + 1 - size) if inflater else chunk
            size += len(data)
            if size > limit_bytes or (inflater is not None and inflater.unconsumed_tail):
                raise HTTPException(413, f"larger than {limit_bytes} bytes")
            parts.append(data)
    except zlib.error as error:
        raise HTTPException(400, "the compressed body is broken") from error
    if inflater is not None and size and not inflater.eof:
        raise HTTPException(400, "the compressed body is cut off")
    return b"".join(parts)


async def _body(request: Request) -> bytes:
    limit_bytes: int = request.app.state.config.max_body_bytes
    return await read_body(request, limit_bytes)


async def _accept(request: Request, kind: AcceptKind, body: bytes) -> int:
    port: ServicePort = request.app.state.port
    headers = {name: request.headers[name] for name in _KEPT_HEADERS if name in request.headers}
    return await run_in_threadpool(port.accept, kind, body, headers)


async def _otlp(request: Request, kind: AcceptKind) -> Response:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type not in _OTLP_TYPES:
        raise HTTPException(415, f"OTLP is taken as {' or '.join(_OTLP_TYPES)}")
    await _accept(request, kind, await _body(request))
    if content_type == _PROTOBUF:  # an empty Export*ServiceResponse is zero bytes
        return Response(b"", media_type=_PROTOBUF)
    return JSONResponse({})


@router.post("/v1/logs", summary="OTLP/HTTP logs")
async def logs(request: Request) -> Response:
    return await _otlp(request, "logs")


@router.post("/v1/metrics", summary="OTLP/HTTP metrics")
async def metrics(request: Request) -> Response:
    return await _otlp(request, "metrics")


@router.post("/v1/traces", summary="OTLP/HTTP traces")
async def traces(request: Request) -> Response:
    return await _otlp(request, "traces")


@router.post("/api/v1/write", summary="Prometheus remote write", status_code=204)
async def remote_write(request: Request) -> Response:
    if REMOTE_WRITE not in FORMATS:  # never say yes to what would become a dead letter
        raise HTTPException(415, "remote write is not understood by this version; send OTLP to /v1/metrics")
    await _accept(request, "prometheus", await _body(request))
    return Response(status_code=204)


@router.post("/hooks/alertmanager", summary="Alertmanager webhook")
async def alertmanager(request: Request) -> Response:
    return JSONResponse({"accepted": await _accept(request, "alerts", await _body(request))})


@router.post("/api/v2/alerts", summary="Alerts as Prometheus sends them to an Alertmanager")
async def alerts(request: Request) -> Response:
    wrapped = as_webhook(await _body(request), datetime.now(UTC))
    return JSONResponse({"accepted": await _accept(request, "alerts", wrapped)})


@router.post("/hooks/changes", summary="Rollouts, configuration changes, scaling")
async def changes(request: Request) -> Response:
    return JSONResponse({"accepted": await _accept(request, "changes", await _body(request))})


def as_webhook(body: bytes, now: datetime) -> bytes:
    """The list of `POST /api/v2/alerts` as an Alertmanager webhook; "" for an empty list. 400 if it is none.

    Prometheus sends what fires again and again, and says that it ended by an `endsAt` that is past.
    """
    try:
        alerts = msgspec.json.decode(body, type=list[dict[str, Any]])
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise HTTPException(400, f"not a list of alerts: {error}") from error
    if not alerts:
        return b""
    for alert in alerts:
        if not isinstance(alert.get("labels"), dict):
            raise HTTPException(400, "an alert without labels")
        labels = msgspec.json.encode(alert["labels"], order="sorted")
        alert["fingerprint"] = hashlib.sha256(labels).hexdigest()[:16]
        alert["status"] = "resolved" if _is_past(alert.get("endsAt"), now) else "firing"
    return msgspec.json.encode({"version": "4", "groupKey": "api/v2", "status": "firing", "alerts": alerts})


def _is_past(value: object, now: datetime) -> bool:
    """Go's zero time (year 1) means "not ended"."""
    try:
        at = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError:
        return False
    return at.year > 1 and at.tzinfo is not None and at <= now
