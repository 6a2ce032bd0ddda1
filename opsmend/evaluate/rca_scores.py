"""Scores of rankings case by case, their floor by chance, their intervals, and accuracy against coverage.

Ties go against us: where the root shares its score with others, our ranking counts it behind all of them, and a
baseline gets what a random order of them would. A case that could not be ranked is a row of zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SCORES = ("AC@1", "AC@3", "Avg@5", "MRR")
MISS = np.zeros(len(SCORES))
_RESAMPLES = 1000
_COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)


def places(scores: Floats, root: int) -> tuple[int, int]:
    """(best, worst) place of the root among its equals, 1 is first; NaN is behind everything."""
    clean = np.where(np.isnan(scores), -np.inf, scores)
    return int((clean > clean[root]).sum()) + 1, int((clean >= clean[root]).sum())


def case_scores(rank: int) -> Floats:
    """[4] AC@1, AC@3, Avg@5 and reciprocal rank of a place."""
    return np.array([rank <= 1, rank <= 3, np.mean([rank <= k for k in range(1, 6)]), 1.0 / rank], dtype=np.float64)


def tied_scores(scores: Floats, root: int, *, is_ours: bool) -> Floats:
    """[4] with the root behind all of its equals if it is ours, else what a random order of them is expected to get."""
    best, worst = places(scores, root)
    return case_scores(worst) if is_ours else np.mean([case_scores(k) for k in range(best, worst + 1)], axis=0)


def floor_scores(candidates: int) -> Floats:
    """[4] what a random order of so many candidates is expected to get."""
    n = max(1, candidates)
    hit = [min(1.0, k / n) for k in range(1, 6)]
    return np.array([hit[0], hit[2], np.mean(hit), np.mean(1.0 / np.arange(1, n + 1))])


def summary(rows: Sequence[Floats], seed: int = 0) -> dict[str, float | list[float]]:
    """Means over cases with the 95 % bootstrap interval of each (percentiles, cases drawn anew, seeded)."""
    if not rows:
        return dict.fromkeys(SCORES, 0.0)
    table = np.stack(list(rows))
    draws = np.random.default_rng(seed).integers(0, len(table), (_RESAMPLES, len(table)))
    low, high = np.percentile(table[draws].mean(axis=1), (2.5, 97.5), axis=0)
    out: dict[str, float | list[float]] = {}
    for k, name in enumerate(SCORES):
        out[name] = round(float(table[:, k].mean()), 4)
        out[f"{name} 95%"] = [round(float(low[k]), 4), round(float(high[k]), 4)]
    return out


def as_shares(scores: Floats) -> Floats:
    """Scores over their sum, which stand for the probabilities of who gives none; all equal where none is above 0."""
    known = np.maximum(np.nan_to_num(scores, nan=0.0, posinf=np.finfo(float).max / max(1, len(scores)), neginf=0.0), 0.0)
    return known / known.sum() if known.sum() > 0 else np.full(len(scores), 1 / max(1, len(scores)))


def floor_trust(candidates: Sequence[int], lost: int = 0) -> dict[str, Any]:
    """ECE and abstention of a random order: every answer has the same share, and is as often right."""
    shares = [1 / max(1, n) for n in candidates]
    return {"ms_per_case": 0.0, "ECE": 0.0, "abstention": abstention_curve([*shares, *[-1.0] * lost], [*shares, *[0.0] * lost])}


def abstention_curve(margins: Sequence[float], right: Sequence[float]) -> list[dict[str, float]]:
    """Accuracy of the first answer when only the surest share of the cases is answered: coverage, the smallest
    margin answered, accuracy. A case that could not be ranked has margin -1 and is wrong."""
    order = np.argsort(-np.asarray(margins, float), kind="stable")
    hits, sure = np.asarray(right, float)[order], np.asarray(margins, float)[order]
    out = []
    for coverage in _COVERAGES:
        k = max(1, round(coverage * len(hits)))
        if len(hits):
            out.append({"coverage": round(k / len(hits), 3), "margin": round(float(sure[k - 1]), 4),
                        "accuracy": round(float(hits[:k].mean()), 4)})
    return out
