"""Event time of the distributed engine: told by the packers, followed by the shards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detect.buckets import Buckets, SeriesTable
from detect.templates.miner import TemplateMiner
from ingest.types import Batch

_ENOUGH_POLLS = 4
"""Polls without a record after which the partitions count as read to their end."""


class PackerClock:
    """How far event time has come for one packer, by the rule that a single process goes by: rows of broken clocks
    do not move it."""

    def __init__(self, bucket_ns: int) -> None:
        self._bucket_ns = bucket_ns
        self._time = Buckets(bucket_ns, 0, SeriesTable(0), TemplateMiner())
        self._empty = 0
        self._idle: set[tuple[str, int]] = set()

    @property
    def newest_ns(self) -> int:
        return self._time.newest_ns

    def take(self, batch: Batch) -> None:
        """Move on with the rows of a poll."""
        if batch.records_in:
            self._empty = 0
            self._idle.clear()
            self._time.advance(batch)

    def has_gone_idle(self, assigned: Sequence[tuple[str, int]]) -> bool:
        """A poll brought nothing: shall the shards be told not to wait for us? Once, until something comes again."""
        self._empty += 1
        if self._empty < _ENOUGH_POLLS or not self._time.is_known or set(assigned) <= self._idle:
            return False
        self._idle = set(assigned)
        return True

    def sources(self, assigned: Sequence[tuple[str, int]], *, is_idle: bool) -> dict[str, int]:
        """What each partition of ours is to be told as; they come side by side in time, so all have the same.
        Nothing as long as time is not known."""
        if not self._time.is_known:
            return {}
        return {f"{topic}/{partition}": 0 if is_idle else self.newest_ns for topic, partition in assigned}

    def touched(self, batch: Batch) -> tuple[int, ...]:
        """Numbers of buckets in which the batch has rows; sorted."""
        times = np.concatenate([
            batch.logs.ts_ns, batch.metrics.ts_ns, batch.traces.ts_ns,
            np.array([c.ts_ns for c in batch.changes], np.int64),
            np.array([max(a.starts_ns, self.newest_ns) for a in batch.alerts], np.int64)])
        return tuple(np.unique(times // self._bucket_ns).tolist())


class ShardClock:
    """How far all sources have come, as one shard was told."""

    def __init__(self, idle_seconds: float) -> None:
        self._idle_ns = int(idle_seconds * 1e9)
        self.newest_ns = 0
        self.sources: dict[str, int] = {}

    def hear(self, newest_ns: int, sources: dict[str, int]) -> None:
        """A packer told the time."""
        self.newest_ns = max(self.newest_ns, newest_ns)
        for source, at_ns in sources.items():
            self.sources[source] = max(at_ns, self.sources.get(source, 0)) if at_ns else 0

    @property
    def until_ns(self) -> int:
        """Nothing before this will come any more, as far as is known: the slowest source that still brings something,
        and is not so far behind that it has to be given up. All idle: the time of the last one that was not."""
        active = [at for at in self.sources.values() if at and at >= self.newest_ns - self._idle_ns]
        return min(active, default=self.newest_ns if self.sources else 0)
