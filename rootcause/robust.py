"""How unusual every column of a case is, free of units.

A column is compared with its own usual rows. The scale has floors, or a count that goes from 0 to 1 would be
the greatest anomaly of all: relative to the column itself, and to the same indicator of the other services.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rootcause.column_statistics import RECENT_ROWS, before_and_now, columns_of, windows_of
from rootcause.types import CaseWindow
from rootcause.window import EDGE_INDICATORS, NODE_INDICATORS

Floats = NDArray[np.float64]
MIN_COVERAGE = 0.05
"""Columns with fewer usual rows than this share say nothing."""

# (absolute floor, share of the column's own median, share of the indicator's median over services, share of its
# maximum over services). Only indicators that are flags have an absolute floor; that of errors depends on
# the requests (`_error_floor`).
_FLOORS: dict[str, tuple[float, float, float, float]] = {
    "errors": (0.0, 0.05, 0.0, 0.0), "latency": (0.0, 0.06, 0.02, 0.0), "traffic": (0.0, 0.06, 0.0, 0.01),
    "saturation": (0.0, 0.05, 0.0, 0.05), "cpu": (0.0, 0.06, 0.1, 0.01), "memory": (0.0, 0.03, 0.02, 0.0),
    "lock_wait": (0.0, 0.05, 0.0, 0.05), "cache_full": (0.0, 0.05, 0.0, 0.05), "up": (0.05, 0.0, 0.0, 0.0),
    "responsive": (0.05, 0.0, 0.0, 0.0), "logs": (0.0, 0.1, 0.05, 0.005), "error_lines": (0.0, 0.3, 0.1, 0.003),
    "templates": (0.3, 0.0, 0.0, 0.0), "spans": (0.0, 0.03, 0.0, 0.0), "pattern": (0.3, 0.0, 0.0, 0.0),
    "network": (0.0, 0.1, 0.3, 0.005),
    "disk": (0.0, 0.1, 0.1, 0.02), "space": (0.0, 0.02, 0.02, 0.0), "self_time": (0.0, 0.08, 0.05, 0.0)}
# What is known of a few usual minutes only (somebody has to keep the lines and the spans) is still worth a look.
_SPARSE = ("error_lines", "templates", "spans", "pattern", "network", "self_time")
_DOWNWARD = ("up", "responsive")
_FAILURES = 1.5
"""Failed requests in a row that are nothing to speak of: with how many requests there are in a row this is the floor of
an error ratio. 2 % of a thousand requests is news where none ever failed; one of twenty is not."""
_ERROR_FLOORS = (0.002, 0.03)
"""However many requests there are, and however few."""
_ERROR_FLOOR_UNKNOWN, _REQUESTS_UNKNOWN = 0.01, 50.0
"""The floor, and the requests in a row, where nobody counts them."""


@dataclass(frozen=True)
class Change:
    """One indicator of all services (or calls): before, now, and in between. All [n]; 0 where there is no data."""

    z: Floats  # now, in robust deviations; signed
    peak: Floats  # the most extreme row of now, in robust deviations; signed
    recent: Floats  # the same as z against the last usual rows alone: what was so before is no news
    ratio: Floats  # log(now / before), floored; signed
    before: Floats  # median
    now: Floats  # the quartile of the newest rows that is further from before
    scale: Floats  # one robust deviation
    steady: Floats  # the same by the median deviation alone, which a third of bad usual rows does not widen
    has: NDArray[np.bool_]
    lost: Floats  # share of rows with data: before minus now, in deviations of what chance would do
    onset: Floats  # first row of now that is unusual, 0..1 of them; 1: none
    news: Floats  # z or recent, the smaller; 0 where they contradict each other
    novel: Floats  # log of how far it is from usual over how far windows as long as now have been before; signed
    surprise: Floats  # errors: failed requests of all rows of now, counted, in deviations of what is usual; else 0
    firm: Floats  # z by `steady`; signed
    usual: Floats  # [n, b] how far b windows as long as now have been from before, in robust deviations; b may be 0
    whole: Floats  # [n] as `usual`, of now: nothing is taken away for what all of its rows share, as z has it
    counted: Floats  # [n, b] errors: surprise of the same windows, each against the others; else 0


def _floor(name: str, middle: Floats, everything: Floats) -> Floats:
    absolute, own, typical, largest = _FLOORS[name]
    size = np.abs(np.nan_to_num(middle))
    floor = np.maximum(absolute, own * size)
    known = size[np.isfinite(middle) & (size > 0)]
    if typical and len(known):
        floor = np.maximum(floor, typical * float(np.median(known)))
    if largest:
        top = float(size.max(initial=0.0)) if name == "traffic" else float(np.nanmax(everything, initial=0.0))
        floor = np.maximum(floor, largest * top)
    return np.maximum(floor, 1e-12)


def _error_floor(traffic: Floats | None, step_seconds: float, width: int) -> Floats:
    """[width] from the usual number of requests in a row; `traffic` [width] requests per second, NaN where unknown."""
    if traffic is None:
        return np.full(width, _ERROR_FLOOR_UNKNOWN)
    requests = np.where(traffic > 0, traffic * step_seconds, np.nan)
    floor: Floats = np.clip(_FAILURES / requests, *_ERROR_FLOORS)
    return np.where(np.isfinite(floor), floor, _ERROR_FLOOR_UNKNOWN)


def _surprise(errors: Floats, traffic: Floats | None, baseline: int, step_seconds: float) -> tuple[Floats, Floats]:
    """[width] signed root of twice the log likelihood ratio of "fails as often as ever" against "fails as often as now", for
    all requests of the newest rows together, and [width, b] the same of the b usual windows as long as now, each against
    the others. Ten failures in twenty requests of a service that has never failed before are news, however few that is
    per row. Divided by how much rows differ beyond chance. `errors`, `traffic` [t, width]."""
    blocks = columns_of(errors)
    found = [_surprise_of(errors[:, at], None if traffic is None else traffic[:, at], baseline, step_seconds) for at in blocks]
    return np.concatenate([one for one, _ in found]), np.concatenate([many for _, many in found])


def _surprise_of(errors: Floats, traffic: Floats | None, baseline: int, step_seconds: float) -> tuple[Floats, Floats]:
    assumed = np.full_like(errors, _REQUESTS_UNKNOWN) if traffic is None else traffic * step_seconds
    asked = np.where(np.isfinite(errors), np.maximum(np.nan_to_num(assumed), 1.0), 0.0)
    failed = np.clip(np.nan_to_num(errors), 0, 1) * asked
    usual, now = slice(0, baseline), slice(max(baseline, len(errors) - RECENT_ROWS), None)
    k, n = failed[usual].sum(axis=0), asked[usual].sum(axis=0)
    p = (k + 0.5) / (n + 1.0)
    chance = (failed[usual] - asked[usual] * p) ** 2 / (asked[usual] * p * (1 - p) + 0.25)
    spread = beyond_chance(chance, asked[usual] > 0)
    current = _root(failed[now].sum(axis=0), asked[now].sum(axis=0), p, spread)
    cut = [windows_of(rows[usual].T, len(errors) - now.start).sum(axis=2) for rows in (failed, asked)]
    rest = (k[:, None] - cut[0] + 0.5) / np.maximum(n[:, None] - cut[1] + 1.0, 1.0)
    return current, _root(cut[0], cut[1], rest, spread[:, None])


def _root(failed: Floats, asked: Floats, usual: Floats, spread: Floats) -> Floats:
    """The signed root of `_surprise`; `usual` is a share of failures."""
    q = np.clip(failed / np.maximum(asked, 1.0), 1e-12, 1 - 1e-12)
    ratio = failed * np.log(q / usual) + (asked - failed) * np.log((1 - q) / np.maximum(1 - usual, 1e-12))
    return np.where(asked > 0, np.sign(q - usual) * np.sqrt(2 * np.maximum(ratio, 0.0) / spread), 0.0)


def beyond_chance(squares: Floats, known: NDArray[np.bool_]) -> Floats:
    """[k] how much usual rows differ beyond chance: the mean of squared deviations over their variance, [r, k], never below
    1. The 2 % of the rows that are furthest off are left out: hiccups among usual rows, not how they usually are."""
    ordered = np.sort(np.where(known, squares, np.inf), axis=0)
    counts = known.sum(axis=0)
    kept = np.arange(len(ordered))[:, None] < np.ceil(0.98 * counts)
    mean: Floats = np.where(kept, ordered, 0.0).sum(axis=0) / np.maximum(kept.sum(axis=0), 1)
    return np.asarray(np.maximum(1.0, mean))


def _is_more(one: Floats, other: Floats) -> NDArray[np.bool_]:
    """one >= other; equal but for rounding is equal."""
    return one >= other * (1 - 1e-9)


def _lost(before: NDArray[np.int64], rows_before: int, now: NDArray[np.int64], rows_now: int) -> Floats:
    usual = before / max(1, rows_before)
    gone: Floats = usual - now / max(1, rows_now)
    return gone / np.sqrt(usual * (1 - usual) / max(1, rows_now) + 0.01)


def _smaller(one: Floats, other: Floats) -> Floats:
    return np.where(one * other > 0, np.sign(one) * np.minimum(np.abs(one), np.abs(other)), 0.0)


def changes_of(tables: dict[str, Floats], baseline: int, step_seconds: float) -> dict[str, Change]:
    """`tables` maps an indicator to [t, n]; traffic is in requests per second, and a row is `step_seconds` long.
    Cost: 4 ms for 40 services, 18 indicators and 150 rows."""
    names = [name for name, table in tables.items() if table.shape[1] and np.isfinite(table).any()]
    if not names:
        return {}
    width = tables[names[0]].shape[1]
    usual, newest = before_and_now([tables[name] for name in names], baseline)
    middle, spread, wide, windows, count_before = usual.middle, usual.spread, usual.wide, usual.windows, usual.count_before
    lower, upper, low, high, now, count_now = (newest.lower, newest.upper, newest.low, newest.high, newest.rows,
                                               newest.count_now)
    # A fault may fill only a part of the window: of the two quartiles, the one further away.
    current = np.where(_is_more(upper - middle, middle - lower), upper, lower)
    # Half of it: who subtracts all of a standing state loses faults that fill the window.
    whole = np.abs(np.nan_to_num(current - middle))
    halved = np.repeat([0.0 if name in _SPARSE else 0.5 for name in names], width)
    current = current - halved * newest.shared(middle)
    been = np.sort(windows, axis=1)[:, -2] if windows.shape[1] else np.zeros(len(middle))  # the second largest
    enough = np.repeat([2.0 if name in _SPARSE else max(3.0, MIN_COVERAGE * baseline) for name in names], width)
    covered = count_before >= enough
    asked = None
    if "traffic" in names:
        k = names.index("traffic")
        at = slice(k * width, (k + 1) * width)
        asked = np.where(covered[at], middle[at], np.nan)
    out = {}
    for k, name in enumerate(names):
        at = slice(k * width, (k + 1) * width)
        floor = _floor(name, np.where(covered[at], middle[at], np.nan), tables[name])
        if name == "errors":
            floor = np.maximum(floor, _error_floor(asked, step_seconds, width))
            surprise, counted = _surprise(tables[name], tables.get("traffic") if asked is not None else None, baseline,
                                          step_seconds)
        else:
            surprise, counted = np.zeros(width), np.zeros((width, windows.shape[1]))
        # Columns that rest at one value and jump now and then have no median deviation, but a 90 % one.
        scale = np.maximum(np.maximum(1.48 * np.nan_to_num(spread[at]), 0.6 * np.nan_to_num(wide[at])), floor)
        firm = np.maximum(1.48 * np.nan_to_num(spread[at]), floor)
        has = covered[at] & (count_now[at] > 0)
        sign = -1.0 if name in _DOWNWARD else 1.0
        b, c = np.nan_to_num(middle[at]), np.nan_to_num(current[at])
        up, down = (np.nan_to_num(high[at]) - b) / scale, (np.nan_to_num(low[at]) - b) / scale
        recent = np.where(usual.count_recent[at] > 0, np.nan_to_num(usual.lately[at]), b)
        unusual = np.abs(np.nan_to_num(now[at], nan=np.inf) - b[:, None]) > 4 * scale[:, None]
        unusual &= np.isfinite(now[at])
        onset = np.where(unusual.any(axis=1), unusual.argmax(axis=1) / max(1, unusual.shape[1]), 1.0)
        z, late = np.where(has, sign * (c - b) / scale, 0.0), np.where(has, sign * (c - recent) / scale, 0.0)
        out[name] = Change(
            z=z,
            peak=np.where(has, sign * np.where(_is_more(np.abs(up), np.abs(down)), up, down), 0.0),
            recent=late,
            ratio=np.where(has, np.log((np.maximum(c, 0) + floor) / (np.maximum(b, 0) + floor)), 0.0),
            before=np.where(covered[at], b, 0.0), now=np.where(has, c, 0.0), scale=scale, steady=firm, has=has,
            lost=np.where(covered[at], _lost(count_before[at], baseline, count_now[at], now.shape[1]), 0.0),
            onset=onset, news=_smaller(z, late),
            novel=np.where(has, np.sign(z) * np.log1p(np.abs(c - b) / np.maximum(been[at], scale)), 0.0),
            surprise=np.where(has, surprise, 0.0), firm=np.where(has, sign * (c - b) / firm, 0.0),
            usual=np.where(has[:, None], windows[at] / scale[:, None], 0.0),
            whole=np.where(has, whole[at] / scale, 0.0), counted=np.where(has[:, None], counted, 0.0))
    return out


def node_changes(case: CaseWindow) -> dict[str, Change]:
    """Of the services, by indicator; indicators without any data are left out. Not to be written to: who asks again of the
    case that was asked of last gets the same."""
    return _once(case, "node", lambda: changes_of({n: case.node_metrics[n] for n in NODE_INDICATORS if n in case.node_metrics},
                                                  case.baseline_rows, case.step_seconds))


def edge_changes(case: CaseWindow) -> dict[str, Change]:
    """Of the calls, by indicator, likewise."""
    return _once(case, "edge", lambda: changes_of({n: case.edge_metrics[n] for n in EDGE_INDICATORS if n in case.edge_metrics},
                                                  case.baseline_rows, case.step_seconds))


_LAST: dict[str, tuple[weakref.ref[CaseWindow], dict[str, Change]]] = {}


def _once(case: CaseWindow, of: str, work: Callable[[], dict[str, Change]]) -> dict[str, Change]:
    """Ranking and explaining one case ask for the same half a dozen times. Only the last case is remembered."""
    known = _LAST.get(of)
    if known is None or known[0]() is not case:
        _LAST[of] = known = (weakref.ref(case), work())
    return dict(known[1])
