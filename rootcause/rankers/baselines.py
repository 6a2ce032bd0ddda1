"""What is good without a model: each of these must be beaten, and is shown beside it."""

from __future__ import annotations

import zlib

import numpy as np

from rootcause.features import CAUSES, node_scores
from rootcause.types import CaseWindow, Ranking


class MaxRobustZ:
    """The service whose most unusual metric is most unusual."""

    name = "max_robust_z"

    def rank(self, case: CaseWindow) -> Ranking:
        return Ranking(np.abs(node_scores(case)).max(axis=1, initial=0.0))


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
    """Random walk from the anomalous services down their calls (Page et al. 1999; MicroRCA, NOMS 2020)."""

    name = "personalised_pagerank"

    def rank(self, case: CaseWindow) -> Ranking:
        n = len(case.services)
        weight = np.log1p(np.abs(node_scores(case)).max(axis=1, initial=0.0))
        start = weight / weight.sum() if weight.sum() > 0 else np.full(n, 1.0 / n)
        walk = np.zeros((n, n))
        for caller, callee in case.edges.tolist():
            walk[callee, caller] = weight[callee] + 1e-6
        for i in range(n):  # a walker may stay where it is
            walk[i, i] = weight[i] + 1e-6
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
