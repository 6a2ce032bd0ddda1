"""The HTTP side of opsmend in one function: API, ingest, events, metrics, dashboard."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from opsmend.api import events, intake, problems, reads, writes
from opsmend.api.port import ServicePort
from opsmend.api.schemas import components
from opsmend.api.security import ApiConfig, Guard
from opsmend.api.uploads import Uploads


def create_app(port: ServicePort, registry: CollectorRegistry | None = None,
               config: ApiConfig | None = None) -> FastAPI:
    """The ASGI application. It keeps no state of its own, so any number of them may share a port.

    `registry` is what `/metrics` shows (never the process-wide one).
    """
    from opsmend.api import charts
    from opsmend.dashboard import pages
    from opsmend.dashboard.reading import Memory

    config = config or ApiConfig()
    shown = registry or CollectorRegistry()
    app = FastAPI(title="opsmend", version="1", openapi_url="/api/openapi.json", docs_url=None, redoc_url=None)
    app.state.port, app.state.config = port, config
    app.state.memory = Memory()
    app.state.uploads = Uploads(max_body_bytes=config.max_body_bytes, max_bytes=config.max_upload_bytes,
                                read_seconds=config.upload_seconds)
    problems.install(app)
    for router in (intake.router, reads.router, charts.router, writes.router):
        app.include_router(router)

    app.openapi = lambda: _document(app)  # type: ignore[method-assign]

    async def metrics(_request: Request) -> Response:
        text = await run_in_threadpool(generate_latest, shown)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_request: Request) -> Response:
        missing = {name: why for name, why in (await run_in_threadpool(port.readiness)).items() if why}
        return JSONResponse({"status": "not ready" if missing else "ready", "missing": missing},
                            503 if missing else 200)

    app.add_route("/events", events.events_endpoint, ["GET"])
    app.add_route("/metrics", metrics, ["GET"])
    app.add_route("/healthz", healthz, ["GET"])
    app.add_route("/readyz", readyz, ["GET"])
    pages.install(app)
    app.add_middleware(Guard, config=config)
    return app


def _document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document: what FastAPI finds, our answers' schemas, and the routes that are not its own."""
    if app.openapi_schema is None:
        found = get_openapi(title="opsmend", version="1", routes=app.routes)
        found.setdefault("components", {}).setdefault("schemas", {}).update(components())
        for path, (summary, media_type) in _PLAIN_ROUTES.items():
            found["paths"][path] = {"get": {"summary": summary, "tags": ["service"], "responses": {
                "200": {"description": "OK", "content": {media_type: {}}}}}}
        app.openapi_schema = found
    return app.openapi_schema


_PLAIN_ROUTES = {
    "/events": ("Server-sent events, resumable by Last-Event-ID", "text/event-stream"),
    "/metrics": ("Prometheus metrics", "text/plain"),
    "/healthz": ("The process answers", "application/json"),
    "/readyz": ("Everything that it needs is there (else 503)", "application/json"),
}
