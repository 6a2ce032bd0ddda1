"""prometheus-kafka-adapter (Telefonica), JSON and avro-json: one sample a record.

    {"timestamp": "1970-01-01T00:00:00Z", "value": "9876543210", "name": "up", "labels": {"__name__": "up", ...}}

`value` is a text, and can be NaN (a stale marker comes as one: the series ended), +Inf or -Inf. Times are cut to whole
seconds by the adapter. Several samples, one a line or in an array, are taken as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingest.errors import DecodeError
from ingest.wire.documents import decoder, recogniser
from ingest.wire.prometheus_labels import label_map, series_of
from ingest.wire.rows import DecodeContext, Rows
from ingest.wire.times import to_ns

NAME = "prometheus-kafka-adapter"


def claims(entry: Mapping[str, Any]) -> bool:
    labels = entry.get("labels")
    return "value" in entry and "timestamp" in entry and isinstance(labels, dict) and "__name__" in labels


def put(entry: Mapping[str, Any], context: DecodeContext, rows: Rows) -> None:
    labels = entry.get("labels")
    if not isinstance(labels, dict):
        raise DecodeError("a sample without labels", reason="bad_metric")
    own = label_map((str(k), v) for k, v in labels.items() if isinstance(v, str))
    name = own.pop("__name__", "") or entry.get("name")
    if not isinstance(name, str) or not name:
        raise DecodeError("a sample without a name", reason="bad_metric")
    rows.point(to_ns(entry.get("timestamp"), context.timestamp_ns), series_of(name, own, context), _number(entry.get("value")))


def _number(value: object) -> float:
    """Infinities are no measurement; `Rows.point` makes NaN of them."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise DecodeError(f"value {value!r:.40} is no number", reason="bad_number")
    try:
        return float(value)
    except (ValueError, OverflowError) as error:
        raise DecodeError(f"value {value!r:.40} is no number", reason="bad_number") from error


recognise = recogniser(claims)
decode = decoder(put)
