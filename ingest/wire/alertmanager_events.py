"""Alertmanager's event recorder (feature flag `event-recorder`, 0.33 and later) on Kafka or as a webhook: protojson.

    {"@timestamp": "...", "instance": "am-0", "data": {"alertCreated": {"alert": {"fingerprint": "1030...", ...}}}}

An alert created fires, an alert resolved is over. All other events (grouped, notification, silences, muting, start and
stop of Alertmanager) are read and make no row: they tell again about alerts that are known, or about Alertmanager.
An alert that is resolved comes with the group it was in. Fingerprints are decimal here and hexadecimal in the webhook;
zero values are left out. `format: protobuf` is not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ingest.errors import DecodeError
from ingest.wire.alerts import alert_of, moment
from ingest.wire.documents import decoder, recogniser
from ingest.wire.native import text
from ingest.wire.rows import DecodeContext, Rows

NAME = "alertmanager-events"
EVENTS: Final = frozenset((
    "alertCreated", "alertResolved", "alertGrouped", "notification", "silenceCreated", "silenceUpdated",
    "silenceMutedAlert", "inhibitionMutedAlert", "alertmanagerStartupEvent", "alertmanagerShutdownEvent"))


def claims(entry: Mapping[str, Any]) -> bool:
    """`data` holds one known event, or anything, under the time and instance of an event."""
    data = entry.get("data")
    if not isinstance(data, dict) or "@timestamp" not in entry or len(data) != 1:
        return False
    return not EVENTS.isdisjoint(data) or ("instance" in entry and entry.keys() <= {
        "@timestamp", "instance", "data", "clusterPosition"})


def put(entry: Mapping[str, Any], context: DecodeContext, rows: Rows) -> None:
    data = entry.get("data")
    if not isinstance(data, dict):
        raise DecodeError("an event without data", reason="bad_alert")
    at_ns = moment(entry.get("@timestamp"), context.timestamp_ns)
    for event, is_resolved in (("alertCreated", False), ("alertResolved", True)):
        if isinstance(body := data.get(event), dict):
            _put_alert(body, at_ns, is_resolved, context, rows)


def _put_alert(body: Mapping[str, Any], at_ns: int, is_resolved: bool, context: DecodeContext, rows: Rows) -> None:
    alert = body.get("alert")
    if isinstance(alert, dict) and isinstance(alert.get("details"), dict):  # {"hash": ..., "details": the alert}
        alert = alert["details"]
    if not isinstance(alert, dict) or not (labels := _pairs(alert.get("labels"))):
        raise DecodeError("an event of an alert without labels", reason="bad_alert")
    group = body.get("groupInfo")
    rows.alerts.append(alert_of(
        labels, _pairs(alert.get("annotations")), context, is_resolved=is_resolved,
        starts_ns=moment(alert.get("startsAt"), at_ns),
        ends_ns=moment(alert.get("endsAt"), at_ns), fingerprint=_hexadecimal(alert.get("fingerprint")),
        group_key=text(group.get("groupKey")) if isinstance(group, dict) else ""))


def _pairs(value: object) -> dict[str, str]:
    """{"labels": [{"key": k, "value": v}]}, and a plain map as later versions write it."""
    if not isinstance(value, dict):
        return {}
    pairs = value.get("labels")
    if not isinstance(pairs, list):
        return {k: text(v) for k, v in value.items()}
    return {text(p.get("key")): text(p.get("value")) for p in pairs if isinstance(p, dict)}


def _hexadecimal(value: object) -> str:
    """The decimal fingerprint as 16 hexadecimal digits; "" where it is none, to be worked out."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value) if len(value) <= 20 else -1
    return f"{value:016x}" if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**64 else ""


recognise = recogniser(claims)
decode = decoder(put)
