"""What Alertmanager's three formats have in common: from labels and annotations to an alert.

An alert is identified by (group key, fingerprint, start, status): senders repeat what still fires, and a retried
webhook repeats the whole group. All four stand in `ExternalAlert`, so that repeats are seen to be such.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from ingest.errors import DecodeError
from ingest.types import ExternalAlert
from ingest.wire.native import text
from ingest.wire.prometheus_labels import service_of
from ingest.wire.rows import DecodeContext
from ingest.wire.times import to_ns

_FNV_OFFSET, _FNV_PRIME, _MASK = 14695981039346656037, 1099511628211, 2**64 - 1
_SUMMARIES = ("summary", "description", "message", "title")


def alert_of(labels: Mapping[str, str], annotations: object, context: DecodeContext, *, is_resolved: bool,
             starts_ns: int, ends_ns: int, fingerprint: str, group_key: str) -> ExternalAlert:
    notes: Mapping[str, Any] = annotations if isinstance(annotations, dict) else {}
    return ExternalAlert(
        name=labels.get("alertname", ""), service=service_of(labels, context),
        fingerprint=fingerprint or fingerprint_of(tuple(sorted(labels.items()))),
        status="resolved" if is_resolved else "firing", starts_ns=starts_ns,
        # A firing alert's endsAt is the year 1, or when it would time out: neither is an end.
        ends_ns=ends_ns if is_resolved else 0,
        severity=labels.get("severity", ""), instance=labels.get("instance", ""),
        summary=next((text(notes[name]) for name in _SUMMARIES if notes.get(name)), ""), group_key=group_key,
        labels=tuple(sorted(labels.items())))


def labels_of(alert: object) -> dict[str, str]:
    """The labels of an alert as texts. Raises DecodeError if it has none."""
    labels = alert.get("labels") if isinstance(alert, dict) else None
    if not isinstance(labels, dict):
        raise DecodeError("an alert without labels", reason="bad_alert")
    return {k: v if isinstance(v, str) else text(v) for k, v in labels.items()}


def moment(value: object, otherwise_ns: int) -> int:
    """Nanoseconds; Go's zero time (year 1) means "none" and gives `otherwise_ns`."""
    if isinstance(value, str) and value.startswith("0001-01-01T"):
        return otherwise_ns
    return to_ns(value, otherwise_ns)


@lru_cache(maxsize=65536)
def fingerprint_of(labels: tuple[tuple[str, str], ...]) -> str:
    """Prometheus' own fingerprint of sorted labels (FNV-1a, 64 bits), as Alertmanager's webhook shows it: an alert that
    comes both ways is one alert.

    >>> fingerprint_of((("alertname", "Down"), ("job", "node")))
    '952a6219e8df7701'
    """
    found = _FNV_OFFSET
    for name, value in labels:
        for byte in b"%b\xff%b\xff" % (name.encode(errors="replace"), value.encode(errors="replace")):
            found = (found ^ byte) * _FNV_PRIME & _MASK
    return f"{found:016x}"
