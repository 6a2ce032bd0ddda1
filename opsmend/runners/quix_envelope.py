"""What goes through the topics of the distributed engine: envelopes to the shards, and what is told to the tenant.

One record carries hundreds of rows as columns. msgpack with a version in front, never pickle: a record of another
version is refused by name instead of being misread.
"""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from detect.tenant import ShardNews
from ingest.errors import OpsmendError
from ingest.types import (
    Batch,
    CallWait,
    Change,
    DeadLetter,
    ExternalAlert,
    LogBatch,
    MetricBatch,
    SeriesKey,
    Texts,
    TraceBatch,
    Watermark,
)

VERSION: Final = 1
_Number = TypeVar("_Number", bound=np.generic)


class EnvelopeError(OpsmendError):
    """A record on one of our own topics is not ours, or of another version of opsmend."""

    reason = "envelope"


class LogColumns(msgspec.Struct, array_like=True, frozen=True):
    """Columns of `LogBatch` as the bytes of little-endian arrays."""

    ts_ns: bytes  # int64[n]
    service: bytes  # int32[n]
    level: bytes  # int8[n]
    text: bytes  # UTF-8, one after the other
    ends: bytes  # int64[n + 1], where each text begins and the last one ends
    vocab: tuple[str, ...]
    instance: bytes = b""  # int32[n]


class MetricColumns(msgspec.Struct, array_like=True, frozen=True):
    """Columns of `MetricBatch`."""

    ts_ns: bytes  # int64[n]
    series: bytes  # int32[n]
    value: bytes  # float64[n]
    table: tuple[SeriesKey, ...]
    begun: dict[int, int] = {}  # see MetricBatch


class TraceColumns(msgspec.Struct, array_like=True, frozen=True):
    """Columns of `TraceBatch`, without the ids: callers and callees were joined before."""

    ts_ns: bytes  # int64[n]
    service: bytes  # int32[n]
    peer: bytes  # int32[n]
    duration_us: bytes  # int64[n]
    is_error: bytes  # bool[n]
    kind: bytes  # int8[n]
    vocab: tuple[str, ...]
    instance: bytes = b""  # int32[n]
    operation: bytes = b""  # int32[n]


class Envelope(msgspec.Struct, array_like=True, frozen=True):
    """Rows of one shard from one poll of a packer, and how late it is there.

    `sources` tells for each partition of the raw topics that the packer reads how far event time has come in it;
    0: nothing waits in it, so nobody has to wait for it. Every shard is told whenever time goes on.
    """

    version: int
    newest_ns: int
    sources: dict[str, int]  # "topic/partition" -> event time, ns
    touched: tuple[int, ...] = ()  # numbers of buckets in which some shard has rows of this poll
    logs: LogColumns | None = None
    metrics: MetricColumns | None = None
    traces: TraceColumns | None = None
    changes: tuple[Change, ...] = ()
    alerts: tuple[ExternalAlert, ...] = ()
    waits: tuple[CallWait, ...] = ()


class Packed(msgspec.Struct, frozen=True, tag="packed"):
    """What the tenant has to know of one poll of a packer: what was counted, refused and seen of the graph."""

    totals: dict[str, int] = {}
    dead_letters: tuple[DeadLetter, ...] = ()
    changes: tuple[Change, ...] = ()
    services: tuple[str, ...] = ()
    edges: tuple[tuple[str, str], ...] = ()
    seen_ns: int = 0
    version: int = VERSION
    kinds: tuple[tuple[str, str], ...] = ()
    rests_on: tuple[tuple[str, str, str], ...] = ()
    instances: tuple[tuple[str, str, str], ...] = ()


class Judgement(msgspec.Struct, frozen=True, tag="judgement"):
    """What a shard has closed."""

    news: ShardNews
    dead_letters: tuple[DeadLetter, ...] = ()
    version: int = VERSION


_envelopes = msgspec.msgpack.Decoder(Envelope)
_told = msgspec.msgpack.Decoder(Packed | Judgement)
encode = msgspec.msgpack.Encoder().encode


def open_envelope(data: bytes) -> Envelope:
    """Raises EnvelopeError for what is none of this version."""
    try:
        envelope = _envelopes.decode(data)
    except msgspec.DecodeError as error:
        raise EnvelopeError(f"not an envelope of version {VERSION}: {error}") from error
    if envelope.version != VERSION:
        raise EnvelopeError(f"an envelope of version {envelope.version}; this opsmend reads version {VERSION}")
    return envelope


def open_told(data: bytes) -> Packed | Judgement:
    """Raises EnvelopeError for what is none of this version."""
    try:
        told: Packed | Judgement = _told.decode(data)
    except msgspec.DecodeError as error:
        raise EnvelopeError(f"not a message of version {VERSION} to a tenant: {error}") from error
    if told.version != VERSION:
        raise EnvelopeError(f"a message of version {told.version}; this opsmend reads version {VERSION}")
    return told


def rows_of(envelope: Envelope) -> Batch:
    """The rows as a batch; what detection does not look at (trace ids) is empty."""
    return Batch(
        logs=_logs(envelope.logs), metrics=_metrics(envelope.metrics), traces=_traces(envelope.traces),
        changes=envelope.changes, alerts=envelope.alerts, dead_letters=(), watermark=Watermark(), waits=envelope.waits)


def _logs(columns: LogColumns | None) -> LogBatch:
    c = columns or LogColumns(b"", b"", b"", b"", np.zeros(1, np.int64).tobytes(), ())
    ts_ns = _column(c.ts_ns, np.int64)
    texts = Texts(_column(c.text, np.uint8), _column(c.ends, np.int64))
    return LogBatch(ts_ns, _column(c.service, np.int32), _names(c.instance, len(ts_ns)), _column(c.level, np.int8), texts,
                    [""] * len(ts_ns), c.vocab)


def _metrics(columns: MetricColumns | None) -> MetricBatch:
    c = columns or MetricColumns(b"", b"", b"", ())
    return MetricBatch(_column(c.ts_ns, np.int64), _column(c.series, np.int32),
                       _column(c.value, np.float64), c.table, c.begun)


def _traces(columns: TraceColumns | None) -> TraceBatch:
    c = columns or TraceColumns(b"", b"", b"", b"", b"", b"", ())
    ts_ns = _column(c.ts_ns, np.int64)
    none = [""] * len(ts_ns)
    return TraceBatch(
        ts_ns, _column(c.service, np.int32), _column(c.peer, np.int32),
        _column(c.duration_us, np.int64), _column(c.is_error, np.bool_), _column(c.kind, np.int8),
        none, none, none, c.vocab, _names(c.instance, len(ts_ns)), _names(c.operation, len(ts_ns)),
        np.zeros(len(ts_ns), np.int8))


def _names(data: bytes, size: int) -> NDArray[np.int32]:
    """Nothing is known of it in what an opsmend before this column wrote."""
    return _column(data, np.int32) if data else np.full(size, -1, np.int32)


def _column(data: bytes, kind: type[_Number]) -> NDArray[_Number]:
    """A column of our own: compiled code does not take arrays that may not be written to."""
    return np.frombuffer(data, kind).copy()
