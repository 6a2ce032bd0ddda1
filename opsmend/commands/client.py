"""A running service, as commands talk to it over its HTTP API."""

from __future__ import annotations

import getpass
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

Url = Annotated[str, typer.Option(envvar="OPSMEND_URL", help="Address of the running service.")]
Token = Annotated[str, typer.Option(envvar="OPSMEND_TOKEN", help="Bearer token, where the service asks for one.")]
DEFAULT_URL = "http://127.0.0.1:8420"
_PAGE = 200


def call(method: str, url: str, path: str, token: str = "", body: object = None) -> Any:
    """The JSON answer. Raises TransportError when nobody answers (exit code 3), OpsmendError for a refusal."""
    import httpx

    from ingest.errors import OpsmendError, TransportError

    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        answer = httpx.request(method, url.rstrip("/") + path, json=body, headers=headers, timeout=30)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise TransportError(f"{url}: {error}. Is `opsmend run` up, and is --url (OPSMEND_URL) right?") from error
    if answer.status_code >= 400:
        problem = answer.json() if "json" in answer.headers.get("content-type", "") else {}
        detail = problem.get("detail") or answer.text[:300]
        hint = " Give the token with --token or OPSMEND_TOKEN." if answer.status_code == 401 else ""
        raise OpsmendError(f"{detail} ({answer.status_code} {problem.get('title', '')}){hint}",
                           reason=str(problem.get("reason") or "refused"))
    return answer.json() if answer.content else None


def pages(url: str, path: str, key: str, limit: int, **query: str) -> list[dict[str, Any]]:
    """Up to `limit` rows of a list, page by page where it has pages."""
    rows: list[dict[str, Any]] = []
    cursor = ""
    while len(rows) < limit:
        wanted = {k: v for k, v in {**query, "cursor": cursor, "limit": str(min(_PAGE, limit - len(rows)))}.items() if v}
        found = call("GET", url, f"{path}?{urlencode(wanted)}")
        rows += found[key]
        cursor = found.get("next_cursor") or ""
        if not cursor:
            break
    return rows


def part(name: str) -> str:
    """An id as part of a path."""
    return quote(name, safe="")


def me() -> str:
    """Who asks, for the record."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "operator"
