"""Event-time buckets: rows wait until the watermark has passed their bucket, then it closes for good."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from detect.counts import count_by
from detect.templates.miner import TemplateMiner
from ingest.types import (
    Batch,
    Change,
    ExternalAlert,
    Int32,
    Int64,
    Level,
    LogBatch,
    MetricBatch,
    SeriesKey,
    TraceBatch,
)

_SKEW_NS = 300 * 10**9
_SERVER = 2
_REQUESTS = (_SERVER, 5)
"""Kinds of spans that answer somebody: server, consumer."""
_ENOUGH = 20
"""Rows in a row that agree before time is believed to have started, or to have jumped."""


class Bucket(msgspec.Struct):
    """What one bucket has gathered so far. Maps are keyed by things that msgpack can key."""

    points: dict[int, tuple[int, float]] = {}  # series -> (time, newest value)
    sums: dict[int, float] = {}  # delta series -> sum
    logs: dict[str, dict[str, int]] = {}  # service -> template id -> lines
    bad_logs: dict[str, dict[str, int]] = {}  # the same, WARN and above
    errors: dict[str, int] = {}  # service -> lines at ERROR and above
    spans: dict[str, list[tuple[int, bool]]] = {}  # "service" or "service\x1fpeer" -> (duration_us, failed)
    changes: list[Change] = []
    alerts: list[ExternalAlert] = []
    asked: dict[str, int] = {}  # service -> requests (server and consumer spans)
    made: dict[str, dict[str, int]] = {}  # service -> "peer\x1foperation" of other spans of it -> count
    instances: dict[str, list[float]] = {}
    """"service\x1finstance" -> server spans, failed ones, their microseconds; log lines, those at ERROR and above"""
    waits: dict[str, list[float]] = {}  # "service\x1fpeer" -> seconds on the way, calls
    begun: dict[int, int] = {}  # series -> since when it counts, where it says so and it is not long ago


class SeriesTable:
    """The series of the stage: an index per key that never changes."""

    def __init__(self, max_series: int) -> None:
        self.keys: list[SeriesKey] = []
        self._at: dict[SeriesKey, int] = {}
        self._max = max_series
        self.refused = 0

    def index(self, key: SeriesKey) -> int:
        """The index of a series; -1 when the table is full (counted in `refused`)."""
        at = self._at.get(key)
        if at is None:
            if len(self.keys) >= self._max:
                self.refused += 1
                return -1
            at = self._at[key] = len(self.keys)
            self.keys.append(key)
        return at

    def find(self, key: SeriesKey) -> int:
        """As `index`, for a series that is not added; -1 where there is none."""
        return self._at.get(key, -1)

    def load(self, keys: list[SeriesKey]) -> None:
        self.keys = keys
        self._at = {key: at for at, key in enumerate(keys)}


class Buckets:
    """Sorts the rows of batches into buckets and hands out the closed ones in order."""

    def __init__(self, bucket_ns: int, lateness_ns: int, table: SeriesTable, miner: TemplateMiner) -> None:
        self._bucket_ns = bucket_ns
        self._lateness_ns = lateness_ns
        self._table = table
        self._miner = miner
        self._open: dict[int, Bucket] = {}
        self.newest_ns = 0
        self.closed_until = 0  # number of the first bucket that is still open
        self.late = 0
        self._first: list[int] = []  # times of the first rows, until there are enough
        self._far = 0  # rows beyond the skew since the last one within it

    def add(self, batch: Batch) -> None:
        """Move time on, and put every row into its bucket."""
        self.advance(batch)
        self.put(batch)

    @property
    def is_known(self) -> bool:
        """Have enough rows come to believe the time?"""
        return len(self._first) >= _ENOUGH

    def follow(self, newest_ns: int, touched: Iterable[int]) -> None:
        """Time comes from outside, and so do the numbers of buckets that others have rows of."""
        self._first = [newest_ns] * _ENOUGH
        self.newest_ns = max(self.newest_ns, newest_ns)
        limit = (self.newest_ns + _SKEW_NS) // self._bucket_ns
        for number in touched:
            if self.closed_until <= number <= limit:
                self._open_bucket(number)

    def put(self, batch: Batch) -> None:
        """Put every row into its bucket; rows of closed buckets are counted as late."""
        if len(batch.metrics):
            self._metrics(batch.metrics)
        if len(batch.logs):
            self._logs(batch.logs)
        if len(batch.traces):
            self._traces(batch.traces)
            self._count_spans(batch.traces)
        for wait in batch.waits:
            if (bucket := self._bucket(wait.ts_ns, is_rare=True)) is not None:
                there = bucket.waits.setdefault(f"{wait.service}\x1f{wait.peer}", [0.0, 0.0])
                there[0] += wait.seconds
                there[1] += wait.calls
        for change in batch.changes:
            if (bucket := self._bucket(change.ts_ns, is_rare=True)) is not None:
                bucket.changes.append(change)
        for alert in batch.alerts:
            # By its own time, so that the cut into batches does not move it; where that bucket is closed (its startsAt
            # may lie hours back), in the first that is open.
            at_ns = alert.ends_ns if alert.status == "resolved" and alert.ends_ns else alert.starts_ns
            if (bucket := self._bucket(at_ns, is_rare=True)) is not None:
                bucket.alerts.append(alert)

    def advance(self, batch: Batch) -> None:
        """Move event time forward. A row far in the future (a broken clock) must not close everything: only
        rows within five minutes of the present move it, unless twenty in a row are beyond (a real gap).
        Time starts at the median of the first twenty rows, so that the very first clock may be wrong too."""
        times = np.concatenate([batch.logs.ts_ns, batch.metrics.ts_ns, batch.traces.ts_ns])
        if len(times) == 0:
            times = np.array([c.ts_ns for c in batch.changes] + [a.starts_ns for a in batch.alerts], dtype=np.int64)
        if len(times) == 0:
            return
        if len(self._first) < _ENOUGH:
            self._first.extend(times.tolist()[: _ENOUGH - len(self._first)])
            self.newest_ns = int(np.sort(self._first)[(len(self._first) - 1) // 2])
            if len(self._first) < _ENOUGH:
                return
            self._drop_beyond()
        near = times[times <= self.newest_ns + _SKEW_NS]
        if len(near):
            self._far = 0
            self.newest_ns = max(self.newest_ns, int(near.max()))
            return
        self._far += len(times)
        if self._far >= _ENOUGH:
            self._far = 0
            self.newest_ns = int(np.median(times))

    def _drop_beyond(self) -> None:
        """Rows of broken clocks that came in before time was known."""
        for number in [n for n in self._open if n * self._bucket_ns > self.newest_ns + _SKEW_NS]:
            del self._open[number]
            self.late += 1

    def _bucket(self, ts_ns: int, *, is_rare: bool = False) -> Bucket | None:
        number = ts_ns // self._bucket_ns
        if number < self.closed_until:
            if not is_rare:
                self.late += 1
                return None
            number = self.closed_until  # changes and alerts are facts: late ones count now
        if ts_ns > self.newest_ns + _SKEW_NS and len(self._first) >= _ENOUGH:
            self.late += 1
            return None
        return self._open_bucket(number)

    def _open_bucket(self, number: int) -> Bucket:
        bucket = self._open.get(number)
        if bucket is None:
            bucket = self._open[number] = Bucket()
        return bucket

    def _metrics(self, batch: MetricBatch) -> None:
        index = [self._table.index(key) for key in batch.series_table]
        deltas = {i for i, key in enumerate(batch.series_table) if key.kind == "delta"}
        for ts, i, value in zip(batch.ts_ns.tolist(), batch.series.tolist(), batch.value.tolist(), strict=True):
            bucket = self._bucket(ts)
            at = index[i]
            if bucket is None or at < 0 or value != value:
                continue
            if i in deltas:
                bucket.sums[at] = bucket.sums.get(at, 0.0) + value
            else:
                there = bucket.points.get(at)
                if there is None or (ts, value) > there:
                    bucket.points[at] = (ts, value)
                if i in batch.begun:
                    bucket.begun[at] = batch.begun[i]

    def _logs(self, batch: LogBatch) -> None:
        number = batch.ts_ns // self._bucket_ns
        is_kept = number >= self.closed_until
        if len(self._first) >= _ENOUGH:
            is_kept &= batch.ts_ns <= self.newest_ns + _SKEW_NS
        service, level, instance, texts = batch.service, batch.level, batch.instance, batch.text
        if not is_kept.all():
            self.late += int(np.count_nonzero(~is_kept))
            kept = np.flatnonzero(is_kept)
            number, service, level, instance = number[kept], service[kept], level[kept], instance[kept]
            texts = [texts[i] for i in kept.tolist()]
        if not texts:
            return
        template = self._miner.numbers(texts, service, batch.vocab)
        for at, name, found, lines in self._counted(number, service, template, batch.vocab):
            _add(self._open_bucket(at).logs, name, found, lines)
        bad = np.flatnonzero(level >= Level.WARN)
        for at, name, found, lines in self._counted(number[bad], service[bad], template[bad], batch.vocab):
            _add(self._open_bucket(at).bad_logs, name, found, lines)
        failed = np.flatnonzero(level >= Level.ERROR)
        for at, name, _, lines in self._counted(number[failed], service[failed], template[failed], batch.vocab):
            errors = self._open_bucket(at).errors
            errors[name] = errors.get(name, 0) + lines
        known = np.flatnonzero((instance >= 0) & (service >= 0))
        for column, rows in ((3, known), (4, np.intersect1d(known, failed, assume_unique=True))):
            for at, i, j, lines in count_by(number[rows], service[rows], instance[rows]):
                self._instance(at, f"{batch.vocab[i]}\x1f{batch.vocab[j]}")[column] += lines

    def _instance(self, number: int, name: str) -> list[float]:
        return self._open_bucket(number).instances.setdefault(name, [0.0] * 5)

    def _counted(self, number: Int64, service: Int32, template: Int32,
                 names: tuple[str, ...]) -> Iterator[tuple[int, str, str, int]]:
        """(bucket, service, template id, lines)."""
        ids: dict[int, str] = {}
        for at, i, t, lines in count_by(number, service, template):
            if t not in ids:
                ids[t] = self._miner.id_of(t)
            yield at, names[i] if i >= 0 else "", ids[t], lines

    def _traces(self, batch: TraceBatch) -> None:
        names = batch.vocab
        for ts, service, peer, kind, duration, failed in zip(
                batch.ts_ns.tolist(), batch.service.tolist(), batch.peer.tolist(), batch.kind.tolist(),
                batch.duration_us.tolist(), batch.is_error.tolist(), strict=True):
            bucket = self._bucket(ts)
            if bucket is None or service < 0:
                continue
            if kind == 2:
                bucket.spans.setdefault(names[service], []).append((duration, failed))
            elif kind == 3 and peer >= 0:
                bucket.spans.setdefault(f"{names[service]}\x1f{names[peer]}", []).append((duration, failed))

    def _count_spans(self, batch: TraceBatch) -> None:
        """What services are asked and make of it, and what each of their instances answers; late spans are left out."""
        number = batch.ts_ns // self._bucket_ns
        is_kept = (number >= self.closed_until) & (batch.service >= 0)
        if len(self._first) >= _ENOUGH:
            is_kept &= batch.ts_ns <= self.newest_ns + _SKEW_NS
        names = batch.vocab
        is_request = np.isin(batch.kind, _REQUESTS)
        for at, i, _, spans in _counted_by(number, batch.service, batch.service, is_kept & is_request):
            asked = self._open_bucket(at).asked
            asked[names[i]] = asked.get(names[i], 0) + spans
        width = len(names) + 1  # peer and operation as one column
        kind = (batch.peer.astype(np.int64) + 1) * width + batch.operation + 1
        for at, i, what, spans in _counted_by(number, batch.service, kind, is_kept & ~is_request):
            peer, operation = divmod(what, width)
            _add(self._open_bucket(at).made, names[i],
                 f"{names[peer - 1] if peer else ''}\x1f{names[operation - 1] if operation else ''}", spans)
        rows = np.flatnonzero(is_kept & (batch.kind == _SERVER) & (batch.instance >= 0))
        found, row = np.unique((number[rows] * width + batch.service[rows]) * width + batch.instance[rows],
                               return_inverse=True)
        sums = [np.bincount(row, weights, len(found)) for weights in (
            None, batch.is_error[rows].astype(float), batch.duration_us[rows].astype(float))]
        for which, *numbers in zip(found.tolist(), *(s.tolist() for s in sums), strict=True):
            pair, j = divmod(which, width)
            at, i = divmod(pair, width)
            there = self._instance(at, f"{names[i]}\x1f{names[j]}")
            for column, value in enumerate(numbers):
                there[column] += value

    def closed(self, *, everything: bool = False, until_ns: int | None = None) -> list[tuple[int, Bucket]]:
        """(number, bucket) of the buckets that are complete now, oldest first. Empty ones are left out.
        With `until_ns` the present counts as no later than that."""
        if len(self._first) < _ENOUGH and not everything:
            return []
        present_ns = self.newest_ns if until_ns is None else min(until_ns, self.newest_ns)
        until = (present_ns - self._lateness_ns) // self._bucket_ns
        if everything:
            until = max(self._open, default=until) + 1
        ready = sorted(number for number in self._open if number < until)
        self.closed_until = max(self.closed_until, until)
        return [(number, self._open.pop(number)) for number in ready]

    def dump(self) -> dict[str, object]:
        return {"open": [[n, b] for n, b in sorted(self._open.items())], "newest": self.newest_ns,
                "closed": self.closed_until, "late": self.late, "first": self._first, "far": self._far}

    def load(self, state: Mapping[str, object]) -> None:
        pairs = msgspec.convert(state["open"], list[tuple[int, Bucket]])
        self._open = dict(pairs)
        self.newest_ns = int(state["newest"])  # type: ignore[call-overload]
        self.closed_until = int(state["closed"])  # type: ignore[call-overload]
        self.late = int(state["late"])  # type: ignore[call-overload]
        self._first = msgspec.convert(state["first"], list[int])
        self._far = int(state["far"])  # type: ignore[call-overload]


def _counted_by(number: Int64, service: Int32, what: Int32 | Int64,
                chosen: NDArray[np.bool_]) -> Iterator[tuple[int, int, int, int]]:
    """(bucket, service, what, rows) over the chosen rows; `what` may be large numbers."""
    rows = np.flatnonzero(chosen)
    kinds, which = np.unique(what[rows], return_inverse=True)
    for at, i, k, n in count_by(number[rows], service[rows], which):
        yield at, i, int(kinds[k]), n


def _add(counts: dict[str, dict[str, int]], service: str, template_id: str, lines: int) -> None:
    of_service = counts.setdefault(service, {})
    of_service[template_id] = of_service.get(template_id, 0) + lines
