"""Does it pay to look at metrics, logs and traces together? Convergence on parts of a storm, and on votes of parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from opsmend.evaluate.alerts import OURS, SEEDS, mean_of, report_of, storms_of
from opsmend.evaluate.alerts_data import LOG, METRIC, MODALITIES, TRACE, Fault, read_faults, read_graph, split_faults
from opsmend.evaluate.alerts_scores import Labels, alone, scores
from opsmend.evaluate.alerts_storms import Storm
from opsmend.evaluate.alerts_stream import opsmend

_ALIGN_SECONDS: Final = 30.0
"""An alert that the modality asked did not see is asked for at the nearest alert within this: one scrape interval."""
_VOTES: Final = 0.5
_ATTENTION_STEPS: Final = 300
_ATTENTION_RATE: Final = 0.3
Fusion = Callable[[Storm], Labels]


def evaluate_ablation(data: Path, *, split: str = "test", storms: int = 4,
                      seeds: Sequence[int] = SEEDS) -> dict[str, Any]:
    """The report of `opsmend eval alerts --ablation`: fusions for methods. Learned weights come from the dev faults
    alone. Raises CaseError where data can't be read."""
    every = read_faults(data)
    faults = split_faults(every, split)
    groups = ablation(every, split_faults(every, "dev"), faults, storms, seeds, read_graph(data))
    methods = [m for m in next(iter(groups.values()), {}) if m != "cases"]
    return report_of(data, split, groups, methods, seeds, len(faults))


def ablation(every: Sequence[Fault], train: Sequence[Fault], test: Sequence[Fault], storms: int,
             seeds: Sequence[int], graph: frozenset[tuple[str, str]] = frozenset()
             ) -> dict[str, dict[str, dict[str, float]]]:
    """Scenario -> fusion -> scores, on all raw alerts of the storms of `test`; learned weights come from `train`.

    "metrics", "logs", "traces": one modality is grouped, and every other alert follows the nearest grouped one within
    the tolerance of 30 s, else it is alone. "early": one feature space, which is what the service does. "late": an
    alert pair is together where most of the modalities that can tell say so. "attention": the same with each
    modality's vote weighted by softmax weights, learned on pairs of the dev faults.
    """
    learned = _attention([s for found in storms_of(every, train, 3, (7,), graph).values() for s in found])
    fusions: dict[str, Fusion] = {
        "metrics": lambda s: _of_one(s, METRIC), "logs": lambda s: _of_one(s, LOG), "traces": lambda s: _of_one(s, TRACE),
        f"early ({OURS})": opsmend, "late (votes)": lambda s: _voted(s, np.full(3, 1 / 3)),
        "attention (learned)": lambda s: _voted(s, learned)}
    out: dict[str, dict[str, dict[str, float]]] = {}
    for scenario, found in storms_of(every, test, storms, seeds, graph).items():
        if found:
            out[scenario] = {"cases": {"n": float(len(found))}} | {
                name: mean_of([scores(storm.fault, fusion(storm)) for storm in found]) for name, fusion in fusions.items()}
    return out


def _only(storm: Storm, modality: str) -> tuple[Storm, Labels]:
    at = np.array([n for n, a in enumerate(storm.alerts) if a.modality == modality], dtype=np.int64)
    return replace(storm, alerts=tuple(storm.alerts[n] for n in at), fault=tuple(storm.fault[n] for n in at)), at


@lru_cache(maxsize=16)  # the votes ask again for what was scored alone
def _of_one(storm: Storm, modality: str) -> Labels:
    part, at = _only(storm, modality)
    out = np.full(len(storm.alerts), -1, dtype=np.int64)
    if not len(at):
        return out
    labels = opsmend(part)
    times = np.array([a.at_s for a in storm.alerts])
    right = np.clip(np.searchsorted(times[at], times), 0, len(at) - 1)
    left = np.clip(right - 1, 0, None)
    nearest = np.where(times - times[at[left]] < times[at[right]] - times, left, right)
    is_near = np.abs(times - times[at[nearest]]) <= _ALIGN_SECONDS
    out[is_near] = labels[nearest[is_near]]
    out[at] = labels
    return out


def _together(storm: Storm) -> Any:
    """[3, n, n]: 1 where a modality puts two alerts together, 0 where apart, NaN where it can't tell."""
    votes = []
    for modality in MODALITIES:
        labels = _of_one(storm, modality)
        same = (labels[:, None] == labels[None, :]).astype(np.float64)
        blind = labels < 0
        same[blind, :] = same[:, blind] = np.nan
        votes.append(same)
    return np.stack(votes)


def _voted(storm: Storm, weights: Any) -> Labels:
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    votes = _together(storm)
    told = ~np.isnan(votes)
    weight = weights[:, None, None] * told
    share = (weight * np.nan_to_num(votes)).sum(0) / np.maximum(weight.sum(0), 1e-9)
    _, labels = connected_components(csr_matrix(share > _VOTES), directed=False)
    return alone(np.asarray(labels, dtype=np.int64))


def _attention(storms: Sequence[Storm]) -> Any:
    """Softmax weights of the modalities' votes, by gradient descent on the log loss of pairs; deterministic."""
    seen, truth = [], []
    random = np.random.default_rng(0)
    for storm in storms:
        votes, faults = _together(storm), np.array(storm.fault)
        i, j = random.integers(0, len(faults), (2, 2_000))
        seen.append(votes[:, i, j])
        truth.append(faults[i] == faults[j])
    votes, same = np.concatenate(seen, axis=1), np.concatenate(truth).astype(np.float64)
    told, filled = ~np.isnan(votes), np.nan_to_num(votes)
    logits = np.zeros(3)
    for _ in range(_ATTENTION_STEPS):
        raw = np.exp(logits)[:, None] * told
        share = raw / np.maximum(raw.sum(0), 1e-9)
        p = np.clip((share * filled).sum(0), 0.02, 0.98)
        slope = (p - same) / (p * (1 - p))
        logits -= _ATTENTION_RATE * (slope * share * (filled - p)).mean(1)
    return np.exp(logits) / np.exp(logits).sum()
