"""The networks, and a plain statistic that needs no training, added up.

The networks have seen made-up systems alone. Whom the call graph explains least can be said of any system, so a case
unlike all made-up ones still has somebody to look at first.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rootcause.contrast import steady_residuals
from rootcause.rankers.gnn import MODELS_DIR, GnnRanker, by_service, load_weights, sharpen
from rootcause.types import CaseWindow, Ranking

Floats = NDArray[np.float64]
RESIDUAL_WEIGHT = 0.5
"""Fixed beforehand; a weight of 1 or more costs accuracy."""


def log_softmax(x: Floats) -> Floats:
    """log of exp(x) over its sum."""
    moved = x - x.max(initial=0.0)
    out: Floats = moved - np.log(np.exp(moved).sum())
    return out


class FusedRanker:
    """Log probabilities of the networks plus the weighted log softmax of log(1 + residual); "none of these" is left to
    the networks. Cost: some 15 ms per case of 40 services."""

    name = "fused"

    def __init__(self, directory: Path = MODELS_DIR) -> None:
        self._gnn = GnnRanker(directory)
        self._directory = directory

    def rank(self, case: CaseWindow) -> Ranking:
        weights = load_weights(self._directory)
        p, calls = by_service(sharpen(self._gnn.log_probabilities(case), weights.temperature), case)
        if len(p) == 1:
            return Ranking(p[:-1], float(p[-1]), weights.version)
        ahead = float(np.log(max(p[-1], 1e-12)) - np.log(max(float(p[:-1].max()), 1e-12))) - weights.none_bias
        joined = np.log(np.maximum(p[:-1], 1e-12)) + RESIDUAL_WEIGHT * log_softmax(np.log1p(steady_residuals(case)))
        q = np.exp(log_softmax(joined))
        # "None" keeps its odds against the first suspect.
        none = float(q.max()) * np.exp(min(ahead, 30.0))
        q = q / (1 + none)
        of = case.edges[:, 1]
        return Ranking(q, none / (1 + none), weights.version, calls * q[of] / np.maximum(p[of], 1e-12))
