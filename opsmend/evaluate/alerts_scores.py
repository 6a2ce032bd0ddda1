"""How well groups of alerts tell faults apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]


def scores(truth: Sequence[int], labels: Labels) -> dict[str, float]:
    """Scores of one storm, on raw alerts; `labels` is -1 where an alert is in no group, which counts as alone.

    over_merge: share of the groups that hold alerts of several faults; under_merge: share of the faults whose alerts
    are in several groups; groups_per_fault: groups, each lone alert being one, per fault; compression: raw alerts per
    group.
    """
    from sklearn.metrics import adjusted_mutual_info_score, homogeneity_completeness_v_measure

    faults = np.asarray(truth)
    own = alone(labels)
    homogeneity, completeness, _ = homogeneity_completeness_v_measure(faults, own)
    pairs = np.unique(np.stack([own, faults]), axis=1)  # [2, distinct]
    _, faults_in = np.unique(pairs[0], return_counts=True)
    _, groups_of = np.unique(pairs[1], return_counts=True)
    grouped = np.unique(pairs[0][np.isin(pairs[0], np.unique(labels[labels >= 0]))])
    mixed = np.count_nonzero(faults_in > 1)
    return {"AMI": float(adjusted_mutual_info_score(faults, own)), "homogeneity": float(homogeneity),
            "completeness": float(completeness), "over_merge": mixed / max(1, len(grouped)),
            "under_merge": float(np.mean(groups_of > 1)), "groups_per_fault": len(faults_in) / len(groups_of),
            "compression": len(faults) / len(faults_in)}


def alone(labels: Labels) -> Labels:
    """Labels in which everything that was in no group is a group of its own."""
    out = labels.copy()
    loose = np.flatnonzero(labels < 0)
    out[loose] = labels.max(initial=-1) + 1 + np.arange(len(loose))
    return out
