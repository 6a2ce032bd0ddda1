"""Where decoders put what they read: plain columns that become one Batch per poll."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np

from ingest.types import (
    FRESH_NS,
    Attributes,
    Change,
    ExternalAlert,
    Int8,
    Int32,
    Int64,
    Level,
    LogBatch,
    MetricBatch,
    Placement,
    SeriesKey,
    Texts,
    TraceBatch,
)

DEFAULT_ENTITY_FROM = ("service.name", "service", "k8s.deployment.name", "app", "job", "program")
UNKNOWN_SERVICE = "unknown"
MAX_VALUE = 1e100
MAX_STAMP_MS = 9_000_000_000_000
"""Later times of records than nanoseconds can tell are taken for this."""
_NAN = float("nan")

_LEVELS = {
    "trace": Level.TRACE, "debug": Level.DEBUG, "info": Level.INFO, "information": Level.INFO, "notice": Level.INFO,
    "warn": Level.WARN, "warning": Level.WARN, "error": Level.ERROR, "err": Level.ERROR, "severe": Level.ERROR,
    "fatal": Level.FATAL, "critical": Level.FATAL, "crit": Level.FATAL, "alert": Level.FATAL,
    "emerg": Level.FATAL, "panic": Level.FATAL, "emergency": Level.FATAL, "dpanic": Level.FATAL, "failure": Level.ERROR,
    "informational": Level.INFO, "log": Level.INFO, "config": Level.INFO, "success": Level.INFO, "verbose": Level.DEBUG,
    "fine": Level.DEBUG, "finer": Level.TRACE, "finest": Level.TRACE, "default": Level.UNSET,
    "t": Level.TRACE, "d": Level.DEBUG, "i": Level.INFO, "n": Level.INFO, "w": Level.WARN, "e": Level.ERROR,
    "f": Level.FATAL, "c": Level.FATAL,
}


def level_of(word: object) -> Level:
    """Severity from a word ("warn", "ERROR") or an OpenTelemetry number; UNSET if it is neither."""
    if isinstance(word, (int, float)) and not isinstance(word, bool):
        return number_level(int(word)) if 1 <= word <= 24 else Level.UNSET
    return _LEVELS.get(word.strip().lower(), Level.UNSET) if isinstance(word, str) else Level.UNSET


def number_level(number: int) -> Level:
    """The range of an OpenTelemetry severity number (1..24)."""
    if not 1 <= number <= 24:
        return Level.UNSET
    return Level((number - 1) // 4 * 4 + 1)


@dataclass(frozen=True)
class DecodeContext:
    """What a decoder may know besides the bytes."""

    timestamp_ns: int
    """The record's own time: used where the payload names none."""
    topic: str = ""
    headers: Mapping[str, bytes] = field(default_factory=dict)
    entity_from: Sequence[str] = DEFAULT_ENTITY_FROM
    is_changes: bool = False
    """The topic is declared to hold changes."""

    def service_of(self, fields: Mapping[str, object]) -> str:
        """The service, by the configured field names; the first that is there wins."""
        for name in self.entity_from:
            value = fields.get(name)
            if isinstance(value, str) and value:
                return value
        return UNKNOWN_SERVICE


@dataclass(frozen=True)
class LogColumns:
    """Many log lines at once, for decoders that don't go line by line; as in LogBatch, with names still to number."""

    ts_ns: Int64  # [n]
    service: Int32  # [n], see Rows.names
    level: Int8  # [n]
    text: Sequence[str]  # [n], a list or Texts
    instance: Int32 | None = None  # [n]
    trace_id: list[str] | None = None  # [n]
    envelope: Mapping[int, Attributes] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.text)


class NameTable(dict[str, int]):
    """Names to numbers, in the order in which they came; "" is -1."""

    def __missing__(self, name: str) -> int:
        if not name:
            return -1
        self[name] = number = len(self)
        return number


class Rows:
    """Columns that decoders append to. One per poll; `len()` counts rows of every kind."""

    def __init__(self) -> None:
        self.names = NameTable()
        self._series: dict[SeriesKey, int] = {}
        self._log: list[tuple[int, int, int, int, str, str]] = []
        self._log_blocks: list[LogColumns] = []  # older than what is in _log
        self._block_rows = 0
        self._envelope: dict[int, Attributes] = {}
        self._point: list[tuple[int, int, float]] = []
        self._begun: dict[int, int] = {}
        self._span: list[tuple[int, int, int, int, bool, int, str, str, str, int, int, int]] = []
        self._placements: dict[Placement, None] = {}
        self.changes: list[Change] = []
        self.alerts: list[ExternalAlert] = []
        self._expanded = 0

    def __len__(self) -> int:
        return self._block_rows + len(self._log) + len(self._point) + len(self._span) + len(self.changes) + len(self.alerts)

    def log_columns(self, block: LogColumns) -> None:
        """Append many lines; `service` and `instance` are numbers of `names`. A block is never cut off again."""
        self._seal()
        self._envelope.update((self._block_rows + i, said) for i, said in block.envelope.items())
        self._log_blocks.append(block)
        self._block_rows += len(block)

    def _seal(self) -> None:
        """Lines that came one by one become a block, so that the order stays."""
        if self._log:
            ts, service, instance, level, text, trace = _columns(self._log, 6)
            self._log_blocks.append(LogColumns(
                np.array(ts, np.int64), np.array(service, np.int32), np.array(level, np.int8), list(text),
                np.array(instance, np.int32), list(trace)))
            self._block_rows += len(self._log)
            self._log.clear()

    def log(self, ts_ns: int, service: str, text: str, *, instance: str = "", level: Level = Level.UNSET,
            trace_id: str = "", envelope: Attributes = ()) -> None:
        if envelope:
            self._envelope[self._block_rows + len(self._log)] = envelope
        self._log.append((ts_ns, self.names[service], self.names[instance], int(level), text, trace_id))

    def point(self, ts_ns: int, key: SeriesKey, value: float, *, is_extra: bool = False, start_ns: int = 0) -> None:
        """`is_extra`: one more row of a point that has one already (the sum of a histogram beside its count). `start_ns`:
        since when a counter counts, 0 where it does not say.

        What no sensor measures, beyond MAX_VALUE or infinite, is NaN from here on: its square must stay a number,
        or one written value would make every later bucket of the series fail.
        """
        if not -MAX_VALUE <= value <= MAX_VALUE:
            value = _NAN
        self._expanded += is_extra
        at = self._series.setdefault(key, len(self._series))
        self._point.append((ts_ns, at, value))
        if 0 < ts_ns - start_ns <= FRESH_NS:
            self._begun[at] = start_ns

    def span(self, ts_ns: int, service: str, peer: str, duration_us: int, *, is_error: bool, kind: int,
             trace_id: str, span_id: str, parent_id: str, instance: str = "", operation: str = "",
             peer_kind: int = 0) -> None:
        """`peer_kind` is an index into PEER_KINDS."""
        names = self.names
        self._span.append((ts_ns, names[service], names[peer], duration_us, is_error, kind, trace_id, span_id, parent_id,
                           names[instance], names[operation], peer_kind))

    def placement(self, where: Placement | None) -> None:
        """Where an instance runs; told again with every request, kept once."""
        if where is not None:
            self._placements[where] = None

    def mark(self) -> tuple[int, ...]:
        """How much is there; `cut` goes back to it when a record turns out to be broken halfway. A record that
        comes line by line never leaves a block behind in between."""
        return (len(self._log), len(self._point), len(self._span), len(self.changes), len(self.alerts),
                len(self.names), len(self._series), self._expanded, len(self._placements))

    def cut(self, mark: tuple[int, ...]) -> None:
        columns: tuple[list[Any], ...] = (self._log, self._point, self._span, self.changes, self.alerts)
        for column, length in zip(columns, mark[:5], strict=True):
            del column[length:]
        tables: tuple[dict[Any, Any], ...] = (self.names, self._series, self._placements)
        for table, length in zip(tables, (*mark[5:7], mark[8]), strict=True):
            while len(table) > length:
                table.popitem()
        self._begun = {at: start_ns for at, start_ns in self._begun.items() if at < mark[6]}
        self._expanded = mark[7]
        while self._envelope and next(reversed(self._envelope)) >= self._block_rows + len(self._log):
            self._envelope.popitem()

    @property
    def points_in(self) -> int:
        """Metric points as their producers count them."""
        return len(self._point) - self._expanded

    def logs(self) -> LogBatch:
        self._seal()
        blocks = self._log_blocks
        instances = [np.full(len(b), -1, np.int32) if b.instance is None else b.instance for b in blocks]
        traces = (b.trace_id or [""] * len(b) for b in blocks)
        return LogBatch(
            _joined([b.ts_ns for b in blocks], np.int64), _joined([b.service for b in blocks], np.int32),
            _joined(instances, np.int32), _joined([b.level for b in blocks], np.int8),
            _texts([b.text for b in blocks]), list(chain.from_iterable(traces)), tuple(self.names),
            self._envelope)

    def metrics(self) -> MetricBatch:
        ts, series, value = _columns(self._point, 3)
        return MetricBatch(np.array(ts, np.int64), np.array(series, np.int32), np.array(value, np.float64),
                           tuple(self._series), dict(self._begun))

    def traces(self) -> TraceBatch:
        ts, service, peer, duration, error, kind, trace, span, parent, instance, name, of = _columns(self._span, 12)
        return TraceBatch(np.array(ts, np.int64), np.array(service, np.int32), np.array(peer, np.int32),
                          np.array(duration, np.int64), np.array(error, np.bool_), np.array(kind, np.int8),
                          list(trace), list(span), list(parent), tuple(self.names), np.array(instance, np.int32),
                          np.array(name, np.int32), np.array(of, np.int8))

    def placements(self) -> tuple[Placement, ...]:
        return tuple(self._placements)


def _joined(parts: list[Any], dtype: type[np.generic]) -> Any:
    return np.concatenate(parts, dtype=dtype) if parts else np.empty(0, dtype)


def _texts(parts: Sequence[Sequence[str]]) -> Sequence[str]:
    if not any(isinstance(p, Texts) for p in parts):
        return list(chain.from_iterable(parts))
    return Texts.join([p if isinstance(p, Texts) else Texts.of(p) for p in parts])


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[Sequence[Any]]:
    return list(zip(*rows, strict=True)) if rows else [() for _ in range(width)]
