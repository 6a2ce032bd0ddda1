"""Records to one columnar batch; what can't be decoded becomes a dead letter, nothing is lost."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ingest.compression import expand
from ingest.errors import DecodeError
from ingest.schema_registry import SchemaRegistry, SchemaRegistryConfig, is_framed
from ingest.types import Batch, DeadLetter, Record, Watermark
from ingest.wire.json_lines import JsonLines
from ingest.wire.registry import FORMATS, WireFormat, format_named
from ingest.wire.rows import DEFAULT_ENTITY_FROM, MAX_STAMP_MS, DecodeContext, Rows

_SMALL_RUN: Final = 8
"""Fewer lines are not worth a block."""
_MAX_RUN_BYTES: Final = 1 << 20
"""Of records that are read together; a bigger record comes alone."""


@dataclass(frozen=True)
class DecoderConfig:
    """How records are read."""

    entity_from: tuple[str, ...] = DEFAULT_ENTITY_FROM
    """Which field names the service; the first that is there wins."""
    topic_formats: Mapping[str, str] = field(default_factory=dict)
    """Topic (or pattern) -> format name; others are recognised by their bytes."""
    topic_kinds: Mapping[str, str] = field(default_factory=dict)
    """Topic (or pattern) -> "changes" where every object is a change."""
    max_value_bytes: int = 64 * 1024 * 1024
    """Largest value, after decompression; a bigger one is a dead letter."""
    schema_registry: SchemaRegistryConfig = SchemaRegistryConfig()
    """Where the schemas of framed values are."""


class Decoder:
    """`decode(records) -> Batch`. Stateless but for a cache; never raises on what a record holds."""

    def __init__(self, config: DecoderConfig | None = None) -> None:
        self._config = config or DecoderConfig()
        self._formats = [(re.compile(topic), format_named(name)) for topic, name in self._config.topic_formats.items()]
        self._schemas = SchemaRegistry(self._config.schema_registry)
        self._lines = JsonLines(lambda line, context: _recognise(line, context).NAME)
        self._kinds = [(re.compile(topic), kind) for topic, kind in self._config.topic_kinds.items()]

    def __deepcopy__(self, memo: object) -> Decoder:
        """A decoder of the same configuration: what it caches (locks and connections among it) is nobody's state."""
        return Decoder(self._config)

    def decode(self, records: Sequence[Record]) -> Batch:
        """`records_in` = records decoded + dead letters, always."""
        rows, dead, formats = Rows(), list[DeadLetter](), Counter[str]()
        for run in _runs(records):
            self._decode_run(run, rows, dead, formats)
        return Batch(
            logs=rows.logs(), metrics=rows.metrics(), traces=rows.traces(), changes=tuple(rows.changes),
            alerts=tuple(rows.alerts), dead_letters=tuple(dead), watermark=Watermark.of(records),
            records_in=len(records), bytes_in=sum(len(r.value) for r in records), formats=dict(formats),
            points_in=rows.points_in, placements=rows.placements())

    def _decode_run(self, run: Sequence[Record], rows: Rows, dead: list[DeadLetter], formats: Counter[str]) -> None:
        """By the block where it can be, and down to single records where not."""
        if self._take_lines(run, rows, formats):
            return
        if len(run) > _SMALL_RUN:
            half = len(run) // 2
            self._decode_run(run[:half], rows, dead, formats)
            self._decode_run(run[half:], rows, dead, formats)
            return
        for record in run:
            mark = rows.mark()
            try:
                formats[self._decode_one(record, rows)] += 1
            except DecodeError as error:
                rows.cut(mark)
                dead.append(DeadLetter(record.topic, record.partition, record.offset, record.timestamp_ms,
                                       error.reason, str(error)[:500], record.value))

    def _take_lines(self, run: Sequence[Record], rows: Rows, formats: Counter[str]) -> bool:
        """True if these were JSON log lines, all of one shape, and are rows now."""
        first = run[0]
        if first.value[:1] != b"{" or len(first.value) > self._config.max_value_bytes:
            return False
        block = first.value if len(run) == 1 else b"\n".join([r.value for r in run])
        if len(run) < _SMALL_RUN and block.count(b"\n", 0, 20_000) < _SMALL_RUN - 1:
            return False
        context = self._context(first)
        chosen = self._chosen(first.topic)
        if context.is_changes or not context.headers.keys().isdisjoint(context.entity_from):
            return False
        name = self._lines.take(run, block, context, rows, "" if chosen is None else chosen.NAME)
        if name:
            formats[name] += len(run)
        return bool(name)

    def _context(self, record: Record) -> DecodeContext:
        return DecodeContext(
            timestamp_ns=max(0, min(record.timestamp_ms, MAX_STAMP_MS)) * 1_000_000, topic=record.topic,
            headers=dict(record.headers), entity_from=self._config.entity_from,
            is_changes=any(p.fullmatch(record.topic) and kind == "changes" for p, kind in self._kinds))

    def _chosen(self, topic: str) -> WireFormat | None:
        return next((f for p, f in self._formats if p.fullmatch(topic)), None)

    def _decode_one(self, record: Record, rows: Rows) -> str:
        context = self._context(record)
        value = self._uncompressed(record.value)
        if is_framed(value):
            value = self._schemas.unframe(value)
        found = self._chosen(record.topic) or _recognise(value, context)
        found.decode(value, context, rows)
        return found.NAME

    def _uncompressed(self, value: bytes) -> bytes:
        value = expand(value, self._config.max_value_bytes)
        if not value:
            raise DecodeError("empty value", reason="empty")
        return value


def _runs(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """Neighbours that may be read as one block: of one topic, without headers, each beginning as a JSON object does.
    All others come alone."""
    start, size = 0, 0
    is_block = False
    for at, record in enumerate(records):
        value = record.value
        size += len(value)
        if at > start and not (is_block and value[:1] == b"{" and size < _MAX_RUN_BYTES and not record.headers
                               and record.topic == records[start].topic):
            yield records[start:at]
            start = at
        if at == start:
            is_block, size = value[:1] == b"{" and not record.headers, len(value)
    if start < len(records):
        yield records[start:]


def _recognise(value: bytes, context: DecodeContext) -> WireFormat:
    return next(f for f in FORMATS.values() if f.recognise(value, context))
