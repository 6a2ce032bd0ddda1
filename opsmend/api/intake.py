"""Telemetry over HTTP, as its own senders expect it: OTLP, Alertmanager, change hooks.

The answer is sent after the records are durable; when the intake is full it is 503 with Retry-After,
which OTLP exporters and Alertmanager honour.
"""

from __future__ import annotations

import zlib
from typing import Final

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from opsmend.api.port import AcceptKind, ServicePort

router = APIRouter(tags=["ingest"])
_PROTOBUF: Final = "application/x-protobuf"
_OTLP_TYPES: Final = (_PROTOBUF, "application/json")
_KEPT_HEADERS: Final = ("content-type", "content-encoding", "x-tenant", "x-scope-orgid", "traceparent",
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


async def _accept(request: Request, kind: AcceptKind) -> int:
    port: ServicePort = request.app.state.port
    body = await read_body(request, request.app.state.config.max_body_bytes)
    headers = {name: request.headers[name] for name in _KEPT_HEADERS if name in request.headers}
    return await run_in_threadpool(port.accept, kind, body, headers)


async def _otlp(request: Request, kind: AcceptKind) -> Response:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type not in _OTLP_TYPES:
        raise HTTPException(415, f"OTLP is taken as {' or '.join(_OTLP_TYPES)}")
    await _accept(request, kind)
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
    await _accept(request, "prometheus")
    return Response(status_code=204)


@router.post("/hooks/alertmanager", summary="Alertmanager webhook")
async def alertmanager(request: Request) -> Response:
    return JSONResponse({"accepted": await _accept(request, "alerts")})


@router.post("/api/v2/alerts", summary="Alerts as Prometheus sends them to an Alertmanager")
async def alerts(request: Request) -> Response:
    return JSONResponse({"accepted": await _accept(request, "alerts")})


@router.post("/hooks/changes", summary="Rollouts, configuration changes, scaling")
async def changes(request: Request) -> Response:
    return JSONResponse({"accepted": await _accept(request, "changes")})
