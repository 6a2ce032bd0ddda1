"""Processes and releases through the actuator's HTTP API (docs/actions.md).

`GET /v1/services/{service}`, `POST /v1/services/{service}/restart|kill|scale|rollback|rollforward` with the
idempotency key in the body. The actuator does a key once.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec

from remediate.actions.base import ActionContext, ActionError, Effect, Probe, Target


def call(context: ActionContext, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """One request to the actuator. Raises ActionError; connection troubles and 5xx are transient."""
    import httpx

    e = context.endpoints
    if not e.actuator_url:
        raise ActionError("no actuator: set [actuator] url", reason="no_actuator")
    is_unix = e.actuator_url.startswith("unix://")
    transport = httpx.HTTPTransport(uds=e.actuator_url.removeprefix("unix://")) if is_unix else None
    base = "http://actuator" if is_unix else e.actuator_url.rstrip("/")
    headers = {"x-actor": "opsmend"}
    if e.actuator_token:
        headers["authorization"] = f"Bearer {e.actuator_token}"
    try:
        with httpx.Client(transport=transport, timeout=context.timeout_seconds) as client:
            answer = client.request(method, base + path, json=body, headers=headers)
    except httpx.HTTPError as error:
        raise ActionError(f"actuator: {error or type(error).__name__}", reason="unreachable", is_transient=True) from error
    if answer.status_code != 200:
        raise ActionError(f"actuator: {answer.status_code} {answer.text[:200]}", reason="refused",
                          is_transient=answer.status_code >= 500)
    try:
        result = msgspec.json.decode(answer.content, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ActionError("actuator: the answer is no JSON object", reason="bad_answer") from error
    return result


class _Verb:
    """What the actuator's verbs share."""

    verb = ""
    needs_change = False

    def parameters(self, target: Target) -> dict[str, Any]:
        return {"service": target.service}

    def probe(self, params: dict[str, Any], context: ActionContext) -> Probe:
        state = call(context, "GET", _path(params["service"]))
        effects = state.get("effects")
        return Probe(isinstance(effects, list) and context.key in effects, f"version {state.get('version', '')}")

    def snapshot(self, params: dict[str, Any], context: ActionContext) -> dict[str, Any]:
        state = call(context, "GET", _path(params["service"]))
        version, desired = state.get("version"), state.get("desired")
        if not isinstance(version, str) or not isinstance(desired, int):
            raise ActionError("actuator: no `version` and `desired` in the answer", reason="bad_answer")
        return {"service": params["service"], "version": version, "desired": desired}

    def run(self, params: dict[str, Any], context: ActionContext) -> Effect:
        body = {"key": context.key, **{k: v for k, v in params.items() if k != "service"}}
        return _effect(call(context, "POST", _path(params["service"], self.verb), body))

    def undo(self, snapshot: dict[str, Any], context: ActionContext) -> Effect:
        """A restart leaves nothing behind; that the state is the one of before is looked at all the same."""
        return _restored(snapshot, context)


def _path(service: str, verb: str = "") -> str:
    if service in ("", ".", ".."):  # no escape keeps these one piece of a path
        raise ActionError(f"actuator: '{service}' can't name a service", reason="bad_name")
    return f"/v1/services/{quote(service, safe='')}" + (f"/{verb}" if verb else "")


def _restored(snapshot: dict[str, Any], context: ActionContext) -> Effect:
    """Whether version and number of instances are those of the snapshot: an undo is shown, not believed."""
    state = call(context, "GET", _path(snapshot["service"]))
    wrong = [f"{k} is {state.get(k)}, was {snapshot[k]}" for k in ("version", "desired") if state.get(k) != snapshot[k]]
    if wrong:
        return Effect("; ".join(wrong)[:500], False)
    return Effect(f"as before: {snapshot['version'] or 'no version'}, {snapshot['desired']} instances", True)


def _effect(answer: dict[str, Any]) -> Effect:
    text, changed = answer.get("effect"), answer.get("changed")
    if not isinstance(text, str) or not isinstance(changed, bool):
        raise ActionError("actuator: no `effect` and `changed` in the answer", reason="bad_answer")
    return Effect(text[:500], changed)


class ProcessRestart(_Verb):
    """Stop and start all instances of a service."""

    name, title, verb = "process.restart", "Restart {service}", "restart"
    applies_when = frozenset({"process.down", "hang", "error_ratio", "latency", "saturation", "memory"})
    is_reversible, disruption = True, 1


class ProcessKill(_Verb):
    """Kill and start: for processes that do not react."""

    name, title, verb = "process.kill", "Kill and start {service}", "kill"
    applies_when = frozenset({"hang", "process.down"})
    is_reversible, disruption = True, 2


class ProcessScale(_Verb):
    """One instance more."""

    name, title, verb = "process.scale", "Add an instance of {service}", "scale"
    applies_when = frozenset({"traffic", "saturation"})
    is_reversible, disruption = True, 0

    def run(self, params: dict[str, Any], context: ActionContext) -> Effect:
        # From the snapshot: a second try must not add a second instance.
        want = int(context.snapshot["desired"]) + 1
        return _effect(call(context, "POST", _path(params["service"], "scale"), {"key": context.key, "instances": want}))

    def undo(self, snapshot: dict[str, Any], context: ActionContext) -> Effect:
        call(context, "POST", _path(snapshot["service"], "scale"),
             {"key": context.key, "instances": snapshot["desired"]})
        return _restored(snapshot, context)


class ReleaseRollback(_Verb):
    """Back to the version before."""

    name, title, verb = "release.rollback", "Roll {service} back", "rollback"
    applies_when = frozenset({"error_ratio", "latency", "crash_loop", "process.down", "hang", "cpu", "memory",
                              "saturation", "log_rate", "traffic", "metric_anomaly", "breach"})
    needs_change = True
    is_reversible, disruption = True, 1

    def parameters(self, target: Target) -> dict[str, Any]:
        old = target.change.old if target.change else ""
        return {"service": target.service, "to": old} if old else {"service": target.service}

    def undo(self, snapshot: dict[str, Any], context: ActionContext) -> Effect:
        call(context, "POST", _path(snapshot["service"], "rollforward"),
             {"key": context.key, "to": snapshot["version"]})
        return _restored(snapshot, context)
