"""What `opsmend wire` tells: which formats a stream of records holds, what came out, what was refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ingest.decode import Decoder
from ingest.types import DeadLetter, Record


def describe(records: Sequence[Record], decoder: Decoder | None = None) -> tuple[dict[str, Any], list[DeadLetter]]:
    """Counts (`records formats logs points spans alerts changes dead reasons`) and the dead letters."""
    batch = (decoder or Decoder()).decode(records)
    reasons = Counter(letter.reason for letter in batch.dead_letters)
    return {
        "records": batch.records_in, "formats": dict(sorted(batch.formats.items())), "logs": len(batch.logs),
        "points": batch.points_in, "spans": len(batch.traces), "alerts": len(batch.alerts),
        "changes": len(batch.changes), "dead": len(batch.dead_letters), "reasons": dict(sorted(reasons.items())),
    }, list(batch.dead_letters)
