"""`GET /events`: server-sent events from the outbox, resumable by Last-Event-ID."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import msgspec
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from opsmend.api.port import ServicePort
from opsmend.api.present import rfc3339
from opsmend.api.problems import problem
from opsmend.api.security import ApiConfig


async def stream(port: ServicePort, start_seq: int, config: ApiConfig,
                 is_closing: Callable[[], bool] = lambda: False) -> AsyncIterator[ServerSentEvent]:
    """All events after `start_seq`, then new ones as they come. Ends when the client leaves or the server closes:
    a stream that goes on would hold up the server's clean stop."""
    seq = start_seq
    yield ServerSentEvent(comment="opsmend", retry=2000)
    while not is_closing():
        events = await run_in_threadpool(port.events_since, seq)
        for event in events:
            seq = event.seq
            body = msgspec.json.encode({"at": rfc3339(event.ts_ns), "subject": event.subject, "body": event.body})
            yield ServerSentEvent(body.decode(), id=str(event.seq), event=event.type)
        if not events:
            await asyncio.sleep(config.event_poll_seconds)


async def events_endpoint(request: Request) -> Response:
    """The stream. Without Last-Event-ID (header or `?last_event_id=`) it starts with the next event."""
    port: ServicePort = request.app.state.port
    config: ApiConfig = request.app.state.config
    last = request.headers.get("last-event-id") or request.query_params.get("last_event_id")
    if last is None:
        start = await run_in_threadpool(port.last_seq)
    elif last.isdecimal() and len(last) < 19:
        start = int(last)
    else:
        return problem(400, "Last-Event-ID must be a number that this stream gave")

    def heartbeat() -> ServerSentEvent:
        # A named event, not a comment: the page shows that it is stale when these stop.
        return ServerSentEvent("{}", event="heartbeat")

    is_closing: Callable[[], bool] = getattr(request.app.state, "is_closing", lambda: False)
    return EventSourceResponse(stream(port, start, config, is_closing), ping=int(max(1, config.heartbeat_seconds)),
                               ping_message_factory=heartbeat)
