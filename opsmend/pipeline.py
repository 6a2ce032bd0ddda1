"""The composition root: the stages in the order of the diagram. Start reading here.

    records ──decode──► Batch ──graph──► ServiceGraph
                          └────detect──► signals, incidents, observations
                                            └──root cause──► diagnoses
    (results, stage states, watermark) ──► one transaction, in opsmend/runners/local.py
    (incident, diagnosis) ──► remediate, in opsmend/service.py

Synchronous and deterministic: it depends on its state and the batch alone, never on the wall clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from detect.forecaster.weights import Weights
from detect.stage import Detection, DetectionConfig
from detect.tenant import TenantDetection
from detect.types import DetectResult, Incident, Observations
from ingest.decode import Decoder, DecoderConfig
from ingest.types import Batch, Change, Record, Watermark
from opsmend.corrections import Correction, apply
from opsmend.history import History
from opsmend.retries import RetryConfig, RetryWindow
from opsmend.store.bodies import reading_state
from opsmend.store.records import StepResult
from rootcause.graph import GraphBuilder, GraphConfig
from rootcause.stage import RootCause, RootCauseConfig
from rootcause.types import Diagnosis, ServiceGraph

CLOSED_KEPT: Final = 100
"""The last incidents that closed, whose rows `rootcause.earlier` leaves out: as many are read back at a start, so that a
restart in a storm diagnoses as if there had been none."""


@dataclass(frozen=True)
class PipelineConfig:
    """The configuration of every stage."""

    decoder: DecoderConfig = DecoderConfig()
    retries: RetryConfig = RetryConfig()
    detection: DetectionConfig = DetectionConfig()
    graph: GraphConfig = GraphConfig()
    rootcause: RootCauseConfig = RootCauseConfig()
    history_seconds: float = 900.0
    """How much of the past root cause looks at."""
    diagnose_every_seconds: float = 1.0
    """An open incident is diagnosed again this often while signals join or change."""


class Pipeline:
    """`step(records)` runs every stage over one poll. `snapshot`/`restore` carry all state."""

    def __init__(self, config: PipelineConfig, *, on_diagnosed: Callable[[float], None] = lambda seconds: None,
                 detection: Detection | TenantDetection | None = None) -> None:
        self._config = config
        self._on_diagnosed = on_diagnosed  # how long each diagnosis took, for a metric alone
        self.retries = RetryWindow(config.retries)
        self._decoder = Decoder(config.decoder)
        self._graph_builder = GraphBuilder(config.graph)
        self.detection: Detection | TenantDetection = detection or Detection(config.detection)
        self._rootcause = RootCause(config.rootcause)
        self.history = History(config.history_seconds)
        self.graph = ServiceGraph((), frozenset())
        self.open_incidents: dict[str, Incident] = {}
        self.closed_incidents: dict[str, Incident] = {}  # of the recent past: their rows are not usual ones
        self._diagnosed_ns: dict[str, int] = {}

    def step(self, records: Sequence[Record]) -> StepResult:
        """Decode, build the graph, detect, diagnose. The caller commits what comes back."""
        fresh, first = self.retries.sift(records)
        batch = self._decoder.decode(fresh)
        self.graph = self._graph_builder.step(batch)
        result = self._whole.step(self._graph_builder.resolved(batch), calls=self.graph.edges, rests_on=self.graph.rests_on)
        origin = _origin(batch, result)
        if first or fresh is not records:
            repeated = len(records) - len(fresh)
            origin = replace(
                origin, watermark=Watermark.of(records), requests=first, forget_before_ms=self.retries.horizon_ms,
                totals={**origin.totals, "records": len(records), "duplicates": repeated})
        return self._conclude(origin, result)

    def use_forecaster(self, weights: Weights) -> None:
        """Forecast with these weights from the next bucket on; between two steps only."""
        if isinstance(self.detection, Detection):
            self.detection.use_forecaster(weights)

    def flush(self) -> StepResult:
        """Close every open bucket: the end of a replay."""
        result = self.detection.flush(calls=self.graph.edges, rests_on=self.graph.rests_on)
        return self._conclude(StepResult(Watermark(), {}), result)

    @property
    def _whole(self) -> Detection:
        if not isinstance(self.detection, Detection):
            raise TypeError("rows go to the shards of a tenant, not to the tenant itself")
        return self.detection

    def _conclude(self, origin: StepResult, result: DetectResult) -> StepResult:
        """`origin` says where the step came from and what it brought; added is what was concluded from it."""
        self.history.add(result.observations, tuple(origin.changes))
        self._note(result.incidents)
        diagnoses = self._diagnose(result.watermark_ns)
        return replace(origin, states=self.changed(), incidents=result.incidents, diagnoses=diagnoses,
                       observations=result.observations)

    def correct(self, correction: Correction) -> StepResult:
        """Do as a person said, between two steps. What is returned holds no records: the incidents that changed, and
        the state that knows of it."""
        changed = apply(correction, self.detection, self.graph.edges)
        self._note(changed)
        return StepResult(Watermark(), self.changed(), incidents=changed)

    def go_on_without(self, stages: Collection[str], incidents: Sequence[Incident], now_ns: int) -> None:
        """The states of these stages were lost: of `incidents`, which are open, none must stay so for want of somebody
        who knows of it. Once, after `restore`."""
        if "detect" in stages:
            self.detection.adopt(incidents)
        if "detectors" in stages and isinstance(self.detection, Detection):  # of a tenant the shards have them
            self.detection.orphan_signals(now_ns)

    def _note(self, incidents: Sequence[Incident]) -> None:
        for incident in incidents:
            if incident.state == "open":
                self.open_incidents[incident.id] = incident
            else:
                self.open_incidents.pop(incident.id, None)
                self._diagnosed_ns.pop(incident.id, None)
                self.closed_incidents[incident.id] = incident
        oldest = self.history.newest_ns - int(self._config.history_seconds * 1e9)
        recent = sorted((incident for incident in self.closed_incidents.values() if incident.closed_ns >= oldest),
                        key=lambda incident: (-incident.opened_ns, incident.id))
        self.closed_incidents = {incident.id: incident for incident in recent[:CLOSED_KEPT]}

    def _diagnose(self, now_ns: int) -> tuple[Diagnosis, ...]:
        """Diagnose the open incidents whose turn it is, in the order of their opening."""
        diagnoses = []
        every_ns = int(self._config.diagnose_every_seconds * 1e9)
        for incident in sorted(self.open_incidents.values(), key=lambda i: (i.opened_ns, i.id)):
            last = self._diagnosed_ns.get(incident.id, 0)
            if last and now_ns - last < every_ns:
                continue
            self._diagnosed_ns[incident.id] = now_ns
            began = time.perf_counter()
            diagnoses.append(self._rootcause.diagnose(
                incident, self.graph, self.history.observations(), self.history.changes(), now_ns,
                (*self.open_incidents.values(), *self.closed_incidents.values())))
            self._on_diagnosed(time.perf_counter() - began)
        return tuple(diagnoses)

    def snapshot(self) -> dict[str, bytes]:
        """All stage states, by name. What can be read back from the store (history, incidents) is not in it."""
        return {"graph": self._graph_builder.snapshot(), "detect": self.detection.snapshot()}

    def changed(self) -> dict[str, bytes]:
        """The states that a step must store. Those of the detectors are large and stay as they are until a bucket closes,
        that of the graph until something comes or goes; a batch comes many times as often."""
        graph = self._graph_builder.changed()
        detect = self.detection.changed() if isinstance(self.detection, Detection) else {"detect": self.detection.snapshot()}
        return detect if graph is None else {"graph": graph, **detect}

    def restore(self, states: Mapping[str, bytes], *, incidents: Sequence[Incident],
                observations: Observations, changes: Sequence[Change]) -> None:
        """Go on from a snapshot and what the store holds. Raises UnreadableState, and is of no use then."""
        if "graph" in states:
            with reading_state("graph"):
                self._graph_builder.restore(states["graph"])
                self.graph = self._graph_builder.graph()
        else:
            self.graph = self._graph_builder.graph()
        if "detect" in states:
            with reading_state("detect", "detectors"):  # the detectors' is by the numbers that series have in the other
                self.detection.restore(states["detect"])
        if "detectors" in states and isinstance(self.detection, Detection):
            with reading_state("detectors"):
                self.detection.restore_detectors(states["detectors"])
        self.history.add(observations, tuple(changes))
        self.open_incidents = {}
        self._note(incidents)


def _origin(batch: Batch, result: DetectResult) -> StepResult:
    return StepResult(watermark=batch.watermark, states={}, totals=totals(batch) | {"late": result.late_rows},
                      dead_letters=batch.dead_letters, changes=batch.changes)


def totals(batch: Batch) -> dict[str, int]:
    """What a batch counts as in the store's totals, but for the rows that came too late."""
    points = int(np.count_nonzero(~np.isnan(batch.metrics.value))) if len(batch.metrics) else 0
    return {"records": batch.records_in, "bytes": batch.bytes_in, "logs": len(batch.logs), "points": points,
            "spans": len(batch.traces), "alerts": len(batch.alerts), "changes": len(batch.changes),
            "dead": len(batch.dead_letters),
            **{f"format.{name}": count for name, count in batch.formats.items()}}


def with_models(config: PipelineConfig, **changes: object) -> PipelineConfig:
    """`config` with some stage configs replaced (a challenger model, a test's detector list)."""
    return replace(config, **changes)  # type: ignore[arg-type]
