"""The HTTP side of opsmend in one function: API, ingest, events, metrics, dashboard."""

from __future__ import annotations

from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from opsmend.api import events, intake, problems, reads, writes
from opsmend.api.port import ServicePort
from opsmend.api.security import ApiConfig, Guard


def create_app(port: ServicePort, registry: CollectorRegistry | None = None,
               config: ApiConfig | None = None) -> FastAPI:
    """The ASGI application. It keeps no state of its own, so any number of them may share a port.

    `registry` is what `/metrics` shows (never the process-wide one).
    """
    from opsmend.dashboard import pages

    config = config or ApiConfig()
    shown = registry or CollectorRegistry()
    app = FastAPI(title="opsmend", version="1", openapi_url="/api/openapi.json", docs_url=None, redoc_url=None)
    app.state.port, app.state.config = port, config
    problems.install(app)
    for router in (intake.router, reads.router, writes.router):
        app.include_router(router)

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
