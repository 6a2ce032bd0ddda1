"""When did it begin? A detector over a case's own series, for `--clock detected`.

The diagnosis is asked for when the recording ends; rows up to then decide, and nothing is known of the injection.
A row's contrast compares the rows from there on (three where usual rows are measured) with the median of the ten
before and with that of the usual rows, and the smaller counts: what comes back to usual is no incident, and neither
is what has long been so. Per column the deviation that 85 % of the rows exceed on the same side, in robust deviations
(floors of `rootcause.robust`), of which log2(z / 3) counts where z > 3, at most 4; summed over the columns of a
service and of the calls to it; the largest service counts. The onset is the first row with three quarters of the
largest rise of the contrast over the row before it; it is clear where the contrast is above 2 and above its 98 %
quantile over the usual rows. Else the last five rows are taken for the incident.

A service that runs has seen what was wrong before as well, and does not take it for usual (`rootcause.earlier`). Here the
recording is all that is known, so the same measure is taken of the rows before the onset: three rows in a row that differ
from the usual rows alone by more than 2 are left out, where half of the usual rows, and eight, remain. One robust
deviation is that of the median deviation then, which a third of bad rows does not widen. Memory, which stays high
after it is over, is left out, and so are lines and spans, which most rows lack.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from opsmend.config import ConfigError
from rootcause.robust import Change, edge_changes, node_changes
from rootcause.types import CaseWindow

Floats = NDArray[np.float64]
LOOK_BACK = 8
"""Rows before the recorded fault from which on the detector watches: it may be wrong before, too."""
_BEFORE, _AFTER = 10, 3
_USUAL_ROWS = 300
_UNUSUAL = 3.0
_CAP = 4.0
_LEAST = 2.0
_SHARE = 0.98
_NEARLY = 0.75
_NOW = 5
_NEARLY_ALL = 0.85
_LASTING = ("memory", "logs", "error_lines", "templates", "spans", "pattern", "network")
_MUST_REMAIN = (8, 0.5)
"""Usual rows, and the share of them; else none is left out."""


CLOCKS = ("known", "detected")


def check_clock(name: str) -> None:
    """Raises ConfigError for an unknown one."""
    if name not in CLOCKS:
        raise ConfigError(f"eval: unknown clock '{name}'; known: {', '.join(CLOCKS)}")


@dataclass(frozen=True)
class Onset:
    """Row of the first sign, and whether it stands out enough."""

    row: int
    is_clear: bool


def find_onset(case: CaseWindow) -> Onset:
    """Learns from the rows before the last `LOOK_BACK` of `case.baseline_rows`, and watches from there on."""
    begin = max(min(3, case.baseline_rows), case.baseline_rows - LOOK_BACK)
    end = len(case.ts_ns)
    stream = replace(case, baseline_rows=begin)
    first = max(1, begin - _USUAL_ROWS)
    if begin >= end:
        return Onset(begin, False)
    usual, watched = _contrasts(stream, range(first, begin), _AFTER), _contrasts(stream, range(max(1, begin - 1), end), end)
    rise = np.diff(watched, prepend=watched[:1] if begin > 1 else 0.0)[-(end - begin):]
    watched = watched[-(end - begin):]
    limit = max(_LEAST, float(np.quantile(usual, _SHARE)) if len(usual) else _LEAST)
    row = int(np.argmax(rise >= _NEARLY * rise.max()))  # the first that is nearly as strong
    is_clear = bool(watched[row] > limit)
    return Onset(begin + row if is_clear else max(begin, end - _NOW), is_clear)


def split_at(case: CaseWindow, onset: Onset) -> CaseWindow:
    """The window with everything before the onset as the usual state, but for earlier incidents; at least three rows of it."""
    return without_earlier(replace(case, baseline_rows=max(onset.row, min(3, len(case.ts_ns) - 1))))


def without_earlier(case: CaseWindow) -> CaseWindow:
    """The same without those usual rows in which something else was wrong."""
    base = case.baseline_rows
    if base == 0:
        return case
    keep = np.ones(len(case.ts_ns), dtype=bool)
    apart = _largest(case, base, lambda name, table, change: None if name in _LASTING else _far(table[:base], change))
    for row in np.flatnonzero(apart > _LEAST).tolist():
        keep[row:min(row + _AFTER, base)] = False
    remain = int(keep[:base].sum())
    fewest, share = _MUST_REMAIN
    return case.of_rows(keep, remain) if remain >= max(fewest, share * base) else case


def _far(before: Floats, change: Change) -> Floats:
    """Of each usual row how far three rows from it on (the last three) are from usual."""
    last = len(before) - _AFTER
    z = np.stack([_shift(before[max(0, min(r, last)):r + _AFTER], change.before) for r in range(len(before))])
    return _octaves(z / change.steady, change)


def _contrasts(stream: CaseWindow, rows: range, after: int) -> Floats:
    """Of each of `rows`, with at most `after` rows from it on."""
    return _largest(stream, len(rows), lambda name, table, change: _loud(table, change, rows, after))


def _largest(stream: CaseWindow, rows: int, of: Callable[[str, Floats, Change], Floats | None]) -> Floats:
    """[rows] of the largest service, the sum of what `of` gives of its columns and of those of the calls to it, [rows, k]; None
    for an indicator that does not count."""
    total = np.zeros((rows, len(stream.services)))
    for name, change in node_changes(stream).items():
        if (found := of(name, stream.node_metrics[name], change)) is not None:
            total += found
    for name, change in edge_changes(stream).items():
        if (found := of(name, stream.edge_metrics[name], change)) is not None:
            np.maximum.at(total.T, stream.edges[:, 1], found.T)
    biggest: Floats = total.max(axis=1, initial=0.0)
    return biggest


def _loud(table: Floats, change: Change, rows: range, after: int) -> Floats:
    if not rows:
        return np.zeros((0, table.shape[1]))
    z = np.stack([np.minimum(_shift(table[r:r + after], _middle(table[max(0, r - _BEFORE):r])),
                             _shift(table[r:r + after], change.before)) for r in rows])
    seen = np.array([min(after, len(table) - r) for r in rows], dtype=np.float64)
    return _octaves(z / change.scale * np.sqrt(seen / (seen + 1.0))[:, None], change)  # one row alone proves little


def _octaves(z: Floats, change: Change) -> Floats:
    """How many times twice three deviations, at most four."""
    return np.where(change.has, np.clip(np.log2(np.maximum(np.nan_to_num(z), _UNUSUAL) / _UNUSUAL), 0.0, _CAP), 0.0)


def _shift(rows: Floats, before: Floats) -> Floats:
    """How far nearly all of the rows are on one side of before; 0 where they are on both."""
    ordered = np.sort(rows, axis=0)
    count = np.isfinite(rows).sum(axis=0)
    spared, at = ((1 - _NEARLY_ALL) * count).astype(int), np.arange(rows.shape[1])
    low, high = ordered[spared, at], ordered[np.maximum(count - 1 - spared, 0), at]
    out: Floats = np.maximum(np.maximum(low - before, before - high), 0.0)
    return out


def _middle(rows: Floats) -> Floats:
    """Median down the columns, NaN where nothing is finite; without numpy's warning about that."""
    ordered = np.sort(rows, axis=0)
    count = np.isfinite(rows).sum(axis=0)
    low, high = np.maximum(count - 1, 0) // 2, np.maximum(count, 1) // 2
    at = np.arange(rows.shape[1])
    middle: Floats = (ordered[low, at] + ordered[np.minimum(high, np.maximum(count - 1, 0)), at]) / 2
    return middle
