"""What `ingest` hands on: columnar batches, and the watermark that says where they came from.

Many rows are frozen dataclasses of numpy columns; single records that are stored or sent are
`msgspec.Struct(frozen=True)`. Times are nanoseconds since the Unix epoch (`_ns`), always event time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import pairwise
from typing import Final, overload

import msgspec
import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Int64 = NDArray[np.int64]
Int32 = NDArray[np.int32]
Int8 = NDArray[np.int8]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]
Attributes = tuple[tuple[str, str], ...]
FRESH_NS: Final = 60 * 10**9
PEER_KINDS: Final = ("service", "database", "cache", "queue", "address")
"""What a span says of the other side of its call; `address`: a host name or address is all it says."""


class Level(IntEnum):
    """Log severity, the first number of each OpenTelemetry severity range; 0 is unset."""

    UNSET = 0
    TRACE = 1
    DEBUG = 5
    INFO = 9
    WARN = 13
    ERROR = 17
    FATAL = 21


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record as the transport delivered it."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    value: bytes
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


class DeadLetter(msgspec.Struct, frozen=True):
    """A record that could not be decoded. `reason` is a bounded word, `detail` is for people."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    reason: str
    detail: str
    value: bytes


@dataclass(frozen=True)
class Watermark:
    """Which offsets a batch came from: `(topic, partition) -> next offset to read`.

    Stored in the same transaction as the results the batch led to.
    """

    next_offsets: Mapping[tuple[str, int], int] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Iterable[Record]) -> Watermark:
        """The watermark that covers `records`, which are in order within each partition as consumers give them."""
        return cls({(r.topic, r.partition): r.offset + 1 for r in records})

    def merge(self, other: Watermark) -> Watermark:
        """The later of both, per partition."""
        offsets = dict(self.next_offsets)
        for at, offset in other.next_offsets.items():
            offsets[at] = max(offsets.get(at, 0), offset)
        return Watermark(offsets)

    def __bool__(self) -> bool:
        return bool(self.next_offsets)


class Texts(Sequence[str]):
    """Many texts in one buffer of UTF-8: text i is `buffer[offsets[i]:offsets[i + 1]]`. They become Python strings only
    for those who ask; the template miner reads the buffer."""

    def __init__(self, buffer: Bytes, offsets: Int64) -> None:
        self.buffer = buffer  # [m] uint8
        self.offsets = offsets  # [n + 1] int64, from 0 to m

    @classmethod
    def join(cls, parts: Sequence[Texts]) -> Texts:
        """All texts of `parts`, in order."""
        starts = np.cumsum([0, *(len(p.buffer) for p in parts)])
        offsets = [p.offsets[1:] + start for p, start in zip(parts, starts[:-1], strict=True)]
        return cls(np.concatenate([p.buffer for p in parts]), np.concatenate([np.zeros(1, np.int64), *offsets]))

    @classmethod
    def of(cls, texts: Sequence[str]) -> Texts:
        """Lone surrogates, which no UTF-8 can hold, become "?"."""
        encoded = [text.encode(errors="replace") for text in texts]
        offsets = np.zeros(len(texts) + 1, np.int64)
        np.cumsum([len(e) for e in encoded], out=offsets[1:])
        return cls(np.frombuffer(b"".join(encoded), np.uint8), offsets)

    def check(self) -> None:
        """Raises UnicodeDecodeError if a text is no UTF-8. Each alone must be, not only all together."""
        data = self.buffer.tobytes()
        if not data.isascii():
            for start, end in pairwise(self.offsets.tolist()):
                data[start:end].decode()

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        return self.buffer[self.offsets[at]:self.offsets[at + 1]].tobytes().decode()

    def __iter__(self) -> Iterator[str]:
        data, ends = self.buffer.tobytes(), self.offsets.tolist()
        pairs = pairwise(ends)
        if data.isascii():
            whole = data.decode()
            return (whole[a:b] for a, b in pairs)
        return (data[a:b].decode() for a, b in pairs)

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class LogBatch:
    """Log lines. All columns have length n; `service` and `instance` index into `vocab` (-1: unknown)."""

    ts_ns: Int64  # [n]
    service: Int32  # [n]
    instance: Int32  # [n]
    level: Int8  # [n], see Level
    text: Sequence[str]  # [n], a list or Texts
    trace_id: list[str]  # [n], "" where there is none
    vocab: tuple[str, ...]
    envelope: Mapping[int, Attributes] = field(default_factory=dict)
    """Row -> what the shipper's envelope said otherwise than the line inside it, which counts: `time_unix_nano`,
    `service`, `instance`, `severity`, `trace_id`. Few rows have any."""

    def __len__(self) -> int:
        return len(self.text)


class SeriesKey(msgspec.Struct, frozen=True):
    """One time series. `kind` is gauge, counter (cumulative) or delta; `labels` are sorted pairs.

    `peer` is the other service of a client-side (caller, peer) metric, "" otherwise.
    """

    service: str
    name: str
    instance: str = ""
    peer: str = ""
    unit: str = ""
    kind: str = "gauge"
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class MetricBatch:
    """Metric points. `series` indexes into `series_table`."""

    ts_ns: Int64  # [n]
    series: Int32  # [n]
    value: Float64  # [n], NaN marks "series ended" (Prometheus staleness)
    series_table: tuple[SeriesKey, ...]
    begun: Mapping[int, int] = field(default_factory=dict)
    """Series that say that they began less than FRESH_NS before a point of theirs: when, ns."""

    def __len__(self) -> int:
        return len(self.value)


@dataclass(frozen=True)
class TraceBatch:
    """Spans. `service` and `peer` index into `vocab`; `peer` is -1 where the span names none.

    Caller and callee come either from `peer` (client spans with `peer.service`) or from the
    parent/child pairs (`span_id`, `parent_id`) whose services differ; the graph builder joins them.
    """

    ts_ns: Int64  # [n] start
    service: Int32  # [n]
    peer: Int32  # [n]
    duration_us: Int64  # [n]
    is_error: Bool  # [n]
    kind: Int8  # [n] OpenTelemetry span kind: 1 internal 2 server 3 client 4 producer 5 consumer
    trace_id: list[str]  # [n]
    span_id: list[str]  # [n]
    parent_id: list[str]  # [n]
    vocab: tuple[str, ...]
    instance: Int32  # [n] index into vocab, of the process that made the span; -1: unknown
    operation: Int32  # [n] index into vocab, the span's name; -1: none
    peer_kind: Int8  # [n] index into PEER_KINDS

    def __len__(self) -> int:
        return len(self.span_id)


class CallWait(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What client spans last longer than the spans that answer them: the way there and back. Found by joining spans of
    two services, over `calls` calls that came together. Without a peer it is what the service works itself on so many
    requests; what comes late may take something back, over none."""

    ts_ns: int
    service: str
    peer: str
    seconds: float  # sum; below 0 where who answers goes on after its answer
    calls: int


class Placement(msgspec.Struct, frozen=True, gc=False):
    """Where an instance of a service runs, as its telemetry says it. "" is unknown."""

    service: str
    instance: str = ""
    host: str = ""  # the machine: k8s.node.name, host.name
    pod: str = ""
    namespace: str = ""
    workload: str = ""  # the Deployment, StatefulSet, ... that owns the pod
    volume: str = ""  # a claim, `namespace/name`


class Change(msgspec.Struct, frozen=True):
    """Somebody or something changed the system.

    `kind` is rollout, config, scale, start, exit or action; `ref` is the new version, `old` the
    former one; `actor` who did it (opsmend's own actions have the actor "opsmend").
    """

    ts_ns: int
    service: str
    kind: str
    ref: str = ""
    old: str = ""
    actor: str = ""
    instance: str = ""


class ExternalAlert(msgspec.Struct, frozen=True):
    """An alert of somebody else's rule (Alertmanager). `ends_ns` is 0 while it fires."""

    name: str
    service: str
    fingerprint: str
    status: str  # firing | resolved
    starts_ns: int
    ends_ns: int
    severity: str = ""
    instance: str = ""
    summary: str = ""
    group_key: str = ""
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Batch:
    """Everything decoded from one poll, with the watermark that covers it.

    `bytes_in` and `records_in` count what came from the transport; `records_in` equals the number of
    records decoded plus the dead letters.
    """

    logs: LogBatch
    metrics: MetricBatch
    traces: TraceBatch
    changes: tuple[Change, ...]
    alerts: tuple[ExternalAlert, ...]
    dead_letters: tuple[DeadLetter, ...]
    watermark: Watermark
    records_in: int = 0
    bytes_in: int = 0
    formats: Mapping[str, int] = field(default_factory=dict)  # format name -> records
    points_in: int = 0  # metric points as producers count them: a histogram is one, and becomes several rows
    placements: tuple[Placement, ...] = ()  # each once
    waits: tuple[CallWait, ...] = ()  # what the service graph adds
