"""Alertmanager's webhook, version 4 (template/template.go `Data`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ingest.errors import DecodeError
from ingest.types import ExternalAlert
from ingest.wire.native import text
from ingest.wire.rows import DecodeContext, Rows
from ingest.wire.times import to_ns

NAME = "alertmanager"
_ENTITY = ("service", "service_name", "app", "job")


def recognise(value: bytes, context: DecodeContext) -> bool:
    """An object with `alerts`, `groupKey` and version 4."""
    head = value[:64].lstrip()
    return head.startswith(b"{") and b'"alerts"' in value and b'"groupKey"' in value and b'"version"' in value


def decode(value: bytes, context: DecodeContext, rows: Rows) -> None:
    try:
        document = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(f"not JSON: {error}", reason="bad_json") from error
    alerts = document.get("alerts") if isinstance(document, dict) else None
    if not isinstance(alerts, list):
        raise DecodeError("no list `alerts`; a template with another payload needs a format of its own",
                          reason="bad_alert")
    for alert in alerts:
        if not isinstance(alert, dict) or not isinstance(alert.get("labels"), dict):
            raise DecodeError("an alert without labels", reason="bad_alert")
        rows.alerts.append(_alert(alert, text(document.get("groupKey")), context))


def _alert(alert: Mapping[str, Any], group_key: str, context: DecodeContext) -> ExternalAlert:
    labels = {str(k): text(v) for k, v in alert["labels"].items()}
    annotations = alert.get("annotations")
    annotations = annotations if isinstance(annotations, dict) else {}
    service = context.service_of({**{name: labels[name] for name in _ENTITY if name in labels}, **labels})
    is_resolved = alert.get("status") == "resolved"
    return ExternalAlert(
        name=labels.get("alertname", ""), service=service, fingerprint=text(alert.get("fingerprint")),
        status="resolved" if is_resolved else "firing",
        starts_ns=to_ns(alert.get("startsAt"), context.timestamp_ns),
        # A firing alert's endsAt is the year 1, or when it would time out: neither is an end.
        ends_ns=to_ns(alert.get("endsAt"), context.timestamp_ns) if is_resolved else 0,
        severity=labels.get("severity", ""), instance=labels.get("instance", ""),
        summary=text(annotations.get("summary") or annotations.get("description")), group_key=group_key,
        labels=tuple(sorted(labels.items())))
