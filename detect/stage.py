"""The detect stage: batches in; signals, incidents and observations out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
import numpy as np

from detect.buckets import Bucket, Buckets, SeriesTable
from detect.convergence.converge import Convergence, ConvergenceConfig
from detect.derive import Derivation
from detect.detectors.base import BucketWindow
from detect.detectors.registry import make_detectors
from detect.templates.miner import MinerConfig, TemplateMiner
from detect.types import DetectResult, Incident, Observations, Signal
from ingest.types import Batch, SeriesKey


@dataclass(frozen=True)
class DetectionConfig:
    """How detection keeps time, what it watches, and its bounds."""

    tenant: str = "default"
    bucket_seconds: float = 10.0
    """The clock: one point per series and bucket."""
    allowed_lateness_seconds: float = 5.0
    """How long a bucket waits for late rows."""
    detectors: tuple[str, ...] = ()
    """Names; empty: all."""
    limits: Mapping[str, str | float] = field(default_factory=dict)
    max_series: int = 20_000
    miner: MinerConfig = field(default_factory=MinerConfig)
    convergence: ConvergenceConfig = field(default_factory=ConvergenceConfig)


class Detection:
    """`step(batch, calls)`; deterministic: depends on its state and what it is given alone."""

    def __init__(self, config: DetectionConfig | None = None) -> None:
        self._c = config or DetectionConfig()
        self._bucket_ns = int(self._c.bucket_seconds * 1e9)
        self._table = SeriesTable(self._c.max_series)
        self._miner = TemplateMiner(self._c.miner)
        self._buckets = Buckets(self._bucket_ns, int(self._c.allowed_lateness_seconds * 1e9), self._table, self._miner)
        self._derivation = Derivation(self._table, self._c.bucket_seconds)
        limits = tuple(sorted(self._c.limits.items()))
        self._detectors = make_detectors(self._c.detectors, self._c.tenant, limits)
        self._convergence = Convergence(self._c.convergence, self._c.tenant)

    def step(self, batch: Batch, calls: frozenset[tuple[str, str]]) -> DetectResult:
        """Sort the rows in, and judge the buckets that this closes. `calls` are (caller, callee) pairs."""
        late_before = self._buckets.late
        self._buckets.add(batch)
        return self._judge(self._buckets.closed(), calls, self._buckets.late - late_before)

    def flush(self, calls: frozenset[tuple[str, str]]) -> DetectResult:
        """Close every bucket, complete or not: the end of the input."""
        return self._judge(self._buckets.closed(everything=True), calls, 0)

    def _judge(self, closed: list[tuple[int, Bucket]], calls: frozenset[tuple[str, str]], late: int) -> DetectResult:
        signals: dict[str, Signal] = {}
        incidents: dict[str, Incident] = {}
        rows = []
        for number, bucket in closed:
            window = self._window(number * self._bucket_ns, bucket)
            rows.append((window.ts_ns, window.values))
            fresh = [signal for detector in self._detectors for signal in detector.step(window)]
            signals.update((s.id, s) for s in fresh)
            incidents.update((i.id, i) for i in self._convergence.step(window.ts_ns, fresh, calls))
        table = np.full((len(rows), len(self._table.keys)), np.nan)
        for i, (_, values) in enumerate(rows):
            table[i, : len(values)] = values
        seen = Observations(np.array([ts for ts, _ in rows], dtype=np.int64), tuple(self._table.keys), table)
        until = self._buckets.closed_until * self._bucket_ns
        return DetectResult(tuple(signals.values()), tuple(incidents.values()), seen, until, late)

    def _window(self, ts_ns: int, bucket: Bucket) -> BucketWindow:
        values = self._derivation.row(bucket)
        counts = {(s, t): n for s, templates in bucket.logs.items() for t, n in templates.items()}
        bad = frozenset((s, t) for s, templates in bucket.bad_logs.items() for t in templates)
        return BucketWindow(
            ts_ns=ts_ns, bucket_ns=self._bucket_ns, series=tuple(self._table.keys), values=values, log_counts=counts,
            error_templates=bad, templates={},
            changes=tuple(sorted(bucket.changes, key=lambda c: (c.ts_ns, c.service))), alerts=tuple(bucket.alerts))

    def close_incident(self, incident_id: str) -> None:
        """A person said that it is none, or over."""
        self._convergence.close(incident_id)

    def split_incident(self, incident_id: str, signal_ids: set[str], new_id: str) -> None:
        """A person moved these signals into an incident of their own."""
        self._convergence.split(incident_id, signal_ids, new_id)

    def merge_incident(self, gone: str, into: str) -> None:
        """A person merged two incidents."""
        self._convergence.merge(gone, into)

    def template_text(self, template_id: str) -> str:
        """The template as it stands now."""
        return self._miner.text(template_id)

    def state_entries(self) -> dict[str, int]:
        """Entries of bounded state, by kind."""
        return {"series": len(self._table.keys), "templates": len(self._miner), "incidents": len(self._convergence)}

    def evictions(self) -> dict[str, int]:
        return {"series": self._table.refused, "templates": self._miner.evicted}

    def snapshot(self) -> bytes:
        """All state, as msgpack."""
        return msgspec.msgpack.encode({
            "table": self._table.keys, "miner": self._miner.dump(), "buckets": self._buckets.dump(),
            "counters": self._derivation.counters, "log_services": sorted(self._derivation._log_services),
            "detectors": {d.name: d.snapshot() for d in self._detectors}, "convergence": self._convergence.dump()})

    def restore(self, data: bytes) -> None:
        """Go on from `snapshot`."""
        state = msgspec.msgpack.decode(data)
        self._table.load(msgspec.convert(state["table"], list[SeriesKey]))
        self._miner.load(state["miner"])
        self._buckets.load(state["buckets"])
        self._derivation.counters = msgspec.convert(state["counters"], dict[int, tuple[int, float]])
        self._derivation._log_services = set(state["log_services"])
        for detector in self._detectors:
            if detector.name in state["detectors"]:
                detector.restore(state["detectors"][detector.name])
        self._convergence.load(state["convergence"])
