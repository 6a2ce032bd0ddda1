"""`opsmend eval rca`: every ranker on recorded cases, which none of them was trained on."""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from opsmend.evaluate.rca_cases import CaseError, RecordedCase, calm_window, case_folders, read_cases
from rootcause.rankers.registry import RANKERS
from rootcause.scoring import accuracy, calibration_error, rank_chances
from rootcause.types import Ranker, Ranking

OURS = "opsmend"
_RANKER = "gnn"


def evaluate_rca(data: Path, *, split: str = "", seed: int = 0) -> dict[str, Any]:
    """The report of `opsmend eval`. `split` is "" for all cases, "test" for those marked so, "dev" for the rest.

    Nothing is random: `seed` is only reported. Cases that can't be read are counted as failed and named. Raises
    CaseError where there are no cases.
    """
    cases: list[RecordedCase] = []
    failures: list[str] = []
    for found in read_cases(case_folders(data)):
        if isinstance(found, CaseError):
            failures.append(str(found))
        elif not split or (found.split == "test") == (split == "test"):
            cases.append(found)
    if not cases and not failures:
        raise CaseError(f"{data}: no case in the split '{split}'")
    rankers: dict[str, Ranker] = {OURS if name == _RANKER else name: make() for name, make in RANKERS.items()}
    chances: dict[str, list[Any]] = {name: [] for name in rankers}
    methods: dict[str, dict[str, float]] = {}
    for name, ranker in rankers.items():
        rankings, seconds = _rank(ranker, cases)
        chances[name] = [rank_chances(r.scores, [c.window.services.index(c.root)], 5)
                         for r, c in zip(rankings, cases, strict=True)]
        methods[name] = _rounded(accuracy(chances[name]))
        methods[name]["ms_per_case"] = round(1e3 * seconds / max(1, len(cases)), 2)
        if rankings and rankings[0].p_none is not None:
            methods[name] |= _trust(rankings, cases) | _calm(ranker, cases)
    groups: dict[str, dict[str, dict[str, float]]] = {}
    for group, members in _groups(cases).items():
        groups[group] = {"cases": {"n": float(len(members))}} | {
            name: _rounded(accuracy([chances[name][i] for i in members])) for name in rankers}
    return {"what": "rca", "data": str(data), "split": split or "all", "cases": len(cases) + len(failures),
            "failed": len(failures), "failures": failures, "config_hash": _hash(sorted(rankers), split), "seed": seed,
            "methods": methods, "groups": groups}


def _rank(ranker: Ranker, cases: Sequence[RecordedCase]) -> tuple[list[Ranking], float]:
    if cases:
        ranker.rank(cases[0].window)  # the first call loads the weights
    began = time.perf_counter()
    rankings = [ranker.rank(case.window) for case in cases]
    return rankings, time.perf_counter() - began


def _trust(rankings: Sequence[Ranking], cases: Sequence[RecordedCase]) -> dict[str, float]:
    """Calibration of the first answer, "none of these" included; and how often that is (wrongly) given."""
    confidence, right, none = [], [], []
    for ranking, case in zip(rankings, cases, strict=True):
        p_none = float(ranking.p_none or 0.0)
        top = float(ranking.scores.max())
        confidence.append(max(top, p_none))
        none.append(float(p_none > top))
        right.append(float(p_none <= top and case.window.services[int(np.argmax(ranking.scores))] == case.root))
    return _rounded({"ECE": calibration_error(confidence, right), "none_wrongly": float(np.mean(none))})


def _calm(ranker: Ranker, cases: Sequence[RecordedCase]) -> dict[str, float]:
    """How often it says "none of these" on windows in which nothing was wrong."""
    windows = [w for w in map(calm_window, cases) if w is not None]
    rankings = [ranker.rank(window) for window in windows]
    hits = [float((r.p_none or 0.0) > float(r.scores.max())) for r in rankings]
    return _rounded({"calm_windows": float(len(windows)), "none_recognised": float(np.mean(hits or [0.0]))})


def _groups(cases: Sequence[RecordedCase]) -> dict[str, list[int]]:
    out: dict[str, list[int]] = defaultdict(list)
    for i, case in enumerate(cases):
        out[f"{case.system}{'/' + case.split if case.split else ''}"].append(i)
        out[f"{case.system}: {case.fault}"].append(i)
    return dict(sorted(out.items()))


def _rounded(scores: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in scores.items()}


def _hash(rankers: list[str], split: str) -> str:
    from rootcause.rankers.gnn import MODELS_DIR

    card = (MODELS_DIR / "rootcause.json").read_text()
    return hashlib.sha256(json.dumps([rankers, split, card]).encode()).hexdigest()[:12]
