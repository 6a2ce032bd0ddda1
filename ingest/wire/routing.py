"""Which format a single JSON object is of, where a record as a whole is of none: lines or array items of several."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any, cast

from ingest.wire import (
    alertmanager_events,
    beats,
    cloud_logs,
    cloudevents,
    docker,
    fluent_bit,
    gelf,
    journald,
    prometheus_kafka_adapter,
    telegraf,
    vector,
)
from ingest.wire.documents import Put

OBJECT_FORMATS: tuple[ModuleType, ...] = (
    cloudevents, prometheus_kafka_adapter, alertmanager_events, vector, beats, gelf, telegraf, journald, docker, cloud_logs,
    fluent_bit)
"""Those that read object by object (`claims`, `put`), the more specific first."""


def claiming(entry: Mapping[str, Any]) -> Put | None:
    """The `put` of the first format that claims the object; None if none does."""
    return next((cast(Put, module.put) for module in OBJECT_FORMATS if module.claims(entry)), None)
