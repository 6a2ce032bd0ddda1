"""Partitions side by side in time: what a consumer has fetched, given out in the order in which it happened.

A backlog is not read as it was written: a client may bring ten minutes of one partition before the first second of
another, and event time, which the first has moved on, would make everything of the second late. So records wait here
until the partitions that still have something to bring have come as far. Where nothing is behind, nothing waits.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Collection
from itertools import accumulate, islice
from operator import attrgetter

from ingest.types import Record

Place = tuple[str, int]
"""(topic, partition)."""
RECORD_BYTES = 200
"""What a record weighs beside its value."""
_NEVER = 1 << 62
_STUCK = 20
_stamp = attrgetter("timestamp_ms")


def weight(record: Record) -> int:
    """Bytes of a record in memory, roughly."""
    return len(record.value) + RECORD_BYTES


class _Line:
    """What is waiting of one partition, in order."""

    __slots__ = ("at", "bytes", "newest_ms", "records", "since")

    def __init__(self, now: float) -> None:
        self.records: list[Record] = []
        self.at = 0  # those before it were given out
        self.bytes = 0
        self.newest_ms = 0  # the latest timestamp ever fetched; 0: none yet
        self.since = now  # when it last brought something

    def __len__(self) -> int:
        return len(self.records) - self.at

    @property
    def head_ms(self) -> int:
        """When the next record happened."""
        return self.records[self.at].timestamp_ms

    def pop(self, count: int, size: int) -> list[Record]:
        """The next `count` records, which weigh `size`. The rest is moved rarely: it may be long."""
        self.bytes -= size
        if self.at == 0 and count == len(self.records):
            found, self.records = self.records, []
            return found
        found = self.records[self.at:self.at + count]
        self.at += count
        if self.at * 2 >= len(self.records):
            del self.records[:self.at]
            self.at = 0
        return found


class TimeOrder:
    """The waiting records of all partitions of one consumer.

    A partition that is behind and brings nothing for `patience_seconds` (its broker is away) is no longer waited
    for, and neither is one that is `span_ms` or more behind what was given out: its rows are late in any case.
    Timestamps in the future count as now, and such that are not there (<= 0) as any time. Where a live partition has
    its clock far behind from the start, the others wait for some twenty polls. Cost: some 0.1 us per record.
    """

    def __init__(self, *, align_seconds: float, span_seconds: float, patience_seconds: float = 3.0,
                 clock: Callable[[], float] = time.time) -> None:
        self._align_ms, self._span_ms = int(align_seconds * 1000), int(span_seconds * 1000)
        self._patience = patience_seconds
        self._clock = clock
        self._lines: dict[Place, _Line] = {}
        self._given_ms = 0  # the latest timestamp given out
        self._limit_ms = 0  # of the last `take` that waited for no partition
        self._stuck = 0  # how often in a row it did not move, though all below it was given out
        self.rows = 0
        self.bytes = 0
        self.ahead: set[Place] = set()
        """Partitions whose next record waits for others, as of the last `take`."""

    def expect(self, place: Place) -> None:
        """This partition is ours from now on; others wait for its first records."""
        self._lines.setdefault(place, _Line(time.monotonic()))

    def drop(self, place: Place) -> int | None:
        """Forget what is waiting of a partition; the offset of the first record that was not given out."""
        line = self._lines.pop(place, None)
        self.ahead.discard(place)
        if line is None or not line:
            return None
        self.rows -= len(line)
        self.bytes -= line.bytes
        return line.records[line.at].offset

    def add(self, place: Place, records: list[Record], size: int) -> None:
        """Fetched records, in order; `size` is the sum of their weights."""
        if (line := self._lines.get(place)) is None:
            line = self._lines[place] = _Line(0.0)
        if line:
            line.records.extend(records)
        else:
            line.records = records
        line.bytes += size
        line.newest_ms = max(line.newest_ms, min(records[-1].timestamp_ms, int(self._clock() * 1000)))
        line.since = time.monotonic()
        self.rows += len(records)
        self.bytes += size

    def waiting(self, place: Place) -> int:
        """Records of this partition that were not given out."""
        line = self._lines.get(place)
        return len(line) if line is not None else 0

    def weighs(self, place: Place) -> int:
        """Bytes of the same."""
        line = self._lines.get(place)
        return line.bytes if line is not None else 0

    def take(self, max_rows: int, max_bytes: int, behind: Collection[Place]) -> list[Record]:
        """What may be given out now: at most so many rows, at most so many bytes but one record at least.
        `behind` are the partitions that have more to bring than was fetched."""
        full = [line for line in self._lines.values() if line]
        self.ahead.clear()
        if not full:
            return []
        now_ms = int(self._clock() * 1000)
        limit, wall = self._limits(full, behind, now_ms)
        taken: list[Record] = []
        size = 0
        # The earliest first: what `max_rows` cuts off is then not the past of what was given out.
        for line in sorted(full, key=lambda line: line.head_ms) if len(full) > 1 else full:
            found, weighed = _cut(line, limit, max_rows - len(taken), max_bytes - size, is_first=not taken)
            if found:
                taken = taken + found if taken else found
                size += weighed
                self._given_ms = max(self._given_ms, min(found[-1].timestamp_ms, now_ms))
        if wall == _NEVER:
            self._look_for_stuck(full, limit)
        else:
            self.ahead.update(place for place, line in self._lines.items()
                              if line and line.head_ms > wall)
        self.rows -= len(taken)
        self.bytes -= size
        return taken

    def _limits(self, full: list[_Line], behind: Collection[Place], now_ms: int) -> tuple[int, int]:
        """Records up to the first timestamp may go; those beyond the second one wait for other partitions."""
        heads = [line.head_ms for line in full]
        first = min((at for at in heads if 0 < at < now_ms), default=now_ms)
        limit = max(first, self._given_ms) + self._span_ms
        if self._stuck > _STUCK:
            limit = _NEVER
        wall = _NEVER
        if len(self._lines) > 1:
            slowest = min((self._reached(place) for place in behind if place in self._lines), default=_NEVER)
            wall = max(slowest + self._align_ms, self._given_ms)
        # What claims to come from the future waits for nothing but the present.
        return _open(min(limit, wall), now_ms), _open(wall, now_ms)

    def _look_for_stuck(self, full: list[_Line], limit: int) -> None:
        """A clock that is far behind, and live, would hold up all others: time goes on, but never as far as theirs."""
        left = [line.head_ms for line in full if line]
        moves = limit - self._limit_ms >= self._span_ms // 2
        self._stuck = 0 if moves or not left or min(left) <= limit else self._stuck + 1
        self._limit_ms = limit

    def _reached(self, place: Place) -> int:
        """How far in time a partition that is behind has come; never if it is not to be waited for."""
        line = self._lines[place]
        if not line and time.monotonic() - line.since > self._patience:
            return _NEVER
        if line.newest_ms == 0:
            return _NEVER if line else 0
        return _NEVER if line.newest_ms < self._given_ms - self._span_ms else line.newest_ms


def _open(limit: int, now_ms: int) -> int:
    return limit if limit < now_ms else _NEVER


def _cut(line: _Line, limit: int, max_rows: int, max_bytes: int, *, is_first: bool) -> tuple[list[Record], int]:
    """Take from the front of a line; and the weight of what was taken."""
    records, at = line.records, line.at
    end = len(records)
    if records[-1].timestamp_ms > limit:
        end = bisect_right(records, limit, at, key=_stamp)
    count = min(end - at, max(0, max_rows))
    if count == len(line) and line.bytes <= max_bytes:
        size = line.bytes
        return line.pop(count, size), size
    size = 0
    for n, total in enumerate(accumulate(map(weight, islice(records, at, at + count)))):
        if total > max_bytes and not (is_first and n == 0):
            count = n
            break
        size = total
    return line.pop(count, size), size
