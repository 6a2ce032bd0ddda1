"""Beats, Elastic Agent and ECS loggers: Filebeat 6 to 9, Metricbeat, Heartbeat, Winlogbeat, `ecs-logging`.

Names are those of the Elastic Common Schema, nested or with dots. A document of Metricbeat or Heartbeat is a point per
number below its module's object, named by the path; any other without a message is a line that shows it whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ingest.wire import kube
from ingest.wire.documents import decoder, dig, first_text, recogniser
from ingest.wire.levels import level_in
from ingest.wire.line import Line, first_time, message_in, put_line, service_in, trace_in
from ingest.wire.numbers import put_numbers
from ingest.wire.plain import put_unclaimed
from ingest.wire.rows import DecodeContext, Rows

NAME = "beats"
_INSTANCES = ("kubernetes.pod.name", "service.node.name", "host.name", "host.hostname", "beat.hostname", "beat.name",
              "agent.hostname", "agent.name", "container.name", "container.id", "host")
_LEVELS = ("log.level", "level", "severity", "log.syslog.severity.name", "syslog.severity_label", "winlog.level",
           "event.severity_name")
_ABOUT = frozenset({
    "@timestamp", "@metadata", "@version", "agent", "beat", "ecs", "host", "metricset", "event", "service", "tags", "fields",
    "labels", "kubernetes", "container", "docker", "cloud", "log", "input", "prospector", "orchestrator", "data_stream",
    "elastic_agent", "message", "offset", "source", "trace", "transaction", "span", "process", "error", "summary"})
"""Top-level objects that say whose a document is and where it was found, not what was measured."""


def claims(entry: Mapping[str, Any]) -> bool:
    """`@metadata.beat`, an `agent` that is a beat, `ecs.version`, or the `beat` object of version 6."""
    if "@timestamp" not in entry:
        return False
    metadata, agent, beat = entry.get("@metadata"), entry.get("agent"), entry.get("beat")
    return (isinstance(metadata, dict) and "beat" in metadata) or dig(entry, "ecs.version") is not None or (
        isinstance(agent, dict) and ("ephemeral_id" in agent or str(agent.get("type", "")).endswith("beat"))) or (
        isinstance(beat, dict) and ("version" in beat or "hostname" in beat))


def put(entry: Mapping[str, Any], context: DecodeContext, rows: Rows) -> None:
    pod = kube.within(entry)
    outer = Line("", first_time(entry), _service(entry, pod, context), first_text(entry, _INSTANCES),
                 level_in(entry, _LEVELS), trace_in(entry))
    message = message_in(entry)
    if _is_measurement(entry):
        numbers = {name: inner for name, inner in entry.items() if name not in _ABOUT and not name.startswith(
            ("@", "host.", "agent.", "event.", "kubernetes.", "container.", "cloud."))}
        if put_numbers(numbers, context, rows, ts_ns=outer.ts_ns, service=outer.service, instance=outer.instance):
            return
    if message is None and isinstance(parsed := entry.get("json"), dict):  # Filebeat's json and ndjson parsers
        put_unclaimed(parsed, context, rows, within=outer)
        return
    if message is None and entry.get("message") != "":
        message = first_text(entry, ("error.message", "event.original", "event.reason")) or msgspec.json.encode(entry).decode()
    put_line(Line((message or "").rstrip("\r\n")).within(outer), context, rows)


def _is_measurement(entry: Mapping[str, Any]) -> bool:
    """Metricbeat's and Heartbeat's documents, and what an agent sends to a data stream of metrics."""
    return "metricset" in entry or "monitor" in entry or dig(entry, "data_stream.type") == "metrics" or dig(
        entry, "event.kind") == "metric"


def _service(entry: Mapping[str, Any], pod: Mapping[str, Any], context: DecodeContext) -> str:
    """`fields` holds what the operator configured; `service.type` is the module of Metricbeat (redis, nginx)."""
    own = entry.get("fields")
    return (service_in(entry, context, ()) or (service_in(own, context) if isinstance(own, dict) else "")
            or kube.service_of_pod(pod) or first_text(entry, (
                "container.labels.com_docker_compose_service", "container.name", "process.name", "syslog.appname",
                "service.type", "event.module", "fileset.module")))


recognise = recogniser(claims)
decode = decoder(put)
