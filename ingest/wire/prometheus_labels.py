"""What Prometheus' labels say: service, instance, peer, and whether a series counts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from ingest.types import SeriesKey
from ingest.wire.rows import UNKNOWN_SERVICE, DecodeContext
from ingest.wire.service_graph import call_of, without_ends

_UNIT: Final = re.compile(r"_(seconds|bytes|ratio|celsius|volts|amperes|joules|grams|meters)(?:_total|_sum)?\Z")
_UNITS: Final = {"seconds": "s", "bytes": "By", "ratio": "1", "celsius": "Cel", "volts": "V", "amperes": "A",
                 "joules": "J", "grams": "g", "meters": "m"}
_PEERS: Final = ("peer", "peer_service", "destination_service_name", "destination_workload", "server_address", "upstream",
                 "db_system")
_SERVICES: Final = ("app_kubernetes_io_name", "app", "deployment", "source_workload", "container", "job")
"""Where the labels name the service if none of the configured fields is there."""


def service_of(labels: Mapping[str, str], context: DecodeContext) -> str:
    """By the configured fields, as they are and as Prometheus writes them (`service.name` is `service_name`)."""
    for name in context.entity_from:
        found = labels.get(name) or labels.get(name.replace(".", "_"))
        if found:
            return found
    return next((labels[name] for name in _SERVICES if labels.get(name)), UNKNOWN_SERVICE)


def series_of(name: str, labels: Mapping[str, str], context: DecodeContext) -> SeriesKey:
    """The series of a metric name and its labels (without `__name__`).

    Prometheus' samples don't say what they measure, so the name does, by its own conventions: what ends in `_total`,
    `_count`, `_sum` or `_bucket` is a counter, all else a gauge. A gauge called `..._count` is taken for a counter then:
    as a rate it is still a series that moves when something happens.
    """
    unit = _UNIT.search(name)
    call = call_of(name, labels)
    if call is not None:
        return SeriesKey(call[0], name, "", call[1], _UNITS[unit[1]] if unit else "", kind_of(name),
                         tuple(sorted(without_ends(labels).items())))
    service = service_of(labels, context)
    peer = next((labels[p] for p in _PEERS if labels.get(p)), "")
    own = tuple(sorted((k, v) for k, v in labels.items() if k not in ("__name__", "instance", "peer")))
    return SeriesKey(service, name, labels.get("instance", ""), peer if peer != service else "",
                     _UNITS[unit[1]] if unit else "", kind_of(name), own)


def kind_of(name: str) -> str:
    """counter or gauge, by the end of the name; `_created` is a time, not a count."""
    return "counter" if name.endswith(("_total", "_count", "_sum", "_bucket")) else "gauge"


def label_map(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Labels as a map; an empty value is the same as no label."""
    return {name: value for name, value in pairs if value}
