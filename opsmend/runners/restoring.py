"""Going on from what is stored. A state that can't be read is kept aside and begun anew: the start goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from ingest.types import Watermark
from opsmend.pipeline import CLOSED_KEPT, Pipeline
from opsmend.runners.poison import STAGE, PoisonBudget
from opsmend.store.bodies import UnreadableState, reading_state
from opsmend.store.queries import Queries
from opsmend.store.records import Records, StepResult

CORRECTED: Final = "runner.corrected"
"""Beside the stages' states: the number of the last correction that they know of."""
_HOUR_NS: Final = 3600 * 10**9


def restored(make_pipeline: Callable[[], Pipeline], records: Records, queries: Queries,
             history_seconds: float) -> tuple[Pipeline, int]:
    """The pipeline as of the last commit, and the number of the last correction that it knows of.

    Whatever can't be read is copied to the quarantine, logged and counted, and the stage begins anew, in the store too:
    detectors learn what is usual again, the graph is learned again, and incidents that were open close, or go on with what
    is found anew. Where the number of the last correction is lost, all of them are gone through again: those that were done
    find nothing left to do. Raises sqlalchemy errors where the store is away.
    """
    incidents, newest = queries.incidents(state="open", limit=1000), queries.newest_observation_ns()
    start = newest - int(history_seconds * 1e9)
    observations, changes = queries.observations(start, newest), queries.changes(start, newest + _HOUR_NS)
    closed = queries.incidents(state="closed", limit=CLOSED_KEPT)
    states, lost = records.states(), set[str]()
    while True:
        pipeline = make_pipeline()
        try:
            pipeline.restore(states, incidents=(*incidents, *closed), observations=observations, changes=changes)
            with reading_state(CORRECTED):
                corrected = msgspec.msgpack.decode(states[CORRECTED], type=int) if CORRECTED in states else 0
            break
        except UnreadableState as error:
            records.quarantine(error)
            lost |= set(error.stages)
            states = {stage: body for stage, body in states.items() if stage not in lost}
    if lost:
        # Which incidents were ours and which another member's is not told by the store.
        pipeline.go_on_without(lost, incidents if records.is_alone() else (), newest)
        records.commit(StepResult(Watermark(), {**pipeline.changed(), CORRECTED: msgspec.msgpack.encode(corrected)}))
    return pipeline, corrected


def restore_budget(budget: PoisonBudget, records: Records) -> None:
    """As `restored`; one that can't be read is full."""
    try:
        with reading_state(STAGE):
            budget.restore(records.states())
    except UnreadableState as error:
        records.quarantine(error)
        budget.restore({})
        records.commit(StepResult(Watermark(), budget.snapshot()))
