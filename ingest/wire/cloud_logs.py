"""Log entries of the large clouds' own services, as their exports put them on a topic.

Google Cloud Logging: `LogEntry` with `textPayload`, `jsonPayload` or `protoPayload`. AWS CloudWatch Logs: subscription
records with `logEvents`; its control messages (a check that we are there) hold no line for anybody.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ingest.wire.documents import decoder, first_text, recogniser
from ingest.wire.levels import level_in
from ingest.wire.line import Line, first_time, line_in, message_in, put_line, service_in, time_in, trace_in
from ingest.wire.native import text
from ingest.wire.rows import DecodeContext, Rows

NAME = "cloud-logs"
_PAYLOADS = ("textPayload", "jsonPayload", "protoPayload")
_APP_LABELS = ("k8s-pod/app_kubernetes_io/name", "k8s-pod/app.kubernetes.io/name", "k8s-pod/app", "k8s-pod/k8s-app")


def claims(entry: Mapping[str, Any]) -> bool:
    return _is_google(entry) or _is_amazon(entry)


def _is_google(entry: Mapping[str, Any]) -> bool:
    return "logName" in entry and ("resource" in entry or any(name in entry for name in _PAYLOADS))


def _is_amazon(entry: Mapping[str, Any]) -> bool:
    return "logGroup" in entry and isinstance(entry.get("logEvents"), list)


def put(entry: Mapping[str, Any], context: DecodeContext, rows: Rows) -> None:
    if _is_amazon(entry):
        _put_amazon(entry, context, rows)
    else:
        _put_google(entry, context, rows)


def _put_google(entry: Mapping[str, Any], context: DecodeContext, rows: Rows) -> None:
    resource = entry.get("resource")
    about = resource.get("labels") if isinstance(resource, dict) else None
    about = about if isinstance(about, dict) else {}
    labels = entry.get("labels")
    labels = labels if isinstance(labels, dict) else {}
    service = service_in(labels, context, _APP_LABELS) or service_in(about, context, (
        "container_name", "service_name", "function_name", "job_name", "module_id", "database_id"))
    outer = Line("", first_time(entry, ("timestamp", "receiveTimestamp")), service,
                 first_text(about, ("pod_name", "instance_id", "revision_name", "node_name")), level_in(entry), trace_in(entry))
    payload = next((entry[name] for name in _PAYLOADS if entry.get(name) is not None), None)
    if isinstance(payload, dict):
        message = message_in(payload) or msgspec.json.encode(payload).decode()
        put_line(line_in(payload, message, context).within(outer), context, rows)
    else:
        whole = text(payload) or msgspec.json.encode(entry).decode()
        put_line(Line(whole.rstrip("\r\n")).within(outer), context, rows)


def _put_amazon(entry: Mapping[str, Any], context: DecodeContext, rows: Rows) -> None:
    if entry.get("messageType") == "CONTROL_MESSAGE":
        return
    service = text(entry.get("logGroup")).rstrip("/").rpartition("/")[2]
    for event in entry["logEvents"]:
        event = event if isinstance(event, dict) else {"message": event}
        put_line(Line(text(event.get("message")).rstrip("\r\n"), time_in(event.get("timestamp")), service,
                      text(entry.get("logStream"))), context, rows)


recognise = recogniser(claims)
decode = decoder(put)
