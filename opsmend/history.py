"""The recent past in memory: what root cause looks at. Bounded by time; the store keeps the rest."""

from __future__ import annotations

from collections import deque

import numpy as np

from detect.types import Observations
from ingest.types import Change, SeriesKey


class History:
    """A ring of closed buckets and changes.

    Memory: buckets x series x 8 bytes; 900 one-second buckets of 200 series are 1.4 MB.
    """

    def __init__(self, seconds: float) -> None:
        self._span_ns = int(seconds * 1e9)
        self._columns: dict[SeriesKey, int] = {}
        self._rows: deque[tuple[int, np.ndarray[tuple[int], np.dtype[np.float64]]]] = deque()
        self._changes: deque[Change] = deque()

    def add(self, seen: Observations, changes: tuple[Change, ...]) -> None:
        """Append closed buckets (in event-time order) and changes; drop what is too old."""
        for key in seen.series:
            self._columns.setdefault(key, len(self._columns))
        at = np.array([self._columns[key] for key in seen.series], dtype=np.int64)
        for row, ts_ns in enumerate(seen.ts_ns.tolist()):
            values = np.full(len(self._columns), np.nan)
            values[at] = seen.values[row]
            self._rows.append((ts_ns, values))
        self._changes.extend(sorted(changes, key=lambda change: change.ts_ns))
        if self._rows:
            oldest = self._rows[-1][0] - self._span_ns
            while self._rows[0][0] < oldest:
                self._rows.popleft()
            while self._changes and self._changes[0].ts_ns < oldest:
                self._changes.popleft()

    @property
    def newest_ns(self) -> int:
        """The newest closed bucket, 0 if there is none."""
        return self._rows[-1][0] if self._rows else 0

    def observations(self, start_ns: int = 0, end_ns: int = 2**63 - 1) -> Observations:
        """Buckets with start_ns <= ts <= end_ns."""
        rows = [(ts, values) for ts, values in self._rows if start_ns <= ts <= end_ns]
        table = np.full((len(rows), len(self._columns)), np.nan)
        for i, (_, values) in enumerate(rows):
            table[i, : len(values)] = values
        return Observations(np.array([ts for ts, _ in rows], dtype=np.int64), tuple(self._columns), table)

    def changes(self) -> tuple[Change, ...]:
        return tuple(self._changes)
