"""How good a ranking is: AC@k, Avg@5, MRR, and whether its probabilities mean what they say.

Ties are not settled by the order of the columns: where the root shares its score with others, a hit counts by
the chance that a random order of them would give.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def rank_chances(scores: NDArray[np.float64], roots: Sequence[int], top: int) -> NDArray[np.float64]:
    """[top] chance that a root stands at this place (0: first), over random orders of ties. With several roots
    the best placed counts."""
    out = np.zeros(top)
    best = max(float(scores[r]) for r in roots)
    ahead = int((scores > best).sum())
    tied = int((scores == best).sum())
    good = sum(1 for r in roots if float(scores[r]) == best)
    left = 1.0
    for place in range(tied):
        if ahead + place >= top:
            break
        chance = left * min(1.0, good / (tied - place))
        out[ahead + place] = chance
        left -= chance
    return out


def accuracy(chances: Sequence[NDArray[np.float64]]) -> dict[str, float]:
    """AC@1, AC@3, Avg@5 and MRR (places beyond the given ones count 0) over cases; none: all 0."""
    if not chances:
        return {"AC@1": 0.0, "AC@3": 0.0, "Avg@5": 0.0, "MRR": 0.0}
    mean = np.mean([np.pad(c, (0, max(0, 5 - len(c)))) for c in chances], axis=0)
    hits = np.cumsum(mean)
    return {"AC@1": float(hits[0]), "AC@3": float(hits[2]), "Avg@5": float(hits[:5].mean()),
            "MRR": float((mean / (np.arange(len(mean)) + 1)).sum())}


def calibration_error(confidence: Sequence[float], is_right: Sequence[float], bins: int = 10) -> float:
    """Expected calibration error, 0..1: the mean gap between confidence and share of right answers, in equal bins
    of confidence (Guo et al., ICML 2017)."""
    p, hit = np.asarray(confidence, float), np.asarray(is_right, float)
    if not len(p):
        return 0.0
    which = np.minimum((p * bins).astype(int), bins - 1)
    return float(sum(abs(p[which == b].mean() - hit[which == b].mean()) * (which == b).mean()
                     for b in range(bins) if (which == b).any()))


def fit_trust(confidence: Sequence[float], is_right: Sequence[float], weight: Sequence[float]) -> tuple[float, float]:
    """(slope, offset) of the logistic regression of being right on the log odds of the confidence (Platt 1999), 0..1 each;
    (1, 0) leaves everything as it is, and is what a faint prior of one case's worth draws to. Newton's method; raises
    ValueError without a case."""
    p, y, w = (np.asarray(x, float) for x in (confidence, is_right, weight))
    if not len(p):
        raise ValueError("no case to fit on")
    p = np.clip(p, 1e-4, 1 - 1e-4)
    x = np.stack([np.log(p / (1 - p)), np.ones(len(p))], axis=1)
    prior = np.array([1.0, 0.0])
    beta, pull = prior.copy(), float(w.mean())
    for _ in range(50):
        q = 1 / (1 + np.exp(-x @ beta))
        slope = x.T @ (w * (y - q)) - pull * (beta - prior)
        bend = (x * (w * q * (1 - q))[:, None]).T @ x + pull * np.eye(2)
        step = np.linalg.solve(bend, slope)
        beta = beta + np.clip(step, -1.0, 1.0)
        if float(np.abs(step).max()) < 1e-9:
            break
    return float(beta[0]), float(beta[1])
