"""What is good without a model: each of these must be beaten, and is shown beside it."""

from __future__ import annotations

import zlib

import numpy as np

from rootcause.contrast import REGRESSED, largest_residual
from rootcause.features import CAUSES, node_scores
from rootcause.types import CaseWindow, Ranking

_BACK = 0.3
"""How likely a walker goes back to a caller, next to a callee."""


class MaxRobustZ:
    """The service whose most unusual metric is most unusual."""

    name = "max_robust_z"

    def rank(self, case: CaseWindow) -> Ranking:
        return Ranking(np.abs(node_scores(case)).max(axis=1, initial=0.0))


class NSigma:
    """The largest deviation of any fault row from the usual mean, in standard deviations (N-Sigma, as used by
    Pham et al., BARO, FSE 2024)."""

    name = "n_sigma"

    def rank(self, case: CaseWindow) -> Ranking:
        worst = np.zeros(len(case.services))
        for table in case.node_metrics.values():
            usual, now = table[:case.baseline_rows], table[case.baseline_rows:]
            counts = np.isfinite(usual).sum(axis=0)
            mean = np.nansum(usual, axis=0) / np.maximum(counts, 1)
            spread = np.sqrt(np.nansum((usual - mean) ** 2, axis=0) / np.maximum(counts, 1))
            # A column that never moved has no deviation to count in; 1 % of its mean stands in.
            spread = np.maximum(spread, np.maximum(0.01 * np.abs(mean), 1e-9))
            z = np.nan_to_num(np.abs(now - mean) / spread).max(axis=0, initial=0.0)
            worst = np.maximum(worst, np.where(counts >= 5, z, 0.0))
        return Ranking(worst)


class Regression:
    """The service of which some row is explained least: its errors and latency by its callees, its traffic by its callers,
    its processor and memory by nobody (after CIRCA, Li et al., KDD 2022)."""

    name = "regression"

    def rank(self, case: CaseWindow) -> Ranking:
        names = (*REGRESSED, "cpu", "memory")
        return Ranking(np.stack([largest_residual(case, name) for name in names]).max(axis=0))


class NearestToAlert:
    """The service whose signal came first."""

    name = "nearest_to_alert"

    def rank(self, case: CaseWindow) -> Ranking:
        first = {s.service: 0 for s in case.signals}
        for signal in sorted(case.signals, key=lambda s: -s.start_ns):
            first[signal.service] = signal.start_ns
        newest = max(first.values(), default=0) + 10**9
        return Ranking(np.array([(newest - first[s]) / 1e9 if s in first else 0.0 for s in case.services]))


class LastChange:
    """The service that was changed last."""

    name = "last_change"

    def rank(self, case: CaseWindow) -> Ranking:
        scores = np.zeros(len(case.services))
        at = {s: i for i, s in enumerate(case.services)}
        ordered = sorted((c for c in case.changes if c.kind in CAUSES and c.actor != "opsmend"), key=lambda c: c.ts_ns)
        for n, change in enumerate(ordered):
            if change.service in at:
                scores[at[change.service]] = n + 1.0
        return Ranking(scores)


class PersonalisedPageRank:
    """Random walk from the anomalous services: down to anomalous callees, back up to callers now and then, staying
    where no callee is as bad (Kim et al., MonitorRank, SIGMETRICS 2013; Wu et al., MicroRCA, NOMS 2020)."""

    name = "personalised_pagerank"

    def rank(self, case: CaseWindow) -> Ranking:
        n = len(case.services)
        weight = np.log1p(np.abs(node_scores(case)).max(axis=1, initial=0.0)) + 1e-3
        start = weight / weight.sum()
        walk = np.zeros((n, n))  # from column to row
        worst_callee = np.zeros(n)
        for caller, callee in case.edges.tolist():
            walk[callee, caller] = weight[callee]
            walk[caller, callee] = max(walk[caller, callee], _BACK * weight[caller])
            worst_callee[caller] = max(worst_callee[caller], weight[callee])
        walk[np.arange(n), np.arange(n)] = np.maximum(weight - worst_callee, 1e-3)
        walk /= walk.sum(axis=0)
        rank = start.copy()
        for _ in range(100):
            rank = 0.85 * walk @ rank + 0.15 * start
        return Ranking(rank)


class Random:
    """A fixed, arbitrary order."""

    name = "random"

    def rank(self, case: CaseWindow) -> Ranking:
        seed = zlib.crc32("".join(case.services).encode() + case.ts_ns.tobytes())
        return Ranking(np.random.default_rng(seed).random(len(case.services)))
