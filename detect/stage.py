"""The detect stage: batches in; signals, incidents and observations out."""

from __future__ import annotations

import msgspec
import numpy as np

from detect.config import DetectionConfig
from detect.convergence.converge import Convergence
from detect.convergence.ground import RestsOn
from detect.corrections import Corrections
from detect.forecaster.weights import Weights
from detect.shard import Judged, ShardDetection
from detect.types import DetectResult, Incident, Observations, Signal
from ingest.types import Batch

__all__ = ["Detection", "DetectionConfig"]


class Detection(Corrections):
    """`step(batch, calls)`; deterministic: depends on its state and what it is given alone."""

    def __init__(self, config: DetectionConfig | None = None) -> None:
        self._c = config or DetectionConfig()
        self._shard = ShardDetection(self._c)
        self._convergence = Convergence(self._c.convergence, self._c.tenant)

    def step(self, batch: Batch, calls: frozenset[tuple[str, str]], rests_on: RestsOn = frozenset()) -> DetectResult:
        """Sort the rows in, and judge the buckets that this closes. `calls` are (caller, callee) pairs, `rests_on` (service,
        host or volume)."""
        late_before = self._shard.buckets.late
        judged = self._shard.step(batch)
        return self._converge(judged, calls, rests_on, self._shard.buckets.late - late_before)

    def use_forecaster(self, weights: Weights) -> None:
        """Go on with these weights; between two steps only."""
        self._shard.use_forecaster(weights)

    def flush(self, calls: frozenset[tuple[str, str]], rests_on: RestsOn = frozenset()) -> DetectResult:
        """Close every bucket, complete or not: the end of the input."""
        return self._converge(self._shard.flush(), calls, rests_on, 0)

    def _converge(self, judged: list[Judged], calls: frozenset[tuple[str, str]], rests_on: RestsOn, late: int) -> DetectResult:
        signals: dict[str, Signal] = {}
        incidents: dict[str, Incident] = {}
        for bucket in judged:
            signals.update((s.id, s) for s in bucket.signals)
            incidents.update((i.id, i) for i in self._convergence.step(bucket.ts_ns, bucket.signals, calls, rests_on))
        heard = self._shard.table.keys
        keys = list(dict.fromkeys([*heard, *(key for bucket in judged for key in bucket.unjudged)]))
        column = {key: n for n, key in enumerate(keys)} if len(keys) > len(heard) else {}
        table = np.full((len(judged), len(keys)), np.nan)
        told = np.full((len(judged), len(keys), 3), np.nan, np.float32)
        for i, bucket in enumerate(judged):
            table[i, : len(bucket.values)] = bucket.values
            for key, value in bucket.unjudged.items():
                table[i, column[key]] = value
            if bucket.forecast is not None:
                told[i, : len(bucket.forecast)] = bucket.forecast
        seen = Observations(np.array([b.ts_ns for b in judged], dtype=np.int64), tuple(keys), table, told)
        until = self._shard.buckets.closed_until * self._shard.bucket_ns
        return DetectResult(tuple(signals.values()), tuple(incidents.values()), seen, until, late)

    def template_text(self, template_id: str) -> str:
        """The template as it stands now."""
        return self._shard.miner.text(template_id)

    def state_entries(self) -> dict[str, int]:
        """Entries of bounded state, by kind."""
        return {**self._shard.state_entries(), "incidents": len(self._convergence)}

    def evictions(self) -> dict[str, int]:
        return self._shard.evictions()

    def snapshot(self) -> bytes:
        """All state, as msgpack."""
        return msgspec.msgpack.encode({**self._shard.dump(), "convergence": self._convergence.dump()})

    def changed(self) -> dict[str, bytes]:
        """What is new of the state since this was asked last: `detect`, and `detectors` only if a bucket was closed. To be
        stored over what was stored before, all of it or nothing; `restore` takes both."""
        rows = msgspec.msgpack.encode({**self._shard.dump_rows(), "convergence": self._convergence.dump()})
        if not self._shard.take_judged():
            return {"detect": rows}
        return {"detect": rows, "detectors": msgspec.msgpack.encode(self._shard.dump_detectors())}

    def restore(self, data: bytes) -> None:
        """Go on from `snapshot`, or from the part `detect` of `changed`."""
        state = msgspec.msgpack.decode(data)
        self._shard.load(state)
        self._convergence.load(state["convergence"])

    def restore_detectors(self, data: bytes) -> None:
        """The other part of `changed`, after `restore`."""
        self._shard.load_detectors(msgspec.msgpack.decode(data, type=dict[str, bytes]))
