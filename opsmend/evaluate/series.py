"""`opsmend eval series`: the service's evidence on labelled series, beside other detectors and its own ablations."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detect.evidence.build import FLAGGED, POINTS_PER_PAGE
from detect.evidence.calibration import TABLE, Calibration
from detect.forecaster.lstm import Weights
from opsmend.evaluate.series_data import Found, read_series
from opsmend.evaluate.series_made import made_series
from opsmend.evaluate.series_peers import PEERS
from opsmend.evaluate.series_run import OURS, Answer, all_answers
from opsmend.evaluate.series_scores import PROFILES, Composite, Labelled, NabScorer, probation
from opsmend.evaluate.series_volume import auc_pr, vus_pr

__all__ = ["OURS", "evaluate_series"]

_METHODS: Final = 1 + len(PEERS) + 4 + 3
_DAY_NS: Final = 86_400 * 10**9


def evaluate_series(data: Path | None, *, show_progress: bool = False) -> dict[str, Any]:
    """The report; a case is a series, a group its folder. Everything is seeded. Without `data`: on made series.

    All scores leave out the first 15 % (at most 750 points) of each series, as NAB does. Raises CaseError where
    there is nothing to read. `notes`: what was read otherwise than it stands there, and what can't be scored.
    """
    found = Found(made_series()) if data is None else read_series(data)
    series, failures = found.series, found.failures
    parts = _groups(series)
    methods: dict[str, dict[str, float]] = {}
    groups: dict[str, dict[str, dict[str, float]]] = {
        name: {"cases": {"n": float(len(part.at))}} for name, part in parts.items()}
    missing = []
    if series:
        whole = _Part(series, range(len(series)))
        for name, answer in _progress(all_answers(series), show_progress):
            if answer is None:
                missing.append(name)
                continue
            methods[name] = whole.scores(answer)
            for group, part in parts.items():
                groups[group][name] = part.scores(answer, brief=True)
    return {"what": "series", "data": "made" if data is None else str(data), "split": "all",
            "cases": len(series) + len(failures), "failed": len(failures), "failures": failures,
            "notes": [*found.notes, *_unscored(series)], "seed": 0,
            "config_hash": _hash(), "not_installed": missing,
            "scored_from": "after the first 15 % of each series, at most 750 points",
            "threshold": f"one page per {POINTS_PER_PAGE} points, {FLAGGED:.0%} of points flagged, on unlabelled series",
            "methods": methods, "groups": groups}


def _unscored(series: Sequence[Labelled]) -> list[str]:
    """Where labels leave less to score than it seems."""
    if not any(one.windows for one in series):
        return ["nothing is labelled: detections are counted, no score is defined"] if series else []
    return [f"{one.name}: {len(early)} of {len(one.windows)} windows end before anything is scored: missed by everybody"
            for one in series if (early := [last for _, last in one.windows if last < probation(len(one.values))])]


def _groups(series: Sequence[Labelled]) -> dict[str, _Part]:
    at: dict[str, list[int]] = defaultdict(list)
    for i, one in enumerate(series):
        at[one.name.rpartition("/")[0] or "."].append(i)
    return {name: _Part(series, members) for name, members in sorted(at.items())} if len(at) > 1 else {}


class _Part:
    """Some of the series, and what is the same for every method that is scored on them."""

    def __init__(self, series: Sequence[Labelled], at: Sequence[int]) -> None:
        self.at = at
        self._series = [series[i] for i in at]
        self._nab, self._composite = NabScorer(self._series), Composite(self._series)
        self._days = sum(float(s.ts_ns[-1] - s.ts_ns[0]) for s in self._series) / _DAY_NS
        self._points = sum(len(s.values) for s in self._series)

    def scores(self, answer: Answer, *, brief: bool = False) -> dict[str, float]:
        """All scores of one method; `brief`: those at the operating thresholds. What is not defined (no windows, a
        peer's infinite threshold) is left out."""
        onset, state = self._joined(answer.onsets), self._joined(answer.states)
        out = {f"NAB{suffix}": self._nab.score(onset >= answer.page, profile)
               for profile, suffix in zip(PROFILES, ("", "_low_FP", "_low_FN"), strict=True)}
        out["Fc1_operating"] = self._composite.score(state >= answer.flag)
        pages = float((onset >= answer.page).sum())
        out |= {"VUS-PR": self._mean(vus_pr, answer.states), "AUC-PR": self._mean(auc_pr, answer.states),
                "detections": pages, "detections_per_day": pages / max(self._days, 1e-9),
                "points_per_detection": self._points / max(pages, 1.0)}
        if not brief:
            out |= {f"NAB{suffix}_best": self._nab.best(onset, profile)[0]
                    for profile, suffix in zip(PROFILES, ("", "_low_FP", "_low_FN"), strict=True)}
            out["NAB_no_refractory"] = self._nab.best(self._joined(answer.plain))[0]
            out["Fc1"], out["Fc1_threshold"] = self._composite.best(state)
            out |= {"VUS-PR_plain": self._mean(vus_pr, answer.plain), "AUC-PR_plain": self._mean(auc_pr, answer.plain),
                    "flagged": float((state >= answer.flag).mean()), "page_threshold": answer.page,
                    "flag_threshold": answer.flag, "ms_per_series": answer.milliseconds / len(self._series),
                    "us_per_point": 1e3 * answer.milliseconds / self._points, "KB_per_series": answer.kilobytes}
        return {name: round(score, 4) for name, score in out.items() if np.isfinite(score)}

    def _joined(self, per_series: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        return np.concatenate([per_series[i] for i in self.at])

    def _mean(self, score: Any, per_series: list[NDArray[np.float64]]) -> float:
        """Over the series that have something to find, each counting the same."""
        found = []
        for i, one in zip(self.at, self._series, strict=True):
            begin = probation(len(one.values))
            found.append(score(per_series[i][begin:], one.labels[begin:]))
        return float(np.nanmean(found)) if np.isfinite(found).any() else float("nan")


def _progress(answers: Any, is_shown: bool) -> Any:
    if not is_shown:
        return answers
    from rich.progress import track

    return track(answers, description="series", total=_METHODS, transient=True)


def _hash() -> str:
    return hashlib.sha256(json.dumps([TABLE.read_text(), Calibration.load().version, Weights.load().version,
                                      sorted(PEERS)]).encode()).hexdigest()[:12]
