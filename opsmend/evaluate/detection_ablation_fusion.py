"""Ways to make one score per row out of what each modality says: alone, early, late, learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsmend.evaluate.detection_ablation_made import MODALITIES, Watched

Floats = NDArray[np.float64]
Score = Callable[[Watched], Floats]
ALIGN_ROWS: Final = 1
"""A vote holds for so many further rows: modalities are aligned to within a row."""
_PENALTY: Final = 1e-3


@dataclass(frozen=True)
class Ranks:
    """Scores of a modality on rows without a fault, sorted: makes modalities comparable."""

    of: Mapping[str, Floats]

    @classmethod
    def learn(cls, quiet: Sequence[Watched]) -> Ranks:
        """No label but where no fault was."""
        return cls({m: np.sort(np.concatenate([w.alone[m][w.quiet() & np.isfinite(w.alone[m])] for w in quiet]))
                    for m in MODALITIES})

    def rarity(self, watched: Watched) -> Floats:
        """[t, 3] -log10 of the share of ordinary rows at or above; NaN where a modality has nothing."""
        out = []
        for m in MODALITIES:
            scores, usual = watched.alone[m], self.of[m]
            above = len(usual) - np.searchsorted(usual, scores, side="left")
            # What lies beyond all ordinary rows is told apart by how far.
            beyond = np.maximum(scores - (usual[-1] if len(usual) else 0.0), 0.0)
            rare = -np.log10((above + 1.0) / (len(usual) + 1.0)) + np.log1p(beyond)
            out.append(np.where(np.isfinite(scores), rare, np.nan))
        return np.stack(out, axis=1)


def votes(rarity: Floats) -> Floats:
    """[t] how rare the second most surprised modality finds it: what most of them agree on; of one, what that says."""
    held = rarity.copy()
    for back in range(1, ALIGN_ROWS + 1):
        held[back:] = np.fmax(held[back:], rarity[:-back])
    ordered = np.sort(np.where(np.isnan(held), -np.inf, held), axis=1)
    second = ordered[:, 1]
    return np.where(np.isfinite(second), second, np.where(np.isfinite(ordered[:, 2]), ordered[:, 2], np.nan))


class Attention:
    """Softmax weights over the modalities that depend on how surprised each is: w_m ~ exp(a_m + b_m r_m)."""

    def __init__(self, rarity: Floats, is_fault: NDArray[np.bool_]) -> None:
        """Learn from rows [k, 3] and what they were: the smallest log loss, both kinds of rows weighing the same. Slopes
        and weights are held small by a penalty; deterministic."""
        from scipy.optimize import minimize

        has, seen = np.isfinite(rarity), np.nan_to_num(rarity)
        weight = np.where(is_fault, 0.5 / max(1, int(is_fault.sum())), 0.5 / max(1, int((~is_fault).sum())))
        sign = np.where(is_fault, 1.0, -1.0)

        def loss(p: Floats) -> float:
            logit = p[6] * _mixed(seen, has, p[:3], p[3:6]) + p[7]
            return float(np.sum(weight * np.logaddexp(0.0, -sign * logit)) + _PENALTY * np.sum(p[:6] ** 2))

        found = minimize(loss, np.array([0.0] * 6 + [1.0, -1.0]), method="L-BFGS-B").x
        self.a, self.b = found[:3], found[3:6]

    def __call__(self, rarity: Floats) -> Floats:
        """[t]; NaN where no modality has anything."""
        has = np.isfinite(rarity)
        return np.where(has.any(axis=1), _mixed(np.nan_to_num(rarity), has, self.a, self.b), np.nan)


def _mixed(seen: Floats, has: NDArray[np.bool_], a: Floats, b: Floats) -> Floats:
    """[t] mean of [t, 3] by softmax weights; 0 where there is nothing."""
    logits = np.where(has, a + b * seen, -1e9)
    raw = np.where(has, np.exp(logits - logits.max(axis=1, keepdims=True)), 0.0)
    out: Floats = (raw * seen).sum(axis=1) / np.maximum(raw.sum(axis=1), 1e-12)
    return out


def learn_attention(train: Sequence[Watched], ranks: Ranks) -> Attention:
    """From all scored rows of `train`."""
    rows, truth = [], []
    for w in train:
        rarity, quiet = ranks.rarity(w), w.quiet()
        scored = np.isfinite(rarity).any(axis=1) & (np.arange(len(rarity)) >= w.first)
        rows.append(rarity[scored])
        truth.append(~quiet[scored])
    return Attention(np.concatenate(rows), np.concatenate(truth))
