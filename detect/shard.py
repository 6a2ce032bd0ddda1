"""Detection without convergence: rows in, judged buckets out. What can be spread over processes by service.

Every detector looks at one service at a time, so a shard that sees all rows of some services finds for them what a
single process that sees everything would.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from detect.buckets import Bucket, Buckets, SeriesTable
from detect.config import DetectionConfig
from detect.derive import Derivation
from detect.detectors.base import BucketWindow, Foretells
from detect.detectors.registry import make_detectors
from detect.forecaster.versions import ModelVersions
from detect.forecaster.weights import UsesForecaster, Weights
from detect.templates.miner import TemplateMiner
from detect.types import Signal
from detect.unjudged import Unjudged
from ingest.types import Batch, Float64, SeriesKey

Float32 = NDArray[np.float32]
_UNJUDGED: Final = "-unjudged"  # no detector has such a name


@dataclass(frozen=True)
class Judged:
    """One closed bucket: what was measured, and what is unusual about it."""

    number: int
    ts_ns: int
    values: Float64  # [s] by the shard's series table as of then, NaN: not reported
    signals: tuple[Signal, ...]
    forecast: Float32 | None = None  # [s, 3], see Observations.forecast
    unjudged: Mapping[SeriesKey, float] = field(default_factory=dict)  # see detect.unjudged


class ShardDetection:
    """Buckets, templates, derivation and detectors of some services; deterministic.

    Time is either its own (`step`: the newest row moves it), or told from outside (`follow` and `put`), where
    several shards must agree on which buckets there are and when they close.
    """

    def __init__(self, config: DetectionConfig) -> None:
        self.bucket_ns = int(config.bucket_seconds * 1e9)
        self.table = SeriesTable(config.max_series)
        self.miner = TemplateMiner(config.miner)
        self.buckets = Buckets(self.bucket_ns, int(config.allowed_lateness_seconds * 1e9), self.table, self.miner)
        self._derivation = Derivation(self.table, config.bucket_seconds)
        self._unjudged = Unjudged(config.bucket_seconds)
        limits = tuple(sorted(config.limits.items()))
        self._detectors = make_detectors(config.detectors, config.tenant, limits)
        self._is_judged = True
        if config.forecaster_dir:
            self.use_forecaster(ModelVersions(Path(config.forecaster_dir)).champion())

    def use_forecaster(self, weights: Weights) -> None:
        """Let every detector that forecasts go on with these weights."""
        self._is_judged = True
        for detector in self._detectors:
            if isinstance(detector, UsesForecaster):
                detector.use_weights(weights)

    def step(self, batch: Batch) -> list[Judged]:
        """Sort the rows in, and judge the buckets that this closes."""
        self.buckets.add(batch)
        return self._judge(self.buckets.closed())

    def follow(self, batch: Batch, newest_ns: int, until_ns: int, touched: tuple[int, ...]) -> list[Judged]:
        """The same by a clock from outside: `newest_ns` is the present, nothing before `until_ns` will come any
        more, and `touched` are numbers of buckets in which some shard has rows."""
        self.buckets.follow(newest_ns, touched)
        self.buckets.put(batch)
        return self._judge(self.buckets.closed(until_ns=until_ns))

    def flush(self) -> list[Judged]:
        """Close every bucket, complete or not: the end of the input."""
        return self._judge(self.buckets.closed(everything=True))

    def _judge(self, closed: list[tuple[int, Bucket]]) -> list[Judged]:
        judged = []
        for number, bucket in closed:
            self._is_judged = True
            window = self._window(number * self.bucket_ns, bucket)
            signals = tuple(signal for detector in self._detectors for signal in detector.step(window))
            told = next((d.foretold() for d in self._detectors if isinstance(d, Foretells)), None)
            beside = self._unjudged.values(window.ts_ns, bucket, window.log_counts, window.merged, self.miner.text)
            judged.append(Judged(number, window.ts_ns, window.values, signals, told, {**self._derivation.waits, **beside}))
        return judged

    def _window(self, ts_ns: int, bucket: Bucket) -> BucketWindow:
        values = self._derivation.row(bucket, ts_ns)
        counts: Counter[tuple[str, str]] = Counter()
        for service, templates in bucket.logs.items():
            for template_id, lines in templates.items():
                counts[service, self.miner.resolve(template_id)] += lines
        bad = frozenset((s, self.miner.resolve(t)) for s, templates in bucket.bad_logs.items() for t in templates)
        return BucketWindow(
            ts_ns=ts_ns, bucket_ns=self.bucket_ns, series=tuple(self.table.keys), values=values, log_counts=counts,
            error_templates=bad, templates={}, merged=tuple(self.miner.take_merged()),
            changes=tuple(sorted(bucket.changes, key=lambda c: (c.ts_ns, c.service))), alerts=tuple(bucket.alerts))

    def state_entries(self) -> dict[str, int]:
        """Entries of bounded state, by kind."""
        return {"series": len(self.table.keys), "templates": len(self.miner), "mix": len(self._unjudged)}

    def evictions(self) -> dict[str, int]:
        return {"series": self.table.refused, "templates": self.miner.evicted}

    def dump(self) -> dict[str, object]:
        """All state, for msgpack."""
        return {**self.dump_rows(), "detectors": self.dump_detectors()}

    def dump_rows(self) -> dict[str, object]:
        """What every row may change."""
        return {
            "table": self.table.keys, "miner": self.miner.dump(), "buckets": self.buckets.dump(),
            "counters": self._derivation.counters, "log_services": sorted(self._derivation._log_services),
            "counted": [(*pair, at) for pair, at in self._derivation.counted.items()],
            "listening": self._derivation.listening_ns}

    def dump_detectors(self) -> dict[str, bytes]:
        """What only a closed bucket changes, and most of it all: kilobytes a series."""
        return {**{d.name: d.snapshot() for d in self._detectors},
                _UNJUDGED: msgspec.msgpack.encode(self._unjudged.dump())}

    def take_judged(self) -> bool:
        """Whether the detectors' state may have changed since this was asked last."""
        judged, self._is_judged = self._is_judged, False
        return judged

    def load(self, state: Mapping[str, object]) -> None:
        """Go on from `dump`, as msgpack gave it back."""
        self.table.load(msgspec.convert(state["table"], list[SeriesKey]))
        self.miner.load(state["miner"])
        self.buckets.load(msgspec.convert(state["buckets"], dict[str, object]))
        self._derivation.counters = msgspec.convert(state["counters"], dict[int, tuple[int, float]])
        self._derivation._log_services = set(msgspec.convert(state["log_services"], list[str]))
        # One of before this was kept has listened for as long as it has seen anything.
        self._derivation.listening_ns = msgspec.convert(state.get("listening", 1 if self.table.keys else 0), int)
        told = msgspec.convert(state.get("counted", []), list[tuple[str, str, int]])
        self._derivation.counted = {(service, peer): at for service, peer, at in told}
        self.load_detectors(msgspec.convert(state.get("detectors", {}), dict[str, bytes]))

    def load_detectors(self, snapshots: Mapping[str, bytes]) -> None:
        """Go on from `dump_detectors`."""
        self._is_judged = True
        for detector in self._detectors:
            if detector.name in snapshots:
                detector.restore(snapshots[detector.name])
        if _UNJUDGED in snapshots:
            self._unjudged.load(msgspec.msgpack.decode(snapshots[_UNJUDGED]))
