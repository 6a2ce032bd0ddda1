"""What the API answers, as JSON schemas made of the stage types: the OpenAPI document and the contract test use them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from detect.types import Incident, Signal
from opsmend.api.chart_types import IncidentCharts
from opsmend.api.port import ActionInfo, AllowRule, IngestStats, ServiceStatus, TrustStats
from opsmend.api.present import renamed_key
from opsmend.causes import ConfirmedCause
from remediate.ports import RepairsControl
from remediate.types import Outcome, Plan, Run
from rootcause.types import Diagnosis

_TYPES: Final = (Incident, Signal, Diagnosis, Plan, Run, Outcome, RepairsControl, ServiceStatus, ActionInfo, AllowRule,
                 TrustStats, IngestStats, IncidentCharts, ConfirmedCause)
_TIME: Final[dict[str, Any]] = {"type": ["string", "null"], "format": "date-time"}
_PROBLEM: Final[dict[str, Any]] = {
    "type": "object", "required": ["type", "title", "status", "detail"],
    "properties": {"type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"},
                   "detail": {"type": "string"}, "reason": {"type": "string"}}}


def ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def listed(key: str, name: str, **more: Any) -> dict[str, Any]:
    """An object with a list of `name` under `key`."""
    return {"type": "object", "required": [key, *more], "additionalProperties": False,
            "properties": {key: {"type": "array", "items": ref(name)}, **more}}


def answers(schema: Mapping[str, Any], *errors: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: JSON of `schema`, and problem documents."""
    found: dict[int | str, dict[str, Any]] = {
        200: {"description": "OK", "content": {"application/json": {"schema": dict(schema)}}}}
    for status in errors:
        found[status] = {"description": "A problem (RFC 9457)",
                         "content": {"application/problem+json": {"schema": ref("Problem")}}}
    return found


def components() -> dict[str, Any]:
    """Every named schema. Keys and times are those of `present`: all keys are always there, `_ns` is `_at`."""
    _, found = msgspec.json.schema_components(_TYPES, ref_template="#/components/schemas/{name}")
    named = {name: _renamed(schema) for name, schema in found.items()}
    named["IncidentInFull"] = _extended(named["Incident"], {
        "diagnosis": {"anyOf": [ref("Diagnosis"), {"type": "null"}]},
        "cause": {"anyOf": [ref("ConfirmedCause"), {"type": "null"}]}, "held": {"type": "string"},
        "plans": {"type": "array", "items": ref("Plan")}, "runs": {"type": "array", "items": ref("Run")}})
    named["RunInFull"] = _extended(named["Run"], {"outcome": {"anyOf": [ref("Outcome"), {"type": "null"}]}})
    named["Problem"] = _PROBLEM
    return named


def _extended(schema: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    return {**schema, "required": [*schema["required"], *more], "properties": {**schema["properties"], **more}}


def _renamed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_renamed(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    found = {k: _renamed(v) for k, v in schema.items() if k not in ("default", "title", "properties", "required")}
    if "properties" in schema:
        found["properties"] = {renamed_key(k): dict(_TIME) if k.endswith("_ns") else _renamed(v)
                               for k, v in schema["properties"].items()}
        found["required"] = list(found["properties"])
        found["additionalProperties"] = False
    if found.get("type") == "number":
        found["type"] = ["number", "null"]  # NaN, "not known", is null in JSON
    return found
