"""Alerts as Prometheus posts them to Alertmanager's `/api/v2/alerts`: a JSON array; also what a GET of it returns.

    [{"labels": {"alertname": "DiskFull", ...}, "annotations": {...}, "startsAt": "...", "endsAt": "...", ...}]

An alert fires until its `endsAt` is past at the record's own time; no `endsAt` is none. Prometheus repeats what fires,
with an end some minutes ahead, and says once or more that it ended. What it does not say (the fingerprint) is worked
out as Alertmanager does. A suppressed alert (silenced, inhibited) fires all the same.
"""

from __future__ import annotations

from typing import Any, Final

from ingest.errors import DecodeError
from ingest.wire.alerts import alert_of, labels_of, moment
from ingest.wire.documents import documents
from ingest.wire.native import text
from ingest.wire.rows import DecodeContext, Rows

NAME = "alertmanager-v2"
GROUP_KEY: Final = "api/v2"
"""The group key of alerts that come without a group."""
_OTHERS: Final = ("annotations", "startsAt", "endsAt", "generatorURL", "fingerprint", "updatedAt")


def recognise(value: bytes, context: DecodeContext) -> bool:
    """An array of objects with `labels`, all texts, and an alert's other fields or name."""
    if value[:64].lstrip()[:1] != b"[" or b'"labels"' not in value:
        return False
    found = documents(value)
    return found is not None and all(map(_claims, found))


def _claims(entry: dict[str, Any]) -> bool:
    labels = entry.get("labels")
    return (isinstance(labels, dict) and all(isinstance(v, str) for v in labels.values()) and "value" not in entry
            and ("alertname" in labels or any(name in entry for name in _OTHERS)))


def decode(value: bytes, context: DecodeContext, rows: Rows) -> None:
    """An empty array is a record without alerts. Raises DecodeError: "bad_json", "bad_alert", "bad_time"."""
    found = documents(value)
    if found is None:
        if value.strip() == b"[]":
            return
        raise DecodeError("no JSON array of alerts", reason="bad_json")
    for alert in found:
        labels = labels_of(alert)
        starts_ns = moment(alert.get("startsAt"), context.timestamp_ns)
        ends_ns = moment(alert.get("endsAt"), 0)
        rows.alerts.append(alert_of(
            labels, alert.get("annotations"), context, is_resolved=0 < ends_ns <= context.timestamp_ns,
            starts_ns=starts_ns, ends_ns=ends_ns, fingerprint=text(alert.get("fingerprint")), group_key=GROUP_KEY))
