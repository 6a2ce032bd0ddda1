"""Records to one columnar batch; what can't be decoded becomes a dead letter, nothing is lost."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ingest.errors import DecodeError
from ingest.types import Batch, DeadLetter, Record, Watermark
from ingest.wire.registry import FORMATS, WireFormat, format_named
from ingest.wire.rows import DEFAULT_ENTITY_FROM, DecodeContext, Rows


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


class Decoder:
    """`decode(records) -> Batch`. Stateless but for a cache; never raises on what a record holds."""

    def __init__(self, config: DecoderConfig | None = None) -> None:
        self._config = config or DecoderConfig()
        self._formats = [(re.compile(topic), format_named(name)) for topic, name in self._config.topic_formats.items()]
        self._kinds = [(re.compile(topic), kind) for topic, kind in self._config.topic_kinds.items()]

    def decode(self, records: Sequence[Record]) -> Batch:
        """`records_in` = records decoded + dead letters, always."""
        rows, dead, formats = Rows(), [], Counter[str]()
        for record in records:
            mark = rows.mark()
            try:
                formats[self._decode_one(record, rows)] += 1
            except DecodeError as error:
                rows.cut(mark)
                dead.append(DeadLetter(record.topic, record.partition, record.offset, record.timestamp_ms,
                                       error.reason, str(error)[:500], record.value))
        return Batch(
            logs=rows.logs(), metrics=rows.metrics(), traces=rows.traces(), changes=tuple(rows.changes),
            alerts=tuple(rows.alerts), dead_letters=tuple(dead), watermark=Watermark.of(records),
            records_in=len(records), bytes_in=sum(len(r.value) for r in records), formats=dict(formats),
            points_in=rows.points_in)

    def _decode_one(self, record: Record, rows: Rows) -> str:
        context = DecodeContext(
            timestamp_ns=max(0, min(record.timestamp_ms, 9_000_000_000_000)) * 1_000_000, topic=record.topic,
            headers=dict(record.headers), entity_from=self._config.entity_from,
            is_changes=any(p.fullmatch(record.topic) and kind == "changes" for p, kind in self._kinds))
        value = self._uncompressed(record.value)
        chosen = next((f for p, f in self._formats if p.fullmatch(record.topic)), None)
        found = chosen or _recognise(value, context)
        found.decode(value, context, rows)
        return found.NAME

    def _uncompressed(self, value: bytes) -> bytes:
        limit = self._config.max_value_bytes
        if value[:2] == b"\x1f\x8b":
            value = _gunzip(value, limit)
        if len(value) > limit:
            raise DecodeError(f"value larger than {limit} bytes", reason="too_large")
        if not value:
            raise DecodeError("empty value", reason="empty")
        return value


def _gunzip(value: bytes, limit: int) -> bytes:
    """The bytes of all members, at most `limit` + 1 of them."""
    whole = b""
    while value and len(whole) <= limit:
        unpack = zlib.decompressobj(wbits=31)
        try:
            whole += unpack.decompress(value, limit + 1 - len(whole))
        except zlib.error as error:
            raise DecodeError(f"broken gzip: {error}", reason="bad_compression") from error
        if not unpack.eof and len(whole) <= limit:
            raise DecodeError("gzip ends early", reason="bad_compression")
        value = unpack.unused_data
    return whole


def _recognise(value: bytes, context: DecodeContext) -> WireFormat:
    return next(f for f in FORMATS.values() if f.recognise(value, context))
