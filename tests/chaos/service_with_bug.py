"""`opsmend` with a stage that has a bug: it raises on every batch that holds a certain text (OPSMEND_CHAOS_BUG)."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ingest.types import Record
from opsmend import cli, pipeline
from opsmend.store.records import StepResult

_BUG = os.environ["OPSMEND_CHAOS_BUG"].encode()
_step = pipeline.Pipeline.step


def step(self: pipeline.Pipeline, records: Sequence[Record]) -> StepResult:
    for record in records:
        if _BUG in record.value:
            raise KeyError("a bug of ours")
    return _step(self, records)


pipeline.Pipeline.step = step  # type: ignore[method-assign]
cli.main()
