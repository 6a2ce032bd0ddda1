"""Windows of a system in which nothing was wrong: out of its own store, or of recorded cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from detect.types import Incident, Observations
from opsmend.causes import AFTER_SECONDS, BEFORE_SECONDS
from opsmend.compose import pipeline_config
from opsmend.config import Settings
from opsmend.evaluate.rca_cases import CaseError, cases_to_learn_from
from opsmend.store import tables as t
from opsmend.store.engine import open_engine, reading
from opsmend.store.queries import Queries
from rootcause.adapt import stretches
from rootcause.graph import GraphBuilder
from rootcause.types import CaseWindow, ServiceGraph
from rootcause.window import case_window

WINDOWS = 48
_SETTLED_SECONDS = 300.0
"""After an incident, until its traces are gone from the rows."""


def recorded_calm(data: Path) -> list[CaseWindow]:
    """Of the case with the most fault-free rows among those not marked `test`, windows as long as its fault. Raises
    CaseError where there is none, where one can't be read, and for several systems: one adapts to one."""
    cases = cases_to_learn_from(data)
    systems = sorted({case.system for case in cases})
    if len(systems) != 1:
        raise CaseError(f"{data}: one system is needed, not {', '.join(systems)}")
    most = max((case.window for case in cases), key=lambda window: window.baseline_rows)
    base = most.baseline_rows
    usual = _rows(most, np.arange(len(most.ts_ns)) < base)
    return stretches(usual, len(most.ts_ns) - base, WINDOWS)


def stored_calm(settings: Settings) -> list[CaseWindow]:
    """Of what the service's store still holds, with the graph as it is now; rows of incidents, and from just after them,
    are left out. Raises StoreError."""
    engine = open_engine(settings.store_url)
    try:
        queries = Queries(engine)
        seen, incidents = queries.observations(0, 2**63 - 1), queries.incidents(limit=10_000)
        graph = _graph(engine, settings)
    finally:
        engine.dispose()
    return windows_of(seen, graph, incidents, settings.detect.bucket_seconds)


def windows_of(seen: Observations, graph: ServiceGraph, incidents: Sequence[Incident],
               bucket_seconds: float) -> list[CaseWindow]:
    """As long as those that are diagnosed: five minutes, and five before them."""
    if not len(seen.ts_ns):
        return []
    end = int(seen.ts_ns[-1]) + 10**10
    nothing = Incident("", "", "", end, end, "open", "info", "", (), (), (), end)
    whole = case_window(nothing, graph, seen, (), baseline_seconds=(end - int(seen.ts_ns[0])) / 1e9)
    calm = np.ones(len(whole.ts_ns), dtype=bool)
    for one in incidents:
        last = (one.closed_ns or end) + int(_SETTLED_SECONDS * 1e9)
        calm &= (whole.ts_ns < one.first_signal_ns - int(60e9)) | (whole.ts_ns > last)
    before, size = (max(2, int(seconds / bucket_seconds)) for seconds in (BEFORE_SECONDS, AFTER_SECONDS))
    return stretches(_rows(whole, calm), size, WINDOWS, before=before)


def _rows(window: CaseWindow, keep: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> CaseWindow:
    return replace(window.of_rows(keep, int(keep.sum())), changes=(), signals=())


def _graph(engine: sa.Engine, settings: Settings) -> ServiceGraph:
    builder = GraphBuilder(pipeline_config(settings).graph)
    with reading(engine) as c:
        row = c.execute(sa.select(t.stage_state.c.body).where(t.stage_state.c.stage == "graph")).first()
    if row is not None:
        builder.restore(row.body)
    return builder.graph()
