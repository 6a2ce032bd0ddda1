"""Who may ask and who may change: host names, origins, the bearer token, response headers.

The service listens on localhost by default. There, the danger is another web page in the operator's
browser: by DNS rebinding (refused by the Host header) or by a forged form (refused by the Origin).
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from opsmend.api.problems import problem

TOKEN_COOKIE = "opsmend_token"
NAME_COOKIE = "opsmend_name"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_CSP = ("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
_FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain", "")


@dataclass(frozen=True)
class ApiConfig:
    """How the API is guarded."""

    token: str = ""
    """Bearer token that every state-changing request must carry; "" asks for none (localhost only)."""
    allowed_hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "::1")
    """Names under which the service may be reached, without port; "*" allows any."""
    max_body_bytes: int = 16 * 2**20
    """Largest body after decompression, bytes, 1 KiB .. 1 GiB."""
    max_upload_bytes: int = 128 * 2**20
    """What the bodies of all requests that are being received hold together, bytes; beyond it 503."""
    upload_seconds: float = 30.0
    """Within this a body must have come, seconds; else 408."""
    event_poll_seconds: float = 0.1
    """How often a listener of /events looks for news, seconds, 0.01 .. 5."""
    heartbeat_seconds: float = 10.0
    """How often /events says that it is alive, seconds, 1 .. 60."""


def operator_of(request: Request, named: str = "") -> str:
    """Who decides: the body's name, the header X-Opsmend-By, the cookie of the dashboard, or "operator"."""
    found = named or request.headers.get("x-opsmend-by", "") or unquote(request.cookies.get(NAME_COOKIE, ""))
    return "".join(c for c in found if c.isprintable()).strip()[:80] or "operator"


class Guard:
    """ASGI middleware: refuses strangers, and adds the security headers to every answer."""

    def __init__(self, app: ASGIApp, config: ApiConfig) -> None:
        self._app = app
        self._config = config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                out = MutableHeaders(scope=message)
                out["content-security-policy"] = _CSP
                out["x-content-type-options"] = "nosniff"
                out["referrer-policy"] = "same-origin"
                out["cross-origin-opener-policy"] = "same-origin"
                out.setdefault("cache-control", "no-store")
            await send(message)

        refusal = self._refusal(scope["method"], scope["path"], headers, Request(scope).cookies)
        if refusal is None:
            await self._app(scope, receive, send_guarded)
        else:
            status, why = refusal
            extra = {"www-authenticate": "Bearer"} if status == 401 else {}
            await problem(status, why, headers=extra)(scope, receive, send_guarded)

    def _refusal(self, method: str, path: str, headers: Headers, cookies: Mapping[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if "*" not in self._config.allowed_hosts and _name(host) not in self._config.allowed_hosts:
            return 421, "this host name is not served here (allowed_hosts)"
        if method in _SAFE:
            return None
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "")
        if origin is not None and urlsplit(origin).netloc != host:
            return 403, "cross-origin requests may not change anything"
        if site not in ("", "same-origin", "none"):
            return 403, "cross-site requests may not change anything"
        content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        is_machine_route = path.startswith(("/v1/", "/hooks/", "/api/"))
        if origin is None and site != "same-origin" and not is_machine_route:
            return 403, "forms are taken from the dashboard's own pages alone"
        if path.startswith("/api/") and content_type in _FORM_TYPES and headers.get("content-length", "0") != "0":
            return 415, "send application/json"
        if path != "/session" and self._config.token and not self._has_token(headers, cookies):
            return 401, "this needs the bearer token"
        return None

    def _has_token(self, headers: Headers, cookies: Mapping[str, str]) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        sent = given.strip() if scheme.lower() == "bearer" else unquote(cookies.get(TOKEN_COOKIE, ""))
        return hmac.compare_digest(sent.encode(), self._config.token.encode())


def _name(host: str) -> str:
    return (urlsplit(f"//{host}").hostname or "") if host.count("[") == host.count("]") else ""
