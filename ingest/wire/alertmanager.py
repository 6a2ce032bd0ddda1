"""Alertmanager's webhook, version 4 (template/template.go `Data`): a group of alerts, up to 20,000 in one POST.

Grafana's own alerting sends the same shape with more fields. Where Alertmanager was told to cut a group (`max_alerts`),
what it left out is a metric `alertmanager.truncated_alerts` of the service `alertmanager`, labelled by receiver. Who
templates the whole payload (`payload:`) sends another format: it is read by the general rules for JSON, or refused
where the topic was set to this one.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from ingest.errors import DecodeError
from ingest.types import SeriesKey
from ingest.wire.alerts import alert_of, labels_of, moment
from ingest.wire.native import text
from ingest.wire.rows import DecodeContext, Rows

NAME = "alertmanager"


class _Top(Struct, rename="camel"):
    alerts: Raw | UnsetType = UNSET
    group_key: Raw | UnsetType = UNSET
    version: Raw | UnsetType = UNSET
    receiver: Raw | UnsetType = UNSET


_top = msgspec.json.Decoder(_Top).decode


def recognise(value: bytes, context: DecodeContext) -> bool:
    """An object with `alerts`, `groupKey` and either `version` or `receiver`, all of its own."""
    if value[:64].lstrip()[:1] != b"{" or b'"alerts"' not in value or b'"groupKey"' not in value:
        return False
    try:
        top = _top(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return (isinstance(top.alerts, Raw) and bytes(memoryview(top.alerts)[:1]) == b"[" and top.group_key is not UNSET
            and not (top.version is UNSET and top.receiver is UNSET))


def decode(value: bytes, context: DecodeContext, rows: Rows) -> None:
    """Raises DecodeError: "bad_json", "bad_alert", "bad_time"."""
    try:
        document = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(f"not JSON: {error}", reason="bad_json") from error
    alerts = document.get("alerts") if isinstance(document, dict) else None
    if not isinstance(alerts, list):
        raise DecodeError("no list `alerts`: is the payload templated? Leave `payload` out of webhook_configs, or set "
                          "the topic's format to auto", reason="bad_alert")
    group_key = text(document.get("groupKey"))
    for alert in alerts:
        labels = labels_of(alert)
        is_resolved = alert.get("status") == "resolved"
        rows.alerts.append(alert_of(
            labels, alert.get("annotations"), context, is_resolved=is_resolved,
            starts_ns=moment(alert.get("startsAt"), context.timestamp_ns),
            ends_ns=moment(alert.get("endsAt"), context.timestamp_ns) if is_resolved else 0,
            fingerprint=text(alert.get("fingerprint")), group_key=group_key))
    _put_truncated(document, context, rows)


def _put_truncated(document: dict[str, Any], context: DecodeContext, rows: Rows) -> None:
    left_out = document.get("truncatedAlerts")
    if isinstance(left_out, int) and 0 < left_out < 2**31:
        labels = (("receiver", text(document.get("receiver"))),)
        key = SeriesKey("alertmanager", "alertmanager.truncated_alerts", unit="1", kind="delta", labels=labels)
        rows.point(context.timestamp_ns, key, float(left_out), is_extra=True)
