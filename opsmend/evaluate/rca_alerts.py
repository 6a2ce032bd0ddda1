"""`opsmend eval rca` over alert-level sets: ours without a label of the target, fine-tuned, and the baselines."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opsmend.evaluate.rca_alert_cases import LabelledAlerts, read_alert_cases
from opsmend.evaluate.rca_cases import CaseError
from opsmend.evaluate.rca_scores import (
    MISS,
    abstention_curve,
    as_shares,
    floor_scores,
    floor_trust,
    summary,
    tied_scores,
)
from rootcause.alerts.case import AlertCase
from rootcause.alerts.history import history_of
from rootcause.alerts.rankers import ALERT_RANKERS, AlertRanker, ZeroShotAlerts
from rootcause.alerts.tuned import Tuned
from rootcause.scoring import calibration_error

Floats = NDArray[np.float64]
OURS = "opsmend"
TUNED, OTHERS = "fine_tuned", "fine_tuned_elsewhere"
_FOLDS = 5
_FEWEST = 40
"""Labelled cases of a system from which on fine-tuning is measured."""


def evaluate_alerts(data: Path, *, split: str = "", seed: int = 0) -> dict[str, Any]:
    """Instance-level scores. History of a case: the alerts (never the causes) of the other cases of its system.

    `opsmend` has seen no label of the system. `fine_tuned`: fitted on the cases marked `train` where others are marked
    `test`, which alone are scored then, else five-fold over the system's cases. `fine_tuned_elsewhere`: fitted on the
    other systems' cases alone. Raises CaseError where there is no case.
    """
    cases, failures, lost = read_alert_cases(data)
    shown = [c for c in cases if not split or (c.split == "test") == (split == "test")]
    if not shown and not failures:
        raise CaseError(f"{data}: no alert-level case in the split '{split}'")
    rows: dict[str, list[Floats]] = {}
    methods: dict[str, dict[str, Any]] = {}
    for ranker in ALERT_RANKERS:
        name = OURS if ranker.name == ZeroShotAlerts.name else ranker.name
        scores, milliseconds = _rank(ranker, shown)
        rows[name] = [tied_scores(s, c.root_index, is_ours=name == OURS) for s, c in zip(scores, shown, strict=True)]
        rows[name] += [MISS] * len(failures)
        methods[name] = summary(rows[name], seed) | {"ms_per_case": milliseconds} | _trust(
            scores if name == OURS else [as_shares(s) for s in scores], rows[name], len(failures))
    rows["random"] = [floor_scores(len(c.case.instances)) for c in shown] + [MISS] * len(failures)
    methods["random"] = summary(rows["random"], seed) | floor_trust([len(c.case.instances) for c in shown], len(failures))
    groups = _groups(shown, lost)
    report_groups: dict[str, Any] = {
        group: {"cases": {"n": float(len(at))}} | {name: summary([rows[name][i] for i in at], seed) for name in rows}
        for group, at in groups.items()}
    for name, by_case in _tuned(cases, seed).items():
        scored = [i for i, c in enumerate(shown) if c.name in by_case.get(c.system, {})]
        if not scored:
            continue
        hits = {i: by_case[shown[i].system][shown[i].name] for i in scored}
        methods[name] = summary(list(hits.values()), seed) | {"cases": float(len(hits))}
        for group, at in groups.items():
            inside = [hits[i] for i in at if i in hits]
            if inside:
                report_groups[group][name] = summary(inside, seed) | {"cases": float(len(inside))}
    return {"what": "rca", "level": "alerts", "data": str(data), "split": split or "all", "clock": "known", "seed": seed,
            "cases": len(shown) + len(failures), "failed": len(failures), "failures": failures, "methods": methods,
            "groups": report_groups}


def _rank(ranker: AlertRanker, cases: Sequence[LabelledAlerts]) -> tuple[list[Floats], float]:
    out: dict[int, Floats] = {}
    seconds = 0.0
    for members in _systems(cases).values():
        history = history_of(cases[i].case for i in members)
        for i in members:
            with history.without(cases[i].case):
                began = time.perf_counter()
                out[i] = ranker.rank(cases[i].case, history)
                seconds += time.perf_counter() - began
    return [out[i] for i in range(len(cases))], round(1e3 * seconds / max(1, len(cases)), 2)


def _trust(shares: Sequence[Floats], rows: Sequence[Floats], lost: int) -> dict[str, Any]:
    """Calibration of the first answer, and accuracy when only the surest are answered; `rows` are the scores of the cases,
    those that could not be read last."""
    confidence, right = [float(s.max()) for s in shares], [float(row[0]) for row in rows]
    return {"ECE": round(calibration_error(confidence, right[:len(shares)]), 4),
            "abstention": abstention_curve([*confidence, *[-1.0] * lost], right)}


def _tuned(cases: Sequence[LabelledAlerts], seed: int) -> dict[str, dict[str, dict[str, Floats]]]:
    """method -> system -> case -> scores."""
    out: dict[str, dict[str, dict[str, Floats]]] = {TUNED: {}, OTHERS: {}}
    systems = {s: [cases[i] for i in at] for s, at in _systems(cases).items()}
    for system, own in systems.items():
        if len(own) >= _FEWEST:
            out[TUNED][system] = _in_system(own, seed)
        strangers = [c for other, theirs in systems.items() if other != system for c in theirs]
        if len(strangers) >= _FEWEST:
            model = Tuned(seed).fit(*_labelled(strangers))
            out[OTHERS][system] = _scored(model, own, own)
    return out


def _in_system(own: Sequence[LabelledAlerts], seed: int) -> dict[str, Floats]:
    test = [c for c in own if c.split == "test"]
    train = [c for c in own if c.split != "test"]
    if test and len(train) >= _FEWEST:
        return _scored(Tuned(seed).fit(*_labelled(train)), test, train)
    order = np.random.default_rng(seed).permutation(len(own))
    out: dict[str, Floats] = {}
    for fold in range(_FOLDS):
        left_out = set(order[fold::_FOLDS].tolist())
        rest = [c for i, c in enumerate(own) if i not in left_out]
        out |= _scored(Tuned(seed).fit(*_labelled(rest)), [own[i] for i in sorted(left_out)], rest)
    return out


def _labelled(cases: Sequence[LabelledAlerts]) -> tuple[list[AlertCase], list[int]]:
    return [c.case for c in cases], [c.root_index for c in cases]


def _scored(model: Tuned, cases: Sequence[LabelledAlerts], known: Sequence[LabelledAlerts]) -> dict[str, Floats]:
    """Each case by the model; its history: `known`, itself left out."""
    history = history_of(c.case for c in known)
    names = {c.name for c in known}
    out = {}
    for c in cases:
        with history.without(c.case) if c.name in names else nullcontext():
            out[c.name] = tied_scores(model.rank(c.case, history), c.root_index, is_ours=True)
    return out


def _systems(cases: Sequence[LabelledAlerts]) -> dict[str, list[int]]:
    out: dict[str, list[int]] = defaultdict(list)
    for i, c in enumerate(cases):
        out[c.system].append(i)
    return dict(sorted(out.items()))


def _groups(cases: Sequence[LabelledAlerts], lost: Sequence[str]) -> dict[str, list[int]]:
    out: dict[str, list[int]] = defaultdict(list)
    for i, c in enumerate(cases):
        out[f"{c.system}{'/' + c.split if c.split else ''}"].append(i)
        out[f"{c.system}: {c.fault}"].append(i)
    for i, system in enumerate(lost):
        out[f"{system}: not read"].append(len(cases) + i)
    return dict(sorted(out.items()))
