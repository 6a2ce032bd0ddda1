"""The live system as the pipeline last saw it: what `remediate` verifies against."""

from __future__ import annotations

from collections.abc import Sequence

from detect.types import Incident, Observations, Signal
from opsmend.runners.local import LocalRunner
from opsmend.store.queries import Queries
from rootcause.types import ServiceGraph


class LiveObserver:
    """Implements `remediate.ports.Observer` on the committed state: what is not stored is not seen."""

    def __init__(self, runner: LocalRunner, queries: Queries) -> None:
        self._runner = runner
        self._queries = queries

    def now_ns(self) -> int:
        return self._queries.newest_observation_ns()

    def window(self, start_ns: int, end_ns: int) -> Observations:
        return self._queries.observations(start_ns, end_ns)

    def open_signals(self, service: str) -> Sequence[Signal]:
        return [s for i in self._queries.incidents(state="open", limit=1000) for s in i.signals
                if s.is_open and service in (s.service, s.peer)]

    def incident(self, incident_id: str) -> Incident | None:
        return self._queries.incident(incident_id)

    def graph(self) -> ServiceGraph:
        return self._runner.pipeline.graph
