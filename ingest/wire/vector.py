"""Vector's events, log and metric, in the codecs `json` and `native_json` (which puts them into `log` or `metric`).

Metrics are named `namespace_name`. An incremental counter is a delta, an absolute one a counter; a set is the number of
its values; a distribution, histogram or summary becomes `.count`, `.sum` and quantiles, as OTLP's do (`otlp`), and is
one point as Vector counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingest.wire import kube
from ingest.wire.documents import decoder, first_text, recogniser
from ingest.wire.levels import level_in, syslog_level
from ingest.wire.line import SERVICES, Line, first_time, message_in, put_line, service_in, trace_in
from ingest.wire.plain import put_unclaimed
from ingest.wire.rows import DecodeContext, Rows
from ingest.wire.vector_metrics import is_metric, put_metric

NAME = "vector"
_SERVICES = ("appname", "container_name", *SERVICES)


def claims(entry: Mapping[str, Any]) -> bool:
    """`source_type`, or a metric with its `kind`, or one of both in an envelope."""
    inner = _native(entry)
    return "source_type" in (inner or entry) or is_metric(inner or entry)


def _native(entry: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The event of `native_json`: an object with nothing in it but `log` or `metric`."""
    if len(entry) == 1:
        inner = entry.get("log", entry.get("metric"))
        if isinstance(inner, dict):
            return inner
    return None


def put(entry: Mapping[str, Any], context: DecodeContext, rows: Rows) -> None:
    event = _native(entry) or entry
    if is_metric(event):
        put_metric(event, context, rows)
        return
    pod = kube.within(event)
    outer = Line("", first_time(event),
                 service_in(event, context, ()) or kube.service_of_pod(pod) or first_text(event, _SERVICES).removeprefix("/"),
                 kube.pod_of(pod) or first_text(event, ("host", "hostname")), _level(event), trace_in(event))
    message = message_in(event)
    if message is None and event.get("message") != "":  # an empty line is a line
        put_unclaimed({k: v for k, v in event.items() if k not in ("source_type", "kubernetes")}, context, rows, within=outer)
    else:
        put_line(Line((message or "").rstrip("\r\n")).within(outer), context, rows)


def _level(event: Mapping[str, Any]) -> Any:
    """Journald's `PRIORITY`; Vector's own logs keep the level in `metadata`."""
    metadata = event.get("metadata")
    return syslog_level(event.get("PRIORITY")) or level_in(event) or (
        level_in(metadata) if isinstance(metadata, dict) else level_in({}))


recognise = recogniser(claims)
decode = decoder(put)
