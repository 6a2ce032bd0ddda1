"""What a person changed about incidents: kept in the order in which it counts, applied by the pipeline alone.

A correction is stored before anything else happens. The runner applies it between two batches and stores what came of
it together with the state that knows of it, so that it counts once whoever dies, and a replay of the journal gives it
again where it stood.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from detect.stage import Detection
from detect.tenant import TenantDetection
from detect.types import Incident
from ingest.types import Record

TOPIC = "opsmend.corrections"
"""Of corrections in a run journal; no transport has it."""


class Correction(msgspec.Struct, frozen=True):
    """One word of a person. `id` is unique; `at_ns` is event time."""

    id: str
    kind: Literal["split", "merge", "close"]
    incident_id: str
    by: str
    at_ns: int
    signal_ids: tuple[str, ...] = ()  # split: what leaves
    other_id: str = ""  # split: the new incident; merge: the one that stays
    reason: str = ""  # close


def apply(correction: Correction, detection: Detection | TenantDetection,
          calls: frozenset[tuple[str, str]]) -> list[Incident]:
    """The incidents that it changed; none where the incident is not open here, or has none of the signals any more."""
    c = correction
    match c.kind:
        case "split":
            return detection.split_incident(c.incident_id, set(c.signal_ids), c.other_id, by=c.by, now_ns=c.at_ns,
                                            calls=calls)
        case "merge":
            return detection.merge_incident(c.incident_id, c.other_id, by=c.by, now_ns=c.at_ns, calls=calls)
        case "close":
            return detection.close_incident(c.incident_id, by=c.by, reason=c.reason, now_ns=c.at_ns)


def as_record(seq: int, correction: Correction) -> Record:
    """As it stands in a journal."""
    return Record(TOPIC, 0, seq, correction.at_ns // 10**6, msgspec.json.encode(correction))


def of_record(record: Record) -> Correction:
    """The inverse of `as_record`. Raises msgspec.DecodeError, msgspec.ValidationError."""
    return msgspec.json.decode(record.value, type=Correction)
