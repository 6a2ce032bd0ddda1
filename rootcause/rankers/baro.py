"""BARO (Pham, Ha & Zhang, FSE 2024), written anew from the paper: a change point, then a robust score per column."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rootcause.rankers.bocpd import run_lengths
from rootcause.types import CaseWindow, Ranking

Floats = NDArray[np.float64]
_HISTORY = 120
_MOST_COLUMNS = 32


def robust_scores(usual: Floats, now: Floats) -> Floats:
    """[n] largest (value - median) / (upper - lower quartile) of the rows of now, signed as in the paper: what only
    falls has no score. A column that rests is divided by 1; one without any data scores -inf."""
    scores = np.full(usual.shape[1], -np.inf)
    for k in range(usual.shape[1]):
        a, b = usual[np.isfinite(usual[:, k]), k], now[np.isfinite(now[:, k]), k]
        if len(a) and len(b):
            low, middle, high = np.percentile(a, (25, 50, 75))
            scores[k] = float((b.max() - middle) / (high - low if high - low > 1e-14 else 1.0))
    return scores


class Baro:
    """The service whose worst column scores most, the beginning being told."""

    name = "baro"

    def rank(self, case: CaseWindow) -> Ranking:
        base = case.baseline_rows
        best = np.full(len(case.services), -np.inf)
        for table in case.node_metrics.values():
            best = np.maximum(best, robust_scores(table[:base], table[base:]))
        has = np.isfinite(best)
        least = float(best[has].min()) if has.any() else 0.0
        # Scores begin at 0: who has no data stands there, behind everybody.
        return Ranking(np.where(has, np.where(has, best, 0.0) - least + 1.0, 0.0))


class BaroOwnClock:
    """The same, with the change point that its own detector finds in the last 120 rows: where the present run of
    latency and errors began. It is told nothing; without a change point it keeps the given beginning."""

    name = "baro_bocpd"

    def rank(self, case: CaseWindow) -> Ranking:
        return Baro().rank(replace(case, baseline_rows=self.change_point(case)))

    def change_point(self, case: CaseWindow) -> int:
        """Row at which the present run began; `case.baseline_rows` where there is only one run."""
        tables = [case.node_metrics[k][-_HISTORY:] for k in ("latency", "errors") if k in case.node_metrics]
        if not tables or not len(tables[0]):
            return case.baseline_rows
        rows = _filled(np.concatenate(tables, axis=1))
        if not rows.shape[1] or len(rows) < 5:
            return case.baseline_rows
        run = int(run_lengths(rows)[-1])
        if run >= len(rows):
            return case.baseline_rows
        return min(max(len(case.ts_ns) - run, 3), len(case.ts_ns) - 1)


def _filled(rows: Floats) -> Floats:
    """The columns that move, 0..1 each, gaps filled with the value before; at most 32, the most varied."""
    kept = []
    for column in rows.T:
        known = np.isfinite(column)
        if known.mean() < 0.8:
            continue
        at = np.maximum.accumulate(np.where(known, np.arange(len(column)), -1))
        full = np.where(at >= 0, column[np.maximum(at, 0)], column[known][0])
        width = float(full.max() - full.min())
        if width > 0:
            kept.append((full - full.min()) / width)
    kept.sort(key=lambda c: -float(c.std()))
    return np.array(kept[:_MOST_COLUMNS]).T if kept else np.zeros((len(rows), 0))
