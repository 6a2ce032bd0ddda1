"""The dashboard's pages, rendered on the server. What they show comes through the port alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

from opsmend.api.port import NotFound, ServicePort
from opsmend.api.present import rfc3339
from opsmend.api.security import operator_of
from opsmend.dashboard import forms, words
from opsmend.dashboard.charts import Window
from opsmend.dashboard.incident import incident_view
from opsmend.dashboard.now import graph_view, now_view
from opsmend.dashboard.progress import STEPS
from opsmend.dashboard.reading import Memory, Reading
from opsmend.dashboard.rows import alerts_words, rows
from opsmend.dashboard.runs import runs_view

_HERE = Path(__file__).parent
_QUIET_SECONDS = 30.0
THEMES = ("light", "dark")


class _Static(StaticFiles):
    """Kept by the browser, but asked for again each time: an upgrade is seen at once, the answer is mostly 304."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["cache-control"] = "no-cache"
        return response


def install(app: FastAPI) -> None:
    """Add the pages and the forms to the app."""
    templates = Jinja2Templates(_HERE / "templates")
    templates.env.trim_blocks = templates.env.lstrip_blocks = True
    templates.env.finalize = words.visible
    templates.env.filters.update(
        clock=words.clock, minute=words.minute, span=words.span, pct=words.share, likely=words.likely,
        num=words.number, kind=words.kind_words, plural=words.plural, iso=lambda ns: rfc3339(ns) or "")
    templates.env.globals.update(step_names=STEPS, alerts_words=alerts_words, change_words=words.change_words)
    app.add_middleware(GZipMiddleware, minimum_size=2000, compresslevel=6)  # leaves event streams alone
    app.mount("/static", _Static(directory=_HERE / "static"), name="static")
    port: ServicePort = app.state.port
    memory: Memory = app.state.memory

    def show(request: Request, template: str, context: dict[str, Any], status: int = 200) -> Response:
        return templates.TemplateResponse(request, template, context, status_code=status)

    def page(path: str, template: str, view: Callable[[Reading, Request], dict[str, Any]]) -> None:
        def context(request: Request) -> dict[str, Any]:
            reading = Reading(port, memory)
            return {**frame(reading, request), **view(reading, request)}

        async def endpoint(request: Request) -> Response:
            try:
                found = await run_in_threadpool(context, request)
            except NotFound as error:
                return await refused(request, 404, str(error))
            return await run_in_threadpool(show, request, template, found)
        app.add_route(path, endpoint, ["GET"])

    async def refused(request: Request, status: int, why: str) -> Response:
        found = await run_in_threadpool(lambda: frame(Reading(port, memory), request))
        return show(request, "problem.html", {**found, "why": why, "status": status}, status)

    page("/", "now.html", lambda reading, _: now_view(reading))
    page("/incidents", "incidents.html", _incidents)
    page("/incidents/{id}", "incident.html", _incident)
    page("/map", "map.html", lambda reading, _: {"g": graph_view(reading, step_x=150), "services": reading.services,
                                                 "open": {i.id: i for i in port.incidents(state="open").items}})
    page("/runs", "runs.html", lambda reading, _: runs_view(reading))
    page("/policy", "policy.html", lambda reading, _: {"allowed": port.allowed(), "actions": port.actions()})

    forms.install(app, refused)


def frame(reading: Reading, request: Request) -> dict[str, Any]:
    """What every page shows."""
    stats = reading.memory.held("stats", 1.0, reading.port.ingest_stats)
    theme = request.cookies.get(forms.THEME_COOKIE, "")
    return {"control": reading.control, "stats": stats, "now_ns": reading.now_ns, "path": request.url.path,
            "me": operator_of(request), "theme": theme if theme in THEMES else "",
            "is_quiet": reading.now_ns > 0 and stats.lag_seconds > _QUIET_SECONDS}


def _incidents(reading: Reading, request: Request) -> dict[str, Any]:
    try:
        page = reading.port.incidents(cursor=request.query_params.get("cursor", ""), limit=40)
    except ValueError:
        raise NotFound("this list has no such page") from None
    made = {r["i"].id: r for r in rows(reading, page.items)}
    return {"rows": [made[i.id] for i in page.items], "next_cursor": page.next_cursor}


def _incident(reading: Reading, request: Request) -> dict[str, Any]:
    found = reading.port.incident(request.path_params["id"])
    if found is None:
        raise NotFound("there is no incident with this id; it may be older than what is kept")
    return incident_view(reading, found, window=_window(request), all_alerts=request.query_params.get("alerts") == "all")


def _window(request: Request) -> Window:
    return Window.of(request.query_params.get("from", ""), request.query_params.get("charts", ""))
