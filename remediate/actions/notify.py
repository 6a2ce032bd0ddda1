"""Tell people."""

from __future__ import annotations

from typing import Any

import structlog

from remediate.actions.base import ActionContext, ActionError, Effect, Probe, Target

log = structlog.get_logger()


class Notify:
    """Writes to the log and posts to `[actuator] notify_url` where one is set."""

    name, title = "notify", "Tell people about {service}"
    applies_when: frozenset[str] = frozenset()
    needs_change = False
    is_reversible, disruption = True, 0

    def parameters(self, target: Target) -> dict[str, Any]:
        return {"service": target.service, "incident_id": target.incident_id, "title": target.title}

    def probe(self, params: dict[str, Any], context: ActionContext) -> Probe:
        return Probe(False)

    def snapshot(self, params: dict[str, Any], context: ActionContext) -> dict[str, Any]:
        return {}

    def run(self, params: dict[str, Any], context: ActionContext) -> Effect:
        log.info("notify", **params)
        if context.endpoints.notify_url:
            import httpx

            try:
                answer = httpx.post(context.endpoints.notify_url, json=params, timeout=context.timeout_seconds,
                                    headers={"webhook-id": context.key})
                answer.raise_for_status()
            except httpx.HTTPError as error:
                raise ActionError(f"notify: {type(error).__name__}", reason="unreachable", is_transient=True) from error
        return Effect("people were told", True)

    def undo(self, snapshot: dict[str, Any], context: ActionContext) -> Effect:
        return Effect("nothing to undo", True)
