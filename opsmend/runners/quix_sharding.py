"""From a batch to the rows of each shard. A service is in one shard, always the same; so are its series and spans."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from ingest.compiled import compiled
from ingest.types import Batch, Int64, LogBatch, MetricBatch, Texts, TraceBatch
from opsmend.runners.quix_envelope import VERSION, Envelope, LogColumns, MetricColumns, TraceColumns

_MAX_NAMES = 100_000


class Sharding:
    """`split(batch)`: who gets which rows. Cost: some 50 ns a line beside the copy of its text."""

    def __init__(self, tenant: str, shards: int, *, envelope_rows: int, envelope_bytes: int) -> None:
        self._tenant, self._shards = tenant, shards
        self._rows, self._bytes = envelope_rows, envelope_bytes
        self._known: dict[str, int] = {}

    def shard_of(self, service: str) -> int:
        """The shard of a service: from its name and the tenant's alone."""
        shard = self._known.get(service)
        if shard is None:
            digest = blake2b(f"{self._tenant}/{service}".encode(errors="replace"), digest_size=8).digest()
            shard = int.from_bytes(digest, "big") % self._shards
            if len(self._known) >= _MAX_NAMES:
                self._known.clear()
            self._known[service] = shard
        return shard

    def split(self, batch: Batch, newest_ns: int, sources: dict[str, int],
              touched: tuple[int, ...]) -> list[tuple[int, Envelope]]:
        """(shard, envelope); every shard gets one at least, if only to be told the time. The rows of a shard stay in
        order, and the last of its envelopes is the one that tells the time."""
        parts: list[list[LogColumns | MetricColumns | TraceColumns]] = [[] for _ in range(self._shards)]
        for columns in (self._logs(batch.logs), self._metrics(batch.metrics), self._traces(batch.traces)):
            for shard, column in columns:
                parts[shard].append(column)
        out = []
        for shard, columns_of in enumerate(parts):
            # Rows first and without the clock: only with the last envelope may buckets close.
            out += [(shard, _filled(Envelope(VERSION, newest_ns, {}, touched), column)) for column in columns_of[:-1]]
            last = Envelope(
                VERSION, newest_ns, sources, touched,
                changes=tuple(c for c in batch.changes if self.shard_of(c.service) == shard),
                alerts=tuple(a for a in batch.alerts if self.shard_of(a.service) == shard),
                waits=tuple(w for w in batch.waits if self.shard_of(w.service) == shard))
            out.append((shard, _filled(last, columns_of[-1]) if columns_of else last))
        return out

    def _chosen(self, names: tuple[str, ...], column: NDArray[np.int32]) -> Iterator[tuple[int, Int64]]:
        """(shard, its rows in order); a row without a name (-1) belongs to the service ""."""
        shard_of = np.array([self.shard_of(name) for name in (*names, "")], np.int32)
        shard = shard_of[column]
        order = np.argsort(shard, kind="stable")
        cuts = np.searchsorted(shard[order], np.arange(self._shards + 1))
        for number in np.flatnonzero(np.diff(cuts)).tolist():
            yield number, order[cuts[number]:cuts[number + 1]]

    def _logs(self, logs: LogBatch) -> Iterator[tuple[int, LogColumns]]:
        if len(logs) == 0:
            return
        texts = logs.text if isinstance(logs.text, Texts) else Texts.of(logs.text)
        for shard, rows in self._chosen(logs.vocab, logs.service):
            for piece in self._pieces(rows, np.diff(texts.offsets)[rows]):
                buffer, ends = gather(texts, piece)
                yield shard, LogColumns(
                    logs.ts_ns[piece].tobytes(), logs.service[piece].tobytes(), logs.level[piece].tobytes(),
                    buffer.tobytes(), ends.tobytes(), logs.vocab, logs.instance[piece].tobytes())

    def _pieces(self, rows: Int64, sizes: Int64) -> Iterator[Int64]:
        """No more rows and (but for a single larger one) no more bytes than an envelope shall have."""
        total = np.cumsum(sizes)
        start = 0
        while start < len(rows):
            before = int(total[start - 1]) if start else 0
            end = int(np.searchsorted(total, before + self._bytes, side="right"))
            end = min(max(end, start + 1), start + self._rows)
            yield rows[start:end]
            start = end

    def _metrics(self, metrics: MetricBatch) -> Iterator[tuple[int, MetricColumns]]:
        if len(metrics) == 0:
            return
        services = tuple(key.service for key in metrics.series_table)
        for shard, rows in self._chosen(services, metrics.series):
            for piece in self._pieces(rows, np.full(len(rows), 200)):
                used, series = np.unique(metrics.series[piece], return_inverse=True)
                yield shard, MetricColumns(
                    metrics.ts_ns[piece].tobytes(), series.astype(np.int32).tobytes(),
                    metrics.value[piece].tobytes(), tuple(metrics.series_table[i] for i in used.tolist()),
                    {n: metrics.begun[i] for n, i in enumerate(used.tolist()) if i in metrics.begun})

    def _traces(self, traces: TraceBatch) -> Iterator[tuple[int, TraceColumns]]:
        if len(traces) == 0:
            return
        for shard, rows in self._chosen(traces.vocab, traces.service):
            for piece in self._pieces(rows, np.full(len(rows), 100)):
                yield shard, TraceColumns(
                    traces.ts_ns[piece].tobytes(), traces.service[piece].tobytes(), traces.peer[piece].tobytes(),
                    traces.duration_us[piece].tobytes(), traces.is_error[piece].tobytes(),
                    traces.kind[piece].tobytes(), traces.vocab, traces.instance[piece].tobytes(),
                    traces.operation[piece].tobytes())


def _filled(envelope: Envelope, column: LogColumns | MetricColumns | TraceColumns) -> Envelope:
    from msgspec.structs import replace

    if isinstance(column, LogColumns):
        return replace(envelope, logs=column)
    return replace(envelope, metrics=column) if isinstance(column, MetricColumns) else replace(envelope, traces=column)


def gather(texts: Texts, rows: Int64) -> tuple[NDArray[np.uint8], Int64]:
    """The texts of some rows one after the other, and where each begins: [m], [n + 1]."""
    starts = texts.offsets[:-1][rows]
    sizes = texts.offsets[1:][rows] - starts
    ends = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(sizes, out=ends[1:])
    buffer = np.empty(int(ends[-1]), np.uint8)
    _copy(texts.buffer, starts.astype(np.int64), ends, buffer)
    return buffer, ends


@compiled("void(Array(uint8, 1, 'C', readonly=True), int64[::1], int64[::1], uint8[::1])")
def _copy(source: NDArray[np.uint8], starts: Int64, ends: Int64, target: NDArray[np.uint8]) -> None:
    for i in range(len(starts)):
        at, size = starts[i], ends[i + 1] - ends[i]
        target[ends[i]:ends[i + 1]] = source[at:at + size]
