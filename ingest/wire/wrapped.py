"""Which lines of a block `unwrap` would change, without looking at each of them in Python.

A compiled loop looks at the first bytes of each text, some nanoseconds a line, and lets through what can't begin
anything that `unwrap` knows; only the rest is looked at for real.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ingest.compiled import compiled
from ingest.types import Int64, Level, Texts
from ingest.wire.line import Line, put_line
from ingest.wire.rows import DecodeContext, LogColumns, Rows
from ingest.wire.unwrap import level_word, unwrap

_MOST_KEY = 101


@compiled()
def _begins_level(first: int, second: int) -> bool:
    """TR DE IN NO WA ER SE FA CR AL EM PA LO: how the level names begin."""
    if second == 65:
        return first == 87 or first == 70 or first == 80
    if second == 69:
        return first == 68 or first == 83
    if second == 82:
        return first == 84 or first == 69 or first == 67
    if second == 79:
        return first == 78 or first == 76
    return (first == 73 and second == 78) or (first == 65 and second == 76) or (first == 69 and second == 77)


@compiled("int64(Array(uint8, 1, 'C', readonly=True), Array(int64, 1, 'C', readonly=True), int64[::1],"
          "boolean)")
def _suspects(buffer: NDArray[np.uint8], offsets: Int64, found: Int64, has_levels: bool) -> int:
    """Fills `found` with the numbers of the texts that may begin something; returns how many there are."""
    n = 0
    for i in range(len(offsets) - 1):
        at, end = offsets[i], offsets[i + 1]
        while at < end and (buffer[at] == 32 or 9 <= buffer[at] <= 13):
            at += 1
        if at >= end:
            continue
        c = buffer[at]
        is_suspect = c == 123 or c == 60 or c == 91  # { < [
        if 48 <= c <= 57:
            is_suspect = at + 4 < end and (buffer[at + 4] == 45 or buffer[at + 4] == 47)
        elif c == 95 or c == 64 or 65 <= c <= 90 or 97 <= c <= 122:
            if 65 <= c <= 90 and at + 1 < end:
                second = buffer[at + 1]
                is_klog = 48 <= second <= 57 and (c == 73 or c == 87 or c == 69 or c == 70)
                is_suspect = is_klog or (not has_levels and _begins_level(c, second))
            last = min(end, at + _MOST_KEY)
            at += 1
            while at < last:  # letters, digits, - . / @ _, and what is not ASCII
                d = buffer[at]
                if not (97 <= d <= 122 or 45 <= d <= 57 or 64 <= d <= 90 or d == 95 or d >= 128):
                    break
                at += 1
            is_suspect = is_suspect or (at < end and buffer[at] == 61)  # key=
        if is_suspect:
            found[n] = i
            n += 1
    return n


def wrapped_in(texts: Sequence[str], context: DecodeContext, *, has_levels: bool) -> list[int]:
    """Of which of these messages `put_line` would make anything but a row with this text. Where the lines have a level
    of their own (`has_levels`), a level word in front of the text changes nothing."""
    block = texts if isinstance(texts, Texts) else Texts.of(texts)
    buffer, offsets = block.buffer.view(), block.offsets.view()
    buffer.flags.writeable = offsets.flags.writeable = False
    found = np.empty(max(1, len(block)), np.int64)
    suspects = found[:_suspects(buffer, offsets, found, has_levels)].tolist()
    return [i for i in suspects if unwrap(texts[i], context) is not None or not (has_levels or not level_word(texts[i]))]


def unwrap_rows(columns: LogColumns, found: Sequence[int], rows: Rows, context_of: Callable[[int], DecodeContext], *,
                is_dated: bool = True, names_service: bool = True) -> LogColumns:
    """The columns, the messages `found` in them unwrapped. `is_dated`, `names_service`: whether time and service are the
    lines' own, which an inner line need not have, or those of their records, which count only if it has none."""
    names = list(rows.names)
    times, service, level = columns.ts_ns.copy(), columns.service.copy(), columns.level.copy()
    instance = np.full(len(columns), -1, np.int32) if columns.instance is None else columns.instance.copy()
    envelope = dict(columns.envelope)
    texts, trace_id = list(columns.text), list(columns.trace_id or [""] * len(columns))
    for i in found:
        one = Rows()
        put_line(Line(texts[i], int(times[i]) if is_dated else 0, names[service[i]] if names_service else "",
                      names[instance[i]] if instance[i] >= 0 else "", Level(int(level[i])), trace_id[i]), context_of(i), one)
        row = one.logs()
        texts[i], times[i], level[i], trace_id[i] = row.text[0], row.ts_ns[0], row.level[0], row.trace_id[0]
        service[i] = rows.names[row.vocab[row.service[0]]]
        instance[i] = rows.names[row.vocab[row.instance[0]]] if row.instance[0] >= 0 else -1
        if row.envelope:
            envelope[i] = row.envelope[0]
    return LogColumns(times, service, level, texts, instance, trace_id, envelope)
