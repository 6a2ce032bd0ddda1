"""Events of the outbox as CloudEvents 1.0: what webhooks and topics get."""

from __future__ import annotations

import uuid
from typing import Any, Final

import msgspec

from detect.types import NAMESPACE
from opsmend.api.present import renamed_key, rfc3339
from opsmend.store.outbox import Event

PREFIX: Final = "io.opsmend."
INCIDENT_TYPES: Final = tuple(f"{PREFIX}incident.{what}" for what in ("opened", "updated", "split", "merged", "closed"))
OUTCOME_TYPE: Final = f"{PREFIX}outcome.recorded"
PUBLIC_TYPES: Final = (*INCIDENT_TYPES, f"{PREFIX}breach.predicted", f"{PREFIX}plan.proposed", f"{PREFIX}run.finished")
"""What webhooks get unless `types` names fewer."""
CONTENT_TYPE: Final = "application/cloudevents+json"


def event_id(event: Event) -> str:
    """UUIDv5 of the content: the same however often it is delivered, or written again by a replay."""
    return str(uuid.uuid5(NAMESPACE, f"{event.type}\x1f{event.subject}\x1f{event.ts_ns}\x1f{bytes(event.body).decode()}"))


def cloud_event(event: Event, tenant: str) -> bytes:
    """The JSON form. `data` is what the HTTP API shows: times RFC 3339, keys snake_case."""
    return msgspec.json.encode({
        "specversion": "1.0", "id": event_id(event), "source": f"/opsmend/{tenant}", "type": event.type,
        "subject": event.subject, "time": rfc3339(event.ts_ns), "datacontenttype": "application/json",
        "data": shown(msgspec.json.decode(event.body))})


def shown(value: Any) -> Any:
    """Stored JSON as the API shows it: `opened_ns` becomes `opened_at`."""
    if isinstance(value, dict):
        return {renamed_key(k): rfc3339(v) if k.endswith("_ns") and isinstance(v, int) else shown(v)
                for k, v in value.items()}
    return [shown(v) for v in value] if isinstance(value, list) else value
