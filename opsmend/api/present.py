"""Stage types as the JSON of the API: RFC 3339 times, snake_case keys."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec


def rfc3339(ts_ns: int) -> str | None:
    """UTC with milliseconds; None for 0, which means "not yet" in the stage types."""
    if not ts_ns:
        return None
    seconds, rest_ns = divmod(ts_ns, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest_ns // 10**6:03d}Z"


def present(value: Any) -> Any:
    """Structs, dataclasses and containers as JSON values; `opened_ns` becomes `opened_at`, `ts_ns` becomes `at`."""
    if isinstance(value, msgspec.Struct):
        return _renamed(msgspec.structs.asdict(value))
    if is_dataclass(value) and not isinstance(value, type):
        return _renamed(asdict(value))
    if isinstance(value, dict):
        return {str(k): present(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [present(v) for v in value]
    if isinstance(value, (set, frozenset)):
        return sorted(present(v) for v in value)
    return None if isinstance(value, float) and not math.isfinite(value) else value  # NaN is no JSON


def renamed_key(key: str) -> str:
    """The API's name of a field of a stage type."""
    return "at" if key == "ts_ns" else f"{key[:-3]}_at" if key.endswith("_ns") else key


def _renamed(fields: dict[str, Any]) -> dict[str, Any]:
    return {renamed_key(k): rfc3339(v) if k.endswith("_ns") else present(v) for k, v in fields.items()}


def etag(body: Any) -> str:
    """A strong ETag of a JSON body."""
    return f'"{hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:24]}"'
