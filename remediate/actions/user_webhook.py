"""A user's action over HTTP: signed as Standard Webhooks says, the idempotency key as `webhook-id`."""

from __future__ import annotations

import binascii
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from remediate.actions.base import ActionError, Effect, Probe
from remediate.actions.user_base import Call, Declared, OwnAction
from remediate.actions.user_slots import Condition, effect_reader, fill_json, fill_url

MAX_ANSWER_BYTES: Final = 1024 * 1024
_TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class HttpRequest:
    """`url` and `body` may hold slots; `secret_env` names the environment variable with the signing secret
    (base64, with or without `whsec_`)."""

    method: str
    url: str
    body: Any = None
    secret_env: str = ""


@dataclass(frozen=True)
class HttpProbe:
    """`done_when`: CEL over `body` (the JSON answer), `status` and `run`."""

    request: HttpRequest
    done_when: str


class WebhookAction(OwnAction):
    """One request. Success is a 2xx whose `effect` says that something was done.

    Redirects are not followed (they would carry the signature elsewhere); answers beyond 1 MiB are refused.
    """

    def __init__(self, declared: Declared, request: HttpRequest, probe: HttpProbe | None) -> None:
        super().__init__(declared)
        self._request, self._probe = request, probe
        self._effect = effect_reader(declared.effect) if declared.effect else None
        self._done_when = Condition(probe.done_when) if probe else None

    @property
    def secrets(self) -> tuple[str, ...]:
        """Environment variables that must be set."""
        found = (self._request.secret_env, self._probe.request.secret_env if self._probe else "")
        return tuple(sorted({name for name in found if name}))

    def describe(self, params: Mapping[str, Any]) -> str:
        signed = f", signed with {self._request.secret_env}" if self._request.secret_env else ""
        content = "" if self._request.method in ("GET", "HEAD") else f" {_content(self._request, params).decode()}"
        return f"{self._request.method} {fill_url(self._request.url, params)}{content}{signed}"

    def _do(self, call: Call) -> Effect:
        status, body = _send(self.name, self._request, call)
        if not 200 <= status < 300:
            raise ActionError(f"{self.name}: answered {status}", reason="refused", is_transient=status in _TRANSIENT)
        if self._effect is None:
            return Effect(f"answered {status}", True)
        return self._effect(body)

    def _look(self, call: Call) -> Probe:
        if self._probe is None or self._done_when is None:
            return Probe(False)
        status, body = _send(self.name, self._probe.request, call)
        if not 200 <= status < 300:
            raise ActionError(f"{self.name}: probe answered {status}", reason="probe",
                              is_transient=status in _TRANSIENT)
        is_done = self._done_when.holds({"body": body, "status": status}, key=call.key, started_ns=call.started_ns)
        return Probe(is_done, f"answered {status}")


def _send(name: str, request: HttpRequest, call: Call) -> tuple[int, Any]:
    """Status and JSON body (None if it is not JSON). Raises ActionError; connection troubles are transient."""
    import httpx

    url = fill_url(request.url, call.params)
    content = b"" if request.method in ("GET", "HEAD") else _content(request, call.params)
    headers = {"content-type": "application/json"} if content else {}
    headers |= _signature(name, request.secret_env, call.key, content)
    received, deadline = bytearray(), time.monotonic() + call.timeout_seconds
    try:
        with httpx.Client(timeout=call.timeout_seconds, follow_redirects=False, trust_env=False) as client, \
                client.stream(request.method, url, content=content, headers=headers) as answer:
            for part in answer.iter_bytes():
                received += part
                if len(received) > MAX_ANSWER_BYTES:
                    raise ActionError(f"{name}: the answer is larger than 1 MiB", reason="bad_answer")
                if time.monotonic() > deadline:  # httpx limits the time between bytes, not the whole
                    raise ActionError(f"{name}: no full answer in time", reason="timeout", is_transient=True)
            status = answer.status_code
    except httpx.TimeoutException as error:
        raise ActionError(f"{name}: no answer in time", reason="timeout", is_transient=True) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ActionError(f"{name}: {type(error).__name__}", reason="unreachable", is_transient=True) from error
    try:
        return status, json.loads(bytes(received)) if received else None
    except (ValueError, RecursionError):
        return status, None


def _content(request: HttpRequest, params: Mapping[str, Any]) -> bytes:
    filled = dict(params) if request.body is None else fill_json(request.body, params)
    return json.dumps(filled, sort_keys=True, ensure_ascii=False).encode()


def _signature(name: str, secret_env: str, key: str, content: bytes) -> dict[str, str]:
    now = datetime.now(UTC)
    headers = {"webhook-id": key, "webhook-timestamp": str(int(now.timestamp()))}
    if secret_env:
        from standardwebhooks.webhooks import EmptyWebhookSecretError, Webhook

        secret = os.environ.get(secret_env, "")
        try:
            if not secret:
                raise ActionError(f"{name}: the environment variable {secret_env} is not set", reason="no_secret")
            headers["webhook-signature"] = Webhook(secret).sign(key, now, content.decode())
        except (binascii.Error, ValueError, EmptyWebhookSecretError) as error:
            raise ActionError(f"{name}: the secret in {secret_env} is not base64", reason="no_secret") from error
    return headers


def new_request(method: str, url: str, body: Any, secret_env: str) -> HttpRequest:
    """A checked request. Raises ValueError: a method or scheme that is none, slots in the host."""
    from urllib.parse import urlsplit

    method = method.upper()
    if method not in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
        raise ValueError(f"'{method}' is no method")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("url must begin with http:// or https:// and name a host")
    if "{" in parts.netloc or "{" in parts.fragment:
        raise ValueError("a slot may stand in the path or query of a url, never in its host")
    return HttpRequest(method, url, body, secret_env)
