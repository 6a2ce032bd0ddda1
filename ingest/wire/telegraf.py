"""Telegraf's JSON: `{"name", "tags", "fields", "timestamp"}`, alone or as a list in `metrics`.

Each field that is a number or a boolean is a point of the series `name_field` (of measurement "prometheus": `field`),
labelled by the tags; texts are no measurements. The unit of the time is told by its magnitude.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingest.errors import DecodeError
from ingest.types import SeriesKey
from ingest.wire.documents import decoder, first_text, recogniser
from ingest.wire.line import Line, header_service, put_line, service_in, time_in
from ingest.wire.numbers import kind_of, label_pairs, measured
from ingest.wire.rows import UNKNOWN_SERVICE, DecodeContext, Rows

NAME = "telegraf"
_SERVICES = ("service_name", "application", "container_name", "appname", "app_name")
_INSTANCES = ("instance", "pod_name", "host", "hostname")
_LOGS = frozenset({"syslog", "tail", "docker_log", "logparser", "win_eventlog"})


def claims(entry: Mapping[str, Any]) -> bool:
    metrics = entry.get("metrics")
    if isinstance(metrics, list):
        return bool(metrics) and all(isinstance(metric, dict) and _is_metric(metric) for metric in metrics)
    return _is_metric(entry)


def _is_metric(entry: Mapping[str, Any]) -> bool:
    return isinstance(entry.get("fields"), dict) and isinstance(entry.get("name"), str) and (
        "tags" in entry or "timestamp" in entry)


def put(entry: Mapping[str, Any], context: DecodeContext, rows: Rows) -> None:
    """Raises DecodeError (reason "bad_metric") for an object that is none of Telegraf's."""
    metrics = entry.get("metrics")
    for metric in metrics if isinstance(metrics, list) else [entry]:
        if not isinstance(metric, dict) or not _is_metric(metric):
            raise DecodeError("no name, fields and tags or timestamp", reason="bad_metric")
        tags = metric.get("tags")
        put_fields(metric["name"], tags if isinstance(tags, dict) else {}, metric["fields"],
                   time_in(metric.get("timestamp")), context, rows)


def put_fields(name: str, tags: Mapping[str, Any], fields: Mapping[str, Any], ts_ns: int, context: DecodeContext,
               rows: Rows) -> None:
    """A point per number of one measurement; a log line where it is one of the log inputs."""
    ts_ns = ts_ns or context.timestamp_ns
    service = service_in(tags, context, _SERVICES) or header_service(context) or UNKNOWN_SERVICE
    instance = first_text(tags, _INSTANCES)
    labels = label_pairs(tags, {*_INSTANCES, *_SERVICES, *context.entity_from})
    for field, value in fields.items():
        if isinstance(value, (int, float)):
            series = field if name == "prometheus" else f"{name}_{field}"
            rows.point(ts_ns, SeriesKey(service, series, instance, kind=kind_of(None, series), labels=labels), measured(value))
    message = fields.get("message") or (fields.get("value") if name in _LOGS else None)
    if isinstance(message, str) and (name in _LOGS or "message" in fields):
        from ingest.wire.levels import level_in

        put_line(Line(message, ts_ns, "" if service == UNKNOWN_SERVICE else service, instance,
                      level_in({**tags, **fields})), context, rows)


recognise = recogniser(claims)
decode = decoder(put)
